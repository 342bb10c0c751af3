//! One direction of one client's way: a link, what is under way on it, and what is known of it.

use std::collections::BTreeMap;
use std::time::Instant;

use super::tap::Tap;
use super::{Conditions, clear};
use crate::world::Link;
use crate::world::dice::Dice;

/// What became of datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// By the link; one that comes twice counts once.
    pub carried: u64,
    /// By the link's dice, or because its queue was full.
    pub lost: u64,
    /// Of those carried, how many took any time.
    pub late: u64,
    /// Carried by the link, but there was no more room to keep them until they were due.
    pub overflown: u64,
}

pub(super) struct Leg {
    link: Link,
    tap: Tap,
    /// By the time of arrival, and by number among those that arrive at once.
    under_way: BTreeMap<(Instant, u64), Box<[u8]>>,
    next: u64,
    late: u64,
    overflown: u64,
}

impl Leg {
    pub(super) fn new(dice: Dice, conditions: Conditions) -> Leg {
        let mut link = Link::new(dice);
        link.conditions = conditions;
        Leg { link, tap: Tap::default(), under_way: BTreeMap::new(), next: 0, late: 0, overflown: 0 }
    }

    pub(super) fn set(&mut self, conditions: Conditions) {
        self.link.conditions = conditions;
    }

    /// Takes a datagram from the sender.
    pub(super) fn handle(&mut self, now: Instant, datagram: &[u8]) {
        let arrivals = self.link.carry(now, datagram.len());
        self.tap.on_datagram(now, datagram, arrivals[0].is_some());
        self.late += u64::from(arrivals[0].is_some_and(|at| at > now));
        for at in arrivals.into_iter().flatten() {
            if self.under_way.len() == MAX_UNDER_WAY {
                self.overflown += 1;
                continue;
            }
            self.under_way.insert((at, self.next), datagram.into());
            self.next += 1;
        }
    }

    /// The next datagram that is due at the receiver.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Box<[u8]>> {
        let entry = self.under_way.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }

    /// When the next one is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.under_way.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn counts(&self) -> Counts {
        let Leg { link, late, overflown, .. } = self;
        Counts { carried: link.carried, lost: link.lost, late: *late, overflown: *overflown }
    }

    pub(super) fn tap(&self) -> &Tap {
        &self.tap
    }

    /// The tap begins anew.
    pub(super) fn forget(&mut self) {
        self.tap = Tap::default();
    }
}

impl Default for Leg {
    fn default() -> Leg {
        Leg::new(Dice::new(0), clear())
    }
}

/// A second at 50 Mb/s in packets of 1200 bytes.
const MAX_UNDER_WAY: usize = 5_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::Loss;
    use crate::world::clock::origin;
    use crate::world::ms;

    /// What arrives in each of the first milliseconds.
    fn arrivals(leg: &mut Leg, until: u64) -> Vec<(u64, Vec<u8>)> {
        let mut found = Vec::new();
        for at in 0..until {
            while let Some(datagram) = leg.poll(origin() + ms(at)) {
                found.push((at, datagram.to_vec()));
            }
        }
        found
    }

    #[test]
    fn order_is_kept_among_those_that_arrive_at_once() {
        let mut leg = Leg::new(Dice::new(1), Conditions { delay: ms(25), ..clear() });
        for number in 0..3 {
            leg.handle(origin(), &[number]);
        }
        assert_eq!(leg.poll_timeout(), Some(origin() + ms(25)));
        assert_eq!(arrivals(&mut leg, 50), [(25, vec![0]), (25, vec![1]), (25, vec![2])]);
        assert_eq!(leg.poll_timeout(), None);
        assert_eq!(leg.counts(), Counts { carried: 3, late: 3, ..Counts::default() });
    }

    #[test]
    fn a_clear_leg_passes_on_at_once() {
        let mut leg = Leg::default();
        leg.handle(origin(), b"now");
        assert_eq!(leg.poll(origin()).as_deref(), Some(&b"now"[..]));
        assert_eq!(leg.counts().late, 0);
    }

    #[test]
    fn new_conditions_spare_what_is_under_way() {
        let mut leg = Leg::new(Dice::new(1), Conditions { delay: ms(40), ..clear() });
        leg.handle(origin(), b"spared");
        leg.set(Conditions { loss: Loss::Random(1.0), ..clear() });
        leg.handle(origin() + ms(1), b"lost");
        assert_eq!(arrivals(&mut leg, 100), [(40, b"spared".to_vec())]);
        assert_eq!(leg.counts(), Counts { carried: 1, lost: 1, late: 1, overflown: 0 });
    }

    #[test]
    fn what_is_doubled_comes_twice_and_counts_once() {
        let mut leg = Leg::new(Dice::new(1), Conditions { duplicate: 1.0, ..clear() });
        leg.handle(origin(), b"twice");
        assert_eq!(arrivals(&mut leg, 10).len(), 2);
        assert_eq!(leg.counts().carried, 1);
    }

    #[test]
    fn what_is_under_way_is_bounded() {
        let mut leg = Leg::new(Dice::new(1), Conditions { delay: ms(1_000), ..clear() });
        for _ in 0..MAX_UNDER_WAY + 7 {
            leg.handle(origin(), b"more");
        }
        assert_eq!(leg.counts().overflown, 7);
        assert_eq!(arrivals(&mut leg, 2_000).len(), MAX_UNDER_WAY);
    }
}
