//! When a subscriber's network gives way under what we send, what it may be sent instead.

use std::time::{Duration, Instant};

use crate::units::Bitrate;

/// A brake, not an estimator: unlimited until the subscriber loses much, then a budget of what was seen to
/// arrive, and a step more at a time once things have been clean for a while.
///
/// Losing a few per cent at random is what repairs are for. Losing more than a tenth for two seconds, or a third
/// at once, means that the path is too narrow for what we send, and every packet more makes it worse.
#[derive(Debug)]
pub struct Throttle {
    steps: [Tally; STEPS],
    /// The number of the newest step, and what steps are counted from.
    newest: u64,
    epoch: Option<Instant>,
    lossy_since: Option<Instant>,
    clean_since: Option<Instant>,
    budget: Option<Bitrate>,
    /// What the subscriber itself says it can take, where that is all we hear (REMB).
    told: Option<Bitrate>,
    told_less_at: Option<Instant>,
    /// No verdict before this: what we changed has to show first.
    blind_until: Option<Instant>,
    raised_at: Option<Instant>,
    /// How long things must be clean before the next step up.
    patience: Duration,
    changed: bool,
}

/// What became of the packets that feedback of one step was about.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    packets: u64,
    lost: u64,
    /// Bytes that arrived.
    arrived: u64,
}

impl Default for Throttle {
    fn default() -> Self {
        Throttle {
            steps: [Tally::default(); STEPS],
            newest: 0,
            epoch: None,
            lossy_since: None,
            clean_since: None,
            budget: None,
            told: None,
            told_less_at: None,
            blind_until: None,
            raised_at: None,
            patience: PATIENCE,
            changed: false,
        }
    }
}

impl Throttle {
    /// What may be sent. `None`: everything.
    pub fn budget(&self) -> Option<Bitrate> {
        [self.budget, self.told].into_iter().flatten().min()
    }

    /// Whether the budget has changed since the last call.
    pub fn poll_change(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Feedback: of `packets` sent, `lost` did not arrive; `arrived` bytes did.
    pub fn on_feedback(&mut self, now: Instant, packets: u64, lost: u64, arrived: u64) {
        if self.blind_until.is_some_and(|until| now < until) {
            return;
        }
        let tally = self.step(now);
        tally.packets += packets;
        tally.lost += lost;
        tally.arrived += arrived;
        let window = self.window();
        if window.packets < ENOUGH {
            return;
        }
        let percent = window.lost * 100 / window.packets;
        let since =
            |then: Option<Instant>| then.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        if percent > LOSSY {
            self.clean_since = None;
            self.lossy_since.get_or_insert(now);
            let long = since(self.lossy_since);
            if long >= SUSTAINED || (percent > DROWNING && long >= DROWNED) {
                self.brake(now, window);
            }
        } else {
            self.lossy_since = None;
            if percent <= CLEAN {
                self.clean_since.get_or_insert(now);
            } else {
                self.clean_since = None;
            }
        }
    }

    /// The subscriber's own estimate. Less is heeded at once, more after a while without a further less.
    pub fn on_estimate(&mut self, now: Instant, estimate: Bitrate) {
        let estimate = Bitrate::bps(estimate.as_bps() * 95 / 100).max(FLOOR);
        let less = self.told.is_none_or(|told| estimate < told);
        let calm = self.told_less_at.is_none_or(|at| now.saturating_duration_since(at) >= PATIENCE);
        if less {
            self.told_less_at = Some(now);
        }
        if (less || calm) && self.told != Some(estimate) {
            self.told = Some(estimate);
            self.changed = true;
        }
    }

    /// Things have been clean long enough to try a step more. Answering `true` starts the wait anew: the caller
    /// grants what the step costs.
    pub fn poll_raise(&mut self, now: Instant) -> bool {
        let ripe = |since: Instant| now.saturating_duration_since(since) >= self.patience;
        if self.budget.is_none() || !self.clean_since.is_some_and(ripe) {
            return false;
        }
        self.clean_since = Some(now);
        true
    }

    /// Allows so much from now on. `None`: everything.
    pub fn grant(&mut self, now: Instant, budget: Option<Bitrate>) {
        self.budget = budget;
        self.raised_at = Some(now);
        self.blind_until = Some(now + IMPACT);
        self.forget();
    }

    fn brake(&mut self, now: Instant, window: Tally) {
        let arriving = window.arrived * 8 * 1_000 / WINDOW.as_millis() as u64;
        let budget = Bitrate::bps(arriving * 85 / 100).max(FLOOR);
        self.budget = Some(self.budget.map_or(budget, |now| now.min(budget)));
        let failed = |at: Instant| now.saturating_duration_since(at) < FAILS_WITHIN;
        self.patience = match self.raised_at.take().is_some_and(failed) {
            true => (self.patience * 2).min(MOST_PATIENCE),
            false => PATIENCE,
        };
        self.blind_until = Some(now + IMPACT);
        self.changed = true;
        self.forget();
    }

    fn forget(&mut self) {
        self.steps = [Tally::default(); STEPS];
        (self.lossy_since, self.clean_since) = (None, None);
    }

    fn step(&mut self, now: Instant) -> &mut Tally {
        let epoch = *self.epoch.get_or_insert(now);
        let number = (now.saturating_duration_since(epoch).as_millis() / STEP.as_millis()) as u64;
        for gone in 1..=number.saturating_sub(self.newest).min(STEPS as u64) {
            self.steps[((self.newest + gone) % STEPS as u64) as usize] = Tally::default();
        }
        self.newest = self.newest.max(number);
        &mut self.steps[(self.newest % STEPS as u64) as usize]
    }

    fn window(&self) -> Tally {
        self.steps.iter().fold(Tally::default(), |sum, step| Tally {
            packets: sum.packets + step.packets,
            lost: sum.lost + step.lost,
            arrived: sum.arrived + step.arrived,
        })
    }
}

const STEP: Duration = Duration::from_millis(100);
const STEPS: usize = 5;
/// What a verdict looks at: feedback comes every 50 to 250 ms.
const WINDOW: Duration = Duration::from_millis(500);
/// Fewer packets than this tell chance, not loss.
const ENOUGH: u64 = 20;
/// Per cent lost: more is too much if it lasts …
const LOSSY: u64 = 10;
const SUSTAINED: Duration = Duration::from_secs(2);
/// … more than this is too much at once,
const DROWNING: u64 = 30;
const DROWNED: Duration = Duration::from_millis(200);
/// … and this little is what repairs are for.
const CLEAN: u64 = 5;
/// How long what we changed takes to show: a keyframe of the smaller layer, and the queue before it.
const IMPACT: Duration = Duration::from_millis(1_500);
/// Clean time before a step up; doubled each time the step up fails.
const PATIENCE: Duration = Duration::from_secs(10);
const MOST_PATIENCE: Duration = Duration::from_secs(80);
const FAILS_WITHIN: Duration = Duration::from_secs(6);
/// Audio and a thumbnail.
const FLOOR: Bitrate = Bitrate::kbps(64);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    /// Feedback every 100 ms from `from` to `to` about 20 packets of 1000 bytes, `lost` of which are gone.
    fn feed(throttle: &mut Throttle, from: u64, to: u64, lost: u64) -> Option<u64> {
        (from..to).step_by(100).find(|now| {
            throttle.on_feedback(at(*now), 20, lost, (20 - lost) * 1_000);
            throttle.poll_change()
        })
    }

