//! Fuzzes `gabion_fuzz::names`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gabion_fuzz::names(data));
