//! The RTP header: where it ends, what it says, and how to write a new one.
#![warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

use crate::ids::{Pt, Ssrc};

/// A view of one packet's header, RFC 3550 §5.1. It borrows nothing, so it travels beside the packet.
#[derive(Clone, Copy, Debug)]
pub struct RtpHeader {
    /// For video the last packet of a frame, for audio the first after silence.
    pub marker: bool,
    /// The payload type.
    pub pt: Pt,
    /// The sequence number as the wire has it.
    pub seq: u16,
    /// In units of the codec's clock.
    pub timestamp: u32,
    /// The source.
    pub ssrc: Ssrc,
    /// Header bytes, with the CSRC list and the extension block.
    pub len: usize,
    /// The P bit: the last payload byte, once decrypted, counts the padding.
    pub padded: bool,
    form: Form,
    /// Where the extension elements start; they end at `len`.
    elements: usize,
}

impl RtpHeader {
    /// Reads the header of an RTP or SRTP packet. `None` unless version 2, and the CSRC list, the
    /// extension block and every element of it lie inside the packet.
    ///
    /// The elements are walked here so that later readers need not doubt them: two parsers with two
    /// opinions on bounds are how header bugs travel. Padding is not looked at, for in SRTP the count
    /// is ciphertext still.
    pub fn parse(packet: &[u8]) -> Option<RtpHeader> {
        let (fixed, rest) = packet.split_first_chunk::<FIXED>()?;
        let [b0, b1, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3] = *fixed;
        if b0 >> 6 != 2 {
            return None;
        }
        let csrcs = usize::from(b0 & 0x0f) << 2;
        let mut rest = rest.get(csrcs..)?;
        let mut form = Form::Absent;
        let mut block: &[u8] = &[];
        if b0 & X_BIT != 0 {
            let ([p0, p1, w0, w1], after) = rest.split_first_chunk::<4>()?;
            form = Form::of(u16::from_be_bytes([*p0, *p1]));
            let words = usize::from(u16::from_be_bytes([*w0, *w1]));
            (block, rest) = after.split_at_checked(words << 2)?;
            let mut walk = Elements { form, rest: block };
            while walk.step().ok()?.is_some() {}
        }
        let len = packet.len().saturating_sub(rest.len());
        Some(RtpHeader {
            marker: b1 & 0x80 != 0,
            pt: Pt(b1 & 0x7f),
            seq: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: Ssrc(u32::from_be_bytes([c0, c1, c2, c3])),
            len,
            padded: b0 & P_BIT != 0,
            form,
            elements: len.saturating_sub(block.len()),
        })
    }

    /// The extension elements as (id, value), RFC 8285 §4.2 and §4.3. Nothing for a profile we do not
    /// know. `packet` is the one that was parsed; SRTP leaves headers in the clear.
    pub fn extensions<'p>(&self, packet: &'p [u8]) -> impl Iterator<Item = (u8, &'p [u8])> + use<'p> {
        let block = packet.get(self.elements..self.len).unwrap_or_default();
        Elements { form: self.form, rest: block }
    }

    /// The payload of a decrypted packet without its padding: empty for a padding-only packet. `None`
    /// when the padding count is zero or exceeds the payload, RFC 3550 §5.1.
    pub fn payload<'p>(&self, plain: &'p [u8]) -> Option<&'p [u8]> {
        let payload = plain.get(self.len..)?;
        if !self.padded {
            return Some(payload);
        }
        let padding = usize::from(*payload.last()?);
        if padding == 0 {
            return None;
        }
        payload.get(..payload.len().checked_sub(padding)?)
    }
}

/// How the elements of an extension block are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Absent,
    /// Profile 0xBEDE, RFC 8285 §4.2.
    OneByte,
    /// Profile 0x100X, RFC 8285 §4.3. The low four bits are the application's.
    TwoByte,
    Unknown,
}

impl Form {
    fn of(profile: u16) -> Form {
        match profile {
            ONE_BYTE => Form::OneByte,
            profile if profile & 0xfff0 == TWO_BYTE => Form::TwoByte,
            _ => Form::Unknown,
        }
    }
}

/// An element that claims more bytes than its block has.
struct Outside;

struct Elements<'p> {
    form: Form,
    rest: &'p [u8],
}

