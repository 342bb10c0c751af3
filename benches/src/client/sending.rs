//! What a client publishes.

use std::time::{Duration, Instant};

use super::rtp::{ONE_BYTE_FORM, TRANSPORT_ID};
use crate::payload::{self, Stamp};
use crate::sdp::{OPUS, VP8};

/// The shape of a publisher's media.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Video, in bits per second of RTP payload; zero is audio only.
    pub video_bps: u32,
    /// Video frames a second.
    pub fps: u32,
    /// The time over which a frame's packets are spread; zero sends them in one burst.
    pub paced: Duration,
    /// RTP payload bytes of a video packet at most.
    pub packet: usize,
    /// RTP payload bytes of an audio packet; there are 50 a second.
    pub audio: usize,
}

impl Default for Shape {
    /// 1.5 Mb/s at 30 fps in packets of up to 1100 bytes, and Opus at 40 kb/s.
    fn default() -> Self {
        Shape { video_bps: 1_500_000, fps: 30, paced: Duration::ZERO, packet: 1_100, audio: 100 }
    }
}

impl Shape {
    /// Sizes of the packets of one frame: as equal as can be, the smaller ones first
    /// (libwebrtc `RtpPacketizer::SplitAboutEqually`).
    fn frame(&self) -> impl Iterator<Item = usize> + use<> {
        let frame = (self.video_bps / 8 / self.fps) as usize;
        let packets = frame.div_ceil(self.packet);
        (0..packets).map(move |n| ((frame + n) / packets).max(payload::SHORTEST))
    }
}

/// What was published.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sent {
    /// Audio packets.
    pub audio: u64,
    /// Video packets.
    pub video: u64,
    /// RTP bytes, headers included, before protection.
    pub bytes: u64,
    /// Keyframe requests that arrived.
    pub keyframe_requests: u64,
    /// NACK messages that arrived.
    pub nacks: u64,
}

impl Sent {
    /// Adds what another has published.
    pub fn add(&mut self, other: &Sent) {
        self.audio += other.audio;
        self.video += other.video;
        self.bytes += other.bytes;
        self.keyframe_requests += other.keyframe_requests;
        self.nacks += other.nacks;
    }
}

/// A publisher's clockwork.
pub struct Sending {
    number: u32,
    shape: Shape,
    audio: Stream,
    video: Stream,
    next_audio: Option<Instant>,
    next_frame: Option<Instant>,
    /// When the next packet of the frame being sent is due, and the time between two.
    next_packet: Option<Instant>,
    spacing: Duration,
    /// Sizes of what is left of the frame being sent.
    frame: Vec<usize>,
    frame_begins: bool,
    keyframe: bool,
    keyframe_wanted: bool,
    picture: u16,
    packet: Vec<u8>,
    /// The next transport-wide sequence number, where they were offered.
    transport: Option<u16>,
    sent: Sent,
}

struct Stream {
    ssrc: u32,
    pt: u8,
    first_seq: u16,
    timestamp: u32,
    count: u64,
}

impl Sending {
    pub fn new(number: u32, shape: Shape, transport: bool) -> Self {
        let mut random = [0; 16];
        aws_lc_rs::rand::fill(&mut random).expect("the system's random source works");
        let word =
            |at: usize| u32::from_be_bytes([random[at], random[at + 1], random[at + 2], random[at + 3]]);
        let stream = |pt, at| Stream {
            ssrc: word(at),
            pt,
            // RFC 3711 §3.3.1: starting in the lower half avoids ambiguity about the first rollover.
            first_seq: (word(at + 4) & 0x7fff) as u16,
            timestamp: word(at + 4),
            count: 0,
        };
        Sending {
            number,
            shape,
            audio: stream(OPUS, 0),
            video: stream(VP8, 8),
            next_audio: None,
            next_frame: None,
            next_packet: None,
            spacing: Duration::ZERO,
            frame: Vec::new(),
            frame_begins: false,
            keyframe: false,
            keyframe_wanted: true,
            picture: 0,
            packet: Vec::new(),
            transport: transport.then_some(0),
            sent: Sent::default(),
        }
    }

