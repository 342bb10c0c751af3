//! Encoded media in memory: from files, or of our own making.

pub mod clip;
pub mod ivf;
pub mod opus;
mod stream;
pub mod vp8;

pub use stream::{Codec, Stream, StreamError, Unit};
