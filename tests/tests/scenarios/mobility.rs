//! Publishers and subscribers that move, sleep and begin anew.

use std::time::{Duration, Instant};

use sluicegate::PeerEvent;
use sluicegate_tests::world::{AUDIO, Seat, VIDEO, World, client_address, ms, publishes, secs, watches};

/// The longest time since `since` in which `me` got no picture of `other`.
fn gap(world: &World, me: Seat, other: Seat, since: Instant) -> Duration {
    let mut latest = since;
    let mut longest = Duration::ZERO;
    for seen in world[me].sink.from(other.index, true).filter(|seen| seen.at >= since) {
        longest = longest.max(seen.at.saturating_duration_since(latest));
        latest = latest.max(seen.at);
    }
    longest.max(world.now - latest)
}

fn two(seed: u64) -> (World, Seat, Seat) {
    let mut world = World::new(seed);
    let ada = world.join("room", "ada", publishes(AUDIO | VIDEO));
    let bob = world.join("room", "bob", publishes(AUDIO | VIDEO));
    world.connect_all(secs(2));
    world.run(secs(2));
    (world, ada, bob)
}

#[test]
fn the_host_restarts_ice_and_media_goes_on() {
    for seed in 1..=3 {
        let (mut world, ada, bob) = two(seed);
        let offers = |world: &World| -> Vec<String> {
            let told = world[ada].events.iter().filter_map(|(_, event)| match event {
                PeerEvent::Offer { sdp } => Some(sdp.clone()),
                _ => None,
            });
            told.collect()
        };
        let before = offers(&world);
        let since = world.now;
        let peer = world.peer(ada);
        assert!(world.engine.restart_ice(world.now, peer));
        world.run(secs(5));
        let after = offers(&world);
        assert_eq!(after.len(), before.len() + 1, "one offer");
        assert_eq!(world[ada].answers_refused, [""; 0]);
        for (me, other) in [(ada, bob), (bob, ada)] {
            let gap = gap(&world, me, other, since);
            println!("seed {seed}: {} sees nothing for {gap:?}", world[me].name);
            assert!(gap <= secs(1), "{gap:?}");
        }
        // The old credentials are not needed any more: consent is on the new ones.
        world.run(secs(40));
        assert!(gap(&world, bob, ada, since) <= secs(1));
        assert_eq!(world.engine.footprint()[3], 2, "one ufrag each");
    }
}

#[test]
fn a_client_that_changes_its_address_is_followed() {
    for seed in 1..=3 {
        let (mut world, ada, bob) = two(seed);
        let since = world.now;
        // Its NAT gave it another mapping, and it does not know: its next check tells us. It nominates nothing
        // anew, so that we go on sending to where it was until it has not been heard there for a while.
        world.rebind(ada, client_address(90));
        world.run(secs(12));
        let (hers, his) = (gap(&world, ada, bob, since), gap(&world, bob, ada, since));
        println!("seed {seed}: ada sees nothing for {hers:?}, bob for {his:?}");
        assert!(his <= secs(2), "a check comes every two seconds: {his:?}");
        assert!(hers <= secs(5), "{hers:?}");
    }
}

#[test]
fn what_was_asked_on_the_old_path_is_asked_again_on_the_new_one() {
    for seed in 1..=3 {
        let (mut world, ada, _) = two(seed);
        world.rebind(ada, client_address(90));
        let wim = world.join("room", "wim", watches(2));
        world.connect_all(secs(1));
        // Asked at once, after 0.3, 0.8 and 1.8 s; the next time is two seconds later.
        world.run(ms(1_900));
        assert!(!world[wim].sink.from(ada.index, true).any(|seen| seen.content.keyframe));
        let since = world.now;
        world.restart_ice(ada).expect("it is connected");
        world.run(secs(3));
        let seen = world[wim].sink.from(ada.index, true).find(|seen| seen.content.keyframe);
        let wait = seen.expect("a keyframe comes").at - since;
        println!("seed {seed}: a keyframe after {wait:?}");
        assert!(wait <= ms(600), "{wait:?}");
    }
}

#[test]
fn a_tab_that_slept_is_seen_again_at_once() {
    for seed in 1..=3 {
        let (mut world, ada, bob) = two(seed);
        // Timers of a hidden tab stop, the network does not.
        world[ada].part.muted = true;
        world.run(secs(90));
        assert!(world[ada].is_connected());
        world[ada].part.muted = false;
        let since = world.now;
        world.run(secs(2));
        let seen = world[bob].sink.from(ada.index, true).find(|seen| seen.at > since);
        let wait = seen.expect("the picture is back").at - since;
        println!("seed {seed}: back after {wait:?}");
        assert!(wait <= ms(500), "{wait:?}");
        assert!(gap(&world, bob, ada, since + wait) <= ms(100));
        assert_eq!(world[bob].sink.discontinuities(), [""; 0]);
    }
}

#[test]
fn a_publisher_that_starts_its_numbers_over_is_followed() {
    for seed in 1..=3 {
        let (mut world, ada, bob) = two(seed);
        let since = world.now;
        // SRTP forbids to go back.
        world[ada].video.as_mut().expect("a camera").jump(20_000, 0x7000_0000);
        world.run(secs(3));
        let gap = gap(&world, bob, ada, since);
        println!("seed {seed}: nothing for {gap:?}");
        assert!(gap <= secs(1), "{gap:?}");
        assert!(world[bob].sink.packets_between(ada.index, true, since + secs(1), world.now) > 50);
        assert_eq!(world[bob].sink.duplicates(), 0);
    }
}
