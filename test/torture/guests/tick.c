/* Counts its calls: a schedule's ticks. Asked by hand it answers with the count. */
#include "mayfly.h"

MAYFLY_HANDLE {
	int64_t n = 0;
	char type[64];
	int len = mayfly_attr("type", type, sizeof type);
	static const char tick[] = "mayfly.cron.tick";
	int ticks = len == (int)sizeof tick - 1;
	for (int i = 0; ticks && i < len; i++) ticks = type[i] == tick[i];
	if (mayfly_kv_incr("n", 1, ticks, &n) < 0) return MAYFLY_RETRY;
	return mayfly_respond(&n, sizeof n) < 0 ? MAYFLY_REJECT : MAYFLY_DONE;
}
