//! What a client publishes and what it makes of what it receives.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::payload::{self, Stamp};
use crate::sdp::{OPUS, VP8};

/// The shape of a publisher's media.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Video, in bits per second of RTP payload.
    pub video_bps: u32,
    /// Video frames a second, each sent as one burst.
    pub fps: u32,
    /// RTP payload bytes of a full video packet.
    pub packet: usize,
    /// RTP payload bytes of an audio packet; there are 50 a second.
    pub audio: usize,
}

impl Default for Shape {
    /// 1.5 Mb/s at 30 fps in packets of 1100 bytes, and Opus at 40 kb/s.
    fn default() -> Self {
        Shape { video_bps: 1_500_000, fps: 30, packet: 1_100, audio: 100 }
    }
}

impl Shape {
    /// Sizes of the packets of one frame.
    fn frame(&self) -> impl Iterator<Item = usize> {
        let (mut left, full) = ((self.video_bps / 8 / self.fps) as usize, self.packet);
        std::iter::from_fn(move || {
            let len = left.min(full);
            left -= len;
            (len > 0).then_some(len.max(payload::SHORTEST))
        })
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

/// What was received, all streams together.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Received {
    /// Audio packets.
    pub audio: u64,
    /// Video packets.
    pub video: u64,
    /// RTP bytes, headers included, after protection is off.
    pub bytes: u64,
    /// Numbers that a stream skipped, by the publisher's own numbering.
    pub lost: u64,
    /// Packets that came late or twice.
    pub disordered: u64,
    /// Packets whose content, marker or spacing in RTP numbers and timestamps is not as sent.
    pub altered: u64,
    /// Packets that could not be opened.
    pub unreadable: u64,
    /// From send to the kernel's receive stamp, one per packet, in microseconds.
    pub latencies: Vec<u32>,
    /// Streams seen, by publisher, audio first.
    pub streams: Vec<(u32, u8)>,
}

/// A publisher's clockwork.
pub struct Sending {
    number: u32,
    shape: Shape,
    audio: Stream,
    video: Stream,
    next_audio: Option<Instant>,
    next_frame: Option<Instant>,
    /// Sizes of what is left of the frame being sent.
    frame: Vec<usize>,
    frame_begins: bool,
    keyframe: bool,
    keyframe_wanted: bool,
    picture: u16,
    packet: Vec<u8>,
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
    pub fn new(number: u32, shape: Shape) -> Self {
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
            frame: Vec::new(),
            frame_begins: false,
            keyframe: false,
            keyframe_wanted: true,
            picture: 0,
            packet: Vec::new(),
            sent: Sent::default(),
        }
    }

    pub fn ssrcs(&self) -> (u32, u32) {
        (self.audio.ssrc, self.video.ssrc)
    }

    pub fn start(&mut self, at: Instant) {
        (self.next_audio, self.next_frame) = (Some(at), Some(at));
        self.keyframe_wanted = true;
    }

    pub fn stop(&mut self) {
        (self.next_audio, self.next_frame) = (None, None);
    }

    pub fn sent(&self) -> Sent {
        self.sent
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_audio.into_iter().chain(self.next_frame).min()
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
        if let Some(len) = self.frame.pop() {
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
        self.next_frame = self.next_frame.map(|at| at + Duration::from_secs(1) / self.shape.fps);
    }

    fn write_video(&mut self, len: usize) {
        let last = self.frame.is_empty();
        let first = std::mem::take(&mut self.frame_begins);
        let Sending { packet, video, number, keyframe, picture, .. } = self;
        let stamp = video.begin(packet, *number, last);
        payload::vp8(packet, stamp, len, first, *keyframe, *picture);
        self.sent.video += 1;
        self.sent.bytes += self.packet.len() as u64;
    }

    fn write_audio(&mut self) {
        self.audio.timestamp = self.audio.timestamp.wrapping_add(960);
        let stamp = self.audio.begin(&mut self.packet, self.number, false);
        payload::opus(&mut self.packet, stamp, self.shape.audio);
        self.sent.audio += 1;
        self.sent.bytes += self.packet.len() as u64;
    }
}

impl Stream {
    /// Writes the RTP header and says what the payload is to say.
    fn begin(&mut self, packet: &mut Vec<u8>, publisher: u32, marker: bool) -> Stamp {
        packet.clear();
        packet.extend([0x80, u8::from(marker) << 7 | self.pt]);
        packet.extend(self.first_seq.wrapping_add(self.count as u16).to_be_bytes());
        packet.extend(self.timestamp.to_be_bytes());
        packet.extend(self.ssrc.to_be_bytes());
        let sent = crate::clock::wall().as_nanos() as u64;
        let stamp = Stamp { publisher, seq: self.count, sent, timestamp: self.timestamp };
        self.count += 1;
        stamp
    }
}

/// A receiver's bookkeeping.
#[derive(Default)]
pub struct Receiving {
    received: Received,
    streams: HashMap<u32, Last>,
}

/// The latest packet of a stream, as sent and as received.
#[derive(Clone, Copy)]
struct Last {
    publisher: u32,
    seq: u64,
    /// What the SFU adds to sequence numbers, timestamps and picture ids: constant for an unbroken stream.
    shifts: (u16, u32),
    picture: u16,
    ended_frame: bool,
}

impl Receiving {
    pub fn received(&self) -> &Received {
        &self.received
    }

