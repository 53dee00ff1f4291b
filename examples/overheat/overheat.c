/* Fahrenheit in, Celsius out, and an alarm above a limit.
 *
 * In:  plant/{line}/temp     {"t": 195.8}
 * Out: plant/{line}/celsius  {"c":91.0}
 *      plant/{line}/alarm    {"c":91.0,"limit":70.0}    QoS 1, when c is above the setting limit_c
 */
#include "mayfly_json.h"

enum { DEFAULT_LIMIT_C = 70 };

/* The setting limit_c, or the default when there is none. Returns 0 when there is one that is not a number. */
static int limit(double *out) {
	char text[32];
	*out = DEFAULT_LIMIT_C;
	int n = mayfly_config("limit_c", text, sizeof text);
	if (n == MAYFLY_EABSENT) return 1;
	if (n < 0 || n > (int)sizeof text) return 0;
	mayfly_json j = {text, text + n};
	return mayfly_json_read(&j, out) && j.at == j.end;
}

/* Publishes body on plant/<line>/<leaf>. */
static int say(const char *line, size_t n, const char *leaf, const mayfly_text *body) {
	char topic[160];
	mayfly_text t = {topic, 0, sizeof topic, 0};
	mayfly_adds(&t, "plant/");
	mayfly_add(&t, line, n);
	mayfly_adds(&t, leaf);
	if (t.overflow || body->overflow) return mayfly_because(MAYFLY_REJECT, "the name of the line is too long");
	if (mayfly_publish(topic, t.len, body->buf, body->len, MAYFLY_QOS1) < 0) {
		return mayfly_because(MAYFLY_REJECT, "not permitted to publish");
	}
	return MAYFLY_DONE;
}

MAYFLY_HANDLE {
	char data[512], line[128], text[96];
	double f, max;
	int n = mayfly_event_data(data, sizeof data);
	if (n < 0 || n > (int)sizeof data) return mayfly_because(MAYFLY_REJECT, "a reading has at most 512 bytes");
	int len = mayfly_attr("topic.line", line, sizeof line);
	if (len <= 0 || len > (int)sizeof line) return mayfly_because(MAYFLY_REJECT, "the topic names no line");
	if (!mayfly_json_number(data, (size_t)n, "t", &f)) return mayfly_because(MAYFLY_REJECT, "no number \"t\" in the reading");
	if (!limit(&max)) return mayfly_because(MAYFLY_REJECT, "the setting limit_c is not a number");

	double c = (f - 32) / 1.8;
	mayfly_text t = {text, 0, sizeof text, 0};
	mayfly_adds(&t, "{\"c\":");
	mayfly_add_number(&t, c);
	mayfly_adds(&t, "}");
	int verdict = say(line, (size_t)len, "/celsius", &t);
	if (verdict != MAYFLY_DONE || c <= max) return verdict;

	t.len--;
	mayfly_adds(&t, ",\"limit\":");
	mayfly_add_number(&t, max);
	mayfly_adds(&t, "}");
	mayfly_note(MAYFLY_WARN, "too hot");
	return say(line, (size_t)len, "/alarm", &t);
}
