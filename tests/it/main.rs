//! The integration tests: one binary, one module per subject.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bit_flips;
mod cache;
mod check_beside;
mod cli_aiida;
mod cli_bad_places;
mod cli_basics;
mod cli_compare;
mod cli_crash;
mod cli_forget;
mod cli_increments;
mod cli_jobs;
mod cli_keys;
mod cli_prune;
mod cli_restore;
mod cli_setup;
mod cli_snapshot;
mod damage;
mod every_file;
mod forget_op;
mod format_golden;
mod old_repositories;
mod parity;
mod read_ops;
mod repository;
mod restore_op;
mod small;
mod snapshot_op;
mod source_scan;
mod specimen;
mod storage_contract;
mod support;
mod support_aiida;
mod support_databases;
mod target_folder;
mod tidy;
