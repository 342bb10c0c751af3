//! Tells the protocols that share one UDP socket apart by their first two bytes.
#![warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

/// What a datagram claims to be. Only a parser can say whether it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// RFC 8489.
    Stun,
    /// RFC 6347.
    Dtls,
    /// RFC 3711, media.
    Rtp,
    /// RFC 3711, control.
    Rtcp,
}

/// The protocol of a datagram, or `None` for what we do not speak (ZRTP, TURN channels, noise).
///
/// RFC 7983 §7 for the first byte. RTP and RTCP share a range of it and differ in the second: RFC 5761
/// §4 keeps payload types 64–95 out of RTP so that, marker bit included, 192–223 can only be RTCP.
pub fn protocol_of(datagram: &[u8]) -> Option<Protocol> {
    match datagram.first()? {
        0..=3 => Some(Protocol::Stun),
        20..=63 => Some(Protocol::Dtls),
        128..=191 => match datagram.get(1)? {
            192..=223 => Some(Protocol::Rtcp),
            _ => Some(Protocol::Rtp),
        },
        _ => None,
    }
}

#[test]
fn the_first_two_bytes_decide() {
    assert_eq!(protocol_of(&[]), None);
    for (first, expected) in [
        (0, Some(Protocol::Stun)),
        (3, Some(Protocol::Stun)),
        (4, None),
        (16, None), // ZRTP
        (19, None),
        (20, Some(Protocol::Dtls)),
        (63, Some(Protocol::Dtls)),
        (64, None), // TURN channel
        (79, None),
        (127, None),
        (128, Some(Protocol::Rtp)),
        (191, Some(Protocol::Rtp)),
        (192, None),
        (255, None),
    ] {
        assert_eq!(protocol_of(&[first, 0]), expected, "first byte {first}");
    }
    for (second, expected) in [
        (0, Protocol::Rtp),
        (191, Protocol::Rtp),
        (192, Protocol::Rtcp),
        (200, Protocol::Rtcp),
        (223, Protocol::Rtcp),
        (224, Protocol::Rtp), // payload type 96 with the marker bit
        (255, Protocol::Rtp),
    ] {
        assert_eq!(protocol_of(&[0x80, second]), Some(expected), "second byte {second}");
    }
}

#[test]
fn one_byte_of_rtp_is_nothing() {
    assert_eq!(protocol_of(&[0x80]), None);
}
