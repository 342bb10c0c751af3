//! What an authenticated publisher may say inside its packets: codec headers (T18), RIDs and MIDs (T20).

use std::collections::BTreeMap;

use rtc_shared::marshal::Marshal;
use sluicegate::{LayerLimit, PeerEvent};
use sluicegate_tests::world::dice::Dice;
use sluicegate_tests::world::source::Source;
use sluicegate_tests::world::{Seat, World, layer_of, ms, secs};

use super::datagram::{rtp, rtp_with};
use super::mallory::Mallory;
use super::room::Room;

/// A publisher in the honest room whose own camera goes on between its lies.
struct Liar {
    mallory: Mallory,
    cameras: Vec<Camera>,
    /// The next packet's index, by SSRC.
    indices: BTreeMap<u32, u64>,
}

/// One stream of its camera, and the names that its packets bear.
struct Camera {
    ssrc: u32,
    names: Vec<(u8, Vec<u8>)>,
    source: Source,
}

impl Liar {
    /// What its camera's contents name as their publisher.
    const NUMBER: usize = 77;
    /// Where it is, which is also its name.
    const ADDRESS: u32 = 16 * Self::NUMBER as u32;

    fn enter(world: &mut World, room: &str) -> Liar {
        let mallory = Mallory::publishing(world, room, Self::ADDRESS);
        let source = world.camera(room, Self::NUMBER, 300_000);
        let camera = Camera { ssrc: Mallory::CAMERA, names: Vec::new(), source };
        Liar { mallory, cameras: vec![camera], indices: BTreeMap::new() }
    }

    /// One that films in three layers.
    fn enter_layered(world: &mut World, room: &str) -> Liar {
        let mallory = Mallory::layered(world, room, Self::ADDRESS);
        let cameras = Mallory::LAYERS.into_iter().enumerate().map(|(layer, (ssrc, rid))| Camera {
            ssrc,
            names: vec![(MID, b"1".to_vec()), (RID, rid.as_bytes().to_vec())],
            source: world.camera(room, layer_of(Self::NUMBER, layer), 100_000 << layer),
        });
        Liar { cameras: cameras.collect(), mallory, indices: BTreeMap::new() }
    }

    /// Sends one packet of its making on a stream of its own.
    fn say(&mut self, world: &mut World, ssrc: u32, write: impl FnOnce(u16) -> Vec<u8>) {
        let index = self.indices.entry(ssrc).or_insert(1_000);
        let packet = write(*index as u16);
        self.mallory.send_rtp(world, *index, &packet);
        *index += 1;
    }

    /// Sends what its camera has as it is, and lets 10 ms pass.
    fn film(&mut self, world: &mut World) {
        self.film_as(world, |camera| (camera.ssrc, camera.names.clone()));
    }

    /// The same under other SSRCs and names.
    fn film_as(&mut self, world: &mut World, mut claim: impl FnMut(&Camera) -> (u32, Vec<(u8, Vec<u8>)>)) {
        let mut filmed = Vec::new();
        for camera in &mut self.cameras {
            for packet in camera.source.poll(world.now).into_iter().flatten() {
                filmed.push((claim(camera), packet));
            }
        }
        for ((ssrc, names), mut packet) in filmed {
            packet.header.ssrc = ssrc;
            let plain = packet.marshal().expect("it is well-formed").to_vec();
            self.say(world, ssrc, |seq| {
                let mut packet = match &names[..] {
                    [] => rtp(plain[1], seq, ssrc, &plain[12..]),
                    names => rtp_with(plain[1], seq, ssrc, &borrowed(names), &plain[12..]),
                };
                packet[4..8].copy_from_slice(&plain[4..8]);
                packet
            });
        }
        world.run(ms(10));
        if self.mallory.hears_of_keyframes(world) {
            self.cameras.iter_mut().for_each(|camera| camera.source.want_keyframe());
        }
    }

