/* Counts lines, words and bytes of standard input, as wc does. An ordinary program: it knows nothing of events. */
#include <stdio.h>

int main(void) {
	static char buf[4096];
	long lines = 0, words = 0, bytes = 0;
	int in_word = 0;
	for (size_t n; (n = fread(buf, 1, sizeof buf, stdin)) > 0; bytes += (long)n) {
		for (size_t i = 0; i < n; i++) {
			int space = buf[i] == ' ' || (buf[i] >= '\t' && buf[i] <= '\r');
			lines += buf[i] == '\n';
			words += in_word == 0 && !space;
			in_word = !space;
		}
	}
	if (ferror(stdin)) {
		fputs("cannot read the input\n", stderr);
		return 75; /* try again later */
	}
	printf("{\"lines\":%ld,\"words\":%ld,\"bytes\":%ld}\n", lines, words, bytes);
	return 0;
}
