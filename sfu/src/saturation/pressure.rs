//! What is measured, divided by the point at which something must happen.

use std::time::{Duration, Instant};

use crate::counters::{LossThreshold, labels};

labels! {
    /// What a worker or the node can run short of.
    pub enum Resource {
        /// The worker's CPU time.
        Cpu = "cpu",
        /// The worker's time between two waits. It counts while the thread has no CPU, too.
        Busy = "busy",
        /// The punctuality of the worker's loop, in seconds.
        Lag = "lag",
        /// Room in the worst bounded queue.
        Queue = "queue",
        /// A CPU when the worker could run: somebody else has it.
        RunDelay = "run_delay",
        /// The control group's CPU quota.
        Throttle = "throttle",
        /// The link, or what the host lets us use of it.
        Egress = "egress",
        /// Memory.
        Memory = "memory",
        /// File descriptors.
        Fds = "fds",
        /// The networks towards subscribers: what the median of them loses.
        Loss = "loss",
        /// Sense in what subscribers' feedback says. Feedback about packets long forgotten is how an egress drowns.
        Feedback = "feedback",
    }
}

impl Resource {
    /// The share (for [`Resource::Lag`], the seconds) at which the controller engages.
    const fn engage(self) -> f64 {
        match self {
            Resource::Cpu => 0.85,
            Resource::Busy => 0.90,
            Resource::Lag => 0.020,
            Resource::Queue => 0.5,
            Resource::RunDelay => 0.20,
            Resource::Throttle => 0.05,
            Resource::Egress => 0.85,
            Resource::Memory => 0.85,
            Resource::Fds => 0.80,
            Resource::Loss => 0.03,
            Resource::Feedback => 0.10,
        }
    }
}

/// Each resource's pressure: 1.0 is where the controller engages, 2.0 the most that counts.
///
/// Lag knows no bound: 125 ms would be 6.25 and would spoil the slow mean for half a minute after it is over.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct Pressures([f64; Resource::ALL.len()]);

const MOST: f64 = 2.0;

impl Pressures {
    /// What was measured of a resource. What is no number is no pressure: a machine that does not tell must not
    /// stop the node.
    pub fn set(&mut self, resource: Resource, measured: f64) {
        let pressure = measured / resource.engage();
        self.0[resource as usize] = if pressure.is_nan() { 0.0 } else { pressure.clamp(0.0, MOST) };
    }

    /// The pressure on a resource.
    pub fn get(&self, resource: Resource) -> f64 {
        self.0[resource as usize]
    }

    /// The largest.
    pub fn max(&self) -> f64 {
        self.0.into_iter().fold(0.0, f64::max)
    }

    /// What is shortest.
    pub fn strongest(&self) -> Resource {
        let stronger = |a: &Resource, b: &Resource| self.get(*a).total_cmp(&self.get(*b));
        Resource::ALL.into_iter().max_by(stronger).unwrap_or(Resource::Cpu)
    }

    /// Of each resource the larger pressure of both.
    pub fn or(&self, other: &Pressures) -> Pressures {
        let mut larger = *self;
        for (pressure, other) in larger.0.iter_mut().zip(other.0) {
            *pressure = pressure.max(other);
        }
        larger
    }
}

/// What the median subscriber loses, from how many lose more than each threshold. One who suffers alone is never the
/// median.
pub fn median_loss(subscribers: u64, lossy: &[u64; LossThreshold::ALL.len()]) -> f64 {
    let most = |threshold: &LossThreshold| {
        let lossy = lossy[*threshold as usize];
        lossy > 1 && lossy.saturating_mul(2) > subscribers
    };
    LossThreshold::ALL.into_iter().rev().find(most).map_or(0.0, LossThreshold::ratio)
}

/// A pressure over time: a fast mean to engage by, and a slow one to admit and release by.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct Load {
    fast: f64,
    slow: f64,
    sampled_at: Option<Instant>,
}

