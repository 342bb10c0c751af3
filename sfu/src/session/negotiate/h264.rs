//! `profile-level-id`: which profile of H.264 a peer means, and which decoders take it (RFC 6184 §8.1).

use crate::media::codec::H264Profile;

impl H264Profile {
    /// The profile that six hexadecimal digits name: `profile_idc`, `profile-iop`, `level_idc`. The level
    /// decides nothing here: with `level-asymmetry-allowed` each side states its own.
    pub(super) fn of(profile_level_id: &str) -> Option<H264Profile> {
        if profile_level_id.len() != 6 || !profile_level_id.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        let [_, idc, iop, _] = u32::from_str_radix(profile_level_id, 16).ok()?.to_be_bytes();
        let named = |&(known, pattern, _): &(u8, &str, H264Profile)| known == idc && fits(pattern, iop);
        PROFILES.into_iter().find(named).map(|(_, _, profile)| profile)
    }

    /// Whether a decoder of this profile takes a stream of `stream`, by the subsets of ITU-T H.264 §A.2.
    /// Baseline is in none of the others: its flexible macroblock order is nowhere else.
    pub(super) fn decodes(self, stream: H264Profile) -> bool {
        let also = match stream {
            H264Profile::ConstrainedBaseline => matches!(
                self,
                H264Profile::Baseline | H264Profile::Main | H264Profile::ConstrainedHigh | H264Profile::High
            ),
            H264Profile::Main | H264Profile::ConstrainedHigh => self == H264Profile::High,
            H264Profile::Baseline | H264Profile::High | H264Profile::High444 => false,
        };
        also || self == stream
    }
}

/// `x` takes either bit.
fn fits(pattern: &str, iop: u8) -> bool {
    let bits = (0..8).rev().map(|shift| if iop >> shift & 1 == 1 { b'1' } else { b'0' });
    pattern.bytes().zip(bits).all(|(wanted, bit)| wanted == b'x' || wanted == bit)
}

/// RFC 6184 §8.1, table 5, the rows that browsers have; constrained high is of the later editions of H.264.
const PROFILES: [(u8, &str, H264Profile); 9] = [
    (0x42, "x1xx0000", H264Profile::ConstrainedBaseline),
    (0x4D, "1xxx0000", H264Profile::ConstrainedBaseline),
    (0x58, "11xx0000", H264Profile::ConstrainedBaseline),
    (0x42, "x0xx0000", H264Profile::Baseline),
    (0x58, "10xx0000", H264Profile::Baseline),
    (0x4D, "0x0x0000", H264Profile::Main),
    (0x64, "00000000", H264Profile::High),
    (0x64, "00001100", H264Profile::ConstrainedHigh),
    (0xF4, "00000000", H264Profile::High444),
];

#[test]
fn profiles_are_read_as_browsers_write_them() {
    let table = [
        ("42001f", Some(H264Profile::Baseline)),
        ("42e01f", Some(H264Profile::ConstrainedBaseline)),
        ("42C034", Some(H264Profile::ConstrainedBaseline)),
        ("4d801f", Some(H264Profile::ConstrainedBaseline)),
        ("58c01f", Some(H264Profile::ConstrainedBaseline)),
        ("58801f", Some(H264Profile::Baseline)),
        ("4d001f", Some(H264Profile::Main)),
        ("4D401F", Some(H264Profile::Main)),
        ("64001f", Some(H264Profile::High)),
        ("640c1f", Some(H264Profile::ConstrainedHigh)),
        ("f4001f", Some(H264Profile::High444)),
        // Extended, high 10, a reserved bit set.
        ("58001f", None),
        ("6e001f", None),
        ("42e11f", None),
        ("42e01", None),
        ("42e01f0", None),
        ("+2e01f", None),
        ("42é1f", None),
        ("", None),
    ];
    for (text, profile) in table {
        assert_eq!(H264Profile::of(text), profile, "{text}");
    }
}
