//! A slot: one stable outgoing stream towards one subscriber, whose source can be rebound.

use std::time::{Duration, Instant};

use crate::ids::{MediaKind, Mid, PeerKey, Pt, Ssrc, TrackKey};
use crate::media::codec::Codec;
use crate::media::history::{PacketMeta, Stored};
use crate::media::receive::SenderReportMap;
use crate::media::resend::{self, Resends};
use crate::media::rewrite::{Rewriter, Rewritten, SourcePacket};
use crate::session::negotiate::{self, CodecBinding, Extension, Origin};
use crate::session::srtp::StreamId;
use crate::session::uplinks::Carried;
use crate::wire::rtp::HeaderWriter;

/// What feeds a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Source {
    pub publisher: PeerKey,
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
    /// Packets are held back until a keyframe starts.
    waiting: bool,
    source: Option<Source>,
    plan: Plan,
    rewriter: Rewriter,
    stream: Option<StreamId>,
    repair_ssrc: Option<Ssrc>,
    repair_stream: Option<StreamId>,
    /// The repair stream's next sequence number, unwrapped.
    next_repair: u64,
    resends: Resends,
    packets: u32,
    octets: u32,
    sent_at: Option<Instant>,
}

/// The outgoing header, decided once per negotiation: which payload type, which extension goes by which id.
#[derive(Clone, Default)]
struct Plan {
    codecs: Vec<CodecBinding>,
    /// Payload types for the bound source's codec and for its repairs.
    pt: Option<Pt>,
    repair_pt: Option<Pt>,
    mid: Option<u8>,
    transport_cc: Option<u8>,
    /// Id by extension; zero where not negotiated.
    forwarded: [u8; Extension::ALL.len()],
    /// The client takes two-byte headers, RFC 8285 §4.3.
    may_two_byte: bool,
    /// Some id or the mid does not fit the one-byte form.
    needs_two_byte: bool,
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
            waiting: false,
            source: None,
            plan: Plan::default(),
            rewriter: Rewriter::new(first_seq, first_timestamp, clock_rate),
            stream: None,
            repair_ssrc: negotiated.rtx,
            repair_stream: None,
            next_repair: u64::from(first_seq & 0x7fff),
            resends: Resends::default(),
            packets: 0,
            octets: 0,
            sent_at: None,
        };
        slot.update(negotiated);
        slot
    }

    /// Takes over what a negotiation settled.
    pub fn update(&mut self, negotiated: &negotiate::Downlink) {
        self.agreed = negotiated.agreed && negotiated.active;
        let ids = &negotiated.extensions;
        let mut forwarded = [0; Extension::ALL.len()];
        for (kind, id) in ids.iter() {
            forwarded[kind as usize] = id;
        }
        self.plan = Plan {
            codecs: negotiated.codecs.clone(),
            pt: None,
            repair_pt: None,
            mid: ids.id_of(Extension::Mid),
            transport_cc: ids.id_of(Extension::TransportCc),
            forwarded,
            may_two_byte: ids.two_byte(),
            needs_two_byte: forwarded.iter().any(|id| *id > 14) || self.mid.as_bytes().len() > 16,
        };
        self.choose_pt();
    }

    pub fn source(&self) -> Option<Source> {
        self.source
    }

    /// Rebinds the slot. Its SSRC, numbers and clock go on; the new source joins them.
    pub fn bind(&mut self, source: Option<Source>) {
        if self.source == source {
            return;
        }
        self.source = source;
        self.restart();
        self.choose_pt();
    }

    /// The source began anew: what follows is a new segment, and video waits for its keyframe.
    pub fn restart(&mut self) {
        self.rewriter.switch();
        self.resends = Resends::default();
        self.waiting = self.kind == MediaKind::Video;
    }

    /// Whether packets could be sent: agreed, bound, and in a codec the client takes.
    pub fn is_ready(&self) -> bool {
        self.agreed && self.source.is_some() && self.plan.pt.is_some()
    }

    /// Whether the packet may be queued, or the slot still waits for a keyframe.
    pub fn admits(&mut self, meta: &PacketMeta) -> bool {
        self.waiting &= !meta.keyframe;
        !self.waiting
    }

    /// Some packet was lost on the way out: video needs a keyframe to go on cleanly.
    pub fn lost(&mut self) {
        self.waiting = self.kind == MediaKind::Video;
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
    pub fn write(&mut self, now: Instant, stored: &Stored<'_>, twcc: u16, out: &mut [u8]) -> Option<Written> {
        let rewritten = self.rewriter.rewrite(now, &source_packet(stored))?;
        let header = Header {
            pt: self.plan.pt?,
            ssrc: self.ssrc,
            seq: rewritten.seq as u16,
            timestamp: rewritten.timestamp,
            marker: stored.meta.marker,
        };
        let header_len = self.write_header(&header, stored.aux, twcc, out);
        let plain_len = write_payload(stored, &rewritten, header_len, out)?;
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(stored.payload.len() as u32);
        self.sent_at = Some(now);
        Some(Written { index: rewritten.seq, header_len, plain_len })
    }

    /// Writes the packet as a repair: the same numbers, on the repair stream, behind the original sequence
    /// number (RFC 4588 §4). `None` as for [`write`](Self::write), or when the client takes no repairs.
    pub fn write_repair(
        &mut self,
        now: Instant,
        stored: &Stored<'_>,
        twcc: u16,
        out: &mut [u8],
    ) -> Option<Written> {
        let (pt, ssrc) = (self.plan.repair_pt?, self.repair_ssrc?);
        let rewritten = self.rewriter.rewrite(now, &source_packet(stored))?;
        let index = self.next_repair;
        let seq = index as u16;
        let header = Header { pt, ssrc, seq, timestamp: rewritten.timestamp, marker: stored.meta.marker };
        let header_len = self.write_header(&header, stored.aux, twcc, out);
        let osn = (rewritten.seq as u16).to_be_bytes();
        out.get_mut(header_len..header_len + 2)?.copy_from_slice(&osn);
        let plain_len = write_payload(stored, &rewritten, header_len + 2, out)?;
        self.next_repair += 1;
        Some(Written { index, header_len, plain_len })
    }

    /// The source packet behind a sequence number that the subscriber misses, if it went out on the present
    /// source.
    pub fn source_seq(&self, seq: u16) -> Option<u64> {
        self.rewriter.source_of(self.rewriter.unwrap_out(seq)?)
    }

    /// Whether a request for source packet `seq` is to be answered now.
    pub fn judge_request(&mut self, now: Instant, seq: u64, rtt: Duration) -> resend::Verdict {
        self.resends.judge(now, seq, rtt)
    }

    /// The client takes repairs on this slot in the codec it carries.
    pub fn takes_repairs(&self) -> bool {
        self.repair_ssrc.is_some() && self.plan.repair_pt.is_some()
    }

    /// The source left out a sequence number on purpose.
    pub fn skip(&mut self, seq: u64) {
        self.rewriter.drop_one(seq);
    }

    fn write_header(&self, header: &Header, carried: &[u8], twcc: u16, out: &mut [u8]) -> usize {
        let plan = &self.plan;
        let is_long = |(_, value): (Extension, &[u8])| !(1..=16).contains(&value.len());
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
            if id != 0 {
                writer.element(id, value);
            }
        }
        writer.finish()
    }

    /// Whether packets are numbered for transport-wide feedback.
    pub fn numbers_transport(&self) -> bool {
        self.plan.transport_cc.is_some()
    }

    /// The publisher's sender report as this subscriber must see it: same capture time, our timestamps and
    /// counts. None without a report, or when nothing was sent for two seconds.
    pub fn sender_report(
        &self,
        now: Instant,
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
            rtp_time: self.rewriter.timestamp_of(source.rtp.wrapping_add(ticks))?,
            packet_count: self.packets,
            octet_count: self.octets,
            ..Default::default()
        })
    }

    fn choose_pt(&mut self) {
        let source = self.source;
        let binding = |codecs: &[CodecBinding]| {
            source.and_then(|source| codecs.iter().find(|binding| binding.codec == source.codec).cloned())
        };
        let chosen = binding(&self.plan.codecs);
        self.plan.pt = chosen.as_ref().map(|binding| binding.pt);
        self.plan.repair_pt = chosen.and_then(|binding| binding.rtx);
    }
}

fn source_packet(stored: &Stored<'_>) -> SourcePacket {
    let meta = stored.meta;
    let picture = meta.vp8.and_then(|vp8| Some((vp8.picture_id?.value, vp8.tl0_pic_idx.unwrap_or(0))));
    SourcePacket { seq: meta.seq, timestamp: meta.timestamp, picture }
}

/// Copies the payload to `at` and gives it its outgoing picture numbers. The length so far.
fn write_payload(stored: &Stored<'_>, rewritten: &Rewritten, at: usize, out: &mut [u8]) -> Option<usize> {
    let end = at + stored.payload.len();
    let payload = out.get_mut(at..end)?;
    payload.copy_from_slice(stored.payload);
    if let Some(vp8) = &stored.meta.vp8 {
        vp8.patch(payload, rewritten.picture_id, rewritten.tl0);
    }
    Some(end)
}
