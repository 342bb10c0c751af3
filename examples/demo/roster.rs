//! Who is in which room, for those who come later.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use sluicegate::PeerId;
use sluicegate::signaling::{ActiveGuard, SignalingMetrics};

use crate::name::Name;

/// The engine tells a peer of those who join after it; the roster names those who were there before.
///
/// Grows with the engine's peers and is bounded by the engine's limits.
pub struct Roster {
    rooms: Mutex<HashMap<Name, Present>>,
    tickets: AtomicU64,
    signaling: SignalingMetrics,
}

struct Present {
    members: Vec<(Ticket, Member)>,
    _counted: ActiveGuard,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    #[serde(serialize_with = "as_text")]
    pub peer: PeerId,
    pub name: String,
}

/// One seat's. Who comes back is the same peer on another seat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ticket(u64);

impl Roster {
    pub fn new(signaling: SignalingMetrics) -> Roster {
        Roster { rooms: Mutex::default(), tickets: AtomicU64::new(0), signaling }
    }

    /// Whoever comes back takes the place of what was there of it.
    pub fn enter(&self, room: &Name, member: Member) -> Ticket {
        let ticket = Ticket(self.tickets.fetch_add(1, Relaxed));
        let begin = || Present { members: Vec::new(), _counted: self.signaling.room() };
        let mut rooms = self.rooms();
        let members = &mut rooms.entry(room.clone()).or_insert_with(begin).members;
        match members.iter_mut().find(|(_, before)| before.peer == member.peer) {
            Some(place) => *place = (ticket, member),
            None => members.push((ticket, member)),
        }
        ticket
    }

    pub fn leave(&self, room: &Name, ticket: Ticket) {
        let mut rooms = self.rooms();
        let Some(present) = rooms.get_mut(room) else {
            return;
        };
        present.members.retain(|(other, _)| *other != ticket);
        if present.members.is_empty() {
            rooms.remove(room);
        }
    }

    /// Everybody in the room but `peer`.
    pub fn others(&self, room: &Name, peer: PeerId) -> Vec<Member> {
        let rooms = self.rooms();
        let members = rooms.get(room).into_iter().flat_map(|present| &present.members);
        let members = members.map(|(_, member)| member);
        members.filter(|member| member.peer != peer).cloned().collect()
    }

    fn rooms(&self) -> MutexGuard<'_, HashMap<Name, Present>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub fn as_text<S: serde::Serializer>(peer: &PeerId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(peer)
}
