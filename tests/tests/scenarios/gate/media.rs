//! Media under wrong keys, wrong numbers and wrong names: T07, T09 to T11, T17.

use std::cell::Cell;
use std::rc::Rc;

use rtp::header::{Extension, Header};
use rtp::packet::Packet;
use sluicegate::DropReason;
use sluicegate::sans_io::DropKind;
use sluicegate_tests::world::{AUDIO, ENGINE, VIDEO, Verdict, World, ms, publishes, secs, stranger};

use super::datagram::{is_rtcp, is_rtp, rtp};
use super::mallory::Mallory;
use super::room::Room;

#[test]
fn t07_forged_media_goes_nowhere() {
    for seed in 1..=3 {
        let (mut world, room) = Room::settled(seed);
        let before = world.engine.footprint();
        let [ada, _] = room.publishers;
        let (addr, ssrc) = (world[ada].addr, world[ada].video.as_ref().expect("a camera").ssrc);
        for n in 0..1_000u32 {
            let mut packet = vec![0x80, 96, (n >> 8) as u8, n as u8, 0, 0, 0, 9];
            // Her own SSRC from elsewhere and from her address, and every other one.
            packet.extend(ssrc.to_be_bytes());
            packet.extend(world.dice.bytes(200));
            world.inject(stranger(n as u16 % 7), &packet);
            world.inject(addr, &packet);
            packet[8..12].copy_from_slice(&(ssrc ^ (n + 1)).to_be_bytes());
            world.inject(addr, &packet);
            world.run(ms(1));
        }
        world.run(secs(1));
        room.is_unharmed(&world);
        assert_eq!(world.dropped_in(DropKind::Other, DropReason::UnknownPeer), 1_000);
        let unknown = world.dropped_in(DropKind::Other, DropReason::UnknownSsrc);
        // A number behind the window is refused before its tag is looked at.
        let stale = world.dropped_in(DropKind::Video, DropReason::SrtpReplay);
        assert_eq!(world.dropped_in(DropKind::Other, DropReason::SrtpAuth) + stale + unknown, 2_000);
        assert!(unknown >= 950, "all but 16 a second are not even tried: {unknown}");
        assert_eq!(world.engine.footprint(), before);
    }
}

#[test]
fn t07_replayed_media_with_new_numbers_goes_nowhere() {
    for seed in 1..=3 {
        let (mut world, room) = Room::settled(seed);
        let auth = world.dropped_in(DropKind::Other, DropReason::SrtpAuth);
        let count = Rc::new(Cell::new(0));
        let counted = count.clone();
        world.intercept(move |_, honest| {
            if honest.to != ENGINE || !is_rtp(&honest.bytes) {
                return Verdict::pass();
            }
            counted.set(counted.get() + 1);
            let mut forged = honest.clone();
            forged.bytes[3] = forged.bytes[3].wrapping_add(1);
            Verdict { inject: vec![forged], ..Verdict::default() }
        });
        world.run(secs(2));
        room.is_unharmed(&world);
        let refused = world.dropped_in(DropKind::Other, DropReason::SrtpAuth) - auth;
        assert!(count.get() > 200);
        assert_eq!(refused, count.get());
    }
}

#[test]
fn t09_replays_are_refused_also_across_the_wrap() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let room = Room::enter(&mut world);
        let [ada, bob] = room.publishers;
        // It wraps within the first second or so; RFC 3711 §3.3.1 advises against, and peers do it.
        world[ada].video.as_mut().expect("a camera").set_sequence(65_500);
        let counts = Rc::new(Cell::new((0u64, 0u64)));
        let (counted, mut old) = (counts.clone(), Vec::new());
        world.intercept(move |_, honest| {
            if honest.to != ENGINE || !(is_rtp(&honest.bytes) || is_rtcp(&honest.bytes)) {
                return Verdict::pass();
            }
            let (mut rtp, mut rtcp) = counted.get();
            old.push(honest.clone());
            let mut follow = vec![honest.clone(); if old.len() % 50 == 0 { 100 } else { 1 }];
            // From far behind, too.
            follow.extend(old.len().checked_sub(300).map(|at| old[at].clone()));
            for replayed in &follow {
                if is_rtp(&replayed.bytes) {
                    rtp += 1;
                } else {
                    rtcp += 1;
                }
            }
            counted.set((rtp, rtcp));
            Verdict { follow, ..Verdict::default() }
        });
        world.connect_all(secs(2));
        world.run(secs(4));
        room.is_unharmed(&world);
        assert!(world[bob].sink.packets_from(ada.index, true) > 200);
        let (rtp, rtcp) = counts.get();
        let replayed = |kind| world.dropped_in(kind, DropReason::SrtpReplay);
        assert_eq!(replayed(DropKind::Audio) + replayed(DropKind::Video), rtp);
        assert_eq!(replayed(DropKind::Rtcp), rtcp);
    }
}

