//! One function for each parser of the wire. Each asserts what callers rely on, and says whether the parser took
//! the input: a mutator that no parser listens to proves nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use rtc_sctp::{ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Payload};
use rtc_shared::TransportProtocol;
use sluicegate::sans_io::Channels;
use sluicegate::sans_io::wire::{
    av1, demux, descriptor, dtls, h264, h265, red, rtcp, rtp, sctp, stun, vp8, vp9,
};

/// A parser under test.
pub type Parser = fn(&[u8]) -> bool;

/// Each parser by the name of its target and of the directory of its seeds.
pub const ALL: [(&str, Parser); 13] = [
    ("demux", demux),
    ("stun", stun),
    ("dtls", dtls),
    ("rtp", rtp),
    ("rtcp_gate", rtcp_gate),
    ("vp8", vp8),
    ("vp9", vp9),
    ("h264", h264),
    ("h265", h265),
    ("av1", av1),
    ("descriptor", descriptor),
    ("red", red),
    ("sctp", sctp),
];

/// The first two bytes decide, and no parser disagrees.
pub fn demux(datagram: &[u8]) -> bool {
    let protocol = demux::protocol_of(datagram);
    assert_eq!(protocol, demux::protocol_of(&datagram[..datagram.len().min(2)]));
    if stun::Request::parse(datagram).is_some() {
        assert_eq!(protocol, Some(demux::Protocol::Stun));
    }
    if rtp::RtpHeader::parse(datagram).is_some() {
        assert!(matches!(protocol, Some(demux::Protocol::Rtp | demux::Protocol::Rtcp)));
    }
    protocol.is_some()
}

/// Chunks lie in their packet, and what a RE-CONFIG holds is one parameter or two. Whatever is let through, an association goes
/// on from it: nothing panics.
pub fn sctp(bytes: &[u8]) -> bool {
    let Some(packet) = sctp::Packet::parse(bytes) else { return false };
    let chunks: Vec<sctp::Chunk<'_>> = packet.chunks().collect();
    assert!(!chunks.is_empty() && chunks.len() * 4 + 12 <= bytes.len());
    for chunk in chunks {
        if let sctp::Chunk::Reconfig(params) = chunk {
            assert!((1..=2).contains(&params.count()));
        }
    }
    sctp_association(bytes);
    true
}

/// A request is a whole message, and its answer is of bounded size, to that request, and no request.
pub fn stun(datagram: &[u8]) -> bool {
    if let Some(local) = stun::username_local(datagram) {
        assert!(lies_in(local.as_bytes(), datagram) && !local.contains(':'));
    }
    let Some(request) = stun::Request::parse(datagram) else { return false };
    assert!(lies_in(request.username.as_bytes(), datagram));
    assert!(!request.is_authentic(key()), "nobody has been told this password");
    let remote = SocketAddr::from((Ipv4Addr::LOCALHOST, 5_000));
    for answer in [request.success(remote, key()), request.role_conflict(key())] {
        assert!((20..=100).contains(&answer.len()), "{} bytes", answer.len());
        assert_eq!(answer[8..20], datagram[8..20], "the transaction");
        assert!(stun::Request::parse(&answer).is_none(), "two agents must not answer each other for ever");
    }
    true
}

/// Records fill their datagram; fragments lie in their record and in their message; a message that has come
/// together reads back from the record that is made of it.
pub fn dtls(datagram: &[u8]) -> bool {
    let Some(records) = dtls::records(datagram) else { return false };
    assert_eq!(records.iter().map(|record| record.raw.len()).sum::<usize>(), datagram.len());
    let mut reassembly = dtls::Reassembly::default();
    for record in records {
        assert!(!record.body.is_empty() && lies_in(record.body, record.raw) && lies_in(record.raw, datagram));
        for fragment in dtls::fragments(record.body).unwrap_or_default() {
            assert!(!fragment.data.is_empty() && lies_in(fragment.data, record.body));
            assert!(fragment.offset + fragment.data.len() <= fragment.length);
            assert!(fragment.length <= dtls::MAX_MESSAGE);
            if let Some(message) = reassembly.add(fragment) {
                check_message(&message);
            }
        }
    }
    true
}

fn check_message(message: &dtls::Message) {
    let datagram = message.to_record(1);
    let records = dtls::records(&datagram).expect("a record");
    let [record] = &records[..] else { panic!("{} records of one", records.len()) };
    assert_eq!((record.content, record.epoch), (dtls::HANDSHAKE, 0));
    let fragments = dtls::fragments(record.body).expect("fragments");
    let [whole] = fragments[..] else { panic!("{} fragments of one", fragments.len()) };
    assert_eq!(dtls::Reassembly::default().add(whole).as_ref(), Some(message));
    if let Some(hello) = dtls::ClientHello::parse(&message.body) {
        assert!(hello.srtp_profiles.len() <= message.body.len() / 2);
    }
}