    /// Those who are offered its tracks see it film: 25 frames a second, for it looks each 10 ms.
    fn is_seen(&self, world: &World, by: Seat) -> bool {
        let layers = (0..self.cameras.len()).map(|layer| layer_of(Self::NUMBER, layer));
        let since = world.now - secs(1);
        layers.map(|from| world[by].sink.packets_between(from, true, since, world.now)).sum::<usize>() > 20
    }
}

fn borrowed(elements: &[(u8, Vec<u8>)]) -> Vec<(u8, &[u8])> {
    elements.iter().map(|(id, value)| (*id, &value[..])).collect()
}

/// What is said in a packet.
struct Said {
    pt: u8,
    /// Dependency descriptors in its header; one at most is honest.
    descriptors: Vec<Vec<u8>>,
    payload: Vec<u8>,
}

fn said(pt: u8, payload: Vec<u8>) -> Said {
    Said { pt, descriptors: Vec::new(), payload }
}

fn described(descriptor: Vec<u8>, payload: Vec<u8>) -> Said {
    Said { pt: Mallory::VP8, descriptors: vec![descriptor], payload }
}

/// Which of its streams a lie is told on.
#[derive(Clone, Copy)]
enum Line {
    Camera,
    Repairs,
    Microphone,
}

/// The `n`th lie of its kind.
type Lie = fn(&mut Dice, u32) -> Said;

/// What is lied about, and how. Payload types are those of the offer.
const LIES: [(&str, Line, Lie); 26] = [
    ("VP8", Line::Camera, |dice, _| said(96, vp8(dice))),
    ("VP8 repairs", Line::Repairs, |dice, _| said(97, repair(dice))),
    ("VP9", Line::Camera, |dice, _| said(98, vp9(dice))),
    ("VP9 profile 2", Line::Camera, |dice, _| said(100, vp9(dice))),
    ("VP9 in flexible mode", Line::Camera, |dice, n| said(98, vp9_flexible(dice, n))),
    ("VP9 scalability structures", Line::Camera, |dice, _| said(98, vp9_structure(dice))),
    ("VP9 picture ids", Line::Camera, |dice, _| said(98, vp9_numbers(dice))),
    ("VP9 layers", Line::Camera, |dice, n| said(98, vp9_layers(dice, n))),
    ("H.264", Line::Camera, |dice, _| said(102, h264(dice))),
    ("H.264 aggregates", Line::Camera, |dice, _| said(108, h264_aggregate(dice))),
    ("H.264 fragments", Line::Camera, |dice, n| said(108, h264_fragment(dice, n))),
    ("H.264 in mode 0", Line::Camera, |dice, _| said(114, h264(dice))),
    ("H.265 aggregates", Line::Camera, |dice, _| said(50, h265_aggregate(dice))),
    ("H.265 fragments", Line::Camera, |dice, n| said(50, h265_fragment(dice, n))),
    ("AV1", Line::Camera, |dice, _| said(45, av1(dice))),
    ("AV1 aggregation headers", Line::Camera, |dice, n| said(45, av1_headers(dice, n))),
    ("an unknown structure", Line::Camera, |_, n| described(plain_descriptor(n), frame(n))),
    ("the largest structure", Line::Camera, |_, n| described(largest_structure(n), frame(0))),
    ("templates out of range", Line::Camera, |dice, n| described(stray_template(dice, n), frame(n))),
    ("another structure each time", Line::Camera, |dice, n| described(any_structure(dice, n), frame(n))),
    ("descriptors of noise", Line::Camera, |dice, n| described(noise(dice, 256), frame(n))),
    ("a hundred descriptors", Line::Camera, |_, n| Said {
        pt: Mallory::VP8,
        descriptors: vec![vec![0xc0, 0, n as u8]; 100],
        payload: frame(n),
    }),
    ("RED", Line::Microphone, |dice, _| said(63, red(dice))),
    ("RED and Opus in turns", Line::Microphone, |dice, n| match n % 3 {
        0 => said(111, noise(dice, 60)),
        1 => said(63, vec![0xef, 0x0f, 0, 2, 0x6f, 1, 2, 3]),
        _ => said(63, red(dice)),
    }),
    ("redundancy of video", Line::Camera, |dice, _| said(118, noise(dice, 200))),
    ("every codec of the line", Line::Camera, any_codec),
];

