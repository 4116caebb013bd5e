//! Fuzzes `gabion_fuzz::block`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gabion_fuzz::block(data));
