//! A subscriber that asks for everything again, and one that lies about what it received: T14 and T15.

use std::time::Duration;

use sluicegate::sans_io::Transmission;
use sluicegate_tests::world::{Wire, World, ms, secs};

use super::datagram::is_rtp;
use super::mallory::Mallory;
use super::room::Room;

/// RTCP feedback about `media`: RFC 4585 §6.1.
fn feedback(kind: u8, format: u8, media: u32, body: &[u8]) -> Vec<u8> {
    let mut message = vec![0x80 | format, kind, 0, 0, 0, 0, 0, 1];
    message.extend(media.to_be_bytes());
    message.extend(body);
    message.resize(message.len().next_multiple_of(4), 0);
    let words = (message.len() / 4 - 1) as u16;
    message[2..4].copy_from_slice(&words.to_be_bytes());
    message
}

/// Asks for `pairs` × 17 packets, the newest of which is `newest`.
fn nack(media: u32, newest: u16, pairs: u16) -> Vec<u8> {
    let pairs = (1..=pairs).flat_map(|pair| {
        let [high, low] = newest.wrapping_sub(17 * pair - 1).to_be_bytes();
        [high, low, 0xff, 0xff]
    });
    feedback(205, 1, media, &pairs.collect::<Vec<_>>())
}

/// SSRC and number of the newest video packet among what was sent to mallory.
fn newest_video(heard: &[Vec<u8>]) -> Option<(u32, u16)> {
    let mut video = heard.iter().filter(|packet| is_rtp(packet) && packet[1] & 0x7f == Mallory::VP8);
    video.next_back().map(|packet| {
        let ssrc = packet[8..12].try_into().expect("four bytes");
        (u32::from_be_bytes(ssrc), u16::from_be_bytes([packet[2], packet[3]]))
    })
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Flood {
    /// The same seventeen, again and again.
    Repeated,
    /// The latest ones, as they come.
    Distinct,
    /// As many as a compound holds: who misses so much is helped by a keyframe.
    Wide,
    /// Numbers that were never sent.
    Invented,
}

#[test]
fn t14_a_flood_of_requests_gets_its_budget_and_no_more() {
    let rates =
        [Flood::Repeated, Flood::Distinct, Flood::Wide, Flood::Invented].map(|flood| (flood, 300_000));
    for (flood, bitrate) in rates.into_iter().chain([(Flood::Distinct, 3_000_000)]) {
        let mut world = World::new(1);
        let room = Room::enter_at(&mut world, bitrate);
        world.connect_all(secs(2));
        world.run(secs(2));
        let mut mallory = Mallory::watching(&mut world, "control", 500);
        world.run(secs(2));
        let heard = world.heard_at(mallory.client.path.remote);
        let (media, mut newest) = newest_video(&heard).expect("it is sent video");
        let before = (mallory.traffic(&world), resent(&world), keyframes_asked(&world, &room));
        let mut asked = 0;
        // A thousand a second, for ten seconds.
        for n in 0..10_000u32 {
            if n % 2_000 == 0 {
                mallory.check(&mut world);
            }
            let message = match flood {
                Flood::Repeated => nack(media, newest, 1),
                Flood::Distinct => nack(media, newest, 1),
                Flood::Wide => nack(media, newest, 60),
                Flood::Invented => nack(media, newest.wrapping_add(1_000 + n as u16), 4),
            };
            asked += mallory.send_rtcp(&mut world, &message) as u64;
            world.run(ms(1));
            let heard = world.heard_at(mallory.client.path.remote);
            if flood != Flood::Repeated
                && let Some((ssrc, number)) = newest_video(&heard)
                && ssrc == media
            {
                newest = number;
            }
        }
        let after = (mallory.traffic(&world), resent(&world), keyframes_asked(&world, &room));
        let [received, sent] = [after.0[0] - before.0[0], after.0[1] - before.0[1]];
        assert!(received >= asked);
        let repairs = after.1 - before.1;
        // Ten in ten seconds each, and a burst of ten.
        let keyframes = after.2 - before.2;
        assert!(keyframes <= 2 * 20, "{flood:?}: {keyframes} keyframes asked for");
        assert!(keyframes > 0 || flood != Flood::Wide, "honest requests look like this too");
        println!("{flood:?} at {bitrate} b/s: {asked} B asked, {repairs} B of repairs, {sent} B sent in all");
        assert!(repairs <= 2 * asked, "{flood:?}: {repairs} bytes of repairs for {asked} of requests");
        // 15 % of what it receives, as of a second ago, 100 kb/s at least, and one burst.
        let budget = (sent * 16 / 100).max(10 * 100_000 / 8) + 32 * 1024;
        assert!(repairs <= budget, "{flood:?}: {repairs} bytes of repairs of {budget}");
        match flood {
            Flood::Invented => assert_eq!(repairs, 0),
            _ => assert!(repairs > 0, "{flood:?}: honest requests look like this too"),
        }
        room.is_unharmed(&world);
    }
}

/// Bytes of repairs sent so far, to anybody. Nobody honest asks for any here.
fn resent(world: &World) -> u64 {
    world.counters().egress.bytes.iter().map(|kind| kind[Transmission::Rtx as usize]).sum()
}

/// Keyframes that the publishers were asked for so far.
fn keyframes_asked(world: &World, room: &Room) -> usize {
    room.publishers.iter().map(|seat| Wire::plis(&world[*seat].tap.wire().received).len()).sum()
}

/// The transport-wide number of a packet: extension 3 of what mallory offered.
fn transport_number(packet: &[u8]) -> Option<u16> {
    if packet[0] & 0x10 == 0 || packet.get(12..14)? != [0xbe, 0xde] {
        return None;
    }
    let words = usize::from(u16::from_be_bytes([packet[14], packet[15]]));
    let mut block = packet.get(16..16 + words * 4)?;
    while let Some((head, rest)) = block.split_first() {
        let (id, len) = (head >> 4, usize::from(head & 15) + 1);
        match id {
            0 => block = rest,
            3 => return Some(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])),
            _ => block = rest.get(len..)?,
        }
    }
    None
}

