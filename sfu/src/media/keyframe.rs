//! Keyframe requests: many subscribers ask, the publisher hears once.

use std::time::{Duration, Instant};

/// Merges the keyframe requests (PLI or FIR) that subscribers make for one published layer.
///
/// A keyframe costs several delta frames, so a publisher that answered every subscriber would flood
/// its own uplink. The first request goes out at once, then they stay [`SPACING`] or a round trip apart,
/// whichever is longer, and back off along [`RETRIES`] until a keyframe *starts*: a request lost on the way
/// is simply asked again. A bucket of [`BURST`], refilled one a second, holds the average at one a second
/// whatever the subscribers do.
///
/// RFC 4585 §6.3.1 (PLI), RFC 5104 §4.3.1 (FIR).
#[derive(Debug, Default)]
pub struct KeyframeRequests {
    /// Someone is waiting and no keyframe has come yet.
    wanted: bool,
    /// Requests made for this keyframe.
    asked: usize,
    /// When the first of them was made.
    first_asked_at: Option<Instant>,
    /// When we last asked, for this keyframe or an earlier one.
    asked_at: Option<Instant>,
    /// The bucket, as the time at which it will be full again (the generic cell rate algorithm).
    full_at: Option<Instant>,
}

/// What became of a subscriber's request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Want {
    /// The first since the last keyframe.
    Fresh,
    /// Others wait already; it rides with theirs.
    Merged,
}

impl KeyframeRequests {
    /// Nobody waits.
    pub fn new() -> KeyframeRequests {
        KeyframeRequests::default()
    }

    /// A subscriber cannot decode until the next keyframe.
    pub fn want(&mut self) -> Want {
        match std::mem::replace(&mut self.wanted, true) {
            false => Want::Fresh,
            true => Want::Merged,
        }
    }

    /// Nobody waits any more.
    pub fn withdraw(&mut self) {
        self.wanted = false;
        self.asked = 0;
        self.first_asked_at = None;
    }

    /// The publisher is heard again after an outage: what was asked meanwhile did not reach it, so that the wait
    /// for the next request is the shortest again.
    pub fn renew(&mut self) {
        self.asked = self.asked.min(1);
    }

    /// When the publisher was first asked for the keyframe that has not come yet.
    pub fn waiting_since(&self) -> Option<Instant> {
        self.first_asked_at
    }

    /// Whether to ask the publisher now. Answering `true` counts as having asked.
    /// `rtt` is the round trip to the publisher, zero if unknown.
    pub fn poll(&mut self, now: Instant, rtt: Duration) -> bool {
        let due = self.due(now, rtt).is_some_and(|at| at <= now);
        if due {
            self.asked += 1;
            self.asked_at = Some(now);
            self.first_asked_at.get_or_insert(now);
            self.full_at = Some(self.full_at.map_or(now, |at| at.max(now)) + REFILL);
        }
        due
    }

    /// When to poll again, `now` at the earliest. `None` while nobody waits.
    pub fn poll_timeout(&self, now: Instant, rtt: Duration) -> Option<Instant> {
        self.due(now, rtt).map(|at| at.max(now))
    }

    /// A keyframe started. Returns how long it took from the first request, if it was requested.
    pub fn on_keyframe(&mut self, now: Instant) -> Option<Duration> {
        self.wanted = false;
        self.asked = 0;
        self.first_asked_at.take().map(|at| now.saturating_duration_since(at))
    }

    fn due(&self, now: Instant, rtt: Duration) -> Option<Instant> {
        if !self.wanted {
            return None;
        }
        let spacing = SPACING.max(rtt);
        let spacing = match self.asked {
            0 => spacing,
            asked => spacing.max(*RETRIES.get(asked - 1).unwrap_or(&LAST_RETRY)),
        };
        let spaced = self.asked_at.map_or(now, |at| at + spacing);
        // A token is there once the bucket lacks no more than all others.
        let empty_for = self.full_at.map_or(Duration::ZERO, |at| {
            at.saturating_duration_since(now).saturating_sub(REFILL * (BURST - 1))
        });
        Some(spaced.max(now + empty_for))
    }
}

