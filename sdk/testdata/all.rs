//! Calls everything once, so that all imports are in the module. It is only looked at, never run.
#![no_std]
#![no_main]

#[macro_use]
#[path = "../rust/mayfly.rs"]
mod mayfly;
use mayfly::*;

handle!(|event| {
    let mut b = [0; 8];
    event.data(&mut b)?;
    event.attr("id", &mut b)?;
    event.json(&mut b)?;
    publish("t", b"d", Qos::AtMostOnce)?;
    publish_retained("t", b"d", Qos::AtLeastOnce)?;
    respond(b"d")?;
    respond_attr("status", "204")?;
    retry_after(event.left_ms() + now_ms());
    kv_get(b"k", &mut b)?;
    kv_put(b"k", b"v", 0)?;
    kv_del(b"k")?;
    kv_incr(b"k", 1)?;
    kv_cas(b"k", kv_ver(b"k")?, b"v")?;
    for key in kv_list(b"k", b"", &mut b)? {
        kv_del(key)?;
    }
    config("k", &mut b)?;
    secret("k", &mut b)?;
    log(Level::Warn, "text");
    random(&mut b);
    let answer = Http::send("{}", b"")?;
    answer.meta(&mut b)?;
    answer.read(&mut b)?;
    Err(Stop::Retry("why"))
});
