//! One layer of a published track: its recent packets, its clock, its keyframe requests, whether it is alive.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ids::{MediaKind, Rid};
use crate::media::budget::RateMeter;
use crate::media::history::{History, PacketMeta};
use crate::media::keyframe::KeyframeRequests;
use crate::media::picture::Picture;
use crate::media::receive::SenderReportMap;
use crate::units::Bitrate;
use crate::wire::descriptor::Structure;

/// A second of 2.5 Mb/s video is 312 kB; the ring grows to what the layer needs.
const VIDEO_RING: (usize, usize) = (512 * 1024, 1024);
/// Fifty packets a second of at most a few hundred bytes: one to two seconds.
const AUDIO_RING: (usize, usize) = (32 * 1024, 64);

/// A newcomer is served from the ring if the latest keyframe is no older than this …
const HEAD_AGE: Duration = Duration::from_millis(300);
/// … and no more than this has followed it. Beyond, asking for a keyframe is quicker than catching up.
const HEAD_BYTES: usize = 200 * 1024;

/// A layer without packets for so long has been switched off: browsers do so when they are short of bandwidth.
pub const SILENCE: Duration = Duration::from_millis(500);

/// A frame a second: what a still screen is sent at, and slower is not told apart.
const SLOWEST: Duration = Duration::from_secs(1);

/// So long a keyframe may take to be recognised: publishers are asked for one at once, and again after 0.3, 0.8 and
/// 1.8 s.
const VEILED: Duration = Duration::from_secs(3);

/// Spatial layers in one stream that are told apart: browsers send three at most.
const MAX_SPATIAL: usize = 4;

/// One encoding of a track.
pub struct Layer {
    /// The name the publisher gave it; `None` without simulcast.
    pub rid: Option<Rid>,
    pub history: History,
    pub keyframes: KeyframeRequests,
    /// The publisher's latest sender report.
    pub report: Option<SenderReportMap>,
    /// What dependency descriptors refer to.
    pub structure: Option<Arc<Structure>>,
    /// Of the picture, in pixels.
    pub size: Option<(u16, u16)>,
    /// Its publisher is over its cap: nobody is to have it.
    pub shut: bool,
    /// Counts its beginnings.
    pub run: u16,
    kind: MediaKind,
    /// What arrives, by the spatial layer within the stream.
    rates: Vec<RateMeter>,
    /// The fastest temporal layer within the stream so far.
    fastest: u8,
    latest: Option<Instant>,
    /// The timestamp of the latest frame and when its first packet came, and the usual time between two.
    frame: Option<(u32, Instant)>,
    interval: Duration,
    /// The packet filed last was the first of its frame.
    begins_frame: bool,
    /// The latest keyframe's first packet, and when it came.
    keyframe: Option<(u64, Instant)>,
}

impl Layer {
    pub fn new(kind: MediaKind, rid: Option<Rid>) -> Self {
        Layer {
            rid,
            history: empty_ring(kind),
            keyframes: KeyframeRequests::new(),
            report: None,
            structure: None,
            size: None,
            shut: false,
            run: 0,
            kind,
            rates: Vec::new(),
            fastest: 0,
            latest: None,
            frame: None,
            interval: Duration::ZERO,
            begins_frame: false,
            keyframe: None,
        }
    }

    /// The packet's picture as subscribers are to see it. Where no keyframe has been recognised for a while, the
    /// payload is not for us to read, encrypted end to end most likely: then any frame will do to begin with, since
    /// waiting for ever shows nothing at all.
    pub fn unveil(&self, now: Instant, meta: &PacketMeta) -> Picture {
        let asked = |at: Instant| now.saturating_duration_since(at) >= VEILED;
        let veiled = self.keyframe.is_none() && self.keyframes.waiting_since().is_some_and(asked);
        Picture { keyframe: meta.picture.keyframe || (veiled && self.begins_frame), ..meta.picture }
    }

