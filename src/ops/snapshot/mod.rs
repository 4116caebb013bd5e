//! Taking a snapshot.

mod options;

pub use options::{SnapshotOptions, SnapshotSummary, StreamInput, StreamSource};
