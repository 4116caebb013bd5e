//! Reading a restored tree back and comparing it with the snapshot: metadata by value, content by
//! chunk id, so that the repository need not be read again.

use std::io::Read as _;

use rayon::prelude::*;

use super::Restore;
use super::filter::Filter;
use super::links::NamesChecked;
use crate::crypto::ChunkKind;
use crate::event::Event;
use crate::format::entry::{Content, ContentItem, Entry, EntryKind, Metadata};
use crate::format::path;
use crate::ops::OpError;
use crate::repo::RepositoryError;
use crate::target::{Difference, TargetError};
use crate::tree::{ContentItems, PageReader};

/// Entries that are compared at once.
const BATCH: usize = 4096;

/// Compares everything that a restore was about, and the target itself with `top_meta` if it got
/// that.
pub(super) fn verify(
    restore: &Restore<'_>,
    pool: &rayon::ThreadPool,
    top_meta: Option<&Metadata>,
) -> Result<(), OpError> {
    let options = restore.options;
    if let Some(meta) = top_meta {
        let compared = restore.target()?.compare_top(meta, &options.policy);
        report(restore, b".", in_words(compared));
    }
    let mut filter = Filter::new(options)?;
    let top = options.path.clone().unwrap_or_default();
    let mut cursor = PageReader::new(restore.repository).cursor(options.snapshot.root);
    cursor.seek(&top)?;
    let mut batch = Vec::with_capacity(BATCH);
    let mut names = NamesChecked::default();
    loop {
        let entry = cursor.next_entry()?.filter(|entry| path::is_within(&entry.path, &top));
        let at_end = entry.is_none();
        if let Some(mut entry) = entry {
            let is_folder = entry.meta.kind == EntryKind::Directory;
            let below: Option<Box<[u8]>> = match restore.below(&entry.path) {
                None if is_folder => None,
                None => Some(path::name(&entry.path).into()),
                Some(below) => Some(below.into()),
            };
            if let Some(below) = below
                && entry.meta.kind != EntryKind::Socket
                && (options.policy.special || !is_device(entry.meta.kind))
                && filter.wants(&below, is_folder)
            {
                entry.path = below;
                batch.push(entry);
            }
        }
        if at_end || batch.len() >= BATCH {
            if restore.is_interrupted() {
                return Err(OpError::Interrupted);
            }
            let compared = batch.len() as u64;
            let done = std::mem::take(&mut batch);
            pool.install(|| done.par_iter().try_for_each(|entry| compare(restore, entry)))?;
            done.iter().for_each(|entry| names.check(restore, entry));
            restore.repository.observer().event(Event::Progress { items: compared, bytes: 0 });
        }
        if at_end {
            return Ok(());
        }
    }
}

fn is_device(kind: EntryKind) -> bool {
    matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice)
}

fn compare(restore: &Restore<'_>, entry: &Entry) -> Result<(), OpError> {
    Restore::count(&restore.counters.verified);
    let target = restore.target()?;
    let compared = target.compare(&entry.path, &entry.meta, &restore.options.policy);
    let mut found = in_words(compared);
    let has_content = matches!(entry.meta.kind, EntryKind::File | EntryKind::Stream);
    if has_content && !found.iter().any(|what| what == "missing" || what == "kind") {
        match same_content(restore, entry) {
            Ok(true) => {}
            Ok(false) => found.push("content".to_owned()),
            Err(Trouble::File(error)) => found.push(error),
            Err(Trouble::Repository(error)) if error.is_damage() => {
                restore.damage(&entry.path, &error);
            }
            Err(Trouble::Repository(error)) => return Err(error.into()),
        }
    }
    report(restore, &entry.path, found);
    Ok(())
}

fn in_words(compared: Result<Vec<Difference>, TargetError>) -> Vec<String> {
    match compared {
        Ok(differences) => differences.iter().map(ToString::to_string).collect(),
        Err(error) => vec![error.to_string()],
    }
}

fn report(restore: &Restore<'_>, below: &[u8], found: Vec<String>) {
    if !found.is_empty() {
        restore.problem(below, format!("differs after the restore: {}", found.join(", ")));
    }
}

/// Whether a file of the target has the content of its entry; no when that cannot be found out.
pub(super) fn is_same_content(restore: &Restore<'_>, entry: &Entry) -> bool {
    same_content(restore, entry).unwrap_or(false)
}

enum Trouble {
    File(String),
    Repository(RepositoryError),
}

fn same_content(restore: &Restore<'_>, entry: &Entry) -> Result<bool, Trouble> {
    let trouble = |error: &dyn std::fmt::Display| Trouble::File(format!("cannot be read: {error}"));
    let target = restore.target().map_err(|error| trouble(&error))?;
    let mut file = target.read_back(&entry.path).map_err(|error| trouble(&error))?;
    let mut buffer = Vec::new();
    let mut next = |len: u64, buffer: &mut Vec<u8>| {
        buffer.clear();
        let got = (&mut file).take(len).read_to_end(buffer).map_err(|error| trouble(&error))?;
        Ok(got as u64 == len)
    };
    if let Content::Inline(bytes) = &entry.content {
        return Ok(next(entry.meta.size, &mut buffer)? && *buffer == **bytes);
    }
    let mut pages = PageReader::new(restore.repository);
    let mut items = ContentItems::new(&entry.content, entry.meta.size);
    while let Some(item) = items.next(&mut pages).map_err(Trouble::Repository)? {
        match item {
            ContentItem::Chunk { id, len } => {
                let keys = restore.repository.keys();
                if !next(u64::from(len), &mut buffer)?
                    || keys.chunk_id(ChunkKind::Content, &buffer) != id
                {
                    return Ok(false);
                }
            }
            ContentItem::Hole { mut len } => {
                while len > 0 {
                    let step = len.min(1 << 20);
                    if !next(step, &mut buffer)? || buffer.iter().any(|byte| *byte != 0) {
                        return Ok(false);
                    }
                    len -= step;
                }
            }
        }
    }
    Ok(true)
}
