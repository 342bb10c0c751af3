//! Packets that a subscriber misses, and those of them that are on their way to it again.

use std::collections::VecDeque;

use crate::ids::Feed;

/// Repairs whose fate is still open: more than a queue takes are not under way between two feedback messages.
const REMEMBERED: usize = 256;

/// A packet that a subscriber misses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Missing {
    pub slot: u16,
    /// The number under which it went out.
    pub number: u64,
    /// What it was when it came.
    pub feed: Feed,
    pub seq: u64,
}

/// Repairs under way, by transport-wide number. A client asks for a packet again once it believes that the repair
/// is lost, too, which may be long after its feedback has said so: libwebrtc waits for 100 ms where it receives only,
/// since nothing tells it the round trip.
#[derive(Debug, Default)]
pub struct UnderWay {
    /// In order of their numbers.
    repairs: VecDeque<(u64, Missing)>,
}

impl UnderWay {
    /// A repair has been sealed; its transport-wide number is higher than those before.
    pub fn add(&mut self, transport: u64, missing: Missing) {
        if self.repairs.len() == REMEMBERED {
            self.repairs.pop_front();
        }
        self.repairs.push_back((transport, missing));
    }

    /// The packet with this number has come: if it was a repair, other copies of it may get lost.
    pub fn arrive(&mut self, transport: u64) {
        if let Ok(at) = self.repairs.binary_search_by_key(&transport, |(number, _)| *number) {
            let (_, come) = self.repairs[at];
            self.repairs.retain(|(_, missing)| *missing != come);
        }
    }

    /// The packet with this number is lost: what it was to repair, if it was a repair, and the latest of its packet.
    pub fn lose(&mut self, transport: u64) -> Option<Missing> {
        let at = self.repairs.binary_search_by_key(&transport, |(number, _)| *number).ok()?;
        let (_, missing) = self.repairs.remove(at)?;
        let again = self.repairs.range(at..).any(|(_, later)| *later == missing);
        (!again).then_some(missing)
    }
}

#[test]
fn a_lost_repair_is_told_once() {
    let mut keys = slotmap::SlotMap::with_key();
    let feed = Feed { track: keys.insert(()), layer: 0, run: 0 };
    let missing = |seq| Missing { slot: 0, number: seq, feed, seq };
    let mut under_way = UnderWay::default();
    (0..300).for_each(|n| under_way.add(n * 3, missing(n)));
    assert_eq!(under_way.lose(897), Some(missing(299)));
    assert_eq!(under_way.lose(897), None);
    assert_eq!(under_way.lose(896), None, "no repair");
    assert_eq!(under_way.lose(0), None, "forgotten");
    under_way.add(900, missing(298));
    assert_eq!(under_way.lose(894), None, "another repair of it is under way");
    assert_eq!(under_way.lose(900), Some(missing(298)));
    under_way.add(903, missing(297));
    under_way.arrive(891);
    assert_eq!(under_way.lose(903), None, "one copy has come");
}
