//! Coming back: a client whose host has lost it goes on where it was, on the same connection or on a new one.

use std::time::{Duration, Instant};

use tracing::Span;

use super::Engine;
use super::members::Prepared;
use crate::config::{DataChannels, Subscribe, TrackSource};
use crate::counters::{EndReason, JoinOutcome};
use crate::event::{CapScope, PeerEvent};
use crate::ids::{Mid, PeerId, PeerKey};
use crate::interceptors::BoxedInterceptor;
use crate::session::negotiate::{OfferError, RemoteDescription};
use crate::session::slot::Slot;
use crate::session::{Session, Start};
use crate::units::Bitrate;

/// What of a peer outlives its connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// As others see it.
    pub name: String,
    /// What it receives.
    pub subscribe: Subscribe,
    /// What becomes of its data channels.
    pub channels: DataChannels,
    /// The host's caps: on all it publishes, on what it receives, on single m-lines.
    pub publish_cap: Option<Bitrate>,
    #[allow(missing_docs)]
    pub downlink_cap: Option<Bitrate>,
    #[allow(missing_docs)]
    pub track_caps: Vec<(Mid, Bitrate)>,
}

/// Somebody comes back.
pub struct Return {
    /// As whom.
    pub peer: PeerId,
    /// Only on the connection that there is.
    pub in_place: bool,
    /// For a connection that takes the place of the old one.
    pub interceptors: Vec<(usize, BoxedInterceptor)>,
    /// The span of its join.
    pub span: Span,
}

/// Somebody cannot come back.
#[derive(Debug, PartialEq)]
pub enum ResumeFault {
    /// The peer has left.
    Gone,
    /// The offer is of another connection than the one that is there.
    OtherConnection,
    /// The offer cannot be answered.
    Offer(OfferError),
}

/// What a peer came back on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Continuity {
    /// The connection that was there: no packet is lost for it.
    Same,
    /// A new one, which has still to connect.
    New,
}

impl Engine {
    /// What of a peer outlives its connection. `None`: it is gone.
    pub fn standing(&self, peer: PeerId) -> Option<Standing> {
        self.live(peer).map(|key| self.standing_of(key))
    }

    fn standing_of(&self, key: PeerKey) -> Standing {
        let session = &self.sessions[key];
        Standing {
            name: session.name.to_string(),
            subscribe: session.subscribe.clone(),
            channels: session.relaying,
            publish_cap: session.cap.caps().get(CapScope::Peer),
            downlink_cap: session.downlink.as_ref().and_then(|downlink| downlink.caps().get(CapScope::Peer)),
            track_caps: session.uplinks.section_caps().collect(),
        }
    }

    /// Sets the caps of somebody who has just joined with them. One who publishes on other m-lines than before has none
    /// on those.
    pub fn restore(&mut self, now: Instant, peer: PeerId, standing: &Standing) {
        let Some(key) = self.live(peer) else { return };
        self.serve(key, |engine| engine.restore_caps(now, key, standing));
    }

    fn restore_caps(&mut self, now: Instant, key: PeerKey, standing: &Standing) {
        for (mid, cap) in &standing.track_caps {
            self.sessions[key].uplinks.set_cap(*mid, Some(*cap));
        }
        let together = self.sessions[key].uplinks.caps();
        self.cap_publisher(now, key, CapScope::Tracks, together);
        self.cap_subscriber(now, key, CapScope::Peer, standing.downlink_cap);
    }

    /// The host has lost the peer's client: media flows on for as long as `grace`, and then the peer leaves. `None`: it is
    /// found. False: the peer is gone.
    pub fn set_orphaned(&mut self, now: Instant, peer: PeerId, grace: Option<Duration>) -> bool {
        let Some(key) = self.live(peer) else { return false };
        self.serve(key, |engine| engine.orphan(key, grace.map(|grace| now + grace)));
        true
    }

    fn orphan(&mut self, key: PeerKey, until: Option<Instant>) {
        let session = &mut self.sessions[key];
        let before = std::mem::replace(&mut session.orphaned_until, until);
        let orphans = &mut self.counters.gauges.orphaned_handles;
        *orphans = *orphans + u64::from(until.is_some()) - u64::from(before.is_some());
        self.reschedule(key);
    }

