/* mayfly.h - the guest interface mayfly_v1 for C and C++.
 *
 * A function is one exported handler. It reads the event, says what it wants (publish, respond, state, log) and returns
 * MAYFLY_DONE, MAYFLY_RETRY or MAYFLY_REJECT. What it asked for becomes true all at once when it returned MAYFLY_DONE;
 * otherwise nothing does, except its log lines.
 *
 *     #include "mayfly.h"
 *
 *     MAYFLY_HANDLE {
 *         char data[256];
 *         int n = mayfly_event_data(data, sizeof data);
 *         if (n < 0 || n > (int)sizeof data) return MAYFLY_REJECT;
 *         return mayfly_say("plant/alarm", data, n, MAYFLY_QOS1) ? MAYFLY_RETRY : MAYFLY_DONE;
 *     }
 *
 *     clang --target=wasm32 -Os -nostdlib -mbulk-memory -Wl,--no-entry -o f.wasm f.c
 *
 * No C library is needed. Functions that fill a buffer return the full length and write nothing when it is larger than
 * cap: compare before you use the buffer, or ask with cap 0 first. A negative return is one of the MAYFLY_E codes.
 */
#ifndef MAYFLY_H
#define MAYFLY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#define MAYFLY_C extern "C"
#else
#define MAYFLY_C
#endif

/* Starts the definition of the handler, and of the optional one that runs once per instance before its first event. */
#define MAYFLY_HANDLE MAYFLY_C __attribute__((export_name("mayfly_handle"))) int mayfly_handle(void)
#define MAYFLY_INIT MAYFLY_C __attribute__((export_name("mayfly_init"))) int mayfly_init(void)

/* What a handler returns. */
enum { MAYFLY_DONE = 0, MAYFLY_RETRY = 1, MAYFLY_REJECT = 2 };

/* Errors. */
enum {
	MAYFLY_EABSENT = -1,      /* there is no such key, attribute, setting or secret */
	MAYFLY_EDENIED = -2,      /* the manifest does not permit it */
	MAYFLY_EINVAL = -3,       /* an argument makes no sense */
	MAYFLY_ETOOLARGE = -4,    /* one value is too large */
	MAYFLY_ELIMIT = -5,       /* a limit or quota of the function is used up */
	MAYFLY_EUNAVAILABLE = -6, /* not now; worth a retry */
	MAYFLY_ECONFLICT = -7,    /* somebody else changed it */
	MAYFLY_EDEADLINE = -8     /* the event's time is up */
};

/* Flags of mayfly_publish. */
enum { MAYFLY_QOS0 = 0, MAYFLY_QOS1 = 1, MAYFLY_RETAIN = 4 };

/* Levels of mayfly_log. */
enum { MAYFLY_DEBUG = 0, MAYFLY_INFO = 1, MAYFLY_WARN = 2, MAYFLY_ERROR = 3 };

#define MAYFLY_IMPORT(name) __attribute__((import_module("mayfly_v1"), import_name(#name)))

/* The event. */
MAYFLY_IMPORT(event_data) int32_t mayfly_event_data(void *buf, size_t cap);
MAYFLY_IMPORT(event_attr) int32_t mayfly_event_attr(const char *name, size_t nlen, char *buf, size_t cap);
MAYFLY_IMPORT(event_json) int32_t mayfly_event_json(char *buf, size_t cap); /* all attributes as CloudEvents JSON, without data */

/* What the function says. */
MAYFLY_IMPORT(publish) int32_t mayfly_publish(const char *topic, size_t tlen, const void *data, size_t dlen, int32_t flags);
MAYFLY_IMPORT(respond) int32_t mayfly_respond(const void *data, size_t dlen);
MAYFLY_IMPORT(respond_attr) int32_t mayfly_respond_attr(const char *name, size_t nlen, const char *val, size_t vlen);
MAYFLY_IMPORT(fail) void mayfly_fail(const char *msg, size_t mlen); /* the reason, before MAYFLY_RETRY or MAYFLY_REJECT */
MAYFLY_IMPORT(retry_after) void mayfly_retry_after(int64_t ms);

/* State, when the manifest has a [state] scope. Reads see this call's own writes. */
MAYFLY_IMPORT(kv_get) int32_t mayfly_kv_get(const void *key, size_t klen, void *buf, size_t cap);
MAYFLY_IMPORT(kv_put) int32_t mayfly_kv_put(const void *key, size_t klen, const void *val, size_t vlen, int64_t ttl_ms); /* ttl 0: for ever */
MAYFLY_IMPORT(kv_del) int32_t mayfly_kv_del(const void *key, size_t klen);
MAYFLY_IMPORT(kv_incr) int32_t mayfly_kv_incr(const void *key, size_t klen, int64_t delta, int64_t *out); /* *out: the new value */

