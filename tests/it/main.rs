//! The integration tests: one binary, one module per subject.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bit_flips;
mod cache;
mod damage;
mod repository;
mod small;
mod snapshot_op;
mod source_scan;
mod specimen;
mod storage_contract;
mod target_folder;
