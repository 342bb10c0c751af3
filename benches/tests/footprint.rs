//! What a subscriber costs in memory, held against a counting allocator: live heap, in a room where media flows.

use std::alloc::System;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluicegate::Subscribe;
use sluicegate::sans_io::{Engine, Identity};
use sluicegate_benches::memory::{Camera, MemoryClient, PUBLISH, SUBSCRIBE, engine, with_one_of_each};
use sluicegate_benches::stage::Count;
use sluicegate_benches::{clock, secure};
use stats_alloc::{INSTRUMENTED_SYSTEM, Stats, StatsAlloc};

#[global_allocator]
static COUNTING: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn live() -> i64 {
    let Stats { bytes_allocated, bytes_deallocated, .. } = COUNTING.stats();
    bytes_allocated as i64 - bytes_deallocated as i64
}

/// A publisher, and an audience of which only the engine's side is kept.
struct Room {
    engine: Engine,
    now: Instant,
    camera: Camera,
    publishers: Vec<MemoryClient>,
    theirs: secure::Identity,
    people: u32,
}

impl Room {
    fn new(publishers: u32) -> Room {
        let ours = Arc::new(Identity::generate().expect("a certificate is made"));
        let theirs = secure::Identity::generate().expect("a certificate is made");
        let (mut engine, now) = (engine(ours, 1_000), clock::now());
        let part = (PUBLISH, Subscribe::Nothing);
        let publishers = (0..publishers).map(|number| {
            let mut publisher = MemoryClient::join(&mut engine, now, "room", number, &theirs, part.clone());
            publisher.connect(now, &mut engine).expect("it connects");
            publisher
        });
        let publishers = publishers.collect();
        Room { engine, now, camera: Camera::default(), publishers, theirs, people: 0 }
    }

    fn admit(&mut self, people: u32, offer: &str) {
        for _ in 0..people {
            self.people += 1;
            let Room { engine, now, theirs, people, .. } = self;
            let part = (offer, Subscribe::Slots(Default::default()));
            let mut client = MemoryClient::join(engine, *now, "room", 8 + *people, theirs, part);
            client.connect(*now, engine).expect("it connects");
            while engine.poll_event().is_some() {}
        }
    }

    /// Five seconds of video at 30 frames a second, five packets each.
    fn film(&mut self, streams: usize) {
        let mut count = Count::default();
        self.camera.want_keyframe();
        for _ in 0..150 {
            self.now += Duration::from_micros(33_333);
            let frame = self.camera.frame(5, 1_200);
            for publisher in &mut self.publishers {
                let secure = publisher.secure.as_mut().expect("it is connected");
                for packet in &frame {
                    let mut sealed = secure.seal(packet).expect("it is connected");
                    self.engine.handle_datagram(self.now, self.now, publisher.path, &mut sealed);
                }
            }
            while self.engine.handle_timeout(self.now) {}
            self.engine.flush(self.now, &mut count);
            while self.engine.poll_event().is_some() {}
        }
        let seen = self.people as usize * self.publishers.len().min(streams);
        assert!(count.datagrams >= 150 * 5 * seen as u64, "everybody sees it");
    }
}

/// A subscriber's share, in a room of two publishers, who receives so many of them.
fn subscriber(offer: &str, streams: usize) -> i64 {
    let mut room = Room::new(2);
    room.admit(16, offer);
    room.film(streams);
    let before = live();
    room.admit(128, offer);
    room.film(streams);
    (live() - before) / 128
}

#[test]
fn a_subscriber_of_one_video_costs_26_kilobytes_at_most() {
    let one = subscriber(&with_one_of_each(SUBSCRIBE), 1);
    let two = subscriber(SUBSCRIBE, 2);
    println!("{one} B of live heap for each subscriber of one video, {two} B for one of two");
    assert!(one <= 26 * 1_024, "{one} B");
    // The aim is 2 kB a stream, and each of these has an audio line as well: 3 kB of the rest are the numbers of what was
    // sent, of which there are twice as many, and 4 what is negotiated for two lines.
    assert!(two <= 31 * 1_024, "{two} B");
}
