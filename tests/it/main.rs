//! The integration tests: one binary, one module per subject.

mod storage_contract;
mod source_scan;
