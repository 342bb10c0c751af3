//! Who comes, and who goes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tracing::Span;

use super::crossing::{Batch, Crossing};
use super::speakers::Told;
use super::timers::Due;
use super::{Engine, Room, Serving, flush, random_u32};
use crate::config::{DataChannels, PeerConfig};
use crate::counters::{Admission, AdmissionScope, EndReason, IceOutcome, JoinOutcome};
use crate::drop::DropReason;
use crate::error::JoinError;
use crate::event::{LeaveReason, PeerEvent, PeerInfo};
use crate::ids::{PeerId, PeerKey, RoomKey, Ssrc};
use crate::media::budget::RateMeter;
use crate::router::Router;
use crate::session::dtls::{Dtls, Fingerprint};
use crate::session::ice::IceLite;
use crate::session::negotiate::{Negotiation, OfferError};
use crate::session::trace;
use crate::session::{Session, Start};

impl Engine {
    /// Admits a peer to a room, which comes into being with its first peer. Returns its id and the answer
    /// to its offer.
    pub fn join(
        &mut self,
        now: Instant,
        room: &str,
        config: PeerConfig,
        offer: &str,
    ) -> Result<(PeerId, String), JoinError> {
        self.serving = Serving::Newcomer;
        let span = config.span.clone().unwrap_or_else(Span::none);
        let result = self.admit(now, room, config, offer, &span);
        self.serving = Serving::Nobody;
        let admission = match &result {
            Ok(_) | Err(JoinError::Offer(_)) => Admission::Ok,
            Err(_) => Admission::Limit,
        };
        self.counters.admission(AdmissionScope::Join, admission);
        let refused = match &result {
            Ok(_) => return result,
            Err(JoinError::Offer(_)) => JoinOutcome::Negotiation,
            Err(_) => JoinOutcome::Limit,
        };
        self.counters.joined(refused);
        trace::ended(&span, refused);
        result
    }

    fn admit(
        &mut self,
        now: Instant,
        room: &str,
        config: PeerConfig,
        offer: &str,
        span: &Span,
    ) -> Result<(PeerId, String), JoinError> {
        let limits = self.config.limits;
        if self.sessions.len() >= limits.peers_per_worker {
            return Err(JoinError::Full { what: "worker", limit: limits.peers_per_worker });
        }
        let in_room = |key: &RoomKey| self.rooms[*key].router.peers.len() + self.remotes.in_room(*key);
        let in_room = self.room_names.get(room).map_or(0, in_room);
        if in_room >= limits.peers_per_room {
            return Err(JoinError::Full { what: "room", limit: limits.peers_per_room });
        }

        let negotiating = trace::negotiating(span);
        let credentials = self.fresh_credentials();
        let random = self.random.clone();
        let local = self.local_description(&credentials);
        let mut negotiation = Negotiation::new(local, move || random_u32(&random));
        if config.channels == DataChannels::Refused {
            negotiation.refuse_channels();
        }
        let answer = negotiation.handle_offer(offer)?;
        drop(negotiating);
        let remote = negotiation.remote().ok_or(OfferError::IceCredentials)?;
        let fingerprint = Fingerprint::parse(&remote.fingerprint_algorithm, &remote.fingerprint)
            .ok_or(OfferError::MissingFingerprint)?;
        let mut ice = IceLite::new(credentials.clone(), now);
        ice.set_remote(&remote.ufrag);
        let dtls = Dtls::new(self.config.identity.clone(), fingerprint, self.config.require_gcm, now);
        let reporter = Ssrc(random_u32(&self.random) | 1);

        let room_key = self.room_named(now, room);
        let cap = config.publish_cap.or(self.config.publish_cap);
        let worker = self.config.worker;
        let key = self.sessions.insert_with_key(|key| {
            Box::new(Session::new(
                now,
                Start {
                    id: PeerId::new(worker, key),
                    name: config.name.into(),
                    room: room_key,
                    subscribe: config.subscribe,
                    ice,
                    dtls,
                    negotiation,
                    interceptors: config.interceptors,
                    cap,
                    channels: config.channels,
                    reporter,
                    span: span.clone(),
                },
            ))
        });
        self.serving = Serving::Peer(key);
        self.book.add_ufrag(&credentials.ufrag, key);
        self.count_time(now);
        self.greet(room_key, key);
        let router = &mut self.rooms[room_key].router;
        let before = router.peers.len();
        router.enter(key);
        self.counters.gauges.resized(before, before + 1);
        let subscribing = trace::subscribing(span);
        self.sync_and_resubscribe(now, key);
        drop(subscribing);
        Ok((self.sessions[key].id, answer))
    }

    /// Lets a peer go, with a goodbye on its path.
    pub fn leave(&mut self, now: Instant, peer: PeerId) {
        if let Some(key) = self.live(peer) {
            self.remove(now, key, LeaveReason::Left);
        }
    }

    /// Lets everybody go.
    pub fn shutdown(&mut self, now: Instant) {
        self.closing = true;
        let keys: Vec<PeerKey> = self.sessions.keys().collect();
        for key in keys {
            self.remove(now, key, LeaveReason::Shutdown);
        }
    }

