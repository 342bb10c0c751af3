//! The node's workers, their ladders and what the operator says about them.

use std::time::{Duration, Instant};

use super::ladder::{Ladder, Reading, Step};
use super::level::SaturationLevel;
use super::measures::Measures;
use super::pressure::{Load, Pressures, Resource};
use super::relief::Flow;

/// Every worker's pressures, load and ladder.
#[derive(Debug)]
pub struct Node {
    workers: Vec<Worker>,
    /// What every worker is short of.
    pressures: Pressures,
    floor: SaturationLevel,
    frozen: bool,
    decided_at: Option<Instant>,
}

#[derive(Debug, Default)]
struct Worker {
    pressures: Pressures,
    load: Load,
    own: Load,
    lag: Duration,
    flow: Flow,
    ladder: Ladder,
}

/// One worker, a tenth of a second long.
#[derive(Clone, Copy, Default, Debug)]
pub struct Sample {
    /// What it uses, by resource.
    pub pressures: Pressures,
    /// How late its loop is.
    pub lag: Duration,
    /// What flows through it.
    pub flow: Flow,
}

/// What the ladders hold: what must not be lost when the rest is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Held {
    /// What it gives up, whether it takes rooms, and its means, which would else begin at nothing.
    workers: Vec<(Measures, bool, Load)>,
    floor: SaturationLevel,
    frozen: bool,
}

impl Node {
    /// So many workers, with nothing to do.
    pub fn new(workers: usize) -> Node {
        Node {
            workers: (0..workers).map(|_| Worker::default()).collect(),
            pressures: Pressures::default(),
            floor: SaturationLevel::Normal,
            frozen: false,
            decided_at: None,
        }
    }

    /// One that goes on from what another held.
    pub fn resume(now: Instant, held: &Held) -> Node {
        let worker = |(measures, guard, load): &(Measures, bool, Load)| Worker {
            ladder: Ladder::resume(now, *measures, *guard),
            load: *load,
            ..Worker::default()
        };
        Node {
            workers: held.workers.iter().map(worker).collect(),
            floor: held.floor,
            frozen: held.frozen,
            ..Node::new(0)
        }
    }

    /// What the ladders hold now.
    pub fn held(&self) -> Held {
        let held = |worker: &Worker| {
            (worker.ladder.measures(), worker.ladder.level() >= SaturationLevel::Guard, worker.load)
        };
        Held { workers: self.workers.iter().map(held).collect(), floor: self.floor, frozen: self.frozen }
    }

    /// What was measured since the last sample, of each worker and of the node.
    pub fn on_sample(&mut self, now: Instant, samples: &[Sample], node: Pressures) {
        self.pressures = node;
        for (worker, sample) in self.workers.iter_mut().zip(samples) {
            worker.pressures = sample.pressures;
            worker.lag = sample.lag;
            worker.flow = sample.flow;
            worker.load.on_sample(now, sample.pressures.or(&node).max());
            worker.own.on_sample(now, sample.pressures.get(Resource::Cpu));
        }
    }

    /// Decides, if it is time to: each half second. `reserved`: what admission has promised on each worker. Returns which
    /// workers changed, and how.
    pub fn poll_decision(&mut self, now: Instant, reserved: impl Fn(usize) -> f64) -> Vec<(usize, Step)> {
        if self.frozen || self.decided_at.is_some_and(|at| now < at + DECISION) {
            return Vec::new();
        }
        self.decided_at = Some(now);
        let decide = |(at, worker): (usize, &mut Worker)| {
            let measures = worker.ladder.measures();
            let reading = Reading {
                fast: worker.load.fast(),
                slow: worker.load.slow(),
                reserved: reserved(at),
                lag: worker.lag,
                undo: worker.flow.undo(worker.load.slow(), &measures),
                most_forwarded: worker.flow.most_forwarded,
            };
            worker.ladder.decide(now, &reading).map(|step| (at, step))
        };
        self.workers.iter_mut().enumerate().filter_map(decide).collect()
    }

    /// The least that is given up, whatever is measured.
    pub fn set_floor(&mut self, floor: SaturationLevel) {
        self.floor = floor;
    }

    /// Frozen ladders stay where they are.
    pub fn set_frozen(&mut self, frozen: bool) {
        self.frozen = frozen;
    }

    /// What a worker is to hold.
    #[allow(dead_code, reason = "the engine holds no measures yet")]
    pub fn measures(&self, worker: usize) -> Measures {
        let measures =
            |worker: &Worker| worker.ladder.measures().at_least(self.floor, worker.flow.most_forwarded);
        self.workers.get(worker).map_or(Measures::NONE, measures)
    }

