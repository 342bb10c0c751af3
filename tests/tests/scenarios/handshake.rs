//! Getting connected over links that lose, with every profile a client may offer.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

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
    let (said, mut flight, mut speaker, mut began) = (hit.clone(), 0, None, None::<Instant>);
    world.intercept(move |now, datagram| {
        if !is_dtls(&datagram.bytes) {
            return Verdict::pass();
        }
        let server = datagram.from == ENGINE;
        if speaker != Some(server) {
            flight += usize::from(server == from_server);
            speaker = Some(server);
        }
        // A flight is several datagrams at one instant; its repetition comes later.
        if server == from_server && flight == lost + 1 && began.is_none_or(|at| at + ms(5) > now) {
            began.get_or_insert(now);
            said.set(true);
            return Verdict::lose();
        }
        Verdict::pass()
    });
    hit
}

/// The client stack repeats a flight after a second: no server can be faster where the client must act.
const CLIENTS_TIMER: Duration = Duration::from_secs(1);

#[test]
fn a_lost_flight_of_ours_costs_half_a_second_and_one_of_the_clients_its_timer() {
    let undisturbed = {
        let mut world = World::new(1);
        let ada = world.join("room", "ada", publishes(AUDIO));
        world.run(secs(2));
        world[ada].connect_time().expect("it connects")
    };
    assert!(undisturbed < ms(500), "{undisturbed:?}");
    for seed in 1..=3 {
        for (from_server, lost) in [(true, 0), (true, 1), (true, 2), (false, 0), (false, 1), (false, 2)] {
            let mut world = World::new(seed);
            let ada = world.join("room", "ada", publishes(AUDIO));
            let hit = lose_flight(&mut world, from_server, lost);
            world.run(secs(5));
            assert!(hit.get(), "there is such a flight");
            let took = world[ada].connect_time().expect("it connects");
            // We repeat ours by our own clock; the client's it must repeat itself.
            let timer = if from_server { ms(500) } else { CLIENTS_TIMER };
            assert!(took <= undisturbed + timer, "server {from_server}, flight {lost}: {took:?}");
            assert!(!from_server || took <= secs(1), "flight {lost}: {took:?}");
        }
    }
}

#[test]
fn handshakes_finish_on_bad_links() {
    for seed in 1..=5 {
        let mut world = World::new(seed);
        let seats: Vec<_> = (0..4).map(|n| world.join("room", &format!("p{n}"), publishes(AUDIO))).collect();
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
