//! RTCP that lies: T08, T12, T13, T16.

use rtcp::goodbye::Goodbye;
use rtcp::payload_feedbacks::full_intra_request::{FirEntry, FullIntraRequest};
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtcp::raw_packet::RawPacket;
use rtcp::sender_report::SenderReport;
use rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};
use sluicegate::DropReason;
use sluicegate::sans_io::DropKind;
use sluicegate_tests::world::client::SrtpProtectionProfile as Offered;
use sluicegate_tests::world::{AUDIO, Rtcp, Seat, VIDEO, Wire, World, ms, publishes, secs};

use super::mallory::Mallory;
use super::room::Room;

#[test]
fn t08_unencrypted_srtcp_is_refused() {
    for profile in
        [Offered::Srtp_Aead_Aes_128_Gcm, Offered::Srtp_Aead_Aes_256_Gcm, Offered::Srtp_Aes128_Cm_Hmac_Sha1_80]
    {
        let (mut world, room) = Room::settled(1);
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
                Offered::Srtp_Aes128_Cm_Hmac_Sha1_80 => {
                    forged.extend(index);
                    forged.extend(&tag[..10]);
                }
                _ => {
                    forged.extend(tag);
                    forged.extend(index);
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
        room.is_unharmed(&world);
    }
}

#[test]
fn t12_feedback_about_others_has_no_effect() {
    for seed in 1..=3 {
        let (mut world, room) = Room::settled(seed);
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
                    raw(transport_feedback(ssrc, n)),
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
fn t13_a_hundred_subscribers_ask_a_thousand_times_a_second_and_cost_two_keyframes() {
    let (mut world, room) = Room::settled(1);
    let mut mob: Vec<Mallory> =
        (0..100).map(|n| Mallory::watching(&mut world, "control", 1_000 + 16 * n)).collect();
    let [ada, bob] = room.publishers;
    world.run(secs(12));
    let heard = |world: &World, seat: Seat| Wire::plis(&world[seat].tap.wire().received).len();
    let before = [ada, bob].map(|seat| heard(&world, seat));
    // Each member of the mob asks about each publisher ten times a second: PLI and FIR, with ever new numbers.
    for n in 0..100u32 {
        for mallory in &mut mob {
            let mut compound = Vec::new();
            for ssrc in mallory.slots().into_iter().map(u32::to_be_bytes) {
                compound.extend([0x81, 206, 0, 2, 0, 0, 0, 1]);
                compound.extend(ssrc);
                compound.extend([0x84, 206, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0]);
                compound.extend(ssrc);
                compound.extend([n as u8, 0, 0, 0]);
            }
            mallory.send_rtcp(&mut world, &compound);
        }
        if n % 50 == 0 {
            mob.iter().for_each(|mallory| mallory.check(&mut world));
        }
        world.run(ms(100));
        mob.iter().for_each(|mallory| drop(world.heard_at(mallory.client.path.remote)));
    }
    for (seat, before) in [ada, bob].into_iter().zip(before) {
        let heard = heard(&world, seat) - before;
        assert!((5..=20).contains(&heard), "{heard} in 10 s");
    }
    assert!(world.counters().plis[0] >= 40_000 && world.counters().firs[0] >= 40_000);
    room.is_unharmed(&world);
}

#[test]
fn t13_a_fir_flood_costs_two_keyframes_a_second_at_most() {
    for seed in 1..=3 {
        let (mut world, room) = Room::settled(seed);
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

/// Ten packets lost, on somebody's connection.
fn transport_feedback(ssrc: u32, n: u8) -> Vec<u8> {
    let mut message = vec![0x8f, 205, 0, 5];
    message.extend(ssrc.to_be_bytes());
    message.extend(ssrc.to_be_bytes());
    message.extend([0, n, 0, 10, 0, 0, 0, n, 0, 10, 0, 0]);
    message
}

fn raw(bytes: Vec<u8>) -> Rtcp {
    Box::new(RawPacket(bytes.into()))
}

#[test]
fn t16_compound_lies_are_refused_whole() {
    for seed in 1..=3 {
        let (mut world, room) = Room::settled(seed);
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
