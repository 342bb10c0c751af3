//! Virtual time for tests.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The instant `ms` milliseconds into the story. Every test of a run shares the origin.
pub(crate) fn at(ms: u64) -> Instant {
    at_micros(ms * 1_000)
}

/// The instant `micros` microseconds into the story.
pub(crate) fn at_micros(micros: u64) -> Instant {
    base() + Duration::from_micros(micros)
}

/// `ms` milliseconds.
pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[expect(
    clippy::disallowed_methods,
    reason = "an Instant has no other origin; read once, then time is virtual"
)]
fn base() -> Instant {
    static BASE: OnceLock<Instant> = OnceLock::new();
    *BASE.get_or_init(Instant::now)
}
