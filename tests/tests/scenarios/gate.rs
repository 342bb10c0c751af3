//! Hostile datagrams, while an honest room goes on. Judged by content: `knowledge/threats.md` §3.

use std::time::Duration;

use rtcp::goodbye::Goodbye;
use rtcp::payload_feedbacks::full_intra_request::{FirEntry, FullIntraRequest};
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtcp::raw_packet::RawPacket;
use rtcp::sender_report::SenderReport;
use rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};
use rtp::header::{Extension, Header};
use rtp::packet::Packet;
use sluicegate::sans_io::DropKind;
use sluicegate::{DropReason, LeaveReason, PeerEvent};
use sluicegate_tests::world::client::SrtpProtectionProfile as Offered;
use sluicegate_tests::world::dice::Dice;
use sluicegate_tests::world::{
    AUDIO, Datagram, ENGINE, Rtcp, Seat, VIDEO, Verdict, Wire, World, ms, publishes, secs, stranger, watches,
};

/// Two publishers and four subscribers.
struct Room {
    publishers: [Seat; 2],
    subscribers: [Seat; 4],
}

fn control_room(world: &mut World) -> Room {
    let publishers = ["ada", "bob"].map(|name| world.join("control", name, publishes(AUDIO | VIDEO)));
    let subscribers = [0, 1, 2, 3].map(|n| world.join("control", &format!("w{n}"), watches(2)));
    Room { publishers, subscribers }
}

impl Room {
    fn everyone(&self) -> impl Iterator<Item = Seat> {
        self.publishers.into_iter().chain(self.subscribers)
    }

    /// Nothing was lost, doubled, forged or delayed, up to this moment.
    fn is_unharmed(&self, world: &World) {
        for me in self.everyone() {
            let (name, sink) = (&world[me].name, &world[me].sink);
            assert_eq!((sink.forged, sink.foreign), (0, 0), "{name} got what nobody sent");
            assert_eq!(sink.missing(), 0, "{name} lost something");
            assert_eq!(sink.duplicates(), 0, "{name} got something twice");
            assert_eq!(sink.discontinuities(), [""; 0], "{name}");
            for other in self.publishers.into_iter().filter(|other| *other != me) {
                for video in [false, true] {
                    let last = sink.last_from(other.index, video).expect("it receives");
                    assert!(last + ms(80) > world.now, "{name} has fallen silent");
                }
            }
        }
    }
}

/// A room that has been up for two seconds.
fn settled(seed: u64) -> (World, Room) {
    let mut world = World::new(seed);
    let room = control_room(&mut world);
    world.connect_all(secs(2));
    world.run(secs(2));
    (world, room)
}

fn is_rtp(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(128..=191)) && !(192..=223).contains(&bytes[1])
}

fn is_rtcp(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(128..=191)) && (192..=223).contains(&bytes[1])
}

fn is_dtls(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(20..=63))
}

fn dtls_record(content: u8, body: &[u8]) -> Vec<u8> {
    let mut record = vec![content, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9];
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    record
}

fn handshake_message(kind: u8, len: u32, fragment: &[u8]) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend(&len.to_be_bytes()[1..]);
    message.extend([0, 0, 0, 0, 0]);
    message.extend(&(fragment.len() as u32).to_be_bytes()[1..]);
    message.extend(fragment);
    dtls_record(22, &message)
}

/// Well-formed, and offers only a suite that nobody takes: 67 bytes.
fn bad_client_hello(dice: &mut Dice) -> Vec<u8> {
    let mut body = vec![0xfe, 0xfd];
    body.extend(dice.bytes(32));
    body.extend([0, 0, 0, 2, 0, 0x2f, 1, 0]);
    handshake_message(1, body.len() as u32, &body)
}

