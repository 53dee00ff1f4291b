/* Registers in the state: "g 3 0 0" answers with what register 3 holds, "p 3 7 0" sets it to 7 and answers with 7, "c 3 7 9" sets it to
 * 9 if it is 7 and answers with what it was. Events without a key in common run at the same time, so a swap says which version it is of. */
#include "mayfly.h"

static int64_t number(const char *s, int n, int *at) {
	int64_t v = 0;
	while (*at < n && s[*at] == ' ') ++*at;
	for (; *at < n && s[*at] >= '0' && s[*at] <= '9'; ++*at) v = v * 10 + (s[*at] - '0');
	return v;
}

MAYFLY_HANDLE {
	char text[128];
	int n = mayfly_event_data(text, sizeof text), at = 1;
	if (n < 1 || n > (int)sizeof text) return MAYFLY_REJECT;
	int64_t key = number(text, n, &at), a = number(text, n, &at), b = number(text, n, &at), was = 0;
	int64_t version = mayfly_kv_ver(&key, sizeof key); /* before the value: then the swap is of what was read, or does not happen */
	int had = mayfly_kv_get(&key, sizeof key, &was, sizeof was);
	if (had < 0 && had != MAYFLY_EABSENT) return MAYFLY_RETRY;
	if (text[0] == 'p' && mayfly_kv_put(&key, sizeof key, &a, sizeof a, 0) < 0) return MAYFLY_RETRY;
	if (text[0] == 'c' && was == a && mayfly_kv_cas(&key, sizeof key, version, &b, sizeof b) < 0) return MAYFLY_RETRY;
	int64_t says = text[0] == 'p' ? a : was;
	return mayfly_respond(&says, sizeof says) < 0 ? MAYFLY_REJECT : MAYFLY_DONE;
}
