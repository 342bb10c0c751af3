//! DTLS 1.2 records and handshake fragments, as far as a server must read them before the library
//! that speaks DTLS may: RFC 6347 §4.1 and §4.2.

use bytes::{BufMut, BytesMut};

/// One record of a datagram.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The content type.
    pub content: u8,
    /// 0 until the keys are agreed: what it holds, anyone may have written.
    pub epoch: u16,
    /// What the header frames; never empty.
    pub body: &'a [u8],
    /// Header and body.
    pub raw: &'a [u8],
}

/// ChangeCipherSpec.
pub const CHANGE_CIPHER_SPEC: u8 = 20;
/// Alert.
pub const ALERT: u8 = 21;
/// Handshake.
pub const HANDSHAKE: u8 = 22;
/// Application data.
pub const APPLICATION_DATA: u8 = 23;

/// The records of `datagram`, `None` unless they fill it exactly.
pub fn records(datagram: &[u8]) -> Option<Vec<Record<'_>>> {
    let mut records = Vec::new();
    let mut rest = datagram;
    while !rest.is_empty() {
        let (&[content, major, _, e0, e1, _, _, _, _, _, _, l0, l1], behind) =
            rest.split_first_chunk::<RECORD_HEADER>()?;
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        let body = behind.get(..len)?;
        if major != DTLS_MAJOR || body.is_empty() || records.len() >= MAX_RECORDS {
            return None;
        }
        let (raw, after) = rest.split_at_checked(len.checked_add(RECORD_HEADER)?)?;
        records.push(Record { content, epoch: u16::from_be_bytes([e0, e1]), body, raw });
        rest = after;
    }
    (!records.is_empty()).then_some(records)
}

/// A handshake message, or a part of one.
#[derive(Clone, Copy, Debug)]
pub struct Fragment<'a> {
    /// The message type.
    pub kind: u8,
    /// The length of the whole message.
    pub length: usize,
    /// The message's number in the handshake.
    pub message_seq: u16,
    /// Where `data` belongs.
    pub offset: usize,
    /// Never empty.
    pub data: &'a [u8],
}

/// ClientHello.
pub const CLIENT_HELLO: u8 = 1;
/// Certificate.
pub const CERTIFICATE: u8 = 11;
/// CertificateVerify.
pub const CERTIFICATE_VERIFY: u8 = 15;
/// ClientKeyExchange.
pub const CLIENT_KEY_EXCHANGE: u8 = 16;

/// The fragments in a plaintext handshake record, `None` if one of them is impossible: empty, not
/// inside its message, longer than [`MAX_MESSAGE`], or of a message a handshake does not get to.
pub fn fragments(body: &[u8]) -> Option<Vec<Fragment<'_>>> {
    let mut fragments = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let (&[kind, a, b, c, s0, s1, d, e, f, g, h, i], behind) =
            rest.split_first_chunk::<HANDSHAKE_HEADER>()?;
        let length = u24(a, b, c);
        let message_seq = u16::from_be_bytes([s0, s1]);
        let offset = u24(d, e, f);
        let (data, after) = behind.split_at_checked(u24(g, h, i))?;
        let fits = offset.checked_add(data.len())? <= length;
        if data.is_empty() || !fits || length > MAX_MESSAGE || message_seq > MAX_MESSAGE_SEQ {
            return None;
        }
        fragments.push(Fragment { kind, length, message_seq, offset, data });
        rest = after;
    }
    (!fragments.is_empty()).then_some(fragments)
}