/// Joins a room of two with `hostile` datagrams around each honest DTLS datagram to the engine, from the
/// given address or, without one, from the client's own. How long the slower one took.
fn handshake_under(
    seed: u64,
    from: Option<std::net::SocketAddr>,
    mut hostile: impl FnMut(&mut Dice) -> Vec<Vec<u8>> + 'static,
) -> Duration {
    let mut world = World::new(seed);
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
    let ada = world.join("room", "ada", publishes(AUDIO | VIDEO));
    let bob = world.join("room", "bob", publishes(AUDIO | VIDEO));
    world.run(secs(3));
    for (me, other) in [(ada, bob), (bob, ada)] {
        assert!(world[me].sink.packets_from(other.index, true) > 50, "connected counts when media flows");
        assert_eq!(world[me].sink.missing(), 0);
        assert_eq!(world[me].sink.forged, 0);
    }
    assert_eq!(world.engine.footprint()[..2], [2, 1]);
    [ada, bob].into_iter().filter_map(|seat| world[seat].connect_time()).max().expect("both connect")
}

#[test]
fn t01_client_hello_races_are_lost() {
    for seed in 1..=3 {
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
    for seed in 1..=3 {
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
    for seed in 1..=3 {
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

#[test]
fn t04_spoofed_stun_draws_nothing() {
    for seed in 1..=3 {
        let (mut world, room) = settled(seed);
        let before = world.engine.footprint();
        let mut dice = Dice::new(seed);
        let mut checks = 0;
        world.intercept(move |_, honest| {
            if honest.to != ENGINE || honest.bytes[0] != 0 {
                return Verdict::pass();
            }
            checks += 1;
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

#[test]
fn t05_consent_expires_whatever_others_say() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let ada = world.join("room", "ada", publishes(AUDIO | VIDEO));
        let bob = world.join("room", "bob", publishes(AUDIO | VIDEO));
        world.connect_all(secs(2));
        world.run(secs(3));
        // Whatever ada last said, spoofed on and on from elsewhere with one bit wrong.
        let ufrags = world[ada].local_sdp();
        assert!(ufrags.contains("ice-ufrag"));
        world[ada].silent = true;
        let silent = world.now;
        let addr = world[ada].addr;
        for n in 0..300u16 {
            world.run(ms(100));
            let spoof = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[n as u8; 12]].concat();
            world.inject(addr, &spoof);
            world.inject(stranger(n), &spoof);
        }
        assert_eq!(world.now, silent + secs(30));
        let sent = world.traffic[&addr][1];
        world.run(secs(10));
        assert_eq!(world.traffic[&addr][1], sent, "nothing goes out after 30 s");
        let expired = PeerEvent::Left(LeaveReason::ConsentExpired);
        let left = world[ada].told(|event| *event == expired);
        assert_eq!(left.len(), 1);
        assert!(left[0] > silent + secs(20) && left[0] <= silent + secs(30), "{:?}", left[0] - silent);
        let footprint = world.engine.footprint();
        assert_eq!((footprint[0], footprint[2]), (1, 1), "its resources are free");
        assert!(world[bob].is_connected());
    }
}

#[test]
fn t07_forged_media_goes_nowhere() {
    for seed in 1..=3 {
        let (mut world, room) = settled(seed);
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
        let (mut world, room) = settled(seed);
        let auth = world.dropped_in(DropKind::Other, DropReason::SrtpAuth);
        let count = std::rc::Rc::new(std::cell::Cell::new(0));
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
fn t08_unencrypted_srtcp_is_refused() {
    for profile in [Offered::Srtp_Aead_Aes_128_Gcm, Offered::Srtp_Aes128_Cm_Hmac_Sha1_80] {
        let mut world = World::new(1);
        let seats = ["ada", "bob"]
            .map(|name| world.join("room", name, publishes(AUDIO | VIDEO).profiles(&[profile])));
        world.connect_all(secs(2));
        world.run(secs(1));
        let [ada, bob] = seats.map(|seat| world[seat].addr);
        let ssrc = world[seats[0]].receives()[0].0;
        let plis = Wire::plis(&world[seats[1]].tap.wire().received).len();
        for n in 0..500u32 {
            // A PLI about a stream she receives, E = 0, whatever tag.
            let mut forged = vec![0x81, 206, 0, 2, 0, 0, 0, 1];
            forged.extend(ssrc.to_be_bytes());
            let tag = world.dice.bytes(16);
            let index = (n + 70_000).to_be_bytes();
            match profile {
                Offered::Srtp_Aead_Aes_128_Gcm => {
                    forged.extend(tag);
                    forged.extend(index);
                }
                _ => {
                    forged.extend(index);
                    forged.extend(&tag[..10]);
                }
            }
            world.inject(ada, &forged);
            world.inject(bob, &forged);
            world.run(ms(2));
        }
        assert_eq!(world.dropped_in(DropKind::Rtcp, DropReason::SrtpAuth), 1_000);
        assert_eq!(Wire::plis(&world[seats[1]].tap.wire().received).len(), plis, "nobody heard them");
        // Honest RTCP still counts: one real PLI gets through.
        let heard = world.counters().plis[0];
        let pli = PictureLossIndication { sender_ssrc: 1, media_ssrc: ssrc };
        world.send_rtcp(seats[0], vec![Box::new(pli)]);
        world.run(ms(100));
        assert_eq!(world.counters().plis[0], heard + 1);
        assert_eq!(world.dropped_in(DropKind::Rtcp, DropReason::SrtpReplay), 0);
    }
}

#[test]
fn t09_replays_are_refused_also_across_the_wrap() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let ada = world.join("room", "ada", publishes(AUDIO | VIDEO));
        let bob = world.join("room", "bob", publishes(AUDIO | VIDEO));
        // It wraps within the first second or so; RFC 3711 §3.3.1 advises against, and peers do it.
        world[ada].video.as_mut().expect("a camera").set_sequence(65_500);
        let counts = std::rc::Rc::new(std::cell::Cell::new((0u64, 0u64)));
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
        for me in [ada, bob] {
            assert_eq!(world[me].sink.duplicates(), 0);
            assert_eq!(world[me].sink.missing(), 0);
            assert_eq!(world[me].sink.forged, 0);
            assert_eq!(world[me].sink.discontinuities(), [""; 0]);
        }
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
        let (mut world, room) = settled(seed);
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
        room.is_unharmed(&world);
        let seen = world[ada].sink.packets_from(twins[0].index, true);
        assert!(seen > 100, "the twin is heard as itself: {seen}");
        assert_eq!(world[ada].sink.packets_from(twins[1].index, true), 0);
    }
}

#[test]
fn t12_feedback_about_others_has_no_effect() {
    for seed in 1..=3 {
        let (mut world, room) = settled(seed);
        let ([ada, bob], [eve, wim, ..]) = (room.publishers, room.subscribers);
        let uplink = world[ada].video.as_ref().expect("a camera").ssrc;
        let downlink = world[wim].receives()[0].0;
        let heard = |world: &World, seat: Seat| Wire::plis(&world[seat].tap.wire().received).len();
        let before = [ada, bob].map(|seat| heard(&world, seat));
        let keyframes = world[ada].video.as_ref().expect("a camera").keyframes;
        for n in 0..200u8 {
            for ssrc in [uplink, downlink, world.dice.word() as u32] {
                let packets: Vec<Rtcp> = vec![
                    Box::new(PictureLossIndication { sender_ssrc: ssrc, media_ssrc: ssrc }),
                    Box::new(FullIntraRequest {
                        sender_ssrc: ssrc,
                        media_ssrc: ssrc,
                        fir: vec![FirEntry { ssrc, sequence_number: n }],
                    }),
                    Box::new(TransportLayerNack {
                        sender_ssrc: ssrc,
                        media_ssrc: ssrc,
                        nacks: vec![NackPair { packet_id: u16::from(n), lost_packets: 0xffff }],
                    }),
                    Box::new(ReceiverEstimatedMaximumBitrate {
                        sender_ssrc: ssrc,
                        bitrate: 1.0,
                        ssrcs: vec![ssrc],
                    }),
                    Box::new(Goodbye { sources: vec![ssrc], ..Default::default() }),
                    Box::new(SenderReport { ssrc, ntp_time: 1, rtp_time: 1, ..Default::default() }),
                ];
                for packet in packets {
                    world.send_rtcp(eve, vec![packet]);
                }
            }
            world.run(ms(10));
        }
        world.run(secs(2));
        assert_eq!([ada, bob].map(|seat| heard(&world, seat)), before, "the publishers heard nothing");
        assert_eq!(world[ada].video.as_ref().expect("a camera").keyframes, keyframes);
        room.is_unharmed(&world);
        assert!(world.dropped_in(DropKind::Other, DropReason::UnknownSsrc) > 0, "reports as somebody else");
    }
}

#[test]
fn t13_a_fir_flood_costs_two_keyframes_a_second_at_most() {
    for seed in 1..=3 {
        let (mut world, room) = settled(seed);
        let [ada, _] = room.publishers;
        let before = Wire::plis(&world[ada].tap.wire().received).len();
        for n in 0..1_000u32 {
            for wim in room.subscribers {
                for (ssrc, _) in world[wim].receives() {
                    let entry = FirEntry { ssrc, sequence_number: n as u8 };
                    let fir = FullIntraRequest { sender_ssrc: 1, media_ssrc: 0, fir: vec![entry] };
                    world.send_rtcp(wim, vec![Box::new(fir)]);
                }
            }
            world.run(ms(10));
        }
        let heard = Wire::plis(&world[ada].tap.wire().received).len() - before;
        assert!(heard <= 20, "{heard} in 10 s");
        room.is_unharmed(&world);
    }
}

fn raw(bytes: Vec<u8>) -> Rtcp {
    Box::new(RawPacket(bytes.into()))
}

#[test]
fn t16_compound_lies_are_refused_whole() {
    for seed in 1..=3 {
        let (mut world, room) = settled(seed);
        let [eve, ..] = room.subscribers;
        let before = world.dropped_in(DropKind::Rtcp, DropReason::Malformed);
        let mut sent = 0;
        for n in 0..100u16 {
            // Transport feedback about 65 535 packets in one run-length chunk.
            let bomb =
                [0x8f, 205, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0xff, 0xff, 0, 0, 0, 1, 0x1f, 0xff, 0, 0];
            // One word longer than the packet, and shorter.
            let long = [0x81, 206, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2];
            let short = [0x81, 206, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2];
            let tiny = [0x80, 201, 0, 1, 0, 0, 0, 1].repeat(100 + usize::from(n % 3));
            for bytes in [bomb.to_vec(), long.to_vec(), short.to_vec(), tiny] {
                world.send_rtcp(eve, vec![raw(bytes)]);
                sent += 1;
            }
            world.run(ms(20));
        }
        world.run(ms(200));
        room.is_unharmed(&world);
        assert_eq!(world.dropped_in(DropKind::Rtcp, DropReason::Malformed) - before, sent);
        assert_eq!(world.counters().panics, [0; 3]);
    }
}

#[test]
fn t17_extension_bombs_harm_nobody() {
    for seed in 1..=3 {
        let (mut world, room) = settled(seed);
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
        // What mallory sends under her own name is hers to spoil: look at the honest ones only.
        for me in room.everyone() {
            for other in room.publishers.into_iter().filter(|other| *other != me) {
                for video in [false, true] {
                    let numbers: Vec<_> =
                        world[me].sink.from(other.index, video).map(|seen| seen.content.packet).collect();
                    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
                    let last = world[me].sink.last_from(other.index, video).expect("it receives");
                    assert!(last + ms(80) > world.now);
                }
            }
        }
    }
}
