//! What a receiver could make a picture of, judged by content: a frame is decodable when all its packets came
//! and its predecessors since the last keyframe could be decoded.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::clock::origin;
use super::sink::Seen;

/// A frame that could be decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decoded {
    pub at: Instant,
    pub layer: usize,
    pub frame: u32,
    pub keyframe: bool,
    /// Microseconds into the story at which it was captured.
    pub captured: u64,
    /// Who published it, its layer included.
    publisher: u32,
    /// The unwrapped number of its first packet.
    first: u64,
}

/// A frame of which not everything has come, or that waits for another.
#[derive(Debug)]
struct Pending {
    missing: Vec<u16>,
    frame: Decoded,
}

/// Decodes one stream as it arrives.
///
/// It goes on with the next frame as soon as that is whole; a whole keyframe further on is as good, and what lies
/// between is given up, as browsers do.
#[derive(Default, Debug)]
pub struct Decoder {
    /// By the number of the first packet.
    pending: BTreeMap<u64, Pending>,
    latest: Option<Decoded>,
}

impl Decoder {
    /// Takes a packet; answers what could be decoded with it.
    pub fn take(&mut self, seen: &Seen) -> Vec<Decoded> {
        let content = seen.content;
        let first = seen.seq.saturating_sub(content.part.into());
        if self.latest.is_some_and(|latest| first <= latest.first) {
            return Vec::new();
        }
        let pending = self.pending.entry(first).or_insert_with(|| Pending {
            missing: (0..content.parts).collect(),
            frame: Decoded {
                at: seen.at,
                layer: content.publisher as usize / 10_000,
                frame: content.frame,
                keyframe: content.keyframe,
                captured: content.captured,
                publisher: content.publisher,
                first,
            },
        });
        pending.missing.retain(|part| *part != content.part);
        let mut decoded = Vec::new();
        while let Some(first) = self.next() {
            let mut rest = self.pending.split_off(&first);
            let Some(Pending { frame, .. }) = rest.remove(&first) else { break };
            self.pending = rest;
            let frame = Decoded { at: seen.at, ..frame };
            self.latest = Some(frame);
            decoded.push(frame);
        }
        decoded
    }

    /// The frame decoded last.
    pub fn latest(&self) -> Option<Decoded> {
        self.latest
    }

    fn next(&self) -> Option<u64> {
        let follows = |frame: &Decoded| {
            self.latest.is_some_and(|latest| {
                (frame.publisher, frame.frame) == (latest.publisher, latest.frame.wrapping_add(1))
            })
        };
        let whole = || self.pending.iter().filter(|(_, pending)| pending.missing.is_empty());
        let next = whole().find(|(_, pending)| follows(&pending.frame));
        let next = next.or_else(|| whole().find(|(_, pending)| pending.frame.keyframe));
        next.map(|(first, _)| *first)
    }
}

/// All that could be decoded of one stream.
pub fn decode<'a>(stream: impl IntoIterator<Item = &'a Seen>) -> Vec<Decoded> {
    let mut decoder = Decoder::default();
    stream.into_iter().flat_map(|seen| decoder.take(seen)).collect()
}

/// When pictures are shown: `buffer` later than the quickest of them could be, or as soon as they can.
///
/// libwebrtc's buffer holds a round trip once it has seen three losses (`JitterEstimator::GetJitterEstimate`),
/// so that repairs come in time.
pub fn shown(pictures: &[Decoded], buffer: Duration) -> Vec<Decoded> {
    let captured = |picture: &Decoded| origin() + Duration::from_micros(picture.captured);
    let transit = |picture: &Decoded| picture.at.saturating_duration_since(captured(picture));
    let least = pictures.iter().map(transit).min().unwrap_or_default();
    let at = |picture: &Decoded| picture.at.max(captured(picture) + least + buffer);
    pictures.iter().map(|picture| Decoded { at: at(picture), ..*picture }).collect()
}

/// The longest time between two pictures.
pub fn longest_gap(pictures: &[Decoded]) -> Duration {
    pictures.windows(2).map(|pair| pair[1].at - pair[0].at).max().unwrap_or_default()
}

/// The gaps that browsers call freezes: longer than three average frames, and than an average frame and 150 ms;
/// each with the picture that ended it. Averages are over the [`RECENT`] gaps before
/// (libwebrtc `VideoQualityObserver`).
pub fn freezes(pictures: &[Decoded]) -> Vec<(Instant, Duration)> {
    let gaps: Vec<Duration> = pictures.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    let mut freezes = Vec::new();
    for (at, gap) in gaps.iter().enumerate() {
        let recent = &gaps[at.saturating_sub(RECENT)..at];
        let Some(count) = u32::try_from(recent.len()).ok().filter(|count| *count >= FEWEST) else { continue };
        let average = recent.iter().sum::<Duration>() / count;
        if *gap > (average * 3).max(average + Duration::from_millis(150)) {
            freezes.push((pictures[at + 1].at, *gap));
        }
    }
    freezes
}

/// Gaps that an average is made of.
const RECENT: usize = 30;
/// Fewer make none.
const FEWEST: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::clock::ms;
    use crate::world::content::Content;

    /// Packet `part` of `parts` of a frame, `seq` on the wire, at `at` milliseconds.
    fn packet(at: u64, seq: u64, frame: u32, (part, parts): (u16, u16), keyframe: bool) -> Seen {
        let content = Content {
            room: 0,
            publisher: 0,
            video: true,
            packet: seq,
            timestamp: frame,
            frame,
            part,
            parts,
            keyframe,
            captured: 0,
        };
        Seen { at: origin() + ms(at), seq, timestamp: frame, picture: None, content, len: 100 }
    }

    fn times(decoded: &[Decoded]) -> Vec<(u32, u64)> {
        decoded.iter().map(|it| (it.frame, (it.at - origin()).as_millis() as u64)).collect()
    }

    #[test]
    fn nothing_before_a_keyframe_and_nothing_past_a_hole() {
        let decoded = decode(&[
            packet(0, 10, 4, (0, 1), false),
            packet(1, 11, 5, (0, 2), true),
            packet(2, 12, 5, (1, 2), true),
            packet(3, 14, 7, (0, 1), false),
            packet(4, 15, 8, (0, 1), false),
            packet(5, 13, 6, (0, 1), false),
        ]);
        assert_eq!(times(&decoded), [(5, 2), (6, 5), (7, 5), (8, 5)]);
    }

    #[test]
    fn a_keyframe_past_a_hole_gives_up_what_lies_between() {
        let decoded = decode(&[
            packet(0, 10, 1, (0, 1), true),
            packet(1, 12, 3, (0, 1), false),
            packet(2, 13, 4, (0, 1), true),
            packet(3, 11, 2, (0, 1), false),
            packet(4, 14, 5, (0, 1), false),
        ]);
        assert_eq!(times(&decoded), [(1, 0), (4, 2), (5, 4)]);
    }

    #[test]
    fn a_freeze_is_what_browsers_call_one() {
        let picture = |at| decode(&[packet(at, at, 0, (0, 1), true)])[0];
        let mut times: Vec<u64> = (0..10).map(|frame| frame * 33).collect();
        times.push(297 + 183);
        times.push(480 + 250);
        let found = freezes(&times.iter().map(|at| picture(*at)).collect::<Vec<_>>());
        assert_eq!(found, [(origin() + ms(730), ms(250))], "183 ms are not more than 33 + 150");
    }
}
