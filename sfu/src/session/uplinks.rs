//! What one peer publishes: its media sections, the streams that feed them, and their accounts.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::counters::{Counters, Direction, DropKind, Transmission};
use crate::drop::DropReason;
use crate::ids::{MediaKind, Mid, Pt, Rid, Ssrc, TrackKey};
use crate::media::arrivals::Arrivals;
use crate::media::history::PacketMeta;
use crate::media::loss::LossWindow;
use crate::media::nack::{Arrival, Nacks};
use crate::media::picture::{Picture, PictureReader};
use crate::media::police::{Part, Police, Stage, Verdict};
use crate::media::receive::Receiver;
use crate::seq::SeqUnwrapper;
use crate::session::negotiate::{self, CodecBinding, Extension, ExtensionMap};
use crate::session::quality::Quality;
use crate::session::srtp::Inbound;
use crate::stats::InboundStats;
use crate::units::Bitrate;
use crate::wire::descriptor::Structure;
use crate::wire::rtp::RtpHeader;

/// Streams one peer may send: each published section needs a media and a repair stream, three times over
/// for simulcast.
const MAX_STREAMS: usize = 64;

/// SSRCs of removed sections that are remembered, with their replay windows.
const MAX_RETIRED: usize = 64;

/// The least time between two changes of the SSRC that feeds a layer.
const SWITCH_SPACING: Duration = Duration::from_millis(500);

/// Unannounced SSRCs per second that we try to authenticate, to learn them by their MID. The rest are
/// refused before any cryptography.
const PROBES_PER_SECOND: u32 = 16;

/// What an audio section takes that has no cap of its own.
const AUDIO: Bitrate = Bitrate::kbps(64);

/// Extensions that belong to the sender's media and travel with it. The others are hop-by-hop.
const FORWARDED: [Extension; 5] = [
    Extension::AudioLevel,
    Extension::VideoOrientation,
    Extension::AbsCaptureTime,
    Extension::PlayoutDelay,
    Extension::DependencyDescriptor,
];

/// A media section on which the peer sends to us.
pub struct Uplink {
    pub mid: Mid,
    pub kind: MediaKind,
    pub codecs: Arc<[CodecBinding]>,
    pub extensions: ExtensionMap,
    /// The client takes REMB on it.
    pub remb: bool,
    /// The client answers NACKs on it.
    nack: bool,
    /// Where the router keeps it; given at publication.
    pub track: TrackKey,
    /// One without simulcast.
    layers: Vec<Encoding>,
    /// There while the section has a cap of its own.
    police: Option<Box<Police>>,
    cap: Option<Bitrate>,
}

/// One of the streams by which the peer sends a section's media: with simulcast, a layer.
#[derive(Default)]
struct Encoding {
    /// The name the client gave it; `None` without simulcast.
    rid: Option<Rid>,
    /// The SSRC whose media is being forwarded.
    active: Option<Ssrc>,
    switched_at: Option<Instant>,
}

impl Uplink {
    /// The layer named in `extension`, by the value that the packet has there.
    fn layer_named(&self, extension: Extension, header: &RtpHeader, plain: &[u8]) -> Option<u8> {
        let id = self.extensions.id_of(extension)?;
        let (_, name) = header.extensions(plain).find(|(found, _)| *found == id)?;
        let named = |layer: &Encoding| layer.rid.is_some_and(|rid| rid.as_bytes() == name);
        self.layers.iter().position(named).map(|layer| layer as u8)
    }

    fn is_simulcast(&self) -> bool {
        self.layers.iter().any(|layer| layer.rid.is_some())
    }
}

impl Encoding {
    /// Another SSRC may take over only once in a while: stragglers of the old one must not take back over.
    fn may_switch(&self, now: Instant) -> bool {
        self.switched_at.is_none_or(|at| now >= at + SWITCH_SPACING)
    }
}

