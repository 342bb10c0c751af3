//! What a client received, judged by content.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};

use rtc_shared::marshal::MarshalSize;
use rtp::packet::Packet;

use super::content::{Content, Picture};
use super::decoder::{Decoded, decode};

/// One genuine packet.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub at: Instant,
    /// Unwrapped by arrival.
    pub seq: u64,
    pub timestamp: u32,
    pub picture: Option<Picture>,
    pub content: Content,
    /// Bytes of header and payload.
    pub len: usize,
}

impl Seen {
    fn delay(&self) -> Duration {
        super::clock::since_origin(self.at).saturating_sub(Duration::from_micros(self.content.captured))
    }
}

/// Everything one client received.
pub struct Sink {
    key: u64,
    room: u64,
    /// By SSRC, in order of arrival.
    pub streams: BTreeMap<u32, Vec<Seen>>,
    /// Payloads that no honest publisher wrote.
    pub forged: u64,
    /// Genuine, but of another room.
    pub foreign: u64,
}

impl Sink {
    pub fn new(key: u64, room: u64) -> Sink {
        Sink { key, room, streams: BTreeMap::new(), forged: 0, foreign: 0 }
    }

    /// Books a packet; answers what it was, if it is genuine.
    pub fn take(&mut self, now: Instant, packet: &Packet) -> Option<Seen> {
        let read = Content::read(self.key, true, &packet.payload)
            .or_else(|| Content::read(self.key, false, &packet.payload));
        let Some((content, picture)) = read else {
            self.forged += 1;
            return None;
        };
        if content.room != self.room {
            self.foreign += 1;
        }
        let stream = self.streams.entry(packet.header.ssrc).or_default();
        let seq = match stream.last() {
            None => 1 << 16 | u64::from(packet.header.sequence_number),
            Some(last) => {
                let distance = packet.header.sequence_number.wrapping_sub(last.seq as u16) as i16;
                last.seq.saturating_add_signed(i64::from(distance))
            }
        };
        let len = packet.header.marshal_size() + packet.payload.len();
        let seen = Seen { at: now, seq, timestamp: packet.header.timestamp, picture, content, len };
        stream.push(seen);
        Some(seen)
    }

    /// Everything, whatever its stream.
    pub fn seen(&self) -> impl Iterator<Item = &Seen> {
        self.streams.values().flatten()
    }

    /// What came from one publisher of one kind.
    pub fn from(&self, publisher: usize, video: bool) -> impl Iterator<Item = &Seen> {
        self.seen()
            .filter(move |seen| seen.content.publisher as usize == publisher && seen.content.video == video)
    }

    /// The SSRCs on which one publisher's media comes.
    pub fn receives_from(&self, publisher: usize) -> Vec<u32> {
        let brings = |stream: &[Seen]| stream.iter().any(|seen| seen.content.publisher as usize == publisher);
        self.streams.iter().filter(|(_, stream)| brings(stream)).map(|(ssrc, _)| *ssrc).collect()
    }

    /// The pictures of one publisher that could be decoded, whatever their layers.
    pub fn pictures(&self, publisher: usize) -> Vec<Decoded> {
        let theirs =
            |seen: &&Seen| seen.content.video && seen.content.publisher as usize % 10_000 == publisher;
        let mut pictures: Vec<Decoded> =
            self.streams.values().flat_map(|stream| decode(stream.iter().filter(theirs))).collect();
        pictures.sort_by_key(|picture| picture.at);
        pictures
    }

    /// Distinct packets from one publisher of one kind.
    pub fn packets_from(&self, publisher: usize, video: bool) -> usize {
        self.from(publisher, video).map(|seen| seen.content.packet).collect::<HashSet<_>>().len()
    }

    /// Packets that came more than once.
    pub fn duplicates(&self) -> usize {
        let mut known = HashSet::new();
        self.seen()
            .filter(|seen| {
                let Content { publisher, video, packet, .. } = seen.content;
                !known.insert((publisher, video, packet))
            })
            .count()
    }

