//! Which layer of a track each subscriber gets: as layers come and go, as hosts limit, as networks give way.

use std::time::{Duration, Instant};

use super::Engine;
use crate::config::LayerLimit;
use crate::congestion::throttle::Change;
use crate::event::{LayerInfo, PeerEvent};
use crate::ids::{MediaKind, PeerKey, RoomKey, TrackKey};
use crate::router::allocate::{allocate, next_cost};
use crate::session::Session;
use crate::session::slot::Slot;
use crate::session::uplinks::Received;
use crate::units::Bitrate;

impl Engine {
    /// Looks a track's layers over, when that is due: everybody gets the best that is alive.
    pub(super) fn review(&mut self, now: Instant, room: RoomKey, key: TrackKey) {
        let Engine { rooms, counters, .. } = self;
        let Some(track) = rooms.get_mut(room).and_then(|room| room.router.tracks.get_mut(key)) else {
            return;
        };
        let mut wanted = 0_u8;
        let want = |layer| wanted |= 1_u8 << (layer & 7);
        track.review(now, want, |axis, step, cause| counters.layer_switch(axis, step, cause));
        if wanted == 0 {
            return;
        }
        for (index, layer) in
            track.layers.iter_mut().enumerate().filter(|(index, _)| wanted >> index & 1 == 1)
        {
            debug_assert!(index < 8, "four layers at most are negotiated");
            layer.keyframes.want();
        }
        self.poll_keyframes(now, room);
    }

    /// The host limits what a subscriber gets on one of its slots.
    pub(super) fn limit_slot(&mut self, now: Instant, key: PeerKey, index: usize, limit: LayerLimit) {
        let session = &mut self.sessions[key];
        let room = session.room;
        let slot = &mut session.slots[index];
        slot.limit = limit;
        let Some(source) = slot.source().filter(|_| slot.live) else { return };
        let Some(track) = self.rooms[room].router.tracks.get_mut(source.track) else { return };
        if track.limit(now, key, index as u16, limit) {
            self.want_target(now, key, index);
        }
    }

