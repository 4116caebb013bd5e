//! Decoding of leaf pages: every rule is checked here, so that a [`Leaf`] that exists is valid.

use std::sync::Arc;

use super::columns::{Paths, column};
use super::leaf::{
    CONTENT_EMPTY, CONTENT_INLINE, CONTENT_LIST, CONTENT_PAGED, EntryStat, Leaf, Rest, has_content,
    is_device,
};
use super::{MAX_HEIGHT, MAX_ITEMS, read_head};
use crate::format::DecodeError;
use crate::format::entry::{Content, ContentItem, EntryKind, Owner, Timestamp, Xattr};
use crate::format::wire::Reader;
use crate::id::ChunkId;

/// Longest content that may sit in an entry.
pub(crate) const MAX_INLINE: usize = 4096;
/// Most extended attributes of an entry, and longest name and value. Linux allows 64 KiB a value.
const MAX_XATTRS: usize = 4096;
const MAX_XATTR_LEN: usize = 1 << 16;
/// Longest target of a symbolic link.
const MAX_TARGET_LEN: usize = 1 << 16;
const MAX_NAME_LEN: usize = 1 << 12;

impl Leaf {
    /// Decodes a leaf page.
    ///
    /// # Errors
    /// When `bytes` are not exactly one valid leaf page.
    pub fn decode(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("leaf page", &bytes);
        if read_head(&mut reader)? != 0 {
            return Err(reader.error("an upper page where a leaf was expected"));
        }
        let count = reader.count(MAX_ITEMS)?;
        let paths = Paths::decode(&mut reader, count)?;
        let kinds = read_kinds(&mut reader, count)?;
        let owners = read_owners(&mut reader)?;
        let xattrs = read_xattrs(&mut reader)?;
        let rest = read_rest(&mut reader, count, owners.len(), xattrs.len())?;
        let stats = read_stats(&mut reader, &kinds)?;
        let targets = read_targets(&mut reader, &kinds)?;
        let devices = read_devices(&mut reader, &kinds)?;
        let contents = read_contents(&mut reader, &stats)?;
        reader.finish()?;
        Ok(Self { paths, stats, rest, owners, xattrs, targets, devices, contents })
    }
}

/// Reads `count` content items.
pub(super) fn read_items(
    lens: &mut Reader<'_>,
    ids: &mut Reader<'_>,
    count: usize,
) -> Result<Vec<ContentItem>, DecodeError> {
    let mut items = Vec::with_capacity(count.min(lens.remaining()));
    for _ in 0..count {
        let value = lens.varint()?;
        let len = value >> 1;
        if len == 0 {
            return Err(lens.error("an empty content item"));
        }
        items.push(if value & 1 == 1 {
            ContentItem::Hole { len }
        } else {
            let len = u32::try_from(len).map_err(|_| lens.error("a chunk too long"))?;
            ContentItem::Chunk { id: ChunkId(ids.array()?), len }
        });
    }
    Ok(items)
}

fn read_kinds(
    reader: &mut Reader<'_>,
    count: usize,
) -> Result<Vec<(EntryKind, bool)>, DecodeError> {
    let mut bytes = column(reader)?;
    let kinds = bytes.take(count)?.iter().map(|&byte| {
        let kind = EntryKind::from_byte(byte & 0x7f);
        Ok((kind.ok_or_else(|| bytes.error(format!("unknown kind {byte}")))?, byte >> 7 == 1))
    });
    let kinds = kinds.collect::<Result<_, DecodeError>>()?;
    bytes.finish()?;
    Ok(kinds)
}

fn read_owners(reader: &mut Reader<'_>) -> Result<Vec<Arc<Owner>>, DecodeError> {
    let mut owners = column(reader)?;
    let count = owners.count(MAX_ITEMS)?;
    let mut list = Vec::with_capacity(count.min(owners.remaining()));
    for _ in 0..count {
        list.push(Arc::new(Owner {
            uid: owners.varint_u32()?,
            gid: owners.varint_u32()?,
            user: owners.bytes(MAX_NAME_LEN)?.into(),
            group: owners.bytes(MAX_NAME_LEN)?.into(),
        }));
    }
    owners.finish()?;
    Ok(list)
}

fn read_xattrs(reader: &mut Reader<'_>) -> Result<Vec<Arc<[Xattr]>>, DecodeError> {
    let mut sets = column(reader)?;
    let count = sets.count(MAX_ITEMS)?;
    let mut list = Vec::with_capacity(count.min(sets.remaining()));
    for _ in 0..count {
        let mut set: Vec<Xattr> = Vec::new();
        for _ in 0..sets.count(MAX_XATTRS)? {
            let name: Box<[u8]> = sets.bytes(MAX_NAME_LEN)?.into();
            if name.is_empty() || name.contains(&0) {
                return Err(sets.error("an extended attribute without a proper name"));
            }
            set.push(Xattr { name, value: sets.bytes(MAX_XATTR_LEN)?.into() });
        }
        if !set.is_sorted_by(|a, b| a.name < b.name) {
            return Err(sets.error("extended attributes out of order"));
        }
        list.push(set.into());
    }
    sets.finish()?;
    Ok(list)
}

