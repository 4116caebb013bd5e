//! What a snapshot may show of a simulated source.

use std::collections::BTreeMap;

use super::script::{Inner, Weakness};
use super::world::{Lie, Name, Object, State};
use crate::format::entry::{Entry, EntryKind};
use crate::ops::list::next_within;
use crate::ops::read_content::{Part, read_content};
use crate::ops::snapshot::SnapshotSummary;
use crate::repo::Repository;
use crate::tree::PageReader;

/// Compares a snapshot with what was there from step `from` until now. Returns how many entries it
/// has, and how many of them changed while they were read.
pub(super) fn check(
    repository: &Repository,
    inner: &mut Inner,
    from: u64,
    summary: &SnapshotSummary,
) -> Result<(u64, u64), String> {
    let to = inner.world.step;
    let snapshot = summary.snapshot.as_ref().ok_or("there is no snapshot")?;
    let root = inner.world.root.to_str().unwrap()[1..].to_owned();
    let mut names: BTreeMap<String, Vec<Name>> = BTreeMap::new();
    for name in inner.world.all_names() {
        names.entry(name.path.clone()).or_default().push(name);
    }
    let mut cursor = PageReader::new(repository).cursor(snapshot.root);
    cursor.seek(root.as_bytes()).map_err(|error| error.to_string())?;
    let (mut seen, mut unsettled) = (Vec::new(), 0);
    while let Some(entry) = next_within(&mut cursor, root.as_bytes()).map_err(|e| e.to_string())? {
        let Some(path) = entry.path[root.len()..].strip_prefix(b"/") else { continue };
        let path = String::from_utf8(path.to_vec()).unwrap();
        let bytes = content(repository, &entry)?;
        let of_path = names.get(&path).map_or(&[][..], |names| &names[..]);
        let shown = Shown { inner, entry: &entry, bytes: &bytes, from, to };
        shown.check(of_path).map_err(|what| format!("{path}: {what}"))?;
        unsettled += u64::from(entry.meta.unsettled);
        seen.push(path);
    }
    for (path, names) in &names {
        if !seen.contains(path) && was_there_all_the_time(inner, names, from, to) {
            let denied = inner.denied.as_ref().is_some_and(|(denied, ..)| denied == path);
            if !denied {
                return Err(format!("{path}: it was there all the time and is missing"));
            }
            if summary.problems == 0 {
                return Err(format!("{path}: it could not be read, which is not said"));
            }
        }
    }
    if unsettled > summary.problems {
        return Err("entries that were changing are not reported".to_owned());
    }
    if inner.denied.is_none() && summary.problems > unsettled {
        return Err(format!("{} problems, though all can be read", summary.problems));
    }
    Ok((seen.len() as u64, unsettled))
}

fn content(repository: &Repository, entry: &Entry) -> Result<Vec<u8>, String> {
    if entry.meta.kind != EntryKind::File {
        return Ok(entry.meta.target.to_vec());
    }
    let mut bytes = Vec::new();
    let mut add = |part: Part<'_>| {
        match part {
            Part::Bytes(part) => bytes.extend_from_slice(part),
            Part::Zeros(len) => bytes.resize(bytes.len() + usize::try_from(len).unwrap(), 0),
        }
        Ok(())
    };
    read_content(repository, entry, &mut add).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// Whether a file or link had the name without a gap. Of one that is replaced by a directory the
/// contents of that are not expected.
fn was_there_all_the_time(inner: &Inner, names: &[Name], from: u64, to: u64) -> bool {
    let mut within: Vec<&Name> =
        names.iter().filter(|name| name.from <= to && name.to >= from).collect();
    within.sort_by_key(|name| name.from);
    let is_whole = within.first().is_some_and(|name| name.from <= from)
        && within.last().is_some_and(|name| name.to > to)
        && within.windows(2).all(|pair| pair[0].to == pair[1].from);
    let kind = |name: &&&Name| inner.world.objects[name.object].kind == EntryKind::Directory;
    is_whole && within.iter().find(kind).is_none()
}

/// An entry as a snapshot has it.
struct Shown<'a> {
    inner: &'a Inner,
    entry: &'a Entry,
    bytes: &'a [u8],
    from: u64,
    to: u64,
}

impl Shown<'_> {
    fn check(&self, names: &[Name]) -> Result<(), String> {
        let meta = &self.entry.meta;
        let within = || names.iter().filter(|name| name.from <= self.to && name.to >= self.from);
        let objects = || within().map(|name| &self.inner.world.objects[name.object]);
        if !objects().any(|object| object.kind == meta.kind) {
            return Err(format!("there was no {:?} of that name", meta.kind));
        }
        if meta.kind == EntryKind::Directory || meta.unsettled {
            return Ok(());
        }
        if objects().any(|object| self.is_of(object, self.from)) {
            return Ok(());
        }
        // Where all times are the same for ever, nothing tells a later state of the name from an
        // earlier one.
        let earlier = names.iter().filter(|name| name.from <= self.to);
        let mut earlier = earlier.map(|name| &self.inner.world.objects[name.object]);
        let stands_still = |object: &Object| self.inner.world.disks[object.disk].stands_still;
        if earlier.any(|object| stands_still(object) && self.is_of(object, 0)) {
            return Ok(());
        }
        let bytes = String::from_utf8_lossy(self.bytes);
        let (times, inode) = ((meta.mtime, meta.ctime), meta.inode);
        let states: Vec<&State> =
            objects().flat_map(|object| object.states_within(self.from, self.to)).collect();
        Err(format!("it shows {bytes:?} {times:?} {:o} {inode}, and was {states:?}", meta.mode))
    }

    /// Whether the entry shows a state that the object had from step `from` on.
    fn is_of(&self, object: &Object, from: u64) -> bool {
        let meta = &self.entry.meta;
        if object.kind != meta.kind || object.inode != meta.inode {
            return false;
        }
        let has_times = self.inner.weakness == Weakness::None;
        let is_like =
            |state: &&State| !has_times || (state.mtime == meta.mtime && state.ctime == meta.ctime);
        let states: Vec<&State> = object.states_within(from, self.to).filter(is_like).collect();
        if states.iter().any(|state| state.bytes == self.bytes && state.mode == meta.mode) {
            return true;
        }
        // States with the same times cannot be told apart, so a file that changed from one to the
        // other while it was read seems to have been left alone.
        let has_byte =
            |at: usize| states.iter().any(|state| state.bytes.get(at) == self.bytes.get(at));
        let is_long = |len| object.lie != Lie::None || states.iter().any(|s| s.bytes.len() == len);
        has_times
            && states.len() > 1
            && states.iter().any(|state| state.mode == meta.mode)
            && is_long(self.bytes.len())
            && (0..self.bytes.len()).all(has_byte)
    }
}
