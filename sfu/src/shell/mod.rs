//! Threads, sockets and the one clock: the only code that waits.

mod bitrate;
pub mod clock;
mod controller;
mod events;
mod handles;
mod inbox;
mod load;
mod memory;
pub mod probes;
mod readings;
mod report;
mod resume;
mod sampler;
mod sfu;
mod socket;
mod window;
mod worker;

#[cfg(feature = "webrtc")]
pub use events::Events;
pub use handles::{Peer, Room};
pub use memory::MemoryStore;
pub use report::{AdmissionReport, LoadReport, WorkerLoad};
pub use resume::Resume;
pub use sfu::Sfu;
