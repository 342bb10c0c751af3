//! Threads, sockets and the one clock: the only code that waits.

mod bitrate;
pub mod clock;
mod controller;
mod events;
mod handles;
mod load;
pub mod probes;
mod readings;
mod sampler;
mod sfu;
mod socket;
mod window;
mod worker;

#[cfg(feature = "webrtc")]
pub use events::Events;
pub use handles::{Peer, Room};
pub use load::{AdmissionReport, LoadReport, WorkerLoad};
pub use sfu::Sfu;
