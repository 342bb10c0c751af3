//! When to give up more, and when to take it back.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::level::SaturationLevel;
use super::measures::{CAP_FLOOR, CAP_STEP, Measures, fewer};
use super::relief::{CAP_RELEASE, Undo, more};

/// One worker's ladder. Each half second it is told how things are, and says which measures to hold.
///
/// Up, it goes by the fast mean and in order of harm. Down, it goes by prediction, because thresholds flap: a step is
/// undone when the highest that the slow mean has been lately and the step's own weight fit below the limit together.
#[derive(Clone, Debug, Default)]
pub struct Ladder {
    measures: Measures,
    /// No new rooms.
    guard: bool,
    /// Decisions in a row at which the fast mean was over the point.
    hot: u8,
    /// The last change, and which way it went.
    changed: Option<(Instant, Step)>,
    /// Slow means of the recent past, oldest first.
    past: VecDeque<(Instant, f64)>,
    /// How many times the usual dwell steps down wait.
    patience: u32,
    /// When patience changed.
    patience_at: Option<Instant>,
    /// When measures were last taken.
    engaged: Option<Instant>,
    /// How long after that the load came back, the last time it did.
    returns: Option<Duration>,
}

/// How things are.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// The pressure over the last 0.7 s.
    pub fast: f64,
    /// Over the last 5 s.
    pub slow: f64,
    /// Promised to those who came lately.
    pub reserved: f64,
    /// How late the loop came last.
    pub lag: Duration,
    /// What taking a measure back would cost.
    pub undo: Undo,
    /// The most videos that one subscriber gets, or would get.
    pub most_forwarded: u32,
}

/// Which way measures change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// More is given up.
    Up,
    /// Something is given back.
    Down,
}

impl Ladder {
    /// One that begins with the measures that another held.
    pub fn resume(now: Instant, held: Measures, guard: bool) -> Ladder {
        let engaged = Some(now).filter(|_| guard || held != Measures::NONE);
        let changed = engaged.map(|now| (now, Step::Up));
        Ladder { measures: held, guard, changed, engaged, ..Ladder::default() }
    }

    /// What to hold.
    pub fn measures(&self) -> Measures {
        self.measures
    }

    /// How much that is.
    pub fn level(&self) -> SaturationLevel {
        let guard = if self.guard { SaturationLevel::Guard } else { SaturationLevel::Normal };
        self.measures.level().max(guard)
    }

    /// To be called each half second. Says which way the measures have changed.
    pub fn decide(&mut self, now: Instant, reading: &Reading) -> Option<Step> {
        self.remember(now, reading.slow);
        self.calm_down(now);
        self.hot = if reading.fast >= ENGAGE { self.hot.saturating_add(1) } else { 0 };
        let step = if self.hot >= HOT {
            self.engage(now, reading).then_some(Step::Up)
        } else if !self.guard && reading.slow + reading.reserved >= GUARD {
            self.guard = true;
            Some(Step::Up)
        } else if self.hot == 0 {
            self.release(now, reading).then_some(Step::Down)
        } else {
            None
        };
        if let Some(step) = step {
            self.on_change(now, step);
        }
        step
    }

    fn engage(&mut self, now: Instant, reading: &Reading) -> bool {
        let surge = reading.fast >= SURGE || reading.lag >= SURGE_LAG;
        let before = (self.measures, self.guard);
        self.guard = true;
        let measures = &mut self.measures;
        if surge && !measures.drop_temporal {
            // Encoders need a second to obey: until then this is what bridges it.
            measures.drop_temporal = true;
        }
        if measures.cap > CAP_FLOOR {
            measures.cap = (measures.cap * CAP_STEP).max(CAP_FLOOR);
        } else if surge || self.has_waited(now, IMPACT) {
            match self.measures {
                Measures { drop_temporal: false, .. } => self.measures.drop_temporal = true,
                Measures { last_n: None, .. } => self.measures.last_n = Some(fewer(reading.most_forwarded)),
                Measures { last_n: Some(n), .. } if n > 1 => self.measures.last_n = Some(fewer(n)),
                _ => self.measures.audio_only = true,
            }
        }
        (self.measures, self.guard) != before
    }

