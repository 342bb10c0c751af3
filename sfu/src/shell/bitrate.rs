//! What comes and goes, averaged over the last seconds.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::counters::ByDirection;

/// The average is over the last five seconds, whoever asks and how often.
const WINDOW: Duration = Duration::from_secs(5);

/// Byte counts of the last few seconds.
#[derive(Default)]
pub struct Bitrates {
    /// Oldest first, and never empty after the first.
    readings: VecDeque<(Instant, ByDirection)>,
}

impl Bitrates {
    /// Bytes in and out so far. Returns bits per second.
    pub fn on_bytes(&mut self, now: Instant, bytes: ByDirection) -> ByDirection {
        self.readings.push_back((now, bytes));
        while self.readings.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW) {
            self.readings.pop_front();
        }
        let Some((since, before)) = self.readings.front() else { return ByDirection::default() };
        let micros = now.saturating_duration_since(*since).as_micros().max(1);
        [0, 1].map(|at| {
            let bits = u128::from(bytes[at].saturating_sub(before[at])) * 8;
            u64::try_from(bits * 1_000_000 / micros).unwrap_or(u64::MAX)
        })
    }
}

#[test]
fn the_last_five_seconds_count() {
    use crate::testing::at;
    let mut rates = Bitrates::default();
    assert_eq!(rates.on_bytes(at(0), [0, 0]), [0, 0]);
    assert_eq!(rates.on_bytes(at(1_000), [1_000, 2_000]), [8_000, 16_000]);
    for second in 2..=6 {
        rates.on_bytes(at(second * 1_000), [second * 1_000, 2_000]);
    }
    assert_eq!(rates.on_bytes(at(7_000), [7_000, 2_000]), [8_000, 0]);
    for second in 8..=12 {
        rates.on_bytes(at(second * 1_000), [7_000, 2_000]);
    }
    assert_eq!(rates.on_bytes(at(13_000), [7_000, 2_000]), [0, 0]);
}
