//! Bits within bytes, as the AV1 specifications write them (§4.10 of the bitstream specification).
#![warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

/// Reads bits, the high ones of a byte first.
pub struct Bits<'b> {
    pub bytes: &'b [u8],
    /// In bits.
    pub at: usize,
}

impl Bits<'_> {
    /// Up to 32 bits, `f(n)`.
    pub fn take(&mut self, count: usize) -> Option<u32> {
        let rest = self.bytes.get(self.at >> 3..)?;
        // 32 bits lie in five bytes at most.
        let window = match rest.first_chunk() {
            Some(eight) => u64::from_be_bytes(*eight),
            None => rest.iter().rev().fold(0, |window, byte| window >> 8 | u64::from(*byte) << 56),
        };
        let end = self.at.checked_add(count)?;
        if end > self.bytes.len() << 3 {
            return None;
        }
        let aligned = window.wrapping_shl((self.at & 7) as u32);
        self.at = end;
        // Two steps, for a shift by all 64 bits would be none.
        Some((aligned >> 1).wrapping_shr(63_u32.saturating_sub(count as u32)) as u32)
    }

    pub fn flag(&mut self) -> Option<bool> {
        self.take(1).map(|bit| bit != 0)
    }

    /// A number below `values`, in a bit less where it is low: `ns(n)`.
    pub fn non_symmetric(&mut self, values: u32) -> Option<u32> {
        let width = u32::BITS.saturating_sub(values.leading_zeros());
        let short = 1_u32.wrapping_shl(width).saturating_sub(values);
        let value = self.take(width.saturating_sub(1) as usize)?;
        if value < short {
            return Some(value);
        }
        let low = self.take(1)?;
        Some((value << 1 | low).saturating_sub(short))
    }
}

/// Writes bits, the high ones of a byte first.
pub struct BitWriter<'o> {
    out: &'o mut [u8],
    /// Bytes written.
    len: usize,
    /// Bits not yet written are its lowest; fewer than eight between calls.
    window: u64,
    filled: u32,
}

impl<'o> BitWriter<'o> {
    pub fn new(out: &'o mut [u8]) -> BitWriter<'o> {
        BitWriter { out, len: 0, window: 0, filled: 0 }
    }

    /// The low `count` bits of `value`, up to 32. `None` if there is no room.
    pub fn put(&mut self, value: u32, count: usize) -> Option<()> {
        self.window = self.window.wrapping_shl(count as u32) | u64::from(value);
        self.filled = self.filled.saturating_add(count as u32);
        while self.filled >= 8 {
            self.filled = self.filled.saturating_sub(8);
            *self.out.get_mut(self.len)? = self.window.wrapping_shr(self.filled) as u8;
            self.len = self.len.saturating_add(1);
        }
        Some(())
    }

    /// What `from` has before the bit `end`.
    pub fn copy(&mut self, from: &mut Bits<'_>, end: usize) -> Option<()> {
        while from.at < end {
            let count = end.saturating_sub(from.at).min(32);
            let bits = from.take(count)?;
            self.put(bits, count)?;
        }
        Some(())
    }

    /// Fills the last byte with zeros, and says how many there are.
    pub fn finish(mut self) -> Option<usize> {
        let padding = 8_u32.saturating_sub(self.filled) & 7;
        self.put(0, padding as usize)?;
        Some(self.len)
    }
}