    /// One step back, in reverse order of harm.
    fn release(&mut self, now: Instant, reading: &Reading) -> bool {
        let undo = &reading.undo;
        let (undone, weight, dwell) = match self.measures {
            Measures { audio_only: true, .. } => {
                (Measures { audio_only: false, ..self.measures }, undo.audio_only, DWELL)
            }
            Measures { last_n: Some(n), .. } => {
                let last_n = Some(more(n)).filter(|n| *n < reading.most_forwarded);
                (Measures { last_n, ..self.measures }, undo.last_n, DWELL)
            }
            Measures { drop_temporal: true, .. } => {
                (Measures { drop_temporal: false, ..self.measures }, undo.temporal, DWELL)
            }
            Measures { cap, .. } if cap < 1.0 => {
                let cap = (cap * CAP_RELEASE).min(1.0);
                (Measures { cap, ..self.measures }, undo.cap, CAP_DWELL)
            }
            _ => return self.release_guard(now, reading),
        };
        let dwell = self.patient(dwell);
        // The fast mean shows already what the last step has brought back, the slow one only half of it.
        let peak = self.peak(now, dwell).unwrap_or(0.0).max(reading.slow).max(reading.fast);
        let fits = reading.slow < CALM && peak + weight < LIMIT && self.may_be_over(now);
        let released = fits && self.has_waited(now, dwell);
        if released {
            self.measures = undone;
            // What it would have been without this measure: that is what the next step is to be judged by.
            self.past.iter_mut().for_each(|(_, slow)| *slow += weight);
        }
        released
    }

    fn release_guard(&mut self, now: Instant, reading: &Reading) -> bool {
        let dwell = self.patient(CAP_DWELL);
        let peak = self.peak(now, dwell).unwrap_or(0.0).max(reading.slow);
        let released = self.guard && peak + reading.reserved < GUARD_RELEASE && self.has_waited(now, dwell);
        self.guard &= !released;
        released
    }

    fn on_change(&mut self, now: Instant, step: Step) {
        let before = self.changed.replace((now, step));
        let reversed = matches!(before, Some((at, Step::Down)) if now < at + REVERSAL) && step == Step::Up;
        if reversed {
            self.patience = self.patience.max(1).saturating_mul(2).min(MOST_PATIENCE);
            self.patience_at = Some(now);
            self.returns = self.engaged.map(|engaged| now.saturating_duration_since(engaged));
        }
        if step == Step::Up {
            self.engaged = Some(now);
        }
    }

    /// Patience wanes by half in ten minutes without a reversal.
    fn calm_down(&mut self, now: Instant) {
        if self.patience_at.is_some_and(|at| now >= at + CALMING) {
            self.patience /= 2;
            self.patience_at = Some(now).filter(|_| self.patience > 1);
            self.returns = self.returns.filter(|_| self.patience > 1);
        }
    }

    fn patient(&self, dwell: Duration) -> Duration {
        (dwell * self.patience.max(1)).min(LONGEST_DWELL)
    }

    /// A load that came back after a while may do so again: until it would have, with a quarter to spare, a trough is no
    /// end. Caps wait for a whole peak window before their first step down: there are the most of them, and half of a
    /// wave says nothing of the other. What a surge has taken besides comes back sooner.
    fn may_be_over(&self, now: Instant) -> bool {
        let returns = self.returns.map_or(Duration::ZERO, |returns| (returns * 5 / 4).min(LONGEST_DWELL));
        let least = if self.measures.level() > SaturationLevel::Cap { Duration::ZERO } else { PEAK };
        self.engaged.is_none_or(|engaged| now >= engaged + returns.max(least))
    }

    fn has_waited(&self, now: Instant, dwell: Duration) -> bool {
        self.changed.is_none_or(|(at, _)| now >= at + dwell)
    }

    fn remember(&mut self, now: Instant, slow: f64) {
        self.past.push_back((now, slow));
        while self.past.front().is_some_and(|(at, _)| now > *at + LONGEST_DWELL) {
            self.past.pop_front();
        }
    }

