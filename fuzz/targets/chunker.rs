//! Fuzzes `gabion_fuzz::chunker`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gabion_fuzz::chunker(data));
