//! Metrics of the host's own signalling, for hosts that want the names that operators know.

pub use crate::metrics::signaling::{
    ActiveGuard, AuthFailure, Endpoint, IceStatus, MessageType, Method, Op, Outcome, Region, SignalingError,
    SignalingMetrics,
};
