//! An embeddable SFU.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod ids;
pub mod units;
mod drop;
mod seq;

pub use drop::{DropReason, FilterReason};
pub use ids::{MediaKind, PeerId};
pub use units::Bitrate;
