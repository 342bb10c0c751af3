//! One m-line of the session: what is agreed on it, and what we make of the peer's word about it.

use super::codec::CodecBinding;
use super::extension::{Extension, ExtensionMap, is_id};
use super::remote::{RemoteExtension, RemoteMedia, SsrcBinding};
use super::simulcast::{self, Layer};
use crate::ids::{MediaKind, Mid, Rid, Ssrc};
use std::sync::Arc;

/// An m-line on which the peer sends to us now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Uplink {
    pub mid: Mid,
    pub kind: MediaKind,
    pub codecs: Arc<[CodecBinding]>,
    pub extensions: ExtensionMap,
    /// In the order announced, one per layer where the client has layers (Firefox); empty where it names none
    /// (Chromium with simulcast): tell streams by mid and rid then.
    pub ssrcs: Vec<SsrcBinding>,
    /// Stream and track.
    pub msid: Option<(String, String)>,
    /// The simulcast layers we accepted, two to four, in the client's order; empty where it sends one stream.
    /// Packets tell theirs by the rid extension, which is agreed then.
    pub rids: Vec<Rid>,
    pub twcc: bool,
    pub nack: bool,
    pub remb: bool,
    /// Of the m-line, from 0.
    pub index: usize,
}

/// An m-line on which we send, or may.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Downlink {
    pub mid: Mid,
    pub kind: MediaKind,
    /// Empty until a slot of ours has been agreed.
    pub codecs: Arc<[CodecBinding]>,
    pub extensions: ExtensionMap,
    /// Stays for the life of the m-line, whichever publisher it carries: continue its sequence numbers.
    pub ssrc: Ssrc,
    pub rtx: Option<Ssrc>,
    pub origin: Origin,
    /// The client has agreed to receive here: media may flow.
    pub agreed: bool,
    /// Wanted: by the host for our slots (until `remove_slot`), by the client for its own.
    pub active: bool,
    pub twcc: bool,
    /// Of the m-line, from 0; where it will come if not offered yet.
    pub index: usize,
}

/// Who made an m-line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    Client,
    Engine,
}

/// Why nothing flows on an m-line that somebody wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Rejection {
    /// We forward none of its codecs.
    NoCodec,
    /// Data channels that the host does not want this peer to have, a second line for them, or one that does not say how
    /// (RFC 8841).
    DataChannel,
    /// Neither audio nor video over `RTP/SAVPF`.
    UnknownMedia,
    /// The peer publishes as many tracks as it may.
    TooMany,
    /// The machine is short of something: no new videos for now. It is taken up by itself when that is over.
    Saturated,
    /// The client does not want to receive on our slot now.
    Declined,
    /// The client has stopped the m-line of our slot for good; the slot is gone.
    Stopped,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Section {
    pub mid: Option<Mid>,
    /// The first three words of the m-line, and one format for when it is stopped.
    pub name: String,
    pub protos: String,
    pub format: String,
    pub kind: Option<MediaKind>,
    /// Not port 0.
    pub live: bool,
    pub rtcp_rsize: bool,
    /// The client may tell its time, and is told how long the way is (RFC 3611 §4.4).
    pub rtcp_xr: bool,
    /// Write `extmap-allow-mixed` on this line.
    pub allow_mixed: bool,
    pub codecs: Arc<[CodecBinding]>,
    pub extensions: Vec<SectionExtension>,
    /// The simulcast layers we take, of an m-line with an uplink.
    pub layers: Vec<Layer>,
    pub uplink: Option<Uplink>,
    pub slot: Option<Slot>,
    /// Our last description said that we send here.
    pub described_send: bool,
    /// The host's wish for our slot, as last told to the client: what it declined is not asked again.
    pub told_wish: bool,
    /// The publish ceiling has been written once.
    pub ceiling_told: bool,
    /// It is for data channels: bytes that the peer takes in one message.
    pub messages: Option<u64>,
}

/// A downlink with the names it is announced under.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Slot {
    pub downlink: Downlink,
    pub rtx: Ssrc,
    pub stream: String,
    pub track: String,
    /// For client slots: the n-th of its kind shares its stream with the n-th of the other.
    pub number: usize,
}

