package wasm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"mayfly/function"
	"mayfly/wasm/abi"
	"mayfly/wasm/internal/wasmtime"
)

// Modules hands out the bytes of modules by digest.
type Modules interface {
	Module(ctx context.Context, d function.Digest) ([]byte, error)
}

// Config of an engine. The zero value of a field means its default.
type Config struct {
	CacheDir string  // native code and the key that authenticates it; made when absent, 0700
	Modules  Modules // asked for a module whose native code is not in the cache; nil = such a module cannot run

	Slots      int   // instances at once, 1..1024, default 64; fewer when the address space is small
	Shards     int   // engines of the library, so that processors do not wait for each other, 1..8, default one per processor, at most 4
	SlotMemory int64 // most linear memory of one instance, multiple of 64 KiB, 1 MiB..4 GiB, default 64 MiB
	Stack      int64 // most native stack of a guest, default 512 KiB, at most 1 MiB
	Loaded     int64 // bytes of native code kept loaded, default 32 MiB; one module may exceed it alone
	CacheBytes int64 // bytes of native code on disk, default 512 MiB; the oldest goes first

	CompileCommand []string      // default this program, even if its file was replaced, with "compile-module"; see CompileMain
	CompileCPU     time.Duration // whole seconds, default 10 s
	CompileMemory  int64         // default 192 MiB
	CompileWall    time.Duration // default 60 s
}

// TableElements is the most elements a table may have.
const TableElements = 10_000

const (
	wasmPage       = 64 << 10
	guardSize      = 1 << 20
	memoryResident = 1 << 20
	tableResident  = 64 << 10
	warmSlots      = 8 // over all shards
	mostShards     = 4 // by default: each has its own copy of the modules that are called most
)

func (c Config) withDefaults() (Config, error) {
	set := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	set(&c.SlotMemory, 64<<20)
	set(&c.Stack, 512<<10)
	set(&c.Loaded, 32<<20)
	set(&c.CacheBytes, 512<<20)
	set(&c.CompileMemory, 192<<20)
	if c.Slots == 0 {
		c.Slots = 64
	}
	if c.Shards == 0 {
		c.Shards = min(runtime.GOMAXPROCS(0), mostShards)
	}
	if c.CompileCPU == 0 {
		c.CompileCPU = 10 * time.Second
	}
	if c.CompileWall == 0 {
		c.CompileWall = time.Minute
	}
	if len(c.CompileCommand) == 0 {
		c.CompileCommand = []string{"/proc/self/exe", "compile-module"}
	}
	switch {
	case c.CacheDir == "":
		return c, errors.New("wasm: CacheDir is empty")
	case c.Slots < 1 || c.Slots > 1024:
		return c, fmt.Errorf("wasm: Slots is %d, want 1..1024", c.Slots)
	case c.Shards < 1 || c.Shards > wasmtime.MaxShards:
		return c, fmt.Errorf("wasm: Shards is %d, want 1..%d", c.Shards, wasmtime.MaxShards)
	case c.SlotMemory < 1<<20 || c.SlotMemory > 4<<30 || c.SlotMemory%wasmPage != 0:
		return c, fmt.Errorf("wasm: SlotMemory is %d, want a multiple of 64 KiB in 1 MiB..4 GiB", c.SlotMemory)
	case c.Stack < 64<<10 || c.Stack > 1<<20:
		return c, fmt.Errorf("wasm: Stack is %d, want 64 KiB..1 MiB", c.Stack)
	}
	return c, nil
}

// settings are the library's settings for these slots (0 = on demand) in each of some shards: an instance may be made in any.
func (c Config) settings(slots, shards int) wasmtime.Settings {
	return wasmtime.Settings{
		Reservation: uint64(c.SlotMemory), Guard: guardSize, Stack: uint64(c.Stack), Shards: shards,
		Slots: uint32(slots), Warm: min(max(1, warmSlots/uint32(shards)), uint32(slots)), MemoryResident: memoryResident, TableResident: tableResident,
		TableElements: TableElements,
	}
}

// Engine runs functions. There is one per process. Safe for concurrent use.
type Engine struct {
	cfg   Config
	log   *slog.Logger
	lib   *wasmtime.Engine
	cache *cache
	info  Info
	watch *watchdog
	pool  pool

	zero     time.Time     // a moment in Go's clock
	zeroMono time.Duration // the same moment in the library's

	residents atomic.Pointer[map[string]*resident] // by function name; replaced as a whole, with mu held
	closed    atomic.Bool                          // set with mu held

	mu      sync.Mutex
	modules map[moduleKey]*module
	loading map[moduleKey]*loading
	loads   sync.WaitGroup
	running sync.WaitGroup // what Close waits for besides calls that have a place

	work      context.Context //nolint:containedctx // its life is the engine's: of the loading and compiling all callers wait for; ends with Close
	stopWork  context.CancelFunc
	compiling chan struct{} // one compiler at a time
	compiles  atomic.Int64
}

