//! How an item at the target differs from its entry.

use std::io;

use rustix::fs::{AtFlags, Stat, readlinkat, statat};

use super::apply::{MetadataPolicy, is_extra};
use super::existing::{device_of, kind_at_target, kind_of, mode_of, mtime_of};
use super::node::{Node, with_node};
use super::owner::OwnerPolicy;
use super::resolve::Parent;
use super::{TargetError, TargetErrorKind, TargetFolder};
use crate::format::entry::{EntryKind, Metadata, Xattr};

/// One way in which an item differs from its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Difference {
    /// It is not there; nothing else was compared.
    Missing,
    /// It is of another kind; nothing else was compared.
    Kind,
    /// The file is longer or shorter.
    Size,
    /// The permission bits.
    Mode,
    /// User or group.
    Owner,
    /// Time of the last change.
    Mtime,
    /// Extended attributes.
    Xattrs,
    /// What the link points to.
    LinkTarget,
    /// The number of the device.
    Device,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Missing => "missing",
            Self::Kind => "kind",
            Self::Size => "size",
            Self::Mode => "mode",
            Self::Owner => "owner",
            Self::Mtime => "mtime",
            Self::Xattrs => "extended attributes",
            Self::LinkTarget => "link target",
            Self::Device => "device number",
        })
    }
}

impl TargetFolder {
    /// Compares all but the content of what is at `path` with an entry; of the metadata, what
    /// `policy` restores. Says in which ways they differ, in the order of [`Difference`].
    ///
    /// # Errors
    /// When it cannot be found out; when something on the way is a link or no folder.
    pub fn compare(
        &self,
        path: &[u8],
        meta: &Metadata,
        policy: &MetadataPolicy,
    ) -> Result<Vec<Difference>, TargetError> {
        let compared = self
            .within(path, "compare", |parent, name| self.differences(parent, name, meta, policy));
        match compared {
            Err(error) if error.kind == TargetErrorKind::Vanished => Ok(vec![Difference::Missing]),
            compared => compared,
        }
    }

    /// Compares the target itself with the metadata of a folder, as [`Self::compare`] does.
    ///
    /// # Errors
    /// When it cannot be found out.
    pub fn compare_top(
        &self,
        meta: &Metadata,
        policy: &MetadataPolicy,
    ) -> Result<Vec<Difference>, TargetError> {
        self.differences(self.resolver.root(), b".", meta, policy)
            .map_err(|error| TargetError::new(self.place.clone(), "compare", error))
    }

    fn differences(
        &self,
        parent: &Parent,
        name: &[u8],
        meta: &Metadata,
        policy: &MetadataPolicy,
    ) -> io::Result<Vec<Difference>> {
        let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = kind_of(&stat)?;
        if kind != kind_at_target(meta.kind) {
            return Ok(vec![Difference::Kind]);
        }
        let size = u64::try_from(stat.st_size).map_err(io::Error::other)?;
        let checks = [
            (Difference::Size, kind == EntryKind::File && size != meta.size),
            (Difference::Mode, kind != EntryKind::Symlink && mode_of(&stat) != policy.mode(meta)),
            (Difference::Owner, self.has_other_owner(&stat, meta, policy.owner)),
            (Difference::Mtime, mtime_of(&stat)? != meta.mtime),
            (
                Difference::Xattrs,
                policy.xattrs && has_other_xattrs(parent, name, kind, meta, policy)?,
            ),
            (
                Difference::LinkTarget,
                kind == EntryKind::Symlink && target_of(parent, name)? != *meta.target,
            ),
            (Difference::Device, device_of(&stat, kind)? != meta.device),
        ];
        Ok(checks.into_iter().filter(|&(_, differs)| differs).map(|(what, _)| what).collect())
    }

    fn has_other_owner(&self, stat: &Stat, meta: &Metadata, policy: OwnerPolicy) -> bool {
        policy != OwnerPolicy::Leave
            && (stat.st_uid, stat.st_gid) != self.owners.of(&meta.owner, policy)
    }
}

fn target_of(parent: &Parent, name: &[u8]) -> io::Result<Vec<u8>> {
    Ok(readlinkat(parent, name, Vec::new())?.into_bytes())
}

fn has_other_xattrs(
    parent: &Parent,
    name: &[u8],
    kind: EntryKind,
    meta: &Metadata,
    policy: &MetadataPolicy,
) -> io::Result<bool> {
    with_node(parent, name, kind, |node, _| {
        if node.xattr_names()?.iter().any(|name| is_extra(name, meta, policy)) {
            return Ok(true);
        }
        Ok(policy.xattrs_of(meta).any(|xattr| !has_xattr(node, xattr)))
    })
}

fn has_xattr(node: &Node<'_>, xattr: &Xattr) -> bool {
    node.xattr(&xattr.name).is_ok_and(|value| *value == *xattr.value)
}
