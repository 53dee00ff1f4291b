#define _GNU_SOURCE
#include "binding.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int64_t nanoseconds(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t mf_now(void) { return nanoseconds(CLOCK_MONOTONIC); }

mf_instance *mf_instance_new(void) {
  mf_instance *in = aligned_alloc(MF_LINE, sizeof *in);
  if (in != NULL) memset(in, 0, sizeof *in);
  return in;
}

static void set_pool(wasm_config_t *config, const mf_settings *s) {
  wasmtime_pooling_allocation_config_t *p = wasmtime_pooling_allocation_config_new();
  wasmtime_pooling_allocation_config_total_core_instances_set(p, s->slots);
  // Freeing a module takes its slots for a moment, one after the other, to forget its data: that must not be the one that a guest
  // is to have.
  wasmtime_pooling_allocation_config_total_memories_set(p, s->slots + 1);
  wasmtime_pooling_allocation_config_total_tables_set(p, s->slots);
  wasmtime_pooling_allocation_config_total_component_instances_set(p, 0);
  wasmtime_pooling_allocation_config_total_stacks_set(p, 0);
  wasmtime_pooling_allocation_config_total_gc_heaps_set(p, 0);
  wasmtime_pooling_allocation_config_max_tables_per_module_set(p, 1);
  wasmtime_pooling_allocation_config_max_memories_per_module_set(p, 1);
  wasmtime_pooling_allocation_config_max_memory_size_set(p, s->reservation);
  wasmtime_pooling_allocation_config_table_elements_set(p, s->table_elements);
  wasmtime_pooling_allocation_config_max_unused_warm_slots_set(p, s->warm);
  wasmtime_pooling_allocation_config_decommit_batch_size_set(p, 1);
  wasmtime_pooling_allocation_config_linear_memory_keep_resident_set(p, s->memory_resident);
  wasmtime_pooling_allocation_config_table_keep_resident_set(p, s->table_resident);
  wasmtime_pooling_allocation_strategy_set(config, p);
  wasmtime_pooling_allocation_config_delete(p);
}

wasm_engine_t *mf_engine_new(const mf_settings *s) {
  wasm_config_t *c = wasm_config_new();
  wasmtime_config_strategy_set(c, WASMTIME_STRATEGY_CRANELIFT);
  wasmtime_config_cranelift_opt_level_set(c, WASMTIME_OPT_LEVEL_SPEED);
  wasmtime_config_parallel_compilation_set(c, false);
  wasmtime_config_native_unwind_info_set(c, s->unwind);
  wasmtime_config_epoch_interruption_set(c, true);
  wasmtime_config_max_wasm_stack_set(c, s->stack);
  wasmtime_config_memory_reservation_set(c, s->reservation);
  wasmtime_config_memory_reservation_for_growth_set(c, 0);
  wasmtime_config_memory_guard_size_set(c, s->guard);
  wasmtime_config_memory_may_move_set(c, false);
  wasmtime_config_memory_init_cow_set(c, true);
  // Everything beyond the core language that a guest toolchain does not need is off: less to be wrong in an old engine.
  wasmtime_config_wasm_threads_set(c, false);
  wasmtime_config_wasm_tail_call_set(c, false);
  wasmtime_config_wasm_memory64_set(c, false);
  wasmtime_config_wasm_multi_memory_set(c, false);
  wasmtime_config_wasm_relaxed_simd_set(c, false);
  wasmtime_config_wasm_gc_set(c, false);
  wasmtime_config_wasm_function_references_set(c, false);
  wasmtime_config_wasm_exceptions_set(c, false);
  wasmtime_config_wasm_wide_arithmetic_set(c, false);
  wasmtime_config_wasm_custom_page_sizes_set(c, false);
  wasmtime_config_wasm_stack_switching_set(c, false);
  wasmtime_config_wasm_component_model_set(c, false);
  if (s->slots > 0) set_pool(c, s);
  return wasm_engine_new_with_config(c);
}

// What a trampoline knows of its import.
typedef struct import {
  int32_t id;
  int32_t nparams;
  uint32_t wide;    // bit i: parameter i is 64 bits wide
  bool has_result;
} import;

static wasm_trap_t *trampoline(void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *raw, size_t n) {
  (void)n;
  const import *im = env;
  wasmtime_context_t *context = wasmtime_caller_context(caller);
  mf_instance *in = wasmtime_context_get_data(context);
  uint8_t *memory = NULL;
  size_t length = 0;
  if (in->has_memory) {
    memory = in->base;
    length = wasmtime_memory_data_size(context, &in->memory);
  } else { // a start function calls before we know the instance
    wasmtime_extern_t item;
    if (wasmtime_caller_export_get(caller, "memory", 6, &item) && item.kind == WASMTIME_EXTERN_MEMORY) {
      memory = wasmtime_memory_data(context, &item.of.memory);
      length = wasmtime_memory_data_size(context, &item.of.memory);
    }
  }
  uint64_t args[MF_MAX_PARAMS];
  for (int32_t i = 0; i < im->nparams; i++)
    args[i] = im->wide >> i & 1 ? (uint64_t)raw[i].i64 : (uint32_t)raw[i].i32;
  mf_host_call call = {in->session, im->id, im->nparams, args, memory, length, 0};
  if (mayflyHostCall(&call) != 0) return wasmtime_trap_new("ended by the host", 17);
  if (im->has_result) raw[0].i64 = (int64_t)call.result;
  return NULL;
}

