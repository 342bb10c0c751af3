//! Ready routes for axum hosts.

pub use crate::metrics::OPENMETRICS_TEXT;
#[cfg(feature = "signaling-metrics")]
#[cfg_attr(docsrs, doc(cfg(feature = "signaling-metrics")))]
pub use crate::metrics::axum::measured;
pub use crate::metrics::axum::{metrics_router, registry_router};
