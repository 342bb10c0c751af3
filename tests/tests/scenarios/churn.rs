//! Coming and going in every state, and what is left of it: nothing.

use sluicegate::{LeaveReason, PeerEvent};
use sluicegate_tests::world::{AUDIO, Seat, World, ms, publishes, secs, watches};

#[test]
fn two_thousand_joins_leave_nothing_behind() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let mut seats: Vec<Seat> = Vec::new();
        let rounds = if seed == 1 { 2_000 } else { 100 };
        for n in 0..rounds {
            let room = ["red", "blue", "green", "grey", "pink"][n % 5];
            let part = if world.dice.chance(0.3) { watches(2) } else { publishes(AUDIO) };
            let part = if world.dice.chance(0.2) { part.absent() } else { part };
            // Media costs most of the time this test takes; a few senders show what it must.
            let part = if n % 10 == 0 { part } else { part.muted() };
            seats.push(world.join(room, "peer", part));
            if world.dice.chance(0.1) {
                world.run(ms(300));
            }
            let pause = world.dice.below(80);
            world.run(ms(pause));
            while seats.len() > 8 {
                let at = world.dice.below(seats.len() as u64) as usize;
                let gone = seats.swap_remove(at);
                match world.dice.below(20) {
                    // A goodbye on the wire, none, or one by signalling.
                    0..=4 => world.close(gone),
                    // Whose m-lines stay in everybody's descriptions until consent expires.
                    5 => {}
                    _ => world.leave(gone),
                }
                world.forget(gone);
            }
        }
        for seat in seats {
            world.forget(seat);
        }
        world.run(secs(31));
        assert_eq!(world.engine.footprint(), [0; 5]);
        let gauges = world.counters().gauges.clone();
        assert_eq!(gauges, Default::default(), "nobody is there");
        let ended: u64 = world.counters().sessions_ended.iter().sum();
        assert_eq!(ended, rounds as u64);
        assert_eq!(world.counters().panics, [0; 3]);
        assert!(!world.engine.has_output(world.now));
    }
}

#[test]
fn who_never_checks_is_told_unreachable_and_times_out() {
    let mut world = World::new(1);
    let ada = world.join("room", "ada", publishes(AUDIO).absent());
    let joined = world.now;
    world.run(secs(40));
    let unreachable = world[ada].told(|event| matches!(event, PeerEvent::Unreachable { .. }));
    assert_eq!(unreachable, [joined + secs(5)]);
    let left = world[ada].told(|event| matches!(event, PeerEvent::Left(_)));
    assert_eq!(left, [joined + secs(30)]);
    let timeout = PeerEvent::Left(LeaveReason::IceTimeout);
    assert_eq!(world[ada].told(|event| *event == timeout).len(), 1, "{:?}", world[ada].events);
    assert_eq!(world.engine.footprint(), [0; 5]);
}

#[test]
fn a_goodbye_on_the_wire_is_heard_at_once() {
    let mut world = World::new(1);
    let ada = world.join("room", "ada", publishes(AUDIO));
    let bob = world.join("room", "bob", publishes(AUDIO));
    world.connect_all(secs(2));
    world.close(ada);
    world.run(ms(100));
    let closed = PeerEvent::Left(LeaveReason::Closed);
    assert_eq!(world[ada].told(|event| *event == closed).len(), 1);
    assert_eq!(world[bob].told(|event| matches!(event, PeerEvent::PeerLeft(_))).len(), 1);
}
