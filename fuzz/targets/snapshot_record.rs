//! Fuzzes `gabion_fuzz::snapshot_record`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gabion_fuzz::snapshot_record(data));
