//! Publishers that are told a cap, and those that do not listen.

use std::time::Instant;

use sluicegate::sans_io::DropKind;
use sluicegate::{Bitrate, CapCause, DropReason, PeerEvent};
use sluicegate_tests::world::decoder::longest_gap;
use sluicegate_tests::world::{AUDIO, Seat, THREE_LAYERS, VIDEO, World, ms, publishes, secs, watches};

fn told(world: &World, seat: Seat, cause: CapCause) -> Vec<Instant> {
    world[seat].told(|event| matches!(event, PeerEvent::CapChanged { cause: why, .. } if *why == cause))
}

/// What a receiver got of a publisher's video in the last second, in bits.
fn video_rate(world: &World, me: Seat, other: Seat) -> f64 {
    let since = world.now - secs(1);
    let seen = world[me].sink.from(other.index, true).filter(|seen| seen.at >= since);
    seen.map(|seen| seen.len as f64 * 8.0).sum()
}

#[test]
fn who_ignores_a_cap_is_policed_and_keeps_its_voice() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let ada = world.join("room", "ada", publishes(AUDIO | VIDEO).at(960_000).stubborn());
        let wim = world.join("room", "wim", watches(1));
        world.connect_all(secs(2));
        world.run(secs(2));
        let peer = world.peer(ada);
        world.engine.set_publish_cap(world.now, peer, Some(Bitrate::kbps(500)));
        let set = world.now;
        world.run(secs(5));
        assert_eq!(told(&world, ada, CapCause::Host), [set]);
        let policing = told(&world, ada, CapCause::Policing);
        assert_eq!(policing.len(), 1);
        let after = policing[0] - set;
        assert!(after >= secs(3) && after <= ms(4_200), "{after:?}");
        for _ in 0..5 {
            world.run(secs(1));
            let rate = video_rate(&world, wim, ada);
            assert!(rate <= 550_000.0, "{rate} forwarded");
            assert!(rate >= 250_000.0, "{rate} forwarded, no more is taken than must be");
        }
        assert!(world.dropped_in(DropKind::Video, DropReason::Policed) > 100);
        assert_eq!(world.dropped_in(DropKind::Audio, DropReason::Policed), 0);
        let voice: Vec<_> = world[wim].sink.from(ada.index, false).map(|seen| seen.content.packet).collect();
        assert!(voice.windows(2).all(|pair| pair[1] == pair[0] + 1), "its audio is untouched");
        assert_eq!(world.counters().cap_violations, 1);

        // It gives in.
        world[ada].video.as_mut().expect("it has a camera").bitrate = 300_000;
        world.run(secs(5));
        assert_eq!(told(&world, ada, CapCause::Complying).len(), 1);
        let dropped = world.dropped_in(DropKind::Video, DropReason::Policed);
        world.run(secs(3));
        assert_eq!(world.dropped_in(DropKind::Video, DropReason::Policed), dropped, "nothing any more");
    }
}

#[test]
fn raising_a_cap_lifts_policing() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let part = publishes(AUDIO | VIDEO).at(960_000).stubborn().capped(Bitrate::kbps(500));
        let ada = world.join("room", "ada", part);
        let wim = world.join("room", "wim", watches(1));
        world.run(secs(6));
        assert_eq!(told(&world, ada, CapCause::Policing).len(), 1);
        let peer = world.peer(ada);
        world.engine.set_publish_cap(world.now, peer, Some(Bitrate::mbps(2)));
        world.run(ms(4_500));
        let dropped = world.dropped_in(DropKind::Video, DropReason::Policed);
        world.run(secs(2));
        assert_eq!(world.dropped_in(DropKind::Video, DropReason::Policed), dropped);
        assert_eq!(told(&world, ada, CapCause::Complying).len(), 1);
        let rate = video_rate(&world, wim, ada);
        assert!(rate > 800_000.0, "{rate} forwarded");
    }
}

#[test]
fn who_keeps_to_a_cap_is_left_alone() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let ada = world.join("room", "ada", publishes(AUDIO | VIDEO).at(960_000));
        let wim = world.join("room", "wim", watches(1));
        world.run(secs(2));
        let peer = world.peer(ada);
        world.engine.set_publish_cap(world.now, peer, Some(Bitrate::kbps(500)));
        world.run(secs(1));
        world.run(secs(8));
        let rate = video_rate(&world, wim, ada);
        assert!((300_000.0..500_000.0).contains(&rate), "{rate}");
        assert!(told(&world, ada, CapCause::Policing).is_empty());
        assert_eq!(world.dropped_in(DropKind::Video, DropReason::Policed), 0);
        assert_eq!(world[wim].sink.missing(), 0);
    }
}

/// What a publisher sends, headers and repairs included, read each 50 ms: bits in all so far.
fn sent(world: &mut World, publisher: Seat, turns: usize) -> Vec<f64> {
    let total = |world: &World| world[publisher].tap.wire().rtp_bytes_sent as f64 * 8.0;
    let mut readings = vec![total(world)];
    for _ in 0..turns {
        world.run(ms(50));
        readings.push(total(world));
    }
    readings
}

#[test]
fn three_layers_fit_under_a_cap_within_a_second_and_come_back() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        world.path.delay = ms(25);
        let ada = world.join("room", "ada", publishes(AUDIO).layered(&THREE_LAYERS));
        let wims = [0, 1, 2].map(|n| world.join("room", &format!("w{n}"), watches(1).browser()));
        world.connect_all(secs(2));
        world.run(secs(3));
        let peer = world.peer(ada);
        let free = sent(&mut world, ada, 40);
        let former = (free[40] - free[0]) / 2.0;

        let called = world.now;
        world.engine.set_publish_cap(called, peer, Some(Bitrate::kbps(500)));
        let capped = sent(&mut world, ada, 200);
        // Every second that begins 1.0 s after the call or later.
        let most = (20..=180).map(|at| capped[at + 20] - capped[at]).fold(0.0, f64::max);
        let steady = (capped[200] - capped[40]) / 8.0;

        let lifted = world.now;
        world.engine.set_publish_cap(lifted, peer, None);
        let rising = sent(&mut world, ada, 100);
        // What it sends in the quarter of a second that ends 1.5 s after the call, and in the seconds after.
        let reached = (rising[30] - rising[25]) * 4.0;
        let back = (rising[100] - rising[40]) / 3.0;
        let gaps = wims.map(|wim| {
            let pictures = world[wim].sink.pictures(ada.index);
            let layers: Vec<usize> =
                pictures.iter().filter(|it| it.at > lifted + secs(2)).map(|it| it.layer).collect();
            assert!(layers.iter().all(|layer| *layer == 2), "the best there is, soon");
            longest_gap(&pictures)
        });
        println!(
            "seed {seed}: {:.0} kb/s, capped {:.0} ({:.0} in the worst second), lifted {:.0} at 1.5 s, then {:.0}; \
             {gaps:?} at most without a picture",
            former / 1e3,
            steady / 1e3,
            most / 1e3,
            reached / 1e3,
            back / 1e3
        );
        assert!(most <= 550_000.0, "{most}");
        assert!(steady >= 350_000.0, "{steady}: no more is taken than must be");
        assert!(reached >= 0.8 * former, "{reached} of {former}");
        assert!(gaps.iter().all(|gap| *gap <= secs(1)), "{gaps:?}");
        assert_eq!(world.dropped_in(DropKind::Video, DropReason::Policed), 0, "it obeys");
    }
}
