//! The integration tests: one binary, one module per subject.

mod bit_flips;
mod cache;
mod damage;
mod repository;
mod small;
mod specimen;
mod storage_contract;
