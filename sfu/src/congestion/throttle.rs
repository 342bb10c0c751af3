//! When a subscriber's network gives way under what we send, what it may be sent instead.

use std::time::{Duration, Instant};

use crate::units::Bitrate;

/// A brake, not an estimator: unlimited until the subscriber loses much, then a budget of what was seen to
/// arrive, and a step more at a time once things have been clean for a while.
///
/// Losing a few per cent at random is what repairs are for. Losing more than a tenth for two seconds, or a third
/// at once, means that the path is too narrow for what we send, and every packet more makes it worse. Where it is a
/// third at once, the least goes out first, since the keyframe of anything larger would drown as well; what was
/// seen to arrive is allowed once that has come through.
#[derive(Debug)]
pub struct Throttle {
    steps: [Tally; STEPS],
    /// The number of the newest step, and what steps are counted from.
    newest: u64,
    epoch: Option<Instant>,
    /// When feedback last came.
    heard_at: Option<Instant>,
    lossy: Option<Lossy>,
    /// Since when a step up is being waited for, and what was told since.
    trial_since: Option<Instant>,
    trial: Tally,
    budget: Option<Bitrate>,
    /// The budget from then on, if all is well until then.
    resume: Option<(Instant, Bitrate)>,
    /// No verdict before this: what we changed has to show first.
    blind_until: Option<Instant>,
    raised_at: Option<Instant>,
    /// How long things must be clean before the next step up.
    patience: Duration,
    change: Option<Change>,
}

/// More is being lost than repairs are for.
#[derive(Clone, Copy, Debug)]
struct Lossy {
    since: Instant,
    /// What was told after that.
    told: Tally,
}

/// Why the budget is to be shared anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// It is another, or there is more or less to share it with.
    Share,
    /// Most of what is sent is lost: it must stop now, for it stands in the way of what is to replace it.
    Drowning,
}

/// What became of the packets that feedback of one step was about.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    packets: u64,
    lost: u64,
    /// Bytes that arrived.
    arrived: u64,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.packets += other.packets;
        self.lost += other.lost;
        self.arrived += other.arrived;
    }

    fn percent_lost(&self) -> u64 {
        self.lost * 100 / self.packets.max(1)
    }
}

impl Default for Throttle {
    fn default() -> Self {
        Throttle {
            steps: [Tally::default(); STEPS],
            newest: 0,
            epoch: None,
            heard_at: None,
            lossy: None,
            trial_since: None,
            trial: Tally::default(),
            budget: None,
            resume: None,
            blind_until: None,
            raised_at: None,
            patience: PATIENCE,
            change: None,
        }
    }
}

impl Throttle {
    /// What may be sent. `None`: everything.
    pub fn budget(&self) -> Option<Bitrate> {
        self.budget
    }

    /// More is lost than repairs are for.
    pub fn is_lossy(&self) -> bool {
        self.lossy.is_some() || self.resume.is_some()
    }

    /// What has changed since the last call about the budget, or what shares it.
    pub fn poll_change(&mut self) -> Option<Change> {
        self.change.take()
    }

    /// What is watched is to be looked over, whatever there is to share.
    pub fn share_anew(&mut self) {
        self.change.get_or_insert(Change::Share);
    }

    /// There is more or less to share the budget with.
    pub fn reconsider(&mut self) {
        if self.budget.is_some() {
            self.change.get_or_insert(Change::Share);
        }
    }

    /// Feedback: of `packets` sent, `lost` did not arrive; `arrived` bytes did. It came back later than the round trip
    /// by `queued`, most of which a queue on the way accounts for.
    pub fn on_feedback(&mut self, now: Instant, packets: u64, lost: u64, arrived: u64, queued: Duration) {
        if self.blind_until.is_some_and(|until| now < until) {
            return;
        }
        let paused = |at: Instant| now.saturating_duration_since(at) > PAUSE;
        if self.heard_at.replace(now).is_some_and(paused) {
            self.forget_window();
        }
        let told = Tally { packets, lost, arrived };
        self.step(now).add(told);
        if self.budget.is_some() {
            self.trial_since.get_or_insert(now);
            self.trial.add(told);
        }
        let window = self.window(STEPS as u64);
        if let Some((_, budget)) = self.resume.take_if(|(at, _)| *at <= now)
            && (window.packets < ENOUGH || window.percent_lost() <= LOSSY)
        {
            self.grant(now, Some(budget));
            self.change = Some(Change::Share);
            return;
        }
        if window.packets < ENOUGH {
            self.lossy = None;
            return;
        }
        if window.percent_lost() <= LOSSY {
            self.lossy = None;
            return;
        }
        let Some(lossy) = &mut self.lossy else {
            self.lossy = Some(Lossy { since: now, told: Tally::default() });
            return;
        };
        lossy.told.add(told);
        let lossy = *lossy;
        let long = now.saturating_duration_since(lossy.since);
        // A burst is over by the time it is told of; a path that is too narrow goes on losing. Where a queue has
        // built up besides, there is no doubt.
        let goes_on = long >= DROWNED && self.window(2).percent_lost() > DROWNING;
        let overflows = queued >= QUEUED && window.percent_lost() > OVERFLOWING && told.lost > 0;
        let drowning = goes_on || (overflows && long >= STEP / 2);
        if long >= SUSTAINED || drowning {
            self.brake(now, lossy, if drowning { Change::Drowning } else { Change::Share });
        }
    }

