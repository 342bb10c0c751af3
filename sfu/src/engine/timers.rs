//! When to come back to whom.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::ids::{PeerKey, RoomKey};

/// Who asked to be woken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Due {
    Peer(PeerKey),
    /// The room's keyframe requests.
    Room(RoomKey),
    /// Who speaks in it.
    Speech(RoomKey),
    /// Caps that are shared.
    Caps,
}

/// Deadlines in order. Each party holds at most one entry, and remembers it to move it.
#[derive(Default)]
pub struct Timers {
    entries: BTreeSet<(Instant, Due)>,
}

impl Timers {
    /// Moves the party's entry from `scheduled` to `wanted`.
    pub fn schedule(&mut self, due: Due, scheduled: &mut Option<Instant>, wanted: Option<Instant>) {
        if *scheduled == wanted {
            return;
        }
        if let Some(at) = scheduled.take() {
            self.entries.remove(&(at, due));
        }
        if let Some(at) = wanted {
            self.entries.insert((at, due));
        }
        *scheduled = wanted;
    }

    pub fn next(&self) -> Option<Instant> {
        self.entries.first().map(|(at, _)| *at)
    }

    pub fn pop_due(&mut self, now: Instant) -> Option<Due> {
        let first = *self.entries.first()?;
        (first.0 <= now).then(|| {
            self.entries.remove(&first);
            first.1
        })
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }
}
