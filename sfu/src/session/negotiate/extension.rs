//! RTP header extensions: which we know, and the ids an m-line gives them (RFC 8285).

use crate::ids::MediaKind;

/// A header extension we can read or write.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub(crate) enum Extension {
    Mid,
    Rid,
    RepairedRid,
    TransportCc,
    AudioLevel,
    VideoOrientation,
    AbsSendTime,
    AbsCaptureTime,
    PlayoutDelay,
    DependencyDescriptor,
    TransmissionOffset,
    VideoLayersAllocation,
}

impl Extension {
    pub const ALL: [Extension; 12] = [
        Extension::Mid,
        Extension::Rid,
        Extension::RepairedRid,
        Extension::TransportCc,
        Extension::AudioLevel,
        Extension::VideoOrientation,
        Extension::AbsSendTime,
        Extension::AbsCaptureTime,
        Extension::PlayoutDelay,
        Extension::DependencyDescriptor,
        Extension::TransmissionOffset,
        Extension::VideoLayersAllocation,
    ];

    pub fn uri(self) -> &'static str {
        match self {
            Extension::Mid => "urn:ietf:params:rtp-hdrext:sdes:mid",
            Extension::Rid => "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
            Extension::RepairedRid => "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
            Extension::TransportCc => {
                "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
            }
            Extension::AudioLevel => "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
            Extension::VideoOrientation => "urn:3gpp:video-orientation",
            Extension::AbsSendTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
            Extension::AbsCaptureTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time",
            Extension::PlayoutDelay => "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
            Extension::DependencyDescriptor => {
                "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
            }
            Extension::TransmissionOffset => "urn:ietf:params:rtp-hdrext:toffset",
            Extension::VideoLayersAllocation => {
                "http://www.webrtc.org/experiments/rtp-hdrext/video-layers-allocation00"
            }
        }
    }

    pub fn from_uri(uri: &str) -> Option<Extension> {
        Self::ALL.into_iter().find(|known| known.uri() == uri)
    }

    /// The id Chromium 156 gives it, for our offers to a client that has not named it yet. `None` where it
    /// never does by itself: such an extension is offered only to a client that knows it.
    ///
    /// Chromium refuses an offer in which an id differs from its own last offer, even one it rolls back
    /// for ours (glare), so its own numbers are the safe ones.
    fn usual_id(self) -> Option<u8> {
        match self {
            Extension::AudioLevel => Some(1),
            Extension::AbsSendTime => Some(2),
            Extension::TransportCc => Some(3),
            Extension::Mid => Some(4),
            Extension::PlayoutDelay => Some(5),
            Extension::VideoLayersAllocation => Some(9),
            Extension::Rid => Some(10),
            Extension::RepairedRid => Some(11),
            Extension::DependencyDescriptor => Some(12),
            Extension::VideoOrientation => Some(13),
            Extension::TransmissionOffset => Some(14),
            Extension::AbsCaptureTime => None,
        }
    }

    /// Whether we want it from a publisher.
    ///
    /// Rid and repaired rid are agreed on every video line, simulcast or not: Chromium's later offers
    /// carry only extensions agreed before, and it then refuses its own simulcast offer for want of rid.
    /// Not taken: the transmission offset, which nobody here reads and which would be wrong once forwarded.
    pub(super) fn is_read_from(self, kind: MediaKind) -> bool {
        match self {
            Extension::Mid | Extension::TransportCc | Extension::AbsSendTime | Extension::AbsCaptureTime => {
                true
            }
            Extension::AudioLevel => kind == MediaKind::Audio,
            Extension::Rid
            | Extension::RepairedRid
            | Extension::VideoOrientation
            | Extension::PlayoutDelay
            | Extension::DependencyDescriptor
            | Extension::VideoLayersAllocation => kind == MediaKind::Video,
            Extension::TransmissionOffset => false,
        }
    }

    /// Whether we agree to it towards a subscriber. Rids are never written there, see above.
    pub(super) fn is_sent_to(self, kind: MediaKind) -> bool {
        self != Extension::VideoLayersAllocation && self.is_read_from(kind)
    }
}