static void value_types(wasm_valtype_vec_t *out, const uint8_t *kinds, size_t n) {
  wasm_valtype_vec_new_uninitialized(out, n);
  for (size_t i = 0; i < n; i++) out->data[i] = wasm_valtype_new(kinds[i]);
}

wasmtime_error_t *mf_define(wasmtime_linker_t *linker, const char *module, size_t module_len, const char *name,
                            size_t name_len, const uint8_t *params, size_t nparams, const uint8_t *results,
                            size_t nresults, int32_t id) {
  if (nparams > MF_MAX_PARAMS || nresults > 1) return wasmtime_error_new("host function has too many parameters or results");
  import *im = calloc(1, sizeof *im);
  if (im == NULL) return wasmtime_error_new("out of memory");
  im->id = id;
  im->nparams = (int32_t)nparams;
  im->has_result = nresults == 1;
  for (size_t i = 0; i < nparams; i++)
    if (params[i] == WASM_I64 || params[i] == WASM_F64) im->wide |= 1u << i;
  wasm_valtype_vec_t p, r;
  value_types(&p, params, nparams);
  value_types(&r, results, nresults);
  wasm_functype_t *type = wasm_functype_new(&p, &r);
  wasmtime_error_t *err = wasmtime_linker_define_func_unchecked(linker, module, module_len, name, name_len, type,
                                                               trampoline, im, free);
  wasm_functype_delete(type);
  return err;
}

// The epoch moved: either our time is up, or somebody else's was.
static wasmtime_error_t *on_epoch(wasmtime_context_t *context, void *data, uint64_t *delta,
                                  wasmtime_update_deadline_kind_t *kind) {
  (void)context;
  mf_instance *in = data;
  int64_t now = mf_now(), left = in->deadline - now;
  int64_t cpu_left = in->cpu_limit - (nanoseconds(CLOCK_THREAD_CPUTIME_ID) - in->cpu_start);
  if (__atomic_load_n(&in->cancel, __ATOMIC_RELAXED)) in->stopped = MF_STOP_CANCEL;
  else if (left <= 0) in->stopped = MF_STOP_WALL;
  else if (cpu_left <= 0) in->stopped = MF_STOP_CPU;
  else {
    __atomic_store_n(&in->check_at, now + (left < cpu_left ? left : cpu_left), __ATOMIC_RELAXED);
    *delta = 1;
    *kind = WASMTIME_UPDATE_DEADLINE_CONTINUE;
    return NULL;
  }
  return wasmtime_error_new("out of time");
}

static int32_t failed(mf_instance *in, wasmtime_error_t *error, wasm_trap_t *trap) {
  in->error = error;
  in->trap = trap;
  in->status = error != NULL ? MF_ERROR : trap != NULL ? MF_TRAP : MF_OK;
  return in->status;
}

// Reading the thread's CPU clock is a system call: 0.7 us on an idle machine here, 1.4 us on a busy one, twice as much as a
// warm call takes. So it is read once a millisecond at most: a call that begins soon after another on the same thread is
// taken to begin with all the time since then used by that thread (never charging a guest for what was before it), and a
// call shorter than a millisecond is charged its wall time. The error is below a millisecond of one call either way.
enum { CPU_CLOCK_GRAIN = 1000000 };
static __thread int64_t sampled_at, sampled_cpu;

static int64_t cpu_now(int64_t now) {
  if (sampled_at == 0 || now - sampled_at > CPU_CLOCK_GRAIN) {
    sampled_cpu = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
    sampled_at = now;
  }
  return sampled_cpu + (now - sampled_at);
}

static void begin(mf_instance *in, int64_t *start) {
  in->status = MF_OK;
  in->stopped = MF_NOT_STOPPED;
  in->value = 0;
  in->error = NULL;
  in->trap = NULL;
  in->memory_bytes = 0;
  *start = mf_now();
  in->cpu_start = cpu_now(*start);
}

static void end(mf_instance *in, int64_t start) {
  if (in->has_memory) in->memory_bytes = (int64_t)wasmtime_memory_data_size(in->context, &in->memory);
  int64_t now = mf_now();
  in->wall = now - start;
  in->cpu = in->wall;
  if (in->wall > CPU_CLOCK_GRAIN) {
    sampled_at = 0;
    int64_t used = cpu_now(now) - in->cpu_start;
    in->cpu = used < 0 ? 0 : used < in->wall ? used : in->wall;
  }
  __atomic_store_n(&in->check_at, INT64_MAX, __ATOMIC_RELAXED);
}

