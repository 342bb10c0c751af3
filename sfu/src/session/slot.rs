//! A slot: one stable outgoing stream towards one subscriber, whose source can be rebound.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::LayerLimit;
use crate::ids::{Feed, MediaKind, Mid, PeerId, Pt, Ssrc, TrackKey};
use crate::media::codec::Codec;
use crate::media::history::Stored;
use crate::media::loss::LossWindow;
use crate::media::receive::SenderReportMap;
use crate::media::resend::{Resends, Verdict};
use crate::media::rewrite::{Rewriter, Rewritten, SourcePacket};
use crate::session::negotiate::{self, CodecBinding, Extension, Origin};
use crate::session::repairs::Missing;
use crate::session::srtp::StreamId;
use crate::session::uplinks::Carried;
use crate::stats::OutboundStats;
use crate::wire::descriptor::{self, Structure};
use crate::wire::red;
use crate::wire::rtp::HeaderWriter;

/// What feeds a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Source {
    pub publisher: PeerId,
    pub track: TrackKey,
    pub codec: Codec,
}

/// One outgoing stream.
pub struct Slot {
    pub mid: Mid,
    pub kind: MediaKind,
    pub origin: Origin,
    pub ssrc: Ssrc,
    /// The client has agreed to receive on it.
    pub agreed: bool,
    /// The router sends to it.
    pub live: bool,
    /// What went out last of the source's stream: its largest spatial and fastest temporal layer.
    pub passes: (u8, u8),
    /// How much of a track the host allows on it.
    pub limit: LayerLimit,
    /// Nothing goes out on it: one video more than there may be.
    pub left_out: bool,
    /// The host wants its track before all others.
    pub pinned: bool,
    /// The layer that the host was last told of.
    pub told_layer: Option<u8>,
    /// The codecs that it was told are missing, each once: a publisher may change them packet by packet.
    pub told_missing: Vec<Codec>,
    source: Option<Source>,
    plan: Plan,
    rewriter: Rewriter,
    stream: Option<StreamId>,
    repair_ssrc: Option<Ssrc>,
    repair_stream: Option<StreamId>,
    /// The repair stream's next sequence number, unwrapped.
    next_repair: u64,
    resends: Resends,
    frames: FrameNumbers,
    packets: u64,
    octets: u64,
    repairs: u64,
    sent_at: Option<Instant>,
    /// What the peer's reports tell of it.
    pub reported: LossWindow,
}

/// The outgoing header, decided once per negotiation: which payload type, which extension goes by which id.
#[derive(Clone, Default)]
struct Plan {
    codecs: Arc<[CodecBinding]>,
    /// How the codec of the packets at hand goes out; looked up when it changes.
    carriage: Option<Carriage>,
    mid: Option<u8>,
    transport_cc: Option<u8>,
    /// Id by extension; zero where not negotiated.
    forwarded: [u8; Extension::ALL.len()],
    /// The client takes two-byte headers, RFC 8285 §4.3.
    may_two_byte: bool,
    /// Some id or the mid does not fit the one-byte form.
    needs_two_byte: bool,
}

/// How a codec goes out.
#[derive(Clone, Copy)]
struct Carriage {
    codec: Codec,
    pt: Pt,
    /// For repairs.
    repair_pt: Option<Pt>,
    redundancy: Redundancy,
}

/// What happens to the redundancy of RED, RFC 2198.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Redundancy {
    /// There is none.
    None,
    /// It goes along; its blocks are of this payload type at the client.
    Kept(Pt),
    /// The client does not take it: the latest block goes alone.
    Stripped,
}

/// A packet to be written, and what its layer knows besides.
#[derive(Clone, Copy)]
pub struct Piece<'l> {
    pub feed: Feed,
    pub stored: Stored<'l>,
    /// The publisher's clock for the layer.
    pub report: Option<&'l SenderReportMap>,
    /// What the packet's dependency descriptor refers to.
    pub structure: Option<&'l Structure>,
    /// What the subscriber gets of the stream: the largest spatial and the fastest temporal layer.
    pub passes: (u8, u8),
}

/// What a packet's fixed header says.
struct Header {
    pt: Pt,
    ssrc: Ssrc,
    seq: u16,
    timestamp: u32,
    marker: bool,
}

/// Where the parts of a packet just written lie.
pub struct Written {
    /// The 48-bit SRTP index: extended outgoing sequence number.
    pub index: u64,
    /// The extended sequence number of the packet, or of the one that a repair brings.
    pub number: u64,
    pub header_len: usize,
    pub plain_len: usize,
}

