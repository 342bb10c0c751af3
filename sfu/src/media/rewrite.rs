//! Continuity towards one subscriber: many sources come, one stream goes.

use std::collections::VecDeque;
use std::time::Instant;

use super::receive::{MAX_DROPOUT, SenderReportMap};
use crate::ids::Feed;

/// Renumbers the packets of one slot so that a change of source looks like one publisher going on.
///
/// The output is a row of *segments*, one per run of packets from one [`Feed`]. Within a segment every number is
/// the source's plus a constant, so late packets find their place and lost ones leave their gap; at a switch
/// the constants change. What goes out never goes back: a packet from before the segment's first is refused.
/// The last [`MAX_SEGMENTS`] are kept, so that what was lost just before a switch can still be resent.
///
/// Timestamps follow the publisher's own clock where its sender reports tell it: layers of one track then keep
/// their distance to the audio through any number of switches.
///
/// Output sequence numbers are SRTP indices (RFC 3711 §3.3.1): 64 bits, of which the wire takes 16. They
/// start below 2^15, or a receiver that misses the first packets may guess the wrong rollover count.
#[derive(Debug)]
pub struct Rewriter {
    clock_rate: u32,
    first_timestamp: u32,
    /// One past the highest number out.
    next_seq: u64,
    /// Oldest first; the last is the present one, unless `switching`.
    segments: VecDeque<Segment>,
    /// The next packet starts a new segment, whatever it comes from.
    switching: bool,
    newest: Option<Newest>,
    /// Picture id and TL0PICIDX of the newest packet out that had any.
    picture: Option<(u16, u8)>,
    /// Where the present track's wall clock and our timestamps were found to meet.
    anchor: Option<Anchor>,
}

/// What the source says of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SourcePacket {
    /// Unwrapped.
    pub seq: u64,
    /// In units of the clock rate.
    pub timestamp: u32,
    /// VP8, VP9: the picture id (15 bits, or 7) and TL0PICIDX. Zero for one that is absent.
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
    feed: Feed,
    /// This source number goes out as `out`; lower ones are refused.
    source: u64,
    out: u64,
    /// The highest source number that went out.
    newest: u64,
    /// Source numbers left out on purpose, ascending. Those above them move down.
    dropped: VecDeque<u64>,
    clock: Offset,
    /// Added to the source's picture ids and TL0PICIDX. Unknown until a packet has them.
    picture: Option<(u16, u8)>,
}

/// From source timestamps to ours.
#[derive(Clone, Copy, Debug)]
struct Offset {
    /// Added to the source's timestamps.
    ticks: u32,
    /// Added besides, because the picture before was a moment too new; it wanes from `since` on.
    excess: u32,
    since: u32,
}