    pub(super) fn room_named(&mut self, now: Instant, name: &str) -> RoomKey {
        if let Some(key) = self.room_names.get(name) {
            return *key;
        }
        let key = self.rooms.insert(Room {
            router: Router::new(name),
            scheduled: None,
            cap: self.room_caps.get(name).copied(),
            kept: 1.0,
            outlets: Vec::new(),
            batch: Batch::default(),
            heard: BTreeMap::new(),
            packets: RateMeter::default(),
            nacked: RateMeter::default(),
            last_n: None,
            speech_due: None,
            told: Told::default(),
        });
        self.room_names.insert(name.to_owned(), key);
        self.apply_settings(now, name);
        self.counters.gauges.rooms += 1;
        self.announce_room(name);
        key
    }

    /// Tells the room of the newcomer, and the newcomer of the room.
    fn greet(&mut self, room: RoomKey, newcomer: PeerKey) {
        for other in self.rooms[room].router.peers.clone() {
            self.emit(other, PeerEvent::PeerJoined(self.info(newcomer)));
            self.emit(newcomer, PeerEvent::PeerJoined(self.info(other)));
        }
        for other in self.remotes.of_room(room).cloned().collect::<Vec<_>>() {
            self.emit(newcomer, PeerEvent::PeerJoined(other));
        }
        self.tell_floor(newcomer);
        let name: Arc<str> = self.rooms[room].router.name.as_str().into();
        let peer = self.info(newcomer);
        self.cross_all(room, &Crossing::Entered { room: name, peer });
        self.counters.gauges.participants += 1;
        self.counters.gauges.active_handles += 1;
    }

    pub(super) fn info(&self, peer: PeerKey) -> PeerInfo {
        let session = &self.sessions[peer];
        PeerInfo { peer: session.id, name: session.name.to_string() }
    }

    pub(super) fn remove(&mut self, now: Instant, key: PeerKey, reason: LeaveReason) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let room_key = session.room;
        if reason != LeaveReason::Internal {
            // After a fault inside it, the session's own goodbye is not to be trusted.
            session.close(now);
            while let Some(last) = session.poll_control() {
                self.parting.push_back(last);
            }
        }
        let outcome = match reason {
            LeaveReason::IceTimeout => JoinOutcome::IceTimeout,
            LeaveReason::DtlsFailed => JoinOutcome::DtlsFailed,
            LeaveReason::Internal => JoinOutcome::Internal,
            _ => JoinOutcome::Cancelled,
        };
        let unfinished = (!session.is_connected()).then_some(outcome);
        let published = self.withdraw_all(key);
        self.emit(key, PeerEvent::Left(reason));
        let info = self.info(key);
        self.book.remove_peer(key);
        if let Some(mut session) = self.sessions.remove(key) {
            session.tell_crowded_out(&mut self.counters);
            session.quality.end(&mut self.counters);
            if let (Some(trace), Some(outcome)) = (&session.trace, unfinished) {
                trace.on_end(outcome);
            }
            self.counters.selected_path(None, session.booked_path.map(|(_, kind)| kind));
            if reason == LeaveReason::IceTimeout && session.ice.last_check().is_none() {
                let refused = session.refused_checks;
                let outcome = if refused { IceOutcome::Auth } else { IceOutcome::Timeout };
                self.counters.ice_session(outcome, session.relay_offered());
            }
            self.timers.schedule(Due::Peer(key), &mut session.scheduled, None);
            for (queued, kind) in session.queued_kinds() {
                flush::unsent(&mut self.counters, kind, queued, DropReason::Expired);
            }
        }
        self.count_time(now);
        self.counters.gauges.participants -= 1;
        self.counters.gauges.active_handles -= 1;
        self.counters.session_ended(end_reason(reason));
        if let Some(outcome) = unfinished {
            self.counters.joined(outcome);
        }
        let room = &mut self.rooms[room_key];
        let before = room.router.peers.len();
        room.router.leave(key);
        room.router.speech.forget(info.peer);
        self.counters.gauges.resized(before, room.router.peers.len());
        let name: Arc<str> = room.router.name.as_str().into();
        if room.router.is_empty() {
            self.cross_all(room_key, &Crossing::Close { room: name });
            self.remotes.forget_room(room_key);
            let room = &mut self.rooms[room_key];
            self.timers.schedule(Due::Room(room_key), &mut room.scheduled, None);
            self.timers.schedule(Due::Speech(room_key), &mut room.speech_due, None);
            if let Some(room) = self.rooms.remove(room_key) {
                self.room_names.remove(&room.router.name);
                self.counters.gauges.rooms -= 1;
            }
            return;
        }
        self.cross_all(room_key, &Crossing::Left { room: name, peer: info.peer });
        if self.closing {
            return;
        }
        for other in self.rooms[room_key].router.peers.clone() {
            self.emit(other, PeerEvent::PeerLeft(info.clone()));
        }
        if published {
            self.resubscribe(now, room_key);
        }
    }
}

fn end_reason(reason: LeaveReason) -> EndReason {
    match reason {
        LeaveReason::Left | LeaveReason::Closed => EndReason::Left,
        LeaveReason::IceTimeout => EndReason::IceTimeout,
        LeaveReason::ConsentExpired => EndReason::ConsentExpired,
        LeaveReason::Shutdown => EndReason::Drained,
        LeaveReason::DtlsFailed | LeaveReason::Internal => EndReason::Error,
    }
}
