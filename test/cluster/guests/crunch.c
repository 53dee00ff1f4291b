/* Says again what it hears, after so many steps as the configuration says, in millions: work that costs processor time, however long that takes. */
#include "../../torture/guests/event.h"

MAYFLY_HANDLE {
	char text[16];
	uint64_t steps = 0, x = 1;
	int n = mayfly_config("millions", text, sizeof text);
	for (int i = 0; i < n && i < (int)sizeof text; i++) steps = steps * 10 + (uint64_t)(text[i] - '0');
	for (steps *= 1000000; steps > 0; steps--) x = x * 6364136223846793005u + 1442695040888963407u;
	event_t e;
	if (x == 0 || !read_event(&e)) return MAYFLY_REJECT; /* whoever leaves the loop out does not know x */
	return echo(&e);
}
