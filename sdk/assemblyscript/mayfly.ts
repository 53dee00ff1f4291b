// The guest interface mayfly_v1 for AssemblyScript.
//
//   import { Event, publish, QOS1, DONE } from "./mayfly";
//
//   export function mayfly_handle(): i32 {
//     publish("plant/alarm", Event.data(), QOS1);
//     return DONE;
//   }
//
//   asc f.ts -o f.wasm -Ospeed --runtime stub --exportStart _initialize --use abort=mayfly/abort
//
// (--use abort= names this file without its extension, as the program imports it.) An instance lives for one event, so the
// runtime that never frees memory is the right one. What a handler asked for becomes true all at once when it returns DONE.

// What a handler returns.
export const DONE: i32 = 0;
export const RETRY: i32 = 1;
export const REJECT: i32 = 2;

// Errors of the interface: what a call returns when it is negative.
export const ABSENT: i32 = -1;
export const DENIED: i32 = -2;
export const INVALID: i32 = -3;
export const TOO_LARGE: i32 = -4;
export const LIMIT: i32 = -5;
export const UNAVAILABLE: i32 = -6;
export const CONFLICT: i32 = -7;
export const DEADLINE: i32 = -8;

// Flags of publish.
export const QOS0: i32 = 0;
export const QOS1: i32 = 1;
export const RETAIN: i32 = 4;

// Levels of log.
export const DEBUG: i32 = 0;
export const INFO: i32 = 1;
export const WARN: i32 = 2;
export const ERROR: i32 = 3;

@external("mayfly_v1", "event_data") declare function event_data(buf: usize, cap: i32): i32;
@external("mayfly_v1", "event_attr") declare function event_attr(name: usize, nlen: i32, buf: usize, cap: i32): i32;
@external("mayfly_v1", "event_json") declare function event_json(buf: usize, cap: i32): i32;
@external("mayfly_v1", "publish") declare function host_publish(topic: usize, tlen: i32, data: usize, dlen: i32, flags: i32): i32;
@external("mayfly_v1", "respond") declare function host_respond(data: usize, dlen: i32): i32;
@external("mayfly_v1", "respond_attr") declare function respond_attr(name: usize, nlen: i32, val: usize, vlen: i32): i32;
@external("mayfly_v1", "fail") declare function host_fail(msg: usize, mlen: i32): void;
@external("mayfly_v1", "retry_after") declare function retry_after(ms: i64): void;
@external("mayfly_v1", "kv_get") declare function kv_get(key: usize, klen: i32, buf: usize, cap: i32): i32;
@external("mayfly_v1", "kv_put") declare function kv_put(key: usize, klen: i32, val: usize, vlen: i32, ttl: i64): i32;
@external("mayfly_v1", "kv_del") declare function kv_del(key: usize, klen: i32): i32;
@external("mayfly_v1", "kv_incr") declare function kv_incr(key: usize, klen: i32, delta: i64, out: usize): i32;
@external("mayfly_v1", "kv_cas") declare function kv_cas(key: usize, klen: i32, ver: i64, val: usize, vlen: i32): i64;
@external("mayfly_v1", "kv_ver") declare function kv_ver(key: usize, klen: i32): i64;
@external("mayfly_v1", "kv_list") declare function kv_list(prefix: usize, plen: i32, cursor: usize, clen: i32, buf: usize, cap: i32): i32;
@external("mayfly_v1", "config_get") declare function config_get(key: usize, klen: i32, buf: usize, cap: i32): i32;
@external("mayfly_v1", "secret_get") declare function secret_get(key: usize, klen: i32, buf: usize, cap: i32): i32;
@external("mayfly_v1", "log") declare function host_log(level: i32, msg: usize, mlen: i32): void;
@external("mayfly_v1", "http_send") declare function http_send(req: usize, rlen: i32, body: usize, blen: i32): i32;
@external("mayfly_v1", "http_read") declare function http_read(h: i32, buf: usize, cap: i32): i32;
@external("mayfly_v1", "http_meta") declare function http_meta(h: i32, buf: usize, cap: i32): i32;
@external("mayfly_v1", "http_close") declare function http_close(h: i32): void;
@external("mayfly_v1", "now_ms") declare function now_ms(): i64;
@external("mayfly_v1", "left_ms") declare function left_ms(): i64;
@external("mayfly_v1", "random") declare function host_random(buf: usize, n: i32): void;

