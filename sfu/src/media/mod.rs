//! The state of one stream: what was received, what is kept, how it is renumbered, what it may cost.

pub mod arrivals;
pub mod budget;
pub mod codec;
pub mod history;
pub mod keyframe;
pub mod level;
pub mod loss;
pub mod nack;
pub mod picture;
pub mod police;
pub mod receive;
pub mod resend;
pub mod rewrite;
