//! Sequence numbers: 16 bits on the wire, 64 in memory, so that order survives the wrap.

/// Turns 16-bit wire sequence numbers into 64-bit ones, RFC 3550 §A.1 in spirit: the candidate
/// nearest to the highest seen wins.
#[derive(Clone, Copy, Debug, Default)]
pub struct SeqUnwrapper {
    highest: Option<u64>,
}

impl SeqUnwrapper {
    /// Numbers start in the second cycle, so that a packet from before the first one stays positive.
    const FIRST_CYCLE: u64 = 1 << 16;

    /// The 64-bit number for `seq`, and remembers it if it is the highest yet.
    pub fn unwrap(&mut self, seq: u16) -> u64 {
        let extended = self.peek(seq);
        self.highest = Some(self.highest.map_or(extended, |highest| highest.max(extended)));
        extended
    }

    /// The 64-bit number for `seq`, without remembering it.
    pub fn peek(&self, seq: u16) -> u64 {
        let Some(highest) = self.highest else {
            return Self::FIRST_CYCLE + u64::from(seq);
        };
        // Signed distance on the circle: half the circle ahead, half behind.
        let distance = seq.wrapping_sub(highest as u16) as i16;
        highest.saturating_add_signed(i64::from(distance))
    }

    /// Takes a number that is known in full: an SRTP index, whose rollover counter has authenticated.
    pub fn take(&mut self, index: u64) -> u64 {
        let extended = Self::FIRST_CYCLE + index;
        self.highest = Some(self.highest.map_or(extended, |highest| highest.max(extended)));
        extended
    }

    /// The highest number seen.
    #[cfg(test)]
    pub fn highest(&self) -> Option<u64> {
        self.highest
    }
}

#[test]
fn numbers_keep_their_order_across_the_wrap() {
    let mut unwrapper = SeqUnwrapper::default();
    let a = unwrapper.unwrap(65_534);
    let late = unwrapper.peek(65_500);
    let b = unwrapper.unwrap(3);
    assert_eq!(b - a, 5);
    assert_eq!(a - late, 34);
    assert_eq!(unwrapper.unwrap(65_535), a + 1);
    assert_eq!(unwrapper.highest(), Some(b));
}

#[cfg(test)]
proptest::proptest! {
    #[test]
    fn unwrapping_follows_any_walk(steps in proptest::collection::vec(-30_000i64..30_000, 1..200)) {
        let mut unwrapper = SeqUnwrapper::default();
        let mut truth = i64::from(u16::MAX) + 1 + 500;
        unwrapper.unwrap(truth as u16);
        let mut highest = truth;
        for step in steps {
            truth = (highest + step).max(0);
            proptest::prop_assert_eq!(unwrapper.unwrap(truth as u16), truth as u64);
            highest = highest.max(truth);
        }
    }
}