fn read_rest(
    reader: &mut Reader<'_>,
    count: usize,
    owners: usize,
    xattrs: usize,
) -> Result<Vec<Rest>, DecodeError> {
    let [mut modes, mut owner_numbers] = [column(reader)?, column(reader)?];
    let [mut xattr_numbers, mut links] = [column(reader)?, column(reader)?];
    let number = |column: &mut Reader<'_>, limit: usize| {
        let value = column.varint_u32()?;
        if value as usize >= limit {
            return Err(column.error("a number that the dictionary does not have"));
        }
        Ok(value)
    };
    let mut rest = Vec::with_capacity(count);
    for _ in 0..count {
        let mode = u16::try_from(modes.varint()?).ok().filter(|mode| *mode <= 0o7777);
        rest.push(Rest {
            mode: mode.ok_or_else(|| modes.error("more than twelve permission bits"))?,
            owner: number(&mut owner_numbers, owners)?,
            xattrs: number(&mut xattr_numbers, xattrs)?,
            links: links.varint_u32()?,
        });
    }
    [modes, owner_numbers, xattr_numbers, links].into_iter().try_for_each(Reader::finish)?;
    Ok(rest)
}

fn read_stats(
    reader: &mut Reader<'_>,
    kinds: &[(EntryKind, bool)],
) -> Result<Vec<EntryStat>, DecodeError> {
    let mut list = column(reader)?;
    let filesystems = (0..list.count(MAX_ITEMS)?)
        .map(|_| Ok(u64::from_le_bytes(list.array()?)))
        .collect::<Result<Vec<u64>, DecodeError>>()?;
    list.finish()?;
    let mut columns = [list; 7];
    for slot in &mut columns {
        *slot = column(reader)?;
    }
    let [mtimes, mtime_nanos, ctimes, ctime_nanos, inodes, numbers, sizes] = &mut columns;
    let checked = |nanos: u32| match nanos {
        0..1_000_000_000 => Ok(nanos),
        _ => Err(DecodeError::new("leaf page", "more than a second of nanoseconds")),
    };
    let (mut last_mtime, mut last_inode) = (0i64, 0u64);
    let mut stats = Vec::with_capacity(kinds.len());
    for &(kind, unsettled) in kinds {
        last_mtime = last_mtime.wrapping_add(mtimes.signed()?);
        last_inode = last_inode.wrapping_add(inodes.signed()?.cast_unsigned());
        let mtime_nanos = checked(mtime_nanos.u32()?)?;
        let ctime_nanos = checked(ctime_nanos.varint_u32()? ^ mtime_nanos)?;
        let number = usize::try_from(numbers.varint()?).unwrap_or(usize::MAX);
        stats.push(EntryStat {
            kind,
            unsettled,
            mtime: Timestamp { seconds: last_mtime, nanos: mtime_nanos },
            ctime: Timestamp {
                seconds: last_mtime.wrapping_add(ctimes.signed()?),
                nanos: ctime_nanos,
            },
            inode: last_inode,
            filesystem: *filesystems
                .get(number)
                .ok_or_else(|| numbers.error("a file system that is not listed"))?,
            size: if has_content(kind) { sizes.varint()? } else { 0 },
        });
    }
    columns.into_iter().try_for_each(Reader::finish)?;
    Ok(stats)
}

/// Link targets with the positions of their entries.
type Targets = Vec<(usize, Box<[u8]>)>;

fn read_targets(
    reader: &mut Reader<'_>,
    kinds: &[(EntryKind, bool)],
) -> Result<Targets, DecodeError> {
    let mut column = column(reader)?;
    let mut list = Vec::new();
    for (at, _) in kinds.iter().enumerate().filter(|(_, kind)| kind.0 == EntryKind::Symlink) {
        let target = column.bytes(MAX_TARGET_LEN)?;
        if target.is_empty() || target.contains(&0) {
            return Err(column.error("a symbolic link without a proper target"));
        }
        list.push((at, target.into()));
    }
    column.finish()?;
    Ok(list)
}

fn read_devices(
    reader: &mut Reader<'_>,
    kinds: &[(EntryKind, bool)],
) -> Result<Vec<(usize, u64)>, DecodeError> {
    let mut column = column(reader)?;
    let mut list = Vec::new();
    for (at, _) in kinds.iter().enumerate().filter(|(_, kind)| is_device(kind.0)) {
        list.push((at, column.varint()?));
    }
    column.finish()?;
    Ok(list)
}

fn read_contents(
    reader: &mut Reader<'_>,
    stats: &[EntryStat],
) -> Result<Vec<Content>, DecodeError> {
    let [mut forms, mut lens] = [column(reader)?, column(reader)?];
    let [mut inline, mut ids] = [column(reader)?, column(reader)?];
    let mut contents = Vec::with_capacity(stats.len());
    for stat in stats {
        if !has_content(stat.kind) {
            contents.push(Content::Empty);
            continue;
        }
        let (content, len) = match forms.varint()? {
            CONTENT_EMPTY => (Content::Empty, Some(0)),
            CONTENT_INLINE => {
                let bytes = inline.bytes(MAX_INLINE)?;
                (Content::Inline(bytes.into()), Some(bytes.len() as u64))
            }
            CONTENT_PAGED => {
                let height = lens.u8()?;
                if height > MAX_HEIGHT {
                    return Err(lens.error("content pages too high"));
                }
                (Content::Paged { root: ChunkId(ids.array()?), height }, Some(stat.size))
            }
            form => {
                let count = usize::try_from(form - CONTENT_LIST).unwrap_or(usize::MAX);
                if count > MAX_ITEMS {
                    return Err(forms.error("too many content items"));
                }
                let items = read_items(&mut lens, &mut ids, count)?;
                let len = items.iter().try_fold(0u64, |sum, item| sum.checked_add(item.len()));
                (Content::Items(items), len)
            }
        };
        if len != Some(stat.size) {
            return Err(forms.error("content that is not as long as its entry says"));
        }
        contents.push(content);
    }
    [forms, lens, inline, ids].into_iter().try_for_each(Reader::finish)?;
    Ok(contents)
}
