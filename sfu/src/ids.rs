//! Names for the things of a call: small copyable ids, and the RTP words (SSRC, payload type, mid).

use std::fmt;

slotmap::new_key_type! {
    /// A peer's place in its engine. Generational: a departed peer's key never finds its successor.
    pub struct PeerKey;
    /// A room's place in its engine.
    pub struct RoomKey;
    /// A published track's place in its room.
    pub struct TrackKey;
}

/// Identifies a peer for the life of an `Sfu`; never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId {
    pub(crate) worker: u16,
    pub(crate) key: u64,
}

impl PeerId {
    #[cfg_attr(not(feature = "shell"), allow(dead_code))]
    pub(crate) fn new(worker: u16, key: PeerKey) -> Self {
        use slotmap::Key;
        PeerId { worker, key: key.data().as_ffi() }
    }

    pub(crate) fn key(self) -> PeerKey {
        slotmap::KeyData::from_ffi(self.key).into()
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.worker, self.key)
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({self})")
    }
}

/// A track as every engine knows it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TrackName {
    pub publisher: PeerId,
    /// The publisher's m-line.
    pub mid: Mid,
}

/// One run of packets that a slot can draw on: a layer of a track, since its publisher last began it anew.
/// Sequence numbers mean something within a feed only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Feed {
    pub track: TrackKey,
    /// Position among the track's layers, in the order the publisher named them; 0 without simulcast.
    pub layer: u8,
    /// Counts the layer's beginnings, so that what waits for an old one is not taken for the new.
    pub run: u16,
}

/// Audio or video: the media kinds an SFU forwards.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum MediaKind {
    /// Opus and its redundancy formats.
    Audio,
    /// Everything with pictures.
    Video,
}

impl MediaKind {
    /// The word SDP and metric labels use.
    pub fn as_str(self) -> &'static str {
        match self {
            MediaKind::Audio => "audio",
            MediaKind::Video => "video",
        }
    }
}

impl fmt::Display for MediaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A synchronisation source, RFC 3550 §3.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Ssrc(pub u32);

/// A payload type, RFC 3550 §5.1. Seven bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Pt(pub u8);

/// A media section's identification tag (`a=mid`), RFC 5888 §4. Held inline, so that it copies.
///
/// A one-byte header extension carries 16 bytes, browsers use one to three, and some clients put a UUID here.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mid(Token<{ Mid::MAX }>);

/// A simulcast layer's name (`a=rid`), RFC 8851 §10. Browsers' applications use one to three characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rid(Token<{ Rid::MAX }>);

/// A short tag as SDP and RTP header extensions carry it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Token<const MAX: usize> {
    len: u8,
    bytes: [u8; MAX],
}

impl<const MAX: usize> Token<MAX> {
    fn new(tag: &str, is_valid: impl Fn(u8) -> bool) -> Option<Self> {
        if tag.is_empty() || tag.len() > MAX || !tag.bytes().all(is_valid) {
            return None;
        }
        let mut bytes = [0; MAX];
        bytes[..tag.len()].copy_from_slice(tag.as_bytes());
        Some(Token { len: tag.len() as u8, bytes })
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("only ASCII is stored")
    }
}

impl Mid {
    /// Longest tag accepted.
    pub const MAX: usize = 36;

    /// `None` when the tag is empty, longer than [`Mid::MAX`] or not an RFC 4566 `token`.
    pub fn new(tag: &str) -> Option<Mid> {
        Token::new(tag, |b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`{|}~".contains(&b)).map(Mid)
    }

    /// The tag as SDP writes it.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The tag as the RTP header extension carries it.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Rid {
    /// Longest name accepted.
    pub const MAX: usize = 16;

    /// `None` when the name is empty, longer than [`Rid::MAX`] or has other characters than RFC 8851 §10
    /// allows. Hyphen and underscore are let pass, as browsers do.
    pub fn new(name: &str) -> Option<Rid> {
        Token::new(name, |b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_').map(Rid)
    }

    /// The name as SDP writes it.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The name as the RTP header extension carries it.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Display for Mid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Mid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mid({self})")
    }
}

impl fmt::Display for Rid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Rid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rid({self})")
    }
}

#[test]
fn a_mid_is_a_token() {
    assert_eq!(Mid::new("s0").unwrap().as_str(), "s0");
    assert!(Mid::new("").is_none());
    assert!(Mid::new("two words").is_none());
    assert!(Mid::new(&"x".repeat(Mid::MAX)).is_some());
    assert!(Mid::new(&"x".repeat(Mid::MAX + 1)).is_none());
}

#[test]
fn a_rid_is_letters_and_digits() {
    assert_eq!(Rid::new("hi").unwrap().as_str(), "hi");
    assert!(Rid::new("").is_none() && Rid::new("a;b").is_none() && Rid::new("~q").is_none());
    assert!(Rid::new(&"x".repeat(Rid::MAX + 1)).is_none());
}
