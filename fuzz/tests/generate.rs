//! Writes the committed seeds: `cargo test -p sluicegate-fuzz --test generate -- --ignored`.

use std::fs;
use std::path::Path;

use sluicegate_fuzz::ingress::step::*;
use sluicegate_fuzz::script::Writer;

fn keep(target: &str, name: &str, bytes: &[u8]) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    fs::create_dir_all(&directory).expect("the directory is made");
    fs::write(directory.join(name), bytes).expect("the seed is written");
}

#[test]
#[ignore = "writes into the source tree"]
fn write_seeds() {
    rtcp();
    ingress();
    negotiation();
    datagrams();
    payloads();
    descriptors();
}

fn rtcp() {
    let receiver_report = [0x80, 201, 0, 1, 0, 0, 0, 1];
    let pli = [0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2];
    let fir = [0x84, 206, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 9, 0, 0, 0];
    let nack = [0x81, 205, 0, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0, 9, 0x80, 0x01, 0, 99, 0, 0];
    let twcc = [0x8f, 205, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0x20, 1, 4, 0];
    let remb = [0x8f, 206, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, b'R', b'E', b'M', b'B', 1, 12, 0, 100, 0, 0, 0, 2];
    let sender_report: Vec<u8> = [0x80, 200, 0, 6].into_iter().chain([0; 24]).collect();
    let bye = [0x81, 203, 0, 3, 0, 0, 0, 1, 4, b'g', b'o', b'n', b'e', 0, 0, 0];
    let sdes = [0x81, 202, 0, 3, 0, 0, 0, 1, 1, 4, b'n', b'a', b'm', b'e', 0, 0];
    let xr = [0x80, 207, 0, 4, 0, 0, 0, 1, 4, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0];
    let padded = [0xa0, 201, 0, 2, 0, 0, 0, 1, 0, 0, 0, 4];
    for (name, bytes) in [
        ("pli", &pli[..]),
        ("fir", &fir),
        ("nack", &nack),
        ("twcc", &twcc),
        ("remb", &remb),
        ("sender-report", &sender_report),
        ("bye", &bye),
        ("xr", &xr),
        ("padded", &padded),
    ] {
        keep("rtcp", name, bytes);
    }
    keep("rtcp", "compound", &[&receiver_report[..], &sdes, &nack, &pli, &fir].concat());
    keep("rtcp", "report-and-twcc", &[&receiver_report[..], &twcc, &remb].concat());
}

