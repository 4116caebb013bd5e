//! What the kernel tells about changes.

use gabion::watch::event::{Change, decode};

/// The input is what one read of a queue gave.
///
/// Whatever it is, each part of it is told as a change or said to be lost; a name is one that a
/// folder can hold.
pub fn watch_events(data: &[u8]) {
    let mut told = 0;
    decode(data, |change| {
        told += 1;
        if let Change::Of(item) = change {
            assert!(item.name.len() <= 255 && !item.name.contains(&b'/'), "{item:?}");
            assert!(!item.name.contains(&0) && item.handle.len() <= 128, "{item:?}");
        }
    });
    assert!(data.is_empty() || told > 0, "nothing was said of it");
}
