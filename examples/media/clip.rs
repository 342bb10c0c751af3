//! A clip of our own making: no file is needed, and none is kept in the repository.
//!
//! Each number has a colour and a note of its own, shows itself in large digits, and a disc goes round it, so that a
//! frozen picture is told from a live one. Drawn and encoded at start-up (`vp8`); a Rust encoder for real pictures
//! would be the largest dependency of the examples.

use std::time::Duration;

use bytes::Bytes;

use super::vp8::{self, COLUMNS, Picture, ROWS};
use super::{Codec, Stream, Unit};

/// Pixels across.
pub const WIDTH: u16 = 320;
/// Pixels down. Three rows of cells are cut off: 16:9 is not a whole number of macroblocks.
pub const HEIGHT: u16 = 180;

/// Three seconds at 20 frames a second.
pub fn video(number: u8) -> Stream {
    let frame = |n| Unit {
        at: FRAME * n,
        data: vp8::keyframe(&picture(number, n), WIDTH, HEIGHT).into(),
        is_key: true,
    };
    Stream::new(Codec::Vp8, (0..FRAMES).map(frame).collect(), FRAME).expect("keyframes in order")
}

/// Three seconds: a short note and silence. Numbers sound one after the other and up the scale.
pub fn audio(number: u8) -> Stream {
    let number = usize::from(number);
    let first = number * NOTE_PACKETS % PACKETS;
    let note = NOTES[number % NOTES.len()];
    let packet = |n: usize| Unit {
        at: PACKET * n as u32,
        data: Bytes::from_static(if (first..first + NOTE_PACKETS).contains(&n) { note } else { SILENCE }),
        is_key: true,
    };
    Stream::new(Codec::Opus, (0..PACKETS).map(packet).collect(), PACKET).expect("packets in order")
}

fn picture(number: u8, frame: u32) -> Picture {
    let mut luma = [[BACKGROUND; COLUMNS]; ROWS];
    let angle = f64::from(frame) / f64::from(FRAMES) * std::f64::consts::TAU;
    let (disc_x, disc_y) = (MIDDLE.0 + 32.0 * angle.sin(), MIDDLE.1 - 16.0 * angle.cos());
    for (y, row) in luma.iter_mut().enumerate() {
        for (x, cell) in row.iter_mut().enumerate() {
            let (from_x, from_y) = (x as f64 + 0.5 - disc_x, y as f64 + 0.5 - disc_y);
            if from_x * from_x + from_y * from_y <= 4.0 * 4.0 {
                *cell = DISC;
            }
        }
    }
    let digits = number.to_string();
    let width = digits.len() * 4 * SCALE - SCALE;
    let (left, top) = ((COLUMNS - width) / 2, (usize::from(HEIGHT) / 4 - 5 * SCALE) / 2);
    for (place, digit) in digits.bytes().enumerate() {
        for (y, x) in (0..5 * SCALE).flat_map(|y| (0..3 * SCALE).map(move |x| (y, x))) {
            let bits = DIGITS[usize::from(digit - b'0')][y / SCALE];
            if bits >> (2 - x / SCALE) & 1 != 0 {
                luma[top + y][left + place * 4 * SCALE + x] = INK;
            }
        }
    }
    // The colours lie round the colour circle at equal steps that never meet: the golden angle.
    let hue = f64::from(number) * 2.399_963;
    let level = |part: f64| (128.0 + 56.0 * part).round() as u8;
    Picture { luma, blue: level(hue.cos()), red: level(hue.sin()) }
}

const FRAME: Duration = Duration::from_millis(50);
const FRAMES: u32 = 60;
const PACKET: Duration = Duration::from_millis(20);
const PACKETS: usize = 150;
/// 140 ms: twenty numbers have sounded when the clip begins again.
const NOTE_PACKETS: usize = 7;

