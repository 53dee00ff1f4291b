// What the Go side calls: one crossing per event. Everything here is plain data or a pointer owned by C.
#ifndef MAYFLY_BINDING_H
#define MAYFLY_BINDING_H

#include "libwasmtime.h"

// Settings of the engine. The first four decide what native code looks like; code made under others is refused.
typedef struct mf_settings {
  uint64_t reservation; // bytes of address space per linear memory
  uint64_t guard;       // bytes of unmapped address space behind each
  uint64_t stack;       // bytes of native stack a guest may use
  bool unwind;          // native unwind tables in the code
  uint32_t slots;       // instances at once; 0 = allocate on demand
  uint32_t warm;        // idle slots that keep their memory resident
  uint64_t memory_resident, table_resident; // bytes kept resident per slot
  uint64_t table_elements;                  // per table
} mf_settings;

enum { MF_SHARDS = 8 }; // at most

// A module as one of the library's engines has it. Engine and module belong together: an instance is made from both fields of
// one part, never from two.
typedef struct mf_part {
  wasm_engine_t *engine;
  wasmtime_instance_pre_t *pre; // atomic; NULL until the module is loaded into that engine, always there in the first part
} mf_part;

// A module ready to be instantiated, with the positions of the exports that matter (-1 = absent).
typedef struct mf_module {
  mf_part part[MF_SHARDS];
  int32_t shards; // parts that are used
  int32_t memory, initialize, init, entry;
  bool entry_returns; // entry gives an i32 (mayfly_handle), else nothing (_start)
} mf_module;

enum { MF_INSTANTIATE, MF_INITIALIZE, MF_INIT, MF_ENTRY };           // mf_instance.phase: how far it came
enum { MF_OK, MF_TRAP, MF_ERROR };                                   // mf_instance.status
enum { MF_NOT_STOPPED, MF_STOP_WALL, MF_STOP_CPU, MF_STOP_CANCEL };  // mf_instance.stopped: why the clock ended it

enum { MF_LINE = 128 }; // bytes that two processors may not both write to: two cache lines, which are fetched together

// A place to run one event at a time: allocated once, used for many events. Times are nanoseconds of CLOCK_MONOTONIC.
typedef struct mf_instance {
  // Set before a call.
  void *session;         // handed to mayflyHostCall; Go's, pinned: nobody here looks inside
  int64_t deadline;      // absolute wall deadline
  int64_t cpu_limit;     // CPU time the call may use
  int64_t memory_limit;  // bytes
  int64_t table_limit;   // elements
  // Shared with the watchdog thread: atomic.
  int64_t check_at; // when the watchdog must have the epoch moved; INT64_MAX while nothing runs
  int32_t cancel;   // nonzero: stop at the next check
  // Set by a call.
  int32_t status, phase, stopped, value;
  int64_t cpu, wall, memory_bytes;
  bool away;               // made by another engine than that of its processor, which does not have the module
  wasm_trap_t *trap;       // owned by the caller when status is MF_TRAP
  wasmtime_error_t *error; // owned by the caller when status is MF_ERROR
  // Private.
  int64_t cpu_start;
  wasmtime_store_t *store;
  wasmtime_context_t *context;
  wasmtime_instance_t instance;
  wasmtime_memory_t memory;
  uint8_t *base; // of memory: it never moves (wasmtime_config_memory_may_move), its length is asked for
  bool has_memory;
  wasmtime_func_t entry; // between mf_open and mf_close
} __attribute__((aligned(MF_LINE))) mf_instance;

int64_t mf_now(void); // CLOCK_MONOTONIC in nanoseconds

mf_instance *mf_instance_new(void); // zeroed; freed with free

// mf_engine_new makes an engine. The library aborts the process when the address space does not suffice: probe first.
wasm_engine_t *mf_engine_new(const mf_settings *);

// mf_define makes import module.name call mayflyHostCall with id. params and results are wasm_valkind_t, at most one result.
wasmtime_error_t *mf_define(wasmtime_linker_t *, const char *module, size_t module_len, const char *name, size_t name_len,
                            const uint8_t *params, size_t nparams, const uint8_t *results, size_t nresults, int32_t id);

// mf_once makes an instance, runs its event and takes it down, in one crossing. Returns status.
int32_t mf_once(mf_instance *, const mf_module *);
// mf_open makes an instance that stays; mf_call runs one event in it; mf_close takes it down (harmless when not open).
int32_t mf_open(mf_instance *, const mf_module *);
int32_t mf_call(mf_instance *, const mf_module *);
void mf_close(mf_instance *);

enum { MF_MAX_PARAMS = 16 };

// One host call. memory may be NULL (length 0) when the guest exports none.
typedef struct mf_host_call {
  void *session;
  int32_t id, nargs;
  uint64_t *args; // the parameters, zero-extended to 64 bits
  uint8_t *memory;
  size_t memory_len;
  uint64_t result; // set by the callee
} mf_host_call;

// Implemented in Go. Nonzero ends the guest with a trap.
extern int32_t mayflyHostCall(mf_host_call *);

#endif