/// A reassembled handshake message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The message type.
    pub kind: u8,
    /// The message's number in the handshake.
    pub message_seq: u16,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Message {
    /// The message in one record of its own, with the record number `sequence`.
    ///
    /// Epoch 0 authenticates neither fragmentation nor record numbers, and the transcript is over
    /// unfragmented messages (RFC 6347 §4.2.6), so this is the same message to the handshake.
    pub fn to_record(&self, sequence: u64) -> BytesMut {
        let length = (self.body.len() as u32).to_be_bytes();
        let mut out = BytesMut::with_capacity(self.body.len().saturating_add(32));
        out.put_slice(&[HANDSHAKE, DTLS_MAJOR, DTLS_1_2]);
        out.put_u16(0);
        out.put_uint(sequence, 6);
        out.put_u16(self.body.len().saturating_add(HANDSHAKE_HEADER) as u16);
        out.put_u8(self.kind);
        out.put_slice(length.get(1..).unwrap_or_default());
        out.put_u16(self.message_seq);
        out.put_slice(&[0; 3]);
        out.put_slice(length.get(1..).unwrap_or_default());
        out.put_slice(&self.body);
        out
    }
}

/// A ChangeCipherSpec record with the record number `sequence`.
pub fn change_cipher_spec(sequence: u64) -> BytesMut {
    let mut out = BytesMut::with_capacity(RECORD_HEADER.saturating_add(1));
    out.put_slice(&[CHANGE_CIPHER_SPEC, DTLS_MAJOR, DTLS_1_2, 0, 0]);
    out.put_uint(sequence, 6);
    out.put_slice(&[0, 1, 1]);
    out
}

/// Puts fragmented handshake messages together.
///
/// Fragments may come in any order and more than once. At most [`MAX_PARTIAL`] messages are under
/// construction, the oldest giving way, each of at most [`MAX_MESSAGE`] bytes in at most
/// [`MAX_FRAGMENTS`] parts: 64 KiB with the book-keeping.
#[derive(Default)]
pub struct Reassembly {
    partial: Vec<Partial>,
}

struct Partial {
    message: Message,
    /// Which bytes of the body have come.
    filled: Vec<bool>,
    missing: usize,
    fragments: usize,
}

impl Reassembly {
    /// Adds a fragment; the message, if this completes it.
    pub fn add(&mut self, fragment: Fragment<'_>) -> Option<Message> {
        if fragment.data.len() == fragment.length {
            return Some(Message {
                kind: fragment.kind,
                message_seq: fragment.message_seq,
                body: fragment.data.to_vec(),
            });
        }
        let known = self.partial.iter().position(|partial| partial.is_of(&fragment));
        let at = known.unwrap_or_else(|| self.begin(&fragment));
        let partial = self.partial.get_mut(at)?;
        partial.add(&fragment);
        if partial.missing == 0 {
            return Some(self.partial.remove(at).message);
        }
        if partial.fragments >= MAX_FRAGMENTS {
            self.partial.remove(at);
        }
        None
    }

    fn begin(&mut self, fragment: &Fragment<'_>) -> usize {
        if self.partial.len() >= MAX_PARTIAL {
            self.partial.remove(0);
        }
        let message = Message {
            kind: fragment.kind,
            message_seq: fragment.message_seq,
            body: vec![0; fragment.length],
        };
        let filled = vec![false; fragment.length];
        self.partial.push(Partial { message, filled, missing: fragment.length, fragments: 0 });
        self.partial.len().saturating_sub(1)
    }
}

impl Partial {
    fn is_of(&self, fragment: &Fragment<'_>) -> bool {
        self.message.kind == fragment.kind
            && self.message.message_seq == fragment.message_seq
            && self.message.body.len() == fragment.length
    }

    /// Takes the bytes that are new. A repeated fragment brings none and does not count.
    fn add(&mut self, fragment: &Fragment<'_>) {
        let before = self.missing;
        let bytes = self.message.body.iter_mut().zip(&mut self.filled).skip(fragment.offset);
        for ((byte, filled), new) in bytes.zip(fragment.data) {
            if !*filled {
                *byte = *new;
                *filled = true;
                self.missing = self.missing.saturating_sub(1);
            }
        }
        if self.missing < before {
            self.fragments = self.fragments.saturating_add(1);
        }
    }
}

/// What a server must know of a ClientHello before it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientHello {
    /// The client's random, which names its attempt.
    pub random: [u8; 32],
    /// The protection profiles of `use_srtp` in the client's order, RFC 5764 §4.1.2. Empty
    /// without the extension.
    pub srtp_profiles: Vec<u16>,
}

