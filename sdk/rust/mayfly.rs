//! The guest interface `mayfly_v1` for Rust, without the standard library and without an allocator.
//!
//! Take it in as a module of a `no_std` program and define the handler with [`handle!`]:
//!
//! ```ignore
//! #![no_std]
//! #![no_main]
//! #[macro_use]
//! #[path = "mayfly.rs"]
//! mod mayfly;
//! use mayfly::*;
//!
//! handle!(|event| {
//!     let mut buf = [0; 256];
//!     publish("plant/alarm", event.data(&mut buf)?, Qos::AtLeastOnce)?;
//!     Ok(())
//! });
//! ```
//!
//!     rustc --edition 2021 --target wasm32-unknown-unknown --crate-type cdylib -C opt-level=s -C panic=abort f.rs
//!
//! What a handler asked for becomes true all at once when it returns `Ok`. [`Stop::Retry`] and [`Stop::Reject`] leave
//! nothing behind but log lines; any [`Error`] turns into one of them by `?`: what may pass is tried again, what may not is
//! rejected.
#![allow(dead_code)]

use core::fmt;

mod raw {
    #[link(wasm_import_module = "mayfly_v1")]
    extern "C" {
        pub fn event_data(buf: *mut u8, cap: usize) -> i32;
        pub fn event_attr(name: *const u8, nlen: usize, buf: *mut u8, cap: usize) -> i32;
        pub fn event_json(buf: *mut u8, cap: usize) -> i32;
        pub fn publish(topic: *const u8, tlen: usize, data: *const u8, dlen: usize, flags: u32) -> i32;
        pub fn respond(data: *const u8, dlen: usize) -> i32;
        pub fn respond_attr(name: *const u8, nlen: usize, val: *const u8, vlen: usize) -> i32;
        pub fn fail(msg: *const u8, mlen: usize);
        pub fn retry_after(ms: i64);
        pub fn kv_get(key: *const u8, klen: usize, buf: *mut u8, cap: usize) -> i32;
        pub fn kv_put(key: *const u8, klen: usize, val: *const u8, vlen: usize, ttl_ms: i64) -> i32;
        pub fn kv_del(key: *const u8, klen: usize) -> i32;
        pub fn kv_incr(key: *const u8, klen: usize, delta: i64, out: *mut i64) -> i32;
        pub fn kv_cas(key: *const u8, klen: usize, ver: i64, val: *const u8, vlen: usize) -> i64;
        pub fn kv_ver(key: *const u8, klen: usize) -> i64;
        pub fn kv_list(prefix: *const u8, plen: usize, cursor: *const u8, clen: usize, buf: *mut u8, cap: usize) -> i32;
        pub fn config_get(key: *const u8, klen: usize, buf: *mut u8, cap: usize) -> i32;
        pub fn secret_get(key: *const u8, klen: usize, buf: *mut u8, cap: usize) -> i32;
        pub fn log(level: u32, msg: *const u8, mlen: usize);
        pub fn http_send(req: *const u8, rlen: usize, body: *const u8, blen: usize) -> i32;
        pub fn http_read(h: i32, buf: *mut u8, cap: usize) -> i32;
        pub fn http_meta(h: i32, buf: *mut u8, cap: usize) -> i32;
        pub fn http_close(h: i32);
        pub fn now_ms() -> i64;
        pub fn left_ms() -> i64;
        pub fn random(buf: *mut u8, n: usize);
    }
}

/// Why a call was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    Absent,
    Denied,
    Invalid,
    TooLarge,
    Limit,
    Unavailable,
    Conflict,
    Deadline,
    /// The caller's buffer is too small; the value has this many bytes.
    Buffer(usize),
    Unknown(i32),
}

/// Why a handler stops before the event is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// Try again later.
    Retry(&'static str),
    /// Never try again: dead letter.
    Reject(&'static str),
}

impl From<Error> for Stop {
    fn from(e: Error) -> Stop {
        match e {
            Error::Unavailable | Error::Conflict | Error::Deadline => Stop::Retry("not available now"),
            Error::Absent => Stop::Reject("something is absent"),
            Error::Denied => Stop::Reject("not permitted by the manifest"),
            Error::Limit => Stop::Reject("over a limit"),
            Error::TooLarge | Error::Buffer(_) => Stop::Reject("too large"),
            Error::Invalid | Error::Unknown(_) => Stop::Reject("invalid call"),
        }
    }
}

/// How surely a message is to be delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Qos {
    AtMostOnce = 0,
    AtLeastOnce = 1,
}

/// Levels of log lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    Debug = 0,
    Info = 1,
    Warn = 2,
    Error = 3,
}

