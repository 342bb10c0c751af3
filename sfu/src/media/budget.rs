//! What a stream may cost, and does: a token bucket and a rate meter.

use std::time::{Duration, Instant};

use crate::units::Bitrate;

/// Lets bytes pass at a rate, and a burst of them at once. Full at first.
#[derive(Debug)]
pub struct TokenBucket {
    rate: Bitrate,
    /// In millionths of a bit, so that a microsecond at any rate is a whole number.
    burst: i64,
    /// Below zero after [`spend`](TokenBucket::spend).
    credit: i64,
    refilled_at: Option<Instant>,
}

impl TokenBucket {
    /// `burst` is in bytes. More than that never passes at once, so let it be a packet at least.
    pub fn new(rate: Bitrate, burst: u64) -> TokenBucket {
        let burst = microbits(burst);
        TokenBucket { rate, burst, credit: burst, refilled_at: None }
    }

    /// Takes `bytes` if they are there; else leaves the bucket as it is.
    pub fn take(&mut self, now: Instant, bytes: usize) -> bool {
        self.refill(now);
        let rest = self.credit.saturating_sub(microbits(bytes as u64));
        if rest >= 0 {
            self.credit = rest;
        }
        rest >= 0
    }

    /// Takes `bytes` whether they are there or not: what is owed is paid by time.
    pub fn spend(&mut self, now: Instant, bytes: usize) {
        self.refill(now);
        self.credit = self.credit.saturating_sub(microbits(bytes as u64));
    }

    /// Whether anything could pass now.
    pub fn has_any(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.credit > 0
    }

    /// Whether half of the burst could pass now.
    pub fn is_half_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.credit >= self.burst / 2
    }

    /// Changes the rate, from the last [`TokenBucket::take`] on.
    pub fn set_rate(&mut self, rate: Bitrate) {
        self.rate = rate;
    }

    fn refill(&mut self, now: Instant) {
        let since = *self.refilled_at.get_or_insert(now);
        let micros = u64::try_from(now.saturating_duration_since(since).as_micros()).unwrap_or(u64::MAX);
        let earned = i64::try_from(micros.saturating_mul(self.rate.as_bps())).unwrap_or(i64::MAX);
        self.credit = self.credit.saturating_add(earned).min(self.burst);
        // Whole microseconds only: the rest stays for the next refill.
        self.refilled_at = Some(since + Duration::from_micros(micros));
    }
}

/// Measures a rate over the last second, sliding in steps of 100 ms of which the oldest fades out.
/// In its first second it reads low.
#[derive(Debug, Default)]
pub struct RateMeter {
    epoch: Option<Instant>,
    /// Bytes by step, the step's number modulo the length: ten, and the one that fades.
    steps: [u64; STEPS],
    /// The number of the newest step.
    newest: u64,
}

impl RateMeter {
    /// Counts bytes.
    pub fn add(&mut self, now: Instant, bytes: usize) {
        self.epoch.get_or_insert(now);
        let (step, _) = self.step(now);
        let passed = step.saturating_sub(self.newest).min(STEPS as u64);
        for gone in 1..=passed {
            self.steps[index(self.newest + gone)] = 0;
        }
        // A clock that steps back counts into the newest step.
        self.newest = self.newest.max(step);
        let bucket = &mut self.steps[index(self.newest)];
        *bucket = bucket.saturating_add(bytes as u64);
    }

    /// The rate over the second that ends now.
    pub fn rate(&self, now: Instant) -> Bitrate {
        let (step, into) = self.step(now);
        let (step, into) = if step < self.newest { (self.newest, 0) } else { (step, into) };
        // What a step in the window holds. Steps after the newest are empty, whatever their slot says.
        let held = |age: u64| match step.checked_sub(age) {
            Some(number) if number <= self.newest => self.steps[index(number)],
            _ => 0,
        };
        let whole: u64 = (0..STEPS as u64 - 1).map(held).sum();
        let fading = held(STEPS as u64 - 1) * (STEP_MICROS - into) / STEP_MICROS;
        Bitrate::bps((whole + fading).saturating_mul(8))
    }

    /// The step `now` falls in, and how many microseconds into it.
    fn step(&self, now: Instant) -> (u64, u64) {
        let since = self.epoch.map_or(Duration::ZERO, |epoch| now.saturating_duration_since(epoch));
        let micros = since.as_micros() as u64;
        (micros / STEP_MICROS, micros % STEP_MICROS)
    }
}

