//! What is logged while junk pours in: T31. A binary with one test, because a process has one logger.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use sluicegate_tests::world::{AUDIO, ENGINE, VIDEO, World, ms, publishes, secs, stranger, watches};

/// Lines that a host might see: ours at `debug` and above, those of the libraries below us at `info` and above (at
/// `debug` they write several for each honest packet), by whichever of the two facades.
static LINES: AtomicU64 = AtomicU64::new(0);

struct Count;

impl log::Log for Count {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        let ours = metadata.target().starts_with("sluicegate");
        metadata.level() <= if ours { log::Level::Debug } else { log::Level::Info }
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            note(record.target());
        }
    }

    fn flush(&self) {}
}

impl tracing::Subscriber for Count {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        let ours = metadata.target().starts_with("sluicegate");
        *metadata.level() <= if ours { tracing::Level::DEBUG } else { tracing::Level::INFO }
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        note(event.metadata().target());
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

fn note(target: &str) {
    if LINES.fetch_add(1, Relaxed).is_multiple_of(100) {
        println!("a hundred lines, the last by {target}");
    }
}

#[test]
fn a_flood_of_junk_is_counted_and_hardly_logged() {
    static COUNT: Count = Count;
    log::set_logger(&COUNT).expect("nobody else logs here");
    log::set_max_level(log::LevelFilter::Debug);
    tracing::subscriber::set_global_default(Count).expect("nobody else subscribes here");

    let mut world = World::new(1);
    let ada = world.join("room", "ada", publishes(AUDIO | VIDEO));
    let bob = world.join("room", "bob", publishes(AUDIO | VIDEO));
    let watchers = [0, 1, 2, 3].map(|n| world.join("room", &format!("w{n}"), watches(2)));
    world.connect_all(secs(2));
    world.run(secs(2));
    let before = LINES.load(Relaxed);
    world.run(secs(1));
    let calm = LINES.load(Relaxed) - before;

    let addresses = [world[ada].addr, world[bob].addr, world[watchers[0]].addr];
    let ssrc = world[ada].video.as_ref().expect("a camera").ssrc;
    // Only the numbers matter that the junk itself is booked under: honest media goes on meanwhile.
    let dropped = |world: &World| -> u64 { world.counters().dropped[0].iter().flatten().sum() };
    let (booked, before) = (dropped(&world), LINES.load(Relaxed));
    let mut junk = 0;
    for turn in 0..1_000u32 {
        for n in 0..100u32 {
            let len = 13 + world.dice.below(200) as usize;
            let mut bytes = world.dice.bytes(len);
            let from = match n % 3 {
                0 => addresses[(n / 3) as usize % 3],
                _ => stranger((turn + n) as u16 % 20_000),
            };
            match n % 10 {
                // Checks and nothing like them.
                0 | 1 => bytes[0] = 0,
                // Media of known and of unknown streams.
                2..=5 => {
                    bytes[..2].copy_from_slice(&[0x80, 96]);
                    if n % 2 == 0 {
                        bytes[8..12].copy_from_slice(&ssrc.to_be_bytes());
                    }
                }
                6 | 7 => bytes[..2].copy_from_slice(&[0x80, 200]),
                // A protocol of nobody's.
                _ => bytes[0] = 0xff,
            }
            world.inject(from, &bytes);
            junk += 1;
        }
        world.run(ms(1));
    }
    let lines = LINES.load(Relaxed) - before;
    assert_eq!(junk, 100_000);
    println!("{lines} lines in a second of junk, {calm} in one without");
    assert!(lines.saturating_sub(calm) <= 100, "{lines} lines, {calm} without junk");
    assert_eq!(dropped(&world) - booked, junk, "each is booked once");

    // Records of DTLS in a member's name get as far as the association, if they look like its own.
    let before = LINES.load(Relaxed);
    for turn in 0..1_000u32 {
        for n in 0..100u32 {
            let mut record = vec![20 + (n % 4) as u8, 0xfe, 0xfd, 0, (n % 2) as u8, 0, 0, 0, 0];
            record.extend((turn as u16).to_be_bytes());
            record.extend([0, 48]);
            record.extend(world.dice.bytes(48));
            world.inject(addresses[n as usize % 3], &record);
        }
        world.run(ms(1));
    }
    let lines = LINES.load(Relaxed) - before;
    println!("{lines} lines in a second of records");
    assert!(lines.saturating_sub(calm) <= 100, "{lines} lines, {calm} without junk");

    for me in [ada, bob].into_iter().chain(watchers) {
        assert_eq!(world[me].sink.missing(), 0);
        assert_eq!(world[me].sink.forged, 0);
        assert_eq!(world[me].left(), None);
        assert!(world.traffic[&world[me].addr][1] > 0);
    }
    assert_eq!(world.traffic.get(&ENGINE), None);
}