fn check(code: i64) -> Result<u64, Error> {
    match code {
        0.. => Ok(code as u64),
        -1 => Err(Error::Absent),
        -2 => Err(Error::Denied),
        -3 => Err(Error::Invalid),
        -4 => Err(Error::TooLarge),
        -5 => Err(Error::Limit),
        -6 => Err(Error::Unavailable),
        -7 => Err(Error::Conflict),
        -8 => Err(Error::Deadline),
        _ => Err(Error::Unknown(code as i32)),
    }
}

fn done(code: i32) -> Result<(), Error> {
    check(code as i64).map(|_| ())
}

fn filled(code: i32, buf: &[u8]) -> Result<&[u8], Error> {
    match check(code as i64)? as usize {
        n if n > buf.len() => Err(Error::Buffer(n)),
        n => Ok(&buf[..n]),
    }
}

/// The event that is being handled.
pub struct Event(());

impl Event {
    /// The event's data, in `buf`.
    pub fn data<'a>(&self, buf: &'a mut [u8]) -> Result<&'a [u8], Error> {
        filled(unsafe { raw::event_data(buf.as_mut_ptr(), buf.len()) }, buf)
    }

    /// An attribute such as `id`, `topic`, `topic.<capture>` or `attempt`, in `buf`.
    pub fn attr<'a>(&self, name: &str, buf: &'a mut [u8]) -> Result<&'a [u8], Error> {
        filled(unsafe { raw::event_attr(name.as_ptr(), name.len(), buf.as_mut_ptr(), buf.len()) }, buf)
    }

    /// All attributes as CloudEvents JSON, without the data.
    pub fn json<'a>(&self, buf: &'a mut [u8]) -> Result<&'a [u8], Error> {
        filled(unsafe { raw::event_json(buf.as_mut_ptr(), buf.len()) }, buf)
    }

    /// Milliseconds until the event's deadline.
    pub fn left_ms(&self) -> i64 {
        unsafe { raw::left_ms() }
    }
}

/// Publishes data on a topic.
pub fn publish(topic: &str, data: &[u8], qos: Qos) -> Result<(), Error> {
    done(unsafe { raw::publish(topic.as_ptr(), topic.len(), data.as_ptr(), data.len(), qos as u32) })
}

/// Publishes data on a topic, for the broker to keep.
pub fn publish_retained(topic: &str, data: &[u8], qos: Qos) -> Result<(), Error> {
    done(unsafe { raw::publish(topic.as_ptr(), topic.len(), data.as_ptr(), data.len(), qos as u32 | 4) })
}

/// Answers whoever waits for the event.
pub fn respond(data: &[u8]) -> Result<(), Error> {
    done(unsafe { raw::respond(data.as_ptr(), data.len()) })
}

/// Sets `status`, `content-type` or `header.<name>` of the answer.
pub fn respond_attr(name: &str, value: &str) -> Result<(), Error> {
    done(unsafe { raw::respond_attr(name.as_ptr(), name.len(), value.as_ptr(), value.len()) })
}

/// Wishes for a delay before the next attempt.
pub fn retry_after(ms: i64) {
    unsafe { raw::retry_after(ms) }
}

/// The value of a key of the function's state, in `buf`.
pub fn kv_get<'a>(key: &[u8], buf: &'a mut [u8]) -> Result<&'a [u8], Error> {
    filled(unsafe { raw::kv_get(key.as_ptr(), key.len(), buf.as_mut_ptr(), buf.len()) }, buf)
}

/// Sets a key; `ttl_ms` 0 is for ever.
pub fn kv_put(key: &[u8], value: &[u8], ttl_ms: i64) -> Result<(), Error> {
    done(unsafe { raw::kv_put(key.as_ptr(), key.len(), value.as_ptr(), value.len(), ttl_ms) })
}

/// Deletes a key.
pub fn kv_del(key: &[u8]) -> Result<(), Error> {
    done(unsafe { raw::kv_del(key.as_ptr(), key.len()) })
}

/// Adds to a counter and returns its new value.
pub fn kv_incr(key: &[u8], delta: i64) -> Result<i64, Error> {
    let mut out = 0;
    done(unsafe { raw::kv_incr(key.as_ptr(), key.len(), delta, &mut out) })?;
    Ok(out)
}

/// Sets a key if it still has version `ver` (0: if it is absent) and returns the new version.
pub fn kv_cas(key: &[u8], ver: u64, value: &[u8]) -> Result<u64, Error> {
    check(unsafe { raw::kv_cas(key.as_ptr(), key.len(), ver as i64, value.as_ptr(), value.len()) })
}

/// The version of a key, 0 when it is absent.
pub fn kv_ver(key: &[u8]) -> Result<u64, Error> {
    check(unsafe { raw::kv_ver(key.as_ptr(), key.len()) })
}

