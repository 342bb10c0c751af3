//! How much a worker has to do: where newcomers go.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Above this a room's own worker is not given more of it while another has less to do. In thousandths.
pub const BUSY: u64 = 600;

/// What a peer is taken to cost that none has shown yet. In thousandths of a worker.
const UNKNOWN: f64 = 1.0;

/// Each measurement counts for an eighth: ten a second, so that it is of the last second.
const SMOOTHING: f64 = 1.0 / 8.0;

/// One worker's, as it measures it and hosts' threads read it.
#[derive(Debug, Default)]
pub struct Load {
    /// Peers on it, rooms whose home it is, and joins that it has not answered yet.
    pub peers: AtomicUsize,
    pub rooms: AtomicUsize,
    pub joining: AtomicUsize,
    /// How busy it was, and how many peers it had meanwhile: the bits of two `f64`.
    busy: AtomicU64,
    settled: AtomicU64,
}

impl Load {
    /// It was busy for so many thousandths of the time since the last call.
    pub fn measure(&self, busy: u64) {
        let smooth = |cell: &AtomicU64, now: f64| {
            let before = f64::from_bits(cell.load(Relaxed));
            cell.store((before + (now - before) * SMOOTHING).to_bits(), Relaxed);
        };
        smooth(&self.busy, busy.min(1_000) as f64);
        smooth(&self.settled, self.peers.load(Relaxed) as f64);
    }

    /// In thousandths: what it was busy with, and what those will cost who have come since. One for each room, so that
    /// rooms that nobody is in yet are spread.
    pub fn expected(&self) -> u64 {
        let busy = f64::from_bits(self.busy.load(Relaxed));
        let settled = f64::from_bits(self.settled.load(Relaxed));
        let each = if settled >= 1.0 { (busy / settled).max(UNKNOWN) } else { UNKNOWN };
        let (peers, joining) = (self.peers.load(Relaxed), self.joining.load(Relaxed));
        let new = ((peers + joining) as f64 - settled).max(0.0);
        (busy + new * each) as u64 + self.rooms.load(Relaxed) as u64
    }
}

/// The one of several that has least to do; the first of those that have as little. Of many, two are compared, by two
/// random words: as good as the best of all when many choose at once (Mitzenmacher, 2001), and nobody is swamped.
pub fn choose(loads: &[&Load], dice: [u64; 2]) -> usize {
    let count = loads.len() as u64;
    if count <= 2 {
        return (0..loads.len()).min_by_key(|at| loads[*at].expected()).unwrap_or(0);
    }
    let one = dice[0] % count;
    // Another one.
    let other = (one + 1 + dice[1] % (count - 1)) % count;
    [one, other].map(|at| at as usize).into_iter().min_by_key(|at| loads[*at].expected()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(busy: u64, peers: usize) -> Load {
        let load = Load::default();
        load.peers.store(peers, Relaxed);
        (0..100).for_each(|_| load.measure(busy));
        load
    }

    #[test]
    fn newcomers_count_before_they_show() {
        let load = load(500, 100);
        let about = |expected: u64| assert!(load.expected().abs_diff(expected) <= 1, "{}", load.expected());
        about(500);
        load.joining.store(20, Relaxed);
        // Five thousandths each, as the others.
        about(600);
        load.joining.store(0, Relaxed);
        load.peers.store(120, Relaxed);
        about(600);
        // They are part of what is measured by and by.
        (0..100).for_each(|_| load.measure(500));
        about(500);
    }

    #[test]
    fn cost_decides_and_not_how_many() {
        let (few, many) = (load(700, 10), load(200, 400));
        assert_eq!(choose(&[&few, &many], [0, 0]), 1);
        assert_eq!(choose(&[&Load::default(), &Load::default()], [7, 7]), 0);
    }

    #[test]
    fn of_many_two_are_compared() {
        let loads: Vec<Load> = (0..8).map(|n| load(n * 100, 10)).collect();
        let loads: Vec<&Load> = loads.iter().collect();
        assert_eq!(choose(&loads, [5, 1]), 5, "five and seven");
        assert_eq!(choose(&loads, [5, 2]), 0, "five and none");
        for dice in 0..100_u64 {
            assert!(choose(&loads, [dice, dice * 7]) < 8);
        }
    }

    #[test]
    fn five_hundred_at_once_are_halved() {
        let loads = [Load::default(), Load::default()];
        for _ in 0..500 {
            let at = choose(&[&loads[0], &loads[1]], [0, 0]);
            loads[at].joining.fetch_add(1, Relaxed);
        }
        assert_eq!(loads[0].joining.load(Relaxed), 250);
    }
}