impl Slot {
    pub fn new(negotiated: &negotiate::Downlink, first_seq: u16, first_timestamp: u32) -> Self {
        let clock_rate = match negotiated.kind {
            MediaKind::Audio => 48_000,
            MediaKind::Video => 90_000,
        };
        let mut slot = Slot {
            mid: negotiated.mid,
            kind: negotiated.kind,
            origin: negotiated.origin,
            ssrc: negotiated.ssrc,
            agreed: false,
            live: false,
            passes: (u8::MAX, u8::MAX),
            limit: LayerLimit::NONE,
            left_out: false,
            pinned: false,
            told_layer: None,
            told_missing: Vec::new(),
            source: None,
            plan: Plan::default(),
            rewriter: Rewriter::new(first_seq, first_timestamp, clock_rate),
            stream: None,
            repair_ssrc: negotiated.rtx,
            repair_stream: None,
            next_repair: u64::from(first_seq & 0x7fff),
            resends: Resends::default(),
            frames: FrameNumbers::default(),
            packets: 0,
            octets: 0,
            repairs: 0,
            sent_at: None,
            reported: LossWindow::default(),
        };
        slot.update(negotiated);
        slot
    }

    /// Takes over what a negotiation settled.
    pub fn update(&mut self, negotiated: &negotiate::Downlink) {
        self.agreed = negotiated.agreed && negotiated.active;
        if self.repair_ssrc != negotiated.rtx {
            self.repair_ssrc = negotiated.rtx;
            self.repair_stream = None;
        }
        let ids = &negotiated.extensions;
        let mut forwarded = [0; Extension::ALL.len()];
        for (kind, id) in ids.iter() {
            forwarded[kind as usize] = id;
        }
        if !ids.two_byte() {
            // A structure needs the two-byte form, and descriptors without it are worse than none.
            forwarded[Extension::DependencyDescriptor as usize] = 0;
        }
        self.plan = Plan {
            codecs: negotiated.codecs.clone(),
            carriage: None,
            mid: ids.id_of(Extension::Mid),
            transport_cc: ids.id_of(Extension::TransportCc),
            forwarded,
            may_two_byte: ids.two_byte(),
            needs_two_byte: forwarded.iter().any(|id| *id > 14) || self.mid.as_bytes().len() > 16,
        };
        self.tune();
    }

    pub fn source(&self) -> Option<Source> {
        self.source
    }

    /// Rebinds the slot. Its SSRC, numbers and clock go on; the new source joins them.
    pub fn bind(&mut self, source: Option<Source>) {
        if self.source == source {
            return;
        }
        // It was the track, not the place.
        self.pinned &= self.source.map(|old| old.track) == source.map(|new| new.track);
        self.source = source;
        self.told_layer = None;
        self.told_missing.clear();
        self.restart();
        self.tune();
    }

    /// The publisher sends another codec now.
    pub fn retune(&mut self, codec: Codec) {
        if let Some(source) = &mut self.source {
            source.codec = codec;
        }
        self.tune();
    }

    /// The next packet starts a new segment.
    pub fn restart(&mut self) {
        self.rewriter.switch();
    }

    /// Whether packets could be sent: agreed, bound, and in a codec the client takes.
    pub fn is_ready(&self) -> bool {
        self.agreed && self.source.is_some() && self.plan.carriage.is_some()
    }

    /// The codec that the client would have to take, and does not.
    pub fn lacks_codec(&self) -> Option<Source> {
        self.source.filter(|_| self.agreed && self.plan.carriage.is_none())
    }

    /// The sealed stream its packets go out on, opened with the first.
    pub fn stream(&mut self, open: impl FnOnce(Ssrc) -> StreamId) -> StreamId {
        let ssrc = self.ssrc;
        *self.stream.get_or_insert_with(|| open(ssrc))
    }

    /// Likewise for repairs.
    pub fn repair_stream(&mut self, open: impl FnOnce(Ssrc) -> StreamId) -> Option<StreamId> {
        let ssrc = self.repair_ssrc?;
        Some(*self.repair_stream.get_or_insert_with(|| open(ssrc)))
    }

