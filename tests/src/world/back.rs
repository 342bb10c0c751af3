//! Clients whose host has lost them, and who come back.

use std::time::Duration;

use sluicegate::sans_io::{Continuity, ResumeFault, Return};
use tracing::Span;

use super::{Client, Link, LinkId, Part, Seat, World, client_address};

impl World {
    /// The signalling of a client breaks: nothing reaches it any more but media, and its host says so.
    pub fn orphan(&mut self, seat: Seat, grace: Duration) {
        let (now, peer) = (self.now, self.client(seat.index).peer.expect("it has joined"));
        self.hold(seat);
        let worker = self.client(seat.index).worker;
        assert!(self.on(worker, |world| world.engine.set_orphaned(now, peer, Some(grace))), "it is there");
    }

    /// The client comes back on the connection it has. What it was offered meanwhile has never reached it.
    pub fn come_back(&mut self, seat: Seat) -> Result<Continuity, ResumeFault> {
        let now = self.now;
        let client = self.client(seat.index);
        client.held = None;
        let (peer, offer, worker) = (client.peer.expect("it has joined"), client.offer(now), client.worker);
        let coming = Return { peer, in_place: true, interceptors: Vec::new(), span: Span::none() };
        let resumed = self.on(worker, |world| world.engine.resume(now, coming, &offer));
        let client = self.client(seat.index);
        let came = match resumed {
            Ok((answer, continuity)) => {
                client.accept_answer(now, &answer);
                Ok(continuity)
            }
            Err(fault) => {
                client.roll_back(now);
                Err(fault)
            }
        };
        self.signal();
        self.poll_client(seat.index);
        came
    }

    /// The client comes back with a new connection, from another address, and the old one is no more.
    pub fn come_back_anew(&mut self, old: Seat, part: Part) -> Result<Seat, ResumeFault> {
        let (now, index) = (self.now, self.clients.len());
        let before = self.client(old.index);
        let (peer, worker) = (before.peer.expect("it has joined"), before.worker);
        let (room, name) = (before.room.clone(), before.name.clone());
        let addr = client_address(index);
        let mut client = Client::new(now, &mut self.dice, (&room, &name), index, addr, self.key, part);
        let offer = client.offer(now);
        let coming = Return { peer, in_place: false, interceptors: Vec::new(), span: Span::none() };
        let (answer, _) = self.on(worker, |world| world.engine.resume(now, coming, &offer))?;
        (client.peer, client.worker) = (Some(peer), worker);
        client.accept_answer(now, &answer);
        self.forget(old);
        self.clients.push(Some(Box::new(client)));
        self.at.insert(addr, index);
        self.peers.insert(peer, index);
        for _ in 0..2 {
            let dice = self.dice.fork();
            let mut link = Link::new(dice);
            link.conditions = self.path;
            self.links.push(link);
        }
        self.signal();
        self.poll_client(index);
        Ok(Seat { index, uplink: LinkId(2 * index), downlink: LinkId(2 * index + 1) })
    }

    /// The offers that wait for a client whose signalling is broken are heard by it; what it answers is not.
    pub fn hear_without_answer(&mut self, seat: Seat) -> usize {
        let now = self.now;
        let client = self.client(seat.index);
        let held = client.held.replace(Vec::new()).unwrap_or_default();
        for offer in &held {
            client.answer(now, offer);
        }
        held.len()
    }
}
