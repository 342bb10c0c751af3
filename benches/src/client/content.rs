//! One published stream as one receiver gets it, by the publisher's own numbering.

use std::collections::HashSet;

/// What became of one packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// The next, or later ones are missing before it.
    Newest {
        /// How many were skipped.
        missing: u64,
    },
    /// Counted as missing before.
    Late,
    /// Dropped by us on purpose before.
    Repair,
    /// Here already.
    Repeated,
}

/// Which packets of a stream have been here.
#[derive(Default)]
pub struct Content {
    /// The number after the highest seen.
    next: u64,
    /// One bit per number, modulo [`WINDOW`].
    seen: Vec<u64>,
    /// What we threw away and has not come again.
    dropped: HashSet<u64>,
}

impl Content {
    /// A packet is here.
    pub fn arrive(&mut self, seq: u64) -> Arrival {
        let arrival = if self.dropped.remove(&seq) { Arrival::Repair } else { self.place(seq) };
        self.mark(seq);
        arrival
    }

    /// A packet was here and is taken for lost. `None`: it is not the first time that it came.
    pub fn drop(&mut self, seq: u64) -> Option<Arrival> {
        if self.dropped.contains(&seq) {
            return None;
        }
        let arrival = self.place(seq);
        if arrival == Arrival::Repeated {
            return None;
        }
        self.dropped.insert(seq);
        Some(arrival)
    }

    /// What we threw away and was not repaired.
    pub fn unrepaired(&self) -> u64 {
        self.dropped.len() as u64
    }

    /// Forgets what was thrown away.
    pub fn forget(&mut self) {
        self.dropped.clear();
    }

    fn place(&mut self, seq: u64) -> Arrival {
        if seq >= self.next {
            let missing = seq - self.next;
            self.clear(self.next, seq + 1);
            self.next = seq + 1;
            return Arrival::Newest { missing };
        }
        // Beyond the window nothing is known; that late, it was counted as missing.
        let known = self.next - seq <= WINDOW;
        if known && self.has(seq) { Arrival::Repeated } else { Arrival::Late }
    }

    fn clear(&mut self, from: u64, to: u64) {
        self.seen.resize(WORDS, 0);
        if to - from >= WINDOW {
            self.seen.fill(0);
            return;
        }
        (from..to).for_each(|seq| self.seen[word(seq)] &= !bit(seq));
    }

    fn has(&self, seq: u64) -> bool {
        self.seen[word(seq)] & bit(seq) != 0
    }

    fn mark(&mut self, seq: u64) {
        if self.next - seq <= WINDOW {
            self.seen[word(seq)] |= bit(seq);
        }
    }
}

fn word(seq: u64) -> usize {
    (seq / 64) as usize % WORDS
}

fn bit(seq: u64) -> u64 {
    1 << (seq % 64)
}

/// Longer than anybody repairs: 0.7 s at 6000 packets a second.
const WINDOW: u64 = 64 * WORDS as u64;
const WORDS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packet_is_booked_once() {
        let mut content = Content::default();
        assert_eq!(content.arrive(0), Arrival::Newest { missing: 0 });
        assert_eq!(content.arrive(3), Arrival::Newest { missing: 2 });
        assert_eq!(content.arrive(1), Arrival::Late);
        assert_eq!(content.arrive(1), Arrival::Repeated);
        assert_eq!(content.drop(4), Some(Arrival::Newest { missing: 0 }));
        assert_eq!(content.drop(4), None);
        assert_eq!(content.unrepaired(), 1);
        assert_eq!(content.arrive(4), Arrival::Repair);
        assert_eq!(content.arrive(4), Arrival::Repeated);
        assert_eq!(content.drop(4), None);
        assert_eq!(content.arrive(10_000), Arrival::Newest { missing: 9_995 });
        assert_eq!(content.arrive(9_999), Arrival::Late);
    }
}
