//! What an authenticated publisher may say inside its packets: codec headers (T18), RIDs and MIDs (T20).

use rtc_shared::marshal::Marshal;
use sluicegate_tests::world::dice::Dice;
use sluicegate_tests::world::source::Source;
use sluicegate_tests::world::{Seat, World, ms, secs};

use super::datagram::{rtp, rtp_with};
use super::mallory::Mallory;
use super::room::Room;

/// A publisher in the honest room whose own camera goes on between its lies.
struct Liar {
    mallory: Mallory,
    camera: Source,
    index: u64,
    /// What its camera's contents name as their publisher.
    number: usize,
}

impl Liar {
    fn enter(world: &mut World, room: &str) -> Liar {
        let number = 77;
        let mallory = Mallory::publishing(world, room, 16 * number as u32);
        Liar { mallory, camera: world.camera(room, number, 300_000), index: 1_000, number }
    }

    /// Sends one packet of its making on its camera's stream.
    fn say(&mut self, world: &mut World, write: impl FnOnce(u16) -> Vec<u8>) {
        let packet = write(self.index as u16);
        self.mallory.send_rtp(world, self.index, &packet);
        self.index += 1;
    }

    /// Sends what its camera has, under the given header extensions and SSRC, and lets 10 ms pass.
    fn film(&mut self, world: &mut World, ssrc: u32, elements: &[(u8, &[u8])]) {
        for mut packet in self.camera.poll(world.now).into_iter().flatten() {
            packet.header.ssrc = ssrc;
            packet.header.sequence_number = self.index as u16;
            let mut plain = packet.marshal().expect("it is well-formed").to_vec();
            if !elements.is_empty() {
                let timestamp = plain[4..8].to_vec();
                let marker = plain[1];
                plain = rtp_with(marker, self.index as u16, ssrc, elements, &plain[12..]);
                plain[4..8].copy_from_slice(&timestamp);
            }
            self.mallory.send_rtp(world, self.index, &plain);
            self.index += 1;
        }
        world.run(ms(10));
        if self.mallory.hears_of_keyframes(world) {
            self.camera.want_keyframe();
        }
    }

    /// Those who are offered its tracks see it film.
    fn is_seen(&self, world: &World, by: Seat) -> bool {
        let sink = &world[by].sink;
        sink.packets_between(self.number, true, world.now - secs(1), world.now) > 30
    }
}

/// What is said in a packet.
type Lie = fn(&mut Dice) -> Vec<u8>;

/// A codec, the payload type it was offered under, and what is said in its name. A row for a codec that is not
/// negotiated (yet) is refused by its payload type; from the day it is negotiated, it is looked at.
const LIES: [(&str, u8, Lie); 8] = [
    ("VP8", 96, vp8),
    ("VP8 repairs", 97, repair),
    ("VP9", 98, vp9),
    ("VP9 profile 2", 100, vp9),
    ("H.264", 102, h264),
    ("AV1", 45, av1),
    ("Opus", 111, noise),
    ("RED", 118, noise),
];

#[test]
fn t18_codec_headers_that_lie_spoil_their_own_stream_only() {
    let (mut world, room) = Room::settled(1);
    let before = world.engine.footprint();
    let mut liar = Liar::enter(&mut world, "control");
    for _ in 0..100 {
        liar.film(&mut world, Mallory::CAMERA, &[]);
    }
    let [ada, bob] = room.publishers;
    assert!(liar.is_seen(&world, ada), "its camera reaches the others");
    let mut dice = world.dice.fork();
    for (codec, pt, lie) in LIES {
        for n in 0..2_000 {
            let payload = lie(&mut dice);
            let marker = if dice.chance(0.3) { 0x80 } else { 0 };
            liar.say(&mut world, |seq| rtp(marker | pt, seq, Mallory::CAMERA, &payload));
            if n % 20 == 0 {
                liar.film(&mut world, Mallory::CAMERA, &[]);
            }
            if n % 500 == 0 {
                liar.mallory.check(&mut world);
            }
        }
        room.is_unharmed_by_publishers(&world);
        assert_eq!(world.counters().panics, [0; 3], "{codec}");
    }
    for n in 0..300 {
        liar.film(&mut world, Mallory::CAMERA, &[]);
        if n % 100 == 0 {
            liar.mallory.check(&mut world);
        }
    }
    for me in [ada, bob] {
        assert!(liar.is_seen(&world, me), "and its camera goes on");
    }
    let after = world.engine.footprint();
    assert_eq!(after[0], before[0] + 1);
}

/// A descriptor (RFC 7741 §4.2) with any of its optional parts, cut short anywhere, and a header that may claim
/// to start a keyframe.
fn vp8(dice: &mut Dice) -> Vec<u8> {
    let first = [0x00, 0x10, 0x80, 0x90, 0x97, 0xff][dice.below(6) as usize];
    let mut payload = vec![first, dice.word() as u8];
    let tail = dice.below(40) as usize;
    payload.extend(dice.bytes(tail));
    // Picture ids that leap, in both lengths.
    if payload.len() > 5 && dice.chance(0.5) {
        payload[1] |= 0xc0;
        payload[2] = [0, 0x7f, 0x80, 0xff][dice.below(4) as usize];
    }
    payload.truncate(dice.below(payload.len() as u64 + 1) as usize);
    payload
}

/// RFC 4588 §4: an original number from anywhere, and a lie behind it or nothing.
fn repair(dice: &mut Dice) -> Vec<u8> {
    let number = dice.word() as u16;
    let mut payload = number.to_be_bytes().to_vec();
    payload.extend(vp8(dice));
    payload.truncate(dice.below(payload.len() as u64 + 1) as usize);
    payload
}

