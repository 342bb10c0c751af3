//! What was promised to those who came lately.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Load that is promised and does not show yet. Any thread may add to it, none waits.
///
/// Whoever came is expected to show in the measured load within [`SHOWS_WITHIN`], so what is reserved for them wanes
/// linearly by then. One cell holds the promises of a second, by the number of that second.
#[derive(Debug, Default)]
pub struct Reservations {
    cells: [AtomicU64; CELLS],
}

/// By then a newcomer's load is measured: joining takes seconds, and the slow mean five more.
const SHOWS_WITHIN: Duration = Duration::from_secs(SECONDS as u64);
const SECONDS: usize = 20;
/// What comes at the beginning of a second counts to the end of it, and for so long after that.
const CELLS: usize = SECONDS + 2;

/// Millionths of a pressure: the lower half of a cell.
const UNIT: f64 = 1e6;
const AMOUNT: u64 = u32::MAX as u64;

impl Reservations {
    /// Reserves, and says how much is reserved altogether then.
    pub fn add(&self, since_start: Duration, amount: f64) -> f64 {
        let second = since_start.as_secs();
        let _ = self.cell(second).fetch_update(Relaxed, Relaxed, |old| {
            let (of, sum) = parts(old);
            let sum = if of == second { sum } else { 0 };
            Some(((second & AMOUNT) << 32) | (sum + units(amount)).min(AMOUNT))
        });
        self.total(since_start)
    }

    /// What [`Reservations::add`] would say: in its units, so that both say the same.
    pub fn with(&self, since_start: Duration, amount: f64) -> f64 {
        self.total(since_start) + units(amount) as f64 / UNIT
    }

    /// Takes back what was added then.
    pub fn withdraw(&self, added_at: Duration, amount: f64) {
        let second = added_at.as_secs();
        let _ = self.cell(second).fetch_update(Relaxed, Relaxed, |old| {
            let (of, sum) = parts(old);
            (of == second).then(|| (second << 32) | sum.saturating_sub(units(amount)))
        });
    }

    /// How much is reserved now.
    pub fn total(&self, since_start: Duration) -> f64 {
        let share = |cell: &AtomicU64| {
            let (second, sum) = parts(cell.load(Relaxed));
            // As if all of them had come at the end of their second.
            let age = since_start.saturating_sub(Duration::from_secs(second + 1));
            let left = 1.0 - age.as_secs_f64() / SHOWS_WITHIN.as_secs_f64();
            left.max(0.0) * sum as f64 / UNIT
        };
        self.cells.iter().map(share).sum()
    }

    fn cell(&self, second: u64) -> &AtomicU64 {
        &self.cells[second as usize % CELLS]
    }
}

fn parts(cell: u64) -> (u64, u64) {
    (cell >> 32, cell & AMOUNT)
}

fn units(amount: f64) -> u64 {
    (amount.clamp(0.0, 1_000.0) * UNIT) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::ms;

    #[test]
    fn it_wanes_over_twenty_seconds() {
        let reserved = Reservations::default();
        assert_eq!(reserved.total(ms(0)), 0.0);
        assert_eq!(reserved.add(ms(1_000), 0.5), 0.5);
        let at = |time| (reserved.total(ms(time)) * 1_000.0).round() / 1_000.0;
        assert_eq!(at(2_000), 0.5, "to the end of its second");
        assert_eq!(at(12_000), 0.25);
        assert_eq!(at(21_900), 0.003);
        assert_eq!(at(22_000), 0.0);
        assert_eq!(at(100_000), 0.0);
    }

    #[test]
    fn what_is_withdrawn_was_never_there() {
        let reserved = Reservations::default();
        reserved.add(ms(500), 0.1);
        reserved.add(ms(600), 0.2);
        reserved.withdraw(ms(600), 0.2);
        assert!((reserved.total(ms(600)) - 0.1).abs() < 1e-6);
    }

    #[test]
    fn a_cell_is_used_again_after_its_time() {
        let reserved = Reservations::default();
        reserved.add(ms(500), 0.3);
        assert_eq!(reserved.add(ms(22_500), 0.1), 0.1, "the same cell, another second");
    }

    proptest! {
        /// Never less than a linear fall from the moment of each promise, never more than if it were a second younger.
        #[test]
        fn it_is_what_each_promise_leaves(
            promises in proptest::collection::vec((0u64..3_000, 0.0f64..0.2), 0..60),
            later in 0u64..25_000,
        ) {
            let reserved = Reservations::default();
            let (mut now, mut made) = (0, vec![]);
            for (gap, amount) in promises {
                now += gap;
                reserved.add(ms(now), amount);
                made.push((now, amount));
            }
            now += later;
            let left = |younger: f64| -> f64 {
                let age = |at: u64| ((now - at) as f64 / 1_000.0 - younger).max(0.0);
                made.iter().map(|(at, amount)| (1.0 - age(*at) / 20.0).max(0.0) * amount).sum()
            };
            let total = reserved.total(ms(now));
            prop_assert!(total >= left(0.0) - 1e-4 && total <= left(1.0) + 1e-4, "{total} {} {}", left(0.0), left(1.0));
        }
    }
}