#[test]
fn t18_codec_headers_that_lie_spoil_their_own_stream_only() {
    let (mut world, room) = Room::settled(1);
    let before = world.engine.footprint();
    let mut liar = Liar::enter_layered(&mut world, "control");
    // Who takes every codec, and whose host changes its mind about the layers all the time.
    let mut viewer = Mallory::viewing(&mut world, "control", 16 * 78, Liar::ADDRESS);
    for _ in 0..100 {
        liar.film(&mut world);
    }
    let [ada, bob] = room.publishers;
    assert!(liar.is_seen(&world, ada), "its camera reaches the others");
    let mut dice = world.dice.fork();
    let mut reached = [0; 128];
    let mut codec = 0;
    for (what, line, lie) in LIES {
        for n in 0..LIES_OF_A_KIND {
            let said = lie(&mut dice, n);
            if n == 0 && said.pt != codec {
                // A track changes its codec with a keyframe, or where the old one has ended.
                codec = said.pt;
                world.run(ms(3_100));
            }
            let marker = if dice.chance(0.3) { 0x80 } else { 0 };
            let (ssrc, rid) = Mallory::LAYERS[n as usize % 3];
            let (ssrc, mut elements) = match line {
                Line::Camera => (ssrc, Vec::new()),
                Line::Repairs => (ssrc + 0x100, vec![(MID, &b"1"[..]), (REPAIRED_RID, rid.as_bytes())]),
                Line::Microphone => (Mallory::MICROPHONE, Vec::new()),
            };
            elements.extend(said.descriptors.iter().map(|descriptor| (DESCRIPTOR, &descriptor[..])));
            liar.say(&mut world, ssrc, |seq| match &elements[..] {
                [] => rtp(marker | said.pt, seq, ssrc, &said.payload),
                elements => rtp_with(marker | said.pt, seq, ssrc, elements, &said.payload),
            });
            if n.is_multiple_of(20) {
                liar.film(&mut world);
                let limit = LayerLimit { spatial: (n / 20 % 3) as u8, temporal: (n / 60 % 4) as u8 };
                let now = world.now;
                assert!(world.engine.limit_layers(now, viewer.client.peer, "1", limit));
            }
        }
        liar.mallory.check(&mut world);
        viewer.check(&mut world);
        for (reached, count) in reached.iter_mut().zip(viewer.counts(&mut world)) {
            *reached += count;
        }
        room.is_unharmed_by_publishers(&world);
        assert_eq!(world.counters().panics, [0; 3], "{what}");
        // A keyframe is asked for each 5 s at last; and a second must pass without a lie.
        let mut filmed = 0;
        while filmed < 100 || ![ada, bob].into_iter().all(|me| liar.is_seen(&world, me)) {
            liar.film(&mut world);
            filmed += 1;
            assert!(filmed < 650, "{what}: its camera goes on once it stops");
        }
    }
    for me in [ada, bob] {
        // The codecs that these two do not take: each is told once.
        let told = world[me].told(|event| matches!(event, PeerEvent::CodecMissing { .. }));
        assert!(told.len() <= 16, "{} heard of {} codecs", world[me].name, told.len());
    }
    // 104 is said among others only, packet by packet, which is no change of codec.
    for pt in [96, 98, 100, 102, 108, 114, 45, 50, 111, 63] {
        assert!(reached[pt] > 10, "what was said under {pt} has reached somebody: {}", reached[pt]);
    }
    let after = world.engine.footprint();
    assert_eq!(after[0], before[0] + 2);
}

/// Lies of each kind.
const LIES_OF_A_KIND: u32 = 1_000;

