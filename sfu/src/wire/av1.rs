//! AV1 payloads: whether one begins a coded video sequence.
//!
//! Nothing below the aggregation header is read. OBUs would need a walk over lengths that senders may leave
//! out, and all that a layer decision wants stands in the dependency descriptor (`descriptor`).
#![warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

/// Whether this is the first packet of a coded video sequence, which starts with a keyframe: N in the
/// aggregation header, AV1 RTP specification §4.4. A packet that continues an OBU (Z) is never that.
pub fn starts_keyframe(payload: &[u8]) -> bool {
    matches!(payload, [header, _, ..] if header & (Z_BIT | N_BIT) == N_BIT)
}

/// The packet's first OBU element continues one of the packet before.
const Z_BIT: u8 = 0x80;
/// The packet is the first of a coded video sequence.
const N_BIT: u8 = 0x08;

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_sequence_starts_where_n_says_so() {
        // W 1, N; then a sequence header OBU.
        assert!(starts_keyframe(&[0x18, 0x0a, 0x0b]));
        assert!(starts_keyframe(&[0x68, 0x0a, 0x0b]), "Y: its last OBU goes on in the next packet");
        assert!(!starts_keyframe(&[0x10, 0x32, 0x0b]), "a delta frame");
        assert!(!starts_keyframe(&[0x98, 0x0a, 0x0b]), "a continuation");
        assert!(!starts_keyframe(&[0x08]), "a header and no OBU");
        assert!(!starts_keyframe(&[]));
    }

    proptest! {
        #[test]
        fn only_the_header_decides(header in any::<u8>(), one in any::<u8>(), other in any::<u8>()) {
            prop_assert_eq!(starts_keyframe(&[header, one]), starts_keyframe(&[header, other, one]));
        }
    }
}