    /// Packets that never came, between the first and the last that did, over all publishers.
    pub fn missing(&self) -> u64 {
        let mut packets: BTreeMap<(u32, bool), BTreeSet<u64>> = BTreeMap::new();
        for Seen { content, .. } in self.seen() {
            packets.entry((content.publisher, content.video)).or_default().insert(content.packet);
        }
        let gaps = packets
            .values()
            .filter_map(|numbers| Some(numbers.last()? - numbers.first()? + 1 - numbers.len() as u64));
        gaps.sum()
    }

    /// Video frames of which something lacks, between the first and the last seen of each publisher.
    /// The last one may be on its way still and does not count.
    pub fn frames_missing(&self) -> u64 {
        let mut frames: BTreeMap<u32, BTreeMap<u32, (u16, HashSet<u16>)>> = BTreeMap::new();
        for Seen { content, .. } in self.seen().filter(|seen| seen.content.video) {
            let stream = frames.entry(content.publisher).or_default();
            stream.entry(content.frame).or_insert((content.parts, HashSet::new())).1.insert(content.part);
        }
        let lost = frames.values().filter_map(|frames| {
            let (first, last) = (*frames.keys().next()?, *frames.keys().next_back()?);
            let whole = frames
                .iter()
                .filter(|(frame, (parts, seen))| **frame < last && seen.len() == usize::from(*parts));
            Some(u64::from(last - first) - whole.count() as u64)
        });
        lost.sum()
    }

    /// The longest that a packet took from its capture to here.
    pub fn worst_delay(&self) -> Duration {
        self.seen().map(Seen::delay).max().unwrap_or_default()
    }

    /// The same of what one publisher sent of one kind.
    pub fn worst_delay_from(&self, publisher: usize, video: bool) -> Duration {
        self.from(publisher, video).map(Seen::delay).max().unwrap_or_default()
    }

    /// When the last packet of one publisher came.
    pub fn last_from(&self, publisher: usize, video: bool) -> Option<Instant> {
        self.from(publisher, video).map(|seen| seen.at).max()
    }

    /// When the first keyframe of one publisher began to come.
    pub fn first_keyframe_from(&self, publisher: usize) -> Option<Instant> {
        self.from(publisher, true).filter(|seen| seen.content.keyframe).map(|seen| seen.at).min()
    }

    /// Packets of one publisher in a window.
    pub fn packets_between(&self, publisher: usize, video: bool, from: Instant, to: Instant) -> usize {
        self.from(publisher, video).filter(|seen| seen.at >= from && seen.at < to).count()
    }

    /// What is wrong with the streams' numbers where nothing was lost on the way: sequence numbers that
    /// skip or repeat, timestamps and pictures that do not follow each other.
    pub fn discontinuities(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (ssrc, stream) in &self.streams {
            let mut stream = stream.clone();
            stream.sort_by_key(|seen| seen.seq);
            for pair in stream.windows(2) {
                let (before, after) = (&pair[0], &pair[1]);
                let mut complain = |what: &str| {
                    faults.push(format!("{ssrc:x}: {what}: {before:?} -> {after:?}"));
                };
                if after.seq != before.seq + 1 {
                    complain("sequence number");
                }
                let same_source = before.content.publisher == after.content.publisher;
                let same_frame = same_source && before.content.frame == after.content.frame;
                let moved = after.timestamp.wrapping_sub(before.timestamp) as i32;
                let elapsed = after.at.saturating_duration_since(before.at);
                if same_frame != (moved == 0) || moved < 0 {
                    complain("timestamp");
                }
                let rate = if after.content.video { 90_000.0 } else { 48_000.0 };
                let apart = Duration::from_secs_f64(f64::from(moved.max(0)) / rate).abs_diff(elapsed);
                if apart > Duration::from_millis(100) {
                    complain("the clock jumped");
                }
                if let (Some(before), Some(after)) = (before.picture, after.picture) {
                    let step = u16::from(!same_frame);
                    if after.id != (before.id + step) & 0x7fff {
                        complain("picture id");
                    }
                    if after.tl0 != before.tl0.wrapping_add(step as u8) {
                        complain("tl0");
                    }
                }
            }
        }
        faults
    }
}
