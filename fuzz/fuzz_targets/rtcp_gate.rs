//! libFuzzer's way into `sluicegate_fuzz::parsers::rtcp_gate`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    sluicegate_fuzz::parsers::rtcp_gate(data);
});
