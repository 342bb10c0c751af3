//! A busy worker lets a picture's packets wait for each other.

use std::time::Duration;

use sluicegate_tests::world::{AUDIO, Seat, VIDEO, World, ms, publishes, secs, watches};

/// How long the slowest packet took from the source to a subscriber.
fn slowest(world: &World, me: Seat, other: Seat, video: bool) -> Duration {
    let seen = world[me].sink.from(other.index, video);
    let captured = |micros| sluicegate_tests::world::clock::origin() + Duration::from_micros(micros);
    seen.map(|seen| seen.at.saturating_duration_since(captured(seen.content.captured)))
        .max()
        .unwrap_or_default()
}

/// Ten seconds with this window: what they cost in system calls, and how long video and audio took at most.
fn call(seed: u64, window: Duration) -> (u64, [Duration; 2]) {
    let mut world = World::new(seed);
    let ada = world.join("room", "ada", publishes(AUDIO | VIDEO));
    let wim = world.join("room", "wim", watches(1));
    world.connect_all(secs(2));
    // 1 ms between two packets of 1200 bytes, as a browser paces them.
    world.link(ada.uplink).rate = Some(10_000_000);
    world.run(secs(1));
    world.engine.set_window(window);
    let before = world.outlet.calls;
    world.run(secs(10));
    assert_eq!(world[wim].sink.missing(), 0);
    assert_eq!(world[wim].sink.discontinuities(), [""; 0]);
    (world.outlet.calls - before, [true, false].map(|video| slowest(&world, wim, ada, video)))
}

#[test]
fn pictures_leave_together_and_no_later_than_they_may() {
    for seed in 1..=3 {
        let (calls, [video, audio]) = call(seed, Duration::ZERO);
        let (held_calls, [held_video, held_audio]) = call(seed, ms(4));
        println!(
            "seed {seed}: {calls} calls, {held_calls} when held; {video:?} and {held_video:?}, {audio:?} and {held_audio:?}"
        );
        // Half of them are audio's, and reports.
        assert!(held_calls * 20 < calls * 17, "{held_calls} calls instead of {calls}");
        assert!(held_video <= video + ms(4), "{held_video:?}, and {video:?} when not held");
        assert!(held_audio <= audio, "{held_audio:?}: voices do not wait");
    }
}
