//! Fuzzes `gabion_fuzz::key_slot`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gabion_fuzz::key_slot(data));
