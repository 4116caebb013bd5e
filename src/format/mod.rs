//! What the bytes of a repository mean: pure encoders and decoders, no I/O.
#![doc = include_str!("FORMAT.md")]

pub mod config;
pub mod entry;
pub mod key_slot;
pub mod left_out;
pub mod moment;
pub mod pack;
pub mod page;
pub mod parity;
pub mod path;
pub mod segment;
pub mod snapshot;
pub mod wire;

/// Bytes that are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed {what}: {reason}")]
pub struct DecodeError {
    /// The kind of thing that was being read ("pack footer").
    pub what: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

impl DecodeError {
    /// A new error about `what`.
    pub fn new(what: &'static str, reason: impl Into<String>) -> Self {
        Self { what, reason: reason.into() }
    }
}
