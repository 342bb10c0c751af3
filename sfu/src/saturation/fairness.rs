//! Whose room gives up how much.

/// One room's share of a worker.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Share {
    /// What it costs, in any unit that all rooms are measured in.
    pub cost: f64,
    /// What it may weigh: subscribers, times what the host thinks of it.
    pub weight: f64,
}

impl Share {
    fn level(&self) -> f64 {
        self.cost / self.weight
    }
}

/// What each room keeps of what it costs, so that `relief` is saved of all: rooms above a common cost per weight come
/// down to it, the others give up nothing. No room is left less than `least` of what it has, and if that does not save
/// enough, everybody is left just that.
///
/// Max-min fairness, by filling up with water: nobody loses anything to one who has more.
pub fn keep(rooms: &[Share], relief: f64, least: f64) -> Vec<f64> {
    if relief.is_nan() || relief <= 0.0 {
        return vec![1.0; rooms.len()];
    }
    let kept_at = |level: f64, room: &Share| {
        let kept = if room.cost > 0.0 { level * room.weight / room.cost } else { 1.0 };
        kept.clamp(least, 1.0)
    };
    let saved = |level: f64| rooms.iter().map(|room| room.cost * (1.0 - kept_at(level, room))).sum::<f64>();
    let highest = rooms.iter().filter(|room| room.cost > 0.0 && room.weight > 0.0).map(Share::level);
    // What is saved falls as the level rises: the highest that saves enough is found by halves.
    let (mut low, mut high) = (0.0, highest.fold(0.0, f64::max));
    for _ in 0..HALVES {
        let middle = (low + high) / 2.0;
        if saved(middle) >= relief { low = middle } else { high = middle }
    }
    rooms.iter().map(|room| kept_at(low, room)).collect()
}

/// Which rooms are noisy: they take more than a quarter of the budget, and more than four times what the median does.
pub fn noisy(costs: &[f64], budget: f64) -> impl Fn(f64) -> bool + use<> {
    let mut sorted = costs.to_vec();
    sorted.sort_by(f64::total_cmp);
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
    let bound = (budget * LOUD_SHARE).max(median * LOUD_TIMES);
    move |cost| cost > bound
}

/// Jain's index of how evenly something is shared: 1 when everybody has the same, 1/n when one has all.
pub fn jain(values: &[f64]) -> f64 {
    let (sum, squares) = values.iter().fold((0.0, 0.0), |(sum, squares), v| (sum + v, squares + v * v));
    if squares > 0.0 { sum * sum / (values.len() as f64 * squares) } else { 1.0 }
}

/// To a billionth of the highest level.
const HALVES: u32 = 30;
const LOUD_SHARE: f64 = 0.25;
const LOUD_TIMES: f64 = 4.0;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn near(kept: &[f64], wanted: &[f64]) -> bool {
        kept.len() == wanted.len() && kept.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6)
    }

    #[test]
    fn the_loud_one_pays_first() {
        let mut rooms = vec![Share { cost: 2.0, weight: 1.0 }; 20];
        rooms.push(Share { cost: 60.0, weight: 1.0 });
        let kept = keep(&rooms, 24.0, 0.0);
        assert!(near(&kept, &[vec![1.0; 20], vec![0.6]].concat()), "{kept:?}");
    }

    #[test]
    fn weight_is_what_a_room_may_cost() {
        let rooms = [Share { cost: 60.0, weight: 30.0 }, Share { cost: 40.0, weight: 10.0 }];
        let kept = keep(&rooms, 20.0, 0.0);
        assert!(near(&kept, &[1.0, 0.5]), "the smaller one, for it has more than its weight: {kept:?}");
    }

    #[test]
    fn what_is_left_is_of_use_and_others_pay_the_rest() {
        let rooms = [Share { cost: 80.0, weight: 1.0 }, Share { cost: 20.0, weight: 1.0 }];
        let kept = keep(&rooms, 60.0, 0.35);
        assert!(near(&kept, &[0.35, 0.6]), "{kept:?}");
        assert!(near(&keep(&rooms, 90.0, 0.35), &[0.35, 0.35]), "nothing more to be had");
    }

    #[test]
    fn who_costs_nothing_gives_nothing_up_and_who_weighs_nothing_all() {
        let rooms = [Share { cost: 0.0, weight: 5.0 }, Share { cost: 3.0, weight: 0.0 }];
        assert_eq!(keep(&rooms, 1.0, 0.0), [1.0, 0.0]);
        assert_eq!(keep(&rooms, 0.0, 0.0), [1.0, 1.0]);
        assert_eq!(keep(&rooms, f64::NAN, 0.0), [1.0, 1.0]);
        assert!(keep(&[], 1.0, 0.0).is_empty());
    }

    #[test]
    fn a_room_is_noisy_among_others_only() {
        let alone = noisy(&[0.8], 1.0);
        assert!(!alone(0.8), "there is nobody it could disturb");
        let costs: Vec<f64> = std::iter::repeat_n(0.02, 20).chain([0.6]).collect();
        let among = noisy(&costs, 1.0);
        assert!(among(0.6) && !among(0.02));
        let quiet = noisy(&[0.001, 0.001, 0.2], 1.0);
        assert!(!quiet(0.2), "a large one on an idle worker");
    }

    #[test]
    fn one_who_has_all_is_as_unfair_as_can_be() {
        assert_eq!(jain(&[1.0, 1.0, 1.0, 1.0]), 1.0);
        assert_eq!(jain(&[1.0, 0.0, 0.0, 0.0]), 0.25);
        assert_eq!(jain(&[]), 1.0);
    }

    proptest! {
        #[test]
        fn exactly_what_is_needed_is_saved_and_those_who_pay_end_up_alike(
            rooms in proptest::collection::vec((0.01f64..10.0, 0.1f64..10.0), 1..40), share in 0.01f64..0.99,
        ) {
            let rooms: Vec<Share> = rooms.into_iter().map(|(cost, weight)| Share { cost, weight }).collect();
            let relief = share * rooms.iter().map(|room| room.cost).sum::<f64>();
            let kept = keep(&rooms, relief, 0.0);
            let saved: f64 = rooms.iter().zip(&kept).map(|(room, kept)| room.cost * (1.0 - kept)).sum();
            prop_assert!((saved - relief).abs() < 1e-6 * relief.max(1.0));
            let paid = rooms.iter().zip(&kept).filter(|(_, kept)| **kept < 1.0);
            prop_assert!(jain(&paid.map(|(room, kept)| room.level() * kept).collect::<Vec<_>>()) > 0.999);
        }
    }
}
