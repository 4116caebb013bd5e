//! Fuzzes `gabion_fuzz::config`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gabion_fuzz::config(data));
