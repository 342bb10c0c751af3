//! Rooms that other engines have peers of, too.

use std::sync::Arc;
use std::time::Instant;

use super::crossing::{Batch, Crossing, Item, Packet, Published};
use super::{Engine, PUBLISHER_RTT, Serving};
use crate::config::TrackSource;
use crate::counters::DropKind;
use crate::drop::DropReason;
use crate::event::{PeerEvent, PeerInfo};
use crate::ids::{MediaKind, PeerId, PeerKey, Rid, RoomKey, TrackKey, TrackName};
use crate::router::Publication;
use crate::session::uplinks::Received;

/// The batch in which what happens in a room is to cross, if there is anybody to cross to: the room waits among `pending`
/// from then on. Its parts are told one by one, because the packet path has the rest of the room in hand.
#[inline]
pub(super) fn batch<'b>(
    outlets: &[u16],
    batch: &'b mut Batch,
    pending: &mut Vec<RoomKey>,
    room: RoomKey,
) -> Option<&'b mut Batch> {
    if outlets.is_empty() {
        return None;
    }
    if batch.is_empty() {
        pending.push(room);
    }
    Some(batch)
}

impl Engine {
    /// The next message for another engine, and which.
    pub fn poll_crossing(&mut self) -> Option<(u16, Crossing)> {
        while let Some(room) = self.crossing_rooms.pop() {
            let Some(room) = self.rooms.get_mut(room) else { continue };
            let next = room.batch.successor();
            let batch = Arc::new(std::mem::replace(&mut room.batch, next));
            let sent = room.outlets.iter().filter(|_| !batch.is_empty());
            self.crossings.extend(sent.map(|worker| (*worker, Crossing::Media(batch.clone()))));
        }
        self.crossings.pop_front()
    }

    /// A message had no room on its way: what it carried is lost to that engine's subscribers.
    pub fn crossing_lost(&mut self, crossing: &Crossing) {
        if let Crossing::Media(batch) = crossing {
            for kind in [MediaKind::Audio, MediaKind::Video] {
                let packets = batch.packets(kind);
                self.counters.fanout(kind, packets as usize);
                self.counters.dropped_out(DropKind::from(kind), DropReason::QueueFull, packets);
            }
        }
    }

    /// Takes a message from another engine.
    pub fn handle_crossing(&mut self, now: Instant, from: u16, crossing: Crossing) {
        match crossing {
            Crossing::Open { room } => self.open_outlet(&room, from),
            Crossing::Greet { room, peers, tracks } => {
                let Some(key) = self.room_names.get(&*room).copied() else {
                    // Everybody has left meanwhile.
                    return self.cross(from, Crossing::Close { room });
                };
                self.open_outlet(&room, from);
                peers.into_iter().for_each(|peer| self.enter_remote(key, peer));
                tracks.into_iter().for_each(|track| self.publish_remote(key, track));
                self.resubscribe_served(now, key);
            }
            Crossing::Close { room } => {
                if let Some(key) = self.room_names.get(&*room).copied() {
                    self.close_outlet(now, key, from);
                }
            }
            Crossing::Reset => {
                let rooms: Vec<RoomKey> = self.rooms.keys().collect();
                rooms.into_iter().for_each(|room| self.close_outlet(now, room, from));
            }
            Crossing::Entered { room, peer } => {
                if let Some(key) = self.room_names.get(&*room).copied() {
                    self.enter_remote(key, peer);
                }
            }
            Crossing::Left { room, peer } => {
                if let Some(key) = self.room_names.get(&*room).copied()
                    && self.leave_remote(key, peer)
                {
                    self.resubscribe_served(now, key);
                }
            }
            Crossing::Published { room, track } => {
                if let Some(key) = self.room_names.get(&*room).copied() {
                    self.publish_remote(key, track);
                    self.resubscribe_served(now, key);
                }
            }
            Crossing::Withdrawn { track } => {
                if let Some((room, _)) = self.remotes.track(track) {
                    self.withdraw_remote(track);
                    self.resubscribe_served(now, room);
                }
            }
            Crossing::Shows { track, source } => self.show(now, track, source),
            Crossing::Floor { track } => self.follow_floor(now, from, track),
            Crossing::KeyframeWanted { track, layer } => self.want_for_remote(now, track, layer),
            Crossing::Message { room, channel, binary, data } => {
                if let Some(key) = self.room_names.get(&*room).copied() {
                    self.serving = Serving::Room(key);
                    self.relay_here(key, None, &channel, binary, &data);
                }
            }
            Crossing::Media(batch) => self.take_batch(now, from, &batch),
        }
        self.serving = Serving::Nobody;
    }

    // ---- towards others ----------------------------------------------------------------------------

    pub(super) fn cross(&mut self, worker: u16, crossing: Crossing) {
        self.crossings.push_back((worker, crossing));
    }

