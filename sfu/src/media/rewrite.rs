//! Continuity towards one subscriber: many sources come, one stream goes.

use std::collections::VecDeque;
use std::time::Instant;

use super::receive::MAX_DROPOUT;

/// Renumbers the packets of one slot so that a change of source looks like one publisher going on.
///
/// The output is a row of *segments*, one per source. Within a segment every number is the source's plus a
/// constant, so late packets find their place and lost ones leave their gap; at a switch the constants
/// change. What goes out never goes back: a packet from before the segment's first is refused.
///
/// Output sequence numbers are SRTP indices (RFC 3711 §3.3.1): 64 bits, of which the wire takes 16. They
/// start below 2^15, or a receiver that misses the first packets may guess the wrong rollover count.
#[derive(Debug)]
pub struct Rewriter {
    clock_rate: u32,
    first_timestamp: u32,
    /// One past the highest number out.
    next_seq: u64,
    segment: Option<Segment>,
    newest: Option<Newest>,
    /// Picture id and TL0PICIDX of the newest packet out that had any.
    picture: Option<(u16, u8)>,
}

/// What the source says of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SourcePacket {
    /// Unwrapped.
    pub seq: u64,
    /// In units of the clock rate.
    pub timestamp: u32,
    /// VP8: the picture id (15 bits, or 7) and TL0PICIDX. Zero for one that is absent.
    pub picture: Option<(u16, u8)>,
}

/// What we say of it to the subscriber.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rewritten {
    /// The SRTP index; the low 16 bits are the sequence number.
    pub seq: u64,
    /// In units of the clock rate.
    pub timestamp: u32,
    /// 15 bits. A stream that writes 7 takes the low ones, which are continuous among themselves.
    pub picture_id: u16,
    /// TL0PICIDX.
    pub tl0: u8,
}

#[derive(Debug)]
struct Segment {
    /// This source number goes out as `out`; lower ones are refused.
    source: u64,
    out: u64,
    /// The highest source number that went out.
    newest: u64,
    /// Source numbers left out on purpose, ascending. Those above them move down.
    dropped: VecDeque<u64>,
    /// Added to the source's timestamps.
    timestamp: u32,
    /// Added to the source's picture ids and TL0PICIDX. Unknown until a packet has them.
    picture: Option<(u16, u8)>,
}

#[derive(Clone, Copy, Debug)]
struct Newest {
    /// The highest timestamp out.
    timestamp: u32,
    /// When a packet last moved the numbers on.
    at: Instant,
}

impl Rewriter {
    /// The first packet goes out as `first_seq`, less its top bit, and `first_timestamp`.
    pub fn new(first_seq: u16, first_timestamp: u32, clock_rate: u32) -> Rewriter {
        Rewriter {
            clock_rate,
            first_timestamp,
            next_seq: u64::from(first_seq & 0x7fff),
            segment: None,
            newest: None,
            picture: None,
        }
    }

    /// The source has changed: the next packet starts a new segment. From here on the caller passes only
    /// packets of the new source, for two sources' numbers cannot be told apart.
    pub fn switch(&mut self) {
        self.segment = None;
    }

    /// The packet's place in the output. `None` when it belongs before the current segment, or was dropped.
    ///
    /// Rewriting a packet of the current segment again gives the same numbers, which is how a resend is made.
    /// A source that jumps ahead by [`MAX_DROPOUT`] has started over, and so do we.
    pub fn rewrite(&mut self, now: Instant, source: &SourcePacket) -> Option<Rewritten> {
        let goes_on = self.segment.as_ref().is_some_and(|segment| source.seq < segment.newest + MAX_DROPOUT);
        if !goes_on {
            let timestamp = self.next_timestamp(now).wrapping_sub(source.timestamp);
            self.segment = Some(Segment::new(source.seq, self.next_seq, timestamp));
        }
        let segment = self.segment.as_mut()?;
        let seq = segment.place(source.seq)?;
        let timestamp = source.timestamp.wrapping_add(segment.timestamp);
        let picture = segment.picture(source.picture, self.picture);
        if seq >= self.next_seq {
            segment.newest = source.seq;
            self.next_seq = seq + 1;
            self.picture = picture.or(self.picture);
            let highest = self.newest.map_or(timestamp, |newest| later(newest.timestamp, timestamp));
            self.newest = Some(Newest { timestamp: highest, at: now });
        }
        let (picture_id, tl0) = picture.unwrap_or_default();
        Some(Rewritten { seq, timestamp, picture_id, tl0 })
    }

