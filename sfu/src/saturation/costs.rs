//! What a participant costs, as measured.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::counters::RoomSize;

/// The pressure that one participant adds, by the size of the room. The controller writes, any thread reads.
#[derive(Debug, Default)]
pub struct Costs {
    /// Bits of an `f64`; 0 while nothing is known.
    by_size: [AtomicU64; RoomSize::ALL.len()],
}

/// Until something is measured: a thousand participants fill a worker. Half of that is a hall that opens its doors at
/// once, which an idle node must take.
const UNKNOWN: f64 = 0.001;

/// What a new measurement weighs, once a second.
const WEIGHT: f64 = 0.2;

impl Costs {
    /// Of one in a room of so many, the newcomer included.
    pub fn of(&self, participants: usize) -> f64 {
        let Some(size) = RoomSize::of(participants.max(1)) else { return UNKNOWN };
        let known = |at: usize| self.by_size.get(at).and_then(read);
        // The nearest size that is known; of two equally near the larger one, which costs more.
        let at = size as usize;
        let nearest =
            (0..self.by_size.len()).find_map(|far| known(at + far).or_else(|| known(at.checked_sub(far)?)));
        nearest.unwrap_or(UNKNOWN)
    }

    /// Each participant of rooms of this size has cost so much lately. Only one thread may call it.
    pub fn learn(&self, size: RoomSize, cost: f64) {
        let cell = &self.by_size[size as usize];
        if cost.is_finite() && cost > 0.0 {
            let learnt = read(cell).map_or(cost, |before| before + (cost - before) * WEIGHT);
            cell.store(learnt.to_bits(), Relaxed);
        }
    }
}

fn read(cell: &AtomicU64) -> Option<f64> {
    Some(cell.load(Relaxed)).filter(|bits| *bits > 0).map(f64::from_bits)
}

#[test]
fn what_is_not_known_is_taken_from_the_nearest() {
    let costs = Costs::default();
    assert_eq!(costs.of(2), UNKNOWN);
    costs.learn(RoomSize::UpTo10, 0.01);
    costs.learn(RoomSize::Two, 0.002);
    for (participants, cost) in [(0, 0.002), (2, 0.002), (4, 0.01), (10, 0.01), (500, 0.01)] {
        assert_eq!(costs.of(participants), cost, "{participants}");
    }
}

#[test]
fn the_first_measurement_counts_whole_and_nonsense_not_at_all() {
    let costs = Costs::default();
    costs.learn(RoomSize::Two, 0.01);
    costs.learn(RoomSize::Two, 0.02);
    assert!((costs.of(2) - 0.012).abs() < 1e-12);
    for nonsense in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
        costs.learn(RoomSize::Two, nonsense);
    }
    assert!((costs.of(2) - 0.012).abs() < 1e-12);
}