impl<'p> Elements<'p> {
    fn step(&mut self) -> Result<Option<(u8, &'p [u8])>, Outside> {
        // A zero byte is padding in both forms and may stand anywhere.
        while let Some((0, after)) = self.rest.split_first() {
            self.rest = after;
        }
        let Some((&first, after)) = self.rest.split_first() else {
            return Ok(None);
        };
        let (id, len, after) = match self.form {
            Form::Absent | Form::Unknown => return Ok(None),
            Form::OneByte => match (first >> 4, first & 0x0f) {
                // 15 stops the walk (RFC 8285 §4.2); so does an id 0 that claims a length, as in libwebrtc.
                (0 | 15, _) => return Ok(None),
                (id, less_one) => (id, usize::from(less_one).saturating_add(1), after),
            },
            Form::TwoByte => {
                let (&len, after) = after.split_first().ok_or(Outside)?;
                (first, usize::from(len), after)
            }
        };
        let (value, after) = after.split_at_checked(len).ok_or(Outside)?;
        self.rest = after;
        Ok(Some((id, value)))
    }
}

impl<'p> Iterator for Elements<'p> {
    type Item = (u8, &'p [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.step().ok().flatten()
    }
}

/// Writes a header into a buffer, straight through, without allocating.
///
/// An element that cannot be encoded is skipped in silence: an id outside 1–14 or a value outside 1–16
/// bytes in the one-byte form, id 0 or more than 255 bytes in the two-byte form, or no room left in the
/// buffer. The caller chose the form from what was negotiated, and a packet without one of its hints is
/// worth more than no packet.
#[derive(Debug)]
pub struct HeaderWriter<'b> {
    buf: &'b mut [u8],
    two_byte: bool,
    /// Bytes written. Zero if the buffer could not even hold the fixed header.
    at: usize,
}

impl<'b> HeaderWriter<'b> {
    /// Writes the fixed part. `two_byte` picks the extension form, RFC 8285 §4.3.
    pub fn new(
        buf: &'b mut [u8],
        marker: bool,
        pt: Pt,
        seq: u16,
        timestamp: u32,
        ssrc: Ssrc,
        two_byte: bool,
    ) -> HeaderWriter<'b> {
        let mut at = 0;
        if let Some(fixed) = buf.first_chunk_mut::<FIXED>() {
            let [s0, s1] = seq.to_be_bytes();
            let [t0, t1, t2, t3] = timestamp.to_be_bytes();
            let [c0, c1, c2, c3] = ssrc.0.to_be_bytes();
            let b1 = (u8::from(marker) << 7) | (pt.0 & 0x7f);
            *fixed = [0x80, b1, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3];
            at = FIXED;
        }
        HeaderWriter { buf, two_byte, at }
    }

    /// Adds an element, unless it cannot be encoded.
    #[inline]
    pub fn element(&mut self, id: u8, value: &[u8]) {
        if self.at == 0 {
            return;
        }
        let (head, head_len) = match (self.two_byte, u8::try_from(value.len())) {
            (true, Ok(len)) if id != 0 => ([id, len], 2),
            (false, Ok(len @ 1..=16)) if (1..=14).contains(&id) => {
                ([(id << 4) | len.saturating_sub(1), 0], 1)
            }
            _ => return,
        };
        let head = head.get(..head_len).unwrap_or_default();
        // The first element also opens the block.
        let start = self.at.max(ELEMENTS);
        let value_at = start.saturating_add(head.len());
        let end = value_at.saturating_add(value.len());
        // Room for the final padding too, and a length that its 16-bit field can say.
        if end.saturating_add(3) & !3 > self.buf.len().min(LONGEST) {
            return;
        }
        if let Some(to) = self.buf.get_mut(start..value_at) {
            to.copy_from_slice(head);
        }
        if let Some(to) = self.buf.get_mut(value_at..end) {
            to.copy_from_slice(value);
        }
        self.at = end;
    }

    /// Closes the extension block, if one was opened, and returns the header's length.
    #[inline]
    pub fn finish(self) -> usize {
        if self.at <= FIXED {
            return self.at;
        }
        let end = self.at.saturating_add(3) & !3;
        if let Some(padding) = self.buf.get_mut(self.at..end) {
            padding.fill(0);
        }
        let profile = if self.two_byte { TWO_BYTE } else { ONE_BYTE };
        let words = u16::try_from(end.saturating_sub(ELEMENTS) >> 2).unwrap_or(u16::MAX);
        if let Some([p0, p1, w0, w1]) = self.buf.get_mut(FIXED..ELEMENTS) {
            [*p0, *p1] = profile.to_be_bytes();
            [*w0, *w1] = words.to_be_bytes();
        }
        if let Some(b0) = self.buf.first_mut() {
            *b0 |= X_BIT;
        }
        end
    }
}

