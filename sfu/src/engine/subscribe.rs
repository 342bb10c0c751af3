//! Who receives what: tracks matched with slots, slots matched with what is negotiated.

use std::ops::RangeInclusive;
use std::time::Instant;

use super::crossing::Crossing;
use super::{Engine, flush};
use crate::config::Subscribe;
use crate::counters::{Admission, AdmissionScope};
use crate::event::{PeerEvent, Rejection, SlotInfo};
use crate::ids::{MediaKind, Mid, PeerId, PeerKey, RoomKey, TrackKey};
use crate::media::codec::Codec;
use crate::router::selection::Verdict;
use crate::router::{Publication, Track};
use crate::session::Session;
use crate::session::negotiate::Origin;
use crate::session::outgoing::{Purpose, Queued};
use crate::session::slot::Source;

/// A track one peer may want.
#[derive(Clone, Copy)]
struct Wanted {
    track: TrackKey,
    publisher: PeerId,
    kind: MediaKind,
    codec: Codec,
}

impl Wanted {
    fn source(&self) -> Source {
        Source { publisher: self.publisher, track: self.track, codec: self.codec }
    }
}

impl Engine {
    /// Brings a peer's tracks and slots in line with what has just been negotiated.
    /// Returns whether what it publishes changed.
    pub(super) fn sync_media(&mut self, now: Instant, key: PeerKey) -> bool {
        for (mid, reason) in self.sessions[key].negotiation.rejected().to_vec() {
            self.emit(key, PeerEvent::LineRejected { mid: mid.to_string(), reason });
        }
        let changed = self.sync_uplinks(key);
        let Engine { sessions, random, .. } = self;
        let session = &mut sessions[key];
        let random = &*random;
        session.sync_slots(|| super::random_u32(random));
        self.settle(now, key);
        changed
    }

    /// Publishes what the peer newly sends, withdraws what it no longer does.
    fn sync_uplinks(&mut self, key: PeerKey) -> bool {
        let session = &mut self.sessions[key];
        let negotiated: Vec<_> = session.negotiation.uplinks().cloned().collect();
        let gone: Vec<Mid> = session
            .uplinks
            .iter()
            .map(|uplink| uplink.mid)
            .filter(|mid| negotiated.iter().all(|uplink| uplink.mid != *mid))
            .collect();
        let mut changed = !gone.is_empty();
        for mid in gone {
            self.withdraw(key, mid);
        }
        let refuses_video = self.refuses_video();
        for uplink in &negotiated {
            let session = &mut self.sessions[key];
            if session.uplinks.get(uplink.mid).is_some() {
                session.uplinks.update(uplink);
                continue;
            }
            let Some(binding) = uplink.codecs.first() else { continue };
            if session.uplinks.iter().count() >= self.config.limits.tracks_per_peer {
                let (mid, reason) = (uplink.mid.to_string(), Rejection::TooMany);
                self.emit(key, PeerEvent::LineRejected { mid, reason });
                self.counters.admission(AdmissionScope::Publish, Admission::Limit);
                continue;
            }
            if uplink.kind == MediaKind::Video && refuses_video {
                let (mid, reason) = (uplink.mid.to_string(), Rejection::Saturated);
                self.emit(key, PeerEvent::LineRejected { mid, reason });
                self.counters.admission(AdmissionScope::Publish, Admission::Saturated);
                continue;
            }
            self.counters.admission(AdmissionScope::Publish, Admission::Ok);
            changed = true;
            let publication = Publication {
                publisher: session.id,
                mid: uplink.mid,
                kind: uplink.kind,
                codec: binding.codec,
            };
            let track = self.rooms[session.room].router.publish(publication, &uplink.rids);
            self.cross_published(key, &publication, &uplink.rids);
            let session = &mut self.sessions[key];
            self.counters.gauges.publishers += u64::from(session.uplinks.iter().next().is_none());
            session.uplinks.add(uplink, track);
            self.counters.gauges.published(uplink.kind, 1);
            self.emit(key, PeerEvent::TrackAdded { mid: uplink.mid.to_string(), kind: uplink.kind });
        }
        changed
    }

