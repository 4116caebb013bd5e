//! gabion: a content-addressed, deduplicating, encrypted archiver for databases and very large
//! file trees.
#![doc = include_str!("../ARCHITECTURE.md")]

pub mod chunk;
pub mod codec;
pub mod crypto;
pub mod event;
pub mod format;
pub mod id;
pub mod job;
pub mod ops;
pub mod parity;
pub mod repo;
pub mod source;
pub mod storage;
pub mod target;
pub mod threads;
pub mod tree;
#[cfg(target_os = "linux")]
pub mod watch;