    /// The subscriber's own estimate, beside what it is sent now. Heeded where it is less: what it says beyond that
    /// is bounded by what it gets, and tells nothing.
    pub fn on_estimate(&mut self, now: Instant, estimate: Bitrate, sent: Bitrate) {
        if estimate < sent && self.blind_until.is_none_or(|until| now >= until) {
            let budget = Bitrate::bps(estimate.as_bps() * 95 / 100).max(FLOOR);
            self.lower(now, budget, Change::Share);
        }
    }

    /// Things have been clean long enough to try a step more. Answering `true` starts the wait anew: the caller
    /// grants what the step costs.
    pub fn poll_raise(&mut self, now: Instant) -> bool {
        let ripe = |since: Instant| now.saturating_duration_since(since) >= self.patience;
        if self.budget.is_none() || !self.trial_since.is_some_and(ripe) {
            return false;
        }
        // Over the whole time, so that an odd burst does not start it anew.
        let clean = self.trial.percent_lost() <= LOSSY;
        (self.trial_since, self.trial) = (Some(now), Tally::default());
        clean
    }

    /// Allows so much from now on. `None`: everything.
    pub fn grant(&mut self, now: Instant, budget: Option<Bitrate>) {
        self.budget = budget;
        self.raised_at = Some(now);
        self.blind_until = Some(now + IMPACT);
        self.forget();
    }

    /// Takes back what is sent to what has arrived since much was lost: before that the path was wider, or its queue
    /// was filling.
    fn brake(&mut self, now: Instant, lossy: Lossy, change: Change) {
        let span = now.saturating_duration_since(lossy.since).max(STEP).as_millis() as u64;
        let arriving = lossy.told.arrived * 8 * 1_000 / span;
        let arriving = Bitrate::bps(arriving * 85 / 100).max(FLOOR);
        let arriving = self.budget.map_or(arriving, |budget| budget.min(arriving));
        match change {
            Change::Share => self.lower(now, arriving, change),
            Change::Drowning => {
                self.lower(now, FLOOR, change);
                self.resume = Some((now + RECOVERY, arriving));
            }
        }
    }

    fn lower(&mut self, now: Instant, budget: Bitrate, change: Change) {
        self.budget = Some(self.budget.map_or(budget, |now| now.min(budget)));
        let failed = |at: Instant| now.saturating_duration_since(at) < FAILS_WITHIN;
        self.patience = match self.raised_at.take().is_some_and(failed) {
            true => (self.patience * 2).min(MOST_PATIENCE),
            false => PATIENCE,
        };
        self.blind_until = Some(now + IMPACT);
        self.resume = None;
        self.change = Some(change);
        self.forget();
    }

    fn forget(&mut self) {
        self.forget_window();
        (self.trial_since, self.trial) = (None, Tally::default());
    }