struct Stream {
    ssrc: Ssrc,
    mid: Mid,
    kind: MediaKind,
    role: Role,
    receiver: Receiver,
    nacks: Nacks,
    unwrapper: SeqUnwrapper,
    pictures: PictureReader,
    loss: LossWindow,
    /// Something authentic arrived on it.
    proven: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// The layer is unknown until a packet has named it; 0 without simulcast. Until then the order in which the
    /// client announced its streams may be a `guess`.
    Media { layer: Option<u8>, guess: Option<u8> },
    /// RFC 4588: carries repairs of another stream.
    Repair { of: Repaired },
}

/// How a repair stream says what it repairs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repaired {
    /// By `a=ssrc-group:FID`, or by being the only one.
    Stream(Ssrc),
    /// By its repaired rid.
    Layer(u8),
}

impl Role {
    fn is_media(self) -> bool {
        matches!(self, Role::Media { .. })
    }
}

/// What became of a received packet.
pub enum Outcome {
    /// It goes on to the router.
    Forward(Received),
    /// Padding that took a sequence number of the media stream: nobody should miss it.
    Skip { track: TrackKey, layer: u8, seq: u64 },
    /// Authentic, and booked; nothing to forward.
    Nothing,
}

/// The media packet that a received one is or repairs.
struct Original {
    layer: u8,
    ssrc: Ssrc,
    seq: u16,
    pt: Pt,
    payload: std::ops::Range<usize>,
}

/// One received packet, ready for the router.
pub struct Received {
    pub track: TrackKey,
    pub layer: u8,
    pub kind: MediaKind,
    pub meta: PacketMeta,
    /// Width and height of the picture, where the packet says.
    pub size: Option<(u16, u16)>,
    /// What later dependency descriptors refer to, where the packet brings it.
    pub structure: Option<Arc<Structure>>,
    /// Where the payload lies in the datagram.
    pub payload: std::ops::Range<usize>,
    /// The publisher began a new stream: sequence numbers are unrelated to those before.
    pub restarted: bool,
    /// The gap before it is too wide to repair.
    pub torn: bool,
    /// What came before it was left out on purpose.
    pub resumed: bool,
}

impl Received {
    /// Another packet of the same stream, with nothing to be said of it.
    pub fn plain(other: &Received) -> Received {
        Received {
            size: None,
            structure: None,
            payload: 0..0,
            restarted: false,
            torn: false,
            resumed: false,
            ..*other
        }
    }
}

/// Forwarded header extensions of the packet in hand, as `kind, length, value` triples.
#[derive(Default)]
pub struct Carried {
    bytes: Vec<u8>,
}

impl Carried {
    /// 96 bytes hold every extension we forward but a dependency descriptor with a large structure.
    const MAX: usize = 512;