    /// Books a packet; `None` is one that could not be opened.
    pub fn take(&mut self, arrived: Duration, packet: Option<&[u8]>) {
        let Some(packet) = packet else {
            self.received.unreadable += 1;
            return;
        };
        if self.book(arrived, packet).is_none() {
            self.received.altered += 1;
        }
    }

    /// `None`: not what was sent.
    fn book(&mut self, arrived: Duration, packet: &[u8]) -> Option<()> {
        let rtp = Rtp::parse(packet)?;
        let is_video = rtp.pt == VP8;
        self.received.bytes += packet.len() as u64;
        if is_video {
            self.received.video += 1;
        } else {
            self.received.audio += 1;
        }
        let (stamp, picture) = match is_video {
            true => payload::read_vp8(rtp.payload)?,
            false => (payload::read_opus(rtp.payload)?, 0),
        };
        let latency = arrived.saturating_sub(Duration::from_nanos(stamp.sent));
        self.received.latencies.push(latency.as_micros().min(u32::MAX.into()) as u32);
        let shifts = (rtp.seq.wrapping_sub(stamp.seq as u16), rtp.timestamp.wrapping_sub(stamp.timestamp));
        let last =
            Last { publisher: stamp.publisher, seq: stamp.seq, shifts, picture, ended_frame: rtp.marker };
        let Some(before) = self.streams.insert(rtp.ssrc, last) else {
            self.received.streams.push((stamp.publisher, rtp.pt));
            self.received.streams.sort_by_key(|(publisher, pt)| (*publisher, *pt != OPUS));
            self.received.lost += stamp.seq;
            return Some(());
        };
        match stamp.seq.checked_sub(before.seq + 1) {
            None => self.received.disordered += 1,
            Some(missing) => self.received.lost += missing,
        }
        let follows = stamp.seq == before.seq + 1;
        // A frame's packets share a picture id, the next frame has the next one.
        let step = u16::from(is_video && before.ended_frame);
        let picture_follows = picture == (before.picture + step) & 0x7fff;
        let as_sent = before.publisher == stamp.publisher && before.shifts == shifts && picture_follows;
        (as_sent || !follows).then_some(())
    }
}

struct Rtp<'a> {
    marker: bool,
    pt: u8,
    seq: u16,
    timestamp: u32,
    ssrc: u32,
    payload: &'a [u8],
}

impl<'a> Rtp<'a> {
    /// RFC 3550 §5.1. Padding is not expected and would show as altered.
    fn parse(packet: &'a [u8]) -> Option<Rtp<'a>> {
        let (header, mut payload) = packet.split_first_chunk::<12>()?;
        let word =
            |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        payload = payload.get(4 * usize::from(header[0] & 0x0f)..)?;
        if header[0] & 0x10 != 0 {
            let words = u16::from_be_bytes([*payload.get(2)?, *payload.get(3)?]);
            payload = payload.get(4 + 4 * usize::from(words)..)?;
        }
        Some(Rtp {
            marker: header[1] & 0x80 != 0,
            pt: header[1] & 0x7f,
            seq: u16::from_be_bytes([header[2], header[3]]),
            timestamp: word(4),
            ssrc: word(8),
            payload,
        })
    }
}

/// Opus packets of 20 ms.
const AUDIO: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    /// Three seconds of media, as a receiver without an SFU would see it.
    fn packets() -> (Vec<Vec<u8>>, Sent) {
        let start = crate::clock::now();
        let mut sending = Sending::new(7, Shape::default());
        sending.start(start);
        let mut packets = Vec::new();
        for ms in 0..3_000 {
            while let Some(packet) = sending.poll_packet(start + Duration::from_millis(ms)) {
                packets.push(packet.to_vec());
            }
        }
        (packets, sending.sent())
    }

    fn receive<'a>(packets: impl IntoIterator<Item = &'a Vec<u8>>) -> Received {
        let mut receiving = Receiving::default();
        packets.into_iter().for_each(|packet| receiving.take(crate::clock::wall(), Some(packet)));
        receiving.received
    }

    #[test]
    fn a_faithful_network_is_found_faithful() {
        let (packets, sent) = packets();
        let received = receive(&packets);
        assert_eq!((received.audio, received.video, received.bytes), (sent.audio, sent.video, sent.bytes));
        assert_eq!((received.audio, received.video), (150, 90 * 6));
        assert_eq!((received.lost, received.disordered, received.altered), (0, 0, 0));
        assert_eq!(received.streams, [(7, OPUS), (7, VP8)]);
    }

    #[test]
    fn losses_repeats_and_forgeries_are_told_apart() {
        let (packets, _) = packets();
        assert_eq!(receive(packets[..9].iter().chain(&packets[10..])).lost, 1);
        assert_eq!(receive(packets[..9].iter().chain(&packets[8..])).disordered, 1);
        let mut forged = packets.clone();
        forged[50][40] ^= 1;
        assert_eq!(receive(&forged).altered, 1);
    }
}
