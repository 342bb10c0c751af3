//! Virtual time: one origin per process, and durations from it.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The origin of every story. Only differences to it matter.
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant has no other origin; read once, then time is virtual"
)]
pub fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(Instant::now)
}

/// How far into the story `at` lies.
pub fn since_origin(at: Instant) -> Duration {
    at.saturating_duration_since(origin())
}

/// The wall clock of the story, as sender reports write it: 32.32 fixed point seconds.
pub fn ntp(at: Instant) -> u64 {
    let micros = since_origin(at).as_micros() + 3_900_000_000_000_000;
    ((micros << 32) / 1_000_000) as u64
}

pub const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// `5.percent()` reads as it is said.
pub trait Percent {
    fn percent(self) -> f64;
}

impl Percent for u32 {
    fn percent(self) -> f64 {
        f64::from(self) / 100.0
    }
}
