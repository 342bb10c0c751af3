//! The plaintext of one published layer, kept once for all its subscribers.

use std::collections::VecDeque;
use std::time::Instant;

use super::codec::Codec;
use super::picture::Picture;

/// A ring of recent packets, found by sequence number.
///
/// First transmissions and resends are both served from here, so a subscriber's queue holds numbers and
/// never bytes. Packets leave in the order they came, when their bytes or their index slots are needed.
///
/// Both rings start small and double up to their limits: an audio track or a paused layer never pays for a
/// second of video. Growing copies what is held; a stream stops growing within its first second or so, and
/// from then on nothing is allocated.
#[derive(Debug)]
pub struct History {
    max_bytes: usize,
    max_slots: usize,
    buf: Vec<u8>,
    /// Where the next packet goes, unless it has to wrap.
    head: usize,
    /// By sequence number modulo the length, which is a power of two.
    slots: Vec<Option<Slot>>,
    /// Packets in the order they came, which is the order of their bytes around the ring.
    order: VecDeque<Extent>,
    newest: Option<u64>,
}

/// What is known about a packet without looking at its bytes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PacketMeta {
    /// Unwrapped.
    pub seq: u64,
    /// In units of the codec's clock.
    pub timestamp: u32,
    /// The RTP marker bit.
    pub marker: bool,
    /// What the payload is.
    pub codec: Codec,
    /// Its place in the picture.
    pub picture: Picture,
    /// When it came, in its first copy.
    pub arrived: Instant,
}

/// A packet in the ring.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Stored<'h> {
    /// As pushed.
    pub meta: &'h PacketMeta,
    /// The header extensions to forward, as the caller serialised them.
    pub aux: &'h [u8],
    /// The RTP payload, without padding.
    pub payload: &'h [u8],
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    meta: PacketMeta,
    start: u32,
    aux: u16,
    payload: u16,
}

#[derive(Clone, Copy, Debug)]
struct Extent {
    seq: u64,
    start: u32,
    /// Never zero, so that a full ring and an empty one look different.
    len: u32,
}

impl History {
    /// Holds at most `bytes` (4 GiB at most) of `aux` and payload, and `packets`, rounded up to a power of two.
    pub fn new(bytes: usize, packets: usize) -> History {
        let max_slots = packets.clamp(1, 1 << 24).next_power_of_two();
        let max_bytes = bytes.min(u32::MAX as usize);
        let slots = max_slots.min(FIRST_SLOTS);
        History {
            max_bytes,
            max_slots,
            buf: vec![0; max_bytes.min(FIRST_BYTES)],
            head: 0,
            slots: vec![None; slots],
            order: VecDeque::with_capacity(slots),
            newest: None,
        }
    }

    /// Keeps a packet. `false` if it is there already, too old to find a slot, or larger than the ring.
    pub fn push(&mut self, meta: PacketMeta, aux: &[u8], payload: &[u8]) -> bool {
        let (Ok(aux_len), Ok(payload_len)) = (u16::try_from(aux.len()), u16::try_from(payload.len())) else {
            return false;
        };
        let len = (aux.len() + payload.len()).max(1);
        if len > self.max_bytes || !self.claim_slot(meta.seq) {
            return false;
        }
        let start = self.claim_bytes(len);
        let (to_aux, to_payload) = self.buf[start..start + aux.len() + payload.len()].split_at_mut(aux.len());
        to_aux.copy_from_slice(aux);
        to_payload.copy_from_slice(payload);
        self.head = start + len;
        self.order.push_back(Extent { seq: meta.seq, start: start as u32, len: len as u32 });
        let slot = self.slot_of(meta.seq);
        self.slots[slot] = Some(Slot { meta, start: start as u32, aux: aux_len, payload: payload_len });
        self.newest = self.newest.max(Some(meta.seq));
        true
    }

