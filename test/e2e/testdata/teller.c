/* Says on told/<key> what came in on ask/<key>, and how many came for that key so far: "000007 7". Who reads it sees what was lost, what
 * was turned around, and whether the state was touched twice. With config ms = "3" it takes that many milliseconds, one digit.
 */
#include "mayfly.h"

enum { MAX = 128 };

MAYFLY_HANDLE {
	char data[MAX], key[MAX], topic[MAX], text[2 * MAX], rev[20];
	int64_t count = 0;
	int n = mayfly_event_data(data, sizeof data);
	int k = mayfly_attr("topic.key", key, sizeof key);
	if (mayfly_config("ms", rev, sizeof rev) == 1)
		for (int64_t end = mayfly_now_ms() + rev[0] - '0'; mayfly_now_ms() < end;) {}
	if (n < 0 || n > MAX || k < 0 || k > MAX) return mayfly_because(MAYFLY_REJECT, "no key, or too much");
	if (mayfly_kv_incr(key, (size_t)k, 1, &count) < 0) return mayfly_because(MAYFLY_RETRY, "the count was refused");
	mayfly_text t = {text, 0, sizeof text, 0}, to = {topic, 0, sizeof topic, 0};
	size_t digits = 0;
	mayfly_add(&t, data, (size_t)n);
	mayfly_adds(&t, " ");
	for (int64_t c = count; c > 0; c /= 10) rev[digits++] = (char)('0' + c % 10);
	while (digits > 0) mayfly_add(&t, &rev[--digits], 1);
	mayfly_adds(&to, "told/");
	mayfly_add(&to, key, (size_t)k);
	if (mayfly_publish(topic, to.len, text, t.len, MAYFLY_QOS1) < 0) return MAYFLY_RETRY;
	return mayfly_respond(text, t.len) < 0 ? MAYFLY_RETRY : MAYFLY_DONE;
}
