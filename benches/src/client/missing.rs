//! What to ask for again: RFC 4585 §6.2.1.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The packets of one stream that have not come.
#[derive(Default)]
pub struct Missing {
    asked: BTreeMap<u64, Asked>,
}

#[derive(Clone, Copy, Default)]
struct Asked {
    at: Option<Instant>,
    times: u32,
}

impl Missing {
    /// These were skipped.
    pub fn skip(&mut self, numbers: std::ops::Range<u64>) {
        // A longer gap is for a keyframe to mend, as browsers see it.
        if numbers.end - numbers.start <= LONGEST_GAP {
            self.asked.extend(numbers.map(|number| (number, Asked::default())));
        }
    }

    /// This one is here.
    pub fn found(&mut self, number: u64) {
        self.asked.remove(&number);
    }

    /// Whether anything is missing.
    pub fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    /// Gives up on everything.
    pub fn clear(&mut self) {
        self.asked.clear();
    }

    /// Appends the pairs of a NACK for what is due: a number and a mask of the sixteen that follow.
    pub fn ask(&mut self, now: Instant, pairs: &mut Vec<(u16, u16)>) {
        self.asked.retain(|_, asked| asked.times < TIMES);
        let mut open: Option<(u64, u16)> = None;
        for (number, asked) in &mut self.asked {
            if asked.at.is_some_and(|at| now < at + AGAIN) {
                continue;
            }
            *asked = Asked { at: Some(now), times: asked.times + 1 };
            match &mut open {
                Some((first, mask)) if number - *first <= 16 => *mask |= 1 << (number - *first - 1),
                _ => {
                    pairs.extend(open.map(|(first, mask)| (first as u16, mask)));
                    open = Some((*number, 0));
                }
            }
        }
        pairs.extend(open.map(|(first, mask)| (first as u16, mask)));
    }
}

const LONGEST_GAP: u64 = 500;
/// libwebrtc asks ten times.
const TIMES: u32 = 10;
/// Loopback's round trip is far shorter; a repair may be waiting in a queue.
const AGAIN: Duration = Duration::from_millis(50);

#[test]
fn what_is_missing_is_asked_for_until_it_comes() {
    let (mut missing, start) = (Missing::default(), crate::clock::now());
    let ask = |missing: &mut Missing, ms| {
        let mut pairs = Vec::new();
        missing.ask(start + Duration::from_millis(ms), &mut pairs);
        pairs
    };
    missing.skip(65_534..65_538);
    missing.skip(65_600..65_601);
    assert_eq!(ask(&mut missing, 0), [(65_534, 0b111), (64, 0)]);
    assert_eq!(ask(&mut missing, 10), []);
    missing.found(65_535);
    assert_eq!(ask(&mut missing, 50), [(65_534, 0b110), (64, 0)]);
    (2..10).for_each(|round| assert_eq!(ask(&mut missing, round * 50).len(), 2));
    assert_eq!(ask(&mut missing, 1_000), []);
}