    /// Writes the packet's outgoing header and payload to `out`, ready to be sealed. `None`: the packet
    /// belongs to a source the slot has left behind, or `out` is too short.
    pub fn write(&mut self, now: Instant, piece: &Piece<'_>, twcc: u16, out: &mut [u8]) -> Option<Written> {
        let stored = &piece.stored;
        let carriage = self.carriage(stored.meta.codec)?;
        let rewritten = self.rewriter.rewrite(now, piece.feed, &source_packet(stored), piece.report)?;
        let header = Header {
            pt: carriage.pt,
            ssrc: self.ssrc,
            seq: rewritten.seq as u16,
            timestamp: rewritten.timestamp,
            marker: piece.marker(),
        };
        if let Some((_, descriptor)) =
            Carried::iter(stored.aux).find(|(kind, _)| *kind == Extension::DependencyDescriptor)
        {
            self.frames.follow(piece.feed.track, descriptor);
        }
        let header_len = self.write_header(&header, piece, twcc, out);
        let plain_len = write_payload(stored, &rewritten, carriage.redundancy, header_len, out)?;
        self.packets += 1;
        self.octets += stored.payload.len() as u64;
        self.sent_at = Some(now);
        Some(Written { index: rewritten.seq, number: rewritten.seq, header_len, plain_len })
    }

    /// Writes the packet as a repair: the same numbers, on the repair stream, behind the original sequence
    /// number (RFC 4588 §4). `None` when it never went out, or when the client takes no repairs.
    pub fn write_repair(&mut self, piece: &Piece<'_>, twcc: u16, out: &mut [u8]) -> Option<Written> {
        let stored = &piece.stored;
        let carriage = self.carriage(stored.meta.codec)?;
        let (pt, ssrc) = (carriage.repair_pt?, self.repair_ssrc?);
        let rewritten = self.rewriter.again(piece.feed, &source_packet(stored))?;
        let index = self.next_repair;
        let seq = index as u16;
        let header = Header { pt, ssrc, seq, timestamp: rewritten.timestamp, marker: piece.marker() };
        let header_len = self.write_header(&header, piece, twcc, out);
        let osn = (rewritten.seq as u16).to_be_bytes();
        out.get_mut(header_len..header_len + 2)?.copy_from_slice(&osn);
        let plain_len = write_payload(stored, &rewritten, carriage.redundancy, header_len + 2, out)?;
        self.next_repair += 1;
        self.repairs += 1;
        Some(Written { index, number: rewritten.seq, header_len, plain_len })
    }

    /// The packet behind a sequence number that the subscriber of this slot, the one at `index`, misses.
    pub fn missing(&self, index: u16, seq: u16) -> Option<Missing> {
        let number = self.rewriter.unwrap_out(seq)?;
        let (feed, seq) = self.rewriter.source_of(number)?;
        Some(Missing { slot: index, number, feed, seq })
    }

    /// Whether a packet that went out may be sent again now, in so many `copies` the first time and afterwards.
    pub fn judge_repair(&mut self, now: Instant, number: u64, rtt: Duration, copies: [u8; 2]) -> Verdict {
        self.resends.judge(now, number, rtt, copies)
    }

    /// A packet leaves for the first time, but may be behind others: what asks for it has crossed with it.
    #[inline]
    pub fn on_first(&mut self, now: Instant, number: u64, rtt: impl FnOnce() -> Duration) {
        if !self.rewriter.is_newest(number) && self.takes_repairs() {
            self.resends.on_late(now, number, rtt());
        }
    }

    /// A packet went out again lately.
    pub fn has_repaired(&self, number: u64) -> bool {
        self.resends.has_resent(number)
    }

    /// A repair that was to leave is not within the budget: it can be asked for again at once.
    pub fn on_repair_refused(&mut self, now: Instant, piece: &Piece<'_>) {
        if let Some(rewritten) = self.rewriter.again(piece.feed, &source_packet(&piece.stored)) {
            self.resends.on_refused(now, rewritten.seq);
        }
    }

    /// The latest repair of a packet is known to be lost.
    pub fn on_repair_lost(&mut self, now: Instant, number: u64) {
        self.resends.on_lost(now, number);
    }

    /// The client takes repairs on this slot in the codec it carries.
    pub fn takes_repairs(&self) -> bool {
        self.repair_ssrc.is_some() && self.plan.carriage.is_some_and(|carriage| carriage.repair_pt.is_some())
    }

    /// A packet of the source is left out on purpose: the numbers close up.
    pub fn skip(&mut self, feed: Feed, seq: u64) {
        self.rewriter.drop_one(feed, seq);
    }

