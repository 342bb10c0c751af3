//! What the header of an RTP packet says.

/// An RTP header, RFC 3550 §5.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub marker: bool,
    pub padded: bool,
    pub pt: u8,
    pub seq: u16,
    pub timestamp: u32,
    pub ssrc: u32,
    /// Bytes up to the payload.
    pub len: usize,
    /// The transport-wide sequence number.
    pub transport: Option<u16>,
}

impl Header {
    /// Reads it; the payload may still be sealed.
    pub fn parse(packet: &[u8]) -> Option<Header> {
        let header = packet.first_chunk::<12>()?;
        let word =
            |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let mut len = 12 + 4 * usize::from(header[0] & 0x0f);
        let mut transport = None;
        if header[0] & 0x10 != 0 {
            let [high, low, words @ ..] = packet.get(len..)?.first_chunk::<4>()?;
            let elements = packet.get(len + 4..)?.get(..4 * usize::from(u16::from_be_bytes(*words)))?;
            if [*high, *low] == ONE_BYTE_FORM {
                transport = transport_number(elements);
            }
            len += 4 + elements.len();
        }
        Some(Header {
            marker: header[1] & 0x80 != 0,
            padded: header[0] & 0x20 != 0,
            pt: header[1] & 0x7f,
            seq: u16::from_be_bytes([header[2], header[3]]),
            timestamp: word(4),
            ssrc: word(8),
            len,
            transport,
        })
    }
}

/// RFC 8285 §4.2.
fn transport_number(mut elements: &[u8]) -> Option<u16> {
    loop {
        let (first, rest) = elements.split_first()?;
        let (id, len) = (first >> 4, usize::from(first & 0x0f) + 1);
        match id {
            0 => elements = rest,
            TRANSPORT_ID => return rest.first_chunk().map(|number| u16::from_be_bytes(*number)),
            _ => elements = rest.get(len..)?,
        }
    }
}

/// The number near `last` whose low 16 bits are `seq`.
pub fn unwrap(last: u64, seq: u16) -> u64 {
    let step = seq.wrapping_sub(last as u16) as i16;
    last.saturating_add_signed(step.into())
}

/// The extension number of transport-wide sequence numbers in our offers.
pub const TRANSPORT_ID: u8 = 3;
pub const ONE_BYTE_FORM: [u8; 2] = [0xbe, 0xde];

#[test]
fn the_transport_number_is_found_behind_others() {
    let packet = [
        0x90, 0xe0, 0, 7, 0, 0, 0, 9, 0, 0, 0, 1, // header with extension, marker, payload type 96
        0xbe, 0xde, 0, 2, 0x40, b'x', 0x31, 0x12, 0x34, 0, 0, 0, // mid, transport number, filler
        1, 2, 3,
    ];
    let header = Header::parse(&packet).unwrap();
    assert_eq!((header.pt, header.seq, header.ssrc, header.marker), (96, 7, 1, true));
    assert_eq!((header.len, header.transport), (24, Some(0x1234)));
    assert_eq!(Header::parse(&packet[..20]), None);
}

#[test]
fn numbers_unwrap_both_ways() {
    assert_eq!(unwrap(65_530, 3), 65_539);
    assert_eq!(unwrap(65_539, 65_530), 65_530);
    assert_eq!(unwrap(2, 65_535), 0);
}
