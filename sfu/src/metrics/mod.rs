//! The Prometheus side: what the workers count, on a registry the host owns.
//!
//! One shard per worker holds atomics that only that worker writes; one collector reads them all
//! when a scrape comes. No label is a string the caller chose, so no room or user id can appear.

#[cfg(feature = "axum")]
pub mod axum;
mod beside;
mod catalogue;
mod collector;
mod exposition;
mod host;
#[cfg(any(test, feature = "signaling-metrics"))]
mod process;
mod saturation;
mod scrape;
mod shard;
#[cfg(any(test, feature = "signaling-metrics"))]
#[cfg_attr(
    not(feature = "signaling-metrics"),
    allow(dead_code, unused_imports, reason = "tests write METRICS.md, whatever the features")
)]
pub mod signaling;
mod snapshot;
#[cfg(test)]
mod tests;

pub use collector::{Metrics, OPENMETRICS_TEXT};
pub(crate) use host::HostReadings;
pub(crate) use saturation::{SaturationReadings, WorkerSaturation};
pub(crate) use shard::{Shard, WorkerCounters};
pub use snapshot::{MetricFamily, MetricKind, MetricSample, MetricValue, MetricsSnapshot};
