//! gabion: a content-addressed, deduplicating, encrypted archiver for databases and very large
//! file trees.
#![doc = include_str!("../ARCHITECTURE.md")]

pub mod crypto;
pub mod event;
pub mod format;
pub mod id;
pub mod source;
pub mod storage;
