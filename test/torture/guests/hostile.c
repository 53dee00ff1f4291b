/* Misbehaves in the way the event names by its number: runs for ever, recurses, takes memory, traps, logs and publishes without end. */
#include "event.h"

static volatile int sink;
__attribute__((noinline)) static int deep(int n) {
	volatile char pad[256];
	pad[0] = (char)n;
	return n < 0 ? 0 : deep(n + 1) + pad[0];
}

MAYFLY_HANDLE {
	event_t e;
	if (!read_event(&e)) return MAYFLY_REJECT;
	switch (field(&e, 's') % 6) {
	case 0:
		for (;;) sink++;
	case 1: return deep(0);
	case 2:
		while (__builtin_wasm_memory_grow(0, 16) != (size_t)-1) {}
		__builtin_trap();
	case 3: __builtin_trap();
	case 4:
		for (int i = 0; i < 1000000; i++) mayfly_note(MAYFLY_INFO, "noise noise noise noise noise noise noise noise");
		return MAYFLY_RETRY;
	default:
		for (int i = 0; i < 1000000; i++) (void)mayfly_publish("out/noise", 9, e.data, (size_t)e.n, MAYFLY_QOS1);
		return MAYFLY_REJECT;
	}
}