/// A page of the keys that start with `prefix` and come after the key `after`, ascending, as many as fit into `buf`. The last one
/// is the next `after`; an empty page is the end.
pub fn kv_list<'a>(prefix: &[u8], after: &[u8], buf: &'a mut [u8]) -> Result<Keys<'a>, Error> {
    let n = unsafe { raw::kv_list(prefix.as_ptr(), prefix.len(), after.as_ptr(), after.len(), buf.as_mut_ptr(), buf.len()) };
    filled(n, buf).map(Keys)
}

/// The keys of a page: each is its length in two bytes, low byte first, and its bytes.
pub struct Keys<'a>(&'a [u8]);

impl<'a> Iterator for Keys<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let len = u16::from_le_bytes([*self.0.get(0)?, *self.0.get(1)?]) as usize;
        let (key, rest) = (self.0.get(2..2 + len)?, &self.0[2 + len..]);
        self.0 = rest;
        Some(key)
    }
}

/// A setting of the manifest's `[config]`, in `buf`.
pub fn config<'a>(key: &str, buf: &'a mut [u8]) -> Result<&'a [u8], Error> {
    filled(unsafe { raw::config_get(key.as_ptr(), key.len(), buf.as_mut_ptr(), buf.len()) }, buf)
}

/// A secret the manifest grants, in `buf`.
pub fn secret<'a>(key: &str, buf: &'a mut [u8]) -> Result<&'a [u8], Error> {
    filled(unsafe { raw::secret_get(key.as_ptr(), key.len(), buf.as_mut_ptr(), buf.len()) }, buf)
}

/// Writes a log line.
pub fn log(level: Level, text: &str) {
    unsafe { raw::log(level as u32, text.as_ptr(), text.len()) }
}

/// The wall clock, in milliseconds since 1970.
pub fn now_ms() -> i64 {
    unsafe { raw::now_ms() }
}

/// Fills `buf` with random bytes.
pub fn random(buf: &mut [u8]) {
    unsafe { raw::random(buf.as_mut_ptr(), buf.len()) }
}

/// An outbound request that was answered. It happened at once, and happens again when the event is tried again.
pub struct Http(i32);

impl Http {
    /// Sends a request described as JSON: `{"method":"POST","url":"https://..."}`.
    pub fn send(request: &str, body: &[u8]) -> Result<Http, Error> {
        let h = unsafe { raw::http_send(request.as_ptr(), request.len(), body.as_ptr(), body.len()) };
        check(h as i64).map(|h| Http(h as i32))
    }

    /// The body of the answer, in `buf`.
    pub fn read<'a>(&self, buf: &'a mut [u8]) -> Result<&'a [u8], Error> {
        filled(unsafe { raw::http_read(self.0, buf.as_mut_ptr(), buf.len()) }, buf)
    }

    /// Status and headers of the answer as JSON, in `buf`.
    pub fn meta<'a>(&self, buf: &'a mut [u8]) -> Result<&'a [u8], Error> {
        filled(unsafe { raw::http_meta(self.0, buf.as_mut_ptr(), buf.len()) }, buf)
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        unsafe { raw::http_close(self.0) };
    }
}

/// Text put together with `write!` in a buffer of N bytes.
pub struct Text<const N: usize> {
    buf: [u8; N],
    len: usize,
}

impl<const N: usize> Text<N> {
    pub fn new() -> Self {
        Text { buf: [0; N], len: 0 }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.buf[..self.len]
    }

    pub fn str(&self) -> &str {
        // Only whole strings were ever put in.
        unsafe { core::str::from_utf8_unchecked(self.bytes()) }
    }
}

impl<const N: usize> fmt::Write for Text<N> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let end = self.len + s.len();
        self.buf.get_mut(self.len..end).ok_or(fmt::Error)?.copy_from_slice(s.as_bytes());
        self.len = end;
        Ok(())
    }
}

impl From<fmt::Error> for Stop {
    fn from(_: fmt::Error) -> Stop {
        Stop::Reject("a text is too long")
    }
}

/// Runs a handler; used by [`handle!`].
pub fn run(handler: fn(&Event) -> Result<(), Stop>) -> i32 {
    let (verdict, why) = match handler(&Event(())) {
        Ok(()) => return 0,
        Err(Stop::Retry(why)) => (1, why),
        Err(Stop::Reject(why)) => (2, why),
    };
    unsafe { raw::fail(why.as_ptr(), why.len()) };
    verdict
}

/// Defines the handler of a function.
#[macro_export]
macro_rules! handle {
    ($handler:expr) => {
        #[no_mangle]
        pub extern "C" fn mayfly_handle() -> i32 {
            $crate::mayfly::run($handler)
        }
    };
}

#[cfg(target_arch = "wasm32")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    core::arch::wasm32::unreachable()
}
