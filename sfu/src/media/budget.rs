//! What a stream may cost: a token bucket, a rate meter, and the policer that holds a publisher to its cap.

use std::time::{Duration, Instant};

use crate::ids::MediaKind;
use crate::units::Bitrate;

/// Lets bytes pass at a rate, and a burst of them at once. Full at first.
#[derive(Debug)]
pub struct TokenBucket {
    rate: Bitrate,
    /// In millionths of a bit, so that a microsecond at any rate is a whole number.
    burst: u64,
    credit: u64,
    refilled_at: Option<Instant>,
}

impl TokenBucket {
    /// `burst` is in bytes. More than that never passes at once, so let it be a packet at least.
    pub fn new(rate: Bitrate, burst: u64) -> TokenBucket {
        let burst = burst.saturating_mul(MICROBITS_PER_BYTE);
        TokenBucket { rate, burst, credit: burst, refilled_at: None }
    }

    /// Takes `bytes` if they are there; else leaves the bucket as it is.
    pub fn take(&mut self, now: Instant, bytes: usize) -> bool {
        self.refill(now);
        let cost = (bytes as u64).saturating_mul(MICROBITS_PER_BYTE);
        match self.credit.checked_sub(cost) {
            Some(rest) => {
                self.credit = rest;
                true
            }
            None => false,
        }
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
        self.credit = self.credit.saturating_add(micros.saturating_mul(self.rate.as_bps())).min(self.burst);
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

/// Holds a publisher to its cap at ingress, when asking (REMB) did not.
///
/// Policing starts when the publisher has offered more than 120 % of its cap for 3 s without a break, and
/// ends when it has offered no more than the cap itself for 3 s without a break: what it *offers*, dropped
/// or not. While it lasts, video passes a token bucket of the cap less the audio rate. Audio counts, but
/// is never dropped: it is 3 % of the bytes and most of the call.
#[derive(Debug)]
pub struct Policer {
    cap: Option<Bitrate>,
    offered: RateMeter,
    audio: RateMeter,
    /// Since when the offered rate has been above the line, while not policing.
    over_since: Option<Instant>,
    /// Since when it has been within the cap, while policing.
    within_since: Option<Instant>,
    /// There while policing.
    video: Option<TokenBucket>,
    change: Option<bool>,
}

/// What to do with a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Forward it.
    Pass,
    /// Drop it, as [`DropReason::Policed`](crate::DropReason::Policed).
    Police,
}

impl Policer {
    /// `None` is no cap.
    pub fn new(cap: Option<Bitrate>) -> Policer {
        Policer {
            cap,
            offered: RateMeter::default(),
            audio: RateMeter::default(),
            over_since: None,
            within_since: None,
            video: None,
            change: None,
        }
    }

    /// Changes the cap. Time already spent above the line is not forgiven: a cap that moves every second
    /// must not be a way around it.
    pub fn set_cap(&mut self, cap: Option<Bitrate>) {
        if cap == self.cap {
            return;
        }
        self.cap = cap;
        match cap {
            None => self.stop(),
            Some(cap) if self.video.is_some() => self.video = Some(bucket(cap)),
            Some(_) => {}
        }
    }

    /// What the publisher sends, over the last second.
    pub fn offered(&self, now: Instant) -> Bitrate {
        self.offered.rate(now)
    }

    /// Counts a packet and says whether it goes on.
    pub fn admit(&mut self, now: Instant, kind: MediaKind, bytes: usize) -> Verdict {
        self.offered.add(now, bytes);
        if kind == MediaKind::Audio {
            self.audio.add(now, bytes);
        }
        let Some(cap) = self.cap else {
            return Verdict::Pass;
        };
        self.judge(now, cap);
        match (kind, &mut self.video) {
            (MediaKind::Audio, _) | (_, None) => Verdict::Pass,
            (MediaKind::Video, Some(video)) => {
                let audio = self.audio.rate(now).as_bps();
                video.set_rate(Bitrate::bps(cap.as_bps().saturating_sub(audio)));
                if video.take(now, bytes) { Verdict::Pass } else { Verdict::Police }
            }
        }
    }

    /// Whether the publisher is being policed.
    #[cfg(test)]
    pub fn policing(&self) -> bool {
        self.video.is_some()
    }

    /// Whether policing started (`true`) or ended (`false`) since the last call; the latest change wins.
    pub fn poll_change(&mut self) -> Option<bool> {
        self.change.take()
    }

    fn judge(&mut self, now: Instant, cap: Bitrate) {
        let offered = self.offered.rate(now);
        let long = |since: Instant| now.saturating_duration_since(since) >= PATIENCE;
        if self.video.is_some() {
            if offered > cap {
                self.within_since = None;
            } else if long(*self.within_since.get_or_insert(now)) {
                self.stop();
            }
        } else if offered.as_bps() <= cap.as_bps() / 100 * 120 {
            self.over_since = None;
        } else if long(*self.over_since.get_or_insert(now)) {
            self.over_since = None;
            self.video = Some(bucket(cap));
            self.change = Some(true);
        }
    }