fn ingress() {
    let both = || Writer::default().step(&[CONNECT, 0, 0, CONNECT, 5, 1]);
    let check = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    let hello = [1, 0, 0, 42, 0, 0, 0, 0, 0, 0, 0, 42, 0xfe, 0xfd];
    let opus = [0x90, 111, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0xbe, 0xde, 0, 1, 0x40, b'0', 0, 0, 0xfc, 1, 2];
    keep(
        "ingress",
        "strangers",
        &Writer::default().step(&[RAW, 1, 2]).bytes(&check).step(&[FORGED, 1, 4]).bytes(&opus).0,
    );
    keep(
        "ingress",
        "checks",
        &[CHECK, 1, 0, CHECK, 1, 2, CHECK, 1, 4, SPOILED_CHECK, 1, 6, 1, 0, 30, 1, TIME, 0, 0, 255],
    );
    keep(
        "ingress",
        "records",
        &Writer::default()
            .step(&[CHECK, 1, 0, RECORD, 1, 0, 2, 0, 0])
            .bytes(&hello)
            .step(&[TIME, 0, 0, 20])
            .0,
    );
    keep(
        "ingress",
        "handshake",
        &[CHECK, 1, 0, HANDSHAKE, 1, 0, HANDSHAKE, 1, 0, HANDSHAKE, 1, 0, HANDSHAKE, 1, 0, TIME, 0, 0, 9],
    );
    let mut spoiled = vec![CHECK, 1, 0];
    for at in 0..4 {
        spoiled.extend([SPOILED_HANDSHAKE, 1, 0, 1, 0, 20 + at, 0x10, TIME, 0, 0, 5]);
    }
    keep("ingress", "spoiled-handshake", &spoiled);
    keep(
        "ingress",
        "call",
        &both().step(&[FRAME, 3, 0, 4, FRAME, 3, 1, 7, TIME, 0, 0, 12, FRAME, 33, 0, 2, TIME, 0, 0, 10]).0,
    );
    keep(
        "ingress",
        "rtp",
        &both()
            .step(&[RTP, 1, 0])
            .bytes(&opus)
            .step(&[16, RTP, 1, 0])
            .bytes(&opus)
            .step(&[0xdf, REPLAY, 1, 0, 1, 0])
            .0,
    );
    keep("ingress", "rtcp", &both().step(&[RTCP, 1, 0]).bytes(&[0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]).0);
    // An authentic packet of a stream that nothing announces, twice: once counted as a replay of no kind.
    let unknown = [0x80, 77, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 9, 9];
    let unknown = both().step(&[RTP, 1, 0]).bytes(&unknown).step(&[0x10, REPLAY, 1, 0, 0, 0]);
    keep("ingress", "unannounced-replay", &unknown.0);
    let mut feedback = both().step(&[FRAME, 1, 0, 5, FRAME, 1, 1, 5]);
    for which in 0..8 {
        for slot in 0..4 {
            feedback = feedback.step(&[FEEDBACK, 2, slot & 1, which, slot]).bytes(&[0, 1, 0xff, 0xff]);
        }
    }
    keep("ingress", "feedback", &feedback.0);
    keep(
        "ingress",
        "full",
        &both().step(&[FULL, 0, 0, 3, FRAME, 1, 0, 6, FULL, 0, 0, 9, FRAME, 1, 0, 6, TIME, 0, 0, 1]).0,
    );
    keep(
        "ingress",
        "host",
        &both()
            .step(&[
                HOST, 0, 0, 0, 50, HOST, 1, 0, 2, HOST, 1, 0, 3, HOST, 1, 1, 4, HOST, 1, 0, 5, TIME, 0, 0, 9,
            ])
            .0,
    );
    // Three layers, and a host that limits and lifts; then one layer's own descriptors, repairs, and a rival for its rid.
    let mut layers = both();
    for turn in 0..6 {
        layers =
            layers.step(&[HOST, 5, 0, 6, turn % 3, 3, FRAME, 20, 1, 0x42, FRAME, 20, 1, 1, FRAME, 110, 1, 1]);
    }
    keep("ingress", "layers", &layers.0);
    let one_layer = [0xc0, 0, 1, 0x80, 0, 0x3a, 0x41, 1, 0];
    let key = [0x10, 0, 0, 0, 0x9d, 1, 0x2a, 64, 1, 240, 0];
    let of = |writer: Writer, which, how, descriptor: &[u8], payload: &[u8]| {
        writer.step(&[LAYER, 9, 1, which, how]).bytes(descriptor).bytes(payload).step(&[0])
    };
    let mut described = both();
    for layer in 0..3 {
        let stream = layer << 2 | layer;
        described = of(described, stream, 0x80, &one_layer, &key);
        described = of(described, stream, 0x90, &[0xc1, 0, 2], &[0x80, 1]);
        described = of(described, 0x10 | stream, 0x04, &[0xc1, 0, 2], &[0, 1, 0x80, 1]);
        described = of(described, 3 << 2 | layer, 0xa0, &one_layer, &key);
    }
    keep("ingress", "described-layers", &described.step(&[TIME, 0, 0, 9]).0);
    keep("ingress", "silence", &both().step(&[TIME, 0, 0, 250, TIME, 0, 0, 250]).0);
}

fn negotiation() {
    for base in 0..5 {
        let join = [2, base, 0, 5, base, 0, 0, base, 0, 1 << 1, 6, 0];
        keep("negotiation", &format!("join-{base}"), &join);
    }
    keep("negotiation", "call", &[4, 2, 0, 5, 2, 0, 2, 6, 0, 3, 6, 0, 4, 2, 0]);
    keep("negotiation", "dropped-lines", &[4, 2, 3, 0, 0, 9, 0, 0, 40, 0, 0, 41, 2, 6, 1, 0, 0, 9]);
    keep("negotiation", "doubled-sections", &[4, 2, 1, 6, 0, 5, 200, 5, 0, 1, 6, 0, 5, 200]);
    keep("negotiation", "moved-and-cut", &[4, 3, 3, 2, 0, 8, 0, 30, 4, 0, 9, 6, 1, 0, 10]);
    let own = b"v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n";
    keep("negotiation", "own", &Writer::default().step(&[4, 5]).bytes(own).step(&[0]).0);
}