/// RFC 9628 §4.2: flags for all that is optional, scalability structures that promise more than there is.
fn vp9(dice: &mut Dice) -> Vec<u8> {
    let mut payload = vec![dice.word() as u8 | if dice.chance(0.5) { 0xaa } else { 0 }];
    payload.extend([0x80 | dice.word() as u8, dice.word() as u8, 0xff]);
    // N_S = 8 spatial layers with sizes, then 255 pictures.
    payload.extend([0xff, dice.word() as u8]);
    let tail = dice.below(60) as usize;
    payload.extend(dice.bytes(tail));
    payload.truncate(dice.below(payload.len() as u64 + 1) as usize);
    payload
}

/// RFC 6184: aggregates whose units are longer than the packet, fragments of nothing, empty units.
fn h264(dice: &mut Dice) -> Vec<u8> {
    let kind = [24, 25, 26, 28, 29, 5, 7, 0, 31][dice.below(9) as usize];
    let mut payload = vec![0x60 | kind];
    for _ in 0..dice.below(6) {
        let len = [0, 1, 0x10, 0xff, 0xffff][dice.below(5) as usize];
        payload.extend((len as u16).to_be_bytes());
        let body = dice.below(20) as usize;
        payload.extend(dice.bytes(body));
    }
    payload
}

/// The AV1 RTP format: counts and sizes (leb128) that overrun, extension flags without the byte they promise.
fn av1(dice: &mut Dice) -> Vec<u8> {
    let mut payload = vec![dice.word() as u8 | 0x08];
    for _ in 0..dice.below(5) {
        let size: &[u8] = [&[0][..], &[1], &[0x7f], &[0xff, 0xff, 0xff, 0xff, 0x0f], &[0x80, 0x80, 0x80]]
            [dice.below(5) as usize];
        payload.extend(size);
        payload.push([0x0c, 0x0a, 0x12, 0x14, 0xff][dice.below(5) as usize]);
        let body = dice.below(12) as usize;
        payload.extend(dice.bytes(body));
    }
    payload
}

fn noise(dice: &mut Dice) -> Vec<u8> {
    let len = dice.below(200) as usize;
    dice.bytes(len)
}

/// Header extensions as mallory offered them: `sdes:mid`, `rtp-stream-id`, `repaired-rtp-stream-id`.
const MID: u8 = 4;
const RID: u8 = 10;
const REPAIRED_RID: u8 = 11;

/// What the `n`th packet claims to be: its SSRC, and its names.
type Claim = fn(u32) -> (u32, Vec<(u8, Vec<u8>)>);

/// Its camera's section has no simulcast: whatever RID it writes, there is one stream.
const CLAIMS: [(&str, Claim); 8] = [
    ("an unknown rid", |_| (Mallory::CAMERA, vec![(RID, b"nobody".to_vec())])),
    ("another rid each time", |n| (Mallory::CAMERA, vec![(RID, format!("r{n}").into_bytes())])),
    ("a rid twice", |_| (Mallory::CAMERA, vec![(RID, b"h".to_vec()), (RID, b"l".to_vec())])),
    ("a rid to repair", |n| (Mallory::CAMERA, vec![(REPAIRED_RID, format!("{n}").into_bytes())])),
    ("the other section's mid", |_| (Mallory::CAMERA, vec![(MID, b"0".to_vec())])),
    ("a mid of nobody's, on new streams", |n| (5_000 + n, vec![(MID, b"nowhere".to_vec())])),
    ("the other section's mid, on new streams", |n| (10_000 + n, vec![(MID, b"0".to_vec())])),
    ("a thousand rids, on new streams", |n| {
        (20_000 + n, vec![(MID, b"1".to_vec()), (RID, format!("r{}", n % 1_000).into_bytes())])
    }),
];

#[test]
fn t20_names_that_nobody_negotiated_make_no_stream() {
    for (what, claim) in CLAIMS {
        let (mut world, room) = Room::settled(1);
        let mut liar = Liar::enter(&mut world, "control");
        for _ in 0..50 {
            liar.film(&mut world, Mallory::CAMERA, &[]);
        }
        let [ada, bob] = room.publishers;
        let before = world.engine.footprint()[..4].to_vec();
        let tracks = world.counters().gauges.tracks;
        let streams = [ada, bob].map(|me| world[me].sink.streams.len());
        for n in 0..200 {
            let (ssrc, names) = claim(n);
            let names: Vec<(u8, &[u8])> = names.iter().map(|(id, name)| (*id, &name[..])).collect();
            liar.film(&mut world, ssrc, &names);
            // More of them than a camera makes.
            for extra in 0..4 {
                let (ssrc, names) = claim(1_000 + 4 * n + extra);
                let names: Vec<(u8, &[u8])> = names.iter().map(|(id, name)| (*id, &name[..])).collect();
                liar.say(&mut world, |seq| rtp_with(Mallory::VP8, seq, ssrc, &names, &[0x80; 30]));
            }
        }
        assert_eq!(world.engine.footprint()[..4], before, "{what}");
        assert_eq!(world.counters().gauges.tracks, tracks, "{what}");
        for (me, streams) in [ada, bob].into_iter().zip(streams) {
            assert_eq!(world[me].sink.streams.len(), streams, "{what}: {} sees as many", world[me].name);
        }
        assert_eq!(world.counters().panics, [0; 3], "{what}");
        room.is_unharmed_by_publishers(&world);
    }
}
