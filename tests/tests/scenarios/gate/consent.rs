//! Who may speak from where: STUN, consent, and moves. T04 to T06.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;

use sluicegate::sans_io::DropKind;
use sluicegate::{DropReason, LeaveReason, PeerEvent};
use sluicegate_tests::world::dice::Dice;
use sluicegate_tests::world::{
    AUDIO, Datagram, ENGINE, VIDEO, Verdict, client_address, ms, publishes, secs, stranger,
};

use super::datagram::{is_rtp, is_stun};
use super::mallory::Mallory;
use super::room::Room;

#[test]
fn t04_spoofed_stun_draws_nothing() {
    for seed in 1..=3 {
        let (mut world, room) = Room::settled(seed);
        let before = world.engine.footprint();
        let mut dice = Dice::new(seed);
        world.intercept(move |_, honest| {
            if honest.to != ENGINE || !is_stun(&honest.bytes) {
                return Verdict::pass();
            }
            let inject = (0..50).map(|n| {
                let mut bytes = honest.bytes.clone();
                match n % 5 {
                    // Its last eight bytes are the fingerprint, the 24 before them the integrity.
                    0 => {
                        let at = bytes.len() - 9 - dice.below(20) as usize;
                        bytes[at] ^= 1;
                    }
                    1 => bytes[1] = 3,
                    2 => bytes.truncate(20 + dice.below(bytes.len() as u64 - 20) as usize),
                    3 => bytes[24] ^= 1,
                    _ => bytes = dice.bytes(28),
                }
                bytes[0] = 0;
                Datagram { from: stranger(n), to: ENGINE, bytes }
            });
            Verdict { inject: inject.collect(), ..Verdict::default() }
        });
        world.run(secs(10));
        for n in 0..50 {
            let [received, sent] = world.traffic.get(&stranger(n)).copied().unwrap_or_default();
            assert!(received > 0 && sent == 0, "{sent} bytes out for {received} in, {n}");
        }
        assert_eq!(world.engine.footprint(), before, "0 state kept");
        room.is_unharmed(&world);
        let refused = world.dropped_in(DropKind::Other, DropReason::UnknownPeer)
            + world.dropped_in(DropKind::Other, DropReason::Malformed);
        assert!(refused > 500, "{refused} refused");
    }
}

/// 100 000 a second: without integrity, with a wrong one, of unknown methods.
#[test]
fn t04_a_flood_of_stun_draws_nothing() {
    let (mut world, room) = Room::settled(1);
    let before = world.engine.footprint();
    let seen = Rc::new(Cell::new(None));
    let keep = seen.clone();
    world.intercept(move |_, honest| {
        if honest.to == ENGINE && is_stun(&honest.bytes) {
            keep.set(Some(honest.bytes.clone()));
        }
        Verdict::pass()
    });
    world.run(secs(5));
    world.stop_intercepting();
    let check = seen.take().expect("somebody checks");
    let mut bare = check.clone();
    bare.truncate(20);
    bare[2..4].fill(0);
    // Without its fingerprint, eight bytes at the end, so that its integrity is looked at: the 20 before.
    let mut forged = check.clone();
    forged.truncate(check.len() - 8);
    forged[3] -= 8;
    let at = forged.len() - 1;
    forged[at] ^= 1;
    let mut method = check.clone();
    method[1] = 9;
    let mut named = check.clone();
    named[26] ^= 1;
    let hostile = [bare, forged, method, named];
    for _ in 0..1_000 {
        for n in 0..100u16 {
            world.inject(stranger(n), &hostile[usize::from(n) % 4]);
        }
        world.run(ms(1));
    }
    for n in 0..100 {
        let [received, sent] = world.traffic[&stranger(n)];
        assert!(received >= 20_000 && sent == 0, "{sent} bytes out for {received} in");
    }
    assert_eq!(world.engine.footprint(), before, "0 state kept");
    room.is_unharmed(&world);
}

#[test]
fn t04_a_valid_check_draws_hardly_more_than_itself() {
    let (mut world, room) = Room::settled(1);
    let mallory = Mallory::watching(&mut world, "elsewhere", 500);
    let before = mallory.traffic(&world);
    for _ in 0..1_000 {
        mallory.check(&mut world);
        world.heard_at(mallory.client.path.remote);
    }
    let after = mallory.traffic(&world);
    let [received, sent] = [after[0] - before[0], after[1] - before[1]];
    assert!(sent * 2 <= received * 3, "{sent} out for {received} in");
    room.is_unharmed(&world);
}

