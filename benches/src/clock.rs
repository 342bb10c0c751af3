//! The clocks of a load generator.

use std::time::{Duration, Instant, SystemTime};

/// The monotonic time.
#[expect(clippy::disallowed_methods, reason = "a load generator runs in real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// The wall clock since the epoch: the line on which the kernel stamps what arrives.
#[expect(clippy::disallowed_methods, reason = "send times are compared with kernel stamps")]
pub fn wall() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