    /// Leaves a source packet out on purpose and closes the gap, so that the subscriber does not ask for it.
    ///
    /// `false` if it is too late for that: a later packet has gone out, or there is no segment. The gap then
    /// looks like loss. The last [`MAX_DROPPED`] are remembered; packets from before those are refused.
    pub fn drop_one(&mut self, seq: u64) -> bool {
        self.segment.as_mut().is_some_and(|segment| segment.drop_one(seq))
    }

    /// The source number behind an output number of the current segment, for NACKs. It may not have gone out.
    pub fn source_of(&self, seq: u64) -> Option<u64> {
        self.segment.as_ref()?.source_of(seq)
    }

    /// The unwrapped output number behind one on the wire: the nearest that has been given. `None` for one
    /// that has not.
    pub fn unwrap_out(&self, seq: u16) -> Option<u64> {
        let newest = self.next_seq.checked_sub(1)?;
        let behind = (newest as u16).wrapping_sub(seq);
        newest.checked_sub(u64::from(behind)).filter(|_| behind < 1 << 15)
    }

    /// A source timestamp on the output's clock, for sender reports. `None` between a switch and the new
    /// source's first packet.
    pub fn timestamp_of(&self, source: u32) -> Option<u32> {
        self.segment.as_ref().map(|segment| source.wrapping_add(segment.timestamp))
    }

    /// Where the next segment's clock starts: on by the time that has passed, and by a frame at least, for
    /// decoders take equal timestamps for one frame (mediasoup #408).
    fn next_timestamp(&self, now: Instant) -> u32 {
        let Some(newest) = self.newest else {
            return self.first_timestamp;
        };
        let elapsed = now.saturating_duration_since(newest.at);
        let ticks = elapsed.as_micros() * u128::from(self.clock_rate) / 1_000_000;
        // A quarter of the circle (3 h of video) at most: past the half, time would seem to run back.
        let ticks = ticks.min(1 << 30) as u32;
        newest.timestamp.wrapping_add(ticks.max(self.nominal_frame()))
    }

    /// One frame: 1/30 s of video, 20 ms of audio.
    fn nominal_frame(&self) -> u32 {
        let frames = if self.clock_rate == 90_000 { 30 } else { 50 };
        (self.clock_rate / frames).max(1)
    }
}

impl Segment {
    fn new(source: u64, out: u64, timestamp: u32) -> Segment {
        Segment { source, out, newest: source, dropped: VecDeque::new(), timestamp, picture: None }
    }

    fn place(&self, seq: u64) -> Option<u64> {
        let ahead = seq.checked_sub(self.source)?;
        match self.dropped.binary_search(&seq) {
            Ok(_) => None,
            Err(dropped_before) => Some(self.out + ahead - dropped_before as u64),
        }
    }

    fn source_of(&self, out: u64) -> Option<u64> {
        let without_drops = self.source + out.checked_sub(self.out)?;
        let over = |source, dropped: &u64| if *dropped <= source { source + 1 } else { source };
        Some(self.dropped.iter().fold(without_drops, over))
    }

    fn drop_one(&mut self, seq: u64) -> bool {
        if seq <= self.newest {
            return false;
        }
        if let Err(at) = self.dropped.binary_search(&seq) {
            self.dropped.insert(at, seq);
        }
        if self.dropped.len() > MAX_DROPPED
            && let Some(oldest) = self.dropped.pop_front()
        {
            // The packet after the oldest takes its place as the segment's first.
            self.out += oldest - self.source;
            self.source = oldest + 1;
        }
        true
    }