/// Header, extensions and payload lie in the packet; what extensions say survives being written again.
pub fn rtp(packet: &[u8]) -> bool {
    let Some(header) = rtp::RtpHeader::parse(packet) else { return false };
    assert!((12..=packet.len()).contains(&header.len));
    if let Some(payload) = header.payload(packet) {
        assert!(header.len + payload.len() <= packet.len() && lies_in(payload, packet));
    }
    // A two-byte header for each element, and at least one byte was there for it.
    let mut buf = vec![0xff; 2 * packet.len() + 16];
    let (seq, timestamp, ssrc) = (header.seq, header.timestamp, header.ssrc);
    let mut writer = rtp::HeaderWriter::new(&mut buf, header.marker, header.pt, seq, timestamp, ssrc, true);
    for (id, value) in header.extensions(packet) {
        assert!(lies_in(value, &packet[..header.len]));
        writer.element(id, value);
    }
    let len = writer.finish();
    let written = rtp::RtpHeader::parse(&buf[..len]).expect("what is written reads back");
    assert_eq!(written.len, len);
    assert_eq!((written.marker, written.pt, written.seq), (header.marker, header.pt, header.seq));
    assert_eq!((written.timestamp, written.ssrc), (header.timestamp, header.ssrc));
    // No block says more words than a datagram has.
    if packet.len() < 32_000 {
        assert!(header.extensions(packet).eq(written.extensions(&buf[..len])), "the elements");
    }
    true
}

/// The gate lets through what the scan counts, up to the sum that transport-wide feedback claims and no less.
pub fn rtcp_gate(compound: &[u8]) -> bool {
    let claims: Vec<usize> = rtcp::twcc_status_counts(compound).map(usize::from).collect();
    assert!(claims.len() <= rtcp::MAX_SUB_PACKETS);
    let claimed: usize = claims.iter().sum();
    let Some(counts) = rtcp::scan(compound) else {
        assert!(rtcp::gate(compound, usize::MAX).is_err());
        return false;
    };
    assert!(compound.len() <= rtcp::MAX_BYTES);
    assert_eq!(rtcp::gate(compound, claimed), Ok(counts));
    assert!(claimed == 0 || rtcp::gate(compound, claimed - 1).is_err());
    let messages = [
        counts.nacks,
        counts.plis,
        counts.firs,
        counts.rembs,
        counts.twccs,
        counts.sender_reports,
        counts.receiver_reports,
        counts.byes,
    ];
    assert!(messages.iter().sum::<u32>() as usize <= rtcp::MAX_SUB_PACKETS);
    assert_eq!(counts.twccs as usize, claims.len());
    assert!(counts.nacked_packets as usize <= 17 * compound.len() / 4);
    true
}

/// The descriptor lies in the payload, and a patch changes two numbers and nothing else.
pub fn vp8(payload: &[u8]) -> bool {
    let Some(before) = vp8::Vp8Descriptor::parse(payload) else { return false };
    assert!((1..=payload.len()).contains(&before.len));
    assert!(before.size(payload).is_none() || before.is_keyframe(payload));
    for (id, tl0) in NUMBERS {
        let mut patched = payload.to_vec();
        before.patch(&mut patched, id, tl0);
        assert_eq!(patched[before.len..], payload[before.len..]);
        let after = vp8::Vp8Descriptor::parse(&patched).expect("it parsed before");
        let picture_id = renumbered(before.picture_id, id);
        let tl0_pic_idx = before.tl0_pic_idx.map(|_| tl0);
        assert_eq!(after, vp8::Vp8Descriptor { picture_id, tl0_pic_idx, ..before });
    }
    true
}

/// As for VP8.
pub fn vp9(payload: &[u8]) -> bool {
    let Some(before) = vp9::Vp9Descriptor::parse(payload) else { return false };
    assert!((1..=payload.len()).contains(&before.len));
    assert!(before.size.is_none() || before.spatial_layers.is_some_and(|layers| (1..=8).contains(&layers)));
    assert!(!before.is_keyframe() || before.start && !before.inter_predicted);
    for (id, tl0) in NUMBERS {
        let mut patched = payload.to_vec();
        before.patch(&mut patched, id, tl0);
        assert_eq!(patched[before.len..], payload[before.len..]);
        let after = vp9::Vp9Descriptor::parse(&patched).expect("it parsed before");
        let picture_id = renumbered(before.picture_id, id);
        let tl0_pic_idx = before.tl0_pic_idx.map(|_| tl0);
        assert_eq!(after, vp9::Vp9Descriptor { picture_id, tl0_pic_idx, ..before });
    }
    true
}

