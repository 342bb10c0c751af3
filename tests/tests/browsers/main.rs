//! Stock browsers in the loop. `CONTRIBUTING.md` says what they need and what happens where it is missing.

mod bots;
mod calls;
mod caps;
mod chat;
mod codecs;
mod harness;
mod impaired;
mod narrow;
mod network;
mod person;
mod pulse;
mod simulcast;
