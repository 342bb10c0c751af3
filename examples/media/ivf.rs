//! IVF, the container of the VPx and AV1 tools: a file header, then frames with their lengths and times.
//!
//! `rtc-media` has a reader too. It allocates what a frame's header says before it looks whether the file has that
//! much (4 GiB for four damaged bytes), and ends a file that is cut short as it ends a whole one.
#![warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

use std::time::Duration;

use bytes::Bytes;

use super::{Codec, Stream, StreamError, Unit};

/// Why bytes are no IVF file that we can play.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IvfError {
    #[error("it is not an IVF file: it does not begin with DKIF")]
    Signature,
    #[error("it is cut short inside its header")]
    Header,
    #[error("its codec is {0}; we can send VP80, VP90 and AV01")]
    Fourcc(String),
    #[error("its time base is {numerator}/{denominator}")]
    TimeBase { numerator: u32, denominator: u32 },
    #[error("it is cut short inside frame {0}")]
    Cut(usize),
    #[error(transparent)]
    Stream(#[from] StreamError),
}

/// Reads a whole file.
pub fn read(file: &[u8]) -> Result<Stream, IvfError> {
    if !file.starts_with(b"DKIF") {
        return Err(IvfError::Signature);
    }
    let header = Header::parse(file).ok_or(IvfError::Header)?;
    let codec = header.codec()?;
    let mut rest = file.get(usize::from(header.length)..).ok_or(IvfError::Header)?;
    let mut units = Vec::new();
    let mut first = None;
    while !rest.is_empty() {
        let (frame, after) = frame(rest).ok_or(IvfError::Cut(units.len()))?;
        let start = *first.get_or_insert(frame.timestamp);
        let ticks = frame.timestamp.checked_sub(start).ok_or(StreamError::Backwards(units.len()))?;
        let at = header.time(ticks)?;
        units.push(Unit { at, is_key: is_key(codec, frame.data), data: Bytes::copy_from_slice(frame.data) });
        rest = after;
    }
    // Nothing says how long the last frame is seen: as long as the others on average.
    let gaps = u32::try_from(units.len()).unwrap_or(u32::MAX).saturating_sub(1);
    let end = units.last().map_or(Duration::ZERO, |unit| unit.at);
    let last = match end.checked_div(gaps) {
        Some(average) if !average.is_zero() => average,
        _ => header.time(1)?,
    };
    Ok(Stream::new(codec, units, last)?)
}

/// Writes a stream as a file; times are in milliseconds.
pub fn write(stream: &Stream, width: u16, height: u16) -> Vec<u8> {
    let fourcc = match stream.codec() {
        Codec::Vp9 => b"VP90",
        Codec::Av1 => b"AV01",
        Codec::Vp8 | Codec::Opus => b"VP80",
    };
    let mut file = b"DKIF\0\0\x20\0".to_vec();
    file.extend_from_slice(fourcc);
    file.extend_from_slice(&width.to_le_bytes());
    file.extend_from_slice(&height.to_le_bytes());
    let frames = u32::try_from(stream.units().len()).unwrap_or(u32::MAX);
    for number in [1_000, 1, frames, 0] {
        file.extend_from_slice(&number.to_le_bytes());
    }
    for unit in stream.units() {
        file.extend_from_slice(&u32::try_from(unit.data.len()).unwrap_or(u32::MAX).to_le_bytes());
        file.extend_from_slice(&u64::try_from(unit.at.as_millis()).unwrap_or(u64::MAX).to_le_bytes());
        file.extend_from_slice(&unit.data);
    }
    file
}

/// <https://wiki.multimedia.cx/index.php/Duck_IVF>
struct Header {
    length: u16,
    fourcc: [u8; 4],
    /// Ticks per second, times `numerator`.
    denominator: u32,
    numerator: u32,
}

impl Header {
    fn parse(file: &[u8]) -> Option<Header> {
        let header = Header {
            length: u16::from_le_bytes(array(file, 6)?),
            fourcc: array(file, 8)?,
            denominator: u32::from_le_bytes(array(file, 16)?),
            numerator: u32::from_le_bytes(array(file, 20)?),
        };
        (header.length >= LENGTH).then_some(header)
    }

    fn codec(&self) -> Result<Codec, IvfError> {
        match &self.fourcc {
            b"VP80" => Ok(Codec::Vp8),
            b"VP90" => Ok(Codec::Vp9),
            b"AV01" => Ok(Codec::Av1),
            other => Err(IvfError::Fourcc(other.escape_ascii().to_string())),
        }
    }

    fn time(&self, ticks: u64) -> Result<Duration, IvfError> {
        let Header { numerator, denominator, .. } = *self;
        let wrong = || IvfError::TimeBase { numerator, denominator };
        if numerator == 0 {
            return Err(wrong());
        }
        // 64 + 32 bits; times a billion (30 bits) it still fits.
        let scaled = u128::from(ticks).saturating_mul(numerator.into()).saturating_mul(1_000_000_000);
        let nanos = scaled.checked_div(denominator.into()).ok_or_else(wrong)?;
        Ok(Duration::from_nanos(u64::try_from(nanos).map_err(|_| StreamError::Long)?))
    }
}

