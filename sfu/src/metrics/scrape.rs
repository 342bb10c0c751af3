//! All values of one moment, read from the shards.

use std::sync::Arc;

use super::host::HostReadings;
use super::saturation::{SaturationReadings, WorkerSaturation};
use super::shard::{Shard, WorkerCounters};
use crate::counters::{Admission, AdmissionScope, Cells, Counters, Queue};
use crate::saturation::admission::NodeState;

/// What the catalogue reads from.
pub struct Scrape {
    /// Summed over the workers.
    pub engine: Counters,
    /// Summed over the workers.
    pub worker: WorkerCounters,
    /// Each worker's own.
    pub workers: Vec<WorkerReading>,
    /// The deepest over the workers.
    pub queue_depth: [u64; Queue::ALL.len()],
    /// The largest over the workers.
    pub largest_room: u64,
    /// The lowest over the workers; 0 before one has told it.
    pub lowest_cap: u64,
    /// The largest over the workers.
    pub queue_capacity: u64,
    /// What belongs to no worker.
    pub host: HostReadings,
    /// What the saturation controller has found.
    pub saturation: SaturationReadings,
}

/// One worker's.
pub struct WorkerReading {
    pub own: WorkerCounters,
    /// Live peer connections on it.
    pub handles: u64,
}

impl Scrape {
    pub fn of(shards: &[Arc<Shard>], host: HostReadings, saturation: SaturationReadings) -> Scrape {
        let mut scrape = Scrape {
            engine: Counters::default(),
            worker: WorkerCounters::default(),
            workers: Vec::with_capacity(shards.len()),
            queue_depth: [0; Queue::ALL.len()],
            largest_room: 0,
            lowest_cap: 0,
            queue_capacity: 0,
            host,
            saturation,
        };
        for shard in shards {
            scrape.add(shard);
        }
        scrape
    }

    /// How often something was let in, or not. The engine says who of those that the door let in had room.
    pub fn answers(&self, scope: AdmissionScope, answer: Admission) -> u64 {
        let engine = self.engine.admissions[scope as usize][answer as usize];
        let door = self.saturation.answers[scope as usize][answer as usize];
        let counted_there = scope == AdmissionScope::Join && answer == Admission::Ok;
        engine + if counted_there { 0 } else { door }
    }

    /// What the controller has found of a worker.
    pub fn worker_saturation(&self, worker: usize) -> WorkerSaturation {
        self.saturation.workers.get(worker).copied().unwrap_or_default()
    }

    /// Peers of a node that drains.
    pub fn remaining_handles(&self) -> u64 {
        let draining = self.saturation.state == Some(NodeState::Draining);
        if draining { self.engine.gauges.active_handles } else { 0 }
    }

    fn add(&mut self, shard: &Shard) {
        let (engine, own) = (shard.engine.read(), shard.worker.read());
        let depths = [engine.gauges.queued.iter().sum(), own.control_depth];
        for (deepest, depth) in self.queue_depth.iter_mut().zip(depths) {
            *deepest = depth.max(*deepest);
        }
        self.largest_room = self.largest_room.max(engine.gauges.largest_room);
        self.queue_capacity = self.queue_capacity.max(engine.gauges.queue_capacity);
        let caps = [self.lowest_cap, engine.gauges.lowest_cap].into_iter().filter(|cap| *cap > 0);
        self.lowest_cap = caps.min().unwrap_or(0);
        self.engine.add(&engine);
        self.worker.add(&own);
        self.workers.push(WorkerReading { own, handles: engine.gauges.active_handles });
    }
}
