//! libFuzzer's way into `sluicegate_fuzz::parsers::sctp`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    sluicegate_fuzz::parsers::sctp(data);
});
