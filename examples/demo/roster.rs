//! Who is in which room, for those who come later.

use std::collections::HashMap;
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
    signaling: SignalingMetrics,
}

struct Present {
    members: Vec<Member>,
    _counted: ActiveGuard,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    #[serde(serialize_with = "as_text")]
    pub peer: PeerId,
    pub name: String,
}

impl Roster {
    pub fn new(signaling: SignalingMetrics) -> Roster {
        Roster { rooms: Mutex::default(), signaling }
    }

    pub fn enter(&self, room: &Name, member: Member) {
        let begin = || Present { members: Vec::new(), _counted: self.signaling.room() };
        self.rooms().entry(room.clone()).or_insert_with(begin).members.push(member);
    }

    pub fn leave(&self, room: &Name, peer: PeerId) {
        let mut rooms = self.rooms();
        let Some(present) = rooms.get_mut(room) else {
            return;
        };
        present.members.retain(|member| member.peer != peer);
        if present.members.is_empty() {
            rooms.remove(room);
        }
    }

    /// Everybody in the room but `peer`.
    pub fn others(&self, room: &Name, peer: PeerId) -> Vec<Member> {
        let rooms = self.rooms();
        let members = rooms.get(room).into_iter().flat_map(|present| &present.members);
        members.filter(|member| member.peer != peer).cloned().collect()
    }

    fn rooms(&self) -> MutexGuard<'_, HashMap<Name, Present>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub fn as_text<S: serde::Serializer>(peer: &PeerId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(peer)
}
