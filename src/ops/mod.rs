//! What a user asks for: one module for each.
//!
//! Every operation takes the repository and its options, tells an observer what happens, and
//! returns one summary. Findings that do not stop it are events and are counted in the summary.

pub mod amend;
pub mod cat;
pub mod cat_into;
pub mod check;
pub mod diff;
mod error;
pub mod find;
pub mod forget;
mod gather;
pub mod list;
mod pool;
pub mod program;
pub mod prune;
pub mod read_content;
pub mod repair;
mod resolve;
pub mod restore;
pub mod restrict_key;
pub mod retention;
pub mod scrub;
mod segments;
pub mod snapshot;
pub mod stats;
mod store_again;
#[cfg(test)]
mod test_support;

pub use error::{OpError, StreamFailure};
pub use resolve::{SnapshotSpec, current, find_snapshot, replaced};
