//! Stock browsers in the loop. `CONTRIBUTING.md` says what they need and what happens where it is missing.

mod calls;
mod harness;
mod impaired;
mod network;
mod person;