/// For the parsers that see datagrams.
fn datagrams() {
    keep("demux", "stun", &[0, 1]);
    keep("demux", "dtls", &[22, 0xfe]);
    keep("demux", "rtp", &[0x80, 111]);
    keep("demux", "rtcp", &[0x80, 200]);
    keep("demux", "turn", &[0x40, 0]);

    let username = Writer::default().step(&[0, 6]).bytes(b"ours:theirs").step(&[0]).0;
    let controlled = Writer::default().step(&[0x80, 0x29]).bytes(&[9; 8]).0;
    let nominated = [0, 0x25, 0, 0];
    let integrity = Writer::default().step(&[0, 8]).bytes(&[0; 20]).0;
    let unsigned = [&username[..], &nominated].concat();
    keep("stun", "unsigned", &check(&unsigned));
    keep("stun", "check", &check(&[&unsigned[..], &integrity].concat()));
    keep("stun", "role-conflict", &check(&[&username[..], &controlled, &integrity].concat()));
    let mut fingerprinted = check(&[&unsigned[..], &integrity, &[0x80, 0x28, 0, 4, 0, 0, 0, 0]].concat());
    let covered = fingerprinted.len() - 8;
    let crc = crc32(&fingerprinted[..covered]) ^ 0x5354_554e;
    fingerprinted[covered + 4..].copy_from_slice(&crc.to_be_bytes());
    keep("stun", "fingerprint", &fingerprinted);

    // No session, no cookie, one suite, no compression; use_srtp with one profile.
    let hello =
        [&[0xfe, 0xfd][..], &[7; 32], &[0, 0, 0, 2, 0xc0, 0x2b, 1, 0, 0, 9, 0, 14, 0, 5, 0, 2, 0, 7, 0]];
    let hello = hello.concat();
    keep("dtls", "client-hello", &record(22, 0, &fragment(&hello, 0, hello.len())));
    let (one, other) = (fragment(&hello, 0, 30), fragment(&hello, 30, hello.len()));
    keep("dtls", "fragments", &[record(22, 0, &other), record(22, 0, &one)].concat());
    keep("dtls", "fragments-in-one-record", &record(22, 0, &[one, other].concat()));
    keep("dtls", "finished", &[record(20, 0, &[1]), record(22, 1, &[0x5a; 40])].concat());

    let header = |first: u8| [first, 0xe0, 0x12, 0x34, 0, 0, 0x30, 0x39, 0xde, 0xad, 0xbe, 0xef];
    let rtp = |first: u8, tail: &[u8]| [&header(first)[..], tail].concat();
    keep("rtp", "plain", &rtp(0x80, b"media"));
    keep("rtp", "one-byte", &rtp(0x90, &[0xbe, 0xde, 0, 2, 0x31, 7, 8, 0, 0x40, b'0', 0, 0, 1, 2, 3]));
    keep("rtp", "two-byte", &rtp(0x90, &[0x10, 0, 0, 2, 3, 0, 200, 2, 7, 8, 0, 0, 1, 2, 3]));
    keep("rtp", "sources-and-padding", &rtp(0xa2, &[0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 3, 0, 0, 3]));

    let nack = [0x81, 205, 0, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0, 9, 0x80, 0x01, 0, 99, 0, 0];
    let twcc = [0x8f, 205, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0x20, 1, 4, 0];
    keep("rtcp_gate", "nack", &nack);
    keep("rtcp_gate", "twcc-twice", &[twcc, twcc].concat());
    keep("rtcp_gate", "compound", &[&[0x80, 201, 0, 1, 0, 0, 0, 1][..], &nack, &twcc].concat());
}

/// A Binding request of these attributes.
fn check(attributes: &[u8]) -> Vec<u8> {
    let cookie = [0x21, 0x12, 0xa4, 0x42];
    Writer::default()
        .step(&[0, 1])
        .step(&(attributes.len() as u16).to_be_bytes())
        .step(&cookie)
        .step(&[7; 12])
        .step(attributes)
        .0
}

/// As FINGERPRINT wants it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}

fn record(content: u8, epoch: u8, body: &[u8]) -> Vec<u8> {
    Writer::default().step(&[content, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 1]).bytes(body).0
}

/// The bytes of a ClientHello from `start` to `end`.
fn fragment(hello: &[u8], start: usize, end: usize) -> Vec<u8> {
    let part = &hello[start..end];
    let numbers = [1, 0, 0, hello.len() as u8, 0, 0, 0, 0, start as u8, 0, 0, part.len() as u8];
    [&numbers[..], part].concat()
}

