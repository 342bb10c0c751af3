//! Loss that can be repeated.

/// Throws away a share of packets, the same ones for the same seed.
#[derive(Clone, Copy, Debug)]
pub struct Dice {
    state: u64,
    /// Of 2³².
    threshold: u64,
}

impl Dice {
    /// `share` of 1 falls.
    pub fn new(seed: u64, share: f64) -> Dice {
        // An odd factor, so that neighbouring seeds are far apart; never zero, where the generator stays.
        let state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Dice { state, threshold: (share.clamp(0.0, 1.0) * 2_f64.powi(32)) as u64 }
    }

    /// Whether this one falls: xorshift64*.
    pub fn falls(&mut self) -> bool {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32 < self.threshold
    }
}

#[test]
fn the_share_that_falls_is_as_asked() {
    for seed in 0..5 {
        let mut dice = Dice::new(seed, 0.05);
        let fallen = (0..100_000).filter(|_| dice.falls()).count();
        assert!((4_700..5_300).contains(&fallen), "seed {seed}: {fallen}");
    }
    assert!((0..100).all(|_| !Dice::new(1, 0.0).falls()));
}
