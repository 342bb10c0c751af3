//! How a subscriber's bandwidth is shared among the tracks it watches.

use crate::units::Bitrate;

/// The largest step that each track may take within `budget`.
///
/// `ladders` hold, for each track, what it costs at each step, the cheapest first. Breadth first: everybody
/// gets a picture before anybody gets a better one, the first named before the others. The lowest step is
/// granted whatever it costs, for a frozen picture helps nobody.
pub fn allocate(budget: Bitrate, ladders: &[Vec<Bitrate>]) -> Vec<usize> {
    let mut steps = vec![0; ladders.len()];
    let mut left = budget.as_bps().saturating_sub(total(ladders, &steps));
    let highest = ladders.iter().map(Vec::len).max().unwrap_or(0);
    for step in 1..highest {
        for (granted, ladder) in steps.iter_mut().zip(ladders) {
            let Some(cost) = step_cost(ladder, *granted, step) else { continue };
            if *granted == step - 1 && cost <= left {
                left -= cost;
                *granted = step;
            }
        }
    }
    steps
}

/// What the budget would have to be for one step more somewhere: the cheapest there is. `None` when everybody
/// has everything.
pub fn next_cost(ladders: &[Vec<Bitrate>], steps: &[usize]) -> Option<Bitrate> {
    let more = ladders.iter().zip(steps).filter_map(|(ladder, step)| step_cost(ladder, *step, step + 1));
    Some(Bitrate::bps(total(ladders, steps) + more.min()?))
}

fn total(ladders: &[Vec<Bitrate>], steps: &[usize]) -> u64 {
    let costs = ladders.iter().zip(steps).filter_map(|(ladder, step)| ladder.get(*step));
    costs.map(|cost| cost.as_bps()).sum()
}

fn step_cost(ladder: &[Bitrate], from: usize, to: usize) -> Option<u64> {
    Some(ladder.get(to)?.as_bps().saturating_sub(ladder.get(from)?.as_bps()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ladder(kbps: &[u64]) -> Vec<Bitrate> {
        kbps.iter().map(|kbps| Bitrate::kbps(*kbps)).collect()
    }

    #[test]
    fn everybody_gets_a_picture_before_anybody_gets_a_better_one() {
        let ladders = [ladder(&[150, 500, 1_700]), ladder(&[150, 500, 1_700]), ladder(&[300])];
        let granted = |kbps| allocate(Bitrate::kbps(kbps), &ladders);
        assert_eq!(granted(0), [0, 0, 0], "the least, whatever it costs");
        assert_eq!(granted(950), [1, 0, 0]);
        assert_eq!(granted(1_300), [1, 1, 0]);
        assert_eq!(granted(2_499), [1, 1, 0]);
        assert_eq!(granted(2_500), [2, 1, 0]);
        assert_eq!(granted(9_999), [2, 2, 0]);
        assert_eq!(next_cost(&ladders, &[1, 1, 0]), Some(Bitrate::kbps(2_500)));
        assert_eq!(next_cost(&ladders, &[2, 2, 0]), None);
    }

    proptest! {
        #[test]
        fn the_budget_holds(
            budget in 0_u64..10_000,
            steps in proptest::collection::vec(proptest::collection::vec(0_u64..2_000, 1..4), 0..8),
        ) {
            let ladders: Vec<_> = steps.iter().map(|steps| {
                let rising = steps.iter().scan(0, |sum, step| { *sum += step; Some(Bitrate::kbps(*sum)) });
                rising.collect::<Vec<_>>()
            }).collect();
            let granted = allocate(Bitrate::kbps(budget), &ladders);
            let least = vec![0; ladders.len()];
            // A step that costs nothing may come with the least.
            let allowed = total(&ladders, &least).max(budget * 1_000);
            prop_assert!(total(&ladders, &granted) <= allowed);
            prop_assert_eq!(allocate(Bitrate::kbps(budget), &ladders), granted, "the same again");
        }
    }
}
