//! Ready routes for axum hosts.

pub use crate::metrics::OPENMETRICS_TEXT;
pub use crate::metrics::axum::{metrics_router, registry_router};
