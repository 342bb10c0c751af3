//! How loaded the node is, for those who place rooms on nodes.

use serde::{Serialize, Serializer};

use crate::error::Refused;
use crate::saturation::admission::NodeState;
use crate::saturation::level::SaturationLevel;

/// What would be admitted now: [`Sfu::admission`](crate::Sfu::admission).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AdmissionReport {
    /// The node's life.
    pub state: NodeState,
    /// How much it gives up.
    pub level: SaturationLevel,
    /// Whether it takes another room.
    pub rooms: Result<(), Refused>,
    /// Whether it takes another peer, on its emptiest worker.
    pub joins: Result<(), Refused>,
}

/// How loaded the node is: [`Sfu::load`](crate::Sfu::load). It serialises, for a balancer to read.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LoadReport {
    /// The node's life.
    #[serde(serialize_with = "state")]
    pub state: NodeState,
    /// How much it gives up, from 0 to 5.
    #[serde(serialize_with = "level")]
    pub saturation_level: SaturationLevel,
    /// The load of the hottest worker: 1.0 is where media begins to be given up, 0.7 where to have another node ready.
    pub load_max_ratio: f64,
    /// What is promised to those who came in the last 20 s and does not show in the load yet: the most of any worker.
    pub reserved_load_ratio: f64,
    /// Live peer connections.
    pub active_handles: u64,
    /// Rooms.
    pub rooms: u64,
    /// Whether another room would be taken.
    pub accepts_rooms: bool,
    /// Whether another peer would be taken.
    pub accepts_joins: bool,
    /// Each worker.
    pub workers: Vec<WorkerLoad>,
}

/// One worker of a [`LoadReport`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct WorkerLoad {
    /// Its load.
    pub load_ratio: f64,
    /// What is promised on it.
    pub reserved_load_ratio: f64,
    /// How much it gives up.
    #[serde(serialize_with = "level")]
    pub saturation_level: SaturationLevel,
    /// Peers on it.
    pub active_handles: u64,
}

fn state<S: Serializer>(state: &NodeState, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(state.as_str())
}

fn level<S: Serializer>(level: &SaturationLevel, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(level.as_number())
}