    /// Keeps the packet for everyone. False when it is a repeat or too old to be of use.
    pub fn file(&mut self, meta: PacketMeta, carried: &[u8], payload: &[u8]) -> bool {
        let fresh = self.history.push(meta, carried, payload);
        if !fresh {
            return false;
        }
        self.latest = Some(meta.arrived);
        self.begins_frame = self.frame.is_none_or(|(timestamp, _)| timestamp != meta.timestamp);
        if self.begins_frame {
            let before = self.frame.replace((meta.timestamp, meta.arrived));
            let passed = before.map_or(Duration::ZERO, |(_, at)| meta.arrived.saturating_duration_since(at));
            self.interval = (self.interval * 3 + passed.min(SLOWEST)) / 4;
        }
        if self.kind == MediaKind::Video {
            let spatial = usize::from(meta.picture.spatial).min(MAX_SPATIAL - 1);
            if self.rates.len() <= spatial {
                self.rates.resize_with(spatial + 1, RateMeter::default);
            }
            self.fastest = self.fastest.max(meta.picture.temporal);
            self.rates[spatial].add(meta.arrived, carried.len() + payload.len());
        }
        if meta.picture.keyframe {
            self.keyframe = Some((meta.seq, meta.arrived));
        }
        true
    }

    /// Packets have come lately, or as lately as a slow picture's come.
    pub fn is_active(&self, now: Instant) -> bool {
        !self.shut && self.has_come_within(now, SILENCE.max(self.interval * 3))
    }

    /// A packet has come in so long a time.
    pub fn has_come_within(&self, now: Instant, patience: Duration) -> bool {
        self.latest.is_some_and(|at| now.saturating_duration_since(at) < patience)
    }

    /// Packets have come at all.
    pub fn has_come(&self) -> bool {
        self.latest.is_some()
    }

    /// Spatial layers seen within the stream; one at least.
    pub fn spatial_layers(&self) -> u8 {
        self.rates.len().max(1) as u8
    }

    /// The fastest temporal layer seen within the stream.
    pub fn fastest(&self) -> u8 {
        self.fastest
    }

    /// What its spatial layers up to this one weigh together, payloads alone.
    pub fn rate(&self, now: Instant, spatial: u8) -> Bitrate {
        let within = self.rates.iter().take(usize::from(spatial) + 1);
        Bitrate::bps(within.map(|rate| rate.rate(now).as_bps()).sum())
    }

    /// Where the latest keyframe starts.
    pub fn began(&self) -> Option<u64> {
        self.keyframe.map(|(first, _)| first)
    }

    /// What a newcomer can start with at once: the latest keyframe and all that followed, if that is recent
    /// and little enough to send in one go, and complete.
    pub fn head(&self, now: Instant) -> Option<RangeInclusive<u64>> {
        let (mut first, arrived) = self.keyframe?;
        let timestamp = self.history.get(first)?.meta.timestamp;
        // Parameter sets may have come late, after the slice that needs them.
        while let Some(before) = first.checked_sub(1)
            && self.history.get(before).is_some_and(|stored| stored.meta.timestamp == timestamp)
        {
            first = before;
        }
        let head = first..=self.history.newest()?;
        let recent = now.saturating_duration_since(arrived) <= HEAD_AGE;
        let mut bytes = 0;
        let complete = recent
            && head.clone().all(|seq| {
                let stored = self.history.get(seq);
                bytes += stored.map_or(0, |stored| stored.payload.len());
                stored.is_some()
            });
        (complete && bytes <= HEAD_BYTES).then_some(head)
    }

    /// The publisher began a new stream, whose numbers have nothing to do with those before.
    pub fn restart(&mut self) {
        self.history = empty_ring(self.kind);
        self.run = self.run.wrapping_add(1);
        self.report = None;
        self.structure = None;
        self.frame = None;
        self.keyframe = None;
    }
}

fn empty_ring(kind: MediaKind) -> History {
    let (bytes, packets) = match kind {
        MediaKind::Audio => AUDIO_RING,
        MediaKind::Video => VIDEO_RING,
    };
    History::new(bytes, packets)
}