/// A unit says the same alone, aggregated and as the first fragment; what follows makes no keyframe undone.
pub fn h264(payload: &[u8]) -> bool {
    let starts = h264::starts_keyframe(payload);
    assert!(starts || !h264::starts_keyframe(&payload[..payload.len() / 2]));
    if let Some((header, rest)) = payload.split_first()
        && (1..24).contains(&(header & 0x1f))
        && let Ok(len) = u16::try_from(payload.len())
    {
        let aggregate = [&[0x78][..], &len.to_be_bytes(), payload].concat();
        assert_eq!(h264::starts_keyframe(&aggregate), starts);
        let kind = header & 0x1f;
        assert_eq!(h264::starts_keyframe(&[&[0x7c, 0x80 | kind], rest].concat()), starts);
        assert!(!h264::starts_keyframe(&[&[0x7c, kind], rest].concat()), "not the first fragment");
    }
    starts
}

/// As for H.264.
pub fn h265(payload: &[u8]) -> bool {
    let starts = h265::starts_keyframe(payload);
    assert!(starts || !h265::starts_keyframe(&payload[..payload.len() / 2]));
    if let Some(([header, layer], rest)) = payload.split_first_chunk()
        && (header >> 1 & 0x3f) < 48
        && let Ok(len) = u16::try_from(payload.len())
    {
        let aggregate = [&[0x60, *layer][..], &len.to_be_bytes(), payload].concat();
        assert_eq!(h265::starts_keyframe(&aggregate), starts);
        let kind = header >> 1 & 0x3f;
        assert_eq!(h265::starts_keyframe(&[&[0x62, *layer, 0x80 | kind], rest].concat()), starts);
        assert!(!h265::starts_keyframe(&[&[0x62, *layer, kind], rest].concat()), "not the first fragment");
    }
    starts
}

/// The aggregation header decides, where there is something behind it.
pub fn av1(payload: &[u8]) -> bool {
    let starts = av1::starts_keyframe(payload);
    assert_eq!(starts, av1::starts_keyframe(&payload[..payload.len().min(2)]));
    assert!(!av1::starts_keyframe(&payload[..payload.len().min(1)]));
    starts
}

/// A stream of descriptors, each behind a byte that gives its length. The structure that one carries serves those
/// behind it. Whether any was taken.
pub fn descriptor(stream: &[u8]) -> bool {
    let mut known = None;
    let mut taken = false;
    let mut rest = stream;
    while let Some((&len, after)) = rest.split_first() {
        let (bytes, after) = after.split_at(usize::from(len).min(after.len()));
        rest = after;
        taken |= check_descriptor(bytes, &mut known);
    }
    taken
}

fn check_descriptor(bytes: &[u8], known: &mut Option<descriptor::Structure>) -> bool {
    let parsed = descriptor::parse(bytes, known.as_ref());
    let chains = descriptor::chain_diffs(bytes, known.as_ref());
    assert_eq!(chains.is_some(), parsed.is_some());
    let (Some((read, attached)), Some(chains)) = (parsed, chains) else {
        if let Some(known) = known {
            assert_eq!(descriptor::restrict(bytes, known, 1, &mut [0; descriptor::MAX_BYTES]), None);
        }
        return false;
    };
    let current = attached.as_ref().or(known.as_ref()).expect("one of them described it");
    check_structure(current);
    assert!(read.spatial < current.spatial_layers() && read.temporal < 8);
    let all = current.targets_within(u8::MAX, u8::MAX);
    assert_eq!(all.count_ones(), u32::from(current.decode_targets()));
    assert_eq!(read.targets & !all, 0);
    assert_eq!(read.switch_targets & !read.targets, 0);
    assert!(!read.starts_keyframe || read.start_of_frame && attached.is_some());
    for target in 0..current.decode_targets() {
        let chain = current.chain_of(target);
        assert!(chain.is_none_or(|chain| chains.get(chain).is_some()), "target {target} under {chain:?}");
    }
    for active in [0, 1, u32::MAX, 0x5555_5555] {
        let mut out = [0xff; descriptor::MAX_BYTES];
        let Some(len) = descriptor::restrict(bytes, current, active, &mut out) else {
            // A mask is of four bytes at most, and five flags.
            assert!(bytes.len() + 5 > descriptor::MAX_BYTES);
            continue;
        };
        let (restricted, same) = descriptor::parse(&out[..len], Some(current)).expect("it parsed before");
        assert_eq!(restricted, descriptor::Descriptor { active_targets: Some(active & all), ..read });
        assert_eq!(same, attached);
        assert_eq!(descriptor::chain_diffs(&out[..len], Some(current)), Some(chains));
        let mut again = [0xff; descriptor::MAX_BYTES];
        assert_eq!(descriptor::restrict(&out[..len], current, active, &mut again), Some(len));
        assert_eq!(again[..len], out[..len]);
        assert_eq!(descriptor::restrict(bytes, current, active, &mut again[..len - 1]), None, "no room");
    }
    if attached.is_some() {
        *known = attached;
    }
    true
}