const BACKGROUND: u8 = 90;
const DISC: u8 = 170;
const INK: u8 = 225;
/// Of what is seen, in cells.
const MIDDLE: (f64, f64) = (40.0, 22.5);
/// Cells per dot of a digit.
const SCALE: usize = 5;

/// Three dots across, five down; the highest of three bits is on the left.
const DIGITS: [[u8; 5]; 10] = [
    [7, 5, 5, 5, 7],
    [2, 6, 2, 2, 7],
    [7, 1, 7, 4, 7],
    [7, 1, 3, 1, 7],
    [5, 5, 7, 1, 1],
    [7, 4, 7, 1, 7],
    [7, 4, 7, 5, 7],
    [7, 1, 2, 2, 2],
    [7, 5, 7, 5, 7],
    [7, 5, 7, 1, 7],
];

/// Twenty milliseconds of digital silence, CELT at full band, as libopus writes it.
const SILENCE: &[u8] = &[0xf8, 0xff, 0xfe];

/// Twenty milliseconds each of 400, 450, 500, 600 and 700 Hz at a peak of 0.15, mono.
///
/// A whole number of waves fits into a packet, so one packet repeated is the steady tone. Made with libopus 1.3.1:
/// `opus_encoder_create(48000, 1, OPUS_APPLICATION_RESTRICTED_LOWDELAY)`, `OPUS_SET_BITRATE(12000)`, `OPUS_SET_VBR(0)`,
/// `OPUS_SET_COMPLEXITY(10)`; packets are the same from the thirtieth at the latest, and these are the sixtieth.
const NOTES: [&[u8]; 5] = [
    b"\xb8\x65\x03\x5a\x14\x86\xc7\x96\x74\x88\x6a\x0b\xee\x14\x6d\xc9\xf8\xf4\x00\x51\x94\x1c\x91\x5c\x70\x80\x67\xff\xce\xdd",
    b"\xb8\x64\xda\x87\x7f\xce\x09\x63\x8a\x54\x8f\x1b\xb0\x50\xef\x74\x30\x9a\x17\x59\xc9\xc5\x50\x27\xc3\x5a\xbc\x7d\xfb\xd5",
    b"\xb8\x64\x7e\x2f\xb7\x13\x83\x83\xaa\xfa\x33\xea\x26\x17\xf9\xe9\xfd\xd8\x2e\x3d\x27\xce\xe0\x6a\x34\x8f\x9b\x59\xc7\x5c",
    b"\xb8\x67\xfe\xf6\xf7\x3c\x9b\x3a\xbb\x92\x99\xd1\x0a\x3f\x18\xb4\x4e\x34\x60\x37\x9b\x8c\x6e\xf3\xff\x9d\x6e\x3e\x0d\x0d",
    b"\xb8\x6c\x1e\x9c\xd5\x4e\x11\x8e\x97\x2f\xed\x37\x5c\x0e\x41\x38\xe3\xbd\x5b\x39\xd1\xce\x4e\x17\x34\xb0\x17\xf2\x08\xea",
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_clip_lasts_as_long_as_it_sounds_and_is_small() {
        for number in [0, 1, 19, 20, 255] {
            let (video, audio) = (video(number), audio(number));
            assert_eq!(video.length(), audio.length());
            let bytes: usize = video.units().iter().map(|unit| unit.data.len()).sum();
            // 400 kb/s.
            assert!(bytes < 150_000, "{number}: {bytes} bytes");
            assert!(audio.units().iter().any(|unit| unit.data.len() > 3), "{number} is heard");
        }
    }

    #[test]
    fn every_frame_and_every_number_is_another() {
        let frames: HashSet<_> = video(1).units().iter().map(|unit| unit.data.clone()).collect();
        assert_eq!(frames.len(), FRAMES as usize);
        let looks: HashSet<_> = (0..=20).map(|n| picture(n, 0)).map(|seen| (seen.blue, seen.red)).collect();
        assert_eq!(looks.len(), 21);
    }
}