    /// Ends one published track.
    fn withdraw(&mut self, key: PeerKey, mid: Mid) {
        let session = &mut self.sessions[key];
        let Some(uplink) = session.remove_uplink(mid) else { return };
        let room = session.room;
        self.counters.gauges.publishers -= u64::from(session.uplinks.iter().next().is_none());
        let Some(track) = self.rooms[room].router.withdraw(uplink.track) else { return };
        for subscription in track.subscriptions() {
            self.set_live(subscription.peer, usize::from(subscription.slot), false);
        }
        self.cross_all(room, &Crossing::Withdrawn { track: track.publication.name() });
        self.counters.gauges.published(uplink.kind, -1);
        self.emit(key, PeerEvent::TrackRemoved { mid: mid.to_string(), kind: uplink.kind });
    }

    /// Ends everything the peer publishes and receives. Returns whether it published anything.
    pub(super) fn withdraw_all(&mut self, key: PeerKey) -> bool {
        let mids: Vec<Mid> = self.sessions[key].uplinks.iter().map(|uplink| uplink.mid).collect();
        let published = !mids.is_empty();
        for mid in mids {
            self.withdraw(key, mid);
        }
        for index in 0..self.sessions[key].slots.len() {
            self.detach(key, index);
        }
        published
    }

    /// Matches tracks with slots for everybody in the room.
    pub(super) fn resubscribe(&mut self, now: Instant, room: RoomKey) {
        let Some(entry) = self.rooms.get(room) else { return };
        for peer in entry.router.peers.clone() {
            self.resubscribe_peer(now, room, peer);
        }
        self.note_floor(now, room);
    }

    /// Matches tracks with slots for one peer, and offers what is missing.
    pub(super) fn resubscribe_peer(&mut self, now: Instant, room: RoomKey, key: PeerKey) {
        let before = self.bindings(key);
        let wanted = self.wanted(room, key);
        self.seat(key, &wanted);
        if self.sessions[key].subscribe == Subscribe::Auto {
            self.offer_slots(key, &wanted);
        }
        if self.bindings(key) != before {
            self.tell_slots(key);
        }
        // Players and publishers over WHIP and WHEP take no offers: one would wait for its answer for ever.
        if self.sessions[key].subscribe == Subscribe::Auto {
            self.renew_credentials(key);
            if let Some(sdp) = self.sessions[key].negotiation.create_offer() {
                self.emit(key, PeerEvent::Offer { sdp });
            }
        }
        self.settle(now, key);
        if self.limits_videos(key) {
            self.leave_out(now, key);
        }
    }

    fn wanted(&self, room: RoomKey, key: PeerKey) -> Vec<Wanted> {
        let filter = match &self.sessions[key].subscribe {
            Subscribe::Nothing => return Vec::new(),
            Subscribe::Auto => None,
            Subscribe::Slots(filter) => Some(filter),
        };
        let router = &self.rooms[room].router;
        let own = self.sessions[key].id;
        let tracks = router.published().filter(|(_, track)| track.publication.publisher != own);
        tracks
            .filter(|(_, track)| {
                let publisher = self.publisher_name(track.publication.publisher);
                publisher.is_some_and(|name| filter.is_none_or(|filter| filter.admits(name)))
            })
            .map(|(key, track)| {
                let Publication { publisher, kind, codec, .. } = track.publication;
                Wanted { track: key, publisher, kind, codec }
            })
            .collect()
    }

    /// Binds the slots the client offered: the nth audio and the nth video slot to one publisher, who keeps
    /// the seat while it stays.
    fn seat(&mut self, key: PeerKey, wanted: &[Wanted]) {
        let session = &self.sessions[key];
        let slots_of = |kind| -> Vec<usize> {
            let slots = session.slots.iter().enumerate();
            slots
                .filter(|(_, slot)| slot.origin == Origin::Client && slot.kind == kind && slot.agreed)
                .map(|(index, _)| index)
                .collect()
        };
        let rows =
            [(MediaKind::Audio, slots_of(MediaKind::Audio)), (MediaKind::Video, slots_of(MediaKind::Video))];
        let mut seats = session.seats.clone();
        seats.resize(rows.iter().map(|(_, slots)| slots.len()).max().unwrap_or(0), None);
        for seat in &mut seats {
            seat.take_if(|publisher| wanted.iter().all(|track| track.publisher != *publisher));
        }
        for track in wanted {
            if !seats.contains(&Some(track.publisher))
                && let Some(free) = seats.iter_mut().find(|seat| seat.is_none())
            {
                *free = Some(track.publisher);
            }
        }
        for (kind, slots) in rows {
            for (seat, slot) in seats.iter().zip(slots) {
                let track = wanted.iter().find(|track| Some(track.publisher) == *seat && track.kind == kind);
                self.bind(key, slot, track.map(Wanted::source));
            }
        }
        self.sessions[key].seats = seats;
    }

