//! Further names of files that cannot be linked: they are restored as files of their own.

use std::sync::atomic::Ordering;

use super::Restore;
use super::window::{FurtherName, make_special};
use crate::event::Event;
use crate::format::entry::{Entry, EntryKind};
use crate::format::path;
use crate::ops::OpError;
use crate::ops::read_content::{Part, read_content};
use crate::target::{Applied, Put, TargetError, TargetErrorKind, TargetFolder};

/// How many entries that are not linked are named; the others are counted only.
const NAMED: u64 = 10;

impl Restore<'_> {
    /// Says that an entry is not linked with others, as it is in the snapshot.
    pub(super) fn unlinked(&self, below: &[u8], why: &str) {
        if self.counters.unlinked.fetch_add(1, Ordering::Relaxed) < NAMED {
            let said = format!("{}: {why}", path::printable(below));
            self.repository.observer().event(Event::Note(said));
        }
    }

    /// Makes one more name of a file; where that cannot be, a file of its own.
    pub(super) fn link(&self, name: &FurtherName) -> Result<(), OpError> {
        let FurtherName { first, further, put } = name;
        let target = self.target()?;
        // What is in the place of the first name may be what was there before.
        if self.failed.may_hold(first) {
            return self.by_itself(name, "that one had problems");
        }
        match target.put(&further.path, *put, |at| target.make_hard_link(first, at)) {
            Ok(()) => {
                Self::count(&self.counters.restored);
                Ok(())
            }
            Err(error) => match error.kind {
                TargetErrorKind::Exists => self.one_entry_only(&further.path, error),
                TargetErrorKind::NoSpace | TargetErrorKind::ReadOnly => Err(error.into()),
                _ => {
                    let cause = error.source.as_ref().map(ToString::to_string).unwrap_or_default();
                    self.by_itself(name, &cause)
                }
            },
        }
    }

    fn by_itself(&self, name: &FurtherName, cause: &str) -> Result<(), OpError> {
        let FurtherName { first, further, put } = name;
        let first = path::printable(first);
        let why = format!("it cannot be linked with {first}, and is a file of its own: {cause}");
        self.unlinked(&further.path, &why);
        match further.meta.kind {
            EntryKind::File => self.own_file(further, *put),
            _ => make_special(self, further, *put),
        }
    }

    /// Restores a file by itself.
    fn own_file(&self, entry: &Entry, put: Put) -> Result<(), OpError> {
        let target = self.target()?;
        let put = if put == Put::Fresh { Put::New } else { put };
        let staged = target.stage(&entry.path);
        let written = self
            .write_to(target, &staged, entry)
            .and_then(|applied| Ok(target.commit(&staged, &entry.path, put).map(|()| applied)?));
        match written {
            Ok(applied) => {
                self.counters.bytes.fetch_add(entry.meta.size, Ordering::Relaxed);
                self.made(&entry.path, applied);
                Ok(())
            }
            Err(error) => {
                target.discard(&staged);
                match error {
                    OpError::Target(error) => {
                        let path = target.path_of(&entry.path);
                        self.one_entry_only(&entry.path, TargetError { path, ..error })
                    }
                    OpError::Repository(error) if error.is_damage() => {
                        self.damage(&entry.path, &error);
                        Ok(())
                    }
                    error => Err(error),
                }
            }
        }
    }

    fn write_to(
        &self,
        target: &TargetFolder,
        staged: &[u8],
        entry: &Entry,
    ) -> Result<Applied, OpError> {
        let file = target.begin_file(staged, entry.meta.size)?;
        let mut offset = 0;
        read_content(self.repository, entry, &mut |part| {
            match part {
                Part::Bytes(bytes) => {
                    file.write_at(offset, bytes)?;
                    offset += bytes.len() as u64;
                }
                Part::Zeros(len) => offset += len,
            }
            Ok(())
        })?;
        Ok(file.finish(&entry.meta, &self.options.policy)?)
    }
}
