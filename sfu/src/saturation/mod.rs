//! How near to its limits the node is, what it gives up for that, and whom it lets in.
//!
//! Told the time and what was measured; knows no peer, no packet and no thread. What it says is a state to hold
//! ([`measures::Measures`]) and the answer to who asks to come in ([`admission::Door`]).

pub mod admission;
pub mod costs;
#[allow(dead_code, reason = "whose room gives up how much is for the engine, which holds no measures yet")]
pub mod fairness;
pub mod ladder;
pub mod level;
#[allow(dead_code, reason = "the engine holds no measures yet")]
pub mod measures;
pub mod node;
#[cfg(test)]
mod plant;
pub mod pressure;
pub mod relief;
pub mod reservations;
