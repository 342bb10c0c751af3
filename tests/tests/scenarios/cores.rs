//! One room on several workers: nobody in it can tell.

use sluicegate::PeerEvent;
use sluicegate::sans_io::DropKind;
use sluicegate::{Bitrate, CapScope, DropReason, LayerLimit};
use sluicegate_tests::world::decoder::longest_gap;
use sluicegate_tests::world::{
    AUDIO, Loss, Part, Percent, Seat, THREE_LAYERS, VIDEO, Wire, World, ms, publishes, secs, watches,
};

fn two(seed: u64) -> World {
    World::of_workers(seed, 2, |_| {})
}

fn join_on(world: &mut World, worker: u16, name: &str, part: Part) -> Seat {
    world.worker = worker;
    world.join("room", name, part)
}

fn joined(world: &World, who: Seat) -> Vec<String> {
    let told = world[who].events.iter().filter_map(|(_, event)| match event {
        PeerEvent::PeerJoined(peer) => Some(peer.name.clone()),
        _ => None,
    });
    let mut names: Vec<String> = told.collect();
    names.sort();
    names
}

#[test]
fn everybody_sees_and_hears_everybody() {
    for seed in 1..=3 {
        let mut world = two(seed);
        let call = publishes(AUDIO | VIDEO);
        let ada = join_on(&mut world, 0, "ada", call.clone());
        let bob = join_on(&mut world, 1, "bob", call.clone());
        let eve = join_on(&mut world, 1, "eve", call.clone());
        let dan = join_on(&mut world, 0, "dan", call);
        world.connect_all(secs(2));
        world.run(secs(5));
        let seats = [ada, bob, eve, dan];
        for (at, me) in seats.iter().enumerate() {
            for (_, other) in seats.iter().enumerate().filter(|(other, _)| *other != at) {
                let pictures = world[*me].sink.pictures(other.index);
                let words = world[*me].sink.packets_from(other.index, false);
                assert!(
                    pictures.len() > 120 && words > 200,
                    "{me:?} of {other:?}: {} {words}",
                    pictures.len()
                );
            }
            assert_eq!(world[*me].sink.missing(), 0);
            assert_eq!(world[*me].sink.duplicates(), 0);
            assert!(world[*me].sink.discontinuities().is_empty());
            assert_eq!(joined(&world, *me).len(), 3, "{:?}", joined(&world, *me));
        }

        // One leaves, and another comes.
        world.leave(bob);
        let kim = join_on(&mut world, 1, "kim", publishes(AUDIO | VIDEO));
        world.connect_all(secs(2));
        world.run(secs(3));
        assert!(
            world[ada].told(|event| matches!(event, PeerEvent::PeerLeft(peer) if peer.name == "bob")).len()
                == 1
        );
        assert!(world[ada].sink.pictures(kim.index).len() > 60);
        assert!(
            world[kim].sink.pictures(ada.index).len() > 60 && world[kim].sink.pictures(eve.index).len() > 60
        );
    }
}

#[test]
fn rooms_stay_apart_and_nothing_is_left_of_those_who_were_there() {
    let mut world = two(1);
    let ada = join_on(&mut world, 0, "ada", publishes(AUDIO | VIDEO));
    world.worker = 1;
    let spy = world.join("other", "spy", publishes(AUDIO | VIDEO));
    let bob = join_on(&mut world, 1, "bob", publishes(AUDIO | VIDEO));
    world.connect_all(secs(2));
    world.run(secs(2));
    assert_eq!(world[spy].sink.seen().count(), 0);
    assert!(world[bob].sink.pictures(ada.index).len() > 30);
    for seat in [ada, spy, bob] {
        world.leave(seat);
    }
    world.run(secs(1));
    for worker in 0..2 {
        world.on(worker, |world| assert_eq!(world.engine.footprint(), [0; 5], "worker {worker}"));
        world.on(worker, |world| assert_eq!(world.engine.replicas(), 0, "worker {worker}"));
    }
}

#[test]
fn a_packet_crosses_once_and_repairs_are_local() {
    for seed in 1..=3 {
        let mut world = two(seed);
        world.path.delay = ms(25);
        let ada = join_on(&mut world, 0, "ada", publishes(AUDIO | VIDEO));
        let near: Vec<Seat> =
            (0..3).map(|n| join_on(&mut world, 0, &format!("n{n}"), watches(1).browser())).collect();
        let far: Vec<Seat> =
            (0..6).map(|n| join_on(&mut world, 1, &format!("f{n}"), watches(1).browser())).collect();
        world.connect_all(secs(3));
        world.run(secs(2));
        for seat in &far {
            world.link(seat.downlink).loss = Loss::Random(5.percent());
        }
        let asked = Wire::nacks(&world[ada].tap.wire().received).1;
        world.run(secs(10));
        for seat in &far {
            world.link(seat.downlink).loss = Loss::None;
        }
        world.run(secs(2));
        assert_eq!(Wire::nacks(&world[ada].tap.wire().received).1, asked, "her uplink lost nothing");
        for seat in near.iter().chain(&far) {
            let pictures = world[*seat].sink.pictures(ada.index);
            assert!(pictures.len() > 380, "{}", pictures.len());
            assert!(world[*seat].frames_missing() <= 1, "{}", world[*seat].frames_missing());
        }
    }
}

