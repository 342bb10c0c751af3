//! A few bytes of padding that let packets of nearly one size leave in one call.
//!
//! Segmentation offload takes packets of equal size, the last of which may be shorter. Encoders cut a picture into packets
//! that differ by a byte (libwebrtc), or by the header extensions of the first and the last: without padding each of those
//! differences costs every subscriber a system call, which is dearer than all the rest of a packet's way.

/// Padding is that little, or it is not worth its bytes: 3 % of a packet.
const MOST: usize = 32;

/// How long a packet should become.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stretch {
    /// As it is.
    None,
    /// So many bytes longer: one that follows is.
    By(usize),
    /// As long as those before it.
    To(usize),
}

impl Stretch {
    /// For the first of a run, `size` long, given the sizes of those that follow.
    pub fn first(size: u16, next: impl Iterator<Item = u16>) -> Stretch {
        let size = usize::from(size);
        let alike = next.map(usize::from).take_while(|next| next.abs_diff(size) <= MOST);
        match alike.max() {
            Some(longest) if longest > size => Stretch::By(longest - size),
            _ => Stretch::None,
        }
    }

    /// For one that may go on a run of packets `segment` long, given the size of the one that follows. The last one may
    /// be as short as it is.
    pub fn next(segment: usize, size: u16, next: Option<u16>) -> Stretch {
        match next {
            Some(next) if usize::from(next) <= usize::from(size) + MOST => Stretch::To(segment),
            _ => Stretch::None,
        }
    }

    /// Bytes to add to a packet that would be `len` long.
    pub fn padding(self, len: usize) -> usize {
        let padding = match self {
            Stretch::None => 0,
            Stretch::By(more) => more,
            Stretch::To(wanted) => wanted.saturating_sub(len),
        };
        if padding <= MOST { padding } else { 0 }
    }
}

/// Appends `padding` bytes of RTP padding to the packet of `len` bytes in `out`, RFC 3550 §5.1. The length then; the
/// packet is left alone if it is padded already, or there is no room.
pub fn pad(out: &mut [u8], len: usize, padding: usize) -> usize {
    let end = len + padding;
    if padding == 0 || end > out.len() || out[0] & PADDED != 0 {
        return len;
    }
    out[0] |= PADDED;
    out[len..end].fill(0);
    out[end - 1] = padding as u8;
    end
}

/// The P bit.
const PADDED: u8 = 0x20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_more_in_a_later_packet_is_a_byte_more_in_the_first() {
        assert_eq!(Stretch::first(1_142, [1_142, 1_143, 1_143].into_iter()), Stretch::By(1));
        assert_eq!(Stretch::first(1_143, [1_142, 600].into_iter()), Stretch::None);
        assert_eq!(
            Stretch::first(100, [1_100].into_iter()),
            Stretch::None,
            "another frame, or another track"
        );
        assert_eq!(
            Stretch::first(1_120, [1_100, 300, 1_130].into_iter()),
            Stretch::None,
            "the run ends before"
        );
    }

    #[test]
    fn what_ends_a_run_is_not_stretched() {
        assert_eq!(Stretch::next(1_170, 1_142, None), Stretch::None);
        assert_eq!(Stretch::next(1_170, 1_142, Some(1_142)), Stretch::To(1_170));
        assert_eq!(Stretch::next(1_170, 100, Some(1_142)), Stretch::None, "it ends the run anyway");
        assert_eq!(Stretch::To(1_170).padding(1_169), 1);
        assert_eq!(Stretch::To(1_170).padding(1_171), 0);
        assert_eq!(Stretch::To(1_170).padding(600), 0, "that would be waste");
    }

    #[test]
    fn padding_says_how_much_it_is() {
        let mut packet = vec![0x80; 40];
        assert_eq!(pad(&mut packet, 30, 3), 33);
        assert_eq!(packet[0], 0xa0);
        assert_eq!(packet[30..33], [0, 0, 3]);
        assert_eq!(pad(&mut packet, 33, 3), 33, "once is enough");
        assert_eq!(pad(&mut [0x80; 12], 12, 1), 12, "no room");
    }
}
