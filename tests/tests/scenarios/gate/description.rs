//! Descriptions that are too much: T19. What they take in memory is weighed in `tests/heap.rs`.

use std::time::Duration;

use sluicegate::{JoinError, NegotiateError, PeerConfig, Subscribe};
use sluicegate_benches::clock;
use sluicegate_benches::memory::{PUBLISH, SENDRECV, SUBSCRIBE};
use sluicegate_tests::bombs::bombs;
use sluicegate_tests::world::{World, ms, secs};

use super::mallory::Mallory;
use super::room::Room;

/// In release; a hundred times as much where nothing is optimised and other tests run beside.
const PATIENCE: Duration = if cfg!(debug_assertions) { ms(500) } else { ms(5) };

const ATTEMPTS: usize = if cfg!(debug_assertions) { 2 } else { 10 };

#[test]
fn t19_description_bombs_are_taken_or_refused_at_once() {
    let (mut world, room) = Room::settled(1);
    let member = Mallory::publishing(&mut world, "elsewhere", 500);
    let peer = member.client.peer;
    let before = world.engine.footprint();
    let mut refused = 0;
    let mut slowest = (Duration::ZERO, String::new());
    for (what, bomb) in bombs(PUBLISH) {
        // The best of a few: the machine has others to serve.
        let mut took = [Duration::MAX; 3];
        for _ in 0..ATTEMPTS {
            let now = world.now;
            let config = PeerConfig::new("mallory").subscribe(Subscribe::Nothing);
            let began = clock::now();
            let joined = world.engine.join(now, "bombs", config, &bomb);
            took[0] = took[0].min(clock::now() - began);
            match joined {
                Ok((peer, _)) => world.engine.leave(now, peer),
                Err(JoinError::Offer(_)) => refused += 1,
                Err(error) => panic!("{what}: {error}"),
            }
            let began = clock::now();
            let offered = world.engine.offer(now, peer, &bomb);
            took[1] = took[1].min(clock::now() - began);
            assert!(!matches!(offered, Err(NegotiateError::Gone)), "{what}");
            let began = clock::now();
            let answered = world.engine.answer(now, peer, &bomb);
            took[2] = took[2].min(clock::now() - began);
            assert!(answered.is_err(), "{what}: nothing was asked");
        }
        // A renegotiation is read twice: first to see whether it restarts ICE.
        let longest = took[0].max(took[1] / 2).max(took[2]);
        assert!(longest <= PATIENCE, "{what}: joining, offering and answering take {took:?}");
        if longest > slowest.0 {
            slowest = (longest, what);
        }
        world.run(ms(20));
    }
    println!("slowest: {slowest:?}; {refused} joins refused");
    assert!(refused > 40 * ATTEMPTS, "{refused}");
    let after = world.engine.footprint();
    assert_eq!(after, before, "what was refused has left nothing, and what was taken has left");
    world.run(secs(1));
    room.is_unharmed(&world);
}

/// All the bombs of all browsers' offers in a row, as fast as they come: the room does not notice.
#[test]
fn t19_the_room_goes_on_under_all_of_them() {
    let mut world = World::new(2);
    let room = Room::enter(&mut world);
    world.connect_all(secs(2));
    world.run(secs(1));
    let before = world.engine.footprint();
    for offer in [SENDRECV, SUBSCRIBE] {
        for (_, bomb) in bombs(offer) {
            let now = world.now;
            if let Ok((peer, _)) = world.engine.join(now, "control", PeerConfig::new("mallory"), &bomb) {
                world.engine.leave(now, peer);
            }
            world.run(ms(10));
        }
    }
    assert_eq!(world.engine.footprint(), before);
    assert_eq!(world.counters().panics, [0; 3]);
    world.run(secs(1));
    room.is_unharmed(&world);
}
