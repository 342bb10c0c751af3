//! Hostile SCTP from inside the room: threats T21.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rtc_sctp::{Association, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Payload};
use rtc_shared::TransportProtocol;
use sluicegate::DropReason;
use sluicegate::sans_io::DropKind;
use sluicegate_tests::world::{World, ms, secs};

use super::mallory::Mallory;
use super::room::Room;

/// Somebody with an association of the library's own, and packets of its own besides.
struct Speaker {
    mallory: Mallory,
    endpoint: Endpoint,
    association: Association,
    /// What the server wants to see in packets to it, and the number of the next chunk.
    tag: [u8; 4],
    tsn: u32,
}

impl Speaker {
    fn enter(world: &mut World, room: &str, number: u32) -> Speaker {
        let mallory = Mallory::speaking(world, room, number);
        let mut endpoint = Endpoint::new(US, TransportProtocol::UDP, Arc::new(EndpointConfig::new()), None);
        let (_, association) = endpoint.connect(world.now, ClientConfig::default(), US).expect("it connects");
        let mut speaker = Speaker { mallory, endpoint, association, tag: [0; 4], tsn: 0 };
        for _ in 0..5 {
            speaker.exchange(world);
        }
        assert!(!speaker.association.is_handshaking());
        speaker
    }

    fn exchange(&mut self, world: &mut World) {
        while let Some(transmit) = self.association.poll_transmit(world.now) {
            let Payload::RawEncode(packets) = transmit.message else { continue };
            for packet in packets {
                if packet[12] == INIT {
                    self.tsn = u32::from_be_bytes(packet[28..32].try_into().expect("four bytes"));
                }
                self.tag.copy_from_slice(&packet[4..8]);
                self.mallory.send_sctp(world, &packet);
            }
        }
        for packet in self.mallory.hears_sctp(world) {
            let event = self.endpoint.handle(world.now, US, None, packet.freeze());
            if let Some((_, DatagramEvent::AssociationEvent(event))) = event {
                self.association.handle_event(event);
            }
        }
    }

    /// A packet with this in it, under the right tag and checksum.
    fn forge(&mut self, world: &mut World, chunks: &[u8]) {
        let packet = seal(self.tag, chunks);
        self.mallory.send_sctp(world, &packet);
    }

    fn data(&self, ahead: u32, stream: u16) -> Vec<u8> {
        let mut chunk = vec![0, 3, 0, 17];
        chunk.extend(self.tsn.wrapping_add(ahead).to_be_bytes());
        chunk.extend(stream.to_be_bytes());
        chunk.extend([0, 0, 0, 0, 0, 53, b'x', 0, 0, 0]);
        chunk
    }
}

fn seal(tag: [u8; 4], chunks: &[u8]) -> Vec<u8> {
    let mut packet = [&[0x13, 0x88, 0x13, 0x88][..], &tag, &[0; 4], chunks].concat();
    let checksum = crc32c(&packet).to_le_bytes();
    packet[8..12].copy_from_slice(&checksum);
    packet
}

/// Castagnoli's, RFC 9260 appendix A.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        let bit = |crc: u32, _| (crc >> 1) ^ (0x82f6_3b78 & 0_u32.wrapping_sub(crc & 1));
        (0..8).fold(crc ^ u32::from(*byte), bit)
    };
    !bytes.iter().fold(u32::MAX, step)
}

#[test]
fn t21_lengths_that_lie_are_refused_before_anything_else_reads_them() {
    let (mut world, room) = Room::settled(1);
    let mut speaker = Speaker::enter(&mut world, "control", 1);
    let before = world.dropped_in(DropKind::Other, DropReason::Malformed);
    let lies: [&[u8]; 6] = [
        &[9, 0, 0, 8, 0, 12, 0xff, 0xff],
        &[6, 0, 0, 8, 0, 12, 0, 9],
        &[9, 0, 0, 8, 0, 12, 0, 3],
        &[0, 3, 0xff, 0xff, 0, 0, 0, 0],
        &[130, 0, 0, 8, 0, 13, 0, 18],
        &[4, 0, 0, 8, 0, 1, 0, 9],
    ];
    for lie in lies {
        speaker.forge(&mut world, lie);
    }
    world.run(secs(1));
    assert_eq!(world.dropped_in(DropKind::Other, DropReason::Malformed) - before, lies.len() as u64);
    assert_eq!(world.counters().panics, [0; 3]);
    // It is still there, and so is its association.
    let data = speaker.data(0, 0);
    speaker.mallory.hears_sctp(&mut world);
    speaker.forge(&mut world, &data);
    world.run(ms(500));
    assert!(!speaker.mallory.hears_sctp(&mut world).is_empty(), "it is acknowledged");
    room.is_unharmed(&world);
}

#[test]
fn t21_numbers_streams_and_resets_are_bounded_and_nobody_else_notices() {
    let (mut world, room) = Room::settled(2);
    let mut speaker = Speaker::enter(&mut world, "control", 1);
    let far = speaker.tsn.wrapping_add(0x4000_0000).to_be_bytes();
    speaker.forge(&mut world, &[&[192, 0, 0, 8][..], &far].concat());
    let after = speaker.tsn.wrapping_add(0x1000_0000).to_be_bytes();
    for n in 0..3_000_u32 {
        // Every other number, every stream, every reset in advance; and another beginning.
        let (data, far) = (speaker.data(2 * n + 1, n as u16), n.to_be_bytes());
        let reset = [&[130, 0, 0, 22, 0, 13, 0, 18][..], &far, &[0; 4], &after, &[0, 1, 0, 0]].concat();
        speaker.forge(&mut world, &data);
        speaker.forge(&mut world, &reset);
        let init =
            [&[1, 0, 0, 20][..], &(n + 1).to_be_bytes(), &[0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 1]].concat();
        let init = seal([0; 4], &init);
        speaker.mallory.send_sctp(&mut world, &init);
        if n % 100 == 0 {
            world.run(ms(20));
            speaker.mallory.hears_sctp(&mut world);
        }
    }
    world.run(secs(1));
    // All beginnings, and all resets but eight; and the streams that there are not.
    assert!(world.dropped_in(DropKind::Other, DropReason::QueueFull) >= 3_000 + 2_992);
    assert!(world.dropped_in(DropKind::Other, DropReason::Malformed) >= 2_744);
    assert_eq!(world.counters().panics, [0; 3]);
    room.is_unharmed(&world);
    world.audit();
}

const US: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
const INIT: u8 = 1;
