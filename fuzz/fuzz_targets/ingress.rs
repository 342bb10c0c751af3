//! libFuzzer's way into `sluicegate_fuzz::ingress`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate_fuzz::ingress::run(data));