    fn collect(&mut self, header: &RtpHeader, packet: &[u8], extensions: &ExtensionMap) {
        self.bytes.clear();
        for (id, value) in header.extensions(packet) {
            if let Some(kind) = extensions.kind_of(id)
                && FORWARDED.contains(&kind)
                && let Ok(len) = u8::try_from(value.len())
                && self.bytes.len() + 2 + value.len() <= Self::MAX
            {
                self.bytes.extend([kind as u8, len]);
                self.bytes.extend_from_slice(value);
            }
        }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn get(&self, wanted: Extension) -> Option<&[u8]> {
        Carried::iter(&self.bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
    }

    /// Reads back what [`collect`](Self::collect) wrote.
    pub fn iter(mut bytes: &[u8]) -> impl Iterator<Item = (Extension, &[u8])> {
        std::iter::from_fn(move || {
            let (&[kind, len], rest) = bytes.split_first_chunk::<2>()?;
            let (value, rest) = rest.split_at_checked(usize::from(len))?;
            bytes = rest;
            let kind = FORWARDED.into_iter().find(|forwarded| *forwarded as u8 == kind)?;
            Some((kind, value))
        })
    }
}

/// All a peer publishes.
pub struct Uplinks {
    uplinks: Vec<Uplink>,
    /// Sorted by SSRC.
    streams: Vec<Stream>,
    pub arrivals: Arrivals,
    pub police: Police,
    pub carried: Carried,
    /// SSRCs of removed sections: not taken unless a description announces them again. Their replay windows
    /// stay for as long, since a client that pauses a section keeps its SSRC.
    retired: VecDeque<Ssrc>,
    probes: (Option<Instant>, u32),
}

impl Uplinks {
    pub fn new(reporter: Ssrc, cap: Option<Bitrate>) -> Self {
        Uplinks {
            uplinks: Vec::new(),
            streams: Vec::new(),
            arrivals: Arrivals::new(reporter),
            police: Police::new(cap),
            carried: Carried::default(),
            retired: VecDeque::new(),
            probes: (None, 0),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Uplink> {
        self.uplinks.iter()
    }

    pub fn get(&self, mid: Mid) -> Option<&Uplink> {
        self.uplinks.iter().find(|uplink| uplink.mid == mid)
    }

    /// How many streams there are, announced or adopted.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Adds a newly negotiated section.
    pub fn add(&mut self, negotiated: &negotiate::Uplink, track: TrackKey) {
        self.uplinks.push(Uplink {
            mid: negotiated.mid,
            kind: negotiated.kind,
            codecs: negotiated.codecs.clone(),
            extensions: negotiated.extensions.clone(),
            remb: negotiated.remb,
            nack: negotiated.nack && negotiated.kind == MediaKind::Video,
            track,
            police: None,
            cap: None,
            layers: match &negotiated.rids[..] {
                [] => vec![Encoding::default()],
                rids => rids.iter().map(|rid| Encoding { rid: Some(*rid), ..Encoding::default() }).collect(),
            },
        });
        self.announce(negotiated);
    }

    /// Takes over what a renegotiation changed in a section that stays.
    pub fn update(&mut self, negotiated: &negotiate::Uplink) {
        if let Some(uplink) = self.uplinks.iter_mut().find(|uplink| uplink.mid == negotiated.mid) {
            uplink.codecs.clone_from(&negotiated.codecs);
            uplink.extensions = negotiated.extensions.clone();
            self.announce(negotiated);
        }
    }

    /// Removes a section and its streams. `forget` is told the SSRCs that left long enough ago.
    pub fn remove(&mut self, mid: Mid, mut forget: impl FnMut(Ssrc)) -> Option<Uplink> {
        let gone = self.streams.extract_if(.., |stream| stream.mid == mid);
        self.retired.extend(gone.map(|stream| stream.ssrc));
        let excess = self.retired.len().saturating_sub(MAX_RETIRED);
        self.retired.drain(..excess).for_each(&mut forget);
        self.police.forget(mid);
        let at = self.uplinks.iter().position(|uplink| uplink.mid == mid)?;
        Some(self.uplinks.remove(at))
    }

    /// Caps one section alone. False: there is no such section.
    pub fn set_cap(&mut self, mid: Mid, cap: Option<Bitrate>) -> bool {
        let Some(uplink) = self.uplinks.iter_mut().find(|uplink| uplink.mid == mid) else { return false };
        uplink.cap = cap;
        match (&mut uplink.police, cap) {
            (Some(police), _) => police.set_cap(cap),
            (none, Some(_)) => *none = Some(Box::new(Police::new(cap))),
            (None, None) => {}
        }
        true
    }

    /// What the caps of the sections allow together. `None` while some video has none.
    pub fn caps(&self) -> Option<Bitrate> {
        let caps = self.uplinks.iter().map(|uplink| match (uplink.kind, uplink.cap) {
            (_, Some(cap)) => Some(cap.as_bps()),
            (MediaKind::Audio, None) => Some(AUDIO.as_bps()),
            (MediaKind::Video, None) => None,
        });
        let capped = self.uplinks.iter().any(|uplink| uplink.cap.is_some());
        caps.sum::<Option<u64>>().filter(|_| capped).map(Bitrate::bps)
    }

    /// Something was dropped, or may be again, because of a cap.
    pub fn is_policed(&self) -> bool {
        self.polices().any(Police::is_at_work)
    }

    /// How far policing has gone, if that has changed, or which layers are shut.
    pub fn poll_policing(&mut self) -> Option<Stage> {
        let own = self.uplinks.iter_mut().filter_map(|uplink| uplink.police.as_mut());
        let changes = own.map(|police| police.poll_change()).chain([self.police.poll_change()]);
        let changed = changes.fold(false, |changed, change| changed | change.is_some());
        changed.then(|| self.polices().map(Police::stage).max().unwrap_or_default())
    }

    /// Whether this layer is not to be had now.
    pub fn is_shut(&self, mid: Mid, layer: u8) -> bool {
        self.polices().any(|police| police.is_shut(mid, layer))
    }

    /// A layer that can go on only with a keyframe, and may.
    pub fn wants_keyframe(&mut self, now: Instant) -> Option<(Mid, u8)> {
        let own = self.uplinks.iter_mut().filter_map(|uplink| uplink.police.as_mut());
        let mut wanted = own.filter_map(|police| police.wants_keyframe(now));
        wanted.next().or_else(|| self.police.wants_keyframe(now))
    }

    fn polices(&self) -> impl Iterator<Item = &Police> {
        self.uplinks.iter().filter_map(|uplink| uplink.police.as_deref()).chain([&self.police])
    }

    /// The media streams a REMB is about: those of sections that take it.
    pub fn remb_ssrcs(&self) -> Vec<u32> {
        let takes = |mid| self.get(mid).is_some_and(|uplink| uplink.remb);
        let media = self.streams.iter().filter(|stream| stream.role.is_media() && stream.proven);
        media.filter(|stream| takes(stream.mid)).map(|stream| stream.ssrc.0).collect()
    }

    /// The SSRCs of media streams, for feedback about them.
    pub fn media_ssrcs(&self) -> impl Iterator<Item = (Ssrc, MediaKind)> {
        self.streams
            .iter()
            .filter(|stream| stream.role.is_media() && stream.proven)
            .map(|stream| (stream.ssrc, stream.kind))
    }

    /// The media streams of one section.
    pub fn media_ssrcs_of(&self, mid: Mid) -> impl Iterator<Item = (Ssrc, MediaKind)> {
        let streams = self.streams.iter().filter(move |stream| stream.mid == mid && stream.role.is_media());
        streams.map(|stream| (stream.ssrc, stream.kind))
    }

    /// The SSRC whose media feeds a layer of the section `mid`: whom to ask for a keyframe.
    pub fn active_ssrc(&self, mid: Mid, layer: u8) -> Option<Ssrc> {
        self.get(mid)?.layers.get(usize::from(layer))?.active
    }

    /// Whether the peer may send reports as `ssrc`.
    pub fn sends(&self, ssrc: Ssrc) -> bool {
        self.find(ssrc).is_ok()
    }

    /// The receiver accounts of one media stream, with its section.
    pub fn receiver_mut(&mut self, ssrc: Ssrc) -> Option<(&mut Receiver, Mid)> {
        let at = self.find(ssrc).ok()?;
        let stream = &mut self.streams[at];
        stream.role.is_media().then_some((&mut stream.receiver, stream.mid))
    }

    /// The layer that a media stream feeds now, with its section.
    pub fn fed_by(&self, ssrc: Ssrc) -> Option<(&Uplink, u8)> {
        let uplink = self.get(self.streams[self.find(ssrc).ok()?].mid)?;
        let layer = uplink.layers.iter().position(|layer| layer.active == Some(ssrc))?;
        Some((uplink, layer as u8))
    }

    /// Reception reports for every media stream that has sent something, 31 at most (RFC 3550 §6.4.1).
    pub fn report_blocks(&mut self, now: Instant) -> Vec<rtcp::reception_report::ReceptionReport> {
        self.streams
            .iter_mut()
            .filter(|stream| stream.role.is_media() && stream.proven)
            .take(31)
            .map(|stream| stream.receiver.report_block(now, stream.ssrc.0))
            .collect()
    }

    /// The media streams, and what has come on each.
    pub fn stats(&self) -> impl Iterator<Item = InboundStats> {
        self.streams.iter().filter(|stream| stream.role.is_media() && stream.proven).map(|stream| {
            InboundStats {
                mid: stream.mid.to_string(),
                ssrc: stream.ssrc.0,
                kind: stream.kind,
                packets_received: stream.receiver.packets,
                packets_lost: stream.receiver.lost(),
                jitter: stream.receiver.jitter(),
            }
        })
    }

    /// Tells how well the media streams come.
    pub fn report_quality(&mut self, now: Instant, quality: &mut Quality, counters: &mut Counters) {
        for stream in self.streams.iter_mut().filter(|stream| stream.role.is_media() && stream.proven) {
            let (receiver, about) = (&stream.receiver, (Direction::In, stream.kind));
            quality.on_report(now, about, &mut stream.loss, receiver.totals(), receiver.jitter(), counters);
        }
    }

    /// Opens one SRTP packet in place and accounts for it.
    pub fn receive(
        &mut self,
        now: Instant,
        arrived: Instant,
        header: &RtpHeader,
        packet: &mut [u8],
        inbound: &mut Inbound,
        counters: &mut Counters,
    ) -> Result<Outcome, (DropKind, DropReason)> {
        let known = self.find(header.ssrc);
        if known.is_err() && (self.retired.contains(&header.ssrc) || !self.may_probe(now)) {
            return Err((DropKind::Other, DropReason::UnknownSsrc));
        }
        let drop_kind = known.map_or(DropKind::Other, |at| self.streams[at].kind.into());
        let (index, plain_len) =
            inbound.open_rtp(header.ssrc, header.seq, header.len, packet).map_err(|reason| match reason {
                // Before authentication the SSRC says nothing about the sender.
                DropReason::SrtpReplay if known.is_ok() => (drop_kind, reason),
                // An authentic stream that nothing announces, again.
                DropReason::SrtpReplay => (drop_kind, DropReason::UnknownSsrc),
                _ => (DropKind::Other, reason),
            })?;
        let plain = packet.get_mut(..plain_len).ok_or((drop_kind, DropReason::Malformed))?;
        let at = match known {
            Ok(at) => at,
            Err(_) => match self.adopt(header, plain) {
                Some(at) => at,
                None => {
                    // Authentic, but nobody's: it must not keep the place of a stream to come.
                    inbound.forget(header.ssrc);
                    return Err((DropKind::Other, DropReason::UnknownSsrc));
                }
            },
        };
        self.account(now, arrived, at, (*header, index), &*plain, counters)
    }

    fn account(
        &mut self,
        now: Instant,
        arrived: Instant,
        at: usize,
        (header, index): (RtpHeader, u64),
        plain: &[u8],
        counters: &mut Counters,
    ) -> Result<Outcome, (DropKind, DropReason)> {
        let stream = &mut self.streams[at];
        stream.proven = true;
        let (kind, role) = (stream.kind, stream.role);
        let malformed = (DropKind::from(kind), DropReason::Malformed);
        let section = self.uplinks.iter().position(|uplink| uplink.mid == stream.mid).ok_or(malformed)?;
        let uplink = &self.uplinks[section];
        if let Some(number) = transport_sequence(&header, plain, &uplink.extensions) {
            self.arrivals.record(number, arrived);
        }
        stream.receiver.on_packet(arrived, header.seq, header.timestamp);
        let payload = header.payload(plain).ok_or(malformed)?.len();
        let transmission = match role {
            _ if payload == 0 => Transmission::Padding,
            Role::Media { .. } => Transmission::First,
            Role::Repair { .. } => Transmission::Rtx,
        };
        counters.ingress(kind, transmission, plain.len());
        self.police.count(now, kind, plain.len());
        if let Some(police) = &mut self.uplinks[section].police {
            police.count(now, kind, plain.len());
        }
        let uplink = &self.uplinks[section];

        let track = uplink.track;
        let Some(original) = self.original(section, at, &header, plain, payload) else {
            // Padding on a repair stream, a repair of a stream that is not the one forwarded, or a layer that
            // nobody has negotiated.
            return Ok(Outcome::Nothing);
        };
        let layer = original.layer;
        let uplink = &mut self.uplinks[section];
        let encoding = uplink.layers.get_mut(usize::from(layer)).ok_or(malformed)?;
        let stream = self.streams.iter_mut().find(|stream| stream.ssrc == original.ssrc).ok_or(malformed)?;
        let seq = match role.is_media() {
            // More than 2^15 packets lost in a row would lead the wire's 16 bits astray.
            true => stream.unwrapper.take(index),
            false => stream.unwrapper.peek(original.seq),
        };
        if stream.unwrapper.highest() < Some(seq) {
            // A repair of what is yet to come would make everything until then late.
            return Ok(Outcome::Nothing);
        }
        let restarted = encoding.active != Some(original.ssrc);
        if restarted && (payload == 0 || !encoding.may_switch(now)) {
            // A stream takes over with a packet that goes on, or not at all.
            return Ok(Outcome::Nothing);
        }
        if restarted {
            stream.nacks.reset();
        }
        let arrival = match uplink.nack {
            true => stream.nacks.on_packet(now, seq, patience(stream.receiver.jitter())),
            false => Arrival::Next,
        };
        if arrival == Arrival::Repair && !role.is_media() {
            counters.useful_repair(kind);
        }
        if payload == 0 {
            return Ok(Outcome::Skip { track, layer, seq });
        }
        let codec = uplink.codecs.iter().find(|codec| codec.pt == original.pt).ok_or(malformed)?.codec;
        self.carried.collect(&header, plain, &uplink.extensions);
        let bytes = plain.get(original.payload.clone()).ok_or(malformed)?;
        let (timestamp, marker) = (header.timestamp, header.marker);
        let descriptor = self.carried.get(Extension::DependencyDescriptor);
        let reading = stream.pictures.read(codec, timestamp, marker, descriptor, bytes);
        let picture = reading.picture;
        if kind == MediaKind::Video {
            let Picture { keyframe, temporal, .. } = picture;
            let part = Part { section: uplink.mid, layer, timestamp, keyframe, temporal, bytes: plain.len() };
            let own = uplink.police.as_mut().map(|police| police.judge(now, &part));
            if own == Some(Verdict::Police) || self.police.judge(now, &part) == Verdict::Police {
                counters.dropped_in(kind.into(), DropReason::Policed);
                // A stream takes over with a packet that goes on, or not at all.
                return Ok(if restarted { Outcome::Nothing } else { Outcome::Skip { track, layer, seq } });
            }
        }
        if restarted {
            encoding.active = Some(original.ssrc);
            encoding.switched_at = Some(now);
        }
        if picture.keyframe {
            stream.nacks.on_keyframe(seq);
        }
        Ok(Outcome::Forward(Received {
            track,
            layer,
            kind,
            meta: PacketMeta { seq, timestamp, marker, codec, picture, arrived },
            size: reading.size,
            structure: reading.structure,
            payload: original.payload,
            restarted,
            torn: arrival == Arrival::Torn,
            resumed: false,
        }))
    }

    /// The media packet behind a received one of stream `at`: itself, or what a repair carries (RFC 4588 §4).
    fn original(
        &mut self,
        section: usize,
        at: usize,
        header: &RtpHeader,
        plain: &[u8],
        payload: usize,
    ) -> Option<Original> {
        let uplink = &self.uplinks[section];
        let range = header.len..header.len + payload;
        let of = match &mut self.streams[at].role {
            Role::Media { layer, guess } => {
                if layer.is_none() {
                    *layer = uplink.layer_named(Extension::Rid, header, plain);
                }
                let layer = (*layer).or(*guess)?;
                return Some(Original {
                    layer,
                    ssrc: header.ssrc,
                    seq: header.seq,
                    pt: header.pt,
                    payload: range,
                });
            }
            Role::Repair { of } => *of,
        };
        let (layer, ssrc) = match of {
            Repaired::Layer(layer) => (layer, uplink.layers.get(usize::from(layer))?.active?),
            Repaired::Stream(ssrc) => {
                // Not the one forwarded: nobody asked for it.
                let layer = uplink.layers.iter().position(|layer| layer.active == Some(ssrc))?;
                (layer as u8, ssrc)
            }
        };
        let osn = plain.get(range.clone())?.first_chunk::<2>()?;
        let codec = uplink.codecs.iter().find(|codec| codec.rtx == Some(header.pt))?;
        let payload = range.start + 2..range.end;
        Some(Original { layer, ssrc, seq: u16::from_be_bytes(*osn), pt: codec.pt, payload })
    }

    /// Asks `ask` for every packet that is missing and due, per media stream, and names to `mourn` the streams of
    /// which one was given up.
    pub fn poll_nacks(
        &mut self,
        now: Instant,
        rtt: Duration,
        mut ask: impl FnMut(Ssrc, Vec<u16>),
        mut mourn: impl FnMut(Ssrc),
    ) {
        for stream in self.streams.iter_mut().filter(|stream| stream.role.is_media()) {
            let mut lost = Vec::new();
            if stream.nacks.poll(now, rtt, |seq| lost.push(seq as u16)) {
                mourn(stream.ssrc);
            }
            if !lost.is_empty() {
                ask(stream.ssrc, lost);
            }
        }
    }

    /// When feedback or a NACK is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let nacks = self.streams.iter().filter_map(|stream| stream.nacks.poll_timeout());
        nacks.chain(self.arrivals.poll_timeout()).min()
    }

    /// Files the SSRCs that the description announces. With simulcast, their packets say which layer they are;
    /// until one does, the order of the names counts (Firefox writes both).
    fn announce(&mut self, negotiated: &negotiate::Uplink) {
        let in_order = negotiated.rids.len() == negotiated.ssrcs.len();
        for (index, binding) in negotiated.ssrcs.iter().enumerate() {
            self.retired.retain(|ssrc| *ssrc != binding.ssrc && Some(*ssrc) != binding.rtx);
            let layer = negotiated.rids.is_empty().then_some(0);
            let guess = in_order.then_some(index as u8);
            let (mid, kind, codec) = (negotiated.mid, negotiated.kind, negotiated.codecs.first());
            self.insert(binding.ssrc, mid, kind, codec, Role::Media { layer, guess });
            if let Some(rtx) = binding.rtx {
                let role = Role::Repair { of: Repaired::Stream(binding.ssrc) };
                self.insert(rtx, mid, kind, codec, role);
            }
        }
    }

    /// Binds an authentic but unannounced stream to the section its MID names (RFC 8843 §9.2), or, when it
    /// carries no MID, to the only section that knows its payload type. A MID of no section is nobody's.
    fn adopt(&mut self, header: &RtpHeader, plain: &[u8]) -> Option<usize> {
        let knows_pt = |uplink: &&Uplink| {
            uplink.codecs.iter().any(|codec| codec.pt == header.pt || codec.rtx == Some(header.pt))
        };
        let names_mid =
            |id| self.uplinks.iter().any(|uplink| uplink.extensions.kind_of(id) == Some(Extension::Mid));
        let mid = header.extensions(plain).find(|(id, _)| names_mid(*id)).map(|(_, value)| value);
        let uplink = match mid {
            Some(mid) => self.uplinks.iter().find(|uplink| mid == uplink.mid.as_bytes())?,
            None => {
                let mut candidates = self.uplinks.iter().filter(knows_pt);
                candidates.next().filter(|_| candidates.next().is_none())?
            }
        };
        let repairs = uplink.codecs.iter().any(|codec| codec.rtx == Some(header.pt));
        let role = match (uplink.is_simulcast(), repairs) {
            (false, false) => Role::Media { layer: Some(0), guess: None },
            (false, true) => Role::Repair { of: Repaired::Stream(uplink.layers.first()?.active?) },
            // A stream of no layer that we know is nobody's.
            (true, false) => {
                let layer = uplink.layer_named(Extension::Rid, header, plain)?;
                Role::Media { layer: Some(layer), guess: None }
            }
            (true, true) => {
                let layer = uplink.layer_named(Extension::RepairedRid, header, plain)?;
                Role::Repair { of: Repaired::Layer(layer) }
            }
        };
        let (mid, kind, codec) = (uplink.mid, uplink.kind, uplink.codecs.first().cloned());
        self.insert(header.ssrc, mid, kind, codec.as_ref(), role)
    }

    fn insert(
        &mut self,
        ssrc: Ssrc,
        mid: Mid,
        kind: MediaKind,
        codec: Option<&CodecBinding>,
        role: Role,
    ) -> Option<usize> {
        let clock_rate = codec.map_or(90_000, |binding| binding.codec.clock_rate());
        match self.find(ssrc) {
            Ok(at) => Some(at),
            Err(_) if self.streams.len() >= MAX_STREAMS => None,
            Err(at) => {
                let receiver = Receiver::new(clock_rate);
                let unwrapper = SeqUnwrapper::default();
                self.streams.insert(
                    at,
                    Stream {
                        ssrc,
                        mid,
                        kind,
                        role,
                        receiver,
                        nacks: Nacks::default(),
                        unwrapper,
                        pictures: PictureReader::default(),
                        loss: LossWindow::default(),
                        proven: false,
                    },
                );
                Some(at)
            }
        }
    }

    fn find(&self, ssrc: Ssrc) -> Result<usize, usize> {
        self.streams.binary_search_by_key(&ssrc, |stream| stream.ssrc)
    }

    fn may_probe(&mut self, now: Instant) -> bool {
        let (since, used) = &mut self.probes;
        if since.is_none_or(|since| now.saturating_duration_since(since).as_secs() >= 1) {
            (*since, *used) = (Some(now), 0);
        }
        *used += 1;
        *used <= PROBES_PER_SECOND
    }
}

/// How long a gap may be mere reordering: half again the jitter, between 5 and 20 ms.
fn patience(jitter: Duration) -> Duration {
    (jitter * 3 / 2).clamp(Duration::from_millis(5), Duration::from_millis(20))
}

fn transport_sequence(header: &RtpHeader, packet: &[u8], extensions: &ExtensionMap) -> Option<u16> {
    let id = extensions.id_of(Extension::TransportCc)?;
    let (_, value) = header.extensions(packet).find(|(found, _)| *found == id)?;
    value.first_chunk::<2>().map(|bytes| u16::from_be_bytes(*bytes))
}

#[test]
fn carried_extensions_read_back_in_order() {
    let bytes = [Extension::AudioLevel as u8, 1, 0x85, Extension::PlayoutDelay as u8, 3, 1, 2, 3];
    let read: Vec<_> = Carried::iter(&bytes).collect();
    assert_eq!(read, [(Extension::AudioLevel, &[0x85][..]), (Extension::PlayoutDelay, &[1, 2, 3][..])]);
    assert_eq!(Carried::iter(&bytes[..7]).count(), 1, "a cut triple ends the list");
}
