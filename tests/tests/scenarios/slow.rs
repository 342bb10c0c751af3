//! Subscribers and sockets that do not take what they are sent.

use sluicegate::sans_io::DropKind;
use sluicegate::{DropReason, LeaveReason, MediaKind, PeerEvent};
use sluicegate_tests::world::{AUDIO, VIDEO, World, ms, publishes, secs, watches};

#[test]
fn a_dead_subscriber_costs_nobody_else() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let ada = world.join("room", "ada", publishes(AUDIO | VIDEO));
        let dead = world.join("room", "dead", watches(1));
        let wim = world.join("room", "wim", watches(1));
        world.connect_all(secs(2));
        world.run(secs(1));
        world[dead].silent = true;
        world.run(secs(35));
        let expired = PeerEvent::Left(LeaveReason::ConsentExpired);
        assert_eq!(world[dead].told(|event| *event == expired).len(), 1);
        assert_eq!(world[wim].sink.missing(), 0);
        assert_eq!(world[wim].sink.discontinuities(), [""; 0]);
        assert!(world[wim].sink.packets_from(ada.index, false) > 1_700);
        assert_eq!(world.engine.footprint()[..2], [2, 1]);
    }
}

#[test]
fn a_subscriber_on_a_thin_line_costs_nobody_else() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let ada = world.join("room", "ada", publishes(AUDIO | VIDEO));
        let thin = world.join("room", "thin", watches(1));
        let wim = world.join("room", "wim", watches(1));
        world.connect_all(secs(2));
        world.link(thin.downlink).rate = Some(64_000);
        world.run(secs(10));
        assert_eq!(world[wim].sink.missing(), 0);
        assert_eq!(world[wim].sink.discontinuities(), [""; 0]);
        assert!(world[thin].sink.missing() > 100, "the line did lose");
        assert_eq!(world[thin].sink.forged, 0);
        assert!(world[wim].sink.packets_from(ada.index, true) > 500);
    }
}

#[test]
fn a_full_socket_delays_and_loses_nothing() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let ada = world.join("room", "ada", publishes(AUDIO | VIDEO));
        let bob = world.join("room", "bob", publishes(AUDIO | VIDEO));
        let wim = world.join("room", "wim", watches(2));
        world.connect_all(secs(2));
        world.run(secs(1));
        for _ in 0..60 {
            // Full at any point of a flush, then for a while.
            world.outlet.credit = Some(world.dice.below(8) as usize);
            let pause = world.dice.below(60);
            world.run(ms(pause));
            world.outlet.credit = None;
            world.flush();
            let pause = world.dice.below(40);
            world.run(ms(pause));
        }
        world.run(ms(500));
        for me in [ada, bob, wim] {
            assert_eq!(world[me].sink.missing(), 0, "{}", world[me].name);
            assert_eq!(world[me].sink.duplicates(), 0, "nothing goes twice");
            assert_eq!(world[me].sink.forged, 0);
            for stream in world[me].sink.streams.values() {
                assert!(stream.windows(2).all(|pair| pair[1].seq == pair[0].seq + 1), "order is kept");
            }
        }
        for kind in [DropKind::Audio, DropKind::Video] {
            assert_eq!(world.dropped_out(kind, DropReason::QueueFull), 0);
        }
    }
}

#[test]
fn a_socket_that_stays_full_is_bounded_and_recovers_with_a_keyframe() {
    for seed in 1..=3 {
        let mut world = World::with(seed, |config| config.limits.queue = 64);
        let ada = world.join("room", "ada", publishes(AUDIO | VIDEO));
        let wims = [0, 1, 2].map(|n| world.join("room", &format!("w{n}"), watches(1)));
        world.connect_all(secs(2));
        world.run(secs(2));
        world.outlet.full = true;
        world.run(secs(3));
        let queued: u64 = world.counters().gauges.queued.iter().sum();
        // A run that blocked waits besides its queue.
        assert!(queued <= 3 * 64 + 2 * 64, "{queued} queued");
        assert!(world.dropped_out(DropKind::Video, DropReason::QueueFull) > 0);
        for kind in [MediaKind::Audio, MediaKind::Video] {
            assert_eq!(world.counters().unaccounted(kind), 0, "also while they wait");
        }
        world.outlet.full = false;
        world.flush();
        let resumed = world.now;
        world.run(secs(2));
        for wim in wims {
            let keyframe = world[wim]
                .sink
                .from(ada.index, true)
                .find(|seen| seen.content.keyframe && seen.at > resumed + ms(20));
            let after = keyframe.map(|seen| seen.at - resumed);
            assert!(after < Some(ms(1_000)) && after.is_some(), "a keyframe within a second: {after:?}");
            assert!(world[wim].sink.packets_between(ada.index, true, world.now - secs(1), world.now) > 25);
            assert_eq!(world[wim].sink.duplicates(), 0);
        }
        assert_eq!(world.counters().gauges.queued, [0, 0]);
    }
}

#[test]
fn a_refused_send_is_booked_and_costs_one_peer() {
    let mut world = World::new(1);
    let ada = world.join("room", "ada", publishes(AUDIO | VIDEO));
    let gone = world.join("room", "gone", watches(1));
    let wim = world.join("room", "wim", watches(1));
    world.connect_all(secs(2));
    world.outlet.refuses = Some(world[gone].addr);
    world.run(secs(3));
    assert!(world.dropped_out(DropKind::Video, DropReason::SendError) > 50);
    assert!(world[wim].sink.packets_from(ada.index, true) > 100);
    assert_eq!(world[wim].sink.missing(), 0);
}
