//! What we sent, by transport-wide number: what feedback is matched against.

/// Numbers remembered. At 1000 packets a second, two seconds; feedback comes every 50 to 250 ms.
const REMEMBERED: usize = 2048;

/// One peer's outgoing transport-wide numbering (draft-holmer-rmcat-transport-wide-cc-extensions-01).
///
/// Numbers are given one after the other, so which are out follows from the next one. Send times and sizes
/// are not kept while nothing estimates bandwidth from them: at 32 bytes a packet they cost 64 KiB a
/// subscriber, and a cache miss for each packet.
#[derive(Default)]
pub struct SentPackets {
    /// The next number to give, unwrapped.
    next: u64,
    /// Feedback that named packets no longer, or never, remembered.
    pub unmatched: u64,
}

impl SentPackets {
    /// The number the next packet carries.
    #[inline]
    pub fn next_number(&self) -> u16 {
        self.next as u16
    }

    /// The packet numbered [`next_number`](Self::next_number) has been sealed.
    #[inline]
    pub fn record(&mut self) {
        self.next += 1;
    }

    /// Packets a feedback message can possibly be about.
    pub fn outstanding(&self) -> usize {
        REMEMBERED.min(self.next as usize)
    }

    /// A feedback message covers `count` packets from `base` on.
    pub fn on_feedback(&mut self, base: u16, count: u16) {
        let matched = (0..count).filter(|offset| self.is_out(base.wrapping_add(*offset))).count();
        self.unmatched += u64::from(count) - matched as u64;
    }

    fn is_out(&self, number: u16) -> bool {
        let behind = (self.next as u16).wrapping_sub(number);
        (1..=self.outstanding()).contains(&usize::from(behind))
    }
}

#[test]
fn feedback_is_matched_across_the_wrap() {
    let mut sent = SentPackets::default();
    for n in 0..70_000u64 {
        assert_eq!(sent.next_number(), n as u16);
        sent.record();
    }
    sent.on_feedback(69_990u32 as u16, 10);
    assert_eq!(sent.unmatched, 0);
    sent.on_feedback(69_990u32 as u16, 20);
    assert_eq!(sent.unmatched, 10, "ten packets were never sent");
    assert_eq!(sent.outstanding(), REMEMBERED);
}
