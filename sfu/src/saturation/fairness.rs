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
        if self.weight > 0.0 { self.cost / self.weight } else { f64::INFINITY }
    }
}

/// The cost per weight that no room may exceed so that `relief` is saved: rooms above give up what they have above it,
/// the others nothing. `None` if nothing is to be saved.
///
/// Max-min fairness: nobody loses anything to one who has more.
pub fn water_level(rooms: &[Share], relief: f64) -> Option<f64> {
    if relief.is_nan() || relief <= 0.0 {
        return None;
    }
    let mut rooms: Vec<&Share> = rooms.iter().filter(|room| room.cost > 0.0).collect();
    rooms.sort_by(|a, b| b.level().total_cmp(&a.level()));
    let (mut cost, mut weight) = (0.0, 0.0);
    for (at, room) in rooms.iter().enumerate() {
        cost += room.cost;
        weight += room.weight;
        // The level at which these alone save enough. It holds if the next one lies below.
        let level = if weight > 0.0 { (cost - relief) / weight } else { 0.0 };
        let next = rooms.get(at + 1).map_or(0.0, |next| next.level());
        if level >= next {
            return Some(level);
        }
    }
    Some(0.0)
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

const LOUD_SHARE: f64 = 0.25;
const LOUD_TIMES: f64 = 4.0;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn saved(rooms: &[Share], level: f64) -> f64 {
        rooms.iter().map(|room| (room.cost - level * room.weight).max(0.0)).sum()
    }

    #[test]
    fn the_loud_one_pays_first() {
        let mut rooms = vec![Share { cost: 2.0, weight: 1.0 }; 20];
        rooms.push(Share { cost: 60.0, weight: 1.0 });
        let level = water_level(&rooms, 25.0).expect("there is something to save");
        assert_eq!(level, 35.0);
        assert!(rooms[..20].iter().all(|room| room.cost <= level * room.weight), "small rooms lose nothing");
    }

    #[test]
    fn weight_is_what_a_room_may_cost() {
        let rooms = [Share { cost: 60.0, weight: 30.0 }, Share { cost: 40.0, weight: 10.0 }];
        let level = water_level(&rooms, 20.0).expect("there is something to save");
        assert_eq!(level, 2.0, "the smaller one, for it has more than its weight");
        assert_eq!(saved(&rooms, level), 20.0);
    }

    #[test]
    fn more_than_all_is_all() {
        let rooms = [Share { cost: 1.0, weight: 1.0 }, Share { cost: 3.0, weight: 0.0 }];
        assert_eq!(water_level(&rooms, 10.0), Some(0.0));
        assert_eq!(water_level(&rooms, 0.0), None);
        assert_eq!(water_level(&rooms, f64::NAN), None);
        assert_eq!(water_level(&[], 1.0), Some(0.0));
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
            let level = water_level(&rooms, relief).expect("there is something to save");
            prop_assert!((saved(&rooms, level) - relief).abs() < 1e-6 * relief.max(1.0));
            let after = |room: &Share| room.cost.min(level * room.weight) / room.weight;
            let paid = rooms.iter().filter(|room| room.cost > level * room.weight);
            prop_assert!(jain(&paid.map(after).collect::<Vec<_>>()) > 0.999);
        }
    }
}
