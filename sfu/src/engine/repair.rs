//! What is lost on a leg: sent again where it is still there, begun anew with a keyframe where it is not.

use std::time::Instant;

use super::Engine;
use crate::ids::{MediaKind, PeerKey, Ssrc, TrackKey};
use crate::media::nack::{MAX_AGE, MAX_GAP};
use crate::session::repairs::Missing;
use crate::session::uplinks::Received;

/// What becomes of a packet that a subscriber misses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// It can be sent again.
    Kept,
    /// It is yet to come from the publisher, and then goes to everybody, or nobody needs it.
    Moot,
    /// It has left the ring, or would come too late, and without it the picture stands still.
    Gone,
}

impl Engine {
    /// A subscriber misses packets, those of one slot together. Returns whether a keyframe is wanted.
    pub(super) fn repair(&mut self, now: Instant, key: PeerKey, missing: &[Missing]) -> bool {
        let mut wanted = false;
        for missing in missing.chunk_by(|a, b| a.slot == b.slot) {
            let fates: Vec<Fate> = missing.iter().map(|missing| self.fate(now, key, missing)).collect();
            let kept = fates.iter().filter(|fate| **fate == Fate::Kept).count();
            let slot = usize::from(missing[0].slot);
            let is_video = self.sessions[key].slots[slot].kind == MediaKind::Video;
            if is_video && (kept > MAX_GAP as usize || fates.contains(&Fate::Gone)) {
                // What else it misses is of no use to it then.
                self.note_keyframe_wanted(key, slot);
                wanted = true;
                continue;
            }
            let kept = missing.iter().zip(&fates).filter(|(_, fate)| **fate == Fate::Kept);
            let session = &mut self.sessions[key];
            kept.for_each(|(missing, _)| session.repair(now, missing));
        }
        wanted
    }

    fn fate(&self, now: Instant, key: PeerKey, missing: &Missing) -> Fate {
        let session = &self.sessions[key];
        let track = self.rooms[session.room].router.tracks.get(missing.feed.track);
        let Some(layer) = track.and_then(|track| track.layer(missing.feed)) else { return Fate::Moot };
        let stored = layer.history.get(missing.seq);
        let slot = &session.slots[usize::from(missing.slot)];
        if slot.kind == MediaKind::Audio || slot.feed() != Some(missing.feed) {
            return if stored.is_some() { Fate::Kept } else { Fate::Moot };
        }
        // What a subscriber misses from before the latest keyframe it can do without.
        let needed = layer.began().is_none_or(|keyframe| keyframe <= missing.seq);
        let late = |at: Instant| now.saturating_duration_since(at) > MAX_AGE;
        match stored {
            Some(stored) if needed && late(stored.meta.arrived) => Fate::Gone,
            Some(_) => Fate::Kept,
            None if needed && layer.history.has_left(missing.seq) => Fate::Gone,
            None => Fate::Moot,
        }
    }

    /// A gap too wide to repair, which is how an outage of the publisher's ends.
    pub(super) fn mend_torn(&mut self, now: Instant, publisher: PeerKey, received: &Received) {
        if !received.meta.picture.keyframe {
            self.mend(now, publisher, received.track, received.layer);
        }
    }

    /// A packet of a publisher's stream did not come, however often it was asked for.
    pub(super) fn mend_stream(&mut self, now: Instant, publisher: PeerKey, ssrc: Ssrc) {
        let fed = self.sessions[publisher].uplinks.fed_by(ssrc);
        if let Some((track, layer)) = fed.map(|(uplink, layer)| (uplink.track, layer)) {
            self.mend(now, publisher, track, layer);
        }
    }

    /// The publisher has moved to another path: what it was asked for meanwhile went to the old one.
    pub(super) fn ask_anew(&mut self, now: Instant, publisher: PeerKey) {
        let room = self.sessions[publisher].room;
        let tracks = self.rooms[room].router.tracks.values_mut();
        for track in tracks.filter(|track| track.publication.publisher == publisher) {
            track.layers.iter_mut().for_each(|layer| layer.keyframes.renew());
        }
        self.poll_keyframes(now, room);
    }

    /// If anybody watches the layer, a keyframe must close its gap.
    fn mend(&mut self, now: Instant, publisher: PeerKey, track: TrackKey, layer: u8) {
        let room = self.sessions[publisher].room;
        let Some(track) = self.rooms[room].router.tracks.get_mut(track) else { return };
        if track.publication.kind == MediaKind::Video && track.is_watched(layer) {
            let keyframes = &mut track.layers[usize::from(layer)].keyframes;
            keyframes.want();
            keyframes.renew();
            self.poll_keyframes(now, room);
        }
    }
}
