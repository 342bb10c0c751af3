//! What a subscriber's network can take, and how a rate is shared.

pub mod fair;
pub mod throttle;
