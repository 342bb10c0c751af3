//! The smallest VP8 encoder that draws something: keyframes of flat 4x4 cells, RFC 6386.
//!
//! Every macroblock is `B_PRED`, every 4x4 block `B_DC_PRED`: predicted flat from the pixels above and to the left of
//! it. What is left to say of a flat cell is one number, the difference, in the block's DC coefficient.
//!
//! Two choices keep the encoder small. At quantizer index 4 a DC step is 8, and the inverse transform divides by 8: a
//! coefficient *is* a difference of brightness, and nothing is rounded. And all the rest of the first partition is the
//! zero branch of its tree: coefficient probabilities stay as they are, no block is skipped, the prediction modes are
//! those above. A boolean decoder that reads zero bytes takes that branch at any probability, so neither the 1056
//! probabilities of probabilities nor those of modes are needed: zero bytes will do.
//!
//! Without interframes there is no motion search, every frame answers a keyframe request, and no loss is seen for
//! longer than a frame. It costs bits that a real encoder would save; with pictures this plain they are few.

/// Cells across; a cell is 4x4 pixels.
pub const COLUMNS: usize = 80;
/// Cells down.
pub const ROWS: usize = 48;

/// What to draw: a brightness for each cell, one colour for all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Picture {
    pub luma: [[u8; COLUMNS]; ROWS],
    pub blue: u8,
    pub red: u8,
}

/// Encodes a keyframe that shows the top `width` x `height` pixels.
pub fn keyframe(picture: &Picture, width: u16, height: u16) -> Vec<u8> {
    let first = first_partition();
    let tokens = tokens(picture);
    // §9.1: a keyframe (0), version 0, shown (1).
    let tag = (first.len() as u32) << 5 | 1 << 4;
    let mut frame = tag.to_le_bytes()[..3].to_vec();
    frame.extend_from_slice(&[0x9d, 0x01, 0x2a]);
    frame.extend_from_slice(&width.to_le_bytes());
    frame.extend_from_slice(&height.to_le_bytes());
    frame.extend_from_slice(&first);
    frame.extend_from_slice(&tokens);
    frame
}

/// §9.2 to §9.6, then zeros.
fn first_partition() -> Vec<u8> {
    let mut coder = BoolCoder::default();
    // Colour space, clamping, segments, filter type, filter level (6), sharpness (3), filter adjustments, partitions (2).
    coder.literal(0, 16);
    coder.literal(QUANTIZER, 7);
    let mut partition = coder.finish();
    partition.resize(partition.len() + ZEROS, 0);
    partition
}

/// The second partition: one DC coefficient or none for each block, §13.
fn tokens(picture: &Picture) -> Vec<u8> {
    let mut coder = BoolCoder::default();
    // Whether the block above, or to the left, had a coefficient: what probabilities depend on.
    let mut above = [[false; COLUMNS]; 3];
    for row in 0..ROWS / 4 {
        let mut left = [[false; 4]; 3];
        for column in 0..COLUMNS / 4 {
            for (y, x) in (0..4).flat_map(|y| (0..4).map(move |x| (y, x))) {
                let (y, x, line) = (row * 4 + y, column * 4 + x, y);
                let difference = i16::from(picture.luma[y][x]) - predicted(picture, y, x);
                let coded = coder.dc(&LUMA, above[0][x], left[0][line], difference);
                (above[0][x], left[0][line]) = (coded, coded);
            }
            // Colour is flat, and predicted from 128 where nothing is above nor to the left.
            for (plane, level) in [(1, picture.blue), (2, picture.red)] {
                let difference = if (row, column) == (0, 0) { i16::from(level) - 128 } else { 0 };
                for (y, x) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                    let at = column * 2 + x;
                    let coded = coder.dc(&CHROMA, above[plane][at], left[plane][y], difference);
                    (above[plane][at], left[plane][y]) = (coded, coded);
                }
            }
        }
    }
    coder.finish()
}

