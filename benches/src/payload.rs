//! Payloads that say where they come from and cannot be altered unnoticed.

/// What a payload says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// Who published it.
    pub publisher: u32,
    /// Which packet of its stream, from 0.
    pub seq: u64,
    /// When it was sent, in nanoseconds since the epoch.
    pub sent: u64,
    /// The RTP timestamp it was sent under.
    pub timestamp: u32,
}

/// The shortest payload: descriptor, header, stamp, checksum.
pub const SHORTEST: usize = HEAD + STAMP + 8;

/// A VP8 packet: descriptor with a 15-bit picture id (RFC 7741 §4.2), the header of a frame, stamp, filler.
///
/// The picture id is the SFU's to renumber and therefore outside the checksum.
pub fn vp8(out: &mut Vec<u8>, stamp: Stamp, len: usize, first: bool, keyframe: bool, picture: u16) {
    let [high, low] = (picture & 0x7fff).to_be_bytes();
    out.extend([if first { 0x90 } else { 0x80 }, 0x80, 0x80 | high, low]);
    // P is clear in a keyframe's first byte (RFC 7741 §4.3); start code and 640x480 follow (RFC 6386 §9.1).
    let lead = if first && keyframe { 0x10 } else { 0x11 };
    write(out, [lead, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0xe0, 0x01], stamp, len);
}

/// An Opus packet: a 20 ms CELT-only table of contents (RFC 6716 §3.1), stamp, filler.
pub fn opus(out: &mut Vec<u8>, stamp: Stamp, len: usize) {
    write(out, [0xf8, 0xff, 0xfe, 0, 0, 0, 0, 0, 0, 0], stamp, len);
}

/// Reads a VP8 payload; `None` if it is not what was sent.
pub fn read_vp8(payload: &[u8]) -> Option<(Stamp, u16)> {
    let (descriptor, body) = payload.split_at_checked(DESCRIPTOR)?;
    Some((read(body)?, picture(descriptor)?))
}

/// Reads an Opus payload; `None` if it is not what was sent.
pub fn read_opus(payload: &[u8]) -> Option<Stamp> {
    read(payload)
}

/// Reads the stamp at a VP8 payload's head, which need not be whole and is not checked.
pub fn glance_vp8(head: &[u8]) -> Option<(Stamp, u16)> {
    let (descriptor, body) = head.split_at_checked(DESCRIPTOR)?;
    Some((stamp(body)?, picture(descriptor)?))
}

/// Reads the stamp at an Opus payload's head, which need not be whole and is not checked.
pub fn glance_opus(head: &[u8]) -> Option<Stamp> {
    stamp(head)
}

fn write(out: &mut Vec<u8>, header: [u8; 10], stamp: Stamp, len: usize) {
    let start = out.len();
    out.extend(header);
    out.extend(stamp.publisher.to_be_bytes());
    out.extend(stamp.seq.to_be_bytes());
    out.extend(stamp.sent.to_be_bytes());
    out.extend(stamp.timestamp.to_be_bytes());
    let end = start + len.max(SHORTEST) - DESCRIPTOR - 8;
    // Filler that differs from packet to packet, so that one cannot stand in for another.
    let mut noise = stamp.seq.wrapping_mul(PRIME) | 1;
    while out.len() < end {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        let bytes = noise.to_ne_bytes();
        out.extend(&bytes[..bytes.len().min(end - out.len())]);
    }
    let sum = checksum(&out[start..]);
    out.extend(sum.to_be_bytes());
}

/// The picture id, if the descriptor is as written.
fn picture(descriptor: &[u8]) -> Option<u16> {
    let as_written = descriptor[0] & 0x8f == 0x80 && descriptor[1] == 0x80 && descriptor[2] & 0x80 != 0;
    as_written.then(|| u16::from_be_bytes([descriptor[2] & 0x7f, descriptor[3]]))
}

fn read(body: &[u8]) -> Option<Stamp> {
    let (content, sum) = body.split_last_chunk::<8>()?;
    if checksum(content) == u64::from_be_bytes(*sum) { stamp(content) } else { None }
}

fn stamp(content: &[u8]) -> Option<Stamp> {
    let (publisher, rest) = content.get(10..)?.split_first_chunk::<4>()?;
    let (seq, rest) = rest.split_first_chunk::<8>()?;
    let (sent, rest) = rest.split_first_chunk::<8>()?;
    Some(Stamp {
        publisher: u32::from_be_bytes(*publisher),
        seq: u64::from_be_bytes(*seq),
        sent: u64::from_be_bytes(*sent),
        timestamp: u32::from_be_bytes(*rest.first_chunk()?),
    })
}

/// Eight bytes a step: at 20 000 packets a second a bytewise sum would be felt.
fn checksum(bytes: &[u8]) -> u64 {
    let mut sum = bytes.len() as u64 ^ PRIME;
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let word = u64::from_le_bytes(word.try_into().expect("chunks of eight"));
        sum = (sum ^ word).wrapping_mul(PRIME).rotate_left(29);
    }
    for &byte in words.remainder() {
        sum = (sum ^ u64::from(byte)).wrapping_mul(PRIME).rotate_left(29);
    }
    sum
}

const DESCRIPTOR: usize = 4;
const HEAD: usize = DESCRIPTOR + 10;
const STAMP: usize = 4 + 8 + 8 + 4;
/// 2⁶⁴ divided by the golden ratio, odd.
const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;

#[test]
fn any_altered_bit_is_noticed_but_for_the_picture_id() {
    let stamp = Stamp { publisher: 7, seq: 1 << 40, sent: 123, timestamp: 9 };
    let mut payload = Vec::new();
    vp8(&mut payload, stamp, 200, true, true, 77);
    assert_eq!(payload.len(), 200);
    assert_eq!(read_vp8(&payload), Some((stamp, 77)));
    for bit in 32..payload.len() * 8 {
        payload[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(read_vp8(&payload), None, "bit {bit}");
        payload[bit / 8] ^= 1 << (bit % 8);
    }
}
