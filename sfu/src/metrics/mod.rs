//! The Prometheus side: what the workers count, on a registry the host owns.
//!
//! One shard per worker holds atomics that only that worker writes; one collector reads them all
//! when a scrape comes. No label is a string the caller chose, so no room or user id can appear.

#[cfg(feature = "axum")]
pub mod axum;
mod catalogue;
mod collector;
#[allow(dead_code, reason = "the shell's workers write these")]
mod shard;
#[cfg(test)]
mod tests;

pub use collector::Metrics;
#[allow(unused_imports, reason = "the shell's workers write these")]
pub(crate) use shard::{Shard, WorkerCounters};
