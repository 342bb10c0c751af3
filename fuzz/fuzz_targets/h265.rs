//! libFuzzer's way into `sluicegate_fuzz::parsers::h265`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    sluicegate_fuzz::parsers::h265(data);
});
