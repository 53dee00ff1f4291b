// A Go guest that publishes its event, for measuring.
package main

import "unsafe"

//go:wasmimport mayfly_v1 event_data
func eventData(buf unsafe.Pointer, n uint32) int32

//go:wasmimport mayfly_v1 publish
func publish(topic unsafe.Pointer, tlen uint32, data unsafe.Pointer, dlen, flags uint32) int32

var buf [4096]byte

//go:wasmexport mayfly_handle
func handle() int32 {
	topic := "bench/out"
	n := eventData(unsafe.Pointer(&buf[0]), uint32(len(buf)))
	publish(unsafe.Pointer(unsafe.StringData(topic)), uint32(len(topic)), unsafe.Pointer(&buf[0]), uint32(n), 1)
	return 0
}

func main() {}