/// One moment on a publisher's wall clock and on our timestamps.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    ntp: u64,
    timestamp: u32,
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
            segments: VecDeque::new(),
            switching: false,
            newest: None,
            picture: None,
            anchor: None,
        }
    }

    /// The next packet starts a new segment, even if it comes from where the last one came from.
    pub fn switch(&mut self) {
        self.switching = true;
    }

    /// The packet's place in the output. `None` when it belongs before the current segment, or was dropped.
    ///
    /// A packet from another feed than the last one starts a new segment: the caller passes no packet of the
    /// old feed after the first of the new. A source that jumps ahead by [`MAX_DROPOUT`] has started over, and
    /// so do we. `report` is the feed's clock, where known.
    pub fn rewrite(
        &mut self,
        now: Instant,
        feed: Feed,
        source: &SourcePacket,
        report: Option<&SenderReportMap>,
    ) -> Option<Rewritten> {
        let goes_on = |segment: &Segment| segment.feed == feed && source.seq < segment.newest + MAX_DROPOUT;
        if self.switching || !self.segments.back().is_some_and(goes_on) {
            self.start_segment(now, feed, source, report);
        }
        let segment = self.segments.back_mut()?;
        let seq = segment.place(source.seq)?;
        let timestamp = segment.clock.apply(source.timestamp);
        let picture = segment.picture(source.picture, self.picture);
        if seq >= self.next_seq {
            segment.newest = source.seq;
            segment.clock.wane(source.timestamp);
            self.next_seq = seq + 1;
            self.picture = picture.or(self.picture);
            let highest = self.newest.map_or(timestamp, |newest| later(newest.timestamp, timestamp));
            self.newest = Some(Newest { timestamp: highest, at: now });
            if let (None, Some(report)) = (self.anchor, report) {
                self.anchor =
                    Some(Anchor { ntp: report.ntp, timestamp: report.rtp.wrapping_add(segment.clock.ticks) });
            }
        }
        let (picture_id, tl0) = picture.unwrap_or_default();
        Some(Rewritten { seq, timestamp, picture_id, tl0 })
    }

    /// The numbers under which a packet has gone out, to send it again. `None` when it never did, or too long
    /// ago.
    pub fn again(&self, feed: Feed, source: &SourcePacket) -> Option<Rewritten> {
        let at = self.segments.iter().rposition(|segment| {
            segment.feed == feed && (segment.source..=segment.newest).contains(&source.seq)
        })?;
        let segment = &self.segments[at];
        let seq = segment.place(source.seq).filter(|seq| *seq < self.end_of(at))?;
        let (picture_id, tl0) = segment.known_picture(source.picture).unwrap_or_default();
        Some(Rewritten { seq, timestamp: segment.clock.apply(source.timestamp), picture_id, tl0 })
    }

    /// Leaves a source packet out on purpose and closes the gap, so that the subscriber does not ask for it.
    ///
    /// `false` if it is too late for that: a later packet has gone out, or another feed is on. The gap then
    /// looks like loss. The last [`MAX_DROPPED`] are remembered; packets from before those are refused.
    pub fn drop_one(&mut self, feed: Feed, seq: u64) -> bool {
        let current = self.segments.back_mut().filter(|segment| segment.feed == feed && !self.switching);
        current.is_some_and(|segment| segment.drop_one(seq))
    }

    /// The feed and source number behind an output number, for NACKs. It may not have gone out.
    pub fn source_of(&self, seq: u64) -> Option<(Feed, u64)> {
        let at = self.segments.iter().rposition(|segment| segment.out <= seq)?;
        let segment = &self.segments[at];
        Some((segment.feed, segment.source_of(seq)?))
    }

    /// The unwrapped output number behind one on the wire: the nearest that has been given. `None` for one
    /// that has not.
    pub fn unwrap_out(&self, seq: u16) -> Option<u64> {
        let newest = self.next_seq.checked_sub(1)?;
        let behind = (newest as u16).wrapping_sub(seq);
        newest.checked_sub(u64::from(behind)).filter(|_| behind < 1 << 15)
    }

    /// No higher number has been given.
    #[inline]
    pub fn is_newest(&self, seq: u64) -> bool {
        seq + 1 == self.next_seq
    }

    /// A source timestamp on the output's clock, for sender reports. `None` while another feed is on.
    pub fn timestamp_of(&self, feed: Feed, source: u32) -> Option<u32> {
        let current = self.segments.back().filter(|segment| segment.feed == feed && !self.switching)?;
        Some(current.clock.apply(source))
    }

    /// The feed of the packet that went out last.
    pub fn feed(&self) -> Option<Feed> {
        Some(self.segments.back()?.feed)
    }

    fn start_segment(
        &mut self,
        now: Instant,
        feed: Feed,
        source: &SourcePacket,
        report: Option<&SenderReportMap>,
    ) {
        self.switching = false;
        if self.segments.back().is_some_and(|last| last.feed.track != feed.track) {
            // Another publisher's wall clock.
            self.anchor = None;
        }
        let clock = self.clock_of(now, feed, source, report);
        if self.segments.len() == MAX_SEGMENTS {
            self.segments.pop_front();
        }
        self.segments.push_back(Segment::new(feed, source.seq, self.next_seq, clock));
    }

    /// One past the last output number that the segment has, or may have.
    fn end_of(&self, at: usize) -> u64 {
        self.segments.get(at + 1).map_or(self.next_seq, |next| next.out)
    }

    /// Where the next segment's clock starts. By the sender reports, if both feeds have told their clocks; as it went, if
    /// it is the same feed after a pause; else, or where those make no sense, on by the time that has passed. By a frame at least in any case, for decoders
    /// take equal timestamps for one frame (mediasoup #408).
    fn clock_of(
        &mut self,
        now: Instant,
        feed: Feed,
        source: &SourcePacket,
        report: Option<&SenderReportMap>,
    ) -> Offset {
        let Some(newest) = self.newest else {
            return Offset::exact(self.first_timestamp.wrapping_sub(source.timestamp));
        };
        let elapsed = now.saturating_duration_since(newest.at);
        let ticks = elapsed.as_micros() * u128::from(self.clock_rate) / 1_000_000;
        // A quarter of the circle (3 h of video) at most: past the half, time would seem to run back.
        let ticks = ticks.min(1 << 30) as u32;
        let earliest = newest.timestamp.wrapping_add(self.nominal_frame());
        let by_arrival = later(newest.timestamp.wrapping_add(ticks), earliest);
        let told = self.anchor.zip(report).map(|(anchor, report)| {
            let ticks = anchor.timestamp_at(report.ntp, self.clock_rate).wrapping_sub(report.rtp);
            (ticks, source.timestamp.wrapping_add(ticks))
        });
        let last = self.segments.back().filter(|last| last.feed == feed).map(|last| last.clock.ticks);
        let kept = last.map(|ticks| (ticks, source.timestamp.wrapping_add(ticks)));
        let near = |(_, first): &(u32, u32)| self.is_near(*first, by_arrival);
        match told.filter(near).or(kept.filter(near)) {
            Some((ticks, first)) => {
                let excess = (earliest.wrapping_sub(first) as i32).max(0) as u32;
                Offset { ticks, excess, since: source.timestamp }
            }
            None => {
                self.anchor = None;
                Offset::exact(by_arrival.wrapping_sub(source.timestamp))
            }
        }
    }

    /// Within [`BELIEVED`] milliseconds.
    fn is_near(&self, a: u32, b: u32) -> bool {
        let apart = (a.wrapping_sub(b) as i32).unsigned_abs();
        u64::from(apart) * 1_000 <= BELIEVED * u64::from(self.clock_rate)
    }

    /// One frame: 1/30 s of video, 20 ms of audio.
    fn nominal_frame(&self) -> u32 {
        let frames = if self.clock_rate == 90_000 { 30 } else { 50 };
        (self.clock_rate / frames).max(1)
    }
}

