/* Asks for a retry until its third attempt, and then says what came in on good/topic. */
#include "mayfly.h"

MAYFLY_HANDLE {
	char data[128], attempt[8];
	int n = mayfly_event_data(data, sizeof data);
	if (n < 0 || n > (int)sizeof data) return MAYFLY_REJECT;
	if (mayfly_attr("attempt", attempt, sizeof attempt) != 1 || attempt[0] < '3') return mayfly_because(MAYFLY_RETRY, "not yet");
	return mayfly_say("good/topic", data, (size_t)n, MAYFLY_QOS1) < 0 ? MAYFLY_RETRY : MAYFLY_DONE;
}