    /// The highest slow mean of the last half minute, or as long as steps wait now; but only since the last measure
    /// taken shows in it. That is what keeps a load that comes and goes from taking the measures along.
    fn peak(&self, now: Instant, dwell: Duration) -> Option<f64> {
        let shows = self.engaged.map(|at| at + SHOWS);
        let counts = |at: Instant| now < at + dwell.max(PEAK) && shows.is_none_or(|shows| at >= shows);
        self.past.iter().filter(|(at, _)| counts(*at)).map(|(_, slow)| *slow).reduce(f64::max)
    }
}

/// The fast mean at which measures are taken,
const ENGAGE: f64 = 1.0;
/// at so many decisions in a row.
const HOT: u8 = 2;
/// No new rooms from here on, while there is still room for those who come into the others,
const GUARD: f64 = 0.85;
/// and again below this: as far from 0.85 as joins and leaves move a worker of a dozen rooms.
const GUARD_RELEASE: f64 = 0.80;
/// Too much by a third, or a tenth of a second late: what acts at once is taken at once.
const SURGE: f64 = 1.3;
const SURGE_LAG: Duration = Duration::from_millis(100);
/// The slow mean below which measures are taken back,
const CALM: f64 = 0.92;
/// and what the peak and the step together must stay below.
const LIMIT: f64 = 0.95;
/// An encoder has obeyed by then, and the fast mean has seen it.
const IMPACT: Duration = Duration::from_secs(3);
/// The slow mean shows a change by seven tenths.
const SHOWS: Duration = Duration::from_secs(6);
/// Between steps down,
const DWELL: Duration = Duration::from_secs(10);
/// and between those of caps, of which there are eight. Rooms come back as soon, for they are no load yet.
const CAP_DWELL: Duration = Duration::from_secs(5);
const PEAK: Duration = Duration::from_secs(30);
/// A step up so soon after one down was a step down too early.
const REVERSAL: Duration = Duration::from_secs(60);
const CALMING: Duration = Duration::from_secs(600);
const LONGEST_DWELL: Duration = Duration::from_secs(300);
/// From there on the longest dwell holds for caps, too: 64 × 5 s.
const MOST_PATIENCE: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, ms};

    /// A ladder, and the time of its next decision.
    #[derive(Default)]
    struct Story {
        ladder: Ladder,
        half_seconds: u64,
    }

    const VIDEOS: u32 = 4;

    impl Story {
        /// One decision at this pressure, which has been so for long.
        fn tell(&mut self, pressure: f64) -> Option<Step> {
            self.tell_of(pressure, Undo::default())
        }

        fn tell_of(&mut self, pressure: f64, undo: Undo) -> Option<Step> {
            let reading = Reading {
                fast: pressure,
                slow: pressure,
                reserved: 0.0,
                lag: Duration::ZERO,
                undo,
                most_forwarded: VIDEOS,
            };
            self.tell_all(&reading)
        }

        fn tell_all(&mut self, reading: &Reading) -> Option<Step> {
            self.half_seconds += 1;
            self.ladder.decide(at(self.half_seconds * 500), reading)
        }

        /// Decisions at this pressure until something changes; seconds that took.
        fn until(&mut self, pressure: f64) -> f64 {
            self.until_with(pressure, Undo::default())
        }

        fn until_with(&mut self, pressure: f64, undo: Undo) -> f64 {
            let begun = self.half_seconds;
            for _ in 0..2_000 {
                if self.tell_of(pressure, undo).is_some() {
                    return (self.half_seconds - begun) as f64 / 2.0;
                }
            }
            panic!("it stays at {:?}", self.ladder)
        }

        fn stays(&mut self, pressure: f64, seconds: u64) {
            for _ in 0..seconds * 2 {
                assert_eq!(self.tell(pressure), None, "{:?}", self.ladder);
            }
        }

        fn level(&self) -> SaturationLevel {
            self.ladder.level()
        }

        fn measures(&self) -> Measures {
            self.ladder.measures()
        }
    }

    /// Up to the last step that this pressure leads to.
    fn climbed(pressure: f64, level: SaturationLevel) -> Story {
        let mut story = Story::default();
        for _ in 0..1_000 {
            if story.level() >= level {
                return story;
            }
            story.tell(pressure);
        }
        panic!("never at {level:?}: {:?}", story.ladder)
    }

    #[test]
    fn below_the_guard_nothing_happens() {
        Story::default().stays(0.84, 600);
    }

    #[test]
    fn the_guard_comes_by_the_slow_mean_and_what_is_promised() {
        let mut story = Story::default();
        let promised = Reading {
            fast: 0.6,
            slow: 0.6,
            reserved: 0.25,
            lag: Duration::ZERO,
            undo: Undo::default(),
            most_forwarded: VIDEOS,
        };
        assert_eq!(story.tell_all(&Reading { reserved: 0.24, ..promised }), None);
        assert_eq!(story.tell_all(&promised), Some(Step::Up));
        assert_eq!((story.level(), story.measures()), (SaturationLevel::Guard, Measures::NONE));
        // It goes below 0.80, the promise included.
        for _ in 0..60 {
            assert_eq!(story.tell_all(&Reading { reserved: 0.2, ..promised }), None);
        }
        assert_eq!(story.tell_all(&Reading { reserved: 0.19, ..promised }), Some(Step::Down));
        assert_eq!(story.level(), SaturationLevel::Normal);
    }

    #[test]
    fn one_hot_decision_is_none() {
        let mut story = Story::default();
        story.tell(0.9);
        for _ in 0..20 {
            assert_eq!(story.tell(1.9), None);
            assert_eq!(story.tell(0.9), None);
        }
    }

    #[test]
    fn caps_come_step_by_step_down_to_their_floor() {
        let mut story = Story::default();
        assert_eq!((story.tell(1.1), story.level()), (Some(Step::Up), SaturationLevel::Guard));
        let mut caps = vec![];
        while story.tell(1.1) == Some(Step::Up) {
            caps.push((story.measures().cap * 10_000.0).round());
        }
        assert_eq!(caps, [7_500.0, 5_625.0, 4_219.0, 3_500.0]);
        assert_eq!((story.level(), story.measures().drop_temporal), (SaturationLevel::Cap, false));
    }

    #[test]
    fn each_later_step_waits_for_the_impact_of_the_one_before() {
        let mut story = climbed(1.1, SaturationLevel::Cap);
        (0..3).for_each(|_| assert_eq!(story.tell(1.1), Some(Step::Up)));
        assert_eq!(story.until(1.1), 3.0);
        assert_eq!(story.level(), SaturationLevel::Temporal);
        let mut few = vec![];
        while !story.measures().audio_only {
            assert_eq!(story.until(1.1), 3.0);
            few.extend(story.measures().last_n.filter(|_| !story.measures().audio_only));
        }
        assert_eq!(few, [3, 2, 1]);
        assert_eq!(story.level(), SaturationLevel::AudioOnly);
        story.stays(1.9, 60);
    }

    #[test]
    fn a_surge_bridges_what_encoders_need() {
        let mut story = Story::default();
        story.tell(1.3);
        assert_eq!(story.tell(1.3), Some(Step::Up));
        assert_eq!(story.measures(), Measures { cap: 0.75, drop_temporal: true, ..Measures::NONE });
        assert_eq!(story.level(), SaturationLevel::Temporal);
    }

    #[test]
    fn a_loop_that_is_late_is_a_surge_only_when_it_is_hot_too() {
        let late = Reading {
            fast: 1.05,
            slow: 0.9,
            reserved: 0.0,
            lag: ms(100),
            undo: Undo::default(),
            most_forwarded: VIDEOS,
        };
        let mut story = Story::default();
        story.tell_all(&late);
        story.tell_all(&Reading { lag: ms(99), ..late });
        assert!(!story.measures().drop_temporal);
        story.tell_all(&late);
        assert!(story.measures().drop_temporal);
        let mut hiccup = Story::default();
        for _ in 0..10 {
            hiccup.tell_all(&Reading { fast: 0.7, slow: 0.7, lag: ms(400), ..late });
        }
        assert_eq!(hiccup.level(), SaturationLevel::Normal, "a worker that lost its CPU once");
    }

    #[test]
    fn everything_comes_back_in_reverse_order_and_the_guard_last() {
        let mut story = climbed(1.1, SaturationLevel::AudioOnly);
        let (mut levels, mut waits) = (vec![], vec![]);
        while story.level() > SaturationLevel::Normal {
            waits.push(story.until(0.5));
            levels.push(story.level().as_number());
        }
        // Video again; two videos, three, and all four; temporal layers; eight steps of caps; rooms.
        assert_eq!(levels, [4, 4, 4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 1, 0]);
        let (dwell, caps) = ([10.0; 5].as_slice(), [5.0; 8].as_slice());
        assert_eq!(waits, [dwell, caps, &[5.0]].concat());
        assert_eq!(story.measures(), Measures::NONE);
    }

    #[test]
    fn nothing_comes_back_while_it_is_not_calm() {
        let mut story = climbed(1.1, SaturationLevel::Cap);
        story.stays(0.92, 120);
        assert_eq!(story.until(0.91), 0.5);
    }

    #[test]
    fn nothing_comes_back_that_would_not_fit() {
        let mut story = climbed(1.1, SaturationLevel::Cap);
        let weighs = |cap| Undo { cap, ..Undo::default() };
        for _ in 0..200 {
            assert_eq!(story.tell_of(0.85, weighs(0.1)), None);
        }
        assert_eq!(story.tell_of(0.85, weighs(0.099)), Some(Step::Down));
    }

    #[test]
    fn a_peak_is_held_for_half_a_minute() {
        let mut story = climbed(1.1, SaturationLevel::Temporal);
        let weighs = Undo { temporal: 0.2, ..Undo::default() };
        for _ in 0..14 {
            assert_eq!(story.tell_of(0.6, weighs), None);
        }
        // Six seconds after the change peaks count.
        assert_eq!(story.tell_of(0.8, weighs), None);
        assert_eq!(story.until_with(0.6, weighs), 30.0);
    }

    #[test]
    fn what_was_before_the_change_shows_is_no_peak() {
        let mut story = climbed(1.1, SaturationLevel::Temporal);
        for _ in 0..9 {
            assert_eq!(story.tell(0.91), None, "the mean still falls");
        }
        assert_eq!(story.until_with(0.5, Undo { temporal: 0.4, ..Undo::default() }), 5.5);
    }

    #[test]
    fn a_step_down_too_early_is_repeated_later_and_later_and_patience_wanes() {
        let mut story = climbed(1.1, SaturationLevel::Cap);
        let mut waits = vec![];
        for _ in 0..8 {
            waits.push(story.until(0.5));
            assert_eq!(story.until(1.1), 1.0);
        }
        // A peak window, then a quarter longer than the load stayed away before, and at last the doubled dwell.
        assert_eq!(waits, [30.0, 39.0, 50.0, 64.0, 81.5, 160.0, 300.0, 300.0]);
        // 64 times the usual dwell; halved every ten minutes, it is the usual one again after an hour.
        for pressure in [0.95; 7] {
            story.stays(pressure, 600);
        }
        assert_eq!(
            story.until(0.5),
            30.0,
            "the peak has to be forgotten, and there is no more patience than at first"
        );
    }

    #[test]
    fn going_up_long_after_coming_down_is_no_reversal() {
        let mut story = climbed(1.1, SaturationLevel::Cap);
        story.until(0.5);
        story.until(0.5);
        story.stays(0.95, 61);
        story.until(1.1);
        assert_eq!(story.until(0.5), 30.0);
        assert_eq!(story.until(0.5), 5.0);
    }

    #[test]
    fn what_was_given_back_counts_in_the_peak_before_it() {
        let weighs = |cap| Undo { cap, ..Undo::default() };
        for (second, wait) in [(0.09, 5.0), (0.11, 29.5)] {
            let mut story = climbed(1.1, SaturationLevel::Cap);
            for _ in 0..80 {
                assert_eq!(story.tell_of(0.75, weighs(0.3)), None);
            }
            // In a trough the first step fits below the peak of 0.75, which then would have been one of 0.85.
            assert_eq!(story.tell_of(0.5, weighs(0.1)), Some(Step::Down));
            assert_eq!(story.until_with(0.5, weighs(second)), wait);
        }
    }

    #[test]
    fn one_that_takes_over_waits_as_if_it_had_just_changed() {
        let held = Measures { cap: 0.5, ..Measures::NONE };
        let mut story = Story { ladder: Ladder::resume(at(0), held, true), half_seconds: 0 };
        assert_eq!(story.level(), SaturationLevel::Cap);
        assert_eq!(story.until(0.5), 30.0);
    }
}
