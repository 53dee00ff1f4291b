/* Publishes what came in on the topic named by the setting "out", or on out/<topic> without one, at the QoS it came in with. */
#include "mayfly.h"

enum { MAX_TOPIC = 1024, PAGE = 64 << 10 };

/* Room for most events. It is not on the stack, so that stack, constants and this fit into one page of memory: less to
 * clear for every event. A larger event gets pages of its own. */
static char small[32 << 10];

/* Returns pages for n bytes at the end of memory, or 0 when the function's memory limit forbids it. */
static char *more(size_t n) {
	size_t pages = __builtin_wasm_memory_grow(0, (n + PAGE - 1) / PAGE);
	return pages == (size_t)-1 ? 0 : (char *)(pages * PAGE);
}

MAYFLY_HANDLE {
	char topic[MAX_TOPIC], qos[1], *data = small;
	int n = mayfly_event_data(data, sizeof small);
	if (n > (int)sizeof small) {
		data = more((size_t)n);
		if (!data) return mayfly_because(MAYFLY_REJECT, "larger than the memory limit");
		n = mayfly_event_data(data, (size_t)n);
	}
	if (n < 0) return mayfly_because(MAYFLY_RETRY, "cannot read the event");
	int len = mayfly_config("out", topic, sizeof topic);
	if (len == MAYFLY_EABSENT) {
		__builtin_memcpy(topic, "out/", 4);
		len = mayfly_attr("topic", topic + 4, sizeof topic - 4);
		if (len >= 0) len += 4;
	}
	if (len < 0 || len > (int)sizeof topic) return mayfly_because(MAYFLY_REJECT, "no topic to publish on, or too long a one");
	int flags = mayfly_attr("qos", qos, sizeof qos) == 1 && qos[0] == '1' ? MAYFLY_QOS1 : MAYFLY_QOS0;
	if (mayfly_publish(topic, (size_t)len, data, (size_t)n, flags) < 0) return mayfly_because(MAYFLY_REJECT, "not permitted to publish");
	return MAYFLY_DONE;
}