/// Directions are ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SectionExtension {
    pub kind: Extension,
    pub id: u8,
    pub sends: bool,
    pub receives: bool,
    /// The peer limited the direction, so we write it too (RFC 8285 §5).
    pub limited: bool,
}

impl Section {
    /// Kept in place, not in use: m-lines never go away (RFC 3264 §8.2).
    pub fn stopped(media: &RemoteMedia) -> Section {
        Section {
            mid: media.mid,
            name: media.name.clone(),
            protos: media.protos.clone(),
            format: media.format.clone(),
            kind: media.kind,
            live: false,
            rtcp_rsize: false,
            rtcp_xr: false,
            allow_mixed: false,
            codecs: Arc::default(),
            extensions: Vec::new(),
            layers: Vec::new(),
            uplink: None,
            slot: None,
            described_send: false,
            told_wish: false,
            ceiling_told: false,
            messages: None,
        }
    }

    /// A line for data channels, which we serve.
    pub fn channels(media: &RemoteMedia) -> Section {
        Section { live: true, messages: media.messages, ..Section::stopped(media) }
    }

    /// A slot of ours, to be offered.
    pub fn offered(
        slot: Slot,
        codecs: Arc<[CodecBinding]>,
        extensions: Vec<SectionExtension>,
        allow_mixed: bool,
    ) -> Self {
        let kind = slot.downlink.kind;
        Section {
            mid: Some(slot.downlink.mid),
            name: kind.as_str().to_owned(),
            protos: "UDP/TLS/RTP/SAVPF".to_owned(),
            format: "0".to_owned(),
            kind: Some(kind),
            live: true,
            rtcp_rsize: true,
            rtcp_xr: true,
            allow_mixed,
            codecs,
            extensions,
            layers: Vec::new(),
            uplink: None,
            described_send: slot.downlink.active,
            told_wish: slot.downlink.active,
            slot: Some(slot),
            ceiling_told: false,
            messages: None,
        }
    }

    /// The extensions worth having on this m-line, under the peer's ids.
    pub fn extensions_of(media: &RemoteMedia, kind: MediaKind, two_byte: bool) -> Vec<SectionExtension> {
        let idle = !media.sends && !media.receives;
        let mut taken: Vec<SectionExtension> = Vec::new();
        for offered in &media.extensions {
            let Some(extension) = offered.kind.filter(|_| is_id(offered.id, two_byte)) else {
                continue;
            };
            let receives = offered.sends && extension.is_read_from(kind);
            let sends = offered.receives && extension.is_sent_to(kind);
            let useful = (receives && (media.sends || idle)) || (sends && (media.receives || idle));
            let id = offered.id as u8;
            if useful && taken.iter().all(|other| other.kind != extension && other.id != id) {
                let limited = !(offered.sends && offered.receives);
                taken.push(SectionExtension { kind: extension, id, sends, receives, limited });
            }
        }
        // One clock per packet is enough: send time is only for peers without transport-wide feedback.
        let twcc = taken.iter().any(|extension| extension.kind == Extension::TransportCc);
        taken.retain(|extension| !(twcc && extension.kind == Extension::AbsSendTime));
        taken
    }

    /// Takes over what the peer says of a live m-line. `sends` is whether we are ready to send on it.
    pub fn agree(&mut self, media: &RemoteMedia, index: usize, two_byte: bool, receives: bool) {
        let (Some(mid), Some(kind)) = (self.mid, self.kind) else {
            return;
        };
        let twcc = self.has(Extension::TransportCc) && self.codecs.iter().any(|codec| codec.feedback.twcc);
        let receives = receives && media.sends && !self.codecs.is_empty();
        if !receives || !self.tells_layers(two_byte) {
            self.layers.clear();
        }
        self.uplink = receives.then(|| Uplink {
            mid,
            kind,
            codecs: self.codecs.clone(),
            extensions: self.map(two_byte, |extension| extension.receives),
            ssrcs: media.ssrcs.clone(),
            msid: media.msid.clone(),
            rids: self.layers.iter().map(|layer| layer.rid).collect(),
            twcc,
            nack: self.codecs.iter().any(|codec| codec.feedback.nack),
            remb: self.codecs.iter().any(|codec| codec.feedback.remb),
            index,
        });
        let extensions = self.map(two_byte, |extension| extension.sends);
        if let Some(slot) = &mut self.slot {
            let downlink = &mut slot.downlink;
            if downlink.origin == Origin::Client {
                downlink.active = media.receives;
            }
            downlink.agreed = self.described_send && media.receives && !self.codecs.is_empty();
            downlink.rtx = self.codecs.iter().any(|codec| codec.rtx.is_some()).then_some(slot.rtx);
            downlink.codecs = self.codecs.clone();
            downlink.extensions = extensions;
            downlink.twcc = twcc;
            downlink.index = index;
        }
    }