/* Versions: 0 is absent. kv_cas sets a key that still has version ver and returns its new one, or MAYFLY_ECONFLICT. */
MAYFLY_IMPORT(kv_cas) int64_t mayfly_kv_cas(const void *key, size_t klen, int64_t ver, const void *val, size_t vlen);
MAYFLY_IMPORT(kv_ver) int64_t mayfly_kv_ver(const void *key, size_t klen);

/* Fills buf with keys that start with prefix and come after cursor, ascending, as many as fit; walk them with mayfly_next and
 * give the last one as the next cursor. 0: there are no more. More than cap: what the first key needs, nothing was written. */
MAYFLY_IMPORT(kv_list) int32_t mayfly_kv_list(const void *prefix, size_t plen, const void *cursor, size_t clen, void *buf, size_t cap);

/* Settings of the manifest's [config], and secrets it was granted. */
MAYFLY_IMPORT(config_get) int32_t mayfly_config_get(const char *key, size_t klen, char *buf, size_t cap);
MAYFLY_IMPORT(secret_get) int32_t mayfly_secret_get(const char *key, size_t klen, char *buf, size_t cap);

MAYFLY_IMPORT(log) void mayfly_log(int32_t level, const char *msg, size_t mlen);

/* Outbound HTTP, when the manifest permits the address. It happens at once and, when an event is tried again, again. */
MAYFLY_IMPORT(http_send) int32_t mayfly_http_send(const char *req_json, size_t rlen, const void *body, size_t blen);
MAYFLY_IMPORT(http_read) int32_t mayfly_http_read(int32_t h, void *buf, size_t cap);
MAYFLY_IMPORT(http_meta) int32_t mayfly_http_meta(int32_t h, char *buf, size_t cap);
MAYFLY_IMPORT(http_close) void mayfly_http_close(int32_t h);

/* Time and chance. left_ms is what remains until the event's deadline. */
MAYFLY_IMPORT(now_ms) int64_t mayfly_now_ms(void);
MAYFLY_IMPORT(left_ms) int64_t mayfly_left_ms(void);
MAYFLY_IMPORT(random) void mayfly_random(void *buf, size_t n);

/* The same with NUL-terminated strings, for the usual cases. A literal's length is computed by the compiler. */

#define MAYFLY_INLINE static inline __attribute__((always_inline))

MAYFLY_INLINE size_t mayfly_len(const char *s) {
	size_t n = 0;
	if (__builtin_constant_p(__builtin_strlen(s))) return __builtin_strlen(s);
	while (s[n]) n++;
	return n;
}

MAYFLY_INLINE int32_t mayfly_attr(const char *name, char *buf, size_t cap) {
	return mayfly_event_attr(name, mayfly_len(name), buf, cap);
}

MAYFLY_INLINE int32_t mayfly_config(const char *key, char *buf, size_t cap) {
	return mayfly_config_get(key, mayfly_len(key), buf, cap);
}

MAYFLY_INLINE int32_t mayfly_say(const char *topic, const void *data, size_t dlen, int32_t flags) {
	return mayfly_publish(topic, mayfly_len(topic), data, dlen, flags);
}

MAYFLY_INLINE void mayfly_note(int32_t level, const char *msg) { mayfly_log(level, msg, mayfly_len(msg)); }

/* Gives the reason and returns the verdict: return mayfly_because(MAYFLY_REJECT, "no temperature in it"); */
MAYFLY_INLINE int32_t mayfly_because(int32_t verdict, const char *msg) {
	mayfly_fail(msg, mayfly_len(msg));
	return verdict;
}

/* The key at *at in the n bytes kv_list wrote; moves *at behind it. Returns 0 at the end.
 *     for (size_t at = 0, len; (key = mayfly_next(buf, n, &at, &len));) ... */
static inline const char *mayfly_next(const char *buf, size_t n, size_t *at, size_t *len) {
	if (*at + 2 > n) return 0;
	*len = (uint8_t)buf[*at] | (size_t)(uint8_t)buf[*at + 1] << 8;
	const char *key = buf + *at + 2;
	*at += 2 + *len;
	return *at > n ? 0 : key;
}

/* Text put together in a buffer the caller owns. What does not fit is left out and overflow is set: check it once. */
typedef struct {
	char *buf;
	size_t len, cap;
	int overflow;
} mayfly_text;

static inline void mayfly_add(mayfly_text *t, const char *s, size_t n) {
	if (n > t->cap - t->len) {
		t->overflow = 1;
		return;
	}
	for (size_t i = 0; i < n; i++) t->buf[t->len++] = s[i];
}

MAYFLY_INLINE void mayfly_adds(mayfly_text *t, const char *s) { mayfly_add(t, s, mayfly_len(s)); }

#ifdef __cplusplus
}
#endif
#endif
