//! Fuzzes `gabion_fuzz::segment`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gabion_fuzz::segment(data));
