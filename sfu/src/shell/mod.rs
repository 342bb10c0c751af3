//! Threads, sockets and the one clock: the only code that waits.

pub mod clock;
mod events;
mod handles;
mod probes;
mod sfu;
mod socket;
mod worker;

#[cfg(feature = "webrtc")]
pub use events::Events;
pub use handles::{Peer, Room};
pub use sfu::Sfu;
