//! What hostile datagrams and descriptions cost in memory. A binary with one test, because it counts what the whole
//! process allocates.

use std::alloc::System;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluicegate::sans_io::{Engine, Identity, Outbound, Outlet, Path, SendFault, Ssrc, Transmit};
use sluicegate::{PeerConfig, Subscribe};
use sluicegate_benches::memory::{Camera, ENGINE, MemoryClient, PUBLISH, SUBSCRIBE, engine};
use sluicegate_benches::{clock, secure};
use sluicegate_tests::bombs::bombs;
use sluicegate_tests::world::dice::Dice;
use sluicegate_tests::world::{ms, secs, stranger};
use stats_alloc::{INSTRUMENTED_SYSTEM, Stats, StatsAlloc};

#[global_allocator]
static COUNTING: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn live() -> i64 {
    let Stats { bytes_allocated, bytes_deallocated, .. } = COUNTING.stats();
    bytes_allocated as i64 - bytes_deallocated as i64
}

/// A call of two in memory, and an attacker's means.
struct Stage {
    engine: Engine,
    now: Instant,
    dice: Dice,
    ada: Seat,
    wim: Seat,
    camera: Camera,
}

struct Seat {
    client: MemoryClient,
    sealing: Outbound,
    index: u64,
}

/// Takes everything and keeps nothing.
struct Void;

impl Outlet for Void {
    fn send(&mut self, _: Transmit<'_>) -> Result<(), SendFault> {
        Ok(())
    }
}

impl Seat {
    fn take(
        engine: &mut Engine,
        now: Instant,
        number: u32,
        part: (&str, Subscribe),
        own: &secure::Identity,
    ) -> Seat {
        let mut client = MemoryClient::join(engine, now, "room", number, own, part);
        client.connect(now, engine).expect("it connects");
        let keys = client.secure.as_ref().and_then(secure::Secure::keys).expect("it is connected");
        let sealing = Outbound::new(keys).expect("the keys fit");
        Seat { client, sealing, index: 100 }
    }

    fn seal_rtcp(&mut self, compound: &[u8]) -> Vec<u8> {
        self.sealing.seal_rtcp(compound).to_vec()
    }

    fn seal_rtp(&mut self, mut packet: Vec<u8>, header_len: usize) -> Vec<u8> {
        self.index += 1;
        packet[2..4].copy_from_slice(&(self.index as u16).to_be_bytes());
        let stream = self
            .sealing
            .open_stream(Ssrc(u32::from_be_bytes([packet[8], packet[9], packet[10], packet[11]])));
        let len = packet.len();
        packet.resize(len + 16, 0);
        let sealed = self.sealing.seal_rtp(stream, self.index, header_len, len, &mut packet);
        packet.truncate(sealed.expect("a fresh index"));
        packet
    }
}

impl Stage {
    fn new() -> Stage {
        let ours = Arc::new(Identity::generate().expect("a certificate is made"));
        let theirs = secure::Identity::generate().expect("a certificate is made");
        let (mut engine, now) = (engine(ours, 2), clock::now());
        let ada = Seat::take(&mut engine, now, 0, (PUBLISH, Subscribe::Nothing), &theirs);
        let slots = Subscribe::Slots(Default::default());
        let wim = Seat::take(&mut engine, now, 16, (SUBSCRIBE, slots), &theirs);
        let mut stage = Stage { engine, now, dice: Dice::new(1), ada, wim, camera: Camera::default() };
        // The ring is full, and whatever else grows with the first packets has grown.
        for _ in 0..3_000 {
            stage.film();
        }
        for _ in 0..200 {
            stage.consent();
        }
        stage
    }

    /// One frame of ada's.
    fn film(&mut self) {
        for packet in self.camera.frame(3, 1_100) {
            let packet = self.ada.seal_rtp(packet, 12 + 16);
            self.receive(self.ada.client.path, packet);
        }
        self.pass(ms(1));
    }

    fn receive(&mut self, from: Path, mut datagram: Vec<u8>) {
        self.engine.handle_datagram(self.now, self.now, from, &mut datagram);
        self.engine.flush(self.now, &mut Void);
        while self.engine.poll_event().is_some() {}
    }

    fn pass(&mut self, span: Duration) {
        self.now += span;
        while self.engine.handle_timeout(self.now) {}
        self.engine.flush(self.now, &mut Void);
        while self.engine.poll_event().is_some() {}
    }

    /// Both go on to consent.
    fn consent(&mut self) {
        for path in [self.ada.client.path, self.wim.client.path] {
            let check =
                if path == self.ada.client.path { &self.ada.client } else { &self.wim.client }.check();
            self.receive(path, check);
        }
    }
}

/// A class of hostile datagrams: who is said to send the nth, and what.
type Class = fn(&mut Stage, u32) -> (Path, Vec<u8>);

fn from_stranger(n: u32) -> Path {
    Path::new(ENGINE.ip(), stranger((n % 40_000) as u16))
}

fn rtp(n: u32, ssrc: u32, body: Vec<u8>) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend((n as u16).to_be_bytes());
    packet.extend(n.to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend(body);
    packet
}