// Finds the function that is export number index; its type was checked when the module was loaded: no parameters, at most one i32
// result.
static int32_t find(mf_instance *in, int32_t index, wasmtime_func_t *func) {
  wasmtime_extern_t item;
  char *name;
  size_t name_len;
  if (!wasmtime_instance_export_nth(in->context, &in->instance, (size_t)index, &name, &name_len, &item) ||
      item.kind != WASMTIME_EXTERN_FUNC)
    return failed(in, wasmtime_error_new("export is not a function"), NULL);
  *func = item.of.func;
  return MF_OK;
}

static int32_t call(mf_instance *in, const wasmtime_func_t *func, int32_t *value) {
  wasmtime_val_raw_t raw[1] = {{.i64 = 0}};
  wasm_trap_t *trap = NULL;
  wasmtime_error_t *error = wasmtime_func_call_unchecked(in->context, func, raw, value != NULL, &trap);
  if (error != NULL || trap != NULL) return failed(in, error, trap);
  if (value != NULL) *value = raw[0].i32;
  return MF_OK;
}

static int32_t call_export(mf_instance *in, int32_t index, int32_t *value) {
  wasmtime_func_t func;
  return find(in, index, &func) == MF_OK ? call(in, &func, value) : in->status;
}

// The engine of the processor we are on has the memory of its slots in that processor's cache and its locks to itself. Where
// it does not have the module, the first one does.
static mf_part choose(mf_instance *in, const mf_module *m) {
  mf_part home = m->part[0];
  in->away = false;
  if (m->shards <= 1) return home;
  int cpu = sched_getcpu();
  const mf_part *mine = &m->part[cpu < 0 ? 0 : cpu % m->shards];
  wasmtime_instance_pre_t *pre = __atomic_load_n(&mine->pre, __ATOMIC_ACQUIRE);
  in->away = pre == NULL;
  return pre == NULL ? home : (mf_part){mine->engine, pre};
}

static int32_t open(mf_instance *in, const mf_module *m) {
  in->phase = MF_INSTANTIATE;
  in->has_memory = false;
  mf_part part = choose(in, m);
  in->store = wasmtime_store_new(part.engine, in, NULL);
  in->context = wasmtime_store_context(in->store);
  wasmtime_store_limiter(in->store, in->memory_limit, in->table_limit, 1, 1, 1);
  wasmtime_store_epoch_deadline_callback(in->store, on_epoch, in, NULL);
  wasmtime_context_set_epoch_deadline(in->context, 1);
  wasm_trap_t *trap = NULL;
  wasmtime_error_t *error = wasmtime_instance_pre_instantiate(part.pre, in->context, &in->instance, &trap);
  if (error != NULL || trap != NULL) return failed(in, error, trap);
  if (m->memory >= 0) {
    wasmtime_extern_t item;
    char *name;
    size_t name_len;
    if (wasmtime_instance_export_nth(in->context, &in->instance, (size_t)m->memory, &name, &name_len, &item) &&
        item.kind == WASMTIME_EXTERN_MEMORY) {
      in->memory = item.of.memory;
      in->base = wasmtime_memory_data(in->context, &in->memory);
      in->has_memory = true;
    }
  }
  in->phase = MF_INITIALIZE;
  if (m->initialize >= 0 && call_export(in, m->initialize, NULL) != MF_OK) return in->status;
  in->phase = MF_INIT;
  if (m->init >= 0 && call_export(in, m->init, &in->value) != MF_OK) return in->status;
  return MF_OK;
}

void mf_close(mf_instance *in) {
  if (in->store != NULL) wasmtime_store_delete(in->store);
  in->store = NULL;
  in->context = NULL;
  in->has_memory = false;
}

static int32_t *entry_value(mf_instance *in, const mf_module *m) { return m->entry_returns ? &in->value : NULL; }

int32_t mf_once(mf_instance *in, const mf_module *m) {
  int64_t start;
  begin(in, &start);
  if (open(in, m) == MF_OK && in->value == 0) {
    in->phase = MF_ENTRY;
    call_export(in, m->entry, entry_value(in, m));
  }
  if (in->has_memory) in->memory_bytes = (int64_t)wasmtime_memory_data_size(in->context, &in->memory);
  mf_close(in);
  end(in, start);
  return in->status;
}

int32_t mf_open(mf_instance *in, const mf_module *m) {
  int64_t start;
  begin(in, &start);
  if (open(in, m) == MF_OK) find(in, m->entry, &in->entry);
  end(in, start);
  return in->status;
}

int32_t mf_call(mf_instance *in, const mf_module *m) {
  int64_t start;
  begin(in, &start);
  wasmtime_context_set_epoch_deadline(in->context, 1);
  in->phase = MF_ENTRY;
  call(in, &in->entry, entry_value(in, m));
  end(in, start);
  return in->status;
}
