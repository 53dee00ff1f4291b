/* Takes a while over each event, so that windows fill and events spill. */
#include "event.h"

MAYFLY_HANDLE {
	event_t e;
	char text[16];
	int64_t ms = 0;
	if (!read_event(&e)) return MAYFLY_REJECT;
	int n = mayfly_config("work_ms", text, sizeof text);
	for (int i = 0; i < n && i < (int)sizeof text; i++) ms = ms * 10 + (text[i] - '0');
	for (int64_t until = mayfly_now_ms() + ms; mayfly_now_ms() < until;) {}
	return echo(&e);
}
