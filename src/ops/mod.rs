//! What a user asks for: one module for each.
//!
//! Every operation takes the repository and its options, tells an observer what happens, and
//! returns one summary. Findings that do not stop it are events and are counted in the summary.

mod error;
mod resolve;
pub mod snapshot;

pub use error::{OpError, StreamFailure};
pub use resolve::{SnapshotSpec, find_snapshot};
