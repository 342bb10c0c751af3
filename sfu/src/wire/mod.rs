//! Bytes ⇄ values. Every parser here is a total function: any input, no panic, and no memory that its input did
//! not pay for.
#![warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

pub mod av1;
mod bits;
pub mod demux;
pub mod descriptor;
pub mod dtls;
pub mod h264;
pub mod h265;
pub mod red;
pub mod rtcp;
pub mod rtp;
pub mod sctp;
pub mod stun;
pub mod vp8;
pub mod vp9;
