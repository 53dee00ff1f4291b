/* mayfly_json.h - a number out of a small JSON object, and a number into one, without a C library.
 *
 * For readings such as {"t": 195.8, "unit": "F"}. Members of the outermost object only; nested values are stepped over.
 */
#ifndef MAYFLY_JSON_H
#define MAYFLY_JSON_H

#include "mayfly.h"

typedef struct {
	const char *at, *end;
} mayfly_json;

static inline void mayfly_json_space(mayfly_json *j) {
	while (j->at < j->end && (*j->at == ' ' || *j->at == '\t' || *j->at == '\n' || *j->at == '\r')) j->at++;
}

static inline int mayfly_json_take(mayfly_json *j, char c) {
	mayfly_json_space(j);
	if (j->at == j->end || *j->at != c) return 0;
	j->at++;
	return 1;
}

/* Steps over a string. *s and *n are its text between the quotes, escapes left as they are. */
static inline int mayfly_json_string(mayfly_json *j, const char **s, size_t *n) {
	if (!mayfly_json_take(j, '"')) return 0;
	*s = j->at;
	for (; j->at < j->end; j->at++) {
		if (*j->at == '\\') {
			j->at++;
		} else if (*j->at == '"') {
			*n = (size_t)(j->at++ - *s);
			return 1;
		}
	}
	j->at = j->end;
	return 0;
}

/* Steps over any value. */
static inline int mayfly_json_skip(mayfly_json *j) {
	const char *s;
	size_t n;
	int depth = 0;
	do {
		mayfly_json_space(j);
		if (j->at >= j->end) return 0;
		switch (*j->at) {
		case '"':
			if (!mayfly_json_string(j, &s, &n)) return 0;
			break;
		case '{':
		case '[':
			depth++, j->at++;
			break;
		case '}':
		case ']':
			if (--depth < 0) return 0;
			j->at++;
			break;
		case ',':
		case ':':
			if (depth == 0) return 0;
			j->at++;
			break;
		default:
			for (s = j->at; j->at < j->end && *j->at != ',' && *j->at != '}' && *j->at != ']' && *j->at > ' '; j->at++) {
			}
			if (j->at == s) return 0;
		}
	} while (depth > 0);
	return 1;
}

/* Digits into *x; returns how many there were. */
static inline int mayfly_json_digits(mayfly_json *j, double *x) {
	int n = 0;
	for (; j->at < j->end && *j->at >= '0' && *j->at <= '9'; j->at++, n++) *x = *x * 10 + (*j->at - '0');
	return n;
}

/* Reads a number by the grammar of RFC 8259 section 6. Good to about 15 digits; exponents beyond +-300 are refused. */
static inline int mayfly_json_read(mayfly_json *j, double *out) {
	double x = 0, e = 0;
	mayfly_json_space(j);
	int minus = j->at < j->end && *j->at == '-';
	j->at += minus;
	if (!mayfly_json_digits(j, &x)) return 0;
	int places = 0;
	if (j->at < j->end && *j->at == '.') {
		j->at++;
		if (!(places = mayfly_json_digits(j, &x))) return 0;
	}
	int sign = 1;
	if (j->at < j->end && (*j->at == 'e' || *j->at == 'E')) {
		j->at++;
		if (j->at < j->end && (*j->at == '+' || *j->at == '-')) sign = *j->at++ == '-' ? -1 : 1;
		if (!mayfly_json_digits(j, &e) || e > 300) return 0;
	}
	int shift = sign * (int)e - places;
	double power = 1;
	for (int i = shift < 0 ? -shift : shift; i > 0; i--) power *= 10;
	x = shift < 0 ? x / power : x * power;
	*out = minus ? -x : x;
	return 1;
}

/* Finds the number of that name. Returns 1 when there is one, 0 otherwise. */
static inline int mayfly_json_number(const char *data, size_t len, const char *name, double *out) {
	mayfly_json j = {data, data + len};
	size_t want = mayfly_len(name), n, i;
	const char *s;
	if (!mayfly_json_take(&j, '{')) return 0;
	do {
		if (!mayfly_json_string(&j, &s, &n) || !mayfly_json_take(&j, ':')) return 0;
		for (i = 0; i < n && i < want && s[i] == name[i]; i++) {
		}
		if (i == n && n == want) return mayfly_json_read(&j, out);
		if (!mayfly_json_skip(&j)) return 0;
	} while (mayfly_json_take(&j, ','));
	return 0;
}

/* Adds x rounded to one decimal place. What is beyond +-1e15 is written as null: JSON has no word for it. */
static inline void mayfly_add_number(mayfly_text *t, double x) {
	char digits[24];
	int n = 0;
	if (!(x > -1e15 && x < 1e15)) {
		mayfly_adds(t, "null");
		return;
	}
	int64_t tenths = (int64_t)(x * 10 + (x < 0 ? -0.5 : 0.5));
	uint64_t u = (uint64_t)(tenths < 0 ? -tenths : tenths);
	digits[n++] = (char)('0' + u % 10);
	digits[n++] = '.';
	u /= 10;
	do digits[n++] = (char)('0' + u % 10);
	while (u /= 10);
	if (tenths < 0) digits[n++] = '-';
	while (n > 0) mayfly_add(t, &digits[--n], 1);
}

#endif