    /// Whether the peer can be asked to receive here again, for another publisher.
    pub fn is_reusable(&self, kind: MediaKind) -> bool {
        let idle = |slot: &Slot| {
            slot.downlink.origin == Origin::Engine && !slot.downlink.active && !slot.downlink.agreed
        };
        self.live && self.kind == Some(kind) && !self.described_send && self.slot.as_ref().is_some_and(idle)
    }

    /// A dead audio or video line whose place a new one may take, RFC 8829 §5.2.2. Data channel lines
    /// keep their place.
    pub fn is_recyclable(&self) -> bool {
        !self.live && self.kind.is_some()
    }

    /// The host's wish for our slot differs from what we last described.
    pub fn is_outdated(&self) -> bool {
        let slot = self.slot.as_ref().filter(|slot| slot.downlink.origin == Origin::Engine);
        self.live && slot.is_some_and(|slot| slot.downlink.active != self.told_wish)
    }

    /// Keeps of what we offered what the answer takes.
    pub fn narrow(&mut self, media: &RemoteMedia) {
        let offered = std::mem::take(&mut self.codecs);
        let mut codecs = CodecBinding::of(media);
        codecs.retain(|codec| offered.iter().any(|offered| offered.codec == codec.codec));
        self.codecs = codecs.into();
        self.layers = simulcast::kept(&media.layers, &self.layers);
        self.extensions.retain_mut(|ours| {
            let same =
                |theirs: &&RemoteExtension| theirs.kind == Some(ours.kind) && theirs.id == u16::from(ours.id);
            let Some(theirs) = media.extensions.iter().find(same) else {
                return false;
            };
            ours.sends &= theirs.receives;
            ours.receives &= theirs.sends;
            true
        });
    }

    /// A wanted slot of ours that the client does not receive now.
    pub fn declined(&self) -> Option<(Mid, Rejection)> {
        let downlink = self.wanted_slot().filter(|downlink| !downlink.agreed)?;
        Some((downlink.mid, Rejection::Declined))
    }

    /// A wanted slot of ours that goes with its m-line.
    pub fn lost_slot(&self) -> Option<(Mid, Rejection)> {
        Some((self.wanted_slot()?.mid, Rejection::Stopped))
    }

    fn wanted_slot(&self) -> Option<&Downlink> {
        let downlink = self.slot.as_ref().map(|slot| &slot.downlink)?;
        Some(downlink).filter(|downlink| downlink.origin == Origin::Engine && downlink.active)
    }

    /// Packets of simulcast are told by both ids; Chromium refuses a description that has it without the rid's.
    fn tells_layers(&self, two_byte: bool) -> bool {
        let read = self.map(two_byte, |extension| extension.receives);
        let agreed = [Extension::Mid, Extension::Rid].into_iter().all(|kind| read.id_of(kind).is_some());
        agreed && self.kind == Some(MediaKind::Video)
    }

    fn has(&self, kind: Extension) -> bool {
        self.extensions.iter().any(|extension| extension.kind == kind)
    }

    fn map(&self, two_byte: bool, wanted: impl Fn(&SectionExtension) -> bool) -> ExtensionMap {
        let mut map = ExtensionMap::new(two_byte);
        self.extensions.iter().filter(|extension| wanted(extension)).for_each(|e| map.insert(e.kind, e.id));
        map
    }
}