/// Transport-wide feedback on `count` packets from `base` on, all of one symbol, with these arrival deltas.
fn transport_feedback(base: u16, count: u16, n: u8, symbol: u8, deltas: &[u8]) -> Vec<u8> {
    let mut body = base.to_be_bytes().to_vec();
    body.extend(count.to_be_bytes());
    body.extend([0, n >> 4, n << 4, n]);
    // A run-length chunk: one zero bit, two of symbol, thirteen of length.
    body.extend((u16::from(symbol) << 13 | count & 0x1fff).to_be_bytes());
    body.extend(deltas);
    let padding = (4 - body.len() % 4) % 4;
    let mut message = feedback(205, 15, 2, &body);
    if padding > 0 {
        message[0] |= 0x20;
        *message.last_mut().expect("it is not empty") = padding as u8;
    }
    message
}

fn remb(exponent: u8, mantissa: u32, ssrcs: &[u32]) -> Vec<u8> {
    let mut body = b"REMB".to_vec();
    let word = (ssrcs.len() as u32) << 24 | u32::from(exponent & 63) << 18 | mantissa & 0x3_ffff;
    body.extend(word.to_be_bytes());
    body.extend(ssrcs.iter().flat_map(|ssrc| ssrc.to_be_bytes()));
    feedback(206, 15, 0, &body)
}

/// The lies, in turn.
fn lie(n: u32, base: u16, count: u16, slots: &[u32]) -> Vec<u8> {
    let count = count.clamp(1, 400);
    let small = vec![0; usize::from(count)];
    let negative: Vec<u8> = (0..count).flat_map(|_| (-8_000i16).to_be_bytes()).collect();
    match n % 8 {
        0 => transport_feedback(base, count, n as u8, 0, &[]),
        1 => transport_feedback(base, count, n as u8, 1, &small),
        2 => transport_feedback(base.wrapping_add(10_000), count, n as u8, 1, &small),
        3 => transport_feedback(base, count, n as u8, 2, &negative),
        4 => transport_feedback(base.wrapping_sub(count * 2), count, n as u8, 0, &[]),
        5 => remb(0, 0, slots),
        // 2⁶³ and somewhat less than 2⁸¹, as far as the format goes.
        6 => remb(46, 1 << 17, slots),
        _ => remb(63, 0x3_ffff, slots),
    }
}

#[test]
fn t15_who_lies_about_its_path_fools_nobody_but_itself() {
    // One lie after the other, each for itself for a while, and all in turn; of the former two when time is short.
    let short: &[u32] = &[0, 2];
    let long = [0, 1, 2, 3, 4, 5, 6, 7];
    let each = if std::env::var_os("SLUICEGATE_LONG").is_some() { &long } else { short };
    for only in each.iter().copied().map(Some).chain([None]) {
        let (mut world, room) = Room::settled(1);
        let mut mallory = Mallory::watching(&mut world, "control", 500);
        world.run(secs(1));
        let at = mallory.client.path.remote;
        let slots = mallory.slots();
        let mut base = 0;
        let talk = |world: &mut World, mallory: &mut Mallory, base: &mut u16, span: Duration, lies: bool| {
            let end = world.now + span;
            let mut received = 0;
            let mut n = 0;
            while world.now < end {
                world.run(ms(50));
                let heard = world.heard_at(at);
                received += heard.iter().filter(|packet| is_rtp(packet)).map(Vec::len).sum::<usize>();
                let mut numbers =
                    heard.iter().filter(|packet| is_rtp(packet)).filter_map(|it| transport_number(it));
                let newest = numbers.next_back().unwrap_or(*base);
                let count = newest.wrapping_sub(*base);
                n += 1;
                let message = match lies {
                    true => lie(only.unwrap_or(n), *base, count, &slots),
                    // 50 ms in ticks of 250 µs, evenly.
                    false => {
                        let deltas = vec![(200 / count.max(1)) as u8; usize::from(count.clamp(1, 400))];
                        transport_feedback(*base, count.clamp(1, 400), n as u8, 1, &deltas)
                    }
                };
                *base = newest;
                mallory.send_rtcp(world, &message);
                if n % 40 == 0 {
                    mallory.check(world);
                }
            }
            received
        };
        talk(&mut world, &mut mallory, &mut base, secs(2), false);
        let calm = talk(&mut world, &mut mallory, &mut base, secs(4), false);
        let lied = talk(&mut world, &mut mallory, &mut base, secs(8), true);
        // Never more than there is, whatever it claims to be able to take.
        assert!(lied <= calm * 2 * 11 / 10, "{only:?}: {lied} bytes in 8 s of lies, {calm} in 4 s before");
        talk(&mut world, &mut mallory, &mut base, secs(5), false);
        let after = talk(&mut world, &mut mallory, &mut base, secs(4), false);
        assert!(after >= calm * 9 / 10, "{only:?}: back to {after} of {calm} within 5 s of honesty");
        room.is_unharmed(&world);
        assert_eq!(world.counters().panics, [0; 3]);
    }
}
