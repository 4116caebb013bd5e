//! The integration tests: one binary, one module per subject.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod read_ops;
mod restore_op;
mod snapshot_op;
mod source_scan;
mod storage_contract;
mod target_folder;
mod tidy;
