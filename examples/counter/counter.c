/* Counts events per topic and keeps the last one.
 *
 * State: n/<topic>     how many there were, as kv_incr keeps it
 *        last/<topic>  the last event's data
 * Responds with the count as a decimal number.
 */
#include "mayfly.h"

enum { MAX_TOPIC = 512, MAX_DATA = 4096 };

/* Writes v in decimal and returns its length. */
static size_t decimal(int64_t v, char out[20]) {
	char rev[20];
	size_t n = 0, len = 0;
	uint64_t u = v < 0 ? 0 : (uint64_t)v;
	do rev[n++] = (char)('0' + u % 10);
	while (u /= 10);
	while (n > 0) out[len++] = rev[--n];
	return len;
}

MAYFLY_HANDLE {
	char data[MAX_DATA], topic[MAX_TOPIC], key[MAX_TOPIC + 8], text[20];
	int64_t count = 0;
	int n = mayfly_event_data(data, sizeof data);
	if (n < 0 || n > (int)sizeof data) return mayfly_because(MAYFLY_REJECT, "more than 4 KiB");
	int len = mayfly_attr("topic", topic, sizeof topic);
	if (len < 0) len = 0;
	if (len > (int)sizeof topic) return mayfly_because(MAYFLY_REJECT, "the topic is longer than 512 bytes");

	mayfly_text k = {key, 0, sizeof key, 0};
	mayfly_adds(&k, "n/");
	mayfly_add(&k, topic, (size_t)len);
	if (mayfly_kv_incr(key, k.len, 1, &count) < 0) return mayfly_because(MAYFLY_RETRY, "the count was refused");
	k.len = 0;
	mayfly_adds(&k, "last/");
	mayfly_add(&k, topic, (size_t)len);
	if (mayfly_kv_put(key, k.len, data, (size_t)n, 0) < 0) return mayfly_because(MAYFLY_RETRY, "the value was refused");
	return mayfly_respond(text, decimal(count, text)) < 0 ? MAYFLY_RETRY : MAYFLY_DONE;
}
