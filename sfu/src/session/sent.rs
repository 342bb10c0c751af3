//! What we sent and when, by transport-wide number: what feedback will be matched against.

use std::time::Instant;

/// Numbers remembered. At 1000 packets a second, two seconds; feedback comes every 50 to 250 ms.
const REMEMBERED: usize = 2048;

/// One peer's outgoing transport-wide numbering (draft-holmer-rmcat-transport-wide-cc-extensions-01).
#[derive(Default)]
pub struct SentPackets {
    ring: Vec<Option<Sent>>,
    /// The next number to give, unwrapped.
    next: u64,
    /// Feedback that named packets no longer, or never, in the ring.
    pub unmatched: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    number: u64,
    pub at: Instant,
    pub bytes: usize,
}

impl SentPackets {
    /// The number the next packet carries.
    #[inline]
    pub fn next_number(&self) -> u16 {
        self.next as u16
    }

    /// The packet numbered [`next_number`](Self::next_number) has been sealed.
    #[inline]
    pub fn record(&mut self, at: Instant, bytes: usize) {
        if self.ring.is_empty() {
            self.ring.resize(REMEMBERED, None);
        }
        let index = self.next as usize % REMEMBERED;
        self.ring[index] = Some(Sent { number: self.next, at, bytes });
        self.next += 1;
    }

    /// Packets a feedback message can possibly be about.
    pub fn outstanding(&self) -> usize {
        REMEMBERED.min(self.next as usize)
    }

    /// A feedback message covers `count` packets from `base` on.
    pub fn on_feedback(&mut self, base: u16, count: u16) {
        let matched = (0..count).filter(|offset| self.find(base.wrapping_add(*offset)).is_some()).count();
        self.unmatched += u64::from(count) - matched as u64;
    }

    fn find(&self, number: u16) -> Option<Sent> {
        let behind = (self.next as u16).wrapping_sub(number);
        let number = self.next.checked_sub(u64::from(behind))?;
        let sent = (*self.ring.get(number as usize % REMEMBERED)?)?;
        (sent.number == number).then_some(sent)
    }
}

#[test]
fn feedback_is_matched_across_the_wrap() {
    use crate::testing::at;
    let mut sent = SentPackets::default();
    for n in 0..70_000u64 {
        assert_eq!(sent.next_number(), n as u16);
        sent.record(at(n / 10), 1200);
    }
    sent.on_feedback(69_990u32 as u16, 10);
    assert_eq!(sent.unmatched, 0);
    sent.on_feedback(69_990u32 as u16, 20);
    assert_eq!(sent.unmatched, 10, "ten packets were never sent");
    assert_eq!(sent.outstanding(), REMEMBERED);
}
