//! The state of one stream: what was received, what is kept, how it is renumbered, what it may cost.

pub mod arrivals;
pub mod budget;
pub mod codec;
pub mod history;
pub mod keyframe;
pub mod receive;
#[cfg_attr(not(test), expect(dead_code, reason = "resends and temporal layers build on all of it"))]
pub mod rewrite;
