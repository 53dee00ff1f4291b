/* Answers over HTTP with the name of the node it runs on, after working for as long as the configuration says. */
#include "mayfly.h"

MAYFLY_HANDLE {
	char text[64];
	int64_t ms = 0;
	int n = mayfly_config("work_ms", text, sizeof text);
	for (int i = 0; i < n && i < (int)sizeof text; i++) ms = ms * 10 + (text[i] - '0');
	for (int64_t until = mayfly_now_ms() + ms; mayfly_now_ms() < until;) {}
	n = mayfly_attr("node", text, sizeof text);
	return n < 0 || n > (int)sizeof text || mayfly_respond(text, (size_t)n) < 0 ? MAYFLY_RETRY : MAYFLY_DONE;
}
