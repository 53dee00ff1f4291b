//! The average of the last readings of each line, kept in the node's state.
//!
//! In:  plant/{line}/celsius   {"c":91.0}
//! Out: plant/{line}/average   {"avg":90.512,"n":8}
//!
//! State: w/<line> = the newest readings, oldest first, eight bytes each.
#![no_std]
#![no_main]

#[macro_use]
#[path = "../../sdk/rust/mayfly.rs"]
mod mayfly;

use core::fmt::Write;
use mayfly::{config, kv_get, kv_put, publish, Error, Qos, Stop, Text};

/// The most readings a window may have.
const MAX: usize = 64;

/// How many readings the setting `window` asks for.
fn window() -> Result<usize, Stop> {
    let mut buf = [0; 8];
    let text = match config("window", &mut buf) {
        Err(Error::Absent) => return Ok(8),
        other => other?,
    };
    match core::str::from_utf8(text).ok().and_then(|s| s.parse().ok()) {
        Some(n) if (1..=MAX).contains(&n) => Ok(n),
        _ => Err(Stop::Reject("the setting window is not a number from 1 to 64")),
    }
}

/// The number behind `"c":`. A reading is one flat object, so looking for the member's name is enough.
fn reading(data: &[u8]) -> Option<f64> {
    let text = core::str::from_utf8(data).ok()?;
    let (_, rest) = text.split_once("\"c\"")?;
    let rest = rest.trim_start().strip_prefix(':')?;
    let end = rest.find(|c| c == ',' || c == '}')?;
    rest[..end].trim().parse().ok().filter(|x| (-1e12..1e12).contains(x))
}

/// Pushes a reading into the window and returns its average and how many there are.
fn push(key: &[u8], value: f64, window: usize) -> Result<(f64, usize), Stop> {
    let mut old = [0; 8 * MAX];
    let kept = match kv_get(key, &mut old) {
        Err(Error::Absent) => &[],
        other => other?,
    };
    let skip = (kept.len() / 8 + 1).saturating_sub(window) * 8;
    let mut new = [0; 8 * MAX];
    let len = kept.len() - skip;
    new[..len].copy_from_slice(&kept[skip..]);
    new[len..len + 8].copy_from_slice(&value.to_le_bytes());
    kv_put(key, &new[..len + 8], 0)?;

    let n = len / 8 + 1;
    let mut sum = 0.0;
    for x in new[..8 * n].chunks_exact(8) {
        sum += f64::from_le_bytes([x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]]);
    }
    Ok((sum / n as f64, n))
}

handle!(|event| {
    let (mut data, mut name) = ([0; 512], [0; 128]);
    let value = reading(event.data(&mut data)?).ok_or(Stop::Reject("no number \"c\" in the reading"))?;
    let line = core::str::from_utf8(event.attr("topic.line", &mut name)?).map_err(|_| Stop::Reject("the line is not text"))?;

    let mut key = Text::<160>::new();
    write!(key, "w/{}", line)?;
    let (avg, n) = push(key.bytes(), value, window()?)?;

    // Thousandths as integers: the formatting of floating point would be half of the module.
    let thousandths = (avg * 1000.0) as i64;
    let (sign, size) = (if thousandths < 0 { "-" } else { "" }, thousandths.unsigned_abs());
    let (mut topic, mut body) = (Text::<192>::new(), Text::<64>::new());
    write!(topic, "plant/{}/average", line)?;
    write!(body, "{{\"avg\":{}{}.{:03},\"n\":{}}}", sign, size / 1000, size % 1000, n)?;
    publish(topic.str(), body.bytes(), Qos::AtLeastOnce)?;
    Ok(())
});