    /// The packet's picture numbers, given those that went out last.
    fn picture(&mut self, source: Option<(u16, u8)>, last: Option<(u16, u8)>) -> Option<(u16, u8)> {
        let (id, tl0) = source?;
        let (id_offset, tl0_offset) = *self.picture.get_or_insert_with(|| match last {
            Some((last_id, last_tl0)) => {
                (last_id.wrapping_add(1).wrapping_sub(id), last_tl0.wrapping_add(1).wrapping_sub(tl0))
            }
            None => (0, 0),
        });
        Some((id.wrapping_add(id_offset) & PICTURE_ID, tl0.wrapping_add(tl0_offset)))
    }
}

/// The later of two timestamps on the circle.
fn later(a: u32, b: u32) -> u32 {
    if (b.wrapping_sub(a) as i32) > 0 { b } else { a }
}

/// Dropped packets remembered: about 5 s of a layer that loses half its packets to temporal filtering.
const MAX_DROPPED: usize = 256;
/// Fifteen bits, RFC 7741 §4.2.
const PICTURE_ID: u16 = 0x7fff;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::at;

    fn video() -> Rewriter {
        Rewriter::new(100, 50_000, 90_000)
    }

    fn packet(seq: u64, timestamp: u32) -> SourcePacket {
        SourcePacket { seq, timestamp, picture: None }
    }

    fn seq_of(rewriter: &mut Rewriter, seq: u64) -> Option<u64> {
        rewriter.rewrite(at(0), &packet(seq, 0)).map(|out| out.seq)
    }

    #[test]
    fn the_first_packet_takes_the_first_numbers() {
        let mut rewriter = video();
        assert_eq!(rewriter.timestamp_of(7), None);
        let out = rewriter.rewrite(at(0), &packet(70_000, 999)).unwrap();
        assert_eq!(out, Rewritten { seq: 100, timestamp: 50_000, picture_id: 0, tl0: 0 });
        assert_eq!(rewriter.timestamp_of(1_000), Some(50_001));
        assert_eq!(seq_of(&mut Rewriter::new(0xffff, 0, 90_000), 5), Some(0x7fff), "below 2^15");
    }

    #[test]
    fn loss_and_reordering_are_passed_on() {
        let mut rewriter = video();
        for (source, out) in [(10, 100), (11, 101), (14, 104), (12, 102), (15, 105), (13, 103)] {
            assert_eq!(seq_of(&mut rewriter, source), Some(out));
        }
    }

    #[test]
    fn nothing_goes_out_before_the_segment() {
        let mut rewriter = video();
        assert_eq!(seq_of(&mut rewriter, 10), Some(100));
        assert_eq!(seq_of(&mut rewriter, 9), None);
        rewriter.switch();
        assert_eq!(rewriter.timestamp_of(0), None);
        assert_eq!(seq_of(&mut rewriter, 5_000), Some(101));
        assert_eq!(seq_of(&mut rewriter, 4_999), None, "before the keyframe that we switched on");
        assert_eq!(seq_of(&mut rewriter, 5_001), Some(102));
    }

    #[test]
    fn a_switch_moves_time_on_by_what_has_passed() {
        let mut rewriter = video();
        rewriter.rewrite(at(0), &packet(10, 0));
        rewriter.rewrite(at(33), &packet(11, 3_000));
        rewriter.switch();
        let out = rewriter.rewrite(at(133), &packet(7, 0xdead_beef)).unwrap();
        assert_eq!(out.timestamp, 53_000 + 9_000, "100 ms");
        assert_eq!(rewriter.timestamp_of(0xdead_beef + 90), Some(62_090));
        rewriter.switch();
        let out = rewriter.rewrite(at(133), &packet(3, 5)).unwrap();
        assert_eq!(out.timestamp, 62_000 + 3_000, "a frame at least");
    }

    #[test]
    fn audio_moves_on_by_20_ms_at_least() {
        let mut rewriter = Rewriter::new(0, 0, 48_000);
        rewriter.rewrite(at(0), &packet(1, 77));
        rewriter.switch();
        assert_eq!(rewriter.rewrite(at(1), &packet(1, 77)).unwrap().timestamp, 960);
        rewriter.switch();
        assert_eq!(rewriter.rewrite(at(1_001), &packet(1, 77)).unwrap().timestamp, 960 + 48_000);
    }

    #[test]
    fn a_day_of_silence_does_not_turn_time_round() {
        let mut rewriter = video();
        let before = rewriter.rewrite(at(0), &packet(1, 0)).unwrap().timestamp;
        rewriter.switch();
        let after = rewriter.rewrite(at(86_400_000), &packet(1, 0)).unwrap().timestamp;
        assert!(after.wrapping_sub(before) as i32 > 0);
    }

    #[test]
    fn a_dropped_packet_leaves_no_gap() {
        let mut rewriter = video();
        assert!(!rewriter.drop_one(9), "nothing to close yet");
        assert_eq!(seq_of(&mut rewriter, 10), Some(100));
        assert!(rewriter.drop_one(11));
        assert!(rewriter.drop_one(13));
        assert_eq!(seq_of(&mut rewriter, 14), Some(102));
        assert_eq!(seq_of(&mut rewriter, 12), Some(101), "late, between the two");
        assert_eq!(seq_of(&mut rewriter, 11), None);
        assert!(rewriter.drop_one(15));
        assert!(rewriter.drop_one(15), "once is enough");
        assert_eq!(seq_of(&mut rewriter, 16), Some(103));
        assert!(!rewriter.drop_one(15), "16 has gone out");
        let sources: Vec<_> = (99..105).map(|out| rewriter.source_of(out)).collect();
        assert_eq!(sources, [None, Some(10), Some(12), Some(14), Some(16), Some(17)]);
    }

    #[test]
    fn a_layer_that_is_half_dropped_for_long_stays_bounded() {
        let mut rewriter = video();
        for n in 0..5_000 {
            if n % 2 == 0 {
                assert_eq!(seq_of(&mut rewriter, 10 + n), Some(100 + n / 2));
            } else {
                assert!(rewriter.drop_one(10 + n));
            }
        }
        let segment = rewriter.segment.as_ref().unwrap();
        assert!(segment.dropped.len() <= MAX_DROPPED);
        assert_eq!(seq_of(&mut rewriter, 4_990), Some(2_590), "half a second late");
        assert_eq!(seq_of(&mut rewriter, 4_000), None, "five seconds late");
    }

    #[test]
    fn a_source_that_starts_over_leaves_no_hole() {
        let mut rewriter = video();
        assert_eq!(seq_of(&mut rewriter, 10), Some(100));
        assert_eq!(seq_of(&mut rewriter, 3_009), Some(3_099), "a long loss");
        assert_eq!(seq_of(&mut rewriter, 6_009), Some(3_100), "a restart");
        assert_eq!(seq_of(&mut rewriter, 3_010), None);
    }

    #[test]
    fn pictures_count_on_across_a_switch() {
        let mut rewriter = video();
        let mut go = |seq, picture| {
            let out = rewriter.rewrite(at(0), &SourcePacket { seq, timestamp: 0, picture }).unwrap();
            (out.picture_id, out.tl0)
        };
        assert_eq!(go(1, Some((0x7ffe, 254))), (0x7ffe, 254));
        assert_eq!(go(2, Some((0x7ffe, 254))), (0x7ffe, 254));
        assert_eq!(go(3, Some((0x7fff, 255))), (0x7fff, 255));
        rewriter.switch();
        let mut go = |seq, picture| {
            let out = rewriter.rewrite(at(0), &SourcePacket { seq, timestamp: 0, picture }).unwrap();
            (out.picture_id, out.tl0)
        };
        assert_eq!(go(50, Some((300, 9))), (0, 0));
        assert_eq!(go(52, Some((302, 9))), (2, 0));
        assert_eq!(go(51, Some((301, 9))), (1, 0), "late");
        rewriter.switch();
        let out = rewriter.rewrite(at(0), &SourcePacket { seq: 1, timestamp: 0, picture: Some((126, 7)) });
        assert_eq!(out.map(|out| (out.picture_id, out.tl0)), Some((3, 1)), "the newest, not the latest");
    }

    /// One source's run: how many packets, first numbers, milliseconds between packets, pause before it.
    fn runs() -> impl Strategy<Value = Vec<(u64, u64, u32, u16, u8, u64, u64)>> {
        let run = (1u64..40, 0u64..1 << 40, any::<u32>(), 0u16..1 << 15, any::<u8>(), 0u64..50, 0u64..5_000);
        proptest::collection::vec(run, 1..12)
    }

    proptest! {
        #[test]
        fn output_is_contiguous_under_any_switching(
            first in any::<u16>(), runs in runs(), drops in proptest::collection::vec(prop::bool::weighted(0.3), 480),
        ) {
            let mut rewriter = Rewriter::new(first, u32::MAX - 20_000, 90_000);
            let mut drops = drops.into_iter();
            let (mut now, mut expected, mut last) = (0, u64::from(first & 0x7fff), None::<Rewritten>);
            for (count, seq, timestamp, picture, tl0, gap, pause) in runs {
                rewriter.switch();
                now += pause;
                for n in 0..count {
                    now += gap;
                    if n > 0 && drops.next() == Some(true) {
                        prop_assert!(rewriter.drop_one(seq + n));
                        continue;
                    }
                    let source = SourcePacket {
                        seq: seq + n,
                        timestamp: timestamp.wrapping_add(n as u32 * 3_000),
                        picture: Some(((picture + n as u16) & 0x7fff, tl0.wrapping_add(n as u8))),
                    };
                    let out = rewriter.rewrite(at(now), &source).unwrap();
                    prop_assert_eq!(out.seq, expected);
                    prop_assert_eq!(rewriter.source_of(expected), Some(source.seq));
                    prop_assert_eq!(rewriter.rewrite(at(now + 9), &source), Some(out), "a resend is the same");
                    prop_assert_eq!(rewriter.timestamp_of(source.timestamp), Some(out.timestamp));
                    if let Some(last) = last {
                        prop_assert!(out.timestamp.wrapping_sub(last.timestamp) as i32 >= 3_000);
                        if n == 0 {
                            prop_assert_eq!(out.picture_id, (last.picture_id + 1) & 0x7fff);
                            prop_assert_eq!(out.tl0, last.tl0.wrapping_add(1));
                        }
                    }
                    expected += 1;
                    last = Some(out);
                }
            }
        }

        #[test]
        fn no_two_packets_share_a_number(
            runs in proptest::collection::vec((1u64..1 << 40, proptest::collection::vec((0u64..60, 0u8..10), 1..80)), 1..8),
        ) {
            let mut rewriter = video();
            let mut taken = HashSet::new();
            for (base, packets) in runs {
                rewriter.switch();
                let floor = rewriter.next_seq;
                let mut sent = HashSet::new();
                for (offset, action) in packets {
                    let seq = base + offset;
                    // The history refuses duplicates, and nobody drops what has gone out.
                    if sent.contains(&seq) {
                        continue;
                    }
                    if action == 0 {
                        rewriter.drop_one(seq);
                    } else if let Some(out) = rewriter.rewrite(at(0), &packet(seq, 0)) {
                        sent.insert(seq);
                        prop_assert_eq!(rewriter.source_of(out.seq), Some(seq));
                        prop_assert!(out.seq >= floor, "never behind the switch");
                        prop_assert!(taken.insert(out.seq), "{} twice", out.seq);
                    }
                }
            }
        }
    }
}
