//! Strangers and forgers around a DTLS handshake: T01 to T03.

use std::net::SocketAddr;
use std::time::Duration;

use sluicegate_tests::world::dice::Dice;
use sluicegate_tests::world::{
    AUDIO, Datagram, ENGINE, VIDEO, Verdict, World, ms, publishes, secs, stranger,
};

use super::datagram::{bad_client_hello, dtls_record, handshake_message, is_dtls};
use super::room::Room;

/// Joins a room of two with `hostile` datagrams around each honest DTLS datagram to the engine, from the
/// given address or, without one, from the client's own, while the honest room goes on. How long the slower
/// one took.
fn handshake_under(
    seed: u64,
    from: Option<SocketAddr>,
    mut hostile: impl FnMut(&mut Dice) -> Vec<Vec<u8>> + 'static,
) -> Duration {
    let (mut world, room) = Room::settled(seed);
    let mut dice = Dice::new(seed);
    world.intercept(move |_, honest| {
        if !is_dtls(&honest.bytes) || honest.to != ENGINE {
            return Verdict::pass();
        }
        let from = from.unwrap_or(honest.from);
        let mut make = || {
            let bytes = hostile(&mut dice).into_iter();
            bytes.map(|bytes| Datagram { from, to: ENGINE, bytes }).collect::<Vec<_>>()
        };
        Verdict { inject: make(), follow: make(), lost: false }
    });
    let before = world.engine.footprint();
    let newcomers = ["yan", "zoe"].map(|name| world.join("room", name, publishes(AUDIO | VIDEO)));
    world.run(secs(3));
    let [yan, zoe] = newcomers;
    for (me, other) in [(yan, zoe), (zoe, yan)] {
        assert!(world[me].sink.packets_from(other.index, true) > 50, "connected counts when media flows");
        assert_eq!(world[me].sink.missing(), 0);
        assert_eq!(world[me].sink.forged, 0);
    }
    assert_eq!(world.engine.footprint()[..3], [before[0] + 2, before[1] + 1, before[2] + 2]);
    room.is_unharmed(&world);
    newcomers.into_iter().filter_map(|seat| world[seat].connect_time()).max().expect("both connect")
}

#[test]
fn t01_client_hello_races_are_lost() {
    for seed in 1..=2 {
        let calm = handshake_under(seed, Some(stranger(1)), |_| Vec::new());
        for from in [Some(stranger(1)), None] {
            let took = handshake_under(seed, from, |dice| vec![bad_client_hello(dice)]);
            // One round trip is 20 ms.
            assert!(took <= calm + ms(20), "{took:?} instead of {calm:?} from {from:?}");
        }
    }
}

#[test]
fn t02_plaintext_alerts_say_nothing() {
    let fatal = dtls_record(21, &[2, 40]);
    let close_notify = dtls_record(21, &[1, 0]);
    assert_eq!(fatal.len(), 15);
    for seed in 1..=2 {
        let calm = handshake_under(seed, Some(stranger(1)), |_| Vec::new());
        for from in [Some(stranger(1)), None] {
            let alerts = vec![fatal.clone(), close_notify.clone()];
            let took = handshake_under(seed, from, move |_| alerts.clone());
            assert!(took <= calm + ms(20), "{took:?} instead of {calm:?} from {from:?}");
        }
    }
}

#[test]
fn t03_fragment_bombs_do_not_stop_a_handshake() {
    for seed in 1..=2 {
        for from in [Some(stranger(1)), None] {
            let mut left = 2_000;
            let took = handshake_under(seed, from, move |dice| {
                let bombs = std::mem::take(&mut left);
                (0..bombs).map(|_| handshake_message(11, 0xff_ffff, &dice.bytes(3))).collect()
            });
            assert!(took <= ms(600), "{took:?} from {from:?}");
        }
    }
}

/// The flood does not wait for an honest datagram: 10 000 a second, from strangers or from the clients' own
/// addresses. How long the slower of two handshakes took.
fn handshake_in_a_flood(own: bool, per_turn: u16) -> Duration {
    let (mut world, room) = Room::settled(1);
    let before = world.engine.footprint();
    let [yan, zoe] = ["yan", "zoe"].map(|name| world.join("room", name, publishes(AUDIO | VIDEO)));
    let refused = |world: &World| -> u64 { world.counters().dropped[0].iter().flatten().sum() };
    let already = refused(&world);
    let addresses = [world[yan].addr, world[zoe].addr];
    for n in 0..2_000u16 {
        for k in 0..per_turn {
            let hello = bad_client_hello(&mut world.dice);
            let from = if own { addresses[usize::from(k % 2)] } else { stranger((n + k) % 1_000) };
            world.inject(from, &hello);
        }
        world.run(Duration::from_micros(500));
    }
    for (me, other) in [(yan, zoe), (zoe, yan)] {
        assert!(world[me].sink.packets_from(other.index, true) > 10, "connected counts when media flows");
    }
    let sent = 2_000 * u64::from(per_turn);
    assert!(own || refused(&world) - already >= sent, "refused before DTLS sees them");
    assert_eq!(world.engine.footprint()[0], before[0] + 2);
    room.is_unharmed(&world);
    [yan, zoe].into_iter().filter_map(|seat| world[seat].connect_time()).max().expect("both connect")
}

#[test]
fn t01_handshakes_finish_under_ten_thousand_hellos_a_second() {
    let calm = handshake_in_a_flood(false, 0);
    for own in [false, true] {
        let took = handshake_in_a_flood(own, 5);
        assert!(took <= calm + ms(20), "{took:?} instead of {calm:?}, in their own name: {own}");
    }
}