#[test]
fn t05_consent_expires_whatever_others_say() {
    for seed in 1..=2 {
        let (mut world, room) = Room::settled(seed);
        let eve = world.join("room", "eve", publishes(AUDIO | VIDEO));
        let fred = world.join("room", "fred", publishes(AUDIO | VIDEO));
        // All that eve says while she is there, to be said again when she is gone.
        let said = Rc::new(Cell::new(Vec::new()));
        let (keep, addr) = (said.clone(), world[eve].addr);
        world.intercept(move |_, honest| {
            if honest.from == addr && is_stun(&honest.bytes) {
                let mut all = keep.take();
                all.push(honest.bytes.clone());
                keep.set(all);
            }
            Verdict::pass()
        });
        world.connect_all(secs(2));
        world.run(secs(8));
        world.stop_intercepting();
        let said = said.take();
        assert!(said.len() > 3, "{} checks", said.len());
        world[eve].silent = true;
        let silent = world.now;
        for n in 0..300u16 {
            world.run(ms(100));
            let mut spoofed = said[usize::from(n) % said.len()].clone();
            // From elsewhere and from her address: with one bit wrong, and as she said it.
            for from in [stranger(n), addr] {
                world.inject(from, &spoofed);
            }
            let at = spoofed.len() - 20;
            spoofed[at] ^= 1;
            for from in [stranger(n), addr] {
                world.inject(from, &spoofed);
            }
        }
        assert_eq!(world.now, silent + secs(30));
        let sent = world.traffic[&addr][1];
        world.run(secs(5));
        assert_eq!(world.traffic[&addr][1], sent, "nothing goes out after 30 s");
        for n in 0..300 {
            assert_eq!(world.traffic[&stranger(n)][1], 0, "and nothing ever to strangers");
        }
        let expired = PeerEvent::Left(LeaveReason::ConsentExpired);
        let left = world[eve].told(|event| *event == expired);
        assert_eq!(left.len(), 1);
        assert!(left[0] > silent + secs(20) && left[0] <= silent + secs(30), "{:?}", left[0] - silent);
        let footprint = world.engine.footprint();
        assert_eq!(footprint[..3], [11, 2, 11], "35 s after, her resources are free");
        assert!(world[fred].is_connected());
        room.is_unharmed(&world);
    }
}

/// Whatever somebody captured of ada's and sends from elsewhere, her path stays hers.
#[test]
fn t06_captured_datagrams_hijack_nothing() {
    for seed in 1..=2 {
        let (mut world, room) = Room::settled(seed);
        let before = world.engine.footprint();
        let addresses: Vec<SocketAddr> = room.everyone().map(|seat| world[seat].addr).collect();
        let counts = Rc::new(Cell::new((0u64, 0u64)));
        let counted = counts.clone();
        world.intercept(move |_, honest| {
            if honest.to != ENGINE || !addresses.contains(&honest.from) {
                return Verdict::pass();
            }
            let (mut media, mut checks) = counted.get();
            media += u64::from(is_rtp(&honest.bytes));
            checks += u64::from(is_stun(&honest.bytes));
            counted.set((media, checks));
            // Media overtakes its original; a check comes after it, as captured ones do.
            let copy = Datagram { from: stranger(1), ..honest.clone() };
            match is_stun(&honest.bytes) {
                true => Verdict { follow: vec![copy], ..Verdict::default() },
                false => Verdict { inject: vec![copy], ..Verdict::default() },
            }
        });
        world.run(secs(6));
        let (media, checks) = counts.get();
        assert!(media > 1_000 && checks > 10, "{media} media packets, {checks} checks");
        assert_eq!(world.traffic[&stranger(1)][1], 0, "not a byte to the stranger");
        assert_eq!(world.engine.footprint(), before, "no path of a stranger's");
        assert!(world.dropped_in(DropKind::Other, DropReason::UnknownPeer) >= media + checks);
        room.is_unharmed(&world);
    }
}

/// Where the one sits who follows `honest` about.
fn shadow(honest: SocketAddr) -> SocketAddr {
    match honest {
        SocketAddr::V4(honest) => stranger(honest.ip().octets()[3].into()),
        SocketAddr::V6(_) => stranger(0),
    }
}

/// A copy of each check comes before the check itself: the stranger is answered, and media stays where it was.
#[test]
fn t06_copies_that_overtake_divert_nothing() {
    let (mut world, room) = Room::settled(1);
    let answers = Rc::new(Cell::new(0));
    let counted = answers.clone();
    world.intercept(move |_, honest| {
        if honest.to != ENGINE || !is_stun(&honest.bytes) {
            return Verdict::pass();
        }
        counted.set(counted.get() + 1);
        let copy = Datagram { from: shadow(honest.from), ..honest.clone() };
        Verdict { inject: vec![copy], ..Verdict::default() }
    });
    world.run(secs(40));
    world.stop_intercepting();
    assert!(answers.get() > 100);
    for me in room.everyone() {
        let [received, sent] = world.traffic[&shadow(world[me].addr)];
        assert!(sent * 2 <= received * 3, "{sent} bytes for {received}: answers, and no media");
    }
    room.is_unharmed(&world);
}

#[test]
fn t06_who_moves_with_ice_is_heard_again_within_a_second() {
    for seed in 1..=3 {
        let (mut world, room) = Room::settled(seed);
        let [ada, bob] = room.publishers;
        let hana = room.subscribers[5];
        for (mover, n) in [(ada, 900), (hana, 901)] {
            world.rebind(mover, client_address(n));
            let moved = world.now;
            world.restart_ice(mover).expect("the offer is taken");
            world.run(secs(3));
            let mut gaps = HashMap::new();
            for me in room.everyone() {
                for other in room.publishers.into_iter().filter(|other| *other != me) {
                    let mut heard: Vec<_> =
                        world[me].sink.from(other.index, true).map(|seen| seen.at).collect();
                    heard.sort();
                    let gap = heard.windows(2).filter(|pair| pair[1] > moved).map(|pair| pair[1] - pair[0]);
                    gaps.insert((me.index, other.index), gap.max().expect("it goes on"));
                }
            }
            let worst = gaps.values().max().expect("somebody listens");
            println!("{}: {worst:?} without media", world[mover].name);
            assert!(*worst <= secs(1), "{worst:?}");
            let concerned = |&(me, other): &(usize, usize)| [me, other].contains(&mover.index);
            let others = gaps.iter().filter(|(pair, _)| !concerned(pair)).map(|(_, gap)| gap).max();
            assert!(others.is_some_and(|gap| *gap < ms(80)), "the others notice nothing: {others:?}");
            room.goes_on(&world);
        }
        for me in [ada, bob, hana] {
            assert_eq!(world[me].sink.forged, 0);
        }
    }
}
