//! Telling a publisher its cap: REMB, as browsers obey it.
//!
//! Chromium and Firefox hold to a REMB within half a second even when transport-wide feedback is on, and
//! never let it time out. So a cap is sent at once, repeated in case of loss, then kept up each second; to
//! lift it, a large finite value is sent the same way, because some senders read zero as zero.
//! draft-alvestrand-rmcat-remb-03.

use std::time::{Duration, Instant};

use crate::units::Bitrate;

/// What "no cap" is written as. Far above any camera, far below where float exponents misbehave.
pub const LIFTED: Bitrate = Bitrate::mbps(100);
const QUICK: Duration = Duration::from_millis(100);
const QUICK_REPEATS: u8 = 3;
const STEADY: Duration = Duration::from_secs(1);

/// The cap on what one peer may publish, and when to say so again.
pub struct PublishCap {
    cap: Option<Bitrate>,
    due: Option<Instant>,
    quick_left: u8,
}

impl PublishCap {
    pub fn new(cap: Option<Bitrate>) -> Self {
        PublishCap { cap, due: None, quick_left: 0 }
    }

    pub fn get(&self) -> Option<Bitrate> {
        self.cap
    }

    /// Changes the cap. `None` lifts it.
    pub fn set(&mut self, now: Instant, cap: Option<Bitrate>) {
        self.cap = cap;
        self.due = Some(now);
        self.quick_left = QUICK_REPEATS;
    }

    /// The connection is up: from here on a cap can be told.
    pub fn announce(&mut self, now: Instant) {
        if self.cap.is_some() {
            self.set(now, self.cap);
        }
    }

    /// The rate to send in a REMB now, if one is due.
    pub fn poll(&mut self, now: Instant) -> Option<Bitrate> {
        if self.due? > now {
            return None;
        }
        self.due = match (self.quick_left, self.cap) {
            (0, None) => None,
            (0, Some(_)) => Some(now + STEADY),
            _ => Some(now + QUICK),
        };
        self.quick_left = self.quick_left.saturating_sub(1);
        Some(self.cap.unwrap_or(LIFTED))
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }
}

#[test]
fn a_cap_is_told_at_once_thrice_more_and_then_each_second() {
    use crate::testing::at;
    let mut cap = PublishCap::new(None);
    assert_eq!(cap.poll_timeout(), None);
    cap.set(at(0), Some(Bitrate::kbps(500)));
    let mut told = Vec::new();
    for ms in 0..3_000 {
        if cap.poll(at(ms)) == Some(Bitrate::kbps(500)) {
            told.push(ms);
        }
    }
    assert_eq!(told, [0, 100, 200, 300, 1_300, 2_300]);
}

#[test]
fn lifting_says_a_large_value_and_then_falls_silent() {
    use crate::testing::at;
    let mut cap = PublishCap::new(Some(Bitrate::kbps(500)));
    cap.set(at(0), None);
    let told: Vec<_> = (0..5_000).filter(|ms| cap.poll(at(*ms)) == Some(LIFTED)).collect();
    assert_eq!(told, [0, 100, 200, 300]);
    assert_eq!(cap.poll_timeout(), None);
}
