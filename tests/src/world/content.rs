//! What a synthetic packet says about itself, so that receivers judge by content.

use std::hash::{DefaultHasher, Hash, Hasher};

use sluicegate::MediaKind;

/// The claims a payload carries under a MAC.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Content {
    pub room: u64,
    /// The publishing client.
    pub publisher: u32,
    pub video: bool,
    /// Counts the stream's packets.
    pub packet: u64,
    /// The publisher's RTP timestamp.
    pub timestamp: u32,
    /// Counts the stream's frames.
    pub frame: u32,
    /// Which packet of the frame this is, of how many.
    pub part: u16,
    pub parts: u16,
    pub keyframe: bool,
    /// Microseconds into the story at which the frame was captured.
    pub captured: u64,
}

const MAGIC: [u8; 4] = *b"slce";
/// Bytes a content takes, its MAC included.
pub const CONTENT: usize = 4 + 8 + 4 + 1 + 8 + 4 + 4 + 2 + 2 + 1 + 8 + 8;
/// X and S, I and L, a wide picture id, TL0PICIDX; RFC 7741 §4.2. The VP8 header's first byte follows.
const DESCRIPTOR: usize = 5;

/// Where the VP8 descriptor of a packet stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Picture {
    pub id: u16,
    pub tl0: u8,
}

impl Content {
    pub fn kind(&self) -> MediaKind {
        if self.video { MediaKind::Video } else { MediaKind::Audio }
    }

    /// The payload: a VP8 descriptor for video, the claims, and filler up to `len` bytes.
    pub fn write(&self, key: u64, picture: Option<Picture>, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len.max(CONTENT + DESCRIPTOR + 1));
        if let Some(Picture { id, tl0 }) = picture {
            let [high, low] = id.to_be_bytes();
            let start = if self.part == 0 { 0x90 } else { 0x80 };
            out.extend([start, 0xc0, 0x80 | high, low, tl0]);
            out.push(if self.keyframe { 0x10 } else { 0x11 });
        }
        out.extend(MAGIC);
        out.extend(self.room.to_be_bytes());
        out.extend(self.publisher.to_be_bytes());
        out.push(u8::from(self.video));
        out.extend(self.packet.to_be_bytes());
        out.extend(self.timestamp.to_be_bytes());
        out.extend(self.frame.to_be_bytes());
        out.extend(self.part.to_be_bytes());
        out.extend(self.parts.to_be_bytes());
        out.push(u8::from(self.keyframe));
        out.extend(self.captured.to_be_bytes());
        let filler = len.saturating_sub(out.len() + 8);
        out.extend(self.mac(key, filler).to_be_bytes());
        out.extend(std::iter::repeat_n(self.packet as u8, filler));
        out
    }

    /// Reads a payload back. `None` unless every byte is as it was written.
    pub fn read(key: u64, video: bool, payload: &[u8]) -> Option<(Content, Option<Picture>)> {
        let (picture, rest) = match video {
            true => {
                let (head, rest) = payload.split_at_checked(DESCRIPTOR + 1)?;
                let id = u16::from_be_bytes([head[2] & 0x7f, head[3]]);
                (Some(Picture { id, tl0: head[4] }), rest)
            }
            false => (None, payload),
        };
        let (claims, filler) = rest.split_at_checked(CONTENT)?;
        let mut at = claims;
        let mut take = |n: usize| {
            let (head, tail) = at.split_at(n);
            at = tail;
            head.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte))
        };
        let magic = take(4) as u32;
        let content = Content {
            room: take(8),
            publisher: take(4) as u32,
            video: take(1) == 1,
            packet: take(8),
            timestamp: take(4) as u32,
            frame: take(4) as u32,
            part: take(2) as u16,
            parts: take(2) as u16,
            keyframe: take(1) == 1,
            captured: take(8),
        };
        let genuine = magic == u32::from_be_bytes(MAGIC)
            && take(8) == content.mac(key, filler.len())
            && content.video == video
            && filler.iter().all(|byte| *byte == content.packet as u8);
        genuine.then_some((content, picture))
    }

    fn mac(&self, key: u64, filler: usize) -> u64 {
        let mut hasher = DefaultHasher::new();
        (key, self, filler).hash(&mut hasher);
        hasher.finish()
    }
}

/// A room's name as contents carry it.
pub fn room_tag(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

#[test]
fn content_reads_back_and_not_when_touched() {
    let content = Content {
        room: room_tag("room"),
        publisher: 3,
        video: true,
        packet: 900,
        timestamp: 7,
        frame: 5,
        part: 0,
        parts: 2,
        keyframe: true,
        captured: 12,
    };
    let picture = Picture { id: 0x1234, tl0: 9 };
    let payload = content.write(42, Some(picture), 1_000);
    assert_eq!(payload.len(), 1_000);
    assert_eq!(Content::read(42, true, &payload), Some((content, Some(picture))));
    assert_eq!(Content::read(43, true, &payload), None, "another key");
    for at in [6, 20, 50, 999] {
        let mut touched = payload.clone();
        touched[at] ^= 1;
        assert_eq!(Content::read(42, true, &touched), None, "byte {at}");
    }
}
