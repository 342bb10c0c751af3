//! H.264 payloads: whether one begins a keyframe.
#![warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

/// Whether a keyframe starts in this packet: a sequence parameter set or a slice of an IDR picture, alone,
/// among others in a STAP-A, or in the first fragment of an FU-A (RFC 6184 §5.6–5.8).
///
/// Parameter sets count although no picture is in them: encoders may send them in a packet of their own, and
/// whoever joins at the IDR slice behind it has missed what decodes it. A picture of several slices answers
/// `true` more than once.
pub fn starts_keyframe(payload: &[u8]) -> bool {
    let Some((header, rest)) = payload.split_first() else { return false };
    match header & TYPE {
        STAP_A => aggregated(rest),
        FU_A => rest.first().is_some_and(|fu| fu & S_BIT != 0 && begins(*fu)),
        _ => begins(*header),
    }
}

/// Walks the units of a STAP-A, each behind its length. One that is empty or leaves the packet ends the walk.
fn aggregated(mut units: &[u8]) -> bool {
    while let Some((&len, rest)) = units.split_first_chunk() {
        let Some((unit, after)) = rest.split_at_checked(u16::from_be_bytes(len).into()) else { break };
        match unit.first() {
            Some(header) if begins(*header) => return true,
            Some(_) => units = after,
            None => break,
        }
    }
    false
}

fn begins(header: u8) -> bool {
    matches!(header & TYPE, IDR | SPS)
}

/// The NAL unit type, in a unit's header and in an FU's.
const TYPE: u8 = 0x1f;
/// In an FU header: the first fragment.
const S_BIT: u8 = 0x80;
const IDR: u8 = 5;
const SPS: u8 = 7;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parameter_sets_and_idr_slices_start_one() {
        assert!(starts_keyframe(&[0x67, 0x42, 0xe0, 0x1f]), "SPS");
        assert!(starts_keyframe(&[0x65, 0x88]), "IDR");
        assert!(starts_keyframe(&[0x25]), "IDR, of less importance, and nothing behind");
        assert!(!starts_keyframe(&[0x68, 0xce]), "PPS");
        assert!(!starts_keyframe(&[0x41, 0x9a]), "a slice of another picture");
        assert!(!starts_keyframe(&[0x06, 0x05]), "SEI");
        assert!(!starts_keyframe(&[]));
    }

    #[test]
    fn chromium_aggregates_the_parameter_sets() {
        // SPS, PPS; then what it is for, behind an access unit delimiter.
        assert!(starts_keyframe(&[0x78, 0, 3, 0x67, 0x42, 0xe0, 0, 2, 0x68, 0xce]));
        assert!(starts_keyframe(&[0x78, 0, 2, 0x09, 0xf0, 0, 2, 0x65, 0x88]));
        assert!(!starts_keyframe(&[0x78, 0, 2, 0x68, 0xce, 0, 2, 0x41, 0x9a]));
    }

    #[test]
    fn a_length_that_lies_ends_the_walk() {
        assert!(!starts_keyframe(&[0x78]), "no unit");
        assert!(!starts_keyframe(&[0x78, 0]), "half a length");
        assert!(!starts_keyframe(&[0x78, 0, 3, 0x67, 0x42]), "one byte short");
        assert!(starts_keyframe(&[0x78, 0, 2, 0x67, 0x42]));
        assert!(!starts_keyframe(&[0x78, 0, 0, 0, 1, 0x67]), "an empty unit");
        assert!(!starts_keyframe(&[0x78, 0, 1, 0x68, 0xff, 0xff, 0x67]), "the second lies");
    }

    #[test]
    fn only_the_first_fragment_counts() {
        assert!(starts_keyframe(&[0x7c, 0x85, 0x88]), "S");
        assert!(starts_keyframe(&[0x7c, 0x87, 0x42]), "S, of an SPS");
        assert!(!starts_keyframe(&[0x7c, 0x05, 0x88]), "a middle one");
        assert!(!starts_keyframe(&[0x7c, 0x45, 0x88]), "E");
        assert!(!starts_keyframe(&[0x7c, 0x81, 0x9a]), "of another picture");
        assert!(!starts_keyframe(&[0x7c]), "cut");
    }

    proptest! {
        #[test]
        fn any_bytes_do_or_do_not(payload in proptest::collection::vec(any::<u8>(), 0..40), stap in any::<bool>()) {
            let mut payload = payload;
            if stap && !payload.is_empty() {
                payload[0] = 0x78;
            }
            starts_keyframe(&payload);
        }

        #[test]
        fn an_aggregate_starts_one_where_a_unit_does(
            units in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..6), 1..6),
        ) {
            let mut payload = vec![0x78];
            for unit in &units {
                payload.extend((unit.len() as u16).to_be_bytes());
                payload.extend(unit);
            }
            let single = |unit: &Vec<u8>| matches!(unit[0] & 0x1f, 5 | 7);
            prop_assert_eq!(starts_keyframe(&payload), units.iter().any(single));
        }
    }
}
