//! What is lost on a leg: sent again where it is still there, begun anew with a keyframe where it is not.

use std::time::Instant;

use super::Engine;
use crate::counters::RepairOutcome;
use crate::ids::{MediaKind, PeerKey, RoomKey, Ssrc, TrackKey};
use crate::media::nack::{MAX_AGE, MAX_GAP};
use crate::session::repairs::Missing;
use crate::session::slot::Slot;
use crate::session::uplinks::Received;

/// What becomes of a packet that a subscriber misses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// It can be sent again.
    Kept,
    /// It can, but a keyframe has begun since, or another layer.
    Spare,
    /// It is yet to come from the publisher, and then goes to everybody.
    Upstream,
    /// Nobody needs it any more.
    Moot,
    /// It has left the ring, or would come too late, and without it the picture stands still.
    Gone,
}

impl Engine {
    /// A subscriber misses packets, those of one slot together. Returns whether a keyframe is wanted.
    /// `asked`: by NACK, so that what becomes of each is booked. Else feedback tells, which makes a repair quicker, but
    /// is no reason for a keyframe.
    pub(super) fn repair(&mut self, now: Instant, key: PeerKey, missing: &[Missing], asked: bool) -> bool {
        let mut wanted = false;
        for missing in missing.chunk_by(|a, b| (a.slot, a.feed) == (b.slot, b.feed)) {
            let fates = self.fates(now, key, missing);
            let count = |wanted: &[Fate]| fates.iter().filter(|fate| wanted.contains(fate)).count();
            let too_many = |count: usize| count > MAX_GAP as usize;
            if asked && (fates.contains(&Fate::Gone) || too_many(count(&[Fate::Kept]))) {
                self.note_keyframe_wanted(now, key, missing[0].slot.into());
                wanted = true;
            }
            // They would only stand in the keyframe's way.
            let crowded = too_many(count(&[Fate::Kept, Fate::Spare]));
            let Engine { sessions, counters, .. } = self;
            let session = &mut sessions[key];
            let kind = session.slots[usize::from(missing[0].slot)].kind;
            for (missing, fate) in missing.iter().zip(fates) {
                let outcome = match fate {
                    Fate::Kept | Fate::Spare if crowded => Some(RepairOutcome::OverBudget),
                    Fate::Kept | Fate::Spare => session.repair(now, missing, asked),
                    Fate::Upstream => Some(RepairOutcome::MissUpstream),
                    Fate::Moot | Fate::Gone => Some(RepairOutcome::MissExpired),
                };
                if let Some(outcome) = outcome.filter(|_| asked) {
                    counters.repair_request(kind, outcome, 1);
                }
            }
        }
        wanted
    }

    /// Of packets of one slot and one feed.
    fn fates(&self, now: Instant, key: PeerKey, missing: &[Missing]) -> Vec<Fate> {
        let Missing { slot, feed, .. } = missing[0];
        let session = &self.sessions[key];
        let track = self.rooms[session.room].router.tracks.get(feed.track);
        let Some((track, layer)) = track.and_then(|track| Some((track, track.layer(feed)?))) else {
            return vec![Fate::Moot; missing.len()];
        };
        let present = &session.slots[usize::from(slot)];
        let is_video = present.kind == MediaKind::Video;
        if is_video && track.waits(key, slot) {
            return vec![Fate::Moot; missing.len()];
        }
        let is_shown = is_video && present.feed() == Some(feed);
        let patience = MAX_AGE + session.reception.rtt() * 2;
        let fate = |seq: u64| {
            let stored = layer.history.get(seq);
            // What came before the latest keyframe can be done without.
            let needed = layer.began().is_none_or(|keyframe| keyframe <= seq);
            match stored {
                None if !layer.history.has_left(seq) => Fate::Upstream,
                None if is_shown && needed => Fate::Gone,
                None => Fate::Moot,
                Some(_) if !is_video => Fate::Kept,
                Some(stored) => {
                    // A loss shows when the next packet comes.
                    let next = layer.history.get(seq + 1).unwrap_or(stored).meta.arrived;
                    let late = now.saturating_duration_since(next) > patience;
                    match (needed && is_shown, late) {
                        (true, true) => Fate::Gone,
                        (true, false) => Fate::Kept,
                        (false, true) => Fate::Moot,
                        (false, false) => Fate::Spare,
                    }
                }
            }
        };
        missing.iter().map(|missing| fate(missing.seq)).collect()
    }

    /// A gap too wide to repair, which is how an outage of the publisher's ends.
    pub(super) fn mend_torn(&mut self, now: Instant, room: RoomKey, received: &Received) {
        if !received.meta.picture.keyframe {
            let track = self.rooms[room].router.tracks.get_mut(received.track);
            if let Some(layer) = track.and_then(|track| track.layers.get_mut(usize::from(received.layer))) {
                layer.keyframes.renew();
            }
            self.mend(now, room, received.track, received.layer);
        }
    }

    /// A packet of a publisher's stream did not come, however often it was asked for.
    pub(super) fn mend_stream(&mut self, now: Instant, publisher: PeerKey, ssrc: Ssrc) {
        let session = &self.sessions[publisher];
        let (room, fed) = (session.room, session.uplinks.fed_by(ssrc));
        if let Some((track, layer)) = fed.map(|(uplink, layer)| (uplink.track, layer)) {
            self.mend(now, room, track, layer);
        }
    }

    /// The publisher has moved to another path: what it was asked for meanwhile went to the old one.
    pub(super) fn ask_anew(&mut self, now: Instant, publisher: PeerKey) {
        let session = &self.sessions[publisher];
        let (id, room) = (session.id, session.room);
        let tracks = self.rooms[room].router.tracks.values_mut();
        for track in tracks.filter(|track| track.publication.publisher == id) {
            track.layers.iter_mut().for_each(|layer| layer.keyframes.renew());
        }
        self.poll_keyframes(now, room);
    }

    /// The subscriber has moved to another path by an ICE restart: Firefox makes its decoders anew then, and would take
    /// one to three seconds to find out that they need keyframes.
    pub(super) fn show_anew(&mut self, now: Instant, key: PeerKey) {
        let session = &mut self.sessions[key];
        if !std::mem::take(&mut session.restarted) {
            return;
        }
        let room = session.room;
        let video = |slot: &Slot| slot.live && slot.kind == MediaKind::Video;
        let slots: Vec<usize> = (0..session.slots.len()).filter(|at| video(&session.slots[*at])).collect();
        for slot in slots {
            self.note_keyframe_wanted(now, key, slot);
        }
        self.poll_keyframes(now, room);
    }

    /// If anybody watches the layer, a keyframe must close its gap.
    pub(super) fn mend(&mut self, now: Instant, room: RoomKey, track: TrackKey, layer: u8) {
        let Some(track) = self.rooms[room].router.tracks.get_mut(track) else { return };
        if track.publication.kind == MediaKind::Video && track.is_watched(layer) {
            track.layers[usize::from(layer)].keyframes.want();
            self.poll_keyframes(now, room);
        }
    }
}