    fn write_header(&self, header: &Header, piece: &Piece<'_>, twcc: u16, out: &mut [u8]) -> usize {
        let plan = &self.plan;
        let carried = piece.stored.aux;
        // A restricted descriptor grows by four bytes at most.
        let is_long = |(kind, value): (Extension, &[u8])| {
            let most = if kind == Extension::DependencyDescriptor { 12 } else { 16 };
            !(1..=most).contains(&value.len())
        };
        let two_byte = plan.may_two_byte && (plan.needs_two_byte || Carried::iter(carried).any(is_long));
        let Header { pt, ssrc, seq, timestamp, marker } = *header;
        let mut writer = HeaderWriter::new(out, marker, pt, seq, timestamp, ssrc, two_byte);
        if let Some(id) = plan.mid {
            writer.element(id, self.mid.as_bytes());
        }
        if let Some(id) = plan.transport_cc {
            writer.element(id, &twcc.to_be_bytes());
        }
        for (kind, value) in Carried::iter(carried) {
            let id = plan.forwarded[kind as usize];
            if id == 0 {
                continue;
            }
            if kind == Extension::DependencyDescriptor {
                let mut descriptor = [0; descriptor::MAX_BYTES];
                let len = piece.restrict(value, &mut descriptor);
                self.frames.patch(piece.feed.track, &mut descriptor[..len]);
                writer.element(id, &descriptor[..len]);
            } else {
                writer.element(id, value);
            }
        }
        writer.finish()
    }

    /// Whether packets are numbered for transport-wide feedback.
    pub fn numbers_transport(&self) -> bool {
        self.plan.transport_cc.is_some()
    }

    /// The feed of the packet that went out last: whose clock the next sender report tells.
    pub fn feed(&self) -> Option<Feed> {
        self.rewriter.feed()
    }

    /// What has gone out on it.
    pub fn stats(&self) -> OutboundStats {
        OutboundStats {
            mid: self.mid.to_string(),
            ssrc: self.ssrc.0,
            kind: self.kind,
            publisher: self.source.map(|source| source.publisher),
            packets_sent: self.packets,
            bytes_sent: self.octets,
            retransmitted_packets_sent: self.repairs,
        }
    }

    /// The publisher's sender report as this subscriber must see it: same capture time, our timestamps and
    /// counts. None without a report, or when nothing was sent for two seconds.
    pub fn sender_report(
        &self,
        now: Instant,
        feed: Feed,
        source: &SenderReportMap,
    ) -> Option<rtcp::sender_report::SenderReport> {
        let quiet = now.saturating_duration_since(self.sent_at?);
        if quiet > Duration::from_secs(2) {
            return None;
        }
        let clock_rate = self.source?.codec.clock_rate();
        let age = now.saturating_duration_since(source.received_at);
        let ticks = (age.as_micros() * u128::from(clock_rate) / 1_000_000) as u32;
        // NTP is 32.32 fixed point: microseconds × 2^32 / 10^6.
        let ntp = source.ntp.wrapping_add(((age.as_micros() << 32) / 1_000_000) as u64);
        Some(rtcp::sender_report::SenderReport {
            ssrc: self.ssrc.0,
            ntp_time: ntp,
            rtp_time: self.rewriter.timestamp_of(feed, source.rtp.wrapping_add(ticks))?,
            // 32 bits, which wrap: RFC 3550 §6.4.1.
            packet_count: self.packets as u32,
            octet_count: self.octets as u32,
            ..Default::default()
        })
    }

    /// Looks up how the source's codec goes out.
    fn tune(&mut self) {
        self.plan.carriage = self.source.and_then(|source| Carriage::of(&self.plan.codecs, source.codec));
    }

    /// How a packet of `codec` goes out: as the one before it, mostly.
    fn carriage(&mut self, codec: Codec) -> Option<Carriage> {
        if self.plan.carriage.is_none_or(|carriage| carriage.codec != codec) {
            self.plan.carriage = Carriage::of(&self.plan.codecs, codec);
        }
        self.plan.carriage
    }
}

impl Carriage {
    fn of(codecs: &[CodecBinding], codec: Codec) -> Option<Carriage> {
        let binding = CodecBinding::carrying(codecs, codec)?;
        let opus = codecs.iter().find(|binding| binding.codec == Codec::Opus);
        let redundancy = match (codec, binding.codec, opus) {
            (Codec::Red, Codec::Red, Some(opus)) => Redundancy::Kept(opus.pt),
            (Codec::Red, ..) => Redundancy::Stripped,
            _ => Redundancy::None,
        };
        Some(Carriage { codec, pt: binding.pt, repair_pt: binding.rtx, redundancy })
    }
}

