//! What we sent and when, by transport-wide number: what feedback is matched against.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Packets remembered at most: a second at 1000 packets a second. At 12 bytes each, 12 KiB.
const REMEMBERED: usize = 1024;
/// … and so long: feedback comes every 50 to 250 ms, a round trip late.
const REMEMBERED_FOR: Duration = Duration::from_millis(1_500);

/// One peer's outgoing transport-wide numbering (draft-holmer-rmcat-transport-wide-cc-extensions-01).
///
/// Numbers are given one after the other, so a packet's place says its number.
#[derive(Default)]
pub struct SentPackets {
    recent: VecDeque<Sent>,
    /// What send times are counted from: the first packet's.
    epoch: Option<Instant>,
    /// The next number to give, unwrapped.
    next: u64,
    /// Feedback that named packets no longer, or never, in the ring.
    pub unmatched: u64,
}

#[derive(Clone, Copy)]
struct Sent {
    /// Since the epoch; wraps after 71 minutes, long after the packet is forgotten.
    micros: u32,
    bytes: u16,
    /// What it was, or [`NONE`].
    slot: u16,
    seq: u16,
}

/// A repair is no first packet. No slot has so high an index.
const NONE: First = First { slot: u16::MAX, seq: 0 };

/// A packet that went out for the first time: its slot, and the low bits of its number there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct First {
    pub slot: u16,
    pub seq: u16,
}

/// What feedback tells of a packet. Others are repairs, and what it has told of before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// One that went out for the first time did not arrive.
    FirstLost(First),
    /// Another with this transport-wide number, unwrapped, did not.
    OtherLost(u64),
    /// … and this did.
    OtherCame(u64),
}

/// What a feedback message tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Acknowledged {
    /// Since the newest of its packets was sent: the round trip and the time the receiver waited.
    pub age: Duration,
    /// Its packets, those among them that did not arrive, and the bytes of those that did.
    pub packets: u64,
    pub lost: u64,
    pub arrived: u64,
}

impl SentPackets {
    /// The number the next packet carries.
    #[inline]
    pub fn next_number(&self) -> u16 {
        self.next as u16
    }

    /// The packet numbered [`next_number`](Self::next_number) has been sealed. Returns the number, unwrapped.
    #[inline]
    pub fn record(&mut self, now: Instant, bytes: usize, first: Option<First>) -> u64 {
        let micros = now.saturating_duration_since(*self.epoch.get_or_insert(now)).as_micros() as u32;
        // Two may go for one that comes, so that a stream that has slowed down keeps no more than it needs.
        for _ in 0..2 {
            let is_old =
                |oldest: &Sent| u128::from(micros.wrapping_sub(oldest.micros)) > REMEMBERED_FOR.as_micros();
            if self.recent.len() == REMEMBERED || self.recent.front().is_some_and(is_old) {
                self.recent.pop_front();
            }
        }
        let First { slot, seq } = first.unwrap_or(NONE);
        self.recent.push_back(Sent { micros, bytes: bytes as u16, slot, seq });
        self.next += 1;
        self.next - 1
    }

    /// Packets a feedback message can honestly be about, remembered or not: the first one after a stall covers it all.
    pub fn outstanding(&self) -> usize {
        usize::try_from(self.next).unwrap_or(usize::MAX).min(REMEMBERED)
    }

    /// A feedback message covers `count` packets from `base` on, of which `arrived` says which came; `hear` hears what
    /// became of them. `None` if none of them is remembered.
    pub fn on_feedback(
        &mut self,
        now: Instant,
        base: u16,
        count: u16,
        arrived: impl Iterator<Item = bool>,
        mut hear: impl FnMut(Fate),
    ) -> Option<Acknowledged> {
        let since_epoch = now.saturating_duration_since(self.epoch?).as_micros() as u32;
        let mut newest = None;
        let (mut packets, mut lost, mut bytes) = (0, 0, 0);
        for (offset, came) in (0..count).zip(arrived) {
            let behind = usize::from((self.next as u16).wrapping_sub(base.wrapping_add(offset)));
            let at = self.recent.len().checked_sub(behind).filter(|_| behind > 0);
            let Some(sent) = at.and_then(|at| self.recent.get_mut(at)) else { continue };
            newest = Some(sent.micros);
            packets += 1;
            let transport = self.next - behind as u64;
            let first = First { slot: sent.slot, seq: sent.seq };
            match came {
                true => bytes += u64::from(sent.bytes),
                false => lost += 1,
            }
            match (first == NONE, came) {
                (true, true) => hear(Fate::OtherCame(transport)),
                (true, false) => hear(Fate::OtherLost(transport)),
                (false, true) => {}
                (false, false) => {
                    // Once is enough, however often it is told.
                    First { slot: sent.slot, seq: sent.seq } = NONE;
                    hear(Fate::FirstLost(first));
                }
            }
        }
        self.unmatched += u64::from(count).saturating_sub(packets);
        let age = Duration::from_micros(u64::from(since_epoch.wrapping_sub(newest?)));
        Some(Acknowledged { age, packets, lost, arrived: bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    #[test]
    fn feedback_is_matched_across_the_wrap() {
        let mut sent = SentPackets::default();
        for n in 0..70_000u64 {
            assert_eq!(sent.next_number(), n as u16);
            let first = (n % 2 == 0).then_some(First { slot: 3, seq: n as u16 });
            assert_eq!(sent.record(at(n), 1_200, first), n);
        }
        let mut told_of = Vec::new();
        let told = sent.on_feedback(at(70_039), 69_990u32 as u16, 10, (0..10).map(|n| n > 1), |fate| {
            told_of.push(fate);
        });
        let first = First { slot: 3, seq: 69_990u32 as u16 };
        assert_eq!(told_of[..2], [Fate::FirstLost(first), Fate::OtherLost(69_991)]);
        assert_eq!(told_of[2..], [69_993, 69_995, 69_997, 69_999].map(Fate::OtherCame));
        assert_eq!(
            told,
            Some(Acknowledged { age: Duration::from_millis(40), packets: 10, lost: 2, arrived: 9_600 })
        );
        assert_eq!(sent.unmatched, 0);
        sent.on_feedback(at(70_039), 69_990u32 as u16, 20, std::iter::repeat_n(true, 20), |_| ());
        assert_eq!(sent.unmatched, 10, "ten packets were never sent");
        assert_eq!(
            sent.on_feedback(at(70_039), 60_000, 10, std::iter::repeat_n(true, 10), |_| ()),
            None,
            "long forgotten"
        );
        assert_eq!((sent.recent.len(), sent.outstanding()), (REMEMBERED, REMEMBERED));
    }

    #[test]
    fn no_more_is_kept_than_feedback_can_be_about() {
        let mut sent = SentPackets::default();
        let send = |sent: &mut SentPackets, from: u64, packets: u64, spacing: u64| {
            (0..packets).for_each(|n| _ = sent.record(at(from + n * spacing), 100, None));
            sent.recent.len()
        };
        assert_eq!(send(&mut sent, 0, 5_000, 0), REMEMBERED);
        assert_eq!(send(&mut sent, 5_000, 2_000, 20), 76, "a second and a half at fifty a second");
        assert_eq!(send(&mut sent, 100_000, 1, 0), 75, "two go for one after a silence");
        assert_eq!(sent.outstanding(), REMEMBERED, "which does not make feedback about them a lie");
    }
}
