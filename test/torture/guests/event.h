/* What the guests of the torture tests share: the fields of {"id":"3-17","k":3,"s":17,"f":5,"t":9,"a":42}. */
#include "mayfly.h"

enum { MAX_DATA = 512, MAX_TOPIC = 128 };

typedef struct {
	char data[MAX_DATA], out[MAX_TOPIC];
	int n, topic;
} event_t;

/* Reads the event and the topic its echo goes to: in/x/1 becomes out/x/1. */
static inline int read_event(event_t *e) {
	char topic[MAX_TOPIC];
	e->n = mayfly_event_data(e->data, sizeof e->data);
	int len = mayfly_attr("topic", topic, sizeof topic);
	if (e->n < 0 || e->n > MAX_DATA || len < 3 || len + 1 > MAX_TOPIC) return 0;
	mayfly_text t = {e->out, 0, sizeof e->out, 0};
	mayfly_adds(&t, "out");
	mayfly_add(&t, topic + 2, (size_t)len - 2);
	e->topic = (int)t.len;
	return 1;
}

/* The number behind "name": in the event, -1 when there is none. */
static inline int64_t field(const event_t *e, char name) {
	for (int i = 0; i + 4 < e->n; i++) {
		if (e->data[i] != '"' || e->data[i + 1] != name || e->data[i + 2] != '"' || e->data[i + 3] != ':') continue;
		int64_t v = 0;
		for (i += 4; i < e->n && e->data[i] >= '0' && e->data[i] <= '9'; i++) v = v * 10 + (e->data[i] - '0');
		return v;
	}
	return -1;
}

static inline int echo(const event_t *e) {
	return mayfly_publish(e->out, (size_t)e->topic, e->data, (size_t)e->n, MAYFLY_QOS1) < 0 ? MAYFLY_RETRY : MAYFLY_DONE;
}
