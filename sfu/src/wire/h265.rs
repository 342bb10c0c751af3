//! H.265 payloads: whether one begins a keyframe.
#![warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

/// Whether a keyframe starts in this packet: a video or sequence parameter set or a slice of an IRAP picture,
/// alone, among others in an aggregation packet, or in the first fragment of a fragmentation unit
/// (RFC 7798 §4.4). Parameter sets count for the reason they do in H.264.
///
/// Units are taken to be in decoding order, without DONL fields: nobody negotiates `sprop-max-don-diff`.
pub fn starts_keyframe(payload: &[u8]) -> bool {
    let Some(([header, _], rest)) = payload.split_first_chunk() else { return false };
    match kind(*header) {
        AP => aggregated(rest),
        FU => rest.first().is_some_and(|fu| fu & S_BIT != 0 && begins(fu & FU_TYPE)),
        kind => begins(kind),
    }
}

/// Walks the units of an aggregation packet, each behind its length. One too short for its header, or one that
/// leaves the packet, ends the walk.
fn aggregated(mut units: &[u8]) -> bool {
    while let Some((&len, rest)) = units.split_first_chunk() {
        let Some((unit, after)) = rest.split_at_checked(u16::from_be_bytes(len).into()) else { break };
        match unit {
            [header, _, ..] if begins(kind(*header)) => return true,
            [_, _, ..] => units = after,
            _ => break,
        }
    }
    false
}

/// The NAL unit type, between the forbidden bit and the layer id.
fn kind(header: u8) -> u8 {
    header >> 1 & 0x3f
}

fn begins(kind: u8) -> bool {
    matches!(kind, BLA_W_LP..=CRA | VPS | SPS)
}

/// In an FU header: the first fragment.
const S_BIT: u8 = 0x80;
/// In an FU header: the NAL unit type.
const FU_TYPE: u8 = 0x3f;
/// The first and the last type of an IRAP picture; the two after it are reserved.
const BLA_W_LP: u8 = 16;
const CRA: u8 = 21;
const VPS: u8 = 32;
const SPS: u8 = 33;
const AP: u8 = 48;
const FU: u8 = 49;

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A unit's header: its type, layer 0, temporal id 0.
    fn header(kind: u8) -> [u8; 2] {
        [kind << 1, 1]
    }

    #[test]
    fn parameter_sets_and_irap_pictures_start_one() {
        let starts: Vec<u8> = (0..48).filter(|kind| starts_keyframe(&header(*kind))).collect();
        assert_eq!(starts, [16, 17, 18, 19, 20, 21, 32, 33]);
        assert!(!starts_keyframe(&header(19)[..1]), "half a header");
        assert!(!starts_keyframe(&[]));
    }

    #[test]
    fn an_aggregate_is_walked_and_a_length_that_lies_ends_the_walk() {
        assert!(starts_keyframe(&[0x60, 1, 0, 3, 0x44, 1, 0xc0, 0, 3, 0x26, 1, 0xaf]), "PPS, IDR_W_RADL");
        assert!(!starts_keyframe(&[0x60, 1, 0, 3, 0x44, 1, 0xc0, 0, 3, 0x02, 1, 0xd0]), "PPS, TRAIL_R");
        assert!(!starts_keyframe(&[0x60, 1]), "no unit");
        assert!(!starts_keyframe(&[0x60, 1, 0, 4, 0x40, 1, 0x0c]), "one byte short");
        assert!(!starts_keyframe(&[0x60, 1, 0, 1, 0x40, 0, 3, 0x40, 1, 0x0c]), "no room for a header");
    }

    #[test]
    fn only_the_first_fragment_counts() {
        assert!(starts_keyframe(&[0x62, 1, 0x93, 0xaf]), "S, IDR_W_RADL");
        assert!(!starts_keyframe(&[0x62, 1, 0x13, 0xaf]), "a middle one");
        assert!(!starts_keyframe(&[0x62, 1, 0x53, 0xaf]), "E");
        assert!(!starts_keyframe(&[0x62, 1, 0x81, 0xd0]), "TRAIL_R");
        assert!(!starts_keyframe(&[0x62, 1]), "cut");
    }

    proptest! {
        #[test]
        fn any_bytes_do_or_do_not(payload in proptest::collection::vec(any::<u8>(), 0..40), ap in any::<bool>()) {
            let mut payload = payload;
            if ap && !payload.is_empty() {
                payload[0] = 0x60;
            }
            starts_keyframe(&payload);
        }

        #[test]
        fn an_aggregate_starts_one_where_a_unit_does(
            units in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 2..6), 1..6),
        ) {
            let mut payload = vec![0x60, 1];
            for unit in &units {
                payload.extend((unit.len() as u16).to_be_bytes());
                payload.extend(unit);
            }
            let single = |unit: &Vec<u8>| matches!(unit[0] >> 1 & 0x3f, 16..=21 | 32 | 33);
            prop_assert_eq!(starts_keyframe(&payload), units.iter().any(single));
        }
    }
}