/// What begins a keyframe in VP8, and what does not.
fn frame(n: u32) -> Vec<u8> {
    let key = u8::from(!n.is_multiple_of(50));
    let number = n.to_be_bytes();
    vec![0x90, 0x80, 0x80 | number[2] & 0x7f, number[3], key, 0, 0, 0x9d, 1, 0x2a, 64, 1, 240, 0, 1, 2, 3]
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

/// I, L and F, references without end or none, and a keyframe now and then.
fn vp9_flexible(dice: &mut Dice, n: u32) -> Vec<u8> {
    let first = if n.is_multiple_of(40) { 0xb8 } else { 0xf0 | dice.word() as u8 & 0x0d };
    let mut payload = vec![first, 0x80 | (n >> 8) as u8 & 0x7f, n as u8, dice.word() as u8];
    payload.extend(vec![0x03; dice.below(6) as usize]);
    payload.push(dice.word() as u8 & 0xfe);
    payload.extend(noise(dice, 40));
    payload
}

/// Keyframes whose structure has eight layers of any size, and 255 pictures of three references each.
fn vp9_structure(dice: &mut Dice) -> Vec<u8> {
    let mut payload = vec![0xaa, 0x80 | dice.word() as u8, dice.word() as u8, dice.word() as u8 & 0xf1, 0];
    payload.push(dice.word() as u8 & 0xe0 | 0x18);
    let sizes = 4 * dice.below(9) as usize;
    payload.extend(dice.bytes(sizes));
    payload.push([0, 1, 255][dice.below(3) as usize]);
    for _ in 0..dice.below(256) {
        payload.extend([0x0c, 1, 2, 3]);
    }
    payload
}

/// Picture ids and TL0PICIDX that leap, in both lengths and without.
fn vp9_numbers(dice: &mut Dice) -> Vec<u8> {
    let first = [0x28, 0xa8, 0xe8, 0xe4, 0x68][dice.below(5) as usize];
    let id = [0x00, 0x7f, 0x80, 0xff][dice.below(4) as usize];
    let mut payload = vec![first, id, dice.word() as u8, dice.word() as u8 & 0x10, dice.word() as u8];
    payload.extend(noise(dice, 30));
    payload
}

/// Spatial and temporal layers that jump from packet to packet, and may all be stepped up to.
fn vp9_layers(dice: &mut Dice, n: u32) -> Vec<u8> {
    let (first, layer) = match n % 40 {
        0 => (0xac, 0),
        _ => (0xa4 | dice.word() as u8 & 0x48, dice.word() as u8),
    };
    vec![first, 0x80 | (n >> 8) as u8 & 0x7f, n as u8, layer, n as u8, 1, 2, 3, 4]
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

/// STAP-A whose units are said to be longer or shorter than they are; among them an SPS, or what looks like one.
fn h264_aggregate(dice: &mut Dice) -> Vec<u8> {
    let mut payload = vec![0x78];
    for kind in [0x67, 0x68, 0x65] {
        let body = dice.below(12) as usize;
        let lie = [0, 1, 2, body as u64 + 1, body as u64 + 2, 0x7fff, 0xffff][dice.below(7) as usize];
        payload.extend((lie as u16).to_be_bytes());
        payload.push(kind);
        payload.extend(dice.bytes(body));
    }
    payload.truncate(1 + dice.below(payload.len() as u64) as usize);
    payload
}

/// FU-A that never begin, begin twice, begin and end at once, or hold another fragment.
fn h264_fragment(dice: &mut Dice, n: u32) -> Vec<u8> {
    let header =
        [0x05, 0x45, 0xc5, 0x85, 0x9c, 0x07][if n.is_multiple_of(40) { 3 } else { dice.below(6) as usize }];
    let mut payload = vec![0x7c, header];
    payload.extend(noise(dice, 30));
    payload.truncate(if dice.chance(0.1) { 1 } else { payload.len() });
    payload
}

/// RFC 7798 §4.4.2: as with H.264, in headers of two bytes.
fn h265_aggregate(dice: &mut Dice) -> Vec<u8> {
    let mut payload = vec![0x60, 1];
    for kind in [0x40, 0x42, 0x44, 0x26] {
        let body = dice.below(12) as usize;
        let lie = [0, 1, 2, body as u64 + 2, body as u64 + 3, 0xffff][dice.below(6) as usize];
        payload.extend((lie as u16).to_be_bytes());
        payload.extend([kind, 1]);
        payload.extend(dice.bytes(body));
    }
    payload.truncate(1 + dice.below(payload.len() as u64) as usize);
    payload
}

/// RFC 7798 §4.4.3, and the PACI packet of §4.4.4 that nobody sends.
fn h265_fragment(dice: &mut Dice, n: u32) -> Vec<u8> {
    let header =
        [0x13, 0x53, 0xd3, 0x93, 0xb1, 0x3f][if n.is_multiple_of(40) { 3 } else { dice.below(6) as usize }];
    let mut payload = vec![[0x62, 0x64][usize::from(dice.chance(0.1))], 1, header];
    payload.extend(noise(dice, 30));
    payload.truncate(if dice.chance(0.1) { 1 + dice.below(2) as usize } else { payload.len() });
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

/// Z, Y, W and N in every combination: a new sequence that continues one, elements that are not there.
fn av1_headers(dice: &mut Dice, n: u32) -> Vec<u8> {
    let mut payload = vec![if n.is_multiple_of(40) { 0x18 } else { dice.word() as u8 }];
    payload.extend([0x0a, [0, 1, 0x0b, 0xff][dice.below(4) as usize]]);
    payload.extend(noise(dice, 20));
    payload.truncate(1 + dice.below(payload.len() as u64) as usize);
    payload
}

/// RFC 2198: blocks that overrun the packet or lie on each other, a ninth one, no primary.
fn red(dice: &mut Dice) -> Vec<u8> {
    let mut payload = Vec::new();
    for _ in 0..dice.below(11) {
        let len = [0, 1, 9, 0x3ff][dice.below(4) as usize];
        payload.extend([0x80 | 111, dice.word() as u8, (len >> 8) as u8 | 0xfc, len as u8]);
    }
    payload.extend(if dice.chance(0.8) { &[111][..] } else { &[0xef, 0xff] });
    payload.extend(noise(dice, 40));
    payload
}

/// Packets that could begin a keyframe, each in another codec than the one before.
fn any_codec(dice: &mut Dice, n: u32) -> Said {
    let (pt, payload): (u8, &[u8]) = [
        (96, &[0x10, 0, 0, 0, 0x9d, 1, 0x2a, 64, 1, 240, 0][..]),
        (98, &[0xac, 0x81, 2, 0, 3, 1]),
        (100, &[0xac, 0x81, 2, 0, 3, 1]),
        (102, &[0x78, 0, 3, 0x67, 0x42, 0xe0, 0, 2, 0x68, 0xce]),
        (104, &[0x65, 0x88, 0x84]),
        (108, &[0x7c, 0x85, 0x88, 0x84]),
        (114, &[0x67, 0x42]),
        (116, &[0x65, 0x88, 0x84]),
        (39, &[0x65, 0x88, 0x84]),
        (45, &[0x18, 0x0a, 0x0b, 0]),
        (50, &[0x26, 1, 0xaf]),
        // Repairs and redundancy on a media stream, and what nobody has offered.
        (97, &[0, 1, 0x10]),
        (118, &[96, 1]),
        (77, &[1, 2, 3]),
    ][n as usize % 14];
    let mut payload = payload.to_vec();
    payload.extend(noise(dice, 20));
    said(pt, payload)
}

fn noise(dice: &mut Dice, end: u64) -> Vec<u8> {
    let len = dice.below(end) as usize;
    dice.bytes(len)
}

/// Writes bits, the high ones of a byte first.
#[derive(Default)]
struct Bits(Vec<bool>);

impl Bits {
    fn put(&mut self, count: u32, value: u32) {
        self.0.extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
    }

    fn bytes(&self) -> Vec<u8> {
        let byte = |bits: &[bool]| {
            bits.iter().enumerate().fold(0, |byte, (at, bit)| byte | u8::from(*bit) << (7 - at))
        };
        self.0.chunks(8).map(byte).collect()
    }
}

/// Without flags: three bytes, AV1 RTP specification, §A.8.2.
fn plain_descriptor(n: u32) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.put(8, 0xc0 | n & 0x3f);
    bits.put(16, n);
    bits.bytes()
}

/// A frame that is the start and end of a structure's template 0, up to the structure.
fn before_structure(template: u32, n: u32) -> Bits {
    let mut bits = Bits::default();
    bits.put(8, 0xc0 | template & 0x3f);
    bits.put(16, n);
    // It has a structure, and by the script of `n` a mask or differences of its own.
    bits.put(5, 0x10 | if n.is_multiple_of(5) { n >> 3 & 0x0f } else { 0 });
    bits
}

/// 28 templates for 32 targets, all "required": as much as one descriptor can ask for.
fn largest_structure(n: u32) -> Vec<u8> {
    let number = (n as u16).to_be_bytes();
    let head = [0xc0, number[0], number[1], 0x80, 0x1f, 0, 0, 0, 0, 0, 0, 3];
    [&head[..], &[0xff; 224], &[0; 6]].concat()
}

/// A structure of one template at an offset, then frames of templates that it does not have.
fn stray_template(dice: &mut Dice, n: u32) -> Vec<u8> {
    if !n.is_multiple_of(20) {
        return plain_descriptor(dice.word() as u32 & 0xffff);
    }
    let offset = (n / 20) & 0x3f;
    let mut bits = before_structure(offset, n | 1);
    bits.put(6, offset);
    // One target, one template which it needs and which refers to nothing, no chains, no sizes.
    bits.put(5, 0);
    bits.put(2, 3);
    bits.put(2, 3);
    bits.put(1, 0);
    bits.put(1, 0);
    bits.put(1, 0);
    bits.put(8, 0);
    bits.bytes()
}

/// Structures of any shape, now and then cut short.
fn any_structure(dice: &mut Dice, n: u32) -> Vec<u8> {
    let offset = dice.below(64) as u32;
    let (targets, templates) = (1 + dice.below(8) as u32, 1 + dice.below(12) as u32);
    let mut bits = before_structure(offset + dice.below(templates.into()) as u32, n);
    bits.put(6, offset);
    bits.put(5, targets - 1);
    for _ in 1..templates {
        bits.put(2, [0, 0, 1, 1, 2][dice.below(5) as usize]);
    }
    bits.put(2, 3);
    for _ in 0..templates * targets {
        bits.put(2, dice.below(4) as u32);
    }
    for _ in 0..templates {
        bits.put(1, 0);
    }
    // Chains, their differences, sizes: as they come.
    bits.put(24, dice.word() as u32);
    bits.put(32, dice.word() as u32);
    bits.put(32, dice.word() as u32);
    let mut bytes = bits.bytes();
    bytes.truncate(if dice.chance(0.1) { dice.below(20) as usize } else { bytes.len() });
    bytes
}

/// Header extensions as mallory offered them: `sdes:mid`, `rtp-stream-id`, `repaired-rtp-stream-id`, and the
/// dependency descriptor.
const MID: u8 = 4;
const RID: u8 = 10;
const REPAIRED_RID: u8 = 11;
const DESCRIPTOR: u8 = 12;

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
            liar.film(&mut world);
        }
        let [ada, bob] = room.publishers;
        let before = world.engine.footprint()[..4].to_vec();
        let tracks = world.counters().gauges.tracks;
        let streams = [ada, bob].map(|me| world[me].sink.streams.len());
        for n in 0..200 {
            liar.film_as(&mut world, |_| claim(n));
            // More of them than a camera makes.
            for extra in 0..4 {
                let (ssrc, names) = claim(1_000 + 4 * n + extra);
                let names = borrowed(&names);
                liar.say(&mut world, ssrc, |seq| rtp_with(Mallory::VP8, seq, ssrc, &names, &[0x80; 30]));
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

/// What the `n`th packet claims to be: its SSRC, its payload type, and its names.
type LayerClaim = fn(u32) -> (u32, u8, Vec<(u8, Vec<u8>)>);

fn names(mid: &str, id: u8, rid: impl ToString) -> Vec<(u8, Vec<u8>)> {
    vec![(MID, mid.as_bytes().to_vec()), (id, rid.to_string().into_bytes())]
}

/// Its camera has the layers `q`, `h` and `f`: what claims to be another, and how many streams more there may be.
const LAYER_CLAIMS: [(&str, usize, LayerClaim); 15] = [
    ("an unknown rid on a layer's stream", 0, |_| (Q, 96, names("1", RID, "nobody"))),
    ("an unknown rid on new streams", 0, |n| (5_000 + n, 96, names("1", RID, "nobody"))),
    ("no rid on new streams", 0, |n| (5_000 + n, 96, vec![(MID, b"1".to_vec())])),
    ("no name at all on new streams", 0, |n| (5_000 + n, 96, vec![(1, vec![0x80])])),
    ("a rid twice", 1, |_| (7, 96, [names("1", RID, "h"), names("1", RID, "f")].concat())),
    ("a rid that flips", 0, |n| (Q, 96, names("1", RID, ["q", "h", "f"][n as usize % 3]))),
    ("a rid that is another's from now on", 0, |_| (Q, 96, names("1", RID, "f"))),
    ("a rid of another section", 0, |n| (6_000 + n, 96, names("7", RID, "q"))),
    ("a thousand rids", 0, |n| (Q, 96, names("1", RID, n % 1_000))),
    ("a thousand rids on new streams", 0, |n| (20_000 + n, 96, names("1", RID, n % 1_000))),
    ("repairs of no layer", 0, |n| (30_000 + n, 97, names("1", REPAIRED_RID, "x"))),
    ("repairs that are media", 0, |n| (40_000 + n, 97, names("1", RID, "q"))),
    ("two streams for one rid", 1, |n| (if n.is_multiple_of(2) { Q } else { 7 }, 96, names("1", RID, "q"))),
    // As many as one peer may have in all, audio and layers among them.
    ("a thousand streams for one rid", 60, |n| (50_000 + n, 96, names("1", RID, "q"))),
    ("three for each", 6, |n| (100 + n % 6, 96, names("1", RID, ["q", "h", "f"][n as usize % 3]))),
];
const Q: u32 = Mallory::LAYERS[0].0;

#[test]
fn t20_no_layer_comes_to_be_that_nobody_negotiated() {
    for (what, more, claim) in LAYER_CLAIMS {
        let (mut world, room) = Room::settled(1);
        let mut liar = Liar::enter_layered(&mut world, "control");
        for _ in 0..50 {
            liar.film(&mut world);
        }
        let [ada, bob] = room.publishers;
        let before = (world.engine.footprint()[..4].to_vec(), world.counters().gauges.tracks);
        let incoming = world.engine.streams();
        let streams = [ada, bob].map(|me| world[me].sink.streams.len());
        for n in 0..300 {
            liar.film(&mut world);
            for extra in 0..4 {
                let (ssrc, pt, names) = claim(4 * n + extra);
                // Half of them are keyframes, which a subscriber might change over to.
                let payload = frame(50 * (n & 1) + 1 - (n & 1));
                liar.say(&mut world, ssrc, |seq| rtp_with(pt, seq, ssrc, &borrowed(&names), &payload));
            }
        }
        let after = (world.engine.footprint()[..4].to_vec(), world.counters().gauges.tracks);
        assert_eq!(after, before, "{what}");
        let grown = world.engine.streams() - incoming;
        assert!(grown <= more, "{what}: {grown} streams");
        for (me, streams) in [ada, bob].into_iter().zip(streams) {
            assert_eq!(world[me].sink.streams.len(), streams, "{what}: {} sees as many", world[me].name);
        }
        assert_eq!(world.counters().panics, [0; 3], "{what}");
        room.is_unharmed_by_publishers(&world);
        // And what it spoiled is whole again once it says the truth.
        for _ in 0..200 {
            liar.film(&mut world);
        }
        assert!(liar.is_seen(&world, ada) && liar.is_seen(&world, bob), "{what}");
    }
}