fn check_structure(structure: &descriptor::Structure) {
    assert!((1..=32).contains(&structure.decode_targets()) && (1..=4).contains(&structure.spatial_layers()));
    assert_eq!(structure.size_of(structure.spatial_layers()), None);
    assert_eq!(structure.chain_of(structure.decode_targets()), None);
    for spatial in 0..4 {
        for temporal in 0..8 {
            let fewer = structure.targets_within(spatial, temporal);
            let more = structure.targets_within(spatial + 1, temporal)
                & structure.targets_within(spatial, temporal + 1);
            assert_eq!(fewer & !more, 0, "a target does not leave when layers come");
        }
    }
}

/// The primary block ends the payload; other payload types move nothing, and taking them back restores it if all
/// had one.
pub fn red(payload: &[u8]) -> bool {
    let found = red::primary(payload);
    let mut retyped = payload.to_vec();
    red::retype(&mut retyped, 0xff);
    let Some((pt, block)) = found else {
        assert_eq!(retyped, payload, "what is not understood stays");
        return false;
    };
    assert!(pt < 128 && (1..=payload.len()).contains(&block.start) && block.end == payload.len());
    assert_eq!(red::primary(&retyped), Some((127, block.clone())));
    assert_eq!(retyped[block.clone()], payload[block]);
    let changed = retyped.iter().zip(payload).filter(|(after, before)| after != before);
    assert!(changed.count() <= red::MAX_BLOCKS);
    let mut twice = retyped.clone();
    red::retype(&mut twice, 127);
    assert_eq!(twice, retyped);
    red::retype(&mut twice, pt);
    red::retype(&mut retyped, pt | 0x80);
    assert_eq!(twice, retyped, "seven bits");
    true
}

/// A picture id and a TL0PICIDX, at both ends and between.
const NUMBERS: [(u16, u8); 3] = [(0, 0), (0x1285, 9), (0x7fff, 0xff)];

/// What becomes of a picture id: its width stays.
fn renumbered(old: Option<vp8::PictureId>, id: u16) -> Option<vp8::PictureId> {
    old.map(|old| vp8::PictureId { value: if old.wide { id } else { id & 0x7f }, wide: old.wide })
}

/// Whether `part` is a piece of `whole`, not only equal to one.
fn lies_in(part: &[u8], whole: &[u8]) -> bool {
    let (part, whole) = (part.as_ptr_range(), whole.as_ptr_range());
    part.is_empty() || whole.start <= part.start && part.end <= whole.end
}

fn key() -> &'static stun::Key {
    static KEY: OnceLock<stun::Key> = OnceLock::new();
    KEY.get_or_init(|| stun::Key::new("a password that no seed is signed with"))
}

/// What passes the walk goes to an established association, with the tag and the checksum that it wants.
fn sctp_association(bytes: &[u8]) {
    let now = sluicegate_benches::clock::now();
    let us = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let mut endpoint = Endpoint::new(us, TransportProtocol::UDP, Arc::new(EndpointConfig::new()), None);
    let (_, mut client) = endpoint.connect(now, ClientConfig::default(), us).expect("it connects");
    let mut ours = Channels::new(now, usize::MAX);
    let mut tag = [0; 4];
    while let Some(transmit) = client.poll_transmit(now) {
        let Payload::RawEncode(packets) = transmit.message else { continue };
        for packet in packets {
            tag.copy_from_slice(&packet[4..8]);
            ours.handle_packet(now, &packet).expect("the client's own is taken");
        }
        while let Some(packet) = ours.poll_transmit(now) {
            if let Some((_, DatagramEvent::AssociationEvent(event))) = endpoint.handle(now, us, None, packet)
            {
                client.handle_event(event);
            }
        }
    }
    assert!(!client.is_handshaking());
    let mut forged = bytes.to_vec();
    forged[4..8].copy_from_slice(&tag);
    forged[8..12].fill(0);
    let checksum = crc32c(&forged).to_le_bytes();
    forged[8..12].copy_from_slice(&checksum);
    let forged = Bytes::from(forged);
    for later in [0, 1, 300, 5_000] {
        let now = now + Duration::from_millis(later);
        let _ = ours.handle_packet(now, &forged);
        ours.handle_timeout(now);
        while ours.poll_transmit(now).is_some() {}
        while ours.poll_event().is_some() {}
    }
}

/// Castagnoli's, as SCTP has it (RFC 9260 appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & 0_u32.wrapping_sub(crc & 1)))
    };
    !bytes.iter().fold(u32::MAX, step)
}
