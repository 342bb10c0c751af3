//! Offers and answers crossing, coming and going.

use sluicegate::{NegotiateError, OfferError, PeerEvent};
use sluicegate_tests::world::{AUDIO, Seat, VIDEO, World, publishes, secs, watches};

/// Everybody present hears everybody else present.
fn all_hear_all(world: &mut World, seats: &[Seat]) {
    world.run(secs(1));
    let since = world.now;
    world.run(secs(1));
    for me in seats {
        assert_eq!(world[*me].answers_refused, [""; 0]);
        for other in seats.iter().filter(|other| *other != me) {
            let heard = world[*me].sink.packets_between(other.index, false, since, world.now);
            assert!(heard >= 48, "{} hears {heard} of {}", world[*me].name, world[*other].name);
        }
        assert_eq!(world[*me].sink.forged, 0);
    }
}

#[test]
fn twenty_peers_come_and_go_and_all_agree_in_the_end() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let mut seats: Vec<Seat> = Vec::new();
        for n in 0..40 {
            let full = seats.len() >= 12;
            if full || (seats.len() > 2 && world.dice.chance(0.4)) {
                let at = world.dice.below(seats.len() as u64) as usize;
                let gone = seats.swap_remove(at);
                match world.dice.below(3) {
                    0 => world.close(gone),
                    _ => world.leave(gone),
                }
                world.forget(gone);
            } else {
                let sendrecv = publishes(AUDIO);
                let part = if world.dice.chance(0.5) { sendrecv } else { publishes(AUDIO).sendonly() };
                seats.push(world.join("room", &format!("p{n}"), part));
            }
            let pause = world.dice.below(150);
            world.run(std::time::Duration::from_millis(pause));
        }
        // A client that vanished with its goodbye lost in the air is given up after 30 s at the latest.
        world.connect_all(secs(2));
        all_hear_all(&mut world, &seats);
    }
}

#[test]
fn twenty_peers_hear_each_other() {
    let mut world = World::new(1);
    let seats: Vec<_> = (0..20).map(|n| world.join("room", &format!("p{n}"), publishes(AUDIO))).collect();
    world.connect_all(secs(3));
    all_hear_all(&mut world, &seats);
}

#[test]
fn glare_fails_the_clients_offer_and_recovers() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let ada = world.join("room", "ada", publishes(AUDIO));
        world.run(secs(1));
        world.hold(ada);
        let bob = world.join("room", "bob", publishes(AUDIO | VIDEO));
        let eve = world.join("room", "eve", publishes(AUDIO | VIDEO));
        world.run(secs(1));
        world.publish(ada, true);
        let glare = Err(NegotiateError::Offer(OfferError::Glare));
        assert_eq!(world.renegotiate(ada), glare);
        world.run(secs(1));
        assert_eq!(world.renegotiate(ada), glare, "nothing has changed");
        world.release(ada);
        assert_eq!(world.renegotiate(ada), Ok(()), "and now it may");
        let since = world.now;
        world.run(secs(2));
        for (me, other) in [(bob, ada), (eve, ada), (ada, bob), (ada, eve), (bob, eve)] {
            let seen = world[me].sink.packets_between(other.index, true, since, world.now);
            assert!(seen > 50, "{} sees {seen} of {}", world[me].name, world[other].name);
        }
        assert_eq!(world[ada].answers_refused, [""; 0]);
    }
}

#[test]
fn slots_fill_in_publish_order_and_are_told() {
    let mut world = World::new(1);
    let wim = world.join("room", "wim", watches(2));
    let names = ["ada", "bob", "eve"];
    let seats = names.map(|name| world.join("room", name, publishes(AUDIO | VIDEO).nothing_back()));
    world.run(secs(2));
    let carried = |world: &World| -> Vec<Option<String>> {
        let slots = world[wim].events.iter().rev().find_map(|(_, event)| match event {
            PeerEvent::Slots(slots) => Some(slots.clone()),
            _ => None,
        });
        let slots = slots.expect("slots were told");
        slots.into_iter().map(|slot| slot.publisher.map(|info| info.name)).collect()
    };
    let name = |name: &str| Some(name.to_owned());
    assert_eq!(carried(&world), [name("ada"), name("ada"), name("bob"), name("bob")]);
    assert!(world[wim].told(|event| matches!(event, PeerEvent::Offer { .. })).is_empty(), "a player");
    world.leave(seats[0]);
    world.run(secs(1));
    assert_eq!(carried(&world), [name("eve"), name("eve"), name("bob"), name("bob")]);
    assert_eq!(world[wim].sink.discontinuities(), [""; 0]);
    assert!(world[wim].sink.packets_from(seats[2].index, true) > 20);
}