    /// Tells every other engine that has peers in the room.
    pub(super) fn cross_all(&mut self, room: RoomKey, crossing: &Crossing) {
        let Some(room) = self.rooms.get(room) else { return };
        self.crossings.extend(room.outlets.iter().map(|worker| (*worker, crossing.clone())));
    }

    /// A room has its first peer here: others may have some already.
    pub(super) fn announce_room(&mut self, name: &str) {
        let room: Arc<str> = name.into();
        let here = self.config.worker;
        for worker in (0..self.config.workers).filter(|worker| *worker != here) {
            self.cross(worker, Crossing::Open { room: room.clone() });
        }
    }

    fn open_outlet(&mut self, name: &Arc<str>, to: u16) {
        let Some(key) = self.room_names.get(&**name).copied() else { return };
        let room = &mut self.rooms[key];
        if room.outlets.contains(&to) {
            return;
        }
        room.outlets.push(to);
        let peers = room.router.peers.clone().into_iter().map(|peer| self.info(peer)).collect();
        let here = self.config.worker;
        let tracks = self.rooms[key].router.published();
        let tracks = tracks.filter(|(_, track)| track.publication.publisher.worker == here);
        let tracks = tracks.map(|(_, track)| Published {
            name: track.publication.name(),
            kind: track.publication.kind,
            codec: track.publication.codec,
            rids: track.layers.iter().filter_map(|layer| layer.rid).collect(),
            source: track.source,
        });
        let tracks = tracks.collect();
        self.cross(to, Crossing::Greet { room: name.clone(), peers, tracks });
        if let Some(track) = self.floor_of(key) {
            self.cross(to, Crossing::Floor { track });
        }
    }

    // ---- from others -------------------------------------------------------------------------------

    fn close_outlet(&mut self, now: Instant, room: RoomKey, from: u16) {
        let Some(entry) = self.rooms.get_mut(room) else { return };
        entry.outlets.retain(|worker| *worker != from);
        entry.heard.remove(&from);
        let gone = self.remotes.of_worker(room, from);
        let mut withdrawn = false;
        for peer in gone {
            withdrawn |= self.leave_remote(room, peer);
        }
        if withdrawn {
            self.resubscribe_served(now, room);
        }
    }

    fn enter_remote(&mut self, room: RoomKey, peer: PeerInfo) {
        if self.remotes.enter(room, peer.clone()) {
            for other in self.rooms[room].router.peers.clone() {
                self.emit(other, PeerEvent::PeerJoined(peer.clone()));
            }
        }
    }

    /// Whether it has taken tracks along.
    fn leave_remote(&mut self, room: RoomKey, peer: PeerId) -> bool {
        let tracks = self.remotes.tracks_of(peer);
        let published = !tracks.is_empty();
        tracks.into_iter().for_each(|track| self.withdraw_remote(track));
        if let Some(room) = self.rooms.get_mut(room) {
            room.router.speech.forget(peer);
        }
        if let Some(info) = self.remotes.leave(peer) {
            for other in self.rooms[room].router.peers.clone() {
                self.emit(other, PeerEvent::PeerLeft(info.clone()));
            }
        }
        published
    }

    fn publish_remote(&mut self, room: RoomKey, track: Published) {
        let Published { name, kind, codec, rids, source } = track;
        // Whoever is not in the room publishes nothing in it.
        if !self.remotes.may_publish(name) {
            return;
        }
        let publication = Publication { publisher: name.publisher, mid: name.mid, kind, codec };
        let router = &mut self.rooms[room].router;
        let key = router.publish(publication, &rids);
        router.tracks[key].source = source;
        self.remotes.publish(name, room, key);
    }

    fn withdraw_remote(&mut self, track: TrackName) {
        let Some((room, key)) = self.remotes.withdraw(track) else { return };
        let Some(track) = self.rooms.get_mut(room).and_then(|room| room.router.withdraw(key)) else { return };
        for subscription in track.subscriptions() {
            self.set_live(subscription.peer, usize::from(subscription.slot), false);
        }
    }

    fn resubscribe_served(&mut self, now: Instant, room: RoomKey) {
        self.serving = Serving::Room(room);
        self.resubscribe(now, room);
        self.serving = Serving::Nobody;
    }

    fn want_for_remote(&mut self, now: Instant, name: TrackName, layer: u8) {
        let Some(key) = self.live(name.publisher) else { return };
        let session = &self.sessions[key];
        let room = session.room;
        let Some(track) = session.uplinks.get(name.mid).map(|uplink| uplink.track) else { return };
        self.serving = Serving::Peer(key);
        let layers = self.rooms[room].router.tracks.get_mut(track).map(|track| &mut track.layers);
        if let Some(layer) = layers.and_then(|layers| layers.get_mut(usize::from(layer))) {
            layer.keyframes.want();
            self.poll_keyframes(now, room);
        }
    }