#[test]
fn t11_anothers_ssrc_is_ones_own_business() {
    for seed in 1..=3 {
        let (mut world, room) = Room::settled(seed);
        let [ada, _] = room.publishers;
        let ssrcs =
            [&world[ada].audio, &world[ada].video].map(|source| source.as_ref().expect("it publishes").ssrc);
        let mut twins = Vec::new();
        for (name, room) in [("twin", "control"), ("far", "elsewhere")] {
            let mut part = publishes(AUDIO | VIDEO);
            part.ssrcs = Some(ssrcs);
            twins.push(world.join(room, name, part));
        }
        for (n, ssrc) in [0, u32::MAX].into_iter().enumerate() {
            let mut part = publishes(VIDEO);
            part.ssrcs = Some([ssrc, ssrc]);
            twins.push(world.join("control", &format!("odd{n}"), part));
        }
        world.run(secs(4));
        // Somebody who announces nothing of the kind sends as ada, as her repairs, and as nobody.
        let mut mallory = Mallory::publishing(&mut world, "control", 900);
        let [audio, video] = ssrcs;
        for n in 0..300u16 {
            for (at, ssrc) in [audio, video, video.wrapping_add(1), 0, u32::MAX].into_iter().enumerate() {
                let seq = 5 * n + at as u16;
                let packet = rtp(Mallory::VP8, seq, ssrc, &[0x90, 0x80, 0x80, 1, 0x10, 0, 0, 7]);
                mallory.send_rtp(&mut world, seq.into(), &packet);
            }
            world.run(ms(5));
        }
        room.is_unharmed_by_publishers(&world);
        let seen = world[ada].sink.packets_from(twins[0].index, true);
        assert!(seen > 100, "the twin is heard as itself: {seen}");
        assert_eq!(world[ada].sink.packets_from(twins[1].index, true), 0);
    }
}

#[test]
fn t17_extension_bombs_harm_nobody() {
    for seed in 1..=3 {
        let (mut world, room) = Room::settled(seed);
        let mallory = world.join("control", "mallory", publishes(AUDIO | VIDEO));
        world.run(secs(2));
        room.is_unharmed(&world);
        let ssrc = world[mallory].video.as_ref().expect("a camera").ssrc;
        let mut number = 20_000u16;
        let seen = |world: &World| -> u64 {
            let malformed =
                [DropKind::Video, DropKind::Other].map(|kind| world.dropped_in(kind, DropReason::Malformed));
            world.counters().ingress.packets[1][0] + malformed.iter().sum::<u64>()
        };
        let arrived = seen(&world);
        let honest = |world: &World| -> u64 {
            let sources = room.publishers.into_iter().chain([mallory]);
            sources.map(|seat| world[seat].video.as_ref().expect("a camera").packets()).sum()
        };
        let sent = honest(&world);
        for n in 0..200u32 {
            let raw = |profile, payload: Vec<u8>| Header {
                extension: true,
                extension_profile: profile,
                extensions: vec![Extension { id: 0, payload: payload.into() }],
                ..Header::default()
            };
            let element = |id, payload: Vec<u8>| Header {
                extension: true,
                extension_profile: 0xbede,
                extensions: vec![Extension { id, payload: payload.into() }],
                ..Header::default()
            };
            let headers = [
                // Elements that promise more than the block holds.
                raw(0x1000 | (n as u16 & 0xf), vec![1, 255, 0, 0]),
                raw(0x1001, vec![3, 200, 1, 2, 3, 4, 5, 6]),
                raw(0x1002, world.dice.bytes(64)),
                element(15, world.dice.bytes(4)),
                element(1, world.dice.bytes(16)),
                Header { csrc: vec![7; 15], ..raw(0xffff, world.dice.bytes(1_000)) },
                // Padding of length zero, and longer than the payload.
                Header { padding: true, ..Header::default() },
            ];
            for header in headers {
                number = number.wrapping_add(1);
                let header = Header { version: 2, payload_type: 96, sequence_number: number, ssrc, ..header };
                let payload = vec![if n % 2 == 0 { 0 } else { 255 }; 40];
                let packet = Packet { header, payload: payload.into() };
                world[mallory].tap.wire().smuggled.push(packet);
            }
            world.run(ms(20));
        }
        world.run(ms(200));
        assert_eq!(world.counters().panics, [0; 3]);
        let arrived = seen(&world) - arrived;
        let bombs = arrived.saturating_sub(honest(&world) - sent);
        // The others fall to the replay window: their numbers leap about.
        assert!(bombs > 300, "{bombs} of 1 400 got past the replay window");
        room.is_unharmed_by_publishers(&world);
    }
}
