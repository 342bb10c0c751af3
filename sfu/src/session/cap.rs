//! Telling a publisher its cap: REMB, as browsers obey it.
//!
//! Chromium and Firefox hold to a REMB within half a second even when transport-wide feedback is on, and
//! never let it time out. So a cap is sent at once, repeated in case of loss, then kept up each second; to
//! lift it, a large finite value is sent the same way, because some senders read zero as zero.
//! draft-alvestrand-rmcat-remb-03.

use std::time::{Duration, Instant};

use crate::event::{Cap, CapScope};
use crate::units::Bitrate;

/// What "no cap" is written as. Far above any camera, far below where float exponents misbehave.
pub const LIFTED: Bitrate = Bitrate::mbps(100);
/// Less is not told: some senders take zero for no cap, and an encoder does nothing useful with so little. What comes
/// above the cap all the same is dropped here.
const LEAST: Bitrate = Bitrate::kbps(10);
const QUICK: Duration = Duration::from_millis(100);
const QUICK_REPEATS: u8 = 3;
const STEADY: Duration = Duration::from_secs(1);

/// The caps on one peer's media in one direction: whoever wants the least has its way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Caps([Option<Bitrate>; CapScope::ALL.len()]);

impl Caps {
    pub fn set(&mut self, scope: CapScope, cap: Option<Bitrate>) {
        self.0[scope as usize] = cap;
    }

    pub fn get(&self, scope: CapScope) -> Option<Bitrate> {
        self.0[scope as usize]
    }

    /// All that are in force.
    pub fn iter(&self) -> impl Iterator<Item = Cap> {
        CapScope::ALL.into_iter().filter_map(|scope| Some(Cap { scope, bitrate: self.get(scope)? }))
    }

    /// The one that binds.
    pub fn least(&self) -> Option<Cap> {
        self.iter().min_by_key(|cap| cap.bitrate)
    }
}

/// The cap on what one peer may publish, and when to say so again.
pub struct PublishCap {
    caps: Caps,
    due: Option<Instant>,
    quick_left: u8,
}

impl PublishCap {
    pub fn new(cap: Option<Bitrate>) -> Self {
        let mut caps = Caps::default();
        caps.set(CapScope::Peer, cap);
        PublishCap { caps, due: None, quick_left: 0 }
    }

    pub fn get(&self) -> Option<Bitrate> {
        self.caps.least().map(|cap| cap.bitrate)
    }

    pub fn caps(&self) -> &Caps {
        &self.caps
    }

    /// Changes one of the caps; `None` lifts it. Returns whether another rate is in force than before.
    pub fn set(&mut self, now: Instant, scope: CapScope, cap: Option<Bitrate>) -> bool {
        let before = self.get();
        self.caps.set(scope, cap);
        let changed = self.get() != before;
        if changed {
            self.tell(now);
        }
        changed
    }

    /// The connection is up: from here on a cap can be told.
    pub fn announce(&mut self, now: Instant) {
        if self.get().is_some() {
            self.tell(now);
        }
    }

    fn tell(&mut self, now: Instant) {
        self.due = Some(now);
        self.quick_left = QUICK_REPEATS;
    }

    /// The rate to send in a REMB now, if one is due.
    pub fn poll(&mut self, now: Instant) -> Option<Bitrate> {
        if self.due? > now {
            return None;
        }
        let cap = self.get();
        self.due = match (self.quick_left, cap) {
            (0, None) => None,
            (0, Some(_)) => Some(now + STEADY),
            _ => Some(now + QUICK),
        };
        self.quick_left = self.quick_left.saturating_sub(1);
        Some(cap.unwrap_or(LIFTED).clamp(LEAST, LIFTED))
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
    assert!(cap.set(at(0), CapScope::Peer, Some(Bitrate::kbps(500))));
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
    assert!(cap.set(at(0), CapScope::Peer, None));
    let told: Vec<_> = (0..5_000).filter(|ms| cap.poll(at(*ms)) == Some(LIFTED)).collect();
    assert_eq!(told, [0, 100, 200, 300]);
    assert_eq!(cap.poll_timeout(), None);
}

#[test]
fn whoever_wants_the_least_has_its_way() {
    use crate::testing::at;
    let mut cap = PublishCap::new(Some(Bitrate::kbps(500)));
    assert!(!cap.set(at(0), CapScope::Room, Some(Bitrate::kbps(800))), "no change");
    assert_eq!(cap.poll_timeout(), None);
    assert!(cap.set(at(0), CapScope::Saturation, Some(Bitrate::kbps(300))));
    assert_eq!(cap.poll(at(0)), Some(Bitrate::kbps(300)));
    assert_eq!(cap.caps().least(), Some(Cap { scope: CapScope::Saturation, bitrate: Bitrate::kbps(300) }));
    assert!(cap.set(at(0), CapScope::Saturation, None));
    assert_eq!(cap.get(), Some(Bitrate::kbps(500)));
    assert_eq!(cap.caps().iter().count(), 2);
}

#[test]
fn absurd_caps_are_told_as_what_senders_understand() {
    use crate::testing::at;
    let mut cap = PublishCap::new(Some(Bitrate::bps(0)));
    cap.announce(at(0));
    assert_eq!(cap.poll(at(0)), Some(LEAST));
    cap.set(at(0), CapScope::Peer, Some(Bitrate::MAX));
    assert_eq!(cap.poll(at(0)), Some(LIFTED));
}