impl Piece<'_> {
    /// The last packet that the subscriber gets of a picture ends it, RFC 9628 §4.1.
    fn marker(&self) -> bool {
        let picture = &self.stored.meta.picture;
        self.stored.meta.marker || (picture.ends_frame && picture.spatial == self.passes.0)
    }

    /// A dependency descriptor names the decode targets that the subscriber can count on: in every packet, for a
    /// receiver that waits for a frame of a target it will never get stands still.
    fn restrict(&self, value: &[u8], out: &mut [u8]) -> usize {
        let (spatial, temporal) = self.passes;
        let structure = self.structure.filter(|_| (spatial, temporal) != (u8::MAX, u8::MAX));
        let restricted = structure.and_then(|structure| {
            descriptor::restrict(value, structure, structure.targets_within(spatial, temporal), out)
        });
        restricted.unwrap_or_else(|| {
            let len = value.len().min(out.len());
            out[..len].copy_from_slice(&value[..len]);
            len
        })
    }
}

/// The frame numbers of dependency descriptors, which must not run back when another publisher takes the slot:
/// a receiver drops a keyframe that seems older than the last (libwebrtc). Within one publisher's track they are
/// left as they are, for its layers count together.
#[derive(Debug, Default)]
struct FrameNumbers {
    /// What is added for the present track, and for the one before it, whose repairs may still come.
    present: Option<(TrackKey, u16)>,
    before: Option<(TrackKey, u16)>,
    /// The newest number out.
    newest: u16,
}

impl FrameNumbers {
    /// A packet of `track` is about to go out for the first time, with this descriptor.
    fn follow(&mut self, track: TrackKey, descriptor: &[u8]) {
        let Some([_, high, low]) = descriptor.first_chunk::<3>() else { return };
        let number = u16::from_be_bytes([*high, *low]);
        let added = match self.present {
            Some((present, added)) if present == track => added,
            None => 0,
            Some(_) => self.newest.wrapping_add(1).wrapping_sub(number),
        };
        if self.present.is_none_or(|(present, _)| present != track) {
            self.before = self.present.replace((track, added));
        }
        let out = number.wrapping_add(added);
        if out.wrapping_sub(self.newest) < 1 << 15 {
            self.newest = out;
        }
    }

    fn patch(&self, track: TrackKey, descriptor: &mut [u8]) {
        let known = [self.present, self.before].into_iter().flatten().find(|(known, _)| *known == track);
        if let (Some((_, added)), Some([_, high, low])) = (known, descriptor.first_chunk_mut::<3>()) {
            [*high, *low] = u16::from_be_bytes([*high, *low]).wrapping_add(added).to_be_bytes();
        }
    }
}

fn source_packet(stored: &Stored<'_>) -> SourcePacket {
    let meta = stored.meta;
    SourcePacket { seq: meta.seq, timestamp: meta.timestamp, picture: meta.picture.numbers.get() }
}

/// Copies the payload to `at` and gives it its outgoing numbers. The length so far.
fn write_payload(
    stored: &Stored<'_>,
    rewritten: &Rewritten,
    redundancy: Redundancy,
    at: usize,
    out: &mut [u8],
) -> Option<usize> {
    let from = match redundancy {
        Redundancy::Stripped => stored.payload.get(red::primary(stored.payload)?.1)?,
        Redundancy::None | Redundancy::Kept(_) => stored.payload,
    };
    let end = at + from.len();
    let payload = out.get_mut(at..end)?;
    payload.copy_from_slice(from);
    if let Redundancy::Kept(pt) = redundancy {
        red::retype(payload, pt.0);
    }
    stored.meta.picture.numbers.patch(payload, rewritten.picture_id, rewritten.tl0);
    Some(end)
}

#[test]
fn frame_numbers_go_on_when_the_publisher_changes() {
    let mut keys = slotmap::SlotMap::with_key();
    let (ada, eve): (TrackKey, TrackKey) = (keys.insert(()), keys.insert(()));
    let mut frames = FrameNumbers::default();
    let mut out = |track, number: u16| {
        let [high, low] = number.to_be_bytes();
        let mut descriptor = [0xc0, high, low];
        frames.follow(track, &descriptor);
        frames.patch(track, &mut descriptor);
        u16::from_be_bytes([descriptor[1], descriptor[2]])
    };
    assert_eq!(out(ada, 65_535), 65_535, "the first publisher's are left alone");
    assert_eq!(out(ada, 1), 1);
    assert_eq!(out(eve, 40_000), 2, "never back");
    assert_eq!(out(eve, 40_007), 9);
    assert_eq!(out(ada, 3), 10);
}
