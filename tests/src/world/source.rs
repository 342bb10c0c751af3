//! Synthetic cameras and microphones.

use std::time::{Duration, Instant};

use rtp::header::Header;
use rtp::packet::Packet;

use super::clock::since_origin;
use super::content::{Content, Picture};
use super::dice::Dice;

/// Frames per second of a camera.
const FRAMES: u64 = 30;
/// Opus frames last 20 ms.
const PTIME: Duration = Duration::from_millis(20);
const PACKET: usize = 1_100;
/// A keyframe costs as much as this many others.
const KEYFRAME_COST: u64 = 4;

/// What a microphone hears.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Voice {
    /// A quiet room.
    Silent,
    /// Words: syllables of 200 ms.
    Speaks,
    /// Always so many decibels below the loudest, as a liar says.
    Claims(u8),
}

impl Voice {
    /// The value of the level extension (RFC 6464 §3), so many milliseconds into the story.
    fn level(self, ms: u64) -> u8 {
        match (self, ms / 20 % 11) {
            (Voice::Silent, frame) => 68 + (frame % 4) as u8,
            (Voice::Speaks, 0) => 0x80 | 55,
            (Voice::Speaks, frame) => 0x80 | (20 + (frame * 7 % 13) as u8),
            (Voice::Claims(level), _) => 0x80 | level,
        }
    }
}

/// One published stream.
pub struct Source {
    pub ssrc: u32,
    pub video: bool,
    /// Bits per second of payload.
    pub bitrate: u64,
    pub payload_type: u8,
    /// Header extensions of every packet, by id.
    pub extensions: Vec<(u8, bytes::Bytes)>,
    /// What the microphone hears, if it tells.
    pub voice: Voice,
    /// By which it tells it.
    pub level_id: Option<u8>,
    room: u64,
    publisher: u32,
    key: u64,
    next: Instant,
    sequence: u16,
    /// The timestamp at the origin of the story.
    offset: u32,
    packets: u64,
    octets: u64,
    frames: u32,
    picture: Picture,
    keyframe_due: bool,
    /// The payload is encrypted end to end, as far as keyframes go.
    pub veiled: bool,
    last_timestamp: u32,
    last_at: Instant,
    pub keyframes: u64,
}

impl Source {
    pub fn new(
        now: Instant,
        dice: &mut Dice,
        room: u64,
        publisher: u32,
        key: u64,
        video: bool,
        bitrate: u64,
    ) -> Source {
        Source {
            ssrc: dice.word() as u32 | 1,
            video,
            bitrate,
            payload_type: if video { 96 } else { 111 },
            extensions: Vec::new(),
            voice: Voice::Silent,
            level_id: None,
            room,
            publisher,
            key,
            next: now,
            // RFC 3711 §3.3.1 asks for a start in the lower half.
            sequence: dice.word() as u16 & 0x7fff,
            offset: dice.word() as u32,
            packets: 0,
            octets: 0,
            frames: 0,
            picture: Picture { id: dice.word() as u16 & 0x7fff, tl0: dice.word() as u8 },
            keyframe_due: true,
            veiled: false,
            last_timestamp: 0,
            last_at: now,
            keyframes: 0,
        }
    }

    pub fn clock_rate(&self) -> u64 {
        if self.video { 90_000 } else { 48_000 }
    }

    /// A receiver cannot decode.
    pub fn want_keyframe(&mut self) {
        self.keyframe_due = self.video;
    }

    pub fn poll_timeout(&self) -> Instant {
        self.next
    }

    /// Begins to send at `now`, with a keyframe.
    pub fn start(&mut self, now: Instant) {
        self.next = now;
        self.keyframe_due = self.video;
    }

    /// Jumps to another sequence number: tests near the wrap start there.
    pub fn set_sequence(&mut self, sequence: u16) {
        self.sequence = sequence;
    }

