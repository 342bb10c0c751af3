//! libFuzzer's way into `sluicegate_fuzz::rtcp`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate_fuzz::rtcp::run(data));
