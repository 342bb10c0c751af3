//! The one clock. Everything below the shell is told the time.

use std::time::{Duration, Instant, SystemTime};

/// The monotonic time.
#[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
pub fn now() -> Instant {
    Instant::now()
}

/// When an instant is, in seconds since the epoch, by the wall clock as it is now.
#[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
pub fn epoch_seconds(now: Instant, at: Instant) -> f64 {
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let ahead = at.saturating_duration_since(now).as_secs_f64();
    wall.as_secs_f64() + ahead - now.saturating_duration_since(at).as_secs_f64()
}

/// When an instant is, in milliseconds since the epoch.
pub fn epoch_millis(now: Instant, at: Instant) -> u64 {
    (epoch_seconds(now, at) * 1e3) as u64
}

/// One reading of both clocks, to place kernel receive timestamps (wall clock) on the monotonic line.
///
/// A new pair is read for every batch, so a step of the wall clock spoils at most the packets that were in
/// the socket's buffer at that moment, and those are clamped.
#[derive(Clone, Copy)]
pub struct Reading {
    pub monotonic: Instant,
    wall: Duration,
}

/// Longer than this a datagram does not wait in a socket buffer that anyone still reads.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

impl Reading {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
    pub fn take() -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Reading { monotonic: now(), wall }
    }

    /// When a datagram stamped `kernel` (since the epoch) arrived. Without a stamp: at the reading.
    pub fn arrival(&self, kernel: Option<Duration>) -> Instant {
        let waited = kernel.map_or(Duration::ZERO, |stamp| self.wall.saturating_sub(stamp));
        self.monotonic.checked_sub(waited.min(LONGEST_WAIT)).unwrap_or(self.monotonic)
    }
}

#[test]
fn a_kernel_stamp_lies_in_the_recent_past() {
    let reading = Reading::take();
    let ago = |ms| Some(reading.wall - Duration::from_millis(ms));
    assert_eq!(reading.monotonic - reading.arrival(ago(3)), Duration::from_millis(3));
    assert_eq!(
        reading.monotonic - reading.arrival(ago(60_000)),
        LONGEST_WAIT,
        "a stepped wall clock is clamped"
    );
    assert_eq!(reading.arrival(Some(reading.wall + LONGEST_WAIT)), reading.monotonic, "never in the future");
    assert_eq!(reading.arrival(None), reading.monotonic);
}