fn index(step: u64) -> usize {
    (step % STEPS as u64) as usize
}

fn microbits(bytes: u64) -> i64 {
    i64::try_from(bytes.saturating_mul(MICROBITS_PER_BYTE)).unwrap_or(i64::MAX)
}

const MICROBITS_PER_BYTE: u64 = 8_000_000;
const STEP_MICROS: u64 = 100_000;
/// A second of steps, and the one that fades out.
const STEPS: usize = 11;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{at, at_micros};

    #[test]
    fn a_bucket_passes_its_burst_and_then_its_rate() {
        let mut bucket = TokenBucket::new(Bitrate::kbps(800), 3_000);
        assert!(bucket.take(at(0), 3_000));
        assert!(!bucket.take(at(0), 1));
        // 800 kb/s is 100 bytes a millisecond.
        assert!(!bucket.take(at_micros(9_999), 1_000));
        assert!(bucket.take(at(10), 1_000));
        assert!(bucket.take(at(1_000), 3_000), "full again, and no fuller");
        assert!(!bucket.take(at(1_000), 1));
        bucket.set_rate(Bitrate::kbps(8));
        assert!(!bucket.take(at(1_999), 1_000));
        assert!(bucket.take(at(2_000), 1_000));
    }

    #[test]
    fn the_meter_slides_over_a_second() {
        let mut meter = RateMeter::default();
        assert_eq!(meter.rate(at(0)), Bitrate::bps(0));
        for time in (0..3_000).step_by(10) {
            meter.add(at(time), 1_250);
        }
        let steady = meter.rate(at(2_999)).as_bps();
        assert!((990_000..=1_010_000).contains(&steady), "{steady}");
        let half = meter.rate(at(3_500)).as_bps();
        assert!((490_000..=510_000).contains(&half), "{half}");
        assert_eq!(meter.rate(at(4_000)), Bitrate::bps(0));
        assert_eq!(meter.rate(at(60_000)), Bitrate::bps(0));
        meter.add(at(60_000), 125);
        assert_eq!(meter.rate(at(60_000)), Bitrate::kbps(1), "nothing of the old is left");
    }

    #[test]
    fn a_burst_fades_out() {
        let mut meter = RateMeter::default();
        meter.add(at(50), 1_000);
        assert_eq!(meter.rate(at(1_049)), Bitrate::bps(8_000));
        assert_eq!(meter.rate(at(1_100)), Bitrate::bps(4_000));
        assert_eq!(meter.rate(at(1_150)), Bitrate::bps(0));
    }

    proptest! {
        #[test]
        fn a_bucket_never_passes_more_than_burst_and_rate(
            kbps in 1u64..20_000, burst in 1_500u64..100_000, packets in proptest::collection::vec((0u64..5_000, 1usize..1_500), 1..300),
        ) {
            let rate = Bitrate::kbps(kbps);
            let mut bucket = TokenBucket::new(rate, burst);
            let (mut now, mut passed) = (0, 0);
            for (gap, bytes) in packets {
                now += gap;
                if bucket.take(at_micros(now), bytes) {
                    passed += bytes as u64;
                } else {
                    // Refused only for want of credit: what came in, less what went, is not enough.
                    prop_assert!(passed + bytes as u64 > rate.bytes_in(Duration::from_micros(now)).min(burst));
                }
                prop_assert!(passed <= burst + rate.bytes_in(Duration::from_micros(now)) + 1);
            }
        }

        #[test]
        fn the_meter_is_within_a_tenth_of_a_second_of_the_truth(
            packets in proptest::collection::vec((0u64..50_000, 0usize..2_000), 1..300),
        ) {
            let mut meter = RateMeter::default();
            let (mut now, mut sent) = (1_000_000, vec![]);
            for (gap, bytes) in packets {
                now += gap;
                meter.add(at_micros(now), bytes);
                sent.push((now, bytes as u64));
                let within = |micros: u64| -> u64 {
                    sent.iter().filter(|(time, _)| *time + micros > now).map(|(_, bytes)| bytes * 8).sum()
                };
                let rate = meter.rate(at_micros(now)).as_bps();
                prop_assert!((within(900_000)..=within(1_100_000)).contains(&rate));
            }
        }
    }
}
