//! Writing: claims, blocks and packs.
//!
//! Workers chunk and hash on their own threads; [`Worker::store`] claims a chunk (the one place
//! that decides "new here"), gathers what is new into a block, and compresses and seals whole
//! blocks into the open pack. Full packs are made durable by a thread of their own, so that nobody
//! waits for the disk.

mod claims;
mod packer;
mod worker;

pub use packer::{PackClass, WriteTotals};
pub use worker::{Worker, Writer};