// The bytes of s in UTF-8.
function utf8(s: string): ArrayBuffer { return String.UTF8.encode(s); }

function at(b: ArrayBuffer): usize { return changetype<usize>(b); }

// Asks with a buffer of a likely size first and once more when the answer is longer; null when it was refused.
function fill(likely: i32, name: ArrayBuffer, ask: (name: ArrayBuffer, buf: usize, cap: i32) => i32): ArrayBuffer | null {
  while (true) {
    const buf = new ArrayBuffer(likely);
    const n = ask(name, at(buf), likely);
    if (n < 0) return null;
    if (n <= likely) return buf.slice(0, n);
    likely = n;
  }
}

const NO_NAME = new ArrayBuffer(0);

function text(buf: ArrayBuffer | null): string | null {
  return buf == null ? null : String.UTF8.decode(buf);
}

// The event that is being handled.
export class Event {
  static data(): ArrayBuffer {
    const buf = fill(1024, NO_NAME, (_, buf, cap) => event_data(buf, cap));
    return buf == null ? new ArrayBuffer(0) : buf;
  }

  // The data as text.
  static text(): string { return String.UTF8.decode(Event.data()); }

  // An attribute such as id, topic, topic.<capture> or attempt; null when it has none of that name.
  static attr(name: string): string | null {
    return text(fill(128, utf8(name), (name, buf, cap) => event_attr(at(name), name.byteLength, buf, cap)));
  }

  // All attributes as CloudEvents JSON, without the data.
  static json(): string | null { return text(fill(1024, NO_NAME, (_, buf, cap) => event_json(buf, cap))); }

  // Milliseconds until the event's deadline.
  static leftMs(): i64 { return left_ms(); }
}

// Publishes data on a topic. Returns 0 or an error.
export function publish(topic: string, data: ArrayBuffer, flags: i32): i32 {
  const t = utf8(topic);
  return host_publish(at(t), t.byteLength, at(data), data.byteLength, flags);
}

// Publishes a text on a topic. Returns 0 or an error.
export function publishText(topic: string, data: string, flags: i32): i32 { return publish(topic, utf8(data), flags); }

// Answers whoever waits for the event.
export function respond(data: ArrayBuffer): i32 { return host_respond(at(data), data.byteLength); }

// Sets status, content-type or header.<name> of the answer.
export function respondAttr(name: string, value: string): i32 {
  const n = utf8(name), v = utf8(value);
  return respond_attr(at(n), n.byteLength, at(v), v.byteLength);
}

// Gives the reason and returns the verdict: return because(REJECT, "no number in it");
export function because(verdict: i32, why: string): i32 {
  const m = utf8(why);
  host_fail(at(m), m.byteLength);
  return verdict;
}

// Wishes for a delay before the next attempt.
export function retryAfter(ms: i64): void { retry_after(ms); }

// The state of the function, when the manifest has a [state] scope.
export class State {
  // The value of a key; null when there is none.
  static get(key: string): ArrayBuffer | null {
    return fill(256, utf8(key), (key, buf, cap) => kv_get(at(key), key.byteLength, buf, cap));
  }

  // Sets a key; ttlMs 0 is for ever. Returns 0 or an error.
  static put(key: string, value: ArrayBuffer, ttlMs: i64 = 0): i32 {
    const k = utf8(key);
    return kv_put(at(k), k.byteLength, at(value), value.byteLength, ttlMs);
  }

  static delete(key: string): i32 {
    const k = utf8(key);
    return kv_del(at(k), k.byteLength);
  }

