//! Getting connected over links that lose, with every profile a client may offer.

use std::cell::Cell;
use std::rc::Rc;

use sluicegate::LeaveReason;
use sluicegate::PeerEvent;
use sluicegate::sans_io::SrtpProfile;
use sluicegate_tests::world::client::SrtpProtectionProfile as Offered;
use sluicegate_tests::world::{AUDIO, ENGINE, VIDEO, Verdict, World, ms, publishes, secs};

fn is_dtls(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(20..=63))
}

/// Loses the `lost`th DTLS flight of one side, once. Whether there was such a flight.
fn lose_flight(world: &mut World, from_server: bool, lost: usize) -> Rc<Cell<bool>> {
    let hit = Rc::new(Cell::new(false));
    let (said, mut flight, mut speaker) = (hit.clone(), 0, None);
    world.intercept(move |_, datagram| {
        if !is_dtls(&datagram.bytes) {
            return Verdict::pass();
        }
        let server = datagram.from == ENGINE;
        if speaker != Some(server) {
            flight += usize::from(server == from_server);
            speaker = Some(server);
        }
        if server == from_server && flight == lost + 1 {
            said.set(true);
            return Verdict::lose();
        }
        Verdict::pass()
    });
    hit
}

#[test]
fn a_lost_flight_of_either_side_costs_no_second() {
    let mut slow = Vec::new();
    for seed in 1..=3 {
        for (from_server, flights) in [(true, 3), (false, 3)] {
            for lost in 0..flights {
                let mut world = World::new(seed);
                let ada = world.join("room", "ada", publishes(AUDIO));
                let hit = lose_flight(&mut world, from_server, lost);
                world.run(secs(12));
                let took = world[ada].connect_time();
                let heard = world[ada].peer.is_some();
                assert!(hit.get() && heard, "server {from_server}, flight {lost}");
                if took.is_none_or(|took| took > ms(1_200)) {
                    slow.push((seed, from_server, lost, took));
                }
            }
        }
    }
    assert_eq!(slow, [], "(seed, from the server, flight, connected after)");
}

#[test]
fn handshakes_finish_on_bad_links() {
    for seed in 1..=5 {
        let mut world = World::new(seed);
        let seats: Vec<_> =
            (0..4).map(|n| world.join("room", &format!("p{n}"), publishes(AUDIO))).collect();
        for seat in &seats {
            for link in [seat.uplink, seat.downlink] {
                world.lose(link, 0.15);
                world.link(link).jitter = ms(30);
                world.link(link).reorder = 0.05;
                world.link(link).duplicate = 0.05;
            }
        }
        world.connect_all(secs(20));
    }
}

fn profile_of(offered: Option<&[Offered]>) -> [u64; 3] {
    let mut world = World::new(1);
    let mut part = publishes(AUDIO | VIDEO);
    if let Some(offered) = offered {
        part = part.profiles(offered);
    }
    let ada = world.join("room", "ada", part);
    let bob = world.join("room", "bob", publishes(AUDIO | VIDEO));
    world.connect_all(secs(2));
    world.run(secs(2));
    for (me, other) in [(ada, bob), (bob, ada)] {
        assert!(world[me].sink.packets_from(other.index, true) > 50, "media flows both ways");
        assert_eq!(world[me].sink.discontinuities(), [""; 0]);
    }
    let of = |profile| world.counters().srtp_sessions[profile as usize];
    [of(SrtpProfile::AesGcm128), of(SrtpProfile::AesGcm256), of(SrtpProfile::AesCm80)]
}

#[test]
fn gcm_is_chosen_whatever_comes_first_and_cm_is_the_fallback() {
    use Offered::{
        Srtp_Aead_Aes_128_Gcm as Gcm128, Srtp_Aead_Aes_256_Gcm as Gcm256, Srtp_Aes128_Cm_Hmac_Sha1_80 as Cm80,
    };
    assert_eq!(profile_of(None), [2, 0, 0], "the stack's own order");
    assert_eq!(profile_of(Some(&[Cm80, Gcm256, Gcm128])), [2, 0, 0], "CM first");
    assert_eq!(profile_of(Some(&[Cm80])), [1, 0, 1], "CM only");
    assert_eq!(profile_of(Some(&[Gcm256])), [1, 1, 0], "GCM-256 only");
}

#[test]
fn a_client_without_gcm_is_refused_where_gcm_is_required() {
    let mut world = World::with(1, |config| config.require_gcm = true);
    let part = publishes(AUDIO).profiles(&[Offered::Srtp_Aes128_Cm_Hmac_Sha1_80]);
    let ada = world.join("room", "ada", part);
    let bob = world.join("room", "bob", publishes(AUDIO));
    world.run(secs(40));
    let left = PeerEvent::Left(LeaveReason::DtlsFailed);
    assert_eq!(world[ada].told(|event| *event == left).len(), 1, "{:?}", world[ada].events);
    assert!(!world[ada].is_connected() && world[bob].is_connected());
    assert_eq!(world.counters().srtp_sessions, [1, 0, 0]);
    assert_eq!(world.engine.footprint()[..2], [1, 1]);
}
