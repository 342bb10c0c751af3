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
