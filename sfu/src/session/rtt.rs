//! The round trip to a peer that receives from us, by its receiver reports (RFC 3550 §6.4.1); and what a peer needs to
//! measure it that sends us nothing to report on (RFC 3611 §4.4, §4.5).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rtcp::extended_report::dlrr::DLRRReport;

/// Sender reports remembered: a few seconds' worth for several streams.
const REMEMBERED: usize = 64;

/// Sources of one peer that are told how long the way is, each second.
const MOST_REFERENCES: usize = 8;

/// Believed until a report says better.
const ASSUMED: Duration = Duration::from_millis(100);

/// Longer than this is a confused report, not a network.
const LONGEST: Duration = Duration::from_secs(5);

/// One connection's round-trip time.
#[derive(Debug)]
pub struct RoundTrip {
    sent: VecDeque<(u32, Instant)>,
    smoothed: Option<Duration>,
    /// The latest that a report has told.
    sample: Option<Duration>,
    /// The peer's reference times, the last of each of its sources: whose, the middle of its NTP timestamp, and when it
    /// came.
    references: Vec<(u32, u32, Instant)>,
}

impl RoundTrip {
    pub fn new() -> Self {
        RoundTrip { sent: VecDeque::new(), smoothed: None, sample: None, references: Vec::new() }
    }

    /// The current belief; never zero.
    pub fn get(&self) -> Duration {
        self.smoothed.unwrap_or(ASSUMED).max(Duration::from_millis(1))
    }

    /// What is known of it.
    pub fn measured(&self) -> Option<Duration> {
        self.smoothed
    }

    /// The latest that a report has told, once.
    pub fn take_sample(&mut self) -> Option<Duration> {
        self.sample.take()
    }

    /// Something came back after this long: the round trip took no longer.
    pub fn on_at_most(&mut self, age: Duration) {
        self.smoothed = Some(self.smoothed.map_or(age, |known| known.min(age)));
    }

    /// A sender report with this NTP time has left.
    pub fn on_sender_report(&mut self, now: Instant, ntp: u64) {
        if self.sent.len() == REMEMBERED {
            self.sent.pop_front();
        }
        self.sent.push_back((middle(ntp), now));
    }

    /// The peer, as `ssrc`, told the time. libwebrtc asks for audio and for video, each as its own source.
    pub fn on_reference(&mut self, now: Instant, ssrc: u32, ntp: u64) {
        self.references.retain(|(other, ..)| *other != ssrc);
        if self.references.len() < MOST_REFERENCES {
            self.references.push((ssrc, middle(ntp), now));
        }
    }

    /// The answers to the peer's last reference times, once.
    pub fn poll_answers(&mut self, now: Instant) -> Vec<DLRRReport> {
        let answer = |(ssrc, last_rr, came)| DLRRReport {
            ssrc,
            last_rr,
            dlrr: units(now.saturating_duration_since(came)),
        };
        self.references.drain(..).map(answer).collect()
    }

    /// A report block came back: which sender report it saw last, and how long ago, in 1/65536 s.
    pub fn on_report_block(&mut self, now: Instant, last: u32, delay: u32) {
        let Some((_, sent_at)) = self.sent.iter().rev().find(|(ntp, _)| *ntp == last) else { return };
        let held = Duration::from_micros(u64::from(delay) * 1_000_000 / 65_536);
        let Some(sample) = now.saturating_duration_since(*sent_at).checked_sub(held) else { return };
        if sample <= LONGEST {
            self.sample = Some(sample);
            // As TCP does, RFC 6298 §2: seven eighths of the old.
            self.smoothed = Some(self.smoothed.map_or(sample, |old| (old * 7 + sample) / 8));
        }
    }
}

/// In the 1/65536 s of reports.
fn units(delay: Duration) -> u32 {
    u32::try_from(delay.as_micros() * 65_536 / 1_000_000).unwrap_or(u32::MAX)
}

/// The middle 32 bits of an NTP timestamp: what reports refer to it by.
fn middle(ntp: u64) -> u32 {
    (ntp >> 16) as u32
}

#[test]
fn a_round_trip_is_what_is_left_after_the_peer_held_the_report() {
    use crate::testing::at;
    let mut rtt = RoundTrip::new();
    assert_eq!(rtt.get(), ASSUMED);
    rtt.on_sender_report(at(1_000), 0xAAAA_BBBB_CCCC_DDDD);
    rtt.on_report_block(at(1_540), 0xBBBB_CCCC, 65_536 / 2);
    assert_eq!(rtt.get(), Duration::from_millis(40));
    assert_eq!(rtt.take_sample(), Some(Duration::from_millis(40)));
    assert_eq!(rtt.take_sample(), None, "once");
    rtt.on_report_block(at(1_540), 0x1111_2222, 0);
    assert_eq!(rtt.get(), Duration::from_millis(40), "a report we never sent says nothing");
    rtt.on_report_block(at(1_100), 0xBBBB_CCCC, 65_536);
    assert_eq!(rtt.get(), Duration::from_millis(40), "nor one that was held longer than it travelled");
}

#[test]
fn a_reference_time_is_answered_once() {
    use crate::testing::at;
    let mut rtt = RoundTrip::new();
    assert_eq!(rtt.poll_answers(at(1_000)), []);
    rtt.on_reference(at(1_000), 7, 0xAAAA_BBBB_CCCC_DDDD);
    rtt.on_reference(at(2_000), 7, 0xAAAA_BBBC_CCCC_DDDD);
    rtt.on_reference(at(2_250), 8, 0xAAAA_BBBD_CCCC_DDDD);
    let answer = |ssrc, last_rr, dlrr| DLRRReport { ssrc, last_rr, dlrr };
    assert_eq!(rtt.poll_answers(at(2_250)), [answer(7, 0xBBBC_CCCC, 65_536 / 4), answer(8, 0xBBBD_CCCC, 0)]);
    assert_eq!(rtt.poll_answers(at(3_000)), []);
    (0..100).for_each(|ssrc| rtt.on_reference(at(4_000), ssrc, 0));
    assert_eq!(rtt.poll_answers(at(4_000)).len(), MOST_REFERENCES);
}
