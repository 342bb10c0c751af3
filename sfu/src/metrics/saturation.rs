//! What the saturation controller has found, as it last said.

use crate::counters::{Admission, AdmissionScope, JoinOutcome, Mitigation, ResumeOutcome, Step, Turn};
use crate::saturation::admission::NodeState;
use crate::saturation::level::SaturationLevel;
use crate::saturation::pressure::Resource;

/// Of the node, and of each worker. Times are in nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct SaturationReadings {
    /// Each resource's pressure over the last 5 s: the highest of any worker.
    pub pressures: [f64; Resource::ALL.len()],
    /// The highest slow mean of any worker.
    pub load: f64,
    /// The most that is reserved on a worker.
    pub reserved: f64,
    pub level: SaturationLevel,
    pub workers: Vec<WorkerSaturation>,
    /// How long the node was at each level.
    pub at_level: [u64; SaturationLevel::ALL.len()],
    /// Changes of the node's level.
    pub transitions: [u64; Step::ALL.len()],
    /// What was begun and ended, by worker and step.
    pub mitigations: [[u64; Turn::ALL.len()]; Mitigation::ALL.len()],
    pub noisy_rooms: u64,
    /// Times the controller began anew.
    pub restarts: u64,
    /// `None` before it has begun.
    pub state: Option<NodeState>,
    /// When the node is to be left, in seconds since the epoch; 0 while it need not be.
    pub drain_deadline: f64,
    /// What the door has answered.
    pub answers: [[u64; Admission::ALL.len()]; AdmissionScope::ALL.len()],
    /// Clients who wanted to come back.
    pub resumes: [u64; ResumeOutcome::ALL.len()],
}

/// One worker's.
#[derive(Clone, Copy, Debug, Default)]
pub struct WorkerSaturation {
    /// The slow mean of its pressures.
    pub load: f64,
    pub level: SaturationLevel,
}

impl SaturationReadings {
    /// Joins that the door has refused, by how they count.
    pub fn refused_joins(&self, outcome: JoinOutcome) -> u64 {
        let joins = &self.answers[AdmissionScope::Join as usize];
        let refused = Admission::ALL.into_iter().filter(|answer| *answer != Admission::Ok);
        refused
            .filter(|answer| JoinOutcome::of_refusal(*answer) == outcome)
            .map(|answer| joins[answer as usize])
            .sum()
    }
}
