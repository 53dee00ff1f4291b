/* Calls every import once, so that all of them are in the module. It is only looked at, never run. */
#include "mayfly.h"

MAYFLY_INIT { return MAYFLY_DONE; }

MAYFLY_HANDLE {
	static char b[64];
	int64_t n;
	mayfly_event_data(b, 1);
	mayfly_event_attr(b, 1, b, 1);
	mayfly_event_json(b, 1);
	mayfly_publish(b, 1, b, 1, MAYFLY_QOS1 | MAYFLY_RETAIN);
	mayfly_respond(b, 1);
	mayfly_respond_attr(b, 1, b, 1);
	mayfly_fail(b, 1);
	mayfly_retry_after(1);
	mayfly_kv_get(b, 1, b, 1);
	mayfly_kv_put(b, 1, b, 1, 0);
	mayfly_kv_del(b, 1);
	mayfly_kv_incr(b, 1, 1, &n);
	mayfly_kv_cas(b, 1, 1, b, 1);
	mayfly_kv_ver(b, 1);
	for (size_t at = 0, len; mayfly_next(b, (size_t)mayfly_kv_list(b, 1, b, 1, b, 1), &at, &len);) mayfly_log(MAYFLY_DEBUG, b, len);
	mayfly_config_get(b, 1, b, 1);
	mayfly_secret_get(b, 1, b, 1);
	mayfly_log(MAYFLY_INFO, b, 1);
	mayfly_http_send(b, 1, b, 1);
	mayfly_http_read(1, b, 1);
	mayfly_http_meta(1, b, 1);
	mayfly_http_close(1);
	mayfly_random(b, 1);
	return (int)(mayfly_now_ms() + mayfly_left_ms());
}