/// The extensions of one direction of one m-line, by id and by kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ExtensionMap {
    /// By `Extension as usize`; ids are never 0.
    ids: [u8; Extension::ALL.len()],
    kinds: [Option<Extension>; 256],
    two_byte: bool,
}

impl ExtensionMap {
    pub(super) fn new(two_byte: bool) -> ExtensionMap {
        ExtensionMap { ids: [0; Extension::ALL.len()], kinds: [None; 256], two_byte }
    }

    /// An id or a kind that is taken stays as it is.
    pub(super) fn insert(&mut self, kind: Extension, id: u8) {
        let free = self.ids[kind as usize] == 0 && self.kinds[usize::from(id)].is_none();
        if free && is_id(u16::from(id), self.two_byte) {
            self.ids[kind as usize] = id;
            self.kinds[usize::from(id)] = Some(kind);
        }
    }

    pub fn id_of(&self, kind: Extension) -> Option<u8> {
        Some(self.ids[kind as usize]).filter(|id| *id != 0)
    }

    pub fn kind_of(&self, id: u8) -> Option<Extension> {
        self.kinds[usize::from(id)]
    }

    /// `extmap-allow-mixed` is agreed: two-byte headers may be sent where an element needs one.
    pub fn two_byte(&self) -> bool {
        self.two_byte
    }

    pub fn iter(&self) -> impl Iterator<Item = (Extension, u8)> {
        Extension::ALL.into_iter().filter_map(|kind| Some((kind, self.id_of(kind)?)))
    }
}

/// RFC 8285 §4.2, §4.3, §5: 15 is reserved in the one-byte form, larger ids need the two-byte form,
/// and 4096 up are placeholders that the answer would have to renumber.
pub(super) fn is_id(id: u16, two_byte: bool) -> bool {
    matches!(id, 1..=14) || two_byte && matches!(id, 16..=255)
}

/// The ids one connection has given to extensions: an id means one thing across the BUNDLE (RFC 8843 §9).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ExtensionIds {
    ids: [u8; Extension::ALL.len()],
    /// Ids in use, also those of extensions we do not know.
    used: [bool; 256],
}

impl ExtensionIds {
    pub fn new() -> ExtensionIds {
        ExtensionIds { ids: [0; Extension::ALL.len()], used: [false; 256] }
    }

    pub fn learn(&mut self, id: u8, kind: Option<Extension>) {
        self.used[usize::from(id)] = true;
        if let Some(kind) = kind {
            self.ids[kind as usize] = id;
        }
    }

    pub fn has(&self, kind: Extension) -> bool {
        self.ids[kind as usize] != 0
    }

    /// The client's id where it has named one, else its usual one, else any free one.
    pub fn pick(&mut self, kind: Extension) -> Option<u8> {
        if !self.has(kind) {
            let mut candidates = std::iter::once(kind.usual_id()?).chain((1..=14).rev());
            let id = candidates.find(|id| !self.used[usize::from(*id)])?;
            self.learn(id, Some(kind));
        }
        Some(self.ids[kind as usize])
    }
}

#[test]
fn ids_map_both_ways_and_the_first_claim_stands() {
    let mut map = ExtensionMap::new(false);
    map.insert(Extension::Mid, 3);
    map.insert(Extension::TransportCc, 3);
    map.insert(Extension::Mid, 4);
    map.insert(Extension::AudioLevel, 15);
    map.insert(Extension::AbsSendTime, 16);
    assert_eq!(map.id_of(Extension::Mid), Some(3));
    assert_eq!(map.kind_of(3), Some(Extension::Mid));
    assert_eq!(map.iter().count(), 1);
    assert!(Extension::ALL.into_iter().all(|kind| Extension::from_uri(kind.uri()) == Some(kind)));
}