const P_BIT: u8 = 0x20;
const X_BIT: u8 = 0x10;
const ONE_BYTE: u16 = 0xbede;
const TWO_BYTE: u16 = 0x1000;
/// The header without CSRCs and extensions.
const FIXED: usize = 12;
/// Where we write extension elements: after profile and length, and we write no CSRCs.
const ELEMENTS: usize = 16;
/// No datagram is longer, so no header is.
const LONGEST: usize = 65_532;

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::*;
    use rtp::header::Header as Oracle;

    use super::*;

    fn packet(b0: u8, tail: &[u8]) -> Vec<u8> {
        let mut packet = vec![b0, 0xe0, 0x12, 0x34, 0, 0, 0x30, 0x39, 0xde, 0xad, 0xbe, 0xef];
        packet.extend_from_slice(tail);
        packet
    }

    fn elements(packet: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let header = RtpHeader::parse(packet).unwrap();
        header.extensions(packet).map(|(id, value)| (id, value.to_vec())).collect()
    }

    #[test]
    fn a_plain_header_reads_as_written() {
        let packet = packet(0x80, b"media");
        let header = RtpHeader::parse(&packet).unwrap();
        assert!(header.marker);
        assert_eq!(header.pt, Pt(96));
        assert_eq!(header.seq, 0x1234);
        assert_eq!(header.timestamp, 12_345);
        assert_eq!(header.ssrc, Ssrc(0xdead_beef));
        assert_eq!(header.len, 12);
        assert!(!header.padded);
        assert_eq!(header.payload(&packet), Some(&b"media"[..]));
        assert_eq!(header.extensions(&packet).count(), 0);
    }

    #[test]
    fn only_version_two_is_rtp() {
        for version in [0x00, 0x40, 0xc0] {
            assert!(RtpHeader::parse(&packet(version, &[])).is_none());
        }
        assert!(RtpHeader::parse(&packet(0x80, &[])[..11]).is_none());
    }

    #[test]
    fn csrcs_lie_inside_the_packet() {
        assert_eq!(RtpHeader::parse(&packet(0x82, &[0; 8])).unwrap().len, 20);
        assert!(RtpHeader::parse(&packet(0x82, &[0; 7])).is_none());
    }

    #[test]
    fn the_extension_block_lies_inside_the_packet() {
        assert_eq!(RtpHeader::parse(&packet(0x90, &[0xbe, 0xde, 0, 1, 0, 0, 0, 0])).unwrap().len, 20);
        assert!(RtpHeader::parse(&packet(0x90, &[0xbe, 0xde, 0, 1, 0, 0, 0])).is_none());
        assert!(RtpHeader::parse(&packet(0x90, &[0xbe, 0xde, 0])).is_none());
    }

    #[test]
    fn elements_lie_inside_their_block() {
        // Two bytes claimed, two there; then three claimed.
        let fits = packet(0x90, &[0xbe, 0xde, 0, 1, 0x31, 7, 8, 0]);
        assert_eq!(elements(&fits), [(3, vec![7, 8])]);
        let over = packet(0x90, &[0xbe, 0xde, 0, 1, 0x33, 7, 8, 0, 0xff, 0xff]);
        assert!(RtpHeader::parse(&over).is_none());
        let fits = packet(0x90, &[0x10, 0x05, 0, 1, 200, 2, 7, 8]);
        assert_eq!(elements(&fits), [(200, vec![7, 8])]);
        let over = packet(0x90, &[0x10, 0x05, 0, 1, 200, 3, 7, 8, 0xff]);
        assert!(RtpHeader::parse(&over).is_none());
        let no_length = packet(0x90, &[0x10, 0x05, 0, 1, 200, 1, 7, 8, 0xff]);
        assert!(RtpHeader::parse(&no_length).is_none());
    }

    #[test]
    fn padding_may_stand_between_elements() {
        let one = packet(0x90, &[0xbe, 0xde, 0, 2, 0x10, 1, 0, 0, 0x20, 2, 0, 0]);
        assert_eq!(elements(&one), [(1, vec![1]), (2, vec![2])]);
        let two = packet(0x90, &[0x10, 0, 0, 2, 1, 0, 0, 2, 1, 9, 0, 0]);
        assert_eq!(elements(&two), [(1, vec![]), (2, vec![9])]);
    }

    #[test]
    fn id_15_stops_the_one_byte_walk() {
        let stopped = packet(0x90, &[0xbe, 0xde, 0, 2, 0x10, 1, 0xff, 9, 0x20, 2, 0, 0]);
        assert_eq!(elements(&stopped), [(1, vec![1])]);
        let reserved = packet(0x90, &[0xbe, 0xde, 0, 2, 0x10, 1, 0x03, 9, 0x20, 2, 0, 0]);
        assert_eq!(elements(&reserved), [(1, vec![1])]);
        let two_byte_form = packet(0x90, &[0x10, 0, 0, 1, 15, 2, 7, 8]);
        assert_eq!(elements(&two_byte_form), [(15, vec![7, 8])]);
    }

    #[test]
    fn an_unknown_profile_is_stepped_over() {
        let packet = packet(0x90, &[0xab, 0xcd, 0, 1, 0xff, 0xff, 0xff, 0xff, b'm']);
        assert!(elements(&packet).is_empty());
        assert_eq!(RtpHeader::parse(&packet).unwrap().payload(&packet), Some(&b"m"[..]));
    }

    #[test]
    fn padding_is_one_to_all_of_the_payload() {
        let payload = |tail: &[u8]| {
            let packet = packet(0xa0, tail);
            RtpHeader::parse(&packet).unwrap().payload(&packet).map(<[u8]>::to_vec)
        };
        assert_eq!(payload(&[1, 2, 3, 1]), Some(vec![1, 2, 3]));
        assert_eq!(payload(&[0, 0, 0, 4]), Some(vec![]));
        assert_eq!(payload(&[0, 0, 0, 5]), None);
        assert_eq!(payload(&[1, 2, 3, 0]), None);
        assert_eq!(payload(&[]), None);
    }

    #[test]
    fn the_writer_skips_what_it_cannot_encode() {
        let mut buf = [0xaa; 64];
        let mut writer = HeaderWriter::new(&mut buf, false, Pt(111), 7, 8, Ssrc(9), false);
        writer.element(0, &[1]);
        writer.element(15, &[1]);
        writer.element(3, &[]);
        writer.element(3, &[0; 17]);
        let len = writer.finish();
        assert_eq!(len, 12, "no element, no block, no X bit");
        assert!(RtpHeader::parse(&buf[..len]).is_some());
        assert_eq!(buf[0], 0x80);

        let mut small = [0; 20];
        let mut writer = HeaderWriter::new(&mut small, false, Pt(111), 7, 8, Ssrc(9), false);
        writer.element(1, &[5, 5, 5]);
        writer.element(2, &[6]);
        assert_eq!(writer.finish(), 20);
        assert_eq!(elements(&small), [(1, vec![5, 5, 5])]);

        let mut tiny = [0; 11];
        let mut writer = HeaderWriter::new(&mut tiny, false, Pt(111), 7, 8, Ssrc(9), false);
        writer.element(1, &[5]);
        assert_eq!(writer.finish(), 0);
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_do_not(bytes in proptest::collection::vec(any::<u8>(), 0..80), x in any::<bool>()) {
            let mut bytes = bytes;
            if x && bytes.len() > 16 {
                bytes[0] = 0x90;
                let words = bytes[15] % 12;
                bytes[12..16].copy_from_slice(&[0xbe, 0xde, 0, words]);
            }
            if let Some(header) = RtpHeader::parse(&bytes) {
                prop_assert!(header.len <= bytes.len());
                for (_, value) in header.extensions(&bytes) {
                    prop_assert!(value.len() < header.len);
                }
                header.payload(&bytes);
            }
        }

        #[test]
        fn what_is_written_reads_back_here_and_upstream(
            (two_byte, values) in prop_oneof![
                (Just(false), proptest::collection::btree_map(1u8..15, proptest::collection::vec(any::<u8>(), 1..17), 0..8)),
                (Just(true), proptest::collection::btree_map(1u8..=255, proptest::collection::vec(any::<u8>(), 0..40), 0..8)),
            ],
            marker in any::<bool>(), pt in 0u8..128, seq in any::<u16>(), timestamp in any::<u32>(), ssrc in any::<u32>(),
        ) {
            let mut buf = [0xaa; 400];
            let mut writer = HeaderWriter::new(&mut buf, marker, Pt(pt), seq, timestamp, Ssrc(ssrc), two_byte);
            for (id, value) in &values {
                writer.element(*id, value);
            }
            let len = writer.finish();
            prop_assert_eq!(len % 4, 0);
            let header = RtpHeader::parse(&buf[..len]).unwrap();
            prop_assert_eq!((header.marker, header.pt, header.seq), (marker, Pt(pt), seq));
            prop_assert_eq!((header.timestamp, header.ssrc, header.len), (timestamp, Ssrc(ssrc), len));
            let read: std::collections::BTreeMap<_, _> =
                header.extensions(&buf[..len]).map(|(id, value)| (id, value.to_vec())).collect();
            prop_assert_eq!(&read, &values);

            use rtc_shared::marshal::Unmarshal;
            let oracle = Oracle::unmarshal(&mut &buf[..len]).unwrap();
            prop_assert_eq!((oracle.marker, oracle.payload_type, oracle.sequence_number), (marker, pt, seq));
            prop_assert_eq!((oracle.timestamp, oracle.ssrc), (timestamp, ssrc));
            for (id, value) in &values {
                let read = oracle.get_extension(*id).unwrap_or_default();
                prop_assert_eq!(&read[..], &value[..]);
            }
        }
    }
}
