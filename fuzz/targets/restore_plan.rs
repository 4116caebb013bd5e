//! Fuzzes `gabion_fuzz::restore_plan`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gabion_fuzz::restore_plan(data));
