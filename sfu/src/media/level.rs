//! How loud a packet is, as its sender says (RFC 6464).

/// What the header extension says of one packet of audio.
///
/// It is the client's word: good for ranking who is heard and seen first, and for nothing else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Level {
    /// Decibels above digital silence: 0 is silence, 127 the loudest there is (0 dBov).
    pub loudness: u8,
    /// The sender takes it for speech. Many never say so.
    pub voice: bool,
}

/// Digital silence is −127 dBov.
pub const LOUDEST: u8 = 127;

impl Level {
    /// Reads the value of the extension: the V bit, and −dBov in seven bits (RFC 6464 §3). What follows is padding of
    /// the two-byte form. `None`: nothing is there.
    pub fn parse(value: &[u8]) -> Option<Level> {
        let byte = *value.first()?;
        Some(Level { loudness: LOUDEST - (byte & 0x7f), voice: byte & 0x80 != 0 })
    }

    /// In dBov, −127 to 0.
    pub fn decibels(loudness: u8) -> i8 {
        (i16::from(loudness.min(LOUDEST)) - i16::from(LOUDEST)) as i8
    }
}

#[test]
fn every_byte_is_a_level() {
    assert_eq!(Level::parse(&[]), None);
    assert_eq!(Level::parse(&[0x00]), Some(Level { loudness: 127, voice: false }));
    assert_eq!(Level::parse(&[0x80 | 30, 0]), Some(Level { loudness: 97, voice: true }));
    assert_eq!(Level::parse(&[0xff]), Some(Level { loudness: 0, voice: true }));
    assert_eq!((Level::decibels(127), Level::decibels(97), Level::decibels(0)), (0, -30, -127));
    assert_eq!(Level::decibels(u8::MAX), 0);
}
