//! What the kernel tells about changes, as bytes of a fanotify queue: see fanotify(7), "Reading
//! fanotify events", for the layout.

#![expect(clippy::host_endian_bytes, reason = "the kernel of this machine writes them")]

use super::Item;

/// The layout of events that is understood.
const VERSION: u8 = 3;
const METADATA_LEN: usize = 24;
const HEADER_LEN: usize = 4;
/// The handle of what changed.
const ITSELF: u8 = 1;
/// A folder's handle and a name in it.
const FOLDER_AND_NAME: u8 = 2;
/// Events were dropped because the queue was full.
const OVERFLOW: u64 = 0x4000;

/// Longest name of an item, in bytes.
const MAX_NAME: usize = 255;
/// Longest handle of a folder, in bytes (`MAX_HANDLE_SZ`).
const MAX_HANDLE: usize = 128;

/// What one event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<'b> {
    /// Something about this item changed.
    Of(Item<'b>),
    /// Something changed that cannot be told, for this reason.
    Lost(&'static str),
}

/// Decodes what one read of a queue gave, and passes on each change. What cannot be understood is
/// a change that cannot be told, and ends the decoding.
pub fn decode<'b>(mut bytes: &'b [u8], mut tell: impl FnMut(Change<'b>)) {
    while !bytes.is_empty() {
        let Some((event, rest)) = split_event(bytes) else {
            tell(Change::Lost("the kernel told of changes in a form that is not known"));
            return;
        };
        tell(change(event));
        bytes = rest;
    }
}

/// An event's mask and its records.
struct Event<'b> {
    mask: u64,
    records: &'b [u8],
}

fn split_event(bytes: &[u8]) -> Option<(Event<'_>, &[u8])> {
    let len = usize::try_from(u32_at(bytes, 0)?).ok()?;
    let metadata_len = usize::from(u16_at(bytes, 6)?);
    if *bytes.get(4)? != VERSION || metadata_len < METADATA_LEN || metadata_len > len {
        return None;
    }
    let mask = u64::from_ne_bytes(bytes.get(8..16)?.try_into().ok()?);
    let event = Event { mask, records: bytes.get(metadata_len..len)? };
    Some((event, bytes.get(len..)?))
}

fn change(event: Event<'_>) -> Change<'_> {
    if event.mask & OVERFLOW != 0 {
        return Change::Lost("there were more changes at once than the kernel keeps");
    }
    match item(event.records) {
        Some(item) => Change::Of(item),
        None => Change::Lost("the kernel told of a change without saying where"),
    }
}

/// The first record that names a folder and something in it; if there is none, what changed itself.
fn item(mut records: &[u8]) -> Option<Item<'_>> {
    let mut itself = None;
    while !records.is_empty() {
        let len = usize::from(u16_at(records, 2)?);
        let record = records.get(HEADER_LEN..len)?;
        match records[0] {
            FOLDER_AND_NAME => return folder_and_name(record),
            ITSELF => itself = Some(handle(record)?.0),
            _ => {}
        }
        records = records.get(len..)?;
    }
    itself
}

fn folder_and_name(record: &[u8]) -> Option<Item<'_>> {
    let (folder, name) = handle(record)?;
    let name = &name[..name.iter().position(|&byte| byte == 0)?];
    let is_name = !name.is_empty() && name.len() <= MAX_NAME && !name.contains(&b'/');
    is_name.then_some(Item { name, ..folder })
}

/// The file system's id and the handle with its length and type; and what follows.
fn handle(record: &[u8]) -> Option<(Item<'_>, &[u8])> {
    let filesystem = record.get(..8)?.try_into().ok()?;
    let len = usize::try_from(u32_at(record, 8)?).ok().filter(|&len| len <= MAX_HANDLE)?;
    let kind = i32::from_ne_bytes(record.get(12..16)?.try_into().ok()?);
    let handle = record.get(16..16 + len)?;
    Some((Item { filesystem, kind, handle, name: b"" }, &record[16 + len..]))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(mask: u64, records: &[u8]) -> Vec<u8> {
        let len = u32::try_from(METADATA_LEN + records.len()).unwrap();
        let mut bytes = len.to_ne_bytes().to_vec();
        bytes.extend([VERSION, 0]);
        bytes.extend(24u16.to_ne_bytes());
        bytes.extend(mask.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(records);
        bytes
    }

    fn record(kind: u8, name: &[u8]) -> Vec<u8> {
        let mut body = vec![7; 8];
        body.extend(4u32.to_ne_bytes());
        body.extend(9i32.to_ne_bytes());
        body.extend([1, 2, 3, 4]);
        body.extend(name);
        let len = u16::try_from(HEADER_LEN + body.len()).unwrap();
        [&[kind, 0][..], &len.to_ne_bytes(), &body].concat()
    }

    fn decoded(bytes: &[u8]) -> Vec<Change<'_>> {
        let mut changes = Vec::new();
        decode(bytes, |change| changes.push(change));
        changes
    }

    fn item(name: &[u8]) -> Change<'_> {
        Change::Of(Item { filesystem: [7; 8], kind: 9, handle: &[1, 2, 3, 4], name })
    }

    #[test]
    fn each_event_is_told_or_said_to_be_lost() {
        let two = [event(2, &record(2, b"a\0\0\0")), event(2, &record(2, b"\xff b\0"))].concat();
        assert_eq!(decoded(&two), [item(b"a"), item(b"\xff b")]);
        let later = event(2, &[record(1, b""), record(2, b".\0")].concat());
        assert_eq!(decoded(&later), [item(b".")]);
        assert_eq!(decoded(&event(2, &record(1, b""))), [item(b"")]);
        for bad in [
            event(OVERFLOW, &[]),
            event(2, &[]),
            event(2, &record(3, b"a\0")),
            event(2, &record(2, b"no end")),
            event(2, &record(2, b"a/b\0")),
            event(2, &record(2, b"\0")),
        ] {
            assert!(matches!(decoded(&bad)[..], [Change::Lost(_)]), "{bad:?}");
        }
    }

    #[test]
    fn what_is_cut_anywhere_is_lost() {
        let whole = event(2, &record(2, b"name\0"));
        for len in 1..whole.len() {
            assert!(matches!(decoded(&whole[..len])[..], [Change::Lost(_)]), "{len}");
        }
        let mut other = whole;
        other[4] = VERSION + 1;
        assert!(matches!(decoded(&other)[..], [Change::Lost(_)]));
    }
}