    /// A client comes back as the peer it was, with an offer. From the connection that is there it is answered as any
    /// other, and media flows all along. From a new one, that takes the place of the old: under the same id, so that
    /// nobody sees the peer leave.
    ///
    /// The host, whose handle is a new one, hears again what it has to know: who is here, what is published, the slots.
    ///
    /// # Errors
    ///
    /// The peer is then as it was.
    pub fn resume(
        &mut self,
        now: Instant,
        coming: Return,
        offer: &str,
    ) -> Result<(String, Continuity), ResumeFault> {
        let key = self.live(coming.peer).ok_or(ResumeFault::Gone)?;
        let described = RemoteDescription::parse(offer).map_err(|error| ResumeFault::Offer(error.into()))?;
        let same = self.sessions[key].negotiation.is_of_this(&described);
        if !same && coming.in_place {
            return Err(ResumeFault::OtherConnection);
        }
        let id = coming.peer;
        let answered = self.serve(key, |engine| match same {
            true => engine.go_on(now, key, &described).map(|answer| (answer, Continuity::Same)),
            false => engine.replace(now, key, coming, offer).map(|answer| (answer, Continuity::New)),
        });
        let answered = answered.map_err(ResumeFault::Offer)?;
        self.serve(key, |engine| {
            engine.orphan(key, None);
            let meanwhile = engine.take_events(id);
            engine.tell_all(key);
            engine.events.extend(meanwhile.into_iter().map(|event| (id, event)));
        });
        Ok(answered)
    }

    /// On the same connection.
    fn go_on(&mut self, now: Instant, key: PeerKey, offer: &RemoteDescription) -> Result<String, OfferError> {
        let before = self.sessions[key].negotiation.settle(offer);
        let answered = self.renegotiate_by(now, key, offer);
        if answered.is_err() {
            self.sessions[key].negotiation.unsettle(before);
        }
        answered
    }

    /// On a new connection.
    fn replace(
        &mut self,
        now: Instant,
        key: PeerKey,
        coming: Return,
        offer: &str,
    ) -> Result<String, OfferError> {
        let standing = self.standing_of(key);
        let Prepared { ufrag, ice, dtls, negotiation, reporter, answer } =
            self.prepare(now, standing.channels, offer)?;
        let room = self.sessions[key].room;
        let screens = self.screens_of(key);
        self.say_goodbye(now, key);
        self.withdraw_all(key);
        // What has ended is what the old handle knew of.
        self.take_events(coming.peer);
        let old = &mut self.sessions[key];
        let start = Start {
            id: old.id,
            name: old.name.clone(),
            room,
            subscribe: standing.subscribe.clone(),
            ice,
            dtls,
            negotiation,
            interceptors: coming.interceptors,
            cap: None,
            channels: standing.channels,
            reporter,
            span: coming.span,
        };
        let mut new = Box::new(Session::new(now, start));
        std::mem::swap(&mut new.cap, &mut old.cap);
        new.uplinks.police.set_cap(new.cap.get());
        (new.uncapped, new.last_n) = (old.uncapped, old.last_n);
        // In lists that go by the key.
        (new.dirty, new.held) = (old.dirty, old.held);
        new.wishes = old.slots.iter().filter_map(Slot::wish).collect();
        let old = std::mem::replace(old, new);
        let unfinished = (!old.is_connected()).then_some(JoinOutcome::Cancelled);
        self.book.remove_peer(key);
        self.book.add_ufrag(&ufrag, key);
        self.bury(key, old, unfinished);
        self.counters.session_ended(EndReason::Resumed);
        self.sync_media(now, key);
        screens.into_iter().for_each(|screen| self.show_as(now, screen, TrackSource::Screen));
        self.restore_caps(now, key, &standing);
        self.resubscribe(now, room);
        self.reschedule(key);
        Ok(answer)
    }

    /// What a host has to know of a peer that it holds anew. What is to be negotiated follows.
    fn tell_all(&mut self, key: PeerKey) {
        let room = self.sessions[key].room;
        for other in self.rooms[room].router.peers.clone().into_iter().filter(|other| *other != key) {
            self.emit(key, PeerEvent::PeerJoined(self.info(other)));
        }
        for other in self.remotes.of_room(room).cloned().collect::<Vec<_>>() {
            self.emit(key, PeerEvent::PeerJoined(other));
        }
        self.tell_floor(key);
        let tracks: Vec<_> =
            self.sessions[key].uplinks.iter().map(|uplink| (uplink.mid.to_string(), uplink.kind)).collect();
        for (mid, kind) in tracks {
            self.emit(key, PeerEvent::TrackAdded { mid, kind });
        }
        self.tell_floor(key);
        self.tell_slots(key);
        if self.sessions[key].is_connected() {
            self.emit(key, PeerEvent::Connected);
        }
    }

    /// What the host of a peer has not been told yet, but what it is told anyway when it holds it anew.
    fn take_events(&mut self, peer: PeerId) -> Vec<PeerEvent> {
        let (own, others): (Vec<_>, Vec<_>) = self.events.drain(..).partition(|(whose, _)| *whose == peer);
        self.events.extend(others);
        let told = |event: &PeerEvent| matches!(event, PeerEvent::TrackAdded { .. } | PeerEvent::Slots(_));
        own.into_iter().map(|(_, event)| event).filter(|event| !told(event)).collect()
    }
}
