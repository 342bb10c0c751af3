//! Publishers that are told a cap, and those that do not listen.

use std::time::Instant;

use sluicegate::sans_io::DropKind;
use sluicegate::{Bitrate, CapCause, DropReason, PeerEvent};
use sluicegate_tests::world::{AUDIO, Seat, VIDEO, World, ms, publishes, secs, watches};

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
