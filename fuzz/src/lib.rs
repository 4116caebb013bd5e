//! What is fuzzed: for every decoder a function that feeds it arbitrary bytes and checks what the
//! decoder's module promises, and one that restores hostile snapshots. A panic is a finding.

mod bytes;
mod format;
mod parity;
mod restore;
mod sftp;
mod text;
mod watch;

pub use bytes::{block, chunker};
pub use format::{pack_footer, page, segment, snapshot_record};
pub use parity::parity;
pub use restore::restore_plan;
pub use sftp::sftp_answers;
pub use text::{config, key_slot, keys, names, with_hash};
pub use watch::watch_events;

/// A part of the input, cut off at the first of its bytes that is `separator`.
fn split_at_byte(data: &[u8], separator: u8) -> (&[u8], &[u8]) {
    match data.iter().position(|&byte| byte == separator) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &[]),
    }
}
