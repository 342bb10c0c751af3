//! Which packet indices have been used: RFC 3711 §3.3.2.

/// A sliding window over packet indices, `WORDS` × 64 wide, that knows which have been seen.
///
/// On the way in it refuses what was received before; on the way out it refuses to seal an index
/// twice. Asking and recording are separate steps, since an inbound index counts only once its
/// packet has authenticated.
#[derive(Clone, Debug)]
pub(crate) struct Window<const WORDS: usize> {
    highest: Option<u64>,
    /// Bit `i % WIDTH` stands for index `i`, for the `WIDTH` indices up to `highest`.
    bits: [u64; WORDS],
}

/// What a window says of an index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// Not seen yet.
    New,
    /// Seen before.
    Used,
    /// Older than the window: seen or not, nobody knows any more.
    Behind,
}

impl<const WORDS: usize> Window<WORDS> {
    pub(crate) const WIDTH: u64 = WORDS as u64 * 64;

    pub(crate) fn new() -> Self {
        Window { highest: None, bits: [0; WORDS] }
    }

    /// The highest index recorded.
    pub(crate) fn highest(&self) -> Option<u64> {
        self.highest
    }

    /// Where `index` stands, without recording it.
    pub(crate) fn place(&self, index: u64) -> Place {
        match self.highest {
            Some(highest) if index <= highest => {
                if highest - index >= Self::WIDTH {
                    Place::Behind
                } else if self.bits[Self::word(index)] & Self::bit(index) != 0 {
                    Place::Used
                } else {
                    Place::New
                }
            }
            _ => Place::New,
        }
    }

    /// Records `index` as used. An index behind the window leaves no trace.
    pub(crate) fn record(&mut self, index: u64) {
        match self.highest {
            Some(highest) if index > highest => {
                self.forget_between(highest, index);
                self.highest = Some(index);
            }
            Some(highest) if highest - index >= Self::WIDTH => return,
            Some(_) => {}
            None => self.highest = Some(index),
        }
        self.bits[Self::word(index)] |= Self::bit(index);
    }

    /// Clears the bits of the indices in `(from, to]`, which re-use those of the indices that leave.
    fn forget_between(&mut self, from: u64, to: u64) {
        if to - from >= Self::WIDTH {
            self.bits = [0; WORDS];
            return;
        }
        for index in from + 1..=to {
            self.bits[Self::word(index)] &= !Self::bit(index);
        }
    }

    fn word(index: u64) -> usize {
        (index / 64 % WORDS as u64) as usize
    }

    fn bit(index: u64) -> u64 {
        1 << (index % 64)
    }
}

#[test]
fn an_index_is_new_once() {
    let mut window = Window::<2>::new();
    assert_eq!(window.place(1_000), Place::New);
    window.record(1_000);
    assert_eq!(window.place(1_000), Place::Used);
    assert_eq!(window.place(999), Place::New);
    assert_eq!(window.place(1_000 - 127), Place::New);
    assert_eq!(window.place(1_000 - 128), Place::Behind);
    window.record(1_001);
    assert_eq!(window.place(1_001 - 128), Place::Behind);
    window.record(50_000);
    assert_eq!(window.place(49_999), Place::New);
    assert_eq!(window.place(1_001), Place::Behind);
}

#[cfg(test)]
proptest::proptest! {
    #[test]
    fn a_window_agrees_with_a_set(steps in proptest::collection::vec(-200i64..200, 1..300)) {
        let mut window = Window::<2>::new();
        let mut seen = std::collections::HashSet::new();
        let mut highest = 10_000u64;
        window.record(highest);
        seen.insert(highest);
        for step in steps {
            let index = highest.saturating_add_signed(step);
            let expected = if index + 128 <= highest {
                Place::Behind
            } else if seen.contains(&index) {
                Place::Used
            } else {
                Place::New
            };
            proptest::prop_assert_eq!(window.place(index), expected);
            window.record(index);
            seen.insert(index);
            highest = highest.max(index);
        }
    }
}
