/* Answers a request with its body: the least a function behind the gateway can do. */
#include "mayfly.h"

static char body[32 << 10];

MAYFLY_HANDLE {
	int n = mayfly_event_data(body, sizeof body);
	if (n < 0 || n > (int)sizeof body) return mayfly_because(MAYFLY_REJECT, "larger than this function takes");
	if (mayfly_respond(body, (size_t)n) < 0) return mayfly_because(MAYFLY_REJECT, "cannot answer");
	return MAYFLY_DONE;
}