/// Least time between two requests. libwebrtc ignores what comes sooner (`kMinKeyframeSendIntervalMs`).
const SPACING: Duration = Duration::from_millis(300);
/// How long after each request the next one follows: 0.3, 0.5, 1, 2, then every 5 s.
const RETRIES: [Duration; 4] = [
    Duration::from_millis(300),
    Duration::from_millis(500),
    Duration::from_millis(1_000),
    Duration::from_millis(2_000),
];
const LAST_RETRY: Duration = Duration::from_secs(5);
/// Ten requests in ten seconds.
const BURST: u32 = 10;
const REFILL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{at, ms};

    const NO_RTT: Duration = Duration::ZERO;

    /// The times, in milliseconds, at which a millisecond clock sees requests go out.
    fn asked(requests: &mut KeyframeRequests, times: std::ops::Range<u64>, rtt: Duration) -> Vec<u64> {
        times.filter(|time| requests.poll(at(*time), rtt)).collect()
    }

    #[test]
    fn asks_at_once_and_again_until_a_keyframe_comes() {
        let mut requests = KeyframeRequests::new();
        assert!(!requests.poll(at(0), NO_RTT), "nobody waits");
        assert_eq!(requests.want(), Want::Fresh);
        let times = asked(&mut requests, 0..15_000, NO_RTT);
        assert_eq!(times, [0, 300, 800, 1_800, 3_800, 8_800, 13_800]);
        assert_eq!(requests.on_keyframe(at(15_000)), Some(ms(15_000)));
        assert!(!requests.poll(at(20_000), NO_RTT));
        assert_eq!(requests.poll_timeout(at(20_000), NO_RTT), None);
    }

    #[test]
    fn a_publisher_that_is_back_is_asked_at_once() {
        let mut requests = KeyframeRequests::new();
        requests.want();
        assert_eq!(asked(&mut requests, 0..6_000, NO_RTT), [0, 300, 800, 1_800, 3_800]);
        requests.renew();
        assert_eq!(asked(&mut requests, 6_000..10_000, NO_RTT), [6_000, 6_500, 7_500, 9_500]);
    }

    #[test]
    fn many_subscribers_are_one_request() {
        let mut requests = KeyframeRequests::new();
        assert_eq!(requests.want(), Want::Fresh);
        assert_eq!(requests.want(), Want::Merged);
        assert!(requests.poll(at(0), NO_RTT));
        assert_eq!(requests.want(), Want::Merged);
        assert!(!requests.poll(at(1), NO_RTT));
        assert_eq!(requests.on_keyframe(at(120)), Some(ms(120)));
        assert_eq!(requests.want(), Want::Fresh);
    }

    #[test]
    fn a_new_want_keeps_its_distance_from_the_last_request() {
        let mut requests = KeyframeRequests::new();
        requests.want();
        assert!(requests.poll(at(0), NO_RTT));
        requests.on_keyframe(at(100));
        requests.want();
        assert_eq!(requests.poll_timeout(at(150), NO_RTT), Some(at(300)));
        assert_eq!(asked(&mut requests, 150..700, NO_RTT), [300, 600]);
    }

    #[test]
    fn a_long_round_trip_spaces_requests_wider() {
        let mut requests = KeyframeRequests::new();
        requests.want();
        assert_eq!(asked(&mut requests, 0..5_000, ms(700)), [0, 700, 1_400, 2_400, 4_400]);
    }

    #[test]
    fn a_keyframe_nobody_asked_for_has_no_latency() {
        let mut requests = KeyframeRequests::new();
        assert_eq!(requests.on_keyframe(at(0)), None);
        requests.want();
        assert_eq!(requests.on_keyframe(at(5)), None, "it came before we asked");
        assert!(!requests.poll(at(10), NO_RTT));
    }

    #[test]
    fn the_timeout_is_when_polling_helps() {
        let mut requests = KeyframeRequests::new();
        requests.want();
        assert_eq!(requests.poll_timeout(at(7), NO_RTT), Some(at(7)));
        assert!(requests.poll(at(7), NO_RTT));
        assert_eq!(requests.poll_timeout(at(7), NO_RTT), Some(at(307)));
    }

    #[test]
    fn a_storm_of_wants_averages_one_a_second() {
        let mut requests = KeyframeRequests::new();
        let mut times = vec![];
        for time in (0..60_000).step_by(10) {
            requests.want();
            if requests.poll(at(time), NO_RTT) {
                times.push(time);
                requests.on_keyframe(at(time + 1));
            }
        }
        assert!(times[..3].iter().eq(&[0, 300, 600]), "a burst is let through: {times:?}");
        assert!((65..=70).contains(&times.len()), "{}", times.len());
        let last_minute_half = times.iter().filter(|time| **time >= 30_000).count();
        assert!(last_minute_half <= 31, "{last_minute_half}");
    }

    proptest! {
        #[test]
        fn never_sooner_than_the_spacing_nor_oftener_than_the_bucket(
            events in proptest::collection::vec((0u8..3, 1u64..900), 1..300), rtt in 0u64..1_000,
        ) {
            let (mut requests, mut now, mut times) = (KeyframeRequests::new(), 0, vec![]);
            for (event, step) in events {
                now += step;
                match event {
                    0 => { requests.want(); }
                    1 => { requests.on_keyframe(at(now)); }
                    _ => {}
                }
                let promised = requests.poll_timeout(at(now), ms(rtt)) == Some(at(now));
                let asked = requests.poll(at(now), ms(rtt));
                prop_assert_eq!(promised, asked);
                times.extend(asked.then_some(now));
            }
            for pair in times.windows(2) {
                prop_assert!(pair[1] - pair[0] >= 300.max(rtt));
            }
            for window in times.windows(21) {
                prop_assert!(window[20] - window[0] >= 10_000, "more than 20 in 10 s");
            }
        }
    }
}
