//! Latencies, counted rather than kept: a run of a minute has twenty million of them.

use std::time::Duration;

/// Microseconds in buckets no wider than 1/64 of what they hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Histogram {
    counts: Vec<u64>,
    max: u32,
}

impl Histogram {
    /// Counts one.
    pub fn record(&mut self, latency: Duration) {
        let micros = latency.as_micros().min(u128::from(u32::MAX)) as u32;
        let bucket = bucket_of(micros);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.max = self.max.max(micros);
    }

    /// Counts what another has counted.
    pub fn add(&mut self, other: &Histogram) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, theirs)| *mine += theirs);
        self.max = self.max.max(other.max);
    }

    /// The latency that this share of them stays within.
    pub fn quantile(&self, share: f64) -> Duration {
        let total: u64 = self.counts.iter().sum();
        let mut left = (total as f64 * share).ceil() as u64;
        for (bucket, count) in self.counts.iter().enumerate() {
            left = left.saturating_sub(*count);
            if left == 0 {
                return Duration::from_micros(top_of(bucket).min(self.max).into());
            }
        }
        self.max()
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.max.into())
    }
}

/// Below 64 a bucket each, then 64 to every doubling.
fn bucket_of(micros: u32) -> usize {
    let octave = (31 - (micros | 63).leading_zeros()).saturating_sub(5);
    let within = (micros >> octave.saturating_sub(1)) as usize;
    if octave == 0 { within } else { (octave as usize - 1) * 64 + within }
}

/// The largest that falls into a bucket.
fn top_of(bucket: usize) -> u32 {
    if bucket < 128 {
        return bucket as u32;
    }
    let shift = bucket / 64 - 1;
    let within = (bucket % 64 + 64) as u64;
    (((within + 1) << shift) - 1).min(u64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_one_another_and_are_narrow() {
        let mut last = 0;
        for micros in 0..1_000_000 {
            let bucket = bucket_of(micros);
            assert!(bucket == last || bucket == last + 1, "{micros}: {last} then {bucket}");
            assert!(top_of(bucket) >= micros && top_of(bucket) - micros <= micros / 64, "{micros}");
            last = bucket;
        }
        assert_eq!(top_of(bucket_of(u32::MAX)), u32::MAX);
    }

    #[test]
    fn quantiles_are_read_off() {
        let mut histogram = Histogram::default();
        (1..=1_000).for_each(|micros| histogram.record(Duration::from_micros(micros)));
        let mut both = Histogram::default();
        both.add(&histogram);
        assert_eq!(both.quantile(0.05), Duration::from_micros(50));
        assert!((495..=510).contains(&both.quantile(0.5).as_micros()));
        assert_eq!(both.quantile(1.0), Duration::from_micros(1_000));
        assert_eq!(Histogram::default().quantile(0.5), Duration::ZERO);
    }
}
