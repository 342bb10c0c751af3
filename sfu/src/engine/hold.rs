//! Subscribers whose packets wait a moment for others to leave with.
//!
//! A paced frame arrives packet by packet, and each that leaves alone costs a system call, which is most of what
//! forwarding costs. A worker with little to do sends at once; one that is busy waits a few milliseconds for the next.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::ids::PeerKey;

/// Who waits, and how long.
#[derive(Default, Debug)]
pub struct Hold {
    window: Duration,
    /// In order of the times since which they wait.
    waiting: VecDeque<(Instant, PeerKey)>,
}

impl Hold {
    /// Packets wait so long at most from now on; zero: not at all.
    pub fn set_window(&mut self, window: Duration) {
        self.window = window;
    }

    /// Whether anything waits at all.
    #[inline]
    pub fn is_on(&self) -> bool {
        !self.window.is_zero()
    }

    /// The subscriber has something to send that may wait. It was not waiting before.
    #[inline]
    pub fn add(&mut self, now: Instant, key: PeerKey) {
        self.waiting.push_back((now, key));
    }

    /// Who has waited long enough, and may have left or sent everything since.
    pub fn pop_due(&mut self, now: Instant) -> Option<PeerKey> {
        self.next().filter(|at| *at <= now)?;
        self.waiting.pop_front().map(|(_, key)| key)
    }

    /// When the next has waited long enough.
    pub fn next(&self) -> Option<Instant> {
        self.waiting.front().map(|(since, _)| *since + self.window)
    }
}

#[test]
fn who_waits_is_due_after_the_window_and_at_once_when_it_closes() {
    use crate::testing::{at, ms};
    let mut keys = slotmap::SlotMap::with_key();
    let [ada, bob] = [0; 2].map(|_| keys.insert(()));
    let mut hold = Hold::default();
    assert!(!hold.is_on());
    hold.set_window(ms(4));
    hold.add(at(10), ada);
    hold.add(at(12), bob);
    assert_eq!((hold.pop_due(at(13)), hold.next()), (None, Some(at(14))));
    assert_eq!((hold.pop_due(at(14)), hold.pop_due(at(14))), (Some(ada), None));
    hold.set_window(ms(0));
    assert_eq!((hold.pop_due(at(14)), hold.next()), (Some(bob), None));
}
