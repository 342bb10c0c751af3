//! Bitrate caps: on what a peer or a track publishes, on what a peer receives, on a room, on everything that leaves.

use std::time::{Duration, Instant};

use super::timers::Due;
use super::{Engine, Serving};
use crate::congestion::fair::fair_shares;
use crate::error::CapError;
use crate::event::{Cap, CapCause, CapExplanation, CapScope, PeerEvent};
use crate::ids::{MediaKind, Mid, PeerId, PeerKey, RoomKey};
use crate::media::police::Stage;
use crate::saturation::measures::Measures;
use crate::session::downlink::Downlink;
use crate::units::Bitrate;

/// How often a shared cap is shared anew.
const SHARING: Duration = Duration::from_millis(500);

/// What a subscriber to many is taken to get of audio.
const AUDIO: Bitrate = Bitrate::kbps(50);

impl Engine {
    /// Caps what the peer publishes, all its tracks together. `None` lifts the cap.
    pub fn set_publish_cap(
        &mut self,
        now: Instant,
        peer: PeerId,
        cap: Option<Bitrate>,
    ) -> Result<(), CapError> {
        let key = self.live(peer).ok_or(CapError::Gone)?;
        self.serve(key, |engine| {
            engine.cap_publisher(now, key, CapScope::Peer, cap);
            let cap = engine.sessions[key].cap.get();
            engine.emit(key, PeerEvent::CapChanged { cap, cause: CapCause::Host });
        });
        Ok(())
    }

    /// Caps one of the tracks that the peer publishes, by its m-line.
    pub fn set_track_cap(
        &mut self,
        now: Instant,
        peer: PeerId,
        mid: &str,
        cap: Option<Bitrate>,
    ) -> Result<(), CapError> {
        let key = self.live(peer).ok_or(CapError::Gone)?;
        let found = Mid::new(mid).is_some_and(|mid| self.sessions[key].uplinks.set_cap(mid, cap));
        if !found {
            return Err(CapError::NoSuchTrack { mid: mid.to_owned() });
        }
        self.serve(key, |engine| {
            let together = engine.sessions[key].uplinks.caps();
            engine.cap_publisher(now, key, CapScope::Tracks, together);
            engine.emit(key, PeerEvent::CapChanged { cap, cause: CapCause::Host });
        });
        Ok(())
    }

    /// Caps what the peer receives.
    pub fn set_downlink_cap(
        &mut self,
        now: Instant,
        peer: PeerId,
        cap: Option<Bitrate>,
    ) -> Result<(), CapError> {
        let key = self.live(peer).ok_or(CapError::Gone)?;
        self.serve(key, |engine| engine.cap_subscriber(now, key, CapScope::Peer, cap));
        Ok(())
    }

    /// Caps what all who are in the room publish together, now and later, until it is lifted.
    pub fn set_room_cap(&mut self, now: Instant, room: &str, cap: Option<Bitrate>) {
        match cap {
            Some(cap) => self.room_caps.insert(room.to_owned(), cap),
            None => self.room_caps.remove(room),
        };
        if let Some(key) = self.room_names.get(room).copied() {
            self.rooms[key].cap = cap;
            self.share_room(now, key);
        }
        self.schedule_sharing(now);
    }

    /// Caps what leaves this engine, its peers together.
    pub fn set_egress_cap(&mut self, now: Instant, cap: Option<Bitrate>) {
        self.egress_cap = cap;
        self.share_egress(now);
        self.schedule_sharing(now);
    }

    /// Every cap on a peer's media. `None`: it is gone.
    pub fn explain_cap(&self, peer: PeerId) -> Option<CapExplanation> {
        let session = &self.sessions[self.live(peer)?];
        let network = session.reception.throttle.budget();
        let network = network.map(|bitrate| Cap { scope: CapScope::Network, bitrate });
        let downlink = session.downlink.iter().flat_map(|downlink| downlink.caps().iter());
        Some(CapExplanation {
            publish: session.cap.caps().iter().collect(),
            downlink: downlink.chain(network).collect(),
        })
    }

    /// What subscribers would be sent if nothing were capped.
    pub fn demand(&self, now: Instant) -> Bitrate {
        Bitrate::bps(self.sessions.keys().map(|key| self.demand_of(now, key).as_bps()).sum())
    }

    // ---- time --------------------------------------------------------------------------------------