    /// Gives every track that has no seat an m-line of our own.
    fn offer_slots(&mut self, key: PeerKey, wanted: &[Wanted]) {
        let session = &self.sessions[key];
        let seated: Vec<TrackKey> = session
            .slots
            .iter()
            .filter(|slot| slot.origin == Origin::Client && slot.agreed)
            .filter_map(|slot| Some(slot.source()?.track))
            .collect();
        let (kept, gone): (Vec<_>, Vec<_>) = session.offered.iter().copied().partition(|(_, track)| {
            wanted.iter().any(|wanted| wanted.track == *track) && !seated.contains(track)
        });
        let mut missing: Vec<Wanted> = wanted
            .iter()
            .filter(|track| {
                !seated.contains(&track.track) && kept.iter().all(|(_, kept)| *kept != track.track)
            })
            .copied()
            .collect();
        missing.truncate(self.config.limits.slots_per_peer.saturating_sub(kept.len()));

        for (mid, _) in &gone {
            if let Some(index) = self.sessions[key].slot_index(*mid) {
                self.bind(key, index, None);
            }
            self.sessions[key].negotiation.remove_slot(*mid);
        }
        let mut offered = kept;
        for track in missing {
            // The stream id groups a publisher's audio and video, which is what lip-sync hangs on.
            let stream = track.publisher.to_string();
            let name = format!("{stream}-{}", track.kind);
            let mid = self.sessions[key].negotiation.add_slot(track.kind, &stream, &name);
            offered.push((mid, track.track));
        }
        self.sessions[key].offered = offered.clone();
        let Engine { sessions, random, .. } = self;
        let random = &*random;
        sessions[key].sync_slots(|| super::random_u32(random));
        for (mid, track) in offered {
            let source = wanted.iter().find(|wanted| wanted.track == track).map(Wanted::source);
            if let Some(index) = self.sessions[key].slot_index(mid) {
                self.bind(key, index, source);
            }
        }
    }

    fn bind(&mut self, key: PeerKey, slot: usize, source: Option<Source>) {
        if self.sessions[key].slots[slot].source() != source {
            self.detach(key, slot);
            self.sessions[key].slots[slot].bind(source);
        }
    }

    /// Attaches the slots that have become ready to their tracks, and detaches those that are not any more.
    pub(super) fn settle(&mut self, now: Instant, key: PeerKey) {
        for index in 0..self.sessions[key].slots.len() {
            let session = &self.sessions[key];
            let slot = &session.slots[index];
            let ready = slot.is_ready() && session.is_connected();
            match (slot.live, ready) {
                (false, true) => self.attach(now, key, index),
                (true, false) => self.detach(key, index),
                _ => {}
            }
            self.tell_missing_codec(key, index);
        }
    }

    fn attach(&mut self, now: Instant, key: PeerKey, index: usize) {
        let session = &mut self.sessions[key];
        let room = session.room;
        let slot = &mut session.slots[index];
        let Some(source) = slot.source() else { return };
        let Some(track) = self.rooms[room].router.tracks.get_mut(source.track) else { return };
        track.subscribe(now, key, index as u16, slot.limit);
        slot.left_out = false;
        slot.restart();
        let kind = slot.kind;
        self.set_live(key, index, true);
        if self.limits_videos(key) {
            self.leave_out(now, key);
        }
        if kind == MediaKind::Video && !self.serve_head(now, key, index) {
            self.want_target(now, key, index);
        }
        // There is one more to share with.
        self.sessions[key].reception.throttle.reconsider();
        self.share_downlink(now, key);
    }

    /// Starts a subscriber from a ring, if a keyframe has just passed: of the layer it is to have, or of a smaller
    /// one to begin with. False: it must wait for the next. Who is to get nothing waits for none.
    pub(super) fn serve_head(&mut self, now: Instant, key: PeerKey, index: usize) -> bool {
        let session = &self.sessions[key];
        let room = session.room;
        let Some(source) = session.slots[index].source() else { return false };
        let Some(track) = self.rooms[room].router.tracks.get(source.track) else { return false };
        let slot = index as u16;
        if track.is_left_out(key, slot) {
            return true;
        }
        let Some((layer, head)) = track.head(now, key, slot) else { return false };
        if !self.replay(now, key, slot, (source.track, layer), head) {
            return false;
        }
        let Some(track) = self.rooms[room].router.tracks.get_mut(source.track) else { return false };
        track.tell_switches(layer, |axis, step, cause| self.counters.layer_switch(axis, step, cause));
        let target = track.subscription_mut(key, slot).map(|subscription| subscription.selection.target());
        self.tell_layers(room, source.track);
        target == Some(layer)
    }