  // Adds to a counter and returns its new value; traps when it is refused.
  static incr(key: string, delta: i64): i64 {
    const k = utf8(key), out = new ArrayBuffer(8);
    assert(kv_incr(at(k), k.byteLength, delta, at(out)) == 0, "the counter was refused");
    return load<i64>(at(out));
  }

  // Sets a key if it still has version ver (0: if it is absent); returns the new version or an error.
  static cas(key: string, ver: i64, value: ArrayBuffer): i64 {
    const k = utf8(key);
    return kv_cas(at(k), k.byteLength, ver, at(value), value.byteLength);
  }

  static version(key: string): i64 {
    const k = utf8(key);
    return kv_ver(at(k), k.byteLength);
  }

  // The keys that start with prefix, ascending.
  static keys(prefix: string): string[] {
    const keys = new Array<string>(), p = utf8(prefix);
    let last = NO_NAME, cap = 1024;
    while (true) {
      const buf = new ArrayBuffer(cap);
      const n = kv_list(at(p), p.byteLength, at(last), last.byteLength, at(buf), cap);
      if (n <= 0) return keys;
      if (n > cap) { cap = n; continue; }
      // Each key is its length in two bytes, low byte first, and its text.
      for (let i = 0; i < n;) {
        const len = load<u16>(at(buf) + i);
        last = buf.slice(i + 2, i + 2 + len);
        keys.push(String.UTF8.decode(last));
        i += 2 + len;
      }
    }
  }
}

// A setting of the manifest's [config]; null when there is none.
export function config(key: string): string | null {
  return text(fill(128, utf8(key), (key, buf, cap) => config_get(at(key), key.byteLength, buf, cap)));
}

// A secret the manifest grants; null when it grants none of that name.
export function secret(key: string): ArrayBuffer | null {
  return fill(128, utf8(key), (key, buf, cap) => secret_get(at(key), key.byteLength, buf, cap));
}

export function log(level: i32, message: string): void {
  const m = utf8(message);
  host_log(level, at(m), m.byteLength);
}

// An outbound request that was answered. It happened at once, and happens again when the event is tried again.
export class Http {
  private constructor(private h: i32) {}

  // Sends a request described as JSON, {"method":"POST","url":"https://..."}; null when it was refused or failed.
  static send(request: string, body: ArrayBuffer): Http | null {
    const r = utf8(request);
    const h = http_send(at(r), r.byteLength, at(body), body.byteLength);
    return h < 0 ? null : new Http(h);
  }

  // The body of the answer.
  body(): ArrayBuffer {
    let buf = new ArrayBuffer(4096);
    const n = http_read(this.h, at(buf), buf.byteLength);
    if (n <= buf.byteLength) return buf.slice(0, n);
    buf = new ArrayBuffer(n);
    http_read(this.h, at(buf), n);
    return buf;
  }

  // Status and headers of the answer as JSON: {"status":200,"header":{"content-type":"text/plain"}}.
  meta(): string {
    let buf = new ArrayBuffer(1024);
    let n = http_meta(this.h, at(buf), buf.byteLength);
    if (n > buf.byteLength) {
      buf = new ArrayBuffer(n);
      n = http_meta(this.h, at(buf), n);
    }
    return String.UTF8.decode(buf.slice(0, n));
  }

  close(): void { http_close(this.h); }
}

// The wall clock in milliseconds since 1970.
export function nowMs(): i64 { return now_ms(); }

// n random bytes.
export function random(n: i32): ArrayBuffer {
  const buf = new ArrayBuffer(n);
  host_random(at(buf), n);
  return buf;
}

// What a failed assertion or an index out of range does: say where, then trap.
export function abort(message: string | null, file: string | null, line: u32, column: u32): void {
  const m = utf8((message == null ? "abort" : message) + " at " + (file == null ? "?" : file) + ":" + line.toString() + ":" + column.toString());
  host_fail(at(m), m.byteLength);
  unreachable();
}
