//! libFuzzer's way into `sluicegate_fuzz::negotiation`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate_fuzz::negotiation::run(data));