    /// Shares anew what is shared, as long as there is something.
    pub(super) fn share_caps(&mut self, now: Instant) {
        let capped: Vec<RoomKey> =
            self.rooms.iter().filter(|(_, room)| room.cap.is_some()).map(|(key, _)| key).collect();
        for room in capped {
            self.serving = Serving::Room(room);
            self.share_room(now, room);
        }
        self.serving = Serving::Nobody;
        self.share_egress(now);
        if self.measures != Measures::NONE {
            self.take_measures(now);
        }
        self.schedule_sharing(now);
    }

    pub(super) fn schedule_sharing(&mut self, now: Instant) {
        let any = self.egress_cap.is_some() || !self.room_caps.is_empty() || self.measures != Measures::NONE;
        self.timers.schedule(Due::Caps, &mut self.sharing, any.then(|| now + SHARING));
    }

    /// Gives everybody who publishes in a room his share of its cap.
    pub(super) fn share_room(&mut self, now: Instant, room: RoomKey) {
        let Some(entry) = self.rooms.get(room) else { return };
        let publishes = |key: &PeerKey| {
            self.sessions.get(*key).is_some_and(|session| session.uplinks.iter().next().is_some())
        };
        let publishers: Vec<PeerKey> = entry.router.peers.iter().copied().filter(publishes).collect();
        let mut wanted: Vec<Bitrate> = publishers.iter().map(|key| self.wanted_of(now, *key)).collect();
        // Those on other workers get theirs there; here they count as wanting all they can get.
        let elsewhere = self.remotes.publishers_in(room);
        wanted.extend((0..elsewhere).map(|_| Bitrate::MAX));
        let shares = match entry.cap {
            Some(cap) => fair_shares(cap, &wanted).into_iter().map(Some).collect(),
            None => vec![None; publishers.len()],
        };
        for (key, share) in publishers.into_iter().zip(shares) {
            let before = self.sessions[key].cap.caps().get(CapScope::Room);
            if !is_alike(before, share) && self.cap_publisher(now, key, CapScope::Room, share) {
                let cap = self.sessions[key].cap.get();
                self.emit(key, PeerEvent::CapChanged { cap, cause: CapCause::Room });
            }
        }
    }

    /// What a publisher would send. One that fills its share wants more.
    fn wanted_of(&self, now: Instant, key: PeerKey) -> Bitrate {
        let session = &self.sessions[key];
        let offered = session.uplinks.police.offered(now);
        let fills = |share: Bitrate| offered.as_bps() >= share.as_bps() / 10 * 8;
        match session.cap.caps().get(CapScope::Room) {
            // Who has just begun, or been capped, has shown nothing yet.
            None => Bitrate::MAX,
            Some(share) if fills(share) => Bitrate::MAX,
            Some(_) => Bitrate::bps(offered.as_bps() / 4 * 5).max(AUDIO),
        }
    }

    /// Gives every subscriber its share of what may leave, if they want more than that.
    fn share_egress(&mut self, now: Instant) {
        let keys: Vec<PeerKey> = self.sessions.keys().collect();
        let wanted: Vec<Bitrate> = match self.egress_cap {
            Some(_) => keys.iter().map(|key| self.demand_of(now, *key)).collect(),
            None => Vec::new(),
        };
        let demand: u64 = wanted.iter().map(|wanted| wanted.as_bps()).sum();
        let cap = self.egress_cap.filter(|cap| demand > cap.as_bps());
        let shares = match cap {
            Some(cap) => fair_shares(cap, &wanted).into_iter().map(Some).collect(),
            None => vec![None; keys.len()],
        };
        for (key, share) in keys.into_iter().zip(shares) {
            let downlink = self.sessions[key].downlink.as_ref();
            let before = downlink.and_then(|downlink| downlink.caps().get(CapScope::Node));
            if !is_alike(before, share) {
                self.cap_subscriber(now, key, CapScope::Node, share);
            }
        }
    }

    /// What a subscriber would be sent if nothing were capped.
    fn demand_of(&self, now: Instant, key: PeerKey) -> Bitrate {
        let session = &self.sessions[key];
        let router = &self.rooms[session.room].router;
        let live = session.slots.iter().enumerate().filter(|(_, slot)| slot.live);
        let costs = live.map(|(index, slot)| match slot.kind {
            MediaKind::Audio => AUDIO.as_bps(),
            MediaKind::Video => {
                let track = slot.source().and_then(|source| router.tracks.get(source.track));
                let ladder = track.map(|track| track.ladder(now, key, index as u16));
                ladder.and_then(|ladder| ladder.last().copied()).map_or(0, Bitrate::as_bps)
            }
        });
        Bitrate::bps(costs.sum())
    }

