//! What becomes of an entry in whose place something is already.

use super::delete::Kept;
use super::walk::Walk;
use super::{Overwrite, Restore};
use crate::format::entry::{Entry, EntryKind, Metadata};
use crate::ops::OpError;
use crate::target::{Existing, Put};

/// What is to happen to an entry.
#[derive(PartialEq, Eq)]
pub(super) enum Verdict {
    Make(Put),
    OnlyMetadata,
    Keep,
    /// It cannot be restored, which was reported.
    Refuse,
}

impl Walk<'_, '_> {
    pub(super) fn verdict(&mut self, entry: &Entry) -> Result<Verdict, OpError> {
        let restore = self.restore;
        let (Some(target), Some(overwrite)) = (&restore.target, restore.options.overwrite) else {
            return Ok(Verdict::Make(Put::Fresh));
        };
        let Some(there) = target.existing(&entry.path)? else {
            return Ok(Verdict::Make(Put::New));
        };
        let same = is_same(&there, &entry.meta);
        match overwrite {
            Overwrite::Never => Ok(Verdict::Keep),
            Overwrite::IfChanged if same => Ok(Verdict::OnlyMetadata),
            Overwrite::IfNewer if entry.meta.mtime <= there.mtime => Ok(Verdict::Keep),
            _ if there.kind == EntryKind::Directory => self.replaces_folder(&entry.path),
            _ => Ok(Verdict::Make(Put::Replace)),
        }
    }

    /// A whole folder goes only when deleting was asked for, and only if all of it may go.
    fn replaces_folder(&mut self, path: &[u8]) -> Result<Verdict, OpError> {
        let kept = self.folders.last().map_or(Kept::No, |folder| folder.kept);
        let Some(deleter) = &mut self.deleter else {
            let why = "a folder is in its place (say --delete to have it removed)".to_owned();
            self.restore.problem(path, why);
            return Ok(Verdict::Refuse);
        };
        Ok(if deleter.clears(path, kept)? {
            Verdict::Make(Put::ReplaceTree)
        } else {
            Verdict::Refuse
        })
    }
}

impl Restore<'_> {
    /// Removes what an interrupted restore left in a folder of the target.
    pub(super) fn clean(&self, folder: &[u8]) {
        if let Some(target) = &self.target {
            // What cannot be listed may still be written to.
            let _ = target.clean(folder);
        }
    }
}

/// Same enough to be left alone unless everything is to be written.
fn is_same(there: &Existing, meta: &Metadata) -> bool {
    let kind = if meta.kind == EntryKind::Stream { EntryKind::File } else { meta.kind };
    // A link's length is that of its target and says nothing about where it points.
    there.kind == kind
        && kind == EntryKind::File
        && there.size == meta.size
        && there.mtime == meta.mtime
}
