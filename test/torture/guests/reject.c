/* Rejects every event until its setting "accept" is 1: fills the dead-letter store, and empties it after a new deployment. */
#include "event.h"

MAYFLY_HANDLE {
	event_t e;
	char accept[4];
	if (!read_event(&e)) return MAYFLY_REJECT;
	if (mayfly_config("accept", accept, sizeof accept) == 1 && accept[0] == '1') return echo(&e);
	return mayfly_because(MAYFLY_REJECT, "not yet");
}