    /// Of audio and video.
    pub fn ssrcs(&self) -> (u32, u32) {
        (self.audio.ssrc, self.video.ssrc)
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// From the next frame on.
    pub fn set_shape(&mut self, shape: Shape) {
        self.shape = shape;
    }

    pub fn start(&mut self, at: Instant) {
        self.next_audio = Some(at);
        self.next_frame = (self.shape.video_bps > 0).then_some(at);
        self.keyframe_wanted = true;
    }

    /// What is left of a frame is sent, so that it ends with its marker.
    pub fn stop(&mut self) {
        (self.next_audio, self.next_frame) = (None, None);
    }

    pub fn sent(&self) -> Sent {
        self.sent
    }

    /// Counts from nothing again; streams go on.
    pub fn reset(&mut self) {
        self.sent = Sent::default();
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let video = if self.frame.is_empty() { self.next_frame } else { self.next_packet };
        self.next_audio.into_iter().chain(video).min()
    }

    /// Looks for what concerns a publisher: RFC 4585 §6.
    pub fn hear(&mut self, mut compound: &[u8]) {
        while let [first, kind, high, low, ..] = *compound {
            match (kind, first & 0x1f) {
                (206, 1 | 4) => {
                    self.sent.keyframe_requests += 1;
                    self.keyframe_wanted = true;
                }
                (205, 1) => self.sent.nacks += 1,
                _ => {}
            }
            let len = 4 * (usize::from(u16::from_be_bytes([high, low])) + 1);
            compound = compound.get(len..).unwrap_or_default();
        }
    }

    /// The next packet that is due, unprotected.
    pub fn poll_packet(&mut self, now: Instant) -> Option<&[u8]> {
        if self.frame.is_empty() && self.next_frame.is_some_and(|at| at <= now) {
            self.begin_frame();
        }
        if let Some(at) = self.next_packet.filter(|at| *at <= now)
            && let Some(len) = self.frame.pop()
        {
            self.next_packet = Some(at + self.spacing);
            self.write_video(len);
            return Some(&self.packet);
        }
        if let Some(at) = self.next_audio.filter(|at| *at <= now) {
            self.next_audio = Some(at + AUDIO);
            self.write_audio();
            return Some(&self.packet);
        }
        None
    }

    fn begin_frame(&mut self) {
        self.frame = self.shape.frame().collect();
        // Popped from the end: the short packet must come last.
        self.frame.reverse();
        self.frame_begins = true;
        self.keyframe = std::mem::take(&mut self.keyframe_wanted);
        self.picture = self.picture.wrapping_add(1) & 0x7fff;
        self.video.timestamp = self.video.timestamp.wrapping_add(90_000 / self.shape.fps);
        self.spacing = self.shape.paced / self.frame.len().max(1) as u32;
        self.next_packet = self.next_frame;
        self.next_frame = self.next_frame.map(|at| at + Duration::from_secs(1) / self.shape.fps);
    }

    fn write_video(&mut self, len: usize) {
        let last = self.frame.is_empty();
        let first = std::mem::take(&mut self.frame_begins);
        let Sending { packet, video, number, keyframe, picture, transport, .. } = self;
        let stamp = video.begin(packet, *number, last, transport);
        payload::vp8(packet, stamp, len, first, *keyframe, *picture);
        self.sent.video += 1;
        self.sent.bytes += self.packet.len() as u64;
    }

    fn write_audio(&mut self) {
        self.audio.timestamp = self.audio.timestamp.wrapping_add(960);
        let stamp = self.audio.begin(&mut self.packet, self.number, false, &mut self.transport);
        payload::opus(&mut self.packet, stamp, self.shape.audio);
        self.sent.audio += 1;
        self.sent.bytes += self.packet.len() as u64;
    }
}

impl Stream {
    /// Writes the RTP header and says what the payload is to say.
    fn begin(
        &mut self,
        packet: &mut Vec<u8>,
        publisher: u32,
        marker: bool,
        transport: &mut Option<u16>,
    ) -> Stamp {
        packet.clear();
        let extended = u8::from(transport.is_some()) << 4;
        packet.extend([0x80 | extended, u8::from(marker) << 7 | self.pt]);
        packet.extend(self.first_seq.wrapping_add(self.count as u16).to_be_bytes());
        packet.extend(self.timestamp.to_be_bytes());
        packet.extend(self.ssrc.to_be_bytes());
        if let Some(number) = transport {
            // RFC 8285 §4.2: one word, with an element of two bytes and a byte of filler.
            packet.extend(ONE_BYTE_FORM);
            packet.extend([0, 1, TRANSPORT_ID << 4 | 1]);
            packet.extend(number.to_be_bytes());
            packet.push(0);
            *number = number.wrapping_add(1);
        }
        let sent = crate::clock::wall().as_nanos() as u64;
        let stamp = Stamp { publisher, seq: self.count, sent, timestamp: self.timestamp };
        self.count += 1;
        stamp
    }
}

/// Opus packets of 20 ms.
const AUDIO: Duration = Duration::from_millis(20);