/// `B_DC_PRED`, §12.3: the mean of four pixels above and four to the left; outside the frame they are 127 and 129.
fn predicted(picture: &Picture, y: usize, x: usize) -> i16 {
    let above = if y == 0 { 127 } else { i16::from(picture.luma[y - 1][x]) };
    let left = if x == 0 { 129 } else { i16::from(picture.luma[y][x - 1]) };
    (4 * above + 4 * left + 4) >> 3
}

/// The boolean entropy encoder, §7.3.
struct BoolCoder {
    bytes: Vec<u8>,
    range: u32,
    bottom: u32,
    /// Shifts until a byte is complete.
    shifts: u32,
}

impl Default for BoolCoder {
    fn default() -> BoolCoder {
        BoolCoder { bytes: Vec::new(), range: 255, bottom: 0, shifts: 24 }
    }
}

impl BoolCoder {
    /// `probability` is that of `false`, in 256ths.
    fn bool(&mut self, probability: u8, value: bool) {
        let split = 1 + (((self.range - 1) * u32::from(probability)) >> 8);
        if value {
            self.bottom += split;
            self.range -= split;
        } else {
            self.range = split;
        }
        while self.range < 128 {
            self.range <<= 1;
            self.shift();
        }
    }

    fn shift(&mut self) {
        if self.bottom & (1 << 31) != 0 {
            self.carry();
        }
        self.bottom <<= 1;
        self.shifts -= 1;
        if self.shifts == 0 {
            self.bytes.push((self.bottom >> 24) as u8);
            self.bottom &= (1 << 24) - 1;
            self.shifts = 8;
        }
    }

    fn carry(&mut self) {
        for byte in self.bytes.iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                return;
            }
        }
    }

    /// Highest bit first.
    fn literal(&mut self, value: u32, bits: u32) {
        for bit in (0..bits).rev() {
            self.bool(128, value >> bit & 1 != 0);
        }
    }

    /// A block with this DC coefficient and no other; whether it has any at all.
    fn dc(&mut self, probabilities: &Probabilities, above: bool, left: bool, value: i16) -> bool {
        let p = &probabilities.dc[usize::from(above) + usize::from(left)];
        let size = value.unsigned_abs();
        self.bool(p[0], value != 0);
        if value == 0 {
            return false;
        }
        self.bool(p[1], true);
        self.size(p, size);
        self.bool(128, value < 0);
        self.bool(probabilities.end[usize::from(size > 1)], false);
        true
    }

    /// The token of a coefficient other than 0 and its extra bits, §13.2.
    fn size(&mut self, p: &[u8; 11], size: u16) {
        self.bool(p[2], size > 1);
        match size {
            0..=1 => {}
            2..=4 => {
                self.bool(p[3], false);
                self.bool(p[4], size > 2);
                if size > 2 {
                    self.bool(p[5], size > 3);
                }
            }
            5..=10 => {
                self.bool(p[3], true);
                self.bool(p[6], false);
                self.bool(p[7], size > 6);
                if size > 6 { self.extra(&[165, 145], size - 7) } else { self.extra(&[159], size - 5) }
            }
            _ => {
                self.bool(p[3], true);
                self.bool(p[6], true);
                self.bool(p[8], size > 34);
                self.bool(p[if size > 34 { 10 } else { 9 }], size > 66 || (19..=34).contains(&size));
                match size {
                    ..=18 => self.extra(&[173, 148, 140], size - 11),
                    19..=34 => self.extra(&[176, 155, 140, 135], size - 19),
                    35..=66 => self.extra(&[180, 157, 141, 134, 130], size - 35),
                    _ => self.extra(&[254, 254, 243, 230, 196, 177, 153, 140, 133, 130, 129], size - 67),
                }
            }
        }
    }

    fn extra(&mut self, probabilities: &[u8], value: u16) {
        for (n, probability) in probabilities.iter().rev().enumerate().rev() {
            self.bool(*probability, value >> n & 1 != 0);
        }
    }

    fn finish(mut self) -> Vec<u8> {
        for _ in 0..32 {
            self.shift();
        }
        self.bytes
    }
}

/// The default probabilities of a block type, as far as blocks without AC coefficients need them; §13.5.
struct Probabilities {
    /// Band 0, by how many neighbours have coefficients.
    dc: [[u8; 11]; 3],
    /// That the block ends there, after a DC of one and of more: the first of band 1.
    end: [u8; 2],
}

