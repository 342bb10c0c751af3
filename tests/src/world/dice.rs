//! Seeded randomness: the same seed, the same schedule.

/// A small generator (SplitMix64). Not for secrets.
#[derive(Clone, Debug)]
pub struct Dice {
    state: u64,
}

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice { state: seed }
    }

    /// Another generator, independent of how this one goes on.
    pub fn fork(&mut self) -> Dice {
        Dice::new(self.word())
    }

    pub fn word(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// From 0 up to, not including, `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.word() % end.max(1)
    }

    /// Happens with the given probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && (self.word() >> 11) as f64 / ((1u64 << 53) as f64) < probability
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.word() as u8).collect()
    }
}

#[test]
fn chances_are_what_they_say() {
    let mut dice = Dice::new(7);
    let hits = (0..100_000).filter(|_| dice.chance(0.05)).count();
    assert!((4_700..5_300).contains(&hits), "{hits} of 100 000 at 5 %");
    assert_eq!(Dice::new(3).word(), Dice::new(3).word());
}