    /// A worker's level.
    pub fn worker_level(&self, worker: usize) -> SaturationLevel {
        let level = self.workers.get(worker).map_or(SaturationLevel::Normal, |worker| worker.ladder.level());
        level.max(self.floor)
    }

    /// The highest of the workers'.
    pub fn level(&self) -> SaturationLevel {
        (0..self.workers.len()).map(|worker| self.worker_level(worker)).max().unwrap_or(self.floor)
    }

    /// A worker's mean pressure.
    pub fn load(&self, worker: usize) -> Load {
        self.workers.get(worker).map_or_else(Load::default, |worker| worker.load)
    }

    /// The largest pressure of each resource: the node's own, and the workers'.
    pub fn pressures(&self) -> Pressures {
        self.workers.iter().fold(self.pressures, |largest, worker| largest.or(&worker.pressures))
    }

    /// The CPU that a worker uses, as pressure over the last 0.7 s: what its participants cost, whoever else makes it
    /// hot.
    pub fn own_load(&self, worker: usize) -> f64 {
        self.workers.get(worker).map_or(0.0, |worker| worker.own.fast())
    }
}

/// Half a second: a step up within a second needs two.
const DECISION: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    fn sample(resource: Resource, measured: f64) -> Sample {
        let mut sample = Sample::default();
        sample.pressures.set(resource, measured);
        sample
    }

    /// Ten samples and two decisions a second.
    fn run(node: &mut Node, from: u64, seconds: u64, samples: &[Sample], pressures: Pressures) {
        for tenth in 0..seconds * 10 {
            let now = at(from * 1_000 + tenth * 100);
            node.on_sample(now, samples, pressures);
            node.poll_decision(now, |_| 0.0);
        }
    }

    #[test]
    fn a_hot_worker_is_alone_with_it() {
        let mut node = Node::new(2);
        let samples = [sample(Resource::Cpu, 0.99), sample(Resource::Cpu, 0.2)];
        run(&mut node, 0, 10, &samples, Pressures::default());
        assert!(node.worker_level(0) >= SaturationLevel::Cap);
        assert_eq!((node.worker_level(1), node.level()), (SaturationLevel::Normal, node.worker_level(0)));
        assert_eq!(node.measures(1), Measures::NONE);
    }

    #[test]
    fn what_the_node_is_short_of_every_worker_gives_up_for() {
        let mut node = Node::new(2);
        run(&mut node, 0, 10, &[Sample::default(); 2], sample(Resource::Memory, 0.9).pressures);
        assert!(node.worker_level(0) >= SaturationLevel::Cap);
        assert_eq!(node.worker_level(1), node.worker_level(0));
        assert!(node.pressures().get(Resource::Memory) > 1.0);
    }

    #[test]
    fn a_floor_holds_and_is_taken_back() {
        let mut node = Node::new(1);
        node.set_floor(SaturationLevel::Temporal);
        assert_eq!(node.level(), SaturationLevel::Temporal);
        assert!(node.measures(0).drop_temporal);
        node.set_floor(SaturationLevel::Normal);
        assert_eq!((node.level(), node.measures(0)), (SaturationLevel::Normal, Measures::NONE));
    }

    #[test]
    fn a_frozen_ladder_stays_where_it_is() {
        let (mut node, hot) = (Node::new(1), [sample(Resource::Cpu, 0.99)]);
        run(&mut node, 0, 5, &hot, Pressures::default());
        let held = node.held();
        node.set_frozen(true);
        run(&mut node, 5, 300, &[Sample::default()], Pressures::default());
        assert_eq!(node.measures(0), Node::resume(at(0), &held).measures(0));
        node.set_frozen(false);
        run(&mut node, 305, 120, &[Sample::default()], Pressures::default());
        assert_eq!(node.level(), SaturationLevel::Normal);
    }

    #[test]
    fn who_takes_over_goes_on_from_what_was_held() {
        let (mut node, hot) = (Node::new(1), [sample(Resource::Cpu, 0.99)]);
        run(&mut node, 0, 20, &hot, Pressures::default());
        node.set_floor(SaturationLevel::Cap);
        let mut next = Node::resume(at(20_000), &node.held());
        assert_eq!((next.level(), next.measures(0)), (node.level(), node.measures(0)));
        assert_eq!(next.held(), node.held());
        run(&mut next, 20, 5, &hot, Pressures::default());
        assert!(next.level() >= node.level());
    }
}
