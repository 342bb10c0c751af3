//! Many in one room: what one of them suffers or does concerns nobody else.

use std::time::{Duration, Instant};

use sluicegate_tests::world::decoder::{Decoded, longest_gap};
use sluicegate_tests::world::{AUDIO, Seat, THREE_LAYERS, VIDEO, Wire, World, ms, publishes, secs, watches};

/// What `me` saw of `other` from `since` on.
fn pictures(world: &World, me: Seat, other: Seat, since: Instant) -> Vec<Decoded> {
    let pictures = world[me].sink.pictures(other.index);
    pictures.into_iter().filter(|picture| picture.at >= since).collect()
}

#[test]
fn one_on_a_thin_line_of_twenty() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        world.path.delay = ms(25);
        let ada = world.join("room", "ada", publishes(AUDIO).layered(&THREE_LAYERS));
        let wims: Vec<Seat> =
            (0..20).map(|n| world.join("room", &format!("w{n}"), watches(1).browser())).collect();
        world.connect_all(secs(2));
        world.run(secs(3));
        let keyframes = |world: &World| world[ada].layers.iter().map(|layer| layer.keyframes).sum::<u64>();
        let before = (world.now, keyframes(&world));
        let (thin, others) = wims.split_first().expect("there are twenty");
        world.link(thin.downlink).rate = Some(600_000);
        world.link(thin.downlink).queue = ms(300);
        world.run(secs(20));
        let extra = keyframes(&world) - before.1;
        let seen = pictures(&world, *thin, ada, before.0);
        println!(
            "seed {seed}: {extra} keyframes; the thin one: {:?} at most without a picture, layer {:?} in the end",
            longest_gap(&seen),
            seen.last().map(|picture| picture.layer)
        );
        for other in others {
            let seen = pictures(&world, *other, ada, before.0);
            let gap = longest_gap(&seen);
            assert!(gap <= ms(50), "{gap:?} without a picture");
            assert!(seen.iter().all(|picture| picture.layer == 2), "the best there is");
            assert!(seen.len() >= 595, "{} pictures", seen.len());
        }
        assert!(extra <= 2, "{extra} keyframes more in 20 s");
    }
}

/// Most keyframe requests that a publisher heard in any `window`.
fn most_requests(times: &[Instant], window: Duration) -> usize {
    let within = |first: &Instant| times.iter().filter(|at| **at >= *first && **at < *first + window).count();
    times.iter().map(within).max().unwrap_or(0)
}

#[test]
fn one_comes_and_one_goes_every_second() {
    let (publishers, seeds) = match std::env::var_os("SLUICEGATE_LONG") {
        Some(_) => (30, 1..=3),
        None => (12, 1..=2),
    };
    for seed in seeds {
        let mut world = World::new(seed);
        let part = || publishes(VIDEO).at(200_000);
        let stay: Vec<Seat> = (0..publishers).map(|n| world.join("room", &format!("p{n}"), part())).collect();
        let mut guests: Vec<Seat> = (0..2).map(|n| world.join("room", &format!("g{n}"), part())).collect();
        world.connect_all(secs(3));
        world.run(secs(3));
        let begun = world.now;
        for turn in 0..20 {
            guests.push(world.join("room", &format!("n{turn}"), part()));
            let pause = world.dice.below(400);
            world.run(ms(300 + pause));
            let gone = guests.remove(0);
            world.leave(gone);
            world.forget(gone);
            world.run(ms(700 - pause));
        }
        let mut worst = (0, Duration::ZERO);
        for me in &stay {
            let wire = world[*me].tap.wire();
            let plis: Vec<Instant> =
                Wire::plis(&wire.received).into_iter().filter(|at| *at >= begun).collect();
            worst.0 = worst.0.max(most_requests(&plis, secs(5)));
            for other in stay.iter().filter(|other| *other != me) {
                let seen = pictures(&world, *me, *other, begun);
                assert!(seen.len() > 590, "{} pictures", seen.len());
                worst.1 = worst.1.max(longest_gap(&seen));
            }
        }
        println!(
            "seed {seed}, {publishers} publishers: {} requests in 5 s at most, {:?} at most without a picture",
            worst.0, worst.1
        );
        assert!(worst.0 <= 10, "{} requests in 5 s", worst.0);
        assert!(worst.1 <= ms(300), "{:?} without a picture", worst.1);
    }
}
