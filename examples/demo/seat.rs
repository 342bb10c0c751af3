//! A peer in its room, and the log's account of it.

use std::sync::{Mutex, PoisonError};

use sluicegate::signaling::IceStatus;
use sluicegate::{LeaveReason, Peer, PeerConfig, PeerEvent, Subscribe};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::host::{Entry, Host};
use crate::name::Name;
use crate::refusal::Refusal;
use crate::roster::Member;

/// Dropping the seat leaves the room.
pub struct Seat {
    host: Host,
    room: Name,
    door: Door,
    peer: Peer,
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
        host.roster().enter(&entry.room, Member { peer: peer.id(), name: entry.name.to_string() });
        let searching = Mutex::new(Some(Instant::now()));
        Ok((Seat { host: host.clone(), room: entry.room.clone(), door, peer, searching }, answer))
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
        while let Some(event) = self.next_event().await {
            if matches!(event, PeerEvent::Left(_)) {
                return;
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.peer.leave();
        self.host.roster().leave(&self.room, self.peer.id());
        info!(room = %self.room, peer = %self.peer.id(), door = ?self.door, "left");
    }
}