/// For the parsers that see what is in an RTP packet.
fn payloads() {
    let vp8_keyframe = [0x10, 0x50, 0x01, 0x00, 0x9d, 0x01, 0x2a, 0x00, 0x45, 0xd0, 0xc2, 0xff];
    keep("vp8", "keyframe", &vp8_keyframe);
    keep("vp8", "narrow", &[0x90, 0xc0, 0x05, 0x06, 0x01]);
    keep("vp8", "wide", &[0xb0, 0xf0, 0x92, 0x34, 0x56, 0xa5, 0x01]);

    let sizes = [0x38, 2, 128, 1, 104, 5, 0, 2, 208, 2, 0x04, 0x01, 0x28, 0x01, 0x02];
    keep("vp9", "keyframe", &[&[0xaa, 0x92, 0x34, 0x10, 0x56][..], &sizes, &[0x82]].concat());
    keep("vp9", "flexible", &[0xf5, 0x05, 0x43, 0x03, 0x05, 0x02, 0xff]);
    keep("vp9", "bare", &[0x08, 0x82]);

    keep("h264", "parameter-sets", &[0x78, 0, 3, 0x67, 0x42, 0xe0, 0, 2, 0x68, 0xce]);
    keep("h264", "idr", &[0x65, 0x88, 0x84]);
    keep("h264", "idr-fragment", &[0x7c, 0x85, 0x88, 0x84]);
    keep("h264", "delta", &[0x41, 0x9a, 0x02]);

    keep("h265", "parameter-sets", &[0x60, 1, 0, 3, 0x40, 1, 0x0c, 0, 3, 0x42, 1, 0x01, 0, 3, 0x44, 1, 0xc0]);
    keep("h265", "idr", &[0x26, 1, 0xaf]);
    keep("h265", "idr-fragment", &[0x62, 1, 0x93, 0xaf]);
    keep("h265", "delta", &[0x02, 1, 0xd0]);

    keep("av1", "sequence", &[0x18, 0x0a, 0x0b, 0x00]);
    keep("av1", "continuation", &[0x90, 0x32, 0x0b]);

    keep("red", "primary", &[0x6f, 3, 4]);
    keep("red", "two-blocks", &[0xef, 0x0f, 0x00, 0x02, 0x6f, 1, 2, 3, 4, 5]);
    let ports = [0x13, 0x88, 0x13, 0x88, 0, 0, 0, 7, 0, 0, 0, 0];
    let data = [0, 3, 0, 20, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0, 0, 51, b'c', b'h', b'a', b't'];
    let sack = [3, 0, 0, 20, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 3];
    let reset = [130, 0, 0, 24, 0, 13, 0, 20, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 4];
    let abort = [6, 0, 0, 16, 0, 12, 0, 12, b'g', b'o', b'o', b'd', b' ', b'b', b'y', b'e'];
    let forward = [192, 0, 0, 12, 0, 0, 0, 2, 0, 2, 0, 0];
    let open = [
        0, 3, 0, 32, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0, 0, 50, 3, 0, 1, 0, 0, 0, 0, 0, 0, 4, 0, 0, b'c', b'h',
        b'a', b't',
    ];
    keep("sctp", "open", &[&ports[..], &open].concat());
    keep("sctp", "sack-data", &[&ports[..], &sack, &data].concat());
    keep("sctp", "reset", &[&ports[..], &reset].concat());
    keep("sctp", "forward", &[&ports[..], &forward].concat());
    keep("sctp", "heartbeat", &[&ports[..], &[4, 0, 0, 12, 0, 1, 0, 8, 1, 2, 3, 4]].concat());
    keep("sctp", "abort", &[&ports[..], &abort].concat());
    keep(
        "sctp",
        "init",
        &[&ports[..], &[1, 0, 0, 24], &[0, 0, 0, 9, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 1], &[0x80, 8, 0, 4]]
            .concat(),
    );
    keep("red", "eight-blocks", &[[0xef, 0x0f, 0, 1].repeat(7), vec![0x6f], vec![9; 10]].concat());
}

/// Streams of dependency descriptors, each behind its length.
fn descriptors() {
    let stream = |each: &[&[u8]]| -> Vec<u8> {
        each.iter().flat_map(|bytes| [&[bytes.len() as u8], *bytes].concat()).collect()
    };
    // One layer, one chain: a keyframe, a frame upon it, one with a mask.
    let one_layer = [0xc0, 0, 1, 0x80, 0, 0x3a, 0x41, 1, 0];
    keep("descriptor", "one-layer", &stream(&[&one_layer, &[0xc1, 0, 2], &[0xc1, 0, 3, 0x44]]));
    // Two spatial layers of two temporal ones, four targets, two chains, sizes; then a frame in which
    // everything differs from its template.
    let two_layers = [
        0xfc, 0, 7, 0x87, 0x83, 0x18, 0x7a, 0xaa, 0xf1, 0x30, 0xa0, 0xa0, 0x14, 0xd1, 0x41, 0x38, 0x23, 4,
        0x60, 8, 0x64, 0x22, 0x22, 0x26, 0x50, 0x13, 0xf0, 0x0b, 0x30, 0x27, 0xf0, 0x16, 0x70,
    ];
    let differs = [0xfc, 0, 9, 0x79, 0x8d, 0xa1, 8, 0x7f, 0xfe, 0x64, 0, 0];
    keep("descriptor", "two-layers", &stream(&[&two_layers, &[0xfd, 0, 8], &differs]));
    // 28 templates for 32 targets, all "required": as much as one descriptor can ask for.
    let most = [&[0xc0, 0, 1, 0x80, 0x1f, 0, 0, 0, 0, 0, 0, 3][..], &[0xff; 224], &[0; 6]].concat();
    keep("descriptor", "most-templates", &stream(&[&most]));
}
