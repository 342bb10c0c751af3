//! How long a newcomer looks at black.

use std::time::Duration;

use sluicegate_tests::world::{AUDIO, Part, THREE_LAYERS, VIDEO, World, ms, publishes, secs, watches};

/// `share` of the times are no longer than this.
fn percentile(times: &[Duration], share: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted[(sorted.len() * share).div_ceil(100).max(1) - 1]
}

/// Twenty players join one after another, at any phase of the publisher's frames; how long after the answer, and
/// after its connection came up, each could decode a frame.
fn first_pictures(seed: u64, publisher: Part) -> Vec<[Duration; 2]> {
    let mut world = World::new(seed);
    world.path.delay = ms(25);
    let ada = world.join("room", "ada", publisher);
    world.connect_all(secs(2));
    world.run(secs(2));
    let mut times = Vec::new();
    for _ in 0..20 {
        let pause = world.dice.below(1_000);
        world.run(ms(1_000 + pause));
        let late = world.join("room", "late", watches(1).browser());
        let answered = world.now;
        let seen = world.run_until(secs(3), |world| !world[late].sink.pictures(ada.index).is_empty());
        assert!(seen, "it sees nothing");
        let connected = world[late].connected_at.expect("it has connected");
        times.push([world.now - answered, world.now - connected]);
        world.leave(late);
        world.forget(late);
    }
    times
}

/// A round trip that this client's ICE spends on a check of its own before it nominates. Browsers nominate with
/// the first, so that they connect, and see, so much sooner.
const NOMINATION: Duration = ms(50);

#[test]
fn twenty_late_joiners_see_a_picture_soon() {
    for seed in 1..=3 {
        for (what, part) in [("one stream", publishes(AUDIO | VIDEO)), ("three layers", publishes(AUDIO))] {
            let part = if what == "one stream" { part } else { part.layered(&THREE_LAYERS) };
            let times = first_pictures(seed, part);
            let [answered, connected] =
                [0, 1].map(|since| times.iter().map(|times| times[since]).collect::<Vec<_>>());
            let (half, most) = (percentile(&answered, 50), percentile(&answered, 95));
            println!(
                "seed {seed}, {what}: p50 {half:?}, p95 {most:?} after the answer; {:?}, {:?} after connecting",
                percentile(&connected, 50),
                percentile(&connected, 95)
            );
            assert!(half.saturating_sub(NOMINATION) <= ms(250), "{half:?}");
            assert!(most.saturating_sub(NOMINATION) <= ms(500), "{most:?}");
        }
    }
}