impl ClientHello {
    /// Reads the body of a ClientHello. `None` too if it resumes a session, which we never offer.
    pub fn parse(body: &[u8]) -> Option<ClientHello> {
        let (_version, rest) = body.split_at_checked(2)?;
        let (&random, rest) = rest.split_first_chunk()?;
        let (session, rest) = vector8(rest)?;
        let (_cookie, rest) = vector8(rest)?;
        let (_suites, rest) = vector16(rest)?;
        let (_compression, rest) = vector8(rest)?;
        let (mut extensions, rest) = vector16(rest)?;
        if !session.is_empty() || !rest.is_empty() {
            return None;
        }
        let mut srtp_profiles = Vec::new();
        while !extensions.is_empty() {
            let (&kind, behind) = extensions.split_first_chunk()?;
            let (value, behind) = vector16(behind)?;
            if u16::from_be_bytes(kind) == USE_SRTP {
                let (profiles, _mki) = vector16(value)?;
                let profiles = profiles.chunks_exact(2).take(MAX_PROFILES);
                srtp_profiles = profiles
                    .filter_map(|profile| Some(u16::from_be_bytes(*profile.first_chunk()?)))
                    .collect();
            }
            extensions = behind;
        }
        Some(ClientHello { random, srtp_profiles })
    }
}

/// A vector with an 8-bit length, and what follows it.
fn vector8(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&len, rest) = bytes.split_first()?;
    rest.split_at_checked(len.into())
}

/// A vector with a 16-bit length, and what follows it.
fn vector16(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&len, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u16::from_be_bytes(len).into())
}

fn u24(a: u8, b: u8, c: u8) -> usize {
    u32::from_be_bytes([0, a, b, c]) as usize
}

/// The longest handshake message read: a ClientHello with post-quantum key shares is 1.5 kB, a
/// certificate 1 kB.
pub const MAX_MESSAGE: usize = 8 * 1024;
/// Parts a message may come in: 1.5 kB in pieces of 60 bytes are 25.
pub const MAX_FRAGMENTS: usize = 32;
/// Messages under construction at a time: a client's last flight has three.
pub const MAX_PARTIAL: usize = 4;

