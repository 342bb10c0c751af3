//! Shared pieces of the examples: encoded media from files or of our own making, and a client to send it with.

pub mod client;
pub mod media;