/// Block type 3: luma with DC.
const LUMA: Probabilities = Probabilities {
    dc: [
        [202, 24, 213, 235, 186, 191, 220, 160, 240, 175, 255],
        [126, 38, 182, 232, 169, 184, 228, 174, 255, 187, 128],
        [61, 46, 138, 219, 151, 178, 240, 170, 255, 216, 128],
    ],
    end: [166, 39],
};

/// Block type 2.
const CHROMA: Probabilities = Probabilities {
    dc: [
        [253, 9, 248, 251, 207, 208, 255, 192, 128, 128, 128],
        [175, 13, 224, 243, 193, 185, 249, 198, 255, 255, 128],
        [73, 17, 171, 221, 161, 179, 236, 167, 255, 234, 128],
    ],
    end: [239, 155],
};

/// Index 4 of the DC table is 8, for luma and chroma alike; §14.1.
const QUANTIZER: u32 = 4;

/// 240 macroblocks take 4.1 bits each, the 1056 flags in front of them less than 60 together: 160 bytes, and some more
/// for decoders that read ahead.
const ZEROS: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Decodes with somebody else's decoder: lossy WebP is a VP8 keyframe in RIFF. RGB, 320x192.
    fn decoded(frame: &[u8]) -> Vec<u8> {
        let padded = frame.len() + frame.len() % 2;
        let mut webp = b"RIFF".to_vec();
        webp.extend_from_slice(&(padded as u32 + 12).to_le_bytes());
        webp.extend_from_slice(b"WEBPVP8 ");
        webp.extend_from_slice(&(frame.len() as u32).to_le_bytes());
        webp.extend_from_slice(frame);
        webp.resize(padded + 20, 0);
        let mut decoder = image_webp::WebPDecoder::new(std::io::Cursor::new(webp)).unwrap();
        assert_eq!(decoder.dimensions(), (320, 192));
        let mut pixels = vec![0; decoder.output_buffer_size().unwrap()];
        decoder.read_image(&mut pixels).unwrap();
        pixels
    }

    /// Every pixel of a grey picture, by the conversion of ITU-R BT.601 from 16..=235.
    fn assert_shows(picture: &Picture) {
        let pixels = decoded(&keyframe(picture, 320, 192));
        for (n, pixel) in pixels.chunks(3).enumerate() {
            let luma = picture.luma[n / 320 / 4][n % 320 / 4];
            let expected = (f64::from(luma) - 16.0) * 255.0 / 219.0;
            let expected = expected.clamp(0.0, 255.0);
            for level in pixel {
                assert!((f64::from(*level) - expected).abs() <= 2.0, "pixel {n}: {pixel:?}, not {expected}");
            }
        }
    }

    fn grey(luma: [[u8; COLUMNS]; ROWS]) -> Picture {
        Picture { luma, blue: 128, red: 128 }
    }

    #[test]
    fn a_grey_field_and_its_extremes() {
        for level in [0, 1, 16, 126, 128, 129, 235, 255] {
            assert_shows(&grey([[level; COLUMNS]; ROWS]));
        }
    }

    #[test]
    fn colour_is_flat() {
        for (blue, red) in [(128, 128), (90, 240), (255, 0), (16, 16), (127, 129)] {
            let pixels = decoded(&keyframe(&Picture { luma: [[120; COLUMNS]; ROWS], blue, red }, 320, 192));
            let first = &pixels[..3];
            assert!(pixels.chunks(3).all(|pixel| pixel == first), "({blue}, {red})");
            assert_eq!(first[2] > first[1], blue > 128 && red <= 240, "({blue}, {red}): {first:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Noise uses every token there is, and every context.
        #[test]
        fn any_cells_are_decoded_as_drawn(seed in any::<u64>(), contrast in 1u64..=256) {
            let mut state = seed | 1;
            let mut luma = [[0; COLUMNS]; ROWS];
            for cell in luma.iter_mut().flatten() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *cell = (128 + (state >> 33) % contrast - contrast / 2) as u8;
            }
            assert_shows(&grey(luma));
        }
    }
}