    fn take_batch(&mut self, now: Instant, from: u16, batch: &Batch) {
        self.note_batch(now, from, batch);
        let mut last: Option<(TrackName, (RoomKey, TrackKey))> = None;
        for item in batch.items() {
            let name = item.track();
            // Most come in runs of one track.
            let found = match last {
                Some((known, place)) if known == name => Some(place),
                _ => self.remotes.track(name),
            };
            let Some((room, track)) = found else { continue };
            last = Some((name, (room, track)));
            self.serving = Serving::Room(room);
            match item {
                Item::Packet(packet) => self.take_packet(now, (room, track), packet, batch.bytes_of(packet)),
                Item::Skip { layer, seq, .. } => self.skip(now, room, track, *layer, *seq),
                Item::Report { layer, report, .. } => {
                    let track = self.rooms[room].router.tracks.get_mut(track);
                    if let Some(layer) = track.and_then(|track| track.layers.get_mut(usize::from(*layer))) {
                        layer.report = Some(*report);
                    }
                }
            }
        }
        self.serving = Serving::Nobody;
    }

    /// What was in a batch that did not come will not come any more: pictures go on with a keyframe.
    fn note_batch(&mut self, now: Instant, from: u16, batch: &Batch) {
        let known = batch.items().iter().find_map(|item| self.remotes.track(item.track()));
        let Some(room) = known.and_then(|(room, _)| self.rooms.contains_key(room).then_some(room)) else {
            return;
        };
        let before = self.rooms[room].heard.insert(from, batch.number);
        if before.is_none_or(|before| batch.number == before.wrapping_add(1)) {
            return;
        }
        let torn: Vec<(TrackKey, u8)> = self.rooms[room]
            .router
            .published()
            .filter(|(_, track)| track.publication.publisher.worker == from)
            .flat_map(|(key, track)| (0..track.layers.len() as u8).map(move |layer| (key, layer)))
            .collect();
        torn.into_iter().for_each(|(track, layer)| self.mend(now, room, track, layer));
    }

    fn take_packet(
        &mut self,
        now: Instant,
        (room, track): (RoomKey, TrackKey),
        packet: &Packet,
        (carried, payload): (&[u8], &[u8]),
    ) {
        let mut received = Received {
            track,
            layer: packet.layer,
            kind: packet.kind,
            meta: packet.meta,
            size: packet.size,
            structure: packet.structure.clone(),
            payload: 0..payload.len(),
            restarted: packet.restarted,
            torn: packet.torn,
            resumed: packet.resumed,
        };
        self.pass_on(now, room, &mut received, carried, payload);
    }

    // ---- who is where ------------------------------------------------------------------------------

    /// Whether this engine has the peer's session.
    pub(super) fn is_here(&self, peer: PeerId) -> bool {
        peer.worker == self.config.worker
    }

    /// A publisher, wherever its session is.
    pub(super) fn publisher(&self, peer: PeerId) -> Option<PeerInfo> {
        match self.live(peer) {
            Some(key) => Some(self.info(key)),
            None => self.remotes.get(peer).cloned(),
        }
    }

    pub(super) fn publisher_name(&self, peer: PeerId) -> Option<&str> {
        match self.live(peer) {
            Some(key) => Some(&self.sessions[key].name),
            None => self.remotes.get(peer).map(|info| info.name.as_str()),
        }
    }

    /// Sends the keyframe requests for replicas that are due: to the engines that have their publishers.
    pub(super) fn poll_remote_keyframes(&mut self, now: Instant, room: RoomKey) -> Option<Instant> {
        let Engine { rooms, crossings, config, .. } = self;
        let room = rooms.get_mut(room).filter(|room| !room.outlets.is_empty())?;
        let mut next: Option<Instant> = None;
        let tracks = room.router.tracks.values_mut();
        for track in tracks.filter(|track| track.publication.publisher.worker != config.worker) {
            let name = track.publication.name();
            for index in 0..track.layers.len() as u8 {
                let watched = track.is_watched(index);
                let layer = &mut track.layers[usize::from(index)];
                if layer.keyframes.poll(now, PUBLISHER_RTT) {
                    let wanted = Crossing::KeyframeWanted { track: name, layer: index };
                    crossings.push_back((name.publisher.worker, wanted));
                }
                if !watched {
                    layer.keyframes.withdraw();
                }
                next = [next, layer.keyframes.poll_timeout(now, PUBLISHER_RTT)].into_iter().flatten().min();
            }
        }
        next
    }

    /// Tells others what a peer here publishes from now on.
    pub(super) fn cross_published(&mut self, key: PeerKey, publication: &Publication, rids: &[Rid]) {
        let room = self.sessions[key].room;
        if self.rooms[room].outlets.is_empty() {
            return;
        }
        let Publication { kind, codec, .. } = *publication;
        let source = TrackSource::Camera;
        let track = Published { name: publication.name(), kind, codec, rids: rids.to_vec(), source };
        let name: Arc<str> = self.rooms[room].router.name.as_str().into();
        self.cross_all(room, &Crossing::Published { room: name, track });
    }
}