    /// The packet, unless it never came or has left.
    pub fn get(&self, seq: u64) -> Option<Stored<'_>> {
        let slot = self.slots[self.slot_of(seq)].as_ref().filter(|slot| slot.meta.seq == seq)?;
        let packet = &self.buf[slot.start as usize..][..usize::from(slot.aux) + usize::from(slot.payload)];
        let (aux, payload) = packet.split_at(slot.aux.into());
        Some(Stored { meta: &slot.meta, aux, payload })
    }

    /// Whether the packet has left, or would have by now: nobody can be sent it any more.
    pub fn has_left(&self, seq: u64) -> bool {
        self.order.front().is_some_and(|oldest| seq < oldest.seq) && self.get(seq).is_none()
    }

    /// The highest number ever pushed. It leaves the ring last, but for stragglers.
    pub fn newest(&self) -> Option<u64> {
        self.newest
    }

    /// Makes the index slot of `seq` ours to take. `false` when it belongs to the same packet or a newer one.
    fn claim_slot(&mut self, seq: u64) -> bool {
        // Its slot may be free, but it would go to a straggler that nobody can want any more.
        if self.newest.is_some_and(|newest| seq + self.max_slots as u64 <= newest) {
            return false;
        }
        while let Some(held) = &self.slots[self.slot_of(seq)] {
            let held = held.meta.seq;
            if held == seq {
                return false;
            }
            if self.slots.len() == self.max_slots {
                if held > seq {
                    return false;
                }
                break;
            }
            self.double_slots();
        }
        // Stragglers may leave entries behind whose slot is someone else's; they count.
        while self.order.len() >= self.max_slots {
            self.evict_oldest();
        }
        true
    }

    /// Finds room for `len` bytes in a row: first by growing, then by letting the oldest go.
    fn claim_bytes(&mut self, len: usize) -> usize {
        loop {
            if let Some(start) = self.free_run(len) {
                return start;
            }
            if self.buf.len() < self.max_bytes {
                self.double_bytes();
            } else {
                self.evict_oldest();
            }
        }
    }

    fn free_run(&self, len: usize) -> Option<usize> {
        let Some(oldest) = self.order.front() else {
            return (len <= self.buf.len()).then_some(0);
        };
        let tail = oldest.start as usize;
        if self.head <= tail {
            // Wrapped: the free run lies between head and tail.
            (tail - self.head >= len).then_some(self.head)
        } else if self.buf.len() - self.head >= len {
            Some(self.head)
        } else {
            // A payload is one slice: what is left at the end is skipped.
            (tail >= len).then_some(0)
        }
    }

    fn evict_oldest(&mut self) {
        if let Some(oldest) = self.order.pop_front() {
            let slot = self.slot_of(oldest.seq);
            // A newer packet may have taken the slot over.
            if self.slots[slot].as_ref().is_some_and(|slot| slot.meta.seq == oldest.seq) {
                self.slots[slot] = None;
            }
        }
    }

    /// Doubles the bytes and closes ranks, since what was wrapped no longer is.
    fn double_bytes(&mut self) {
        let mut grown = vec![0; (self.buf.len() * 2).clamp(1, self.max_bytes)];
        let mut at = 0;
        for extent in &mut self.order {
            let (start, len) = (extent.start as usize, extent.len as usize);
            grown[at..at + len].copy_from_slice(&self.buf[start..start + len]);
            extent.start = at as u32;
            let slot = (extent.seq & (self.slots.len() as u64 - 1)) as usize;
            if let Some(slot) = self.slots[slot].as_mut().filter(|slot| slot.meta.seq == extent.seq) {
                slot.start = extent.start;
            }
            at += len;
        }
        self.buf = grown;
        self.head = at;
    }

    fn double_slots(&mut self) {
        let doubled = vec![None; self.slots.len() * 2];
        for slot in std::mem::replace(&mut self.slots, doubled).into_iter().flatten() {
            let at = self.slot_of(slot.meta.seq);
            self.slots[at] = Some(slot);
        }
        self.order.reserve(self.slots.len() - self.order.len());
    }

    fn slot_of(&self, seq: u64) -> usize {
        (seq & (self.slots.len() as u64 - 1)) as usize
    }
}