struct Frame<'a> {
    timestamp: u64,
    data: &'a [u8],
}

fn frame(bytes: &[u8]) -> Option<(Frame<'_>, &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (timestamp, rest) = rest.split_first_chunk()?;
    let (data, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    Some((Frame { timestamp: u64::from_le_bytes(*timestamp), data }, rest))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn is_key(codec: Codec, frame: &[u8]) -> bool {
    let first = frame.first().copied();
    match codec {
        // RFC 6386 §9.1.
        Codec::Vp8 => first.is_some_and(|byte| byte & 0x01 == 0),
        // Marker 0b10, no existing frame shown, frame type 0; the VP9 bitstream specification, §6.2. Profile 3 has one
        // bit more in between, and no browser decodes it.
        Codec::Vp9 => first.is_some_and(|byte| byte & 0b1100_1100 == 0b1000_0000),
        Codec::Av1 => has_sequence_header(frame).unwrap_or(false),
        Codec::Opus => true,
    }
}

/// An AV1 temporal unit that starts a coded video sequence carries a sequence header (AV1 §7.5).
fn has_sequence_header(mut unit: &[u8]) -> Option<bool> {
    loop {
        let (&header, rest) = unit.split_first()?;
        if (header >> 3) & 0x0f == SEQUENCE_HEADER {
            return Some(true);
        }
        let rest = if header & 0x04 != 0 { rest.split_first()?.1 } else { rest };
        // Without a size the OBU goes on to the end.
        let (length, rest) = if header & 0x02 != 0 { leb128(rest)? } else { return Some(false) };
        unit = rest.get(length..)?;
    }
}

fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0u64;
    let mut rest = bytes;
    for shift in (0..56).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        rest = after;
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, rest));
        }
    }
    None
}

const LENGTH: u16 = 32;
const SEQUENCE_HEADER: u8 = 1;

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::media::clip;

    #[test]
    fn what_is_written_is_read() {
        let stream = clip::video(1);
        assert_eq!(read(&write(&stream, clip::WIDTH, clip::HEIGHT)), Ok(stream));
    }

    #[test]
    fn a_file_that_cannot_be_played_says_why() {
        let file = write(&clip::video(1), 320, 180);
        let with = |at: usize, bytes: &[u8]| {
            let mut file = file.clone();
            file[at..at + bytes.len()].copy_from_slice(bytes);
            read(&file).unwrap_err().to_string()
        };
        assert_eq!(with(0, b"RIFF"), "it is not an IVF file: it does not begin with DKIF");
        assert_eq!(with(8, b"H264"), "its codec is H264; we can send VP80, VP90 and AV01");
        assert_eq!(with(16, &[0; 4]), "its time base is 1/0");
        assert_eq!(with(20, &[0; 4]), "its time base is 0/1000");
        assert_eq!(with(32, &[0xff; 4]), "it is cut short inside frame 0");
        assert_eq!(with(36, &[0xff; 8]), "unit 1 is due before the one in front of it");
        assert_eq!(with(44, &[1]), "it does not start with a keyframe");
        assert_eq!(read(&file[..20]), Err(IvfError::Header));
        assert_eq!(read(&file[..32]), Err(IvfError::Stream(StreamError::Empty)));
        assert_eq!(read(&file[..file.len() - 1]), Err(IvfError::Cut(clip::video(1).units().len() - 1)));
    }

    #[test]
    fn keyframes_are_known_by_their_first_bytes() {
        for (codec, frame, expected) in [
            (Codec::Vp8, &[0x10][..], true),
            (Codec::Vp8, &[0x11], false),
            (Codec::Vp8, &[], false),
            (Codec::Vp9, &[0x82, 0x49], true),
            (Codec::Vp9, &[0x86, 0x00], false),
            (Codec::Vp9, &[0x88], false),
            // A temporal delimiter, then a sequence header or a frame.
            (Codec::Av1, &[0x12, 0x00, 0x0a, 0x01, 0x00], true),
            (Codec::Av1, &[0x12, 0x00, 0x32, 0x01, 0x00], false),
            (Codec::Av1, &[0x12, 0x80], false),
        ] {
            assert_eq!(is_key(codec, frame), expected, "{codec} {frame:02x?}");
        }
    }

    proptest! {
        #[test]
        fn no_file_panics(damage in proptest::collection::vec((0usize..4_000, any::<u8>()), 0..40), length in 0usize..4_000) {
            let mut file = write(&clip::video(1), 320, 180);
            file.truncate(length);
            for (at, byte) in damage {
                if let Some(place) = file.get_mut(at) {
                    *place = byte;
                }
            }
            let _ = read(&file);
        }
    }
}
