//go:build wasip1

package mayfly

import "unsafe"

// The imports, in the order of the interface's definition. A string is passed as its address and its length.

//go:wasmimport mayfly_v1 event_data
func hostEventData(buf unsafe.Pointer, n uint32) int32

//go:wasmimport mayfly_v1 event_attr
func hostEventAttr(name string, buf unsafe.Pointer, n uint32) int32

//go:wasmimport mayfly_v1 event_json
func hostEventJSON(buf unsafe.Pointer, n uint32) int32

//go:wasmimport mayfly_v1 publish
func hostPublish(topic, data string, flags uint32) int32

//go:wasmimport mayfly_v1 respond
func hostRespond(data string) int32

//go:wasmimport mayfly_v1 respond_attr
func hostRespondAttr(name, value string) int32

//go:wasmimport mayfly_v1 fail
func hostFail(msg string)

//go:wasmimport mayfly_v1 retry_after
func hostRetryAfter(ms int64)

//go:wasmimport mayfly_v1 kv_get
func hostKVGet(key string, buf unsafe.Pointer, n uint32) int32

//go:wasmimport mayfly_v1 kv_put
func hostKVPut(key, value string, ttlMS int64) int32

//go:wasmimport mayfly_v1 kv_del
func hostKVDel(key string) int32

//go:wasmimport mayfly_v1 kv_incr
func hostKVIncr(key string, delta int64, out *int64) int32

//go:wasmimport mayfly_v1 kv_cas
func hostKVCas(key string, ver int64, value string) int64

//go:wasmimport mayfly_v1 kv_ver
func hostKVVer(key string) int64

//go:wasmimport mayfly_v1 kv_list
func hostKVList(prefix, cursor string, buf unsafe.Pointer, n uint32) int32

//go:wasmimport mayfly_v1 config_get
func hostConfigGet(key string, buf unsafe.Pointer, n uint32) int32

//go:wasmimport mayfly_v1 secret_get
func hostSecretGet(key string, buf unsafe.Pointer, n uint32) int32

//go:wasmimport mayfly_v1 log
func hostLog(level uint32, text string)

//go:wasmimport mayfly_v1 http_send
func hostHTTPSend(request, body string) int32

//go:wasmimport mayfly_v1 http_read
func hostHTTPRead(h int32, buf unsafe.Pointer, n uint32) int32

//go:wasmimport mayfly_v1 http_meta
func hostHTTPMeta(h int32, buf unsafe.Pointer, n uint32) int32

//go:wasmimport mayfly_v1 http_close
func hostHTTPClose(h int32)

//go:wasmimport mayfly_v1 now_ms
func hostNowMS() int64

//go:wasmimport mayfly_v1 left_ms
func hostLeftMS() int64

//go:wasmimport mayfly_v1 random
func hostRandom(buf unsafe.Pointer, n uint32)