impl Load {
    /// The pressure since the last sample. The first one only starts the clock.
    pub fn on_sample(&mut self, now: Instant, pressure: f64) {
        let before = self.sampled_at.replace(now).unwrap_or(now);
        let passed = now.saturating_duration_since(before);
        self.fast += (pressure - self.fast) * weight(passed, FAST);
        self.slow += (pressure - self.slow) * weight(passed, SLOW);
    }

    /// Over the last 0.7 s.
    pub fn fast(&self) -> f64 {
        self.fast
    }

    /// Over the last 5 s.
    pub fn slow(&self) -> f64 {
        self.slow
    }
}

/// Long enough to overlook one late timer, short enough to engage within a second.
const FAST: Duration = Duration::from_millis(700);
/// What an encoder needs to obey, twice.
const SLOW: Duration = Duration::from_secs(5);

/// What the time passed weighs in an exponential mean of this time constant.
fn weight(passed: Duration, constant: Duration) -> f64 {
    1.0 - (-passed.as_secs_f64() / constant.as_secs_f64()).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    #[test]
    fn one_is_where_something_must_happen_and_two_is_the_most() {
        let mut pressures = Pressures::default();
        for resource in Resource::ALL {
            pressures.set(resource, resource.engage());
            assert_eq!(pressures.get(resource), 1.0, "{resource:?}");
        }
        pressures.set(Resource::Lag, 0.125);
        assert_eq!(pressures.max(), 2.0);
        pressures.set(Resource::Lag, 0.005);
        assert_eq!(pressures.get(Resource::Lag), 0.25);
    }

    #[test]
    fn what_is_no_number_is_no_pressure() {
        let mut pressures = Pressures::default();
        for (measured, pressure) in
            [(f64::NAN, 0.0), (f64::INFINITY, 2.0), (f64::NEG_INFINITY, 0.0), (-1.0, 0.0)]
        {
            pressures.set(Resource::Egress, measured);
            assert_eq!(pressures.max(), pressure, "{measured}");
        }
    }

    #[test]
    fn t13_one_who_suffers_is_not_the_median() {
        assert_eq!(median_loss(1, &[1; 3]), 0.0, "alone");
        assert_eq!(median_loss(20, &[1; 3]), 0.0);
        assert_eq!(median_loss(20, &[10; 3]), 0.0, "half is not most");
        assert_eq!(median_loss(20, &[20, 11, 10]), 0.03);
        assert_eq!(median_loss(20, &[20, 20, 20]), 0.05);
        assert_eq!(median_loss(0, &[0; 3]), 0.0);
        let mut pressures = Pressures::default();
        pressures.set(Resource::Loss, median_loss(20, &[20, 11, 10]));
        assert_eq!(pressures.max(), 1.0);
    }

    #[test]
    fn of_two_the_larger_counts() {
        let (mut worker, mut node) = (Pressures::default(), Pressures::default());
        worker.set(Resource::Cpu, 0.425);
        node.set(Resource::Memory, 0.85);
        let both = worker.or(&node);
        assert_eq!(both.strongest(), Resource::Memory);
        assert_eq!((both.get(Resource::Cpu), both.get(Resource::Memory), both.max()), (0.5, 1.0, 1.0));
    }

    #[test]
    fn means_take_as_long_as_they_say() {
        let mut load = Load::default();
        (0..=7).for_each(|tenth| load.on_sample(at(tenth * 100), 1.0));
        assert!((load.fast() - 0.632).abs() < 0.001, "after 0.7 s: {}", load.fast());
        (8..=50).for_each(|tenth| load.on_sample(at(tenth * 100), 1.0));
        assert!((load.slow() - 0.632).abs() < 0.001, "after 5 s: {}", load.slow());
    }

    #[test]
    fn a_sample_that_comes_late_weighs_for_all_the_time_it_is_about() {
        let (mut often, mut seldom) = (Load::default(), Load::default());
        (0..=20).for_each(|tenth| often.on_sample(at(tenth * 100), 0.8));
        seldom.on_sample(at(0), 0.8);
        seldom.on_sample(at(2_000), 0.8);
        assert!((often.fast() - seldom.fast()).abs() < 1e-9);
        assert!((often.slow() - seldom.slow()).abs() < 1e-9);
    }
}