    /// Shares what a subscriber's network has room for among what it watches, when that has changed.
    pub(super) fn share_downlink(&mut self, now: Instant, key: PeerKey) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let raise = session.reception.throttle.poll_raise(now);
        let change = session.reception.throttle.poll_change();
        let due = session.downlink.as_mut().is_some_and(|downlink| downlink.poll_share(now));
        if change.is_none() && !raise && !due {
            return;
        }
        let room = session.room;
        let live = |kind| {
            let slots = session.slots.iter().enumerate();
            let live = slots.filter(move |(_, slot)| slot.live && slot.kind == kind);
            live.filter_map(|(index, slot)| Some((index, slot.source()?.track)))
        };
        let router = &self.rooms[room].router;
        let audio = live(MediaKind::Audio).count() as u64 * AUDIO.as_bps();
        // Most of a large room is silent.
        let voices = audio.min(AUDIO.as_bps() * SPEAKERS);
        let audio = audio.min(session.reception.throttle.budget().map_or(0, Bitrate::as_bps) / 4);
        let slots: Vec<(usize, TrackKey)> = live(MediaKind::Video).collect();
        let ladders: Vec<Vec<Bitrate>> = slots
            .iter()
            .map(|(index, track)| {
                let track = router.tracks.get(*track);
                track.map_or_else(Vec::new, |track| track.ladder(now, key, *index as u16))
            })
            .collect();
        let budget = |session: &Session| {
            let video = |budget: Bitrate| Bitrate::bps(budget.as_bps().saturating_sub(audio));
            session.reception.throttle.budget().map(video)
        };
        let cap = session.downlink.as_ref().and_then(|downlink| downlink.cap());
        let cap = cap.map(|cap| Bitrate::bps(cap.as_bps().saturating_sub(voices)));
        let session = &mut self.sessions[key];
        if raise && let Some(now_granted) = budget(session) {
            // One step more, or everything once there is none.
            let steps = allocate(now_granted, &ladders);
            let more =
                next_cost(&ladders, &steps).map(|cost| Bitrate::bps((cost.as_bps() + audio) * 105 / 100));
            session.reception.throttle.grant(now, more);
        }
        let steps = match [budget(session), cap].into_iter().flatten().min() {
            Some(budget) => allocate(budget, &ladders),
            None => vec![usize::from(u8::MAX); slots.len()],
        };
        for ((index, track), step) in slots.into_iter().zip(steps) {
            let Some(track) = self.rooms[room].router.tracks.get_mut(track) else { continue };
            let aimed = track.make_room(now, key, index as u16, u8::try_from(step).unwrap_or(u8::MAX));
            let paused = change == Some(Change::Drowning) && track.pause(key, index as u16);
            if aimed || paused {
                self.want_target(now, key, index);
            }
        }
    }

    /// A subscriber is about to connect, in so long or later: keyframes that are asked for now will wait in the ring,
    /// unless there are some that will not be too old by then.
    pub(super) fn expect(&mut self, now: Instant, key: PeerKey, within: Duration) {
        let Engine { sessions, rooms, .. } = self;
        let session = &sessions[key];
        let room = session.room;
        let router = &mut rooms[room].router;
        for slot in session.slots.iter().filter(|slot| slot.kind == MediaKind::Video && slot.is_ready()) {
            let track = slot.source().and_then(|source| router.tracks.get_mut(source.track));
            let Some(track) = track else { continue };
            let target = usize::from(track.foreseen(now, slot.limit));
            let Some(layer) = track.layers.get_mut(target) else { continue };
            if layer.head(now + within).is_none() {
                layer.keyframes.want();
            }
        }
        self.poll_keyframes(now, room);
    }

    /// A subscriber needs a keyframe of the layer it is to change to.
    pub(super) fn want_target(&mut self, now: Instant, key: PeerKey, index: usize) {
        let session = &self.sessions[key];
        let room = session.room;
        let Some(source) = session.slots[index].source() else { return };
        let Some(track) = self.rooms[room].router.tracks.get_mut(source.track) else { return };
        let Some(subscription) = track.subscription_mut(key, index as u16) else { return };
        let target = usize::from(subscription.selection.target());
        let Some(layer) = track.layers.get_mut(target) else { return };
        layer.keyframes.want();
        self.poll_keyframes(now, room);
    }

    /// Tells hosts which layer their peers get now, where that has changed.
    pub(super) fn tell_layers(&mut self, room: RoomKey, key: TrackKey) {
        let Engine { rooms, sessions, events, .. } = self;
        let Some(track) = rooms[room].router.tracks.get(key) else { return };
        if track.layers.len() < 2 {
            return;
        }
        for subscription in track.subscriptions() {
            let Some(index) = subscription.selection.current() else { continue };
            let Some(session) = sessions.get_mut(subscription.peer) else { continue };
            let slot = &mut session.slots[usize::from(subscription.slot)];
            if slot.told_layer.replace(index) == Some(index) {
                continue;
            }
            let layer = &track.layers[usize::from(index)];
            let rid = layer.rid.map(|rid| rid.to_string()).unwrap_or_default();
            let layer = LayerInfo { rid, size: layer.size };
            events.push_back((session.id, PeerEvent::LayerChanged { mid: slot.mid.to_string(), layer }));
        }
    }

    /// The publisher's packets may have another codec than before: subscribers who do not take it are told. False:
    /// the packet is of a codec that the track has not changed to.
    ///
    /// A change begins with a keyframe, or where the old codec has ended, and not at once after the last one: each
    /// is work for everybody in the room.
    pub(super) fn follow_codec(&mut self, now: Instant, room: RoomKey, received: &Received) -> bool {
        let Some(track) = self.rooms[room].router.tracks.get_mut(received.track) else { return false };
        let codec = received.meta.codec;
        // Redundant audio comes and goes packet by packet, and everybody takes it or has it stripped.
        if track.publication.codec == codec || track.publication.kind == MediaKind::Audio {
            return true;
        }
        let begins = received.meta.picture.keyframe || track.layers.iter().all(|layer| !layer.is_active(now));
        if !begins || !track.may_change_codec(now) {
            return false;
        }
        track.publication.codec = codec;
        for peer in self.rooms[room].router.peers.clone() {
            let Some(session) = self.sessions.get_mut(peer) else { continue };
            let bound = |slot: &&mut Slot| slot.source().is_some_and(|source| source.track == received.track);
            let mut slots = session.slots.iter_mut().filter(bound).peekable();
            if slots.peek().is_some() {
                slots.for_each(|slot| slot.retune(codec));
                self.settle(now, peer);
            }
        }
        true
    }

    /// A slot is bound to a track whose codec its client does not take: better said than black.
    pub(super) fn tell_missing_codec(&mut self, key: PeerKey, index: usize) {
        let slot = &mut self.sessions[key].slots[index];
        let Some(source) = slot.lacks_codec() else { return };
        if slot.told_missing.contains(&source.codec) {
            return;
        }
        slot.told_missing.push(source.codec);
        let mid = slot.mid.to_string();
        if let Some(publisher) = self.publisher(source.publisher) {
            self.emit(key, PeerEvent::CodecMissing { mid, publisher, codec: source.codec.to_string() });
        }
    }
}

/// What an audio track is taken to cost: Opus as browsers send it, headers included.
const AUDIO: Bitrate = Bitrate::kbps(50);

/// How many speak at once.
const SPEAKERS: u64 = 3;
