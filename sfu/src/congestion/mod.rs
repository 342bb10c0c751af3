//! What a subscriber's network can take.

pub mod throttle;