    /// Queues for one subscriber what the ring of a layer holds of `seqs`, as if it came now. False, and nothing is
    /// queued, if it is more than the queue takes.
    pub(super) fn replay(
        &mut self,
        now: Instant,
        key: PeerKey,
        slot: u16,
        (track, layer): (TrackKey, u8),
        seqs: RangeInclusive<u64>,
    ) -> bool {
        let Engine { sessions, rooms, counters, dirty, config, .. } = self;
        let Some(session) = sessions.get_mut(key) else { return false };
        let Some(track_entry) = rooms[session.room].router.tracks.get_mut(track) else { return false };
        let Some(feed) = track_entry.feed(track, layer) else { return false };
        let picture_of = |track: &Track, seq: u64| {
            track.layers[usize::from(layer)].history.get(seq).map(|stored| stored.meta.picture)
        };
        let packets = seqs.clone().filter(|seq| picture_of(track_entry, *seq).is_some()).count();
        if session.queue.len() + packets > config.limits.queue {
            return false;
        }
        for seq in seqs {
            let picture = picture_of(track_entry, seq);
            let subscription = track_entry.subscription_mut(key, slot);
            let Some((picture, subscription)) = picture.zip(subscription) else { continue };
            let purpose = match subscription.selection.judge(layer, &picture) {
                Verdict::Forward | Verdict::Start => Purpose::First,
                Verdict::LeftOut(reason) => {
                    counters.filtered(MediaKind::Video, reason);
                    Purpose::Skip
                }
                // Parameter sets before the packet that was taken for the start.
                Verdict::Elsewhere(_) => Purpose::First,
            };
            let passes = subscription.selection.passes();
            let passes = (passes.spatial, passes.temporal);
            session.push(now, Queued { passes, ..Queued::new(slot, feed, seq, purpose) });
            if purpose == Purpose::First {
                counters.queued(MediaKind::Video);
            }
        }
        counters.fanout(MediaKind::Video, packets);
        flush::mark_dirty(dirty, session, key);
        true
    }

    pub(super) fn detach(&mut self, key: PeerKey, index: usize) {
        if !self.set_live(key, index, false) {
            return;
        }
        let session = &self.sessions[key];
        let (room, slot) = (session.room, &session.slots[index]);
        if let Some(source) = slot.source()
            && let Some(track) = self.rooms[room].router.tracks.get_mut(source.track)
        {
            track.unsubscribe(key, index as u16);
        }
    }

    /// Notes that the router now sends, or no longer sends, to a slot. Returns whether it did before.
    pub(super) fn set_live(&mut self, key: PeerKey, index: usize, live: bool) -> bool {
        let Some(session) = self.sessions.get_mut(key) else { return false };
        let receives = |session: &Session| session.slots.iter().any(|slot| slot.live);
        let received = receives(session);
        let was_live = std::mem::replace(&mut session.slots[index].live, live);
        let gauges = &mut self.counters.gauges;
        gauges.subscribed(session.slots[index].kind, i64::from(live) - i64::from(was_live));
        gauges.subscribers = gauges.subscribers + u64::from(receives(session)) - u64::from(received);
        was_live
    }

    fn bindings(&self, key: PeerKey) -> Vec<(Mid, MediaKind, Option<PeerId>)> {
        let slots = self.sessions[key].slots.iter();
        slots.map(|slot| (slot.mid, slot.kind, slot.source().map(|source| source.publisher))).collect()
    }

    pub(super) fn tell_slots(&mut self, key: PeerKey) {
        let slots = self.slot_infos(&self.bindings(key));
        self.emit(key, PeerEvent::Slots(slots));
    }

    fn slot_infos(&self, bindings: &[(Mid, MediaKind, Option<PeerId>)]) -> Vec<SlotInfo> {
        let info = |publisher: &Option<PeerId>| publisher.and_then(|id| self.publisher(id));
        bindings
            .iter()
            .map(|(mid, kind, publisher)| SlotInfo {
                mid: mid.to_string(),
                kind: *kind,
                publisher: info(publisher),
            })
            .collect()
    }
}
