//! What the fuzz targets do with an input. Each `run` is a plain function that panics when a promise breaks:
//! libFuzzer drives it from `fuzz_targets/`, and `cargo test` from the committed seeds.

pub mod ingress;
pub mod negotiation;
pub mod parsers;
pub mod rtcp;
pub mod script;
