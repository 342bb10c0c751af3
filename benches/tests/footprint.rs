//! What a subscriber costs in memory, held against a counting allocator: live heap, in a room where media flows.

use std::alloc::System;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluicegate::Subscribe;
use sluicegate::sans_io::{Engine, Identity};
use sluicegate_benches::memory::{Camera, MemoryClient, PUBLISH, SUBSCRIBE, engine};
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
    publisher: MemoryClient,
    theirs: secure::Identity,
    people: u32,
}

impl Room {
    fn new() -> Room {
        let ours = Arc::new(Identity::generate().expect("a certificate is made"));
        let theirs = secure::Identity::generate().expect("a certificate is made");
        let (mut engine, now) = (engine(ours, 1_000), clock::now());
        let part = (PUBLISH, Subscribe::Nothing);
        let mut publisher = MemoryClient::join(&mut engine, now, "room", 0, &theirs, part);
        publisher.connect(now, &mut engine).expect("it connects");
        Room { engine, now, camera: Camera::default(), publisher, theirs, people: 0 }
    }

    fn admit(&mut self, people: u32) {
        for _ in 0..people {
            self.people += 1;
            let Room { engine, now, theirs, people, .. } = self;
            let offer = one_of_each();
            let part = (offer.as_str(), Subscribe::Slots(Default::default()));
            let mut client = MemoryClient::join(engine, *now, "room", *people, theirs, part);
            client.connect(*now, engine).expect("it connects");
            while engine.poll_event().is_some() {}
        }
    }

    /// Five seconds of video at 30 frames a second, five packets each.
    fn film(&mut self) {
        let mut count = Count::default();
        self.camera.want_keyframe();
        for _ in 0..150 {
            self.now += Duration::from_micros(33_333);
            let secure = self.publisher.secure.as_mut().expect("it is connected");
            for packet in self.camera.frame(5, 1_200) {
                let mut sealed = secure.seal(&packet).expect("it is connected");
                self.engine.handle_datagram(self.now, self.now, self.publisher.path, &mut sealed);
            }
            while self.engine.handle_timeout(self.now) {}
            self.engine.flush(self.now, &mut count);
            while self.engine.poll_event().is_some() {}
        }
        assert!(count.datagrams >= 150 * 5 * u64::from(self.people), "everybody sees it");
    }
}

/// Chromium's offer to watch, as far as the first audio and the first video.
fn one_of_each() -> String {
    let lines: Vec<&str> = SUBSCRIBE.split("m=").collect();
    let (audio, video) =
        (lines[1], lines.iter().find(|line| line.starts_with("video")).expect("it has video"));
    let mid = |line: &str| {
        line.split_once("a=mid:").expect("it has a name").1.lines().next().unwrap_or("").to_owned()
    };
    let bundle = |line: &str| match line.starts_with("a=group:BUNDLE") {
        true => format!("a=group:BUNDLE {} {}\r\n", mid(audio), mid(video)),
        false => format!("{line}\r\n"),
    };
    let head: String = lines[0].lines().map(bundle).collect();
    format!("{head}m={audio}m={video}")
}

#[test]
#[ignore = "30 563 B: 11 kB of it are the DTLS library's, which keeps its handshake"]
fn a_subscriber_of_one_video_costs_26_kilobytes_at_most() {
    let mut room = Room::new();
    room.admit(16);
    room.film();
    let before = live();
    room.admit(128);
    room.film();
    let each = (live() - before) / 128;
    println!("{each} B of live heap for each subscriber of one video");
    assert!(each <= 26 * 1_024, "{each} B");
}
