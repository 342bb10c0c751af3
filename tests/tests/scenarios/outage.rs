//! The network is gone for five seconds, and comes back.

use std::time::{Duration, Instant};

use sluicegate_tests::world::{
    AUDIO, Loss, Part, Seat, THREE_LAYERS, VIDEO, Wire, World, ms, publishes, secs, watches,
};

/// Nothing gets through to or from `who` for five seconds.
fn cut(world: &mut World, who: Seat) -> Instant {
    for link in [who.uplink, who.downlink] {
        world.lose(link, 1.0);
    }
    world.run(secs(5));
    for link in [who.uplink, who.downlink] {
        world.link(link).loss = Loss::None;
    }
    world.now
}

/// How long after `at` the viewer had a picture captured after it.
fn back(world: &World, viewer: Seat, publisher: Seat, at: Instant) -> Option<Duration> {
    let since = sluicegate_tests::world::clock::since_origin(at).as_micros() as u64;
    let pictures = world[viewer].sink.pictures(publisher.index);
    Some(pictures.iter().find(|picture| picture.captured >= since)?.at - at)
}

fn cameras() -> [(&'static str, Part); 2] {
    [("one stream", publishes(AUDIO | VIDEO)), ("three layers", publishes(AUDIO).layered(&THREE_LAYERS))]
}

fn tell(what: &str, seed: u64, backs: &[Option<Duration>], plis: usize) {
    println!("seed {seed}, {what}: back after {backs:?}, {plis} keyframe requests");
    for back in backs {
        assert!(back.is_some_and(|back| back <= secs(2)), "{back:?}");
    }
    assert!(plis <= 6, "{plis} keyframe requests");
}

#[test]
fn a_publisher_that_was_gone_for_five_seconds() {
    for seed in 1..=3 {
        for (what, part) in cameras() {
            let mut world = World::new(seed);
            world.path.delay = ms(25);
            let ada = world.join("room", "ada", part);
            let viewers = [0, 1, 2].map(|n| world.join("room", &format!("w{n}"), watches(1).browser()));
            world.connect_all(secs(2));
            let pause = world.dice.below(1_000);
            world.run(ms(3_000 + pause));
            let gone = world.now;
            let returned = cut(&mut world, ada);
            world.run(secs(8));
            let plis = Wire::plis(&world[ada].tap.wire().received);
            let plis = plis.into_iter().filter(|at| *at >= gone).count();
            tell(what, seed, &viewers.map(|viewer| back(&world, viewer, ada, returned)), plis);
        }
    }
}

#[test]
fn a_subscriber_that_was_gone_for_five_seconds() {
    for seed in 1..=3 {
        for (what, part) in cameras() {
            let mut world = World::new(seed);
            world.path.delay = ms(25);
            let ada = world.join("room", "ada", part);
            let bob = world.join("room", "bob", watches(1).browser());
            let eve = world.join("room", "eve", watches(1).browser());
            world.connect_all(secs(2));
            let pause = world.dice.below(1_000);
            world.run(ms(3_000 + pause));
            let gone = world.now;
            let returned = cut(&mut world, bob);
            world.run(secs(8));
            let plis = Wire::plis(&world[ada].tap.wire().received);
            let plis = plis.into_iter().filter(|at| *at >= gone).count();
            tell(what, seed, &[back(&world, bob, ada, returned)], plis);
            assert_eq!(world[eve].sink.missing(), 0, "nobody else is concerned");
        }
    }
}