    // ---- one peer ----------------------------------------------------------------------------------

    /// Changes one of the caps on what a peer publishes. Returns whether another rate is in force than before.
    pub(super) fn cap_publisher(
        &mut self,
        now: Instant,
        key: PeerKey,
        scope: CapScope,
        cap: Option<Bitrate>,
    ) -> bool {
        let session = &mut self.sessions[key];
        let changed = session.cap.set(now, scope, cap);
        if changed {
            session.uplinks.police.set_cap(session.cap.get());
            self.note_policing(now, key);
            self.reschedule(key);
        }
        changed
    }

    /// Changes one of the caps on what a peer receives.
    pub(super) fn cap_subscriber(
        &mut self,
        now: Instant,
        key: PeerKey,
        scope: CapScope,
        cap: Option<Bitrate>,
    ) {
        let session = &mut self.sessions[key];
        if session.downlink.is_none() && cap.is_none() {
            return;
        }
        let downlink = session.downlink.get_or_insert_with(Box::<Downlink>::default);
        downlink.set(scope, cap);
        if downlink.cap().is_none() {
            session.downlink = None;
            session.reception.throttle.share_anew();
        }
        self.share_downlink(now, key);
    }

    /// Acts on what policing a publisher has come to.
    pub(super) fn note_policing(&mut self, now: Instant, key: PeerKey) {
        let Some(stage) = self.sessions[key].uplinks.poll_policing() else { return };
        let session = &mut self.sessions[key];
        let (cap, room) = (session.cap.get(), session.room);
        let before = std::mem::replace(&mut session.policed, stage);
        if before < stage {
            self.counters.cap_violation();
        }
        if before != stage {
            let cause = match stage {
                Stage::Peace => CapCause::Complying,
                Stage::Holding => CapCause::Policing,
                Stage::Muted => CapCause::Muted,
            };
            self.emit(key, PeerEvent::CapChanged { cap, cause });
        }
        let session = &self.sessions[key];
        let tracks: Vec<_> = session.uplinks.iter().map(|uplink| (uplink.mid, uplink.track)).collect();
        for (mid, track) in tracks {
            let Engine { sessions, rooms, .. } = self;
            if let Some(track) = rooms[room].router.tracks.get_mut(track) {
                track.shut(|layer| sessions[key].uplinks.is_shut(mid, layer));
                if before == Stage::Muted {
                    // What was asked for meanwhile came, and was dropped.
                    track.layers.iter_mut().for_each(|layer| layer.keyframes.renew());
                }
            }
            self.review(now, room, track);
        }
    }

    /// Asks a publisher for the keyframe without which what was dropped of its video cannot go on.
    pub(super) fn resume_policed(&mut self, now: Instant, key: PeerKey) {
        let session = &mut self.sessions[key];
        let room = session.room;
        let Some((mid, layer)) = session.uplinks.wants_keyframe(now) else { return };
        let track = session.uplinks.get(mid).map(|uplink| uplink.track);
        let track = track.and_then(|track| self.rooms[room].router.tracks.get_mut(track));
        if let Some(track) = track.filter(|track| track.is_watched(layer)) {
            track.layers[usize::from(layer)].keyframes.want();
            self.poll_keyframes(now, room);
        }
    }

    /// Asks for the keyframe without which what was left out towards a subscriber cannot go on.
    pub(super) fn resume_capped(&mut self, now: Instant, key: PeerKey) {
        let session = &mut self.sessions[key];
        let room = session.room;
        let wanted = session.downlink.as_mut().and_then(|downlink| downlink.wants_keyframe(now));
        if let Some(slot) = wanted.and_then(|mid| session.slot_index(mid)) {
            self.note_keyframe_wanted(now, key, slot);
            self.poll_keyframes(now, room);
        }
    }
}

/// A share that has changed by a twentieth is the same share: each change is told to publishers and hosts.
pub(super) fn is_alike(before: Option<Bitrate>, share: Option<Bitrate>) -> bool {
    match (before, share) {
        (Some(before), Some(share)) => before.as_bps().abs_diff(share.as_bps()) <= before.as_bps() / 20,
        (before, share) => before == share,
    }
}
