//! Fuzzes `gabion_fuzz::page`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gabion_fuzz::page(data));
