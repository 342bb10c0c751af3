//! A published track: its recent packets, its subscribers, and its keyframe requests.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use crate::ids::{MediaKind, Mid, PeerKey};
use crate::media::codec::Codec;
use crate::media::history::{History, PacketMeta};
use crate::media::keyframe::KeyframeRequests;
use crate::media::receive::SenderReportMap;

/// A second of 2.5 Mb/s video is 312 kB; the ring grows to what the track needs.
const VIDEO_RING: (usize, usize) = (512 * 1024, 1024);
/// Fifty packets a second of at most a few hundred bytes: one to two seconds.
const AUDIO_RING: (usize, usize) = (32 * 1024, 64);

/// A newcomer is served from the ring if the latest keyframe is no older than this …
const HEAD_AGE: Duration = Duration::from_millis(300);
/// … and no more than this has followed it. Beyond, asking for a keyframe is quicker than catching up.
const HEAD_BYTES: usize = 200 * 1024;

/// What a peer publishes.
#[derive(Clone, Copy, Debug)]
pub struct Publication {
    pub publisher: PeerKey,
    /// The publisher's m-line.
    pub mid: Mid,
    pub kind: MediaKind,
    pub codec: Codec,
}

/// One receiver of a track.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscription {
    pub peer: PeerKey,
    /// Index of the slot in the peer's session.
    pub slot: u16,
}

/// One published track.
pub struct Track {
    pub publication: Publication,
    pub history: History,
    pub keyframes: KeyframeRequests,
    /// The publisher's latest sender report.
    pub report: Option<SenderReportMap>,
    subscriptions: Vec<Subscription>,
    /// The latest keyframe's first packet, and when it came.
    keyframe: Option<(u64, Instant)>,
}

impl Track {
    pub fn new(publication: Publication) -> Self {
        Track {
            publication,
            history: empty_ring(publication.kind),
            keyframes: KeyframeRequests::new(),
            report: None,
            subscriptions: Vec::new(),
            keyframe: None,
        }
    }

    pub fn subscriptions(&self) -> &[Subscription] {
        &self.subscriptions
    }

    pub fn subscribe(&mut self, subscription: Subscription) {
        if !self.subscriptions.contains(&subscription) {
            self.subscriptions.push(subscription);
        }
    }

    pub fn unsubscribe(&mut self, subscription: Subscription) {
        self.subscriptions.retain(|other| *other != subscription);
    }

    pub fn unsubscribe_peer(&mut self, peer: PeerKey) {
        self.subscriptions.retain(|other| other.peer != peer);
    }

    /// Keeps the packet for everyone. False when it is a repeat or too old to be of use.
    pub fn file(&mut self, meta: PacketMeta, carried: &[u8], payload: &[u8]) -> bool {
        let fresh = self.history.push(meta, carried, payload);
        if fresh && meta.keyframe {
            self.keyframe = Some((meta.seq, meta.arrived));
        }
        fresh
    }

    /// What a newcomer can start with at once: the latest keyframe and all that followed, if that is recent
    /// and little enough to send in one go, and complete.
    pub fn head(&self, now: Instant) -> Option<RangeInclusive<u64>> {
        let (first, arrived) = self.keyframe?;
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
        self.history = empty_ring(self.publication.kind);
        self.report = None;
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
