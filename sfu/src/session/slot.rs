//! A slot: one stable outgoing stream towards one subscriber, whose source can be rebound.

use std::time::{Duration, Instant};

use crate::ids::{MediaKind, Mid, PeerKey, Pt, Ssrc, TrackKey};
use crate::media::codec::Codec;
use crate::media::history::{PacketMeta, Stored};
use crate::media::receive::SenderReportMap;
use crate::media::rewrite::{Rewriter, SourcePacket};
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
    packets: u32,
    octets: u32,
    sent_at: Option<Instant>,
}

/// The outgoing header, decided once per negotiation: which payload type, which extension goes by which id.
#[derive(Clone, Default)]
struct Plan {
    codecs: Vec<CodecBinding>,
    /// Payload type for the bound source's codec.
    pt: Option<Pt>,
    mid: Option<u8>,
    transport_cc: Option<u8>,
    /// Id by extension; zero where not negotiated.
    forwarded: [u8; Extension::ALL.len()],
    /// The client takes two-byte headers, RFC 8285 §4.3.
    may_two_byte: bool,
    /// Some id or the mid does not fit the one-byte form.
    needs_two_byte: bool,
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

    pub fn stream(&mut self, open: impl FnOnce(Ssrc) -> StreamId) -> StreamId {
        let ssrc = self.ssrc;
        *self.stream.get_or_insert_with(|| open(ssrc))
    }

    /// Writes the packet's outgoing header and payload to `out`, ready to be sealed. `None`: the packet
    /// belongs to a source the slot has left behind, or `out` is too short.
    pub fn write(&mut self, now: Instant, stored: &Stored<'_>, twcc: u16, out: &mut [u8]) -> Option<Written> {
        let meta = stored.meta;
        let picture = meta.vp8.and_then(|vp8| Some((vp8.picture_id?.value, vp8.tl0_pic_idx.unwrap_or(0))));
        let source = SourcePacket { seq: meta.seq, timestamp: meta.timestamp, picture };
        let rewritten = self.rewriter.rewrite(now, &source)?;
        let plan = &self.plan;
        let is_long = |(_, value): (Extension, &[u8])| !(1..=16).contains(&value.len());
        let two_byte = plan.may_two_byte && (plan.needs_two_byte || Carried::iter(stored.aux).any(is_long));
        let seq = rewritten.seq as u16;
        let mut header =
            HeaderWriter::new(out, meta.marker, plan.pt?, seq, rewritten.timestamp, self.ssrc, two_byte);
        if let Some(id) = plan.mid {
            header.element(id, self.mid.as_bytes());
        }
        if let Some(id) = plan.transport_cc {
            header.element(id, &twcc.to_be_bytes());
        }
        for (kind, value) in Carried::iter(stored.aux) {
            let id = plan.forwarded[kind as usize];
            if id != 0 {
                header.element(id, value);
            }
        }
        let header_len = header.finish();
        let plain_len = header_len + stored.payload.len();
        let payload = out.get_mut(header_len..plain_len)?;
        payload.copy_from_slice(stored.payload);
        if let Some(vp8) = &meta.vp8 {
            vp8.patch(payload, rewritten.picture_id, rewritten.tl0);
        }
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(stored.payload.len() as u32);
        self.sent_at = Some(now);
        Some(Written { index: rewritten.seq, header_len, plain_len })
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
        self.plan.pt = source.and_then(|source| {
            self.plan.codecs.iter().find(|binding| binding.codec == source.codec).map(|binding| binding.pt)
        });
    }
}
