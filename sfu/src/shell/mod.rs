//! Threads, sockets and the one clock: the only code that waits.

mod bitrate;
pub mod clock;
mod events;
mod handles;
mod inbox;
mod load;
pub mod probes;
mod sampler;
mod sfu;
mod socket;
mod window;
mod worker;

#[cfg(feature = "webrtc")]
pub use events::Events;
pub use handles::{Peer, Room};
pub use sfu::Sfu;