    #[test]
    fn a_tenth_lost_for_two_seconds_is_too_much() {
        let mut throttle = Throttle::default();
        assert_eq!(feed(&mut throttle, 0, 10_000, 2), None, "a tenth is not more than a tenth");
        assert_eq!(feed(&mut throttle, 10_000, 20_000, 4), Some(12_000));
        // 16 of 20 packets of 1000 bytes every 100 ms are 1.28 Mb/s.
        assert_eq!(throttle.budget(), Some(Bitrate::bps(1_088_000)));
    }

    #[test]
    fn half_lost_is_too_much_at_once() {
        let mut throttle = Throttle::default();
        let at = feed(&mut throttle, 0, 5_000, 12);
        assert_eq!(at, Some(200));
        assert!(throttle.budget().is_some());
    }

    #[test]
    fn clean_for_ten_seconds_is_worth_a_try_and_failing_costs_patience() {
        let mut throttle = Throttle::default();
        feed(&mut throttle, 0, 5_000, 12);
        let mut now = 2_000;
        for (patience, expected) in [(10_000, 20_000), (20_000, 40_000), (40_000, 80_000), (80_000, 80_000)] {
            feed(&mut throttle, now, now + patience - 100, 0);
            assert!(!throttle.poll_raise(at(now + patience - 100)));
            feed(&mut throttle, now + patience - 100, now + patience + 200, 1);
            assert!(throttle.poll_raise(at(now + patience + 100)), "{patience}");
            throttle.grant(at(now + patience + 100), Some(Bitrate::kbps(2_000)));
            now += patience + 1_700;
            feed(&mut throttle, now, now + 3_000, 12).expect("it fails");
            assert_eq!(throttle.patience.as_millis(), expected);
            now += 2_500;
        }
    }

    #[test]
    fn an_estimate_is_heeded_down_at_once_and_up_slowly() {
        let mut throttle = Throttle::default();
        throttle.on_estimate(at(0), Bitrate::kbps(1_000));
        assert_eq!(throttle.budget(), Some(Bitrate::kbps(950)));
        throttle.on_estimate(at(1_000), Bitrate::kbps(400));
        throttle.on_estimate(at(2_000), Bitrate::kbps(2_000));
        assert_eq!(throttle.budget(), Some(Bitrate::kbps(380)));
        throttle.on_estimate(at(11_000), Bitrate::kbps(2_000));
        assert_eq!(throttle.budget(), Some(Bitrate::kbps(1_900)));
        throttle.on_estimate(at(12_000), Bitrate::bps(0));
        assert_eq!(throttle.budget(), Some(FLOOR));
    }
}