impl Anchor {
    fn timestamp_at(&self, ntp: u64, clock_rate: u32) -> u32 {
        // 32.32 seconds; the product of a difference and the rate fits 128 bits, and only the low 32 count.
        let apart = i128::from(ntp.wrapping_sub(self.ntp) as i64);
        self.timestamp.wrapping_add(((apart * i128::from(clock_rate)) >> 32) as u32)
    }
}

impl Offset {
    fn exact(ticks: u32) -> Offset {
        Offset { ticks, excess: 0, since: 0 }
    }

    /// The excess wanes by [`WANES`] per cent of the time that passes, a millisecond in a frame of video: a step
    /// that nobody sees. It depends on the packet alone, so that a resend says the same.
    fn apply(&self, source: u32) -> u32 {
        let passed = (source.wrapping_sub(self.since) as i32).max(0) as u32;
        let waned = (u64::from(passed) * WANES / 100) as u32;
        source.wrapping_add(self.ticks).wrapping_add(self.excess.saturating_sub(waned))
    }

    /// Forgets an excess that has waned long ago, before the timestamps have gone half around their circle.
    fn wane(&mut self, source: u32) {
        if self.excess > 0 && source.wrapping_sub(self.since) as i32 > 1 << 30 {
            self.excess = 0;
        }
    }
}

impl Segment {
    fn new(feed: Feed, source: u64, out: u64, clock: Offset) -> Segment {
        Segment { feed, source, out, newest: source, dropped: VecDeque::new(), clock, picture: None }
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
        self.picture.get_or_insert_with(|| match last {
            Some((last_id, last_tl0)) => {
                (last_id.wrapping_add(1).wrapping_sub(id), last_tl0.wrapping_add(1).wrapping_sub(tl0))
            }
            None => (0, 0),
        });
        self.known_picture(source)
    }

