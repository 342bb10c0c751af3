//! A peer in its room, and the log's account of it.

use std::sync::{Mutex, PoisonError};

use sluicegate::signaling::IceStatus;
use sluicegate::{LeaveReason, Peer, PeerConfig, PeerEvent, Resume, Subscribe};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::host::{Entry, Host};
use crate::name::Name;
use crate::refusal::Refusal;
use crate::roster::{Member, Ticket};

/// Dropping the seat leaves the room.
pub struct Seat {
    host: Host,
    room: Name,
    door: Door,
    peer: Peer,
    ticket: Ticket,
    /// When it was answered, until it has a path to us.
    searching: Mutex<Option<Instant>>,
}

/// How a peer came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Page,
    Whip,
    Whep,
}

impl Seat {
    /// Joins the room and answers the offer.
    pub async fn take(
        host: &Host,
        entry: &Entry,
        door: Door,
        subscribe: Subscribe,
        offer: &str,
    ) -> Result<(Seat, String), Refusal> {
        let room = host.sfu().room(entry.room.as_str())?;
        let config = PeerConfig::new(entry.name.as_str()).subscribe(subscribe);
        let (peer, answer) = room.join(config, offer).await?;
        info!(room = %entry.room, peer = %peer.id(), ?door, "joined");
        Ok((Seat::of(host, entry, door, peer), answer))
    }

    /// Takes up again what the client has lost.
    pub async fn resume(
        host: &Host,
        entry: &Entry,
        resume: Resume,
        offer: &str,
    ) -> Result<(Seat, String), Refusal> {
        let resumed = host.sfu().resume(resume.room(entry.room.as_str()), offer).await;
        let (peer, answer) = resumed?;
        info!(room = %entry.room, peer = %peer.id(), "came back");
        Ok((Seat::of(host, entry, Door::Page, peer), answer))
    }

    fn of(host: &Host, entry: &Entry, door: Door, peer: Peer) -> Seat {
        // As who it was: a name in the address is only asked for by the door.
        let member = Member { peer: peer.id(), name: peer.name().to_owned() };
        let ticket = host.roster().enter(&entry.room, member);
        let searching = Mutex::new(Some(Instant::now()));
        Seat { host: host.clone(), room: entry.room.clone(), door, peer, ticket, searching }
    }

    /// The client is lost, and its media flows on for a while: until it comes back, or does not.
    pub fn orphan(self) {
        info!(room = %self.room, peer = %self.peer.id(), "lost its signalling");
        self.peer.orphaned();
        tokio::spawn(async move { while self.next_event().await.is_some() {} });
    }

    pub fn room(&self) -> &Name {
        &self.room
    }

    pub fn door(&self) -> Door {
        self.door
    }

    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Who else is here.
    pub fn others(&self) -> Vec<Member> {
        self.host.roster().others(&self.room, self.peer.id())
    }

    pub async fn next_event(&self) -> Option<PeerEvent> {
        let event = self.peer.next_event().await;
        self.tally(event.as_ref());
        if let Some(PeerEvent::Unreachable { announced }) = &event {
            warn!(room = %self.room, peer = %self.peer.id(), ?announced, "unreachable: no packet came to the announced addresses");
        }
        event
    }

    /// How long finding a path took, once that is known.
    fn tally(&self, event: Option<&PeerEvent>) {
        let signaling = self.host.signaling();
        let done = || self.searching.lock().unwrap_or_else(PoisonError::into_inner).take();
        match event {
            Some(PeerEvent::IceConnected { after }) => {
                done();
                signaling.ice_negotiated(IceStatus::Connected, *after);
            }
            Some(PeerEvent::Left(LeaveReason::IceTimeout)) => {
                if let Some(since) = done() {
                    signaling.ice_negotiated(IceStatus::Failed, since.elapsed());
                }
            }
            _ => {}
        }
    }

    /// Keeps the peer until it leaves, for those who have nobody to tell.
    pub async fn drain(&self) {
        while self.next_event().await.is_some() {}
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.peer.leave();
        self.host.roster().leave(&self.room, self.ticket);
        info!(room = %self.room, peer = %self.peer.id(), door = ?self.door, "gave up its seat");
    }
}
