//! What we sent and when, by transport-wide number: what feedback is matched against.

use std::time::{Duration, Instant};

/// Packets remembered: a second at 1000 packets a second; feedback comes every 50 to 250 ms. At 8 bytes each,
/// 8 KiB per subscriber.
const REMEMBERED: usize = 1024;

/// One peer's outgoing transport-wide numbering (draft-holmer-rmcat-transport-wide-cc-extensions-01).
///
/// Numbers are given one after the other, so a packet's place in the ring says its number.
#[derive(Default)]
pub struct SentPackets {
    ring: Vec<Sent>,
    /// What send times are counted from: the first packet's.
    epoch: Option<Instant>,
    /// The next number to give, unwrapped.
    next: u64,
    /// Feedback that named packets no longer, or never, in the ring.
    pub unmatched: u64,
}

#[derive(Clone, Copy, Default)]
struct Sent {
    /// Since the epoch; wraps after 71 minutes, long after the packet is forgotten.
    micros: u32,
    bytes: u16,
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
    pub fn record(&mut self, now: Instant, bytes: usize) -> u64 {
        if self.ring.is_empty() {
            self.ring.resize(REMEMBERED, Sent::default());
        }
        let micros = now.saturating_duration_since(*self.epoch.get_or_insert(now)).as_micros() as u32;
        self.ring[self.next as usize % REMEMBERED] = Sent { micros, bytes: bytes as u16 };
        self.next += 1;
        self.next - 1
    }

    /// Packets a feedback message can possibly be about.
    pub fn outstanding(&self) -> usize {
        REMEMBERED.min(self.next as usize)
    }

    /// A feedback message covers `count` packets from `base` on, of which `arrived` says which came; `missed` hears
    /// the unwrapped numbers of those that did not. `None` if none of them is remembered.
    pub fn on_feedback(
        &mut self,
        now: Instant,
        base: u16,
        count: u16,
        arrived: impl Iterator<Item = bool>,
        mut missed: impl FnMut(u64),
    ) -> Option<Acknowledged> {
        let since_epoch = now.saturating_duration_since(self.epoch?).as_micros() as u32;
        let mut newest = None;
        let (mut packets, mut lost, mut bytes) = (0, 0, 0);
        for (offset, came) in (0..count).zip(arrived) {
            let Some(number) = self.unwrap(base.wrapping_add(offset)) else { continue };
            let sent = self.ring[number as usize % REMEMBERED];
            newest = Some(sent.micros);
            packets += 1;
            match came {
                true => bytes += u64::from(sent.bytes),
                false => {
                    lost += 1;
                    missed(number);
                }
            }
        }
        self.unmatched += u64::from(count).saturating_sub(packets);
        let age = Duration::from_micros(u64::from(since_epoch.wrapping_sub(newest?)));
        Some(Acknowledged { age, packets, lost, arrived: bytes })
    }

    /// The number behind one on the wire, if it is remembered.
    fn unwrap(&self, number: u16) -> Option<u64> {
        let behind = (self.next as u16).wrapping_sub(number);
        let out = (1..=self.outstanding()).contains(&usize::from(behind));
        out.then(|| self.next - u64::from(behind))
    }
}

#[test]
fn feedback_is_matched_across_the_wrap() {
    use crate::testing::at;
    let mut sent = SentPackets::default();
    for n in 0..70_000u64 {
        assert_eq!(sent.next_number(), n as u16);
        sent.record(at(n), 1_200);
    }
    let mut missed = Vec::new();
    let told = sent
        .on_feedback(at(70_039), 69_990u32 as u16, 10, (0..10).map(|n| n > 1), |number| missed.push(number));
    assert_eq!(missed, [69_990, 69_991]);
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
    assert_eq!(sent.outstanding(), REMEMBERED);
}
