//! Faults: who was being served pays, everyone else goes on.

use std::time::Instant;

use super::crossing::Crossing;
use super::{Engine, Serving};
use crate::counters::PanicScope;
use crate::event::LeaveReason;

impl Engine {
    /// The turn just ended in a panic: who was being served pays, everyone else goes on.
    pub fn contain_panic(&mut self, now: Instant) -> PanicScope {
        self.slab.abandon_run(now, &mut self.counters);
        match std::mem::replace(&mut self.serving, Serving::Nobody) {
            Serving::Peer(key) if self.sessions.contains_key(key) => {
                self.remove(now, key, LeaveReason::Internal);
                self.counters.panic(PanicScope::Peer);
                PanicScope::Peer
            }
            Serving::Room(key) if self.rooms.contains_key(key) => {
                self.closing = true;
                for peer in self.rooms[key].router.peers.clone() {
                    self.remove(now, peer, LeaveReason::Internal);
                }
                self.closing = false;
                self.counters.panic(PanicScope::Room);
                PanicScope::Room
            }
            Serving::Newcomer => {
                self.counters.panic(PanicScope::Peer);
                PanicScope::Peer
            }
            _ => {
                self.counters.panic(PanicScope::Worker);
                PanicScope::Worker
            }
        }
    }

    /// An engine that is not to be trusted any more begins anew, without its peers: their keys are spent, so
    /// that handles to them never reach a successor. Its totals go on.
    pub fn begin_anew(self) -> Engine {
        let Engine { config, mut sessions, counters, room_settings, .. } = self;
        sessions.clear();
        let mut engine = Engine::new(config);
        engine.sessions = sessions;
        engine.counters = counters.carried_over();
        // Hosts hold their rooms still.
        engine.room_settings = room_settings;
        engine.ask_to_be_forgotten();
        engine
    }

    /// Tells the other engines that those who were with its predecessor are not there any more.
    pub fn ask_to_be_forgotten(&mut self) {
        let here = self.config.worker;
        let others = (0..self.config.workers).filter(|worker| *worker != here);
        self.crossings.extend(others.map(|worker| (worker, Crossing::Reset)));
    }
}
