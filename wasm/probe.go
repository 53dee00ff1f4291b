package wasm

import (
	"fmt"
	"syscall"

	"mayfly/wasm/internal/wasmtime"
)

// headroom is the address space left for everything else: native code, thread stacks, the heap.
const headroom = 256 << 20

// reserve says whether n bytes of address space can be had now.
func reserve(n uint64) error {
	b, err := syscall.Mmap(-1, 0, int(n), syscall.PROT_NONE, syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_NORESERVE)
	if err != nil {
		return err
	}
	return syscall.Munmap(b)
}

// probe finds how many slots fit: those configured in all shards, else in one, else half as many until one, else none beforehand.
// The library aborts the process when its pool does not fit, so it is tried with a plain reservation of the same size first.
// Where addresses are scarce: kernels with 39 bits of them (512 GiB), RLIMIT_AS, strict overcommit.
func probe(cfg Config, reserve func(uint64) error) Info {
	info := Info{Library: "wasmtime " + wasmtime.Version, SlotMemory: cfg.SlotMemory, Shards: 1}
	var first error
	fits := func(slots, shards int) bool {
		need := cfg.settings(slots, shards).AddressSpace()
		err := reserve(need + headroom)
		if err == nil {
			info.Slots, info.Shards, info.Pooled, info.AddressSpace = slots, shards, true, int64(need)
		} else if first == nil {
			first = err
		}
		return err == nil
	}
	if cfg.Shards > 1 && fits(cfg.Slots, cfg.Shards) {
		return info
	}
	for slots := cfg.Slots; slots >= 1; slots /= 2 {
		if !fits(slots, 1) {
			continue
		}
		if first != nil {
			info.Reason = fmt.Sprintf("address space for %d slots of %d MiB in %d shards is not to be had: %v", cfg.Slots, cfg.SlotMemory>>20, cfg.Shards, first)
		}
		return info
	}
	info.Slots = 1
	info.Reason = fmt.Sprintf("address space does not suffice for a pool of even one slot of %d MiB: %v", cfg.SlotMemory>>20, first)
	return info
}