    fn forget_window(&mut self) {
        self.steps = [Tally::default(); STEPS];
        self.lossy = None;
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

    /// The newest steps together.
    fn window(&self, steps: u64) -> Tally {
        let mut sum = Tally::default();
        let newest = (0..steps).filter_map(|age| self.newest.checked_sub(age));
        newest.for_each(|number| sum.add(self.steps[(number % STEPS as u64) as usize]));
        sum
    }
}

const STEP: Duration = Duration::from_millis(100);
/// What a verdict looks at: feedback comes every 50 to 250 ms.
const STEPS: usize = 5;
/// Fewer packets than this tell chance, not loss.
const ENOUGH: u64 = 20;
/// Per cent lost: more is too much if it lasts …
const LOSSY: u64 = 10;
const SUSTAINED: Duration = Duration::from_secs(2);
/// … and more than this, for so long and still, is too much at once.
const DROWNING: u64 = 30;
const DROWNED: Duration = Duration::from_millis(200);
/// … or this much, told twice, where packets took so much longer than the round trip.
const OVERFLOWING: u64 = 15;
const QUEUED: Duration = Duration::from_millis(100);
/// Feedback that stops for so long says nothing about before.
const PAUSE: Duration = Duration::from_millis(1_500);
/// How long what we changed takes to show: a keyframe of the smaller layer, and the queue before it.
const IMPACT: Duration = Duration::from_millis(1_500);
/// How long the least goes out to who was drowning.
const RECOVERY: Duration = Duration::from_millis(2_000);
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
            throttle.on_feedback(at(*now), 20, lost, (20 - lost) * 1_000, Duration::ZERO);
            throttle.poll_change().is_some()
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
        assert_eq!(feed(&mut throttle, 0, 5_000, 12), Some(200));
        assert_eq!(throttle.budget(), Some(FLOOR), "what is sure to come through");
        assert_eq!(feed(&mut throttle, 300, 5_000, 1), Some(2_200));
        assert_eq!(throttle.budget(), Some(Bitrate::kbps(544)), "8 of 20 packets of 1000 bytes every 100 ms");
        let mut throttle = Throttle::default();
        feed(&mut throttle, 0, 5_000, 12);
        assert_eq!(feed(&mut throttle, 300, 9_000, 4), Some(3_700), "a fifth is lost still");
        assert_eq!(throttle.budget(), Some(FLOOR));
    }

    #[test]
    fn a_queue_that_overflows_is_too_much_when_it_is_told_again() {
        let mut throttle = Throttle::default();
        feed(&mut throttle, 0, 1_000, 0);
        throttle.on_feedback(at(1_000), 20, 0, 20_000, Duration::from_millis(250));
        throttle.on_feedback(at(1_100), 20, 12, 8_000, Duration::from_millis(300));
        throttle.on_feedback(at(1_100), 20, 12, 8_000, Duration::from_millis(300));
        assert_eq!(throttle.budget(), None, "at one time may be chance");
        throttle.on_feedback(at(1_200), 20, 4, 16_000, Duration::from_millis(300));
        assert_eq!(throttle.poll_change(), Some(Change::Drowning));
    }

    #[test]
    fn what_was_lossy_before_a_quiet_time_is_forgotten() {
        let mut throttle = Throttle::default();
        feed(&mut throttle, 0, 600, 3);
        assert!(throttle.is_lossy());
        // A voice that is silent: a few packets a second.
        for now in (600..30_000).step_by(100) {
            throttle.on_feedback(at(now), 2, 0, 200, Duration::ZERO);
        }
        assert!(!throttle.is_lossy());
        assert_eq!(feed(&mut throttle, 30_000, 30_500, 4), None);
    }

    #[test]
    fn a_burst_is_not_a_narrow_path() {
        let mut throttle = Throttle::default();
        feed(&mut throttle, 0, 3_000, 0);
        throttle.on_feedback(at(3_000), 40, 38, 2_000, Duration::ZERO);
        assert_eq!(feed(&mut throttle, 3_100, 10_000, 1), None, "a quarter of a second lost, and no more");
    }

    #[test]
    fn clean_for_ten_seconds_is_worth_a_try_and_failing_costs_patience() {
        let mut throttle = Throttle::default();
        let mut failed = feed(&mut throttle, 0, 5_000, 12).expect("it is too much");
        for (patience, expected) in [(10_000, 20_000), (20_000, 40_000), (40_000, 80_000), (80_000, 80_000)] {
            // Two seconds of the least, and what changes then has to show first.
            let clean = failed + 3_500;
            feed(&mut throttle, failed + 100, clean, 1).expect("what arrives is allowed");
            feed(&mut throttle, clean, clean + patience - 100, 1);
            assert!(!throttle.poll_raise(at(clean + patience - 100)));
            feed(&mut throttle, clean + patience - 100, clean + patience + 200, 1);
            assert!(throttle.poll_raise(at(clean + patience + 100)), "{patience}");
            throttle.grant(at(clean + patience + 100), Some(Bitrate::kbps(2_000)));
            let now = clean + patience + 1_700;
            failed = feed(&mut throttle, now, now + 3_000, 12).expect("it fails");
            assert_eq!(throttle.patience.as_millis(), expected);
        }
    }

    #[test]
    fn what_losses_repairs_are_for_does_not_hold_a_picture_small() {
        let mut throttle = Throttle::default();
        feed(&mut throttle, 0, 5_000, 12);
        feed(&mut throttle, 300, 5_000, 0);
        // Five per cent, in threes: many a window is lossy.
        for n in 51..170_u64 {
            throttle.on_feedback(at(n * 100), 4, u64::from(n % 15 < 3), 4_000, Duration::ZERO);
        }
        assert!(throttle.poll_raise(at(17_000)));
    }

    #[test]
    fn an_estimate_is_heeded_where_it_is_less_than_what_is_sent() {
        let mut throttle = Throttle::default();
        throttle.on_estimate(at(0), Bitrate::kbps(2_000), Bitrate::kbps(1_700));
        assert_eq!(throttle.budget(), None);
        throttle.on_estimate(at(1_000), Bitrate::kbps(1_000), Bitrate::kbps(1_700));
        assert_eq!(throttle.budget(), Some(Bitrate::kbps(950)));
        throttle.on_estimate(at(1_500), Bitrate::kbps(400), Bitrate::kbps(1_600));
        assert_eq!(throttle.budget(), Some(Bitrate::kbps(950)), "the change has not shown yet");
        throttle.on_estimate(at(4_000), Bitrate::bps(0), Bitrate::kbps(500));
        assert_eq!(throttle.budget(), Some(FLOOR));
    }
}