// Info says what the engine was given at start and why.
type Info struct {
	Library      string // name and version
	Slots        int    // instances at once
	Shards       int    // engines of the library
	Pooled       bool   // false: each instance is allocated on demand, ten times slower
	SlotMemory   int64
	AddressSpace int64  // bytes reserved
	Reason       string // why there are fewer slots than configured; "" otherwise
}

// Stats counts what happened since the start.
type Stats struct {
	Invokes      int64 // calls that got a slot
	Compiles     int64 // child processes started
	CacheHits    int64
	CacheRefused int64 // entries that were corrupt, forged or cut short
	Loaded       int   // modules loaded now
	LoadedBytes  int64
	Kept         int // instances kept between events now
	Busy         int // slots in use now
}

// New makes an engine: it tries how many slots the address space has room for, and opens the cache. It starts nothing.
func New(cfg Config, log *slog.Logger) (*Engine, error) { return newEngine(cfg, log, reserve) }

// newEngine is New with the probe's way to reserve address space.
func newEngine(cfg Config, log *slog.Logger, reserve func(uint64) error) (*Engine, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	info := probe(cfg, reserve)
	slots := 0
	if info.Pooled {
		slots = info.Slots
	}
	settings := cfg.settings(slots, info.Shards)
	cache, err := openCache(cfg.CacheDir, settings.Fingerprint(), cfg.CacheBytes, log)
	if err != nil {
		return nil, err
	}
	lib, err := wasmtime.NewEngine(settings, libraryImports())
	if err != nil {
		return nil, fmt.Errorf("wasm: start the engine: %w", err)
	}
	e := &Engine{
		cfg: cfg, log: log, lib: lib, cache: cache, info: info, zero: time.Now(), zeroMono: wasmtime.Now(),
		modules: map[moduleKey]*module{}, loading: map[moduleKey]*loading{},
		compiling: make(chan struct{}, 1),
	}
	e.work, e.stopWork = context.WithCancel(context.Background())
	e.residents.Store(&map[string]*resident{})
	e.pool.now = e.now
	e.pool.fill(info.Slots)
	e.watch = newWatchdog(lib.MoveEpoch, e.now, e.pool.all)
	level := slog.LevelInfo
	if info.Reason != "" {
		level = slog.LevelWarn
	}
	log.Log(context.Background(), level, "wasm engine ready", "library", info.Library, "slots", info.Slots, "shards", info.Shards, "pooled", info.Pooled,
		"slot_memory", info.SlotMemory, "address_space", info.AddressSpace, "reason", info.Reason)
	return e, nil
}

// libraryImports are the host functions in the library's words; the index stays the number of the import.
func libraryImports() []wasmtime.Import {
	var out []wasmtime.Import
	for _, im := range abi.Imports() {
		out = append(out, wasmtime.Import{Module: im.Module, Name: im.Name, Params: typeBytes(im.Params), Results: typeBytes(im.Results)})
	}
	return out
}

func typeBytes(types []abi.ValType) []byte {
	out := make([]byte, len(types))
	for i, t := range types {
		out[i] = byte(t)
	}
	return out
}

// now is the library's clock without a crossing.
func (e *Engine) now() time.Duration { return e.zeroMono + time.Since(e.zero) }

// Info says what the engine was given at start and why.
func (e *Engine) Info() Info { return e.info }

// Stats counts what happened since the start.
func (e *Engine) Stats() Stats {
	e.mu.Lock()
	s := Stats{Loaded: len(e.modules)}
	for _, m := range e.modules {
		s.LoadedBytes += m.code.Size()
	}
	e.mu.Unlock()
	s.Kept, s.Busy, s.Invokes = e.pool.counts()
	s.Compiles = e.compiles.Load()
	s.CacheHits, s.CacheRefused = e.cache.hits.Load(), e.cache.refused.Load()
	return s
}

// Close stops running guests at their next loop or call, waits for them, and frees everything. Calls that come later
// fail as overload. It may be called more than once.
func (e *Engine) Close() {
	e.mu.Lock()
	already := e.closed.Swap(true)
	e.mu.Unlock()
	if already {
		return
	}
	e.stopWork()
	e.pool.close()
	e.watch.stopAll(e.pool.busy, &e.running)
	e.loads.Wait()
	e.pool.freeAll()
	for key, m := range e.modules {
		m.code.Close()
		delete(e.modules, key)
	}
	e.lib.Close()
}
