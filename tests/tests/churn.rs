//! Joins and departures in every state, and what is left of them: no session, no room, no path, no timer, no file
//! descriptor, no byte. A binary with one test, because it counts what the whole process allocates.
//!
//! `SLUICEGATE_LONG=1` makes it 100 000 joins.

use std::alloc::System;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluicegate::sans_io::{Engine, EngineConfig, Identity, Outlet, Path, SendFault, Transmit};
use sluicegate::{PeerEvent, PeerId, Subscribe};
use sluicegate_benches::memory::{
    Camera, ENGINE, MemoryClient, PUBLISH, SENDRECV, SUBSCRIBE, with_fingerprint,
};
use sluicegate_benches::{clock, secure};
use sluicegate_tests::world::dice::Dice;
use sluicegate_tests::world::{ms, secs};
use stats_alloc::{INSTRUMENTED_SYSTEM, Stats, StatsAlloc};

#[global_allocator]
static COUNTING: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn live() -> i64 {
    let Stats { bytes_allocated, bytes_deallocated, .. } = COUNTING.stats();
    bytes_allocated as i64 - bytes_deallocated as i64
}

/// Open descriptors, and resident memory in KiB: what the C library allocates is in no counter of ours.
fn process() -> (usize, u64) {
    let descriptors = std::fs::read_dir("/proc/self/fd").expect("there is a /proc").count();
    let status = std::fs::read_to_string("/proc/self/status").expect("there is a /proc");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|rest| rest.trim().split(' ').next()?.parse().ok());
    (descriptors, resident.expect("it says how much"))
}

/// Keeps the DTLS datagrams, for whom they may concern.
#[derive(Default)]
struct Post {
    dtls: Vec<(Path, Vec<u8>)>,
}

impl Outlet for Post {
    fn send(&mut self, transmit: Transmit<'_>) -> Result<(), SendFault> {
        if matches!(transmit.contents.first(), Some(20..=63)) {
            self.dtls.push((transmit.path, transmit.contents.to_vec()));
        }
        Ok(())
    }
}

/// How far somebody comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Joined,
    Checked,
    /// As many DTLS datagrams of its own have been sent.
    Shaking(u64),
    Connected,
    /// And has sent media, asked for it, and offered anew while an offer of ours may be pending.
    Busy,
}

struct Venue {
    engine: Engine,
    now: Instant,
    dice: Dice,
    post: Post,
    theirs: secure::Identity,
    /// Those who are there and will be let go.
    present: Vec<PeerId>,
    /// By stage: joined only, checked, mid-handshake, connected, busy.
    reached: [u64; 5],
    number: u32,
}

impl Venue {
    fn new(seed: u64) -> Venue {
        let ours = Arc::new(Identity::generate().expect("a certificate is made"));
        Venue {
            engine: Engine::new(EngineConfig::new(vec![ENGINE], ours)),
            now: clock::now(),
            dice: Dice::new(seed),
            post: Post::default(),
            theirs: secure::Identity::generate().expect("a certificate is made"),
            present: Vec::new(),
            reached: [0; 5],
            number: 0,
        }
    }