    fn known_picture(&self, source: Option<(u16, u8)>) -> Option<(u16, u8)> {
        let (id, tl0) = source?;
        let (id_offset, tl0_offset) = self.picture?;
        Some((id.wrapping_add(id_offset) & PICTURE_ID, tl0.wrapping_add(tl0_offset)))
    }
}

/// The later of two timestamps on the circle.
fn later(a: u32, b: u32) -> u32 {
    if (b.wrapping_sub(a) as i32) > 0 { b } else { a }
}

/// Segments remembered: a subscriber asks for what it lost within a second, and layers switch less often.
const MAX_SEGMENTS: usize = 4;
/// Dropped packets remembered: about 5 s of a layer that loses half its packets to temporal filtering.
const MAX_DROPPED: usize = 256;
/// How far a switch by the sender reports may lie from one by arrival, in milliseconds: a keyframe's way through
/// a busy uplink, no more. Beyond, somebody's clock was set.
const BELIEVED: u64 = 500;
/// Of a frame's 33 ms, one.
const WANES: u64 = 3;
/// Fifteen bits, RFC 7741 §4.2.
const PICTURE_ID: u16 = 0x7fff;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::ids::TrackKey;
    use crate::testing::at;

    fn feed(layer: u8) -> Feed {
        Feed { track: TrackKey::default(), layer, run: 0 }
    }

    /// A report that says: `rtp` was `millis` after the publisher's wall clock began.
    fn report(millis: u64, rtp: u32) -> SenderReportMap {
        SenderReportMap { ntp: (millis << 32) / 1_000, rtp, received_at: at(0) }
    }

    fn video() -> Rewriter {
        Rewriter::new(100, 50_000, 90_000)
    }

    fn packet(seq: u64, timestamp: u32) -> SourcePacket {
        SourcePacket { seq, timestamp, picture: None }
    }

    fn seq_of(rewriter: &mut Rewriter, seq: u64) -> Option<u64> {
        rewriter.rewrite(at(0), feed(0), &packet(seq, 0), None).map(|out| out.seq)
    }

    #[test]
    fn the_first_packet_takes_the_first_numbers() {
        let mut rewriter = video();
        assert_eq!(rewriter.timestamp_of(feed(0), 7), None);
        let out = rewriter.rewrite(at(0), feed(0), &packet(70_000, 999), None).unwrap();
        assert_eq!(out, Rewritten { seq: 100, timestamp: 50_000, picture_id: 0, tl0: 0 });
        assert_eq!(rewriter.timestamp_of(feed(0), 1_000), Some(50_001));
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
        assert_eq!(rewriter.timestamp_of(feed(0), 0), None);
        assert_eq!(seq_of(&mut rewriter, 5_000), Some(101));
        assert_eq!(seq_of(&mut rewriter, 4_999), None, "before the keyframe that we switched on");
        assert_eq!(seq_of(&mut rewriter, 5_001), Some(102));
    }

    #[test]
    fn a_switch_moves_time_on_by_what_has_passed() {
        let mut rewriter = video();
        rewriter.rewrite(at(0), feed(0), &packet(10, 0), None);
        rewriter.rewrite(at(33), feed(0), &packet(11, 3_000), None);
        rewriter.switch();
        let out = rewriter.rewrite(at(133), feed(0), &packet(7, 0xdead_beef), None).unwrap();
        assert_eq!(out.timestamp, 53_000 + 9_000, "100 ms");
        assert_eq!(rewriter.timestamp_of(feed(0), 0xdead_beef + 90), Some(62_090));
        rewriter.switch();
        let out = rewriter.rewrite(at(133), feed(0), &packet(3, 5), None).unwrap();
        assert_eq!(out.timestamp, 62_000 + 3_000, "a frame at least");
    }

    #[test]
    fn layers_keep_the_publishers_time_through_any_number_of_switches() {
        let mut rewriter = video();
        // Two layers of one camera: the same wall clock, RTP clocks that have nothing to do with each other.
        let layers = [(report(0, 1_000), 1_000_u32), (report(500, 777_045_000), 777_000_000)];
        let mut last = None;
        for frame in 0..600_u64 {
            let layer = (frame / 50 % 2) as usize;
            let (report, origin) = &layers[layer];
            let source = packet(frame + 1, origin.wrapping_add(frame as u32 * 3_000));
            // The keyframe at a switch is large and comes late.
            let late = if frame % 50 == 0 { 80 } else { 0 };
            let out =
                rewriter.rewrite(at(frame * 33 + late), feed(layer as u8), &source, Some(report)).unwrap();
            assert_eq!(out.timestamp, 50_000 + frame as u32 * 3_000, "frame {frame}");
            assert!(last.is_none_or(|last| out.seq == last + 1));
            last = Some(out.seq);
        }
    }

    #[test]
    fn the_same_moment_twice_costs_a_frame_that_wanes() {
        let mut rewriter = video();
        let (low, high) = (report(0, 0), report(0, 9_000_000));
        rewriter.rewrite(at(0), feed(0), &packet(1, 3_000), Some(&low));
        let first = packet(1, 9_003_000);
        let out = rewriter.rewrite(at(5), feed(1), &first, Some(&high)).unwrap();
        assert_eq!(out.timestamp, 53_000, "the frame that had gone out from the other layer, and one more");
        let mut last = out.timestamp;
        for frame in 2..40 {
            let source = packet(frame, 9_000_000 + frame as u32 * 3_000);
            let out = rewriter.rewrite(at(frame * 33), feed(1), &source, Some(&high)).unwrap();
            assert!(out.timestamp > last);
            let excess = out.timestamp - (50_000 + (frame as u32 - 1) * 3_000);
            assert_eq!(
                excess,
                3_000_u32.saturating_sub((frame as u32 - 1) * 90),
                "a millisecond less each frame"
            );
            last = out.timestamp;
        }
        assert_eq!(rewriter.again(feed(1), &first).unwrap().timestamp, 53_000, "a resend says the same");
    }

    #[test]
    fn a_clock_that_was_set_is_not_believed() {
        let mut rewriter = video();
        rewriter.rewrite(at(0), feed(0), &packet(1, 0), Some(&report(0, 0)));
        let set = report(3_600_000, 0);
        let out = rewriter.rewrite(at(100), feed(1), &packet(1, 0), Some(&set)).unwrap();
        assert_eq!(out.timestamp, 50_000 + 9_000, "by arrival");
    }

    #[test]
    fn what_was_lost_before_a_switch_can_still_be_resent() {
        let mut rewriter = video();
        let lost = SourcePacket { seq: 11, timestamp: 3_000, picture: Some((7, 3)) };
        rewriter.rewrite(at(0), feed(0), &packet(10, 0), None);
        let before = rewriter.rewrite(at(33), feed(0), &lost, None).unwrap();
        for layer in 1..4 {
            rewriter.rewrite(at(66), feed(layer), &packet(500, 0), None).unwrap();
            assert_eq!(rewriter.source_of(before.seq), Some((feed(0), 11)));
            assert_eq!(rewriter.again(feed(0), &lost), Some(before));
        }
        assert_eq!(rewriter.again(feed(0), &packet(12, 0)), None, "it never went out");
        rewriter.rewrite(at(99), feed(0), &packet(900, 0), None).unwrap();
        assert_eq!(rewriter.again(feed(0), &lost), None, "four segments back");
    }

    #[test]
    fn audio_moves_on_by_20_ms_at_least() {
        let mut rewriter = Rewriter::new(0, 0, 48_000);
        rewriter.rewrite(at(0), feed(0), &packet(1, 77), None);
        rewriter.switch();
        assert_eq!(rewriter.rewrite(at(1), feed(0), &packet(1, 77), None).unwrap().timestamp, 960);
        rewriter.switch();
        assert_eq!(
            rewriter.rewrite(at(1_001), feed(0), &packet(1, 77), None).unwrap().timestamp,
            960 + 48_000
        );
    }

    #[test]
    fn a_day_of_silence_does_not_turn_time_round() {
        let mut rewriter = video();
        let before = rewriter.rewrite(at(0), feed(0), &packet(1, 0), None).unwrap().timestamp;
        rewriter.switch();
        let after = rewriter.rewrite(at(86_400_000), feed(0), &packet(1, 0), None).unwrap().timestamp;
        assert!(after.wrapping_sub(before) as i32 > 0);
    }

    #[test]
    fn a_dropped_packet_leaves_no_gap() {
        let mut rewriter = video();
        assert!(!rewriter.drop_one(feed(0), 9), "nothing to close yet");
        assert_eq!(seq_of(&mut rewriter, 10), Some(100));
        assert!(rewriter.drop_one(feed(0), 11));
        assert!(rewriter.drop_one(feed(0), 13));
        assert_eq!(seq_of(&mut rewriter, 14), Some(102));
        assert_eq!(seq_of(&mut rewriter, 12), Some(101), "late, between the two");
        assert_eq!(seq_of(&mut rewriter, 11), None);
        assert!(rewriter.drop_one(feed(0), 15));
        assert!(rewriter.drop_one(feed(0), 15), "once is enough");
        assert_eq!(seq_of(&mut rewriter, 16), Some(103));
        assert!(!rewriter.drop_one(feed(0), 15), "16 has gone out");
        let sources: Vec<_> =
            (99..105).map(|out: u64| -> Option<u64> { Some(rewriter.source_of(out)?.1) }).collect();
        assert_eq!(sources, [None, Some(10), Some(12), Some(14), Some(16), Some(17)]);
    }

    #[test]
    fn a_layer_that_is_half_dropped_for_long_stays_bounded() {
        let mut rewriter = video();
        for n in 0..5_000 {
            if n % 2 == 0 {
                assert_eq!(seq_of(&mut rewriter, 10 + n), Some(100 + n / 2));
            } else {
                assert!(rewriter.drop_one(feed(0), 10 + n));
            }
        }
        let segment = rewriter.segments.back().unwrap();
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
            let out =
                rewriter.rewrite(at(0), feed(0), &SourcePacket { seq, timestamp: 0, picture }, None).unwrap();
            (out.picture_id, out.tl0)
        };
        assert_eq!(go(1, Some((0x7ffe, 254))), (0x7ffe, 254));
        assert_eq!(go(2, Some((0x7ffe, 254))), (0x7ffe, 254));
        assert_eq!(go(3, Some((0x7fff, 255))), (0x7fff, 255));
        rewriter.switch();
        let mut go = |seq, picture| {
            let out =
                rewriter.rewrite(at(0), feed(0), &SourcePacket { seq, timestamp: 0, picture }, None).unwrap();
            (out.picture_id, out.tl0)
        };
        assert_eq!(go(50, Some((300, 9))), (0, 0));
        assert_eq!(go(52, Some((302, 9))), (2, 0));
        assert_eq!(go(51, Some((301, 9))), (1, 0), "late");
        rewriter.switch();
        let out = rewriter.rewrite(
            at(0),
            feed(0),
            &SourcePacket { seq: 1, timestamp: 0, picture: Some((126, 7)) },
            None,
        );
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
                        prop_assert!(rewriter.drop_one(feed(0), seq + n));
                        continue;
                    }
                    let source = SourcePacket {
                        seq: seq + n,
                        timestamp: timestamp.wrapping_add(n as u32 * 3_000),
                        picture: Some(((picture + n as u16) & 0x7fff, tl0.wrapping_add(n as u8))),
                    };
                    let out = rewriter.rewrite(at(now), feed(0), &source, None).unwrap();
                    prop_assert_eq!(out.seq, expected);
                    prop_assert_eq!(rewriter.source_of(expected), Some((feed(0), source.seq)));
                    prop_assert_eq!(rewriter.rewrite(at(now + 9), feed(0), &source, None), Some(out), "a resend is the same");
                    prop_assert_eq!(rewriter.timestamp_of(feed(0), source.timestamp), Some(out.timestamp));
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
                        rewriter.drop_one(feed(0), seq);
                    } else if let Some(out) = rewriter.rewrite(at(0), feed(0), &packet(seq, 0), None) {
                        sent.insert(seq);
                        prop_assert_eq!(rewriter.source_of(out.seq), Some((feed(0), seq)));
                        prop_assert!(out.seq >= floor, "never behind the switch");
                        prop_assert!(taken.insert(out.seq), "{} twice", out.seq);
                    }
                }
            }
        }
    }
}
