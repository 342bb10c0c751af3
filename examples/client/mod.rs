//! A client without a browser: a `webrtc` peer connection that plays streams or measures what it receives.

pub mod connection;
pub mod meter;
pub mod player;
mod requests;
pub mod whip;
