/* Says again what it hears: no state, so the broker is the journal. */
#include "event.h"

MAYFLY_HANDLE {
	event_t e;
	return read_event(&e) ? echo(&e) : MAYFLY_REJECT;
}