const CLASSES: [(&str, Class); 17] = [
    ("noise from strangers", |stage, n| {
        let len = stage.dice.below(1_400) as usize;
        (from_stranger(n), stage.dice.bytes(len))
    }),
    ("checks without the password", |stage, n| {
        // Without its fingerprint, eight bytes at the end, so that its integrity is looked at: the 20 before.
        let mut check = stage.ada.client.check();
        check.truncate(check.len() - 8);
        check[3] -= 8;
        let at = check.len() - 1;
        check[at] ^= 1;
        (from_stranger(n), check)
    }),
    ("checks of nobody's", |stage, n| {
        let mut check = stage.ada.client.check();
        check[24 + (n % 8) as usize] ^= 1 + (n % 3) as u8;
        (from_stranger(n), check)
    }),
    ("DTLS from strangers", |stage, n| (from_stranger(n), record(22, stage.dice.bytes(60)))),
    ("DTLS in a member's name", |stage, n| {
        (stage.ada.client.path, record(20 + (n % 4) as u8, stage.dice.bytes(60)))
    }),
    ("handshake fragments in a member's name", |stage, n| {
        let mut body = vec![11, 0xff, 0xff, 0xff, 0, (n % 8) as u8, 0, 0, 0, 0, 0, 30];
        body.extend(stage.dice.bytes(30));
        (stage.ada.client.path, record(22, body))
    }),
    ("media from strangers", |stage, n| (from_stranger(n), rtp(n, Camera::SSRC, stage.dice.bytes(200)))),
    ("forged media", |stage, n| {
        (stage.ada.client.path, rtp(n.wrapping_mul(7), Camera::SSRC, stage.dice.bytes(200)))
    }),
    ("forged media of every SSRC", |stage, n| {
        (stage.ada.client.path, rtp(n, n.wrapping_mul(2_654_435_761), stage.dice.bytes(200)))
    }),
    ("forged feedback", |stage, n| {
        let mut packet = vec![0x81, 206, 0, 2];
        packet.extend(n.to_be_bytes());
        packet.extend(stage.dice.bytes(30));
        (stage.wim.client.path, packet)
    }),
    ("feedback that is not encrypted", |stage, n| {
        let mut packet = vec![0x81, 206, 0, 2, 0, 0, 0, 1];
        packet.extend(stage.dice.bytes(20));
        packet.extend((n & 0x7fff_ffff).to_be_bytes());
        (stage.wim.client.path, packet)
    }),
    ("authentic bombs", |stage, _| {
        let bomb = [0x8f, 205, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0xff, 0xff, 0, 0, 0, 1, 0x1f, 0xff, 0, 0];
        (stage.wim.client.path, stage.wim.seal_rtcp(&bomb))
    }),
    ("authentic crumbs", |stage, _| {
        let tiny = [0x80, 201, 0, 1, 0, 0, 0, 1].repeat(180);
        (stage.wim.client.path, stage.wim.seal_rtcp(&tiny))
    }),
    ("authentic requests", |stage, n| {
        let ssrc = slot(&stage.wim.client.sdp).to_be_bytes();
        let mut compound = vec![0x81, 206, 0, 2, 0, 0, 0, 1];
        compound.extend(ssrc);
        compound.extend([0x81, 205, 0, 63, 0, 0, 0, 1]);
        compound.extend(ssrc);
        // Sixty-four of them ask for every number there is, wherever the engine's numbers began.
        let first = (n as u16).wrapping_mul(61 * 17);
        for pair in 0..61u16 {
            compound.extend(first.wrapping_add(pair * 17).to_be_bytes());
            compound.extend([0xff, 0xff]);
        }
        (stage.wim.client.path, stage.wim.seal_rtcp(&compound))
    }),
    ("authentic reports of ever new senders", |stage, n| {
        let mut report = vec![0x80, 201, 0, 1];
        report.extend(n.to_be_bytes());
        (stage.wim.client.path, stage.wim.seal_rtcp(&report))
    }),
    ("authentic media with extension bombs", |stage, n| {
        let mut packet = rtp(n, Camera::SSRC, Vec::new());
        packet[0] |= 0x10;
        packet.extend([0xbe, 0xde, 0, 2, 0x4f]);
        packet.extend(stage.dice.bytes(40));
        (stage.ada.client.path, stage.ada.seal_rtp(packet, 24))
    }),
    ("authentic media under ever new rids", |stage, n| {
        let mut packet = rtp(n, Camera::SSRC, Vec::new());
        packet[0] |= 0x10;
        packet.extend([0xbe, 0xde, 0, 2, 0xa4, b'r']);
        packet.extend((n as u16).to_be_bytes());
        packet.extend([0, 0, 0, 0]);
        packet.extend(stage.dice.bytes(40));
        (stage.ada.client.path, stage.ada.seal_rtp(packet, 24))
    }),
];

fn record(content: u8, body: Vec<u8>) -> Vec<u8> {
    let mut record = vec![content, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9];
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    record
}

