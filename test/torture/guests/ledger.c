/* A bank: every event moves an amount between two accounts, and notes that it did.
 *
 * State: a/<account>        balance; the sum over all accounts is zero at every commit
 *        b/<key>/<chunk>    one bit for each of 1024 sequence numbers of a key: which events acted
 *        last/<key>         the highest sequence number that acted
 *        twice, turned      how many events acted a second time, or after a later one of their key
 *
 * Called on the topic torture/report it responds with all of it: for each entry two bytes of length and the key, two bytes of
 * length and the value, little-endian. */
#include "event.h"

enum { CHUNK = 1024 };

static size_t decimal(int64_t v, char *out) {
	char rev[20];
	size_t n = 0, len = 0;
	do rev[n++] = (char)('0' + v % 10);
	while (v /= 10);
	while (n > 0) out[len++] = rev[--n];
	return len;
}

static size_t name(char *key, const char *kind, int64_t a, int64_t b) {
	size_t n = 0;
	while (*kind) key[n++] = *kind++;
	n += decimal(a, key + n);
	if (b >= 0) {
		key[n++] = '/';
		n += decimal(b, key + n);
	}
	return n;
}

static int add(const char *key, size_t n, int64_t delta) {
	int64_t now;
	return mayfly_kv_incr(key, n, delta, &now) < 0;
}

static char answer[200 << 10], keys[64 << 10];

static int report(void) {
	size_t len = 0;
	char cursor[64];
	size_t clen = 0;
	for (;;) {
		int n = mayfly_kv_list("", 0, cursor, clen, keys, sizeof keys);
		if (n < 0 || n > (int)sizeof keys) return MAYFLY_REJECT;
		if (n == 0) break;
		const char *key;
		for (size_t at = 0, klen; (key = mayfly_next(keys, (size_t)n, &at, &klen));) {
			if (len + klen + 4 + CHUNK > sizeof answer || klen > sizeof cursor) return MAYFLY_REJECT;
			answer[len] = (char)klen, answer[len + 1] = 0;
			__builtin_memcpy(answer + len + 2, key, klen);
			len += 2 + klen;
			int v = mayfly_kv_get(key, klen, answer + len + 2, CHUNK);
			if (v < 0 || v > CHUNK) return MAYFLY_REJECT;
			answer[len] = (char)(v & 0xff), answer[len + 1] = (char)(v >> 8);
			len += 2 + (size_t)v;
			__builtin_memcpy(cursor, key, klen);
			clen = klen;
		}
	}
	return mayfly_respond(answer, len) < 0 ? MAYFLY_REJECT : MAYFLY_DONE;
}

/* Notes in the bitmap that event s of key k acts now. */
static int tick(int64_t k, int64_t s) {
	char key[64];
	uint8_t bits[CHUNK / 8];
	size_t n = name(key, "b/", k, s / CHUNK);
	for (size_t i = 0; i < sizeof bits; i++) bits[i] = 0;
	int had = mayfly_kv_get(key, n, bits, sizeof bits);
	if (had < 0 && had != MAYFLY_EABSENT) return 1;
	uint8_t bit = (uint8_t)(1 << s % 8);
	if (bits[s % CHUNK / 8] & bit && add("twice", 5, 1)) return 1;
	bits[s % CHUNK / 8] |= bit;
	return mayfly_kv_put(key, n, bits, sizeof bits, 0) < 0;
}

MAYFLY_HANDLE {
	event_t e;
	char key[64];
	if (!read_event(&e)) return MAYFLY_REJECT;
	int64_t k = field(&e, 'k'), s = field(&e, 's'), from = field(&e, 'f'), to = field(&e, 't'), amount = field(&e, 'a');
	if (k < 0) return report();
	if (tick(k, s)) return MAYFLY_RETRY;
	int64_t last = 0;
	size_t n = name(key, "last/", k, -1);
	int had = mayfly_kv_get(key, n, &last, sizeof last);
	if (had < 0 && had != MAYFLY_EABSENT) return MAYFLY_RETRY;
	if (had > 0 && s < last && add("turned", 6, 1)) return MAYFLY_RETRY;
	if (s > last) last = s;
	if (mayfly_kv_put(key, n, &last, sizeof last, 0) < 0) return MAYFLY_RETRY;
	if (add(key, name(key, "a/", from, -1), -amount) || add(key, name(key, "a/", to, -1), amount)) return MAYFLY_RETRY;
	return echo(&e);
}