/// A client sends at most messages 0 to 5.
const MAX_MESSAGE_SEQ: u16 = 8;
/// A datagram of 1500 bytes has room for more only if it is up to no good.
const MAX_RECORDS: usize = 32;
/// Four profiles are in use.
const MAX_PROFILES: usize = 16;
const RECORD_HEADER: usize = 13;
const HANDSHAKE_HEADER: usize = 12;
const DTLS_MAJOR: u8 = 0xfe;
const DTLS_1_2: u8 = 0xfd;
const USE_SRTP: u16 = 14;

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(len: usize) -> Message {
        Message { kind: 1, message_seq: 0, body: (0..len).map(|i| (i % 251) as u8).collect() }
    }

    fn part(message: &Message, from: usize, to: usize) -> Fragment<'_> {
        Fragment {
            kind: message.kind,
            length: message.body.len(),
            message_seq: message.message_seq,
            offset: from,
            data: &message.body[from..to],
        }
    }

    #[test]
    fn a_record_reads_back() {
        let message = message(300);
        let mut datagram = message.to_record(7);
        datagram.extend_from_slice(&change_cipher_spec(8));
        let records = records(&datagram).unwrap();
        assert_eq!(records.len(), 2);
        assert_eq!((records[0].content, records[0].epoch), (HANDSHAKE, 0));
        assert_eq!((records[1].content, records[1].body), (CHANGE_CIPHER_SPEC, &[1][..]));
        let fragments = fragments(records[0].body).unwrap();
        assert_eq!(Reassembly::default().add(fragments[0]), Some(message));
        for cut in 1..datagram.len() {
            let whole = super::records(&datagram[..cut]);
            assert_eq!(whole.is_some(), cut == 300 + 12 + 13, "cut at {cut}");
        }
    }

    #[test]
    fn impossible_fragments_are_refused() {
        let message = message(300);
        let with = |at: usize, bytes: &[u8]| {
            let mut record = message.to_record(0)[13..].to_vec();
            record[at..at + bytes.len()].copy_from_slice(bytes);
            fragments(&record).is_some()
        };
        assert!(with(0, &[11]));
        assert!(with(4, &[0, 8]) && !with(4, &[0, 9]), "message number");
        assert!(with(1, &[0, 0x20, 0]) && !with(1, &[0, 0x20, 1]), "8 KiB and one more");
        assert!(!with(1, &[0, 1, 0]), "shorter than its part");
        assert!(!with(6, &[0, 0, 1]), "offset beyond the end");
        assert!(!with(9, &[0, 0, 0]), "an empty part");
        assert!(!with(9, &[0, 2, 0]), "beyond the record");
        assert!(fragments(&[]).is_none());
    }

    #[test]
    fn a_flood_of_tiny_fragments_is_bounded() {
        let message = message(8_192);
        let mut reassembly = Reassembly::default();
        for at in 0..8_192 {
            assert_eq!(reassembly.add(part(&message, at, at + 1)), None);
            assert!(reassembly.partial.len() <= MAX_PARTIAL);
        }
        for length in 2..2_000 {
            let fragment = Fragment { length, ..part(&message, 0, 1) };
            assert_eq!(reassembly.add(fragment), None);
            assert!(reassembly.partial.len() <= MAX_PARTIAL);
        }
    }

    #[test]
    fn the_profiles_are_found_wherever_they_are() {
        let extension = |kind: u16, value: &[u8]| {
            let mut out = kind.to_be_bytes().to_vec();
            out.extend((value.len() as u16).to_be_bytes());
            out.extend(value);
            out
        };
        let srtp = extension(14, &[0, 6, 0, 1, 0, 8, 0, 7, 0]);
        let share = extension(51, &[9; 1_258]);
        let hello = |extensions: &[u8]| {
            let mut body = vec![0xfe, 0xfd];
            body.extend([5; 32]);
            body.extend([0, 0, 0, 2, 0xc0, 0x2b, 1, 0]);
            body.extend((extensions.len() as u16).to_be_bytes());
            body.extend(extensions);
            body
        };
        for extensions in [[srtp.clone(), share.clone()].concat(), [share.clone(), srtp].concat()] {
            let body = hello(&extensions);
            let parsed = ClientHello::parse(&body).unwrap();
            assert_eq!(parsed, ClientHello { random: [5; 32], srtp_profiles: vec![1, 8, 7] });
            for cut in 0..body.len() {
                assert_eq!(ClientHello::parse(&body[..cut]), None);
            }
        }
        assert!(ClientHello::parse(&hello(&share)).unwrap().srtp_profiles.is_empty());
    }

    proptest! {
        #[test]
        fn any_order_of_fragments_makes_the_message(
            len in 100usize..4_000,
            size in 130usize..400,
            swaps in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..40),
            repeats in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let message = message(len);
            let mut parts: Vec<_> = (0..len).step_by(size).map(|at| (at, len.min(at + size))).collect();
            for (a, b) in swaps {
                let (a, b) = (a.index(parts.len()), b.index(parts.len()));
                parts.swap(a, b);
            }
            let (&last, early) = parts.split_last().unwrap();
            let mut reassembly = Reassembly::default();
            for &(from, to) in early {
                prop_assert_eq!(reassembly.add(part(&message, from, to)), None);
            }
            for repeat in repeats {
                if let Some(&(from, to)) = early.get(repeat.index(parts.len())) {
                    prop_assert_eq!(reassembly.add(part(&message, from, to)), None);
                }
            }
            prop_assert_eq!(reassembly.add(part(&message, last.0, last.1)), Some(message.clone()));
            prop_assert!(reassembly.partial.is_empty());
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = records(&bytes);
            let _ = ClientHello::parse(&bytes);
            let mut reassembly = Reassembly::default();
            for fragment in fragments(&bytes).unwrap_or_default() {
                let _ = reassembly.add(fragment);
            }
        }
    }
}