/// The SSRC that brings the first publisher's video.
fn slot(sdp: &str) -> u32 {
    let video = &sdp[sdp.find("m=video").expect("it receives video")..];
    let line = video.lines().find_map(|line| line.strip_prefix("a=ssrc:")).expect("a stream is announced");
    line.split(' ').next().and_then(|ssrc| ssrc.parse().ok()).expect("it is a number")
}

/// What so many datagrams of a class leave, what the worst of them allocates, and how long one takes on average.
fn weigh(stage: &mut Stage, class: Class, count: u32) -> (i64, usize, Duration) {
    // Once for what grows with the first of its kind and stays, for all that come.
    let (before, ..) = round(stage, class, 0..count / 4);
    let (after, worst, spent) = round(stage, class, count / 4..count / 4 + count);
    (after - before, worst, spent / count)
}

fn round(stage: &mut Stage, class: Class, numbers: Range<u32>) -> (i64, usize, Duration) {
    let mut worst = 0;
    let mut spent = Duration::ZERO;
    for n in numbers {
        let (path, datagram) = class(stage, n);
        let before = COUNTING.stats().bytes_allocated;
        let began = clock::now();
        stage.receive(path, datagram);
        spent += clock::now() - began;
        worst = worst.max(COUNTING.stats().bytes_allocated - before);
        if n % 50 == 0 {
            stage.pass(ms(1));
        }
        if n % 20_000 == 0 {
            stage.consent();
        }
    }
    // Whatever was due to be said has been said.
    stage.consent();
    stage.pass(secs(3));
    stage.consent();
    stage.pass(secs(1));
    (live(), worst, spent)
}

#[test]
fn hostile_input_leaves_nothing_on_the_heap() {
    let count = if std::env::var_os("SLUICEGATE_LONG").is_some() { 1_000_000 } else { 6_000 };
    let mut stage = Stage::new();
    let members = stage.engine.footprint()[0];
    for (what, class) in CLASSES {
        let (left, worst, each) = weigh(&mut stage, class, count);
        println!("{what}: {left} B left of {count}, {worst} B at most for one, {each:?} each");
        // A timer or a report more or less may be under way, whatever came.
        assert!(left <= 4_096, "{what}: {left} B left of {count}");
        assert!(worst <= 64 * 1024, "{what}: {worst} B for one datagram");
        assert!(cfg!(debug_assertions) || each <= Duration::from_micros(50), "{what}: {each:?} each");
        assert_eq!(stage.engine.footprint()[0], members, "{what}");
    }
    assert_eq!(stage.engine.counters.panics, [0; 3]);
    handshake_bombs(&mut stage);
    description_bombs(&mut stage);
}

/// T03: 2,000 length bombs before the ClientHello, from an address that has proved to be the client's.
fn handshake_bombs(stage: &mut Stage) {
    let theirs = secure::Identity::generate().expect("a certificate is made");
    let part = (PUBLISH, Subscribe::Nothing);
    stage.engine = engine(Arc::new(Identity::generate().expect("a certificate is made")), 3);
    let (engine, now) = (&mut stage.engine, stage.now);
    let zoe = MemoryClient::join(engine, now, "room", 64, &theirs, part);
    engine.handle_datagram(now, now, zoe.path, &mut zoe.check());
    engine.flush(now, &mut Void);
    let before = live();
    let mut most = 0;
    for n in 0..2_000u32 {
        // Bytes of a message that claims to be 16 MB, and of one that might be believed.
        for (kind, claimed) in [(11, 0xff_ffff), (1, 0xff_ffff), (1, 4_000), (16, 4_000), (20, 4_000)] {
            let mut body = vec![kind];
            body.extend(&u32::to_be_bytes(claimed)[1..]);
            body.extend([0, (n / 500) as u8]);
            body.extend(&(n % 3_000).to_be_bytes()[1..]);
            body.extend([0, 1, 0]);
            body.extend([0; 256]);
            engine.handle_datagram(now, now, zoe.path, &mut record(22, body));
            engine.flush(now, &mut Void);
            most = most.max(live() - before);
        }
    }
    println!("handshake bombs: {most} B at most");
    assert!(most <= 256 * 1024, "{most} B for one peer");
}

/// T19: what is refused has cost a few times what came, all that was ever allocated taken together.
fn description_bombs(stage: &mut Stage) {
    let mut worst = (0, String::new());
    for (what, bomb) in bombs(PUBLISH) {
        let before = COUNTING.stats().bytes_allocated;
        let began = clock::now();
        let joined = stage.engine.join(stage.now, "bombs", PeerConfig::new("mallory"), &bomb);
        let took = clock::now() - began;
        let allocated = COUNTING.stats().bytes_allocated - before;
        let refused = joined.is_err();
        println!("{what}: {allocated} B for {} B, {took:?}, refused: {refused}", bomb.len());
        if refused {
            worst = worst.max((allocated * 100 / bomb.len().max(4_096), what));
        }
        if let Ok((peer, _)) = joined {
            stage.engine.leave(stage.now, peer);
            stage.pass(ms(1));
        }
    }
    println!("descriptions: {worst:?} % of the input at most");
    assert!(worst.0 <= 1_000, "{worst:?}");
}
