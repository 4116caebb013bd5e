//! Links, pipes and devices at the target.

use std::io;

use rustix::fd::AsFd as _;
use rustix::fs::{AtFlags, linkat, symlinkat};
#[cfg(target_os = "linux")]
use rustix::fs::{FileType, Mode, mknodat};

use super::apply::{Applied, Before, MetadataPolicy, apply};
use super::node::with_node;
use super::resolve::Parent;
use super::{TargetError, TargetFolder};
use crate::format::entry::{EntryKind, Metadata};
use crate::format::path;

impl TargetFolder {
    /// Makes a symbolic link. `target` may be anything: it is never followed.
    ///
    /// # Errors
    /// [`Exists`](super::TargetErrorKind::Exists) when something is there; when the target is
    /// empty or too long for a link.
    pub fn make_symlink(
        &self,
        path: &[u8],
        target: &[u8],
        meta: &Metadata,
        policy: &MetadataPolicy,
    ) -> Result<Applied, TargetError> {
        self.within(path, "make the link", |parent, name| {
            if target.is_empty() {
                // The kernel would say that something is missing.
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "a link to nothing"));
            }
            symlinkat(target, parent, name)?;
            self.finish_new(parent, name, EntryKind::Symlink, meta, policy)
        })
    }

    /// Makes `path` another name of the file (or link, or device) that is at `existing`.
    ///
    /// # Errors
    /// [`Exists`](super::TargetErrorKind::Exists) when something is at `path`;
    /// [`Vanished`](super::TargetErrorKind::Vanished) when nothing is at `existing`; a folder
    /// cannot have two names.
    pub fn make_hard_link(&self, existing: &[u8], path: &[u8]) -> Result<(), TargetError> {
        const ACTION: &str = "make the hard link";
        self.check(existing, ACTION)?;
        self.within(path, ACTION, |parent, name| {
            let link = |from: &Parent, from_name: &[u8]| {
                // Without AT_SYMLINK_FOLLOW a link is linked itself, not what it points to.
                Ok(linkat(from, from_name, parent, name, AtFlags::empty())?)
            };
            if path::parent(existing) == path::parent(path) {
                return link(parent, path::name(existing));
            }
            self.resolver.within(existing, link)
        })
    }

    /// Makes a named pipe.
    ///
    /// # Errors
    /// [`Exists`](super::TargetErrorKind::Exists) when something is there; whatever prevents it.
    pub fn make_fifo(
        &self,
        path: &[u8],
        meta: &Metadata,
        policy: &MetadataPolicy,
    ) -> Result<Applied, TargetError> {
        self.within(path, "make the pipe", |parent, name| {
            make_node(parent, name, EntryKind::Fifo, 0)?;
            self.finish_new(parent, name, EntryKind::Fifo, meta, policy)
        })
    }

    /// Makes the device that `meta` tells of.
    ///
    /// # Errors
    /// [`NotPermitted`](super::TargetErrorKind::NotPermitted) for all but the superuser;
    /// [`Exists`](super::TargetErrorKind::Exists) when something is there.
    pub fn make_device(
        &self,
        path: &[u8],
        meta: &Metadata,
        policy: &MetadataPolicy,
    ) -> Result<Applied, TargetError> {
        self.within(path, "make the device", |parent, name| {
            make_node(parent, name, meta.kind, meta.device)?;
            self.finish_new(parent, name, meta.kind, meta, policy)
        })
    }

    fn finish_new(
        &self,
        parent: &Parent,
        name: &[u8],
        kind: EntryKind,
        meta: &Metadata,
        policy: &MetadataPolicy,
    ) -> io::Result<Applied> {
        let before = if parent.gives_acl() && kind != EntryKind::Symlink {
            Before::Anything
        } else {
            Before::Nothing
        };
        with_node(parent, name, kind, |node, stat| {
            Ok(apply(node, stat, meta, policy, &self.owners, before))
        })
    }
}

#[cfg(target_os = "linux")]
fn make_node(parent: &Parent, name: &[u8], kind: EntryKind, device: u64) -> io::Result<()> {
    let file_type = match kind {
        EntryKind::Fifo => FileType::Fifo,
        EntryKind::CharDevice => FileType::CharacterDevice,
        EntryKind::BlockDevice => FileType::BlockDevice,
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "no device")),
    };
    Ok(mknodat(parent.as_fd(), name, file_type, Mode::RUSR | Mode::WUSR, device)?)
}

#[cfg(not(target_os = "linux"))]
fn make_node(_: &Parent, _: &[u8], _: EntryKind, _: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
