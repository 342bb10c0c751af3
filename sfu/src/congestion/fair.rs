//! One rate shared by several.

use crate::units::Bitrate;

/// What each may have of `total`: max-min fair, so that nobody gets less than he wants as long as somebody gets more
/// than he does. What nobody wants is shared alike by all.
pub fn fair_shares(total: Bitrate, wanted: &[Bitrate]) -> Vec<Bitrate> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|at| wanted[*at]);
    let mut shares = vec![Bitrate::bps(0); wanted.len()];
    let mut left = total.as_bps();
    for (place, at) in order.into_iter().enumerate() {
        let even = left / (wanted.len() - place) as u64;
        let share = wanted[at].as_bps().min(even);
        shares[at] = Bitrate::bps(share);
        left -= share;
    }
    let spare = left / wanted.len().max(1) as u64;
    shares.into_iter().map(|share| Bitrate::bps(share.as_bps() + spare)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shares(total: u64, wanted: &[u64]) -> Vec<u64> {
        let wanted: Vec<Bitrate> = wanted.iter().map(|bps| Bitrate::bps(*bps)).collect();
        fair_shares(Bitrate::bps(total), &wanted).into_iter().map(Bitrate::as_bps).collect()
    }

    #[test]
    fn who_wants_little_gets_it_and_the_others_share_the_rest() {
        assert_eq!(shares(1_000, &[50, 2_000, 600]), [50, 475, 475]);
        assert_eq!(shares(1_000, &[50, 150]), [450, 550], "what is left over is anybody's");
        assert_eq!(shares(1_000, &[]), [0u64; 0]);
        assert_eq!(shares(0, &[5]), [0]);
    }

    /// A bit for each at most.
    const ROUNDING: u64 = 20;

    proptest! {
        #[test]
        fn nobody_is_short_while_another_has_more(
            total in 0u64..100_000, wanted in proptest::collection::vec(0u64..20_000, 1..20),
        ) {
            let shares = shares(total, &wanted);
            prop_assert!(shares.iter().sum::<u64>() <= total);
            let most = shares.iter().max().copied().unwrap_or(0);
            for (share, wanted) in shares.iter().zip(&wanted) {
                prop_assert!(share >= wanted || share + ROUNDING >= most, "{shares:?} of {total}");
            }
        }
    }
}
