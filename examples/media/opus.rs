//! Opus in Ogg, RFC 7845. The container is the `ogg` crate's: `rtc-media` reads pages, and a page of most files
//! holds fifty packets.
#![warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

use std::io::Cursor;
use std::time::Duration;

use bytes::Bytes;
use ogg::reading::{OggReadError, PacketReader};
use ogg::writing::{PacketWriteEndInfo, PacketWriter};

use super::{Codec, Stream, StreamError, Unit};

/// Why bytes are no Ogg Opus file that we can play.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpusError {
    #[error("it is not an Ogg file")]
    NotOgg,
    #[error("it is an Ogg file, but its first stream is not Opus")]
    NotOpus,
    #[error("it has more than two channels")]
    Surround,
    #[error("it is cut short or damaged after {packets} packets")]
    Damaged { packets: usize, source: OggReadError },
    #[error("packet {0} is not an Opus packet")]
    Packet(usize),
    #[error(transparent)]
    Stream(#[from] StreamError),
}

/// Reads the first stream of a whole file.
pub fn read(file: &[u8]) -> Result<Stream, OpusError> {
    if !file.starts_with(b"OggS") {
        return Err(OpusError::NotOgg);
    }
    let mut packets = PacketReader::new(Cursor::new(file));
    let damaged = |packets| move |source| OpusError::Damaged { packets, source };
    let head = packets.read_packet_expected().map_err(damaged(0))?;
    let serial = head.stream_serial();
    if !head.data.starts_with(b"OpusHead") {
        return Err(OpusError::NotOpus);
    }
    // Channel mapping family 0 is mono or stereo, the only one RTP carries (RFC 7845 §5.1.1, RFC 7587 §4.1).
    if head.data.get(18) != Some(&0) {
        return Err(OpusError::Surround);
    }
    let mut units = Vec::new();
    let mut at = Duration::ZERO;
    let mut last = Duration::ZERO;
    let mut tags = true;
    while let Some(packet) = packets.read_packet().map_err(damaged(units.len()))? {
        // Comments take one packet, RFC 7845 §3.
        if packet.stream_serial() != serial || std::mem::take(&mut tags) {
            continue;
        }
        last = duration(&packet.data).ok_or(OpusError::Packet(units.len()))?;
        units.push(Unit { at, data: Bytes::from(packet.data), is_key: true });
        at = at.saturating_add(last);
    }
    Ok(Stream::new(Codec::Opus, units, last)?)
}

/// Writes a mono stream as a file.
pub fn write(stream: &Stream) -> Vec<u8> {
    // Version 1, one channel, no samples to skip, 48 kHz, no gain, mapping family 0.
    let head = b"OpusHead\x01\x01\0\0\x80\xbb\0\0\0\0\0".to_vec();
    let tags = b"OpusTags\x0a\0\0\0sluicegate\0\0\0\0".to_vec();
    let mut writer = PacketWriter::new(Vec::new());
    let mut packets = vec![(head, PacketWriteEndInfo::EndPage, 0), (tags, PacketWriteEndInfo::EndPage, 0)];
    let end = stream.units().len().saturating_sub(1);
    for (n, unit) in stream.units().iter().enumerate() {
        let samples =
            unit.at.saturating_add(stream.lasts(n)).as_micros().saturating_mul(48).div_euclid(1_000);
        let info = if n == end { PacketWriteEndInfo::EndStream } else { PacketWriteEndInfo::NormalPacket };
        packets.push((unit.data.to_vec(), info, u64::try_from(samples).unwrap_or(u64::MAX)));
    }
    for (data, info, position) in packets {
        writer.write_packet(data, 1, info, position).expect("a vector takes all that is written");
    }
    writer.into_inner()
}

/// How much sound a packet holds: from its first byte, or two; RFC 6716 §3.1 and §3.2.5.
fn duration(packet: &[u8]) -> Option<Duration> {
    let &toc = packet.first()?;
    let config = toc >> 3;
    let frame = match (config, config & 3) {
        (0..=11, 0) => 10_000,
        (0..=11, 1) => 20_000,
        (0..=11, 2) => 40_000,
        (0..=11, _) => 60_000,
        (12..=15, 0 | 2) => 10_000,
        (12..=15, _) => 20_000,
        (_, 0) => 2_500,
        (_, 1) => 5_000,
        (_, 2) => 10_000,
        (_, _) => 20_000,
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(packet.get(1)? & 0x3f),
    };
    let duration = Duration::from_micros(frame).saturating_mul(frames);
    (!duration.is_zero() && duration <= LONGEST).then_some(duration)
}

/// RFC 6716 §3.2.5, R5.
const LONGEST: Duration = Duration::from_millis(120);

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::media::clip;

    #[test]
    fn what_is_written_is_read() {
        let stream = clip::audio(1);
        assert_eq!(read(&write(&stream)).unwrap(), stream);
    }

    #[test]
    fn a_file_that_cannot_be_played_says_why() {
        let file = write(&clip::audio(1));
        let said = |file: &[u8]| read(file).unwrap_err().to_string();
        assert_eq!(said(b"RIFF"), "it is not an Ogg file");
        assert_eq!(said(&file[..file.len() - 1]), "it is cut short or damaged after 0 packets");
        let mut damaged = file.clone();
        damaged[200] ^= 1;
        assert_eq!(said(&damaged), "it is cut short or damaged after 0 packets");
        let other = |head: &[u8]| {
            let mut writer = PacketWriter::new(Vec::new());
            writer.write_packet(head.to_vec(), 1, PacketWriteEndInfo::EndStream, 0).unwrap();
            said(&writer.into_inner())
        };
        assert_eq!(other(b"\x01vorbis"), "it is an Ogg file, but its first stream is not Opus");
        assert_eq!(other(b"OpusHead\x01\x06\0\0\x80\xbb\0\0\0\0\x01"), "it has more than two channels");
        assert_eq!(other(b"OpusHead\x01\x01\0\0\x80\xbb\0\0\0\0\0"), "it holds no media");
    }

    #[test]
    fn a_packet_says_how_long_it_sounds() {
        for (packet, millis) in [
            (&[0xf8, 0xff, 0xfe][..], Some(20.0)),
            (&[0x00], Some(10.0)),
            (&[0x18], Some(60.0)),
            (&[0x68], Some(20.0)),
            (&[0x80], Some(2.5)),
            (&[0xf9], Some(40.0)),
            (&[0xfb, 0x06], Some(120.0)),
            (&[0xfb, 0x07], None),
            (&[0xfb, 0x00], None),
            (&[0xfb], None),
            (&[], None),
        ] {
            let said = duration(packet).map(|duration| duration.as_secs_f64() * 1_000.0);
            assert_eq!(said, millis, "{packet:02x?}");
        }
    }

    proptest! {
        #[test]
        fn no_file_panics(damage in proptest::collection::vec((0usize..3_000, any::<u8>()), 0..20), length in 0usize..3_000) {
            let mut file = write(&clip::audio(1));
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
