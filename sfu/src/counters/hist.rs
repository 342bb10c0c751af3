//! Histograms with fixed bounds, cheap enough for the packet path.

use std::time::Duration;

use super::cells::cells;

cells! {
    /// Counts durations under `N` bounds. The bounds are constants that the owner passes in, so a
    /// histogram is nothing but counts.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct Hist<const N: usize> {
        /// Values at most the bound of the same index and above the one before: not cumulative.
        pub buckets: [u64; N],
        /// Values above the last bound (`le="+Inf"`).
        pub over: u64,
        /// In billionths: nanoseconds, mostly. An integer, because adding a nanosecond to a large float does nothing.
        pub sum: u64,
    }
}

impl<const N: usize> Default for Hist<N> {
    fn default() -> Self {
        Hist { buckets: [0; N], over: 0, sum: 0 }
    }
}

impl<const N: usize> Hist<N> {
    /// Counts one value.
    #[inline]
    pub fn record(&mut self, bounds: &[u64; N], value: Duration) {
        self.record_n(bounds, value, 1);
    }

    /// Counts `n` equal values: a batch carries one timestamp, so its packets share one latency.
    #[inline]
    pub fn record_n(&mut self, bounds: &[u64; N], value: Duration, n: u64) {
        self.record_nanos(bounds, nanos(value), n);
    }

    /// Counts a share of a whole.
    pub fn record_ratio(&mut self, bounds: &[u64; N], value: f64) {
        self.record_nanos(bounds, (value.clamp(0.0, 1.0) * 1e9).round() as u64, 1);
    }

    /// Counts a number that is no time and no share: bounds and sum are in whole units.
    pub fn record_number(&mut self, bounds: &[u64; N], value: u64) {
        self.record_nanos(bounds, value, 1);
    }

    #[inline]
    fn record_nanos(&mut self, bounds: &[u64; N], value: u64, n: u64) {
        // Counting all bounds has no branch to mispredict; stopping at the first match has.
        let index = bounds.iter().filter(|bound| value > **bound).count();
        *self.buckets.get_mut(index).unwrap_or(&mut self.over) += n;
        self.sum = self.sum.wrapping_add(value.wrapping_mul(n));
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum::<u64>() + self.over
    }
}

/// In nanoseconds; saturates after 584 years.
#[inline]
pub fn nanos(time: Duration) -> u64 {
    time.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(time.subsec_nanos()))
}

const US: u64 = 1_000;
const MS: u64 = 1_000_000;

/// Forward latency: 50 µs to 1 s.
pub const FORWARD_LATENCY: [u64; 14] = [
    50 * US,
    100 * US,
    250 * US,
    500 * US,
    MS,
    2 * MS,
    5 * MS,
    10 * MS,
    20 * MS,
    50 * MS,
    100 * MS,
    250 * MS,
    500 * MS,
    1_000 * MS,
];

/// Event-loop lag and queue delay: 100 µs to 1 s.
pub const LOOP_LAG: [u64; 12] = [
    100 * US,
    250 * US,
    500 * US,
    MS,
    2 * MS,
    5 * MS,
    10 * MS,
    20 * MS,
    50 * MS,
    100 * MS,
    250 * MS,
    1_000 * MS,
];

/// Join stages: 100 ms to 10 s, with a bound on the two-second objective.
pub const JOIN: [u64; 10] = [
    100 * MS,
    250 * MS,
    500 * MS,
    750 * MS,
    1_000 * MS,
    1_500 * MS,
    2_000 * MS,
    3_000 * MS,
    5_000 * MS,
    10_000 * MS,
];

/// Media latency: 25 ms to 2 s, with a bound on the quarter of a second that is promised.
pub const MEDIA_LATENCY: [u64; 12] = [
    25 * MS,
    50 * MS,
    75 * MS,
    100 * MS,
    150 * MS,
    200 * MS,
    250 * MS,
    300 * MS,
    400 * MS,
    600 * MS,
    1_000 * MS,
    2_000 * MS,
];

/// Round trips: 5 ms to 2 s.
pub const RTT: [u64; 13] = [
    5 * MS,
    10 * MS,
    20 * MS,
    35 * MS,
    50 * MS,
    75 * MS,
    100 * MS,
    150 * MS,
    200 * MS,
    300 * MS,
    500 * MS,
    1_000 * MS,
    2_000 * MS,
];

/// Interarrival jitter: 1 to 250 ms.
pub const JITTER: [u64; 9] = [MS, 2 * MS, 5 * MS, 10 * MS, 20 * MS, 30 * MS, 50 * MS, 100 * MS, 250 * MS];

/// Lost shares: none, one in a thousand, up to all, with bounds on two, three and five per cent. In billionths.
pub const LOSS: [u64; 11] =
    [0, MS, 5 * MS, 10 * MS, 20 * MS, 30 * MS, 50 * MS, 100 * MS, 200 * MS, 400 * MS, 1_000 * MS];

/// Keyframe latency: 50 ms to 5 s.
pub const KEYFRAME_LATENCY: [u64; 8] =
    [50 * MS, 100 * MS, 200 * MS, 300 * MS, 500 * MS, 1_000 * MS, 2_000 * MS, 5_000 * MS];

/// Bitrates: 50 kb/s to 8 Mb/s. In bits per second.
pub const BITRATE: [u64; 9] =
    [50_000, 150_000, 300_000, 500_000, 1_000_000, 1_500_000, 2_500_000, 4_000_000, 8_000_000];

/// Pictures a second.
pub const FPS: [u64; 7] = [5, 10, 15, 20, 24, 30, 60];

#[test]
fn a_value_on_a_bound_belongs_below_it() {
    let mut hist = Hist::default();
    hist.record(&KEYFRAME_LATENCY, Duration::from_millis(50));
    hist.record(&KEYFRAME_LATENCY, Duration::from_nanos(50_000_001));
    hist.record_n(&KEYFRAME_LATENCY, Duration::from_secs(5), 3);
    hist.record(&KEYFRAME_LATENCY, Duration::from_nanos(5_000_000_001));
    assert_eq!(hist.buckets, [1, 1, 0, 0, 0, 0, 0, 3]);
    assert_eq!(hist.over, 1);
    assert_eq!(hist.count(), 6);
    assert_eq!(hist.sum, 50 * MS + (50 * MS + 1) + 15_000 * MS + (5_000 * MS + 1));
}

#[test]
fn an_absurd_value_is_counted_all_the_same() {
    let mut hist = Hist::default();
    hist.record_n(&JOIN, Duration::MAX, u64::from(u32::MAX));
    assert_eq!(hist.over, u64::from(u32::MAX));
}
