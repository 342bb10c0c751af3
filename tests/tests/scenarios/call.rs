//! Calls: who joins sees and hears everybody, cleanly.

use sluicegate_tests::world::{AUDIO, VIDEO, World, ms, publishes, secs};

#[test]
fn two_peers_see_and_hear_each_other() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let ada = world.join("room", "ada", publishes(AUDIO | VIDEO));
        let bob = world.join("room", "bob", publishes(AUDIO | VIDEO));
        world.connect_all(secs(2));
        world.run(secs(5));
        for (me, other) in [(ada, bob), (bob, ada)] {
            assert!(world[me].sink.packets_from(other.index, true) > 200, "video");
            assert!(world[me].sink.packets_from(other.index, false) > 200, "audio");
            assert_eq!(world[me].frames_missing(), 0);
            assert_eq!(world[me].sink.missing(), 0);
            assert_eq!(world[me].sink.duplicates(), 0);
            assert_eq!(world[me].sink.forged, 0);
            assert_eq!(world[me].sink.discontinuities(), [""; 0]);
            assert!(world[me].connect_time() < Some(ms(1_000)));
        }
    }
}