#[test]
fn layers_limits_and_keyframes_cross() {
    for seed in 1..=3 {
        let mut world = two(seed);
        let ada = join_on(&mut world, 0, "ada", publishes(AUDIO).layered(&THREE_LAYERS));
        let bob = join_on(&mut world, 1, "bob", watches(1).browser());
        world.connect_all(secs(2));
        world.run(secs(3));
        let layer = |world: &World| world[bob].sink.pictures(ada.index).last().map(|picture| picture.layer);
        assert_eq!(layer(&world), Some(2));
        let mid = world[bob].events.iter().find_map(|(_, event)| match event {
            PeerEvent::Slots(slots) => slots.iter().find(|slot| slot.kind == sluicegate::MediaKind::Video),
            _ => None,
        });
        let (mid, peer) = (mid.expect("it has a slot").mid.clone(), world.peer(bob));
        for spatial in [0, 2, 1, 2] {
            let now = world.now;
            let limit = LayerLimit { spatial, ..LayerLimit::NONE };
            world.on(1, |world| assert!(world.engine.limit_layers(now, peer, &mid, limit)));
            world.run(secs(2));
            assert_eq!(layer(&world), Some(usize::from(spatial)));
        }
        let pictures = world[bob].sink.pictures(ada.index);
        assert!(longest_gap(&pictures) <= ms(120), "{:?}", longest_gap(&pictures));
        // Her clock crosses as well: reports in bob's own timestamps.
        assert!(!Wire::of::<rtcp::sender_report::SenderReport>(&world[bob].tap.wire().received).is_empty());
        // A newcomer far from her starts from the ring there, or costs one keyframe.
        let before = Wire::plis(&world[ada].tap.wire().received).len();
        let eve = join_on(&mut world, 1, "eve", watches(1).browser());
        world.connect_all(secs(2));
        world.run(secs(1));
        assert!(world[eve].sink.pictures(ada.index).len() > 20);
        let asked = Wire::plis(&world[ada].tap.wire().received).len() - before;
        assert!(asked <= 3, "{asked} for three layers");
    }
}

#[test]
fn what_the_way_between_workers_loses_is_counted_and_mended() {
    for seed in 1..=3 {
        let mut world = two(seed);
        let ada = join_on(&mut world, 0, "ada", publishes(AUDIO | VIDEO));
        let near = join_on(&mut world, 0, "near", watches(1).browser());
        let far = join_on(&mut world, 1, "far", watches(1).browser());
        world.connect_all(secs(2));
        world.run(secs(2));
        world.crossings_lost = true;
        world.run(ms(500));
        world.crossings_lost = false;
        let since = world.now;
        world.run(secs(3));
        let lost = world.dropped_out(DropKind::Video, DropReason::QueueFull);
        assert!(lost > 20, "{lost}");
        let pictures = world[far].sink.pictures(ada.index);
        let back = pictures.iter().find(|picture| picture.at > since).expect("there is a picture").at - since;
        println!("seed {seed}: {lost} lost, a picture after {back:?}");
        assert!(back <= secs(1), "{back:?}");
        assert_eq!(world[near].sink.missing(), 0, "nobody near her notices");
        assert!(longest_gap(&world[near].sink.pictures(ada.index)) <= ms(50));
    }
}

#[test]
fn a_worker_that_begins_anew_is_forgotten_by_the_others() {
    let mut world = two(1);
    let ada = join_on(&mut world, 0, "ada", publishes(AUDIO | VIDEO));
    let bob = join_on(&mut world, 1, "bob", publishes(AUDIO | VIDEO));
    world.connect_all(secs(2));
    world.run(secs(2));
    world.on(1, |world| {
        let spare = sluicegate::sans_io::Engine::new(world.engine.config().clone());
        let failed = std::mem::replace(&mut world.engine, spare);
        world.engine = failed.begin_anew();
    });
    world.forget(bob);
    world.run(secs(1));
    assert!(
        world[ada].told(|event| matches!(event, PeerEvent::PeerLeft(peer) if peer.name == "bob")).len() == 1
    );
    assert_eq!(world.engine.replicas(), 0);
    let kim = join_on(&mut world, 1, "kim", publishes(AUDIO | VIDEO));
    world.connect_all(secs(2));
    world.run(secs(2));
    assert!(world[ada].sink.pictures(kim.index).len() > 40 && world[kim].sink.pictures(ada.index).len() > 40);
}

#[test]
fn a_room_cap_counts_those_on_other_workers() {
    let mut world = two(1);
    let ada = join_on(&mut world, 0, "ada", publishes(VIDEO).at(900_000));
    let bob = join_on(&mut world, 1, "bob", publishes(VIDEO).at(900_000));
    world.connect_all(secs(2));
    world.run(secs(2));
    for worker in 0..2 {
        let now = world.now;
        world.on(worker, |world| world.engine.set_room_cap(now, "room", Some(Bitrate::kbps(800))));
    }
    world.run(secs(4));
    for (worker, seat) in [(0, ada), (1, bob)] {
        let peer = world.peer(seat);
        let cap =
            world.on(worker, |world| world.engine.explain_cap(peer)).and_then(|caps| caps.binds_publish());
        let cap = cap.expect("it is capped");
        assert_eq!((cap.scope, cap.bitrate), (CapScope::Room, Bitrate::kbps(400)));
    }
}
