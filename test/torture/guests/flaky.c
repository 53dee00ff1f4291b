/* Asks for a retry on the first two attempts of every seventh event: those and the ones behind them go through the journal. */
#include "event.h"

MAYFLY_HANDLE {
	event_t e;
	char attempt[8];
	if (!read_event(&e)) return MAYFLY_REJECT;
	int n = mayfly_attr("attempt", attempt, sizeof attempt);
	if (field(&e, 's') % 7 == 0 && n == 1 && attempt[0] < '3') return MAYFLY_RETRY;
	return echo(&e);
}
