//! Fuzzes `gabion_fuzz::watch_events`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gabion_fuzz::watch_events(data));