    /// Leaves out so many sequence numbers and ticks, as a camera that was replaced does.
    pub fn jump(&mut self, packets: u16, ticks: u32) {
        self.sequence = self.sequence.wrapping_add(packets);
        self.offset = self.offset.wrapping_add(ticks);
    }

    /// The number the next packet will have.
    pub fn sequence(&self) -> u16 {
        self.sequence
    }

    /// Packets made so far, of the whole stream.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Lets the frames that are due go by: nothing is encoded, and nothing is numbered.
    pub fn rest(&mut self, now: Instant) {
        if now >= self.next {
            self.next = now + self.interval();
        }
    }

    /// The next frame, if it is due.
    pub fn poll(&mut self, now: Instant) -> Option<Vec<Packet>> {
        if now < self.next {
            return None;
        }
        let captured = since_origin(now).as_micros() as u64;
        let ticks = u128::from(captured) * u128::from(self.clock_rate()) / 1_000_000;
        let timestamp = self.offset.wrapping_add(ticks as u32);
        (self.last_timestamp, self.last_at) = (timestamp, now);
        self.next = now + self.interval();
        let keyframe = std::mem::take(&mut self.keyframe_due);
        let sizes = self.sizes(keyframe);
        let parts = sizes.len() as u16;
        if self.video {
            self.keyframes += u64::from(keyframe);
            self.picture.id = (self.picture.id + 1) & 0x7fff;
            self.picture.tl0 = self.picture.tl0.wrapping_add(1);
        }
        let packets = sizes.into_iter().enumerate().map(|(part, size)| {
            let content = Content {
                room: self.room,
                publisher: self.publisher,
                video: self.video,
                packet: self.packets,
                timestamp,
                frame: self.frames,
                part: part as u16,
                parts,
                keyframe,
                captured,
            };
            let mut payload = content.write(self.key, self.video.then_some(self.picture), size);
            if self.veiled {
                // Never a keyframe, to who reads the VP8 header.
                payload[5] |= 1;
            }
            let mut header = Header {
                version: 2,
                marker: self.video && part + 1 == usize::from(parts),
                payload_type: self.payload_type,
                sequence_number: self.sequence,
                timestamp,
                ssrc: self.ssrc,
                ..Header::default()
            };
            for (id, value) in &self.extensions {
                header.set_extension(*id, value.clone()).expect("a short extension fits");
            }
            if let Some(id) = self.level_id {
                let level = self.voice.level(captured / 1_000 + u64::from(self.publisher) * 60);
                header.set_extension(id, vec![level].into()).expect("a short extension fits");
            }
            self.sequence = self.sequence.wrapping_add(1);
            self.packets += 1;
            self.octets += payload.len() as u64;
            Packet { header, payload: payload.into() }
        });
        let packets = packets.collect();
        self.frames += 1;
        Some(packets)
    }

    /// The stream's clock at `now`.
    pub fn report(&self, now: Instant) -> Option<rtcp::sender_report::SenderReport> {
        let age = now.saturating_duration_since(self.last_at).as_micros() as u64;
        (self.packets > 0).then(|| rtcp::sender_report::SenderReport {
            ssrc: self.ssrc,
            ntp_time: super::clock::ntp(now),
            rtp_time: self.last_timestamp.wrapping_add((age * self.clock_rate() / 1_000_000) as u32),
            packet_count: self.packets as u32,
            octet_count: self.octets as u32,
            ..Default::default()
        })
    }

    fn interval(&self) -> Duration {
        if self.video { Duration::from_micros(1_000_000 / FRAMES) } else { PTIME }
    }

    fn sizes(&self, keyframe: bool) -> Vec<usize> {
        if !self.video {
            return vec![(self.bitrate / 8 / 50).max(80) as usize];
        }
        let cost = if keyframe { KEYFRAME_COST } else { 1 };
        let bytes = (self.bitrate / 8 / FRAMES * cost).max(120) as usize;
        let parts = bytes.div_ceil(PACKET);
        vec![(bytes / parts).max(100); parts]
    }
}
