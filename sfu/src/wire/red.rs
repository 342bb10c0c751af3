//! Redundant audio, RFC 2198: where the newest block lies, and another payload type for them all.
#![warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

use std::ops::Range;

/// The primary block, which is the last: its payload type, and where in `payload` it lies. `None` unless every
/// block lies inside, and there are no more than [`MAX_BLOCKS`].
pub fn primary(payload: &[u8]) -> Option<(u8, Range<usize>)> {
    let mut headers = payload;
    let mut redundant = 0_usize;
    for _ in 0..MAX_BLOCKS {
        let (&first, blocks) = headers.split_first()?;
        if first & F_BIT == 0 {
            let headers = payload.len().saturating_sub(blocks.len());
            let start = headers.saturating_add(redundant);
            return (start <= payload.len()).then_some((first & !F_BIT, start..payload.len()));
        }
        let (&[_, _, high, low], after) = headers.split_first_chunk()?;
        // Ten bits; those above belong to the timestamp offset.
        redundant = redundant.saturating_add(u16::from_be_bytes([high & 0x03, low]).into());
        headers = after;
    }
    None
}

/// Gives every block the payload type `pt`, for a subscriber who knows the codec by another number than the
/// publisher. A payload without a primary block stays as it is.
pub fn retype(payload: &mut [u8], pt: u8) {
    if primary(payload).is_none() {
        return;
    }
    // All headers but the last are of one size, so each stands at the start of a chunk.
    for header in payload.chunks_mut(REDUNDANT).take(MAX_BLOCKS) {
        let Some(first) = header.first_mut() else { return };
        let more = *first & F_BIT;
        *first = more | pt & !F_BIT;
        if more == 0 {
            return;
        }
    }
}

/// In a block header: another one follows.
const F_BIT: u8 = 0x80;
/// Bytes of a redundant block's header. The primary's is one byte.
const REDUNDANT: usize = 4;
/// Browsers send two. With frames of 20 ms the oldest of eight is 140 ms late, and of no use to a call.
pub const MAX_BLOCKS: usize = 8;

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn chromium_repeats_one_block() {
        // Opus 111, 960 ticks ago, two bytes; then the primary.
        let payload = [0xef, 0x0f, 0x00, 0x02, 0x6f, 1, 2, 3, 4, 5];
        assert_eq!(primary(&payload), Some((111, 7..10)));
    }

    #[test]
    fn the_first_packet_has_only_a_primary() {
        assert_eq!(primary(&[0x6f, 3, 4]), Some((111, 1..3)));
        assert_eq!(primary(&[0x6f]), Some((111, 1..1)), "empty, and there");
        assert_eq!(primary(&[]), None);
    }

    #[test]
    fn blocks_lie_inside() {
        assert_eq!(primary(&[0xef, 0, 0, 2, 0x6f, 1, 2]), Some((111, 7..7)));
        assert_eq!(primary(&[0xef, 0, 0, 2, 0x6f, 1]), None, "the redundant block is cut");
        assert_eq!(primary(&[0xef, 0, 0, 0]), None, "no primary");
        assert_eq!(primary(&[0xef, 0, 0]), None, "half a header");
        assert_eq!(primary(&[0xef, 0xff, 0xff, 0xff, 0x6f]), None, "1023 bytes");
    }

    #[test]
    fn eight_blocks_and_no_more() {
        let blocks = |redundant| [[0xef, 0, 0, 0].repeat(redundant), vec![0x6f, 9]].concat();
        assert_eq!(primary(&blocks(7)), Some((111, 29..30)));
        assert_eq!(primary(&blocks(8)), None);
    }

    #[test]
    fn every_header_is_retyped_and_what_is_not_red_is_left() {
        let mut payload = [0xef, 0x0f, 0x00, 0x02, 0x6f, 0x6f, 0xef, 3];
        retype(&mut payload, 96);
        assert_eq!(payload, [0xe0, 0x0f, 0x00, 0x02, 0x60, 0x6f, 0xef, 3]);
        let mut cut = [0xef, 0x0f, 0x00, 0x02, 0x6f, 0x6f];
        retype(&mut cut, 96);
        assert_eq!(cut, [0xef, 0x0f, 0x00, 0x02, 0x6f, 0x6f]);
        let mut alone = [0x6f];
        retype(&mut alone, 0xe0);
        assert_eq!(alone, [0x60], "seven bits");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            redundant in proptest::collection::vec((any::<u16>(), proptest::collection::vec(any::<u8>(), 0..30)), 0..8),
            newest in proptest::collection::vec(any::<u8>(), 0..30), pt in 0u8..128,
        ) {
            let mut payload = Vec::new();
            for (offset, block) in &redundant {
                let word = u32::from(offset & 0x3fff) << 10 | block.len() as u32;
                payload.extend([0x80 | 100, (word >> 16) as u8, (word >> 8) as u8, word as u8]);
            }
            payload.push(100);
            payload.extend(redundant.iter().flat_map(|(_, block)| block));
            let start = payload.len();
            payload.extend(&newest);
            prop_assert_eq!(primary(&payload), Some((100, start..payload.len())));

            let mut retyped = payload.clone();
            retype(&mut retyped, pt);
            prop_assert_eq!(primary(&retyped), Some((pt, start..payload.len())));
            retype(&mut retyped, 100);
            prop_assert_eq!(retyped, payload);
        }

        #[test]
        fn any_bytes_are_red_or_not(payload in proptest::collection::vec(any::<u8>(), 0..40), pt in any::<u8>()) {
            let found = primary(&payload);
            let mut retyped = payload.clone();
            retype(&mut retyped, pt);
            match found {
                None => prop_assert_eq!(retyped, payload),
                Some((_, block)) => {
                    prop_assert!(block.start >= 1 && block.end == payload.len());
                    prop_assert_eq!(primary(&retyped), Some((pt & 0x7f, block.clone())));
                    prop_assert_eq!(&retyped[block.clone()], &payload[block]);
                }
            }
        }
    }
}