    fn settle(&mut self) {
        self.engine.flush(self.now, &mut self.post);
        while let Some((peer, event)) = self.engine.poll_event() {
            if let PeerEvent::Left(_) = event {
                self.present.retain(|other| *other != peer);
            }
        }
    }

    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(due) = self.engine.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            while self.engine.handle_timeout(self.now) {}
            self.settle();
        }
        self.now = end;
        self.post.dtls.clear();
    }

    /// Somebody joins and comes as far as the dice say.
    fn visit(&mut self) {
        let room = ["red", "blue", "green", "grey", "pink"][self.dice.below(5) as usize];
        let part = match self.dice.below(3) {
            0 => (PUBLISH, Subscribe::Nothing),
            1 => (SUBSCRIBE, Subscribe::Slots(Default::default())),
            _ => (SENDRECV, Subscribe::Auto),
        };
        let offer = part.0;
        let stage = match self.dice.below(8) {
            0 => Stage::Joined,
            1 => Stage::Checked,
            2 | 3 => Stage::Shaking(self.dice.below(6)),
            4..=6 => Stage::Connected,
            _ => Stage::Busy,
        };
        self.number += 1;
        let number = self.number * 16;
        let mut client = MemoryClient::join(&mut self.engine, self.now, room, number, &self.theirs, part);
        self.settle();
        match stage {
            Stage::Joined => self.reached[0] += 1,
            Stage::Checked => {
                self.receive(client.path, client.check());
                self.reached[1] += 1;
            }
            Stage::Shaking(datagrams) => {
                self.shake(&mut client, datagrams);
                self.reached[2] += 1;
            }
            Stage::Connected => {
                client.connect(self.now, &mut self.engine).expect("it connects");
                self.reached[3] += 1;
            }
            Stage::Busy => {
                client.connect(self.now, &mut self.engine).expect("it connects");
                self.settle();
                self.be_busy(&mut client, offer);
                self.reached[4] += 1;
            }
        }
        self.settle();
        self.present.push(client.peer);
    }

    fn receive(&mut self, from: Path, mut datagram: Vec<u8>) {
        self.engine.handle_datagram(self.now, self.now, from, &mut datagram);
        self.settle();
    }

    /// A handshake that ends after so many datagrams of the client's.
    fn shake(&mut self, client: &mut MemoryClient, mut datagrams: u64) {
        self.receive(client.path, client.check());
        client.start_dtls(self.now).expect("it begins");
        self.post.dtls.clear();
        for _ in 0..4 {
            let mut flight = Vec::new();
            if let Some(secure) = &mut client.secure {
                for (path, datagram) in self.post.dtls.drain(..) {
                    if path == client.path {
                        let _ = secure.handle(self.now, &datagram);
                    }
                }
                flight.extend(std::iter::from_fn(|| secure.poll_transmit()));
            }
            for datagram in flight {
                if datagrams == 0 {
                    return;
                }
                datagrams -= 1;
                self.receive(client.path, datagram.to_vec());
            }
        }
    }

    fn be_busy(&mut self, client: &mut MemoryClient, offer: &str) {
        let (path, peer) = (client.path, client.peer);
        let mut camera = Camera::default();
        for _ in 0..10 {
            for packet in camera.frame(3, 900) {
                let sealed = client.secure.as_mut().and_then(|secure| secure.seal(&packet).ok());
                self.receive(path, sealed.expect("it is connected").to_vec());
            }
            self.pass(ms(5));
        }
        let report = [0x80, 201, 0, 1, 0, 0, 0, 1];
        let sealed = client.secure.as_mut().and_then(|secure| secure.seal_rtcp(&report).ok());
        self.receive(path, sealed.expect("it is connected").to_vec());
        // In the middle of a negotiation: an offer of ours may be on its way, and glare refuses theirs.
        let _ = self.engine.offer(self.now, peer, &with_fingerprint(offer, &self.theirs.fingerprint));
        self.settle();
    }

    /// So many visits, with up to a dozen present who are let go in any order; others vanish without a word and
    /// are found missing. Below `pauses` milliseconds lie between two.
    fn day(&mut self, visits: u64, pauses: u64) {
        for _ in 0..visits {
            self.visit();
            let pause = self.dice.below(pauses);
            self.pass(ms(pause));
            while self.present.len() > 12 {
                let at = self.dice.below(self.present.len() as u64) as usize;
                let gone = self.present.swap_remove(at);
                if self.dice.chance(0.6) {
                    self.engine.leave(self.now, gone);
                    self.settle();
                }
            }
        }
        self.present.clear();
        // All who are left have vanished: each is given up within 30 s.
        self.pass(secs(31));
        assert_eq!(self.engine.footprint(), [0; 5], "sessions, rooms, paths, ufrags, timers");
        assert!(!self.engine.has_output(self.now));
        assert_eq!(self.engine.counters.gauges, Default::default(), "nobody is there");
        self.post = Post::default();
    }
}

#[test]
fn what_comes_goes_and_leaves_nothing() {
    let long = std::env::var_os("SLUICEGATE_LONG").is_some();
    let visits = if long { 100_000 } else { 400 };
    let mut venue = Venue::new(1);
    // A busier day than those to come makes the tables as large as they get.
    let began = clock::now();
    venue.day(2_000, 10);
    venue.reached = [0; 5];
    let (before, (descriptors, resident)) = (live(), process());
    venue.day(visits, 100);
    let (after, (descriptors_after, resident_after)) = (live(), process());
    let took = clock::now() - began;
    println!(
        "{visits} joins in {took:?}: {} joined only, {} checked, {} mid-handshake, {} connected, {} busy; heap \
         {before} B before, {after} B after; resident {resident} KiB before, {resident_after} KiB after",
        venue.reached[0], venue.reached[1], venue.reached[2], venue.reached[3], venue.reached[4],
    );
    assert_eq!(descriptors_after, descriptors, "file descriptors");
    assert_eq!(after - before, 0, "bytes left on the heap by {visits} joins");
    // Fragmentation and the C library's own caches may move it a little, not with the number of joins.
    let grown = resident_after.saturating_sub(resident);
    assert!(grown <= 8 * 1024, "{grown} KiB more are resident");
    assert_eq!(venue.engine.counters.panics, [0; 3]);
}
