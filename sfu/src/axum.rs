//! Ready routes for axum hosts.

pub use crate::metrics::axum::{OPENMETRICS_TEXT, metrics_router};
