//! Coming back: what a client shows for it, and what is kept of it meanwhile.
//!
//! A [`token`] is random bits, given to the client. The host's store holds a [`record`] under a hash of it: who the peer
//! was, in which room, with which caps. Nothing here knows a clock or a socket.

pub mod record;
pub mod store;
pub mod token;

pub use record::{Carried, Origin, Record};
pub use store::{SessionKey, SessionStore, StoreError, StoreFuture};
pub use token::{NoToken, ResumeToken};