/// The byte ring's first size: 2 s of Opus, 50 ms of video.
const FIRST_BYTES: usize = 16 * 1024;
/// The index ring's first size: 1.3 s of Opus.
const FIRST_SLOTS: usize = 64;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::at;

    fn meta(seq: u64) -> PacketMeta {
        let (codec, picture) = (Codec::Vp8, Picture::OPAQUE);
        PacketMeta { seq, timestamp: seq as u32, marker: false, codec, picture, arrived: at(seq) }
    }

    fn push(history: &mut History, seq: u64, len: usize) -> bool {
        history.push(meta(seq), &[seq as u8, 0xee], &vec![seq as u8; len])
    }

    fn held(history: &History, seqs: std::ops::Range<u64>) -> Vec<u64> {
        seqs.filter(|seq| history.get(*seq).is_some()).collect()
    }

    #[test]
    fn what_is_pushed_is_found() {
        let mut history = History::new(100_000, 128);
        assert!(history.get(7).is_none());
        assert!(push(&mut history, 7, 1_000));
        assert!(push(&mut history, 8, 0), "an empty payload is a packet too");
        let stored = history.get(7).unwrap();
        assert_eq!(stored.meta, &meta(7));
        assert_eq!(stored.aux, [7, 0xee]);
        assert_eq!(stored.payload, [7; 1_000]);
        assert!(history.get(8).unwrap().payload.is_empty());
        assert!(history.get(7 + 64).is_none() && history.get(7 + 128).is_none(), "same slot, other packet");
        assert_eq!(history.newest(), Some(8));
    }

    #[test]
    fn a_duplicate_is_refused() {
        let mut history = History::new(100_000, 128);
        assert!(push(&mut history, 7, 10));
        assert!(!push(&mut history, 7, 20));
        assert_eq!(history.get(7).unwrap().payload.len(), 10);
    }

    #[test]
    fn a_late_packet_finds_its_place() {
        let mut history = History::new(100_000, 128);
        for seq in [1_000, 1_002, 1_001] {
            assert!(push(&mut history, seq, 10));
        }
        assert_eq!(held(&history, 0..2_000), [1_000, 1_001, 1_002]);
        assert!(push(&mut history, 1_002 - 127, 10));
        assert!(!push(&mut history, 1_002 - 128, 10), "older than the ring is long");
        assert_eq!(history.newest(), Some(1_002));
    }

    #[test]
    fn the_oldest_leave_when_bytes_run_out() {
        // Three packets of 2 + 1998 bytes; the first ring size is this one, so nothing grows.
        let mut history = History::new(6_500, 128);
        for seq in 1..=3 {
            assert!(push(&mut history, seq, 1_998));
        }
        assert_eq!(held(&history, 0..9), [1, 2, 3]);
        assert!(push(&mut history, 4, 1_998), "skips the 500 bytes at the end");
        assert_eq!(held(&history, 0..9), [2, 3, 4]);
        assert!(push(&mut history, 5, 10), "no room beside 4, so 2 goes");
        assert_eq!(held(&history, 0..9), [3, 4, 5]);
        assert_eq!(history.get(3).unwrap().payload, [3; 1_998]);
        assert!(!push(&mut history, 6, 6_499), "larger than the ring");
        assert!(push(&mut history, 7, 6_498), "as large as the ring");
        assert_eq!(held(&history, 0..9), [7]);
    }

    #[test]
    fn the_oldest_leave_when_slots_run_out() {
        let mut history = History::new(1 << 20, 100);
        for seq in 0..1_000 {
            assert!(push(&mut history, seq, 100));
        }
        assert_eq!(held(&history, 0..1_000), (872..1_000).collect::<Vec<_>>(), "100 rounds up to 128");
    }

    #[test]
    fn a_jump_takes_the_slots_of_the_past() {
        let mut history = History::new(1 << 20, 128);
        for seq in (0..100).chain(1 << 20..(1 << 20) + 100) {
            assert!(push(&mut history, seq, 100));
        }
        assert_eq!(held(&history, 1 << 20..(1 << 20) + 200).len(), 100);
        assert!(history.order.len() <= 128);
    }

    #[test]
    fn a_ring_for_nothing_keeps_nothing() {
        let mut history = History::new(0, 0);
        assert!(!push(&mut history, 1, 0));
        assert!(history.get(1).is_none());
    }

    #[test]
    fn the_ring_grows_to_its_limits_and_no_further() {
        let mut history = History::new(300 * 1024, 512);
        assert_eq!((history.buf.len(), history.slots.len()), (FIRST_BYTES, FIRST_SLOTS));
        for seq in 0..50 {
            assert!(push(&mut history, seq, 80));
        }
        assert_eq!((history.buf.len(), history.slots.len()), (FIRST_BYTES, FIRST_SLOTS), "a second of audio");
        for seq in 50..2_000 {
            assert!(push(&mut history, seq, 1_100));
        }
        assert_eq!((history.buf.len(), history.slots.len()), (300 * 1024, 512));
        let (buf, slots, order) = (history.buf.as_ptr(), history.slots.as_ptr(), history.order.capacity());
        for seq in 2_000..10_000 {
            assert!(push(&mut history, seq, 1_100));
        }
        assert_eq!(
            (buf, slots, order),
            (history.buf.as_ptr(), history.slots.as_ptr(), history.order.capacity())
        );
        assert!(held(&history, 0..10_000).len() >= 300 * 1024 / 1_102 - 1);
    }

    proptest! {
        /// Against a plain queue: what is found is what was pushed, and whatever the ring keeps is the newest.
        #[test]
        fn the_ring_never_mixes_packets_up(
            bytes in 3_000usize..60_000, packets in 1usize..300,
            pushes in proptest::collection::vec((0u64..6, 0u64..40, 0usize..1_400, 0usize..40), 1..800),
        ) {
            let mut history = History::new(bytes, packets);
            let mut model = VecDeque::new();
            let mut newest = 100_000_u64;
            for (ahead, behind, len, aux_len) in pushes {
                newest += ahead;
                // A third of them late.
                let seq = if behind % 3 == 0 { newest - behind } else { newest };
                let tag = model.len() as u8;
                let (aux, payload) = (vec![tag ^ 0xff; aux_len], vec![tag; len]);
                let present = history.get(seq).is_some();
                let kept = history.push(meta(seq), &aux, &payload);
                prop_assert!(!(present && kept), "a duplicate");
                if kept {
                    model.push_back((seq, aux, payload));
                }
                prop_assert!(history.order.len() <= history.max_slots);
                prop_assert!(history.order.iter().map(|extent| extent.len as usize).sum::<usize>() <= bytes);
            }
            for (seq, aux, payload) in model.iter().rev().take(400) {
                let last_of_its_number = model.iter().rev().find(|(other, ..)| other == seq).unwrap();
                if let Some(stored) = history.get(*seq) {
                    prop_assert_eq!(stored.meta.seq, *seq);
                    if std::ptr::eq(payload, &last_of_its_number.2) {
                        prop_assert_eq!((stored.aux, stored.payload), (&aux[..], &payload[..]));
                    }
                }
            }
            if let Some((seq, ..)) = model.back() {
                prop_assert!(history.get(*seq).is_some(), "what came last is there");
            }
        }
    }
}