    fn stop(&mut self) {
        (self.over_since, self.within_since) = (None, None);
        if self.video.take().is_some() {
            self.change = Some(false);
        }
    }
}

/// A quarter of a second of the cap, so that a keyframe of ordinary size passes whole, and two packets at least.
fn bucket(cap: Bitrate) -> TokenBucket {
    TokenBucket::new(cap, cap.bytes_in(Duration::from_millis(250)).max(2 * 1_500))
}

const MICROBITS_PER_BYTE: u64 = 8_000_000;
const STEP_MICROS: u64 = 100_000;
/// A second of steps, and the one that fades out.
const STEPS: usize = 11;
/// How long a publisher may take to obey, or must behave to be trusted. Browsers obey a REMB within 1 s.
const PATIENCE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{at, at_micros, ms};

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

    /// Offers video in packets of 1000 bytes every `1000 / packets_per_second` ms, and 32 kb/s of audio.
    fn offer(policer: &mut Policer, times: std::ops::Range<u64>, gap: usize) -> (usize, usize) {
        let (mut passed, mut policed) = (0, 0);
        for time in times {
            if time % gap as u64 == 0 {
                match policer.admit(at(time), MediaKind::Video, 1_000) {
                    Verdict::Pass => passed += 1_000,
                    Verdict::Police => policed += 1_000,
                }
            }
            if time % 20 == 0 {
                assert_eq!(policer.admit(at(time), MediaKind::Audio, 80), Verdict::Pass);
            }
        }
        (passed, policed)
    }

    #[test]
    fn a_publisher_within_a_fifth_over_is_left_alone() {
        let mut policer = Policer::new(Some(Bitrate::kbps(900)));
        // 1000 kb/s of video and 32 of audio: 115 %.
        assert_eq!(offer(&mut policer, 0..60_000, 8).1, 0);
        assert!(!policer.policing());
        assert_eq!(policer.poll_change(), None);
    }

    #[test]
    fn three_seconds_over_and_the_cap_is_law() {
        let cap = Bitrate::kbps(500);
        let mut policer = Policer::new(Some(cap));
        // The meter takes 0.6 s to see that 1 Mb/s is more than 600 kb/s.
        assert_eq!(offer(&mut policer, 0..3_500, 8).1, 0);
        assert!(!policer.policing());
        offer(&mut policer, 3_500..3_700, 8);
        assert!(policer.policing());
        assert_eq!(policer.poll_change(), Some(true));
        assert_eq!(policer.poll_change(), None);
        offer(&mut policer, 3_700..5_000, 8);
        let (passed, policed) = offer(&mut policer, 5_000..15_000, 8);
        let audio = 32_000 * 10 / 8;
        let allowed = cap.bytes_in(ms(10_000)) as usize;
        assert!((allowed - 5_000..=allowed).contains(&(passed + audio)), "{passed} of {allowed}");
        assert_eq!(passed + policed, 1_250_000);
    }

    #[test]
    fn three_seconds_within_the_cap_and_it_is_over() {
        let mut policer = Policer::new(Some(Bitrate::kbps(500)));
        offer(&mut policer, 0..10_000, 8);
        assert_eq!(policer.poll_change(), Some(true));
        // 400 + 32 kb/s. The meter needs most of a second to forget.
        offer(&mut policer, 10_000..13_500, 20);
        assert!(policer.policing());
        offer(&mut policer, 13_500..14_100, 20);
        assert!(!policer.policing());
        assert_eq!(policer.poll_change(), Some(false));
    }

    #[test]
    fn a_short_peak_is_forgiven() {
        let mut policer = Policer::new(Some(Bitrate::kbps(500)));
        for round in 0..10 {
            let start = round * 4_000;
            assert_eq!(offer(&mut policer, start..start + 2_000, 8).1, 0);
            assert_eq!(offer(&mut policer, start + 2_000..start + 4_000, 40).1, 0);
        }
        assert_eq!(policer.poll_change(), None);
    }

    #[test]
    fn a_moving_cap_is_no_way_around() {
        let mut policer = Policer::new(Some(Bitrate::kbps(500)));
        for second in 0..5 {
            policer.set_cap(Some(Bitrate::kbps(500 + second)));
            offer(&mut policer, second * 1_000..(second + 1) * 1_000, 8);
        }
        assert!(policer.policing());
        policer.set_cap(None);
        assert!(!policer.policing());
        assert_eq!(policer.poll_change(), Some(false));
        assert_eq!(offer(&mut policer, 5_000..20_000, 8).1, 0, "no cap, no policing");
    }

    #[test]
    fn audio_alone_is_never_dropped() {
        let mut policer = Policer::new(Some(Bitrate::kbps(10)));
        for time in (0..20_000).step_by(20) {
            assert_eq!(policer.admit(at(time), MediaKind::Audio, 1_000), Verdict::Pass);
        }
        assert!(policer.policing());
        let passes = |time: &u64| policer.admit(at(*time), MediaKind::Video, 1_000) == Verdict::Pass;
        // The burst is 3 packets, 10 kb/s is 12.5 in 10 s, and audio takes its share while the meter knows it.
        let passed = (20_000..30_000).filter(passes).count();
        assert!((10..=15).contains(&passed), "{passed}");
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
