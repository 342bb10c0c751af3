//! Bytes ⇄ values. Every parser here is a total function: any input, no panic, no allocation.
#![warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

pub mod demux;
pub mod dtls;
pub mod rtcp;
pub mod rtp;
pub mod stun;
pub mod vp8;
