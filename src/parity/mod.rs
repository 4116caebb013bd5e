//! Parity: from the bytes of a pack to its parity object, and back from what is left of both to
//! what is lost. Nothing here knows about keys; what the bytes mean is in `FORMAT.md`, "Parity
//! objects".
//!
//! Memory is bounded by the parity of one pack and a few MiB, however long the pack: shards are
//! read one after the other, and the code works on each position of all shards by itself, hence on
//! columns of them.

mod code;
mod encode;
mod rebuild;

pub use encode::{Parity, encode};
pub use rebuild::{Lost, RebuildError, rebuild, recover};
