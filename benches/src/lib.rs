//! Load on an SFU: light clients that carry checkable media, many to a thread.
//!
//! The clients speak WHIP and WHEP over plain HTTP and do real ICE, DTLS and SRTP, so they load any server
//! that does. Every packet says who sent it, as which, and when, under a checksum; what was lost, repeated,
//! reordered or altered on the way is therefore known exactly.

pub mod client;
pub mod clock;
pub mod histogram;
pub mod http;
pub mod ice;
pub mod memory;
pub mod payload;
pub mod peek;
pub mod probes;
pub mod report;
pub mod sdp;
pub mod secure;
pub mod stage;
pub mod swarm;

pub use client::{Join, LoadClient, LoadError};
pub use swarm::Swarm;
