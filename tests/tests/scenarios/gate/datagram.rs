//! Datagrams that no honest client sends, and how to tell honest ones apart.

use sluicegate_tests::world::dice::Dice;

pub fn is_stun(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(0..=3))
}

pub fn is_dtls(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(20..=63))
}

pub fn is_rtp(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(128..=191)) && !(192..=223).contains(&bytes[1])
}

pub fn is_rtcp(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(128..=191)) && (192..=223).contains(&bytes[1])
}

/// One plaintext record of epoch 0.
pub fn dtls_record(content: u8, body: &[u8]) -> Vec<u8> {
    let mut record = vec![content, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9];
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    record
}

/// A fragment of a handshake message that claims to be `len` bytes long.
pub fn handshake_message(kind: u8, len: u32, fragment: &[u8]) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend(&len.to_be_bytes()[1..]);
    message.extend([0, 0, 0, 0, 0]);
    message.extend(&(fragment.len() as u32).to_be_bytes()[1..]);
    message.extend(fragment);
    dtls_record(22, &message)
}

/// Well-formed, and offers only a suite that nobody takes: 67 bytes.
pub fn bad_client_hello(dice: &mut Dice) -> Vec<u8> {
    let mut body = vec![0xfe, 0xfd];
    body.extend(dice.bytes(32));
    body.extend([0, 0, 0, 2, 0, 0x2f, 1, 0]);
    handshake_message(1, body.len() as u32, &body)
}

/// An RTP header and a payload, in the clear.
pub fn rtp(pt: u8, seq: u16, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, pt];
    packet.extend(seq.to_be_bytes());
    packet.extend(u32::from(seq).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend(payload);
    packet
}

/// The same with a block of one-byte header extensions, RFC 8285 §4.2.
pub fn rtp_with(pt: u8, seq: u16, ssrc: u32, elements: &[(u8, &[u8])], payload: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    for (id, value) in elements {
        block.push(id << 4 | (value.len() as u8 - 1));
        block.extend(*value);
    }
    block.resize(block.len().next_multiple_of(4), 0);
    let mut packet = rtp(pt, seq, ssrc, &[]);
    packet[0] |= 0x10;
    packet.extend([0xbe, 0xde]);
    packet.extend((block.len() as u16 / 4).to_be_bytes());
    packet.extend(block);
    packet.extend(payload);
    packet
}
