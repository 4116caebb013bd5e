//! Gives an item at the target the metadata of its entry. What cannot be set is counted and never
//! stops a restore: the content matters more.

use rustix::fs::{Gid, Stat, Timespec, Timestamps, UTIME_OMIT, Uid};

use super::acl;
use super::existing::mode_of;
use super::node::Node;
use super::owner::{OwnerNumbers, OwnerPolicy};
use crate::format::entry::{EntryKind, Metadata, Timestamp, Xattr};

const SETUID_AND_SETGID: u16 = 0o6000;
const SETGID: u16 = 0o2000;
/// The extended attribute that gives a program rights of the superuser.
const CAPABILITY: &[u8] = b"security.capability";

/// Which metadata is restored, besides mode and times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetadataPolicy {
    /// Who will own it.
    pub owner: OwnerPolicy,
    /// Whether extended attributes, ACLs among them, are restored.
    pub xattrs: bool,
    /// Whether set-user-id and set-group-id bits of files, and capabilities, are restored.
    pub special: bool,
}

impl Default for MetadataPolicy {
    fn default() -> Self {
        Self { owner: OwnerPolicy::default(), xattrs: true, special: true }
    }
}

impl MetadataPolicy {
    /// The permission bits that an entry is to have.
    pub(super) fn mode(&self, meta: &Metadata) -> u16 {
        let mode = meta.mode & 0o7777;
        match meta.kind {
            EntryKind::Directory => mode,
            _ if self.special => mode,
            _ => mode & !SETUID_AND_SETGID,
        }
    }

    /// The extended attributes that an entry is to have.
    pub(super) fn xattrs_of<'m>(&self, meta: &'m Metadata) -> impl Iterator<Item = &'m Xattr> {
        let special = self.special;
        meta.xattrs.iter().filter(move |xattr| special || *xattr.name != *CAPABILITY)
    }
}

/// What of an entry's metadata is special, and what could not be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use]
pub struct Applied {
    /// User or group is another one; only the superuser can give files away.
    pub owner_failed: bool,
    /// It should run with the rights of its owner, which is another one now: those bits were
    /// left off.
    pub special_bits_dropped: bool,
    /// How many extended attributes could not be set or removed.
    pub xattrs_failed: u32,
    /// The permission bits could not be set.
    pub mode_failed: bool,
    /// The time of the last change could not be set.
    pub times_failed: bool,
    /// It has its set-user-id or set-group-id bits. Of no meaning for directories.
    pub special_bits_set: bool,
    /// It has its capabilities.
    pub capability_set: bool,
    /// Its capabilities could not be set.
    pub capability_failed: bool,
    /// It belongs to another user than the one who restores.
    pub foreign_owner: bool,
}

impl Applied {
    /// Everything was restored.
    pub fn is_complete(&self) -> bool {
        !self.owner_failed
            && !self.special_bits_dropped
            && self.xattrs_failed == 0
            && !self.mode_failed
            && !self.times_failed
            && !self.capability_failed
    }
}

/// What an item had before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// Just made, and made bare: what is not asked for is not there.
    Nothing,
    /// It may carry extended attributes that are to go.
    Anything,
}

/// Sets what `policy` asks for, in the only order in which nothing undoes what came before it:
/// changing the owner drops the special bits and file capabilities; setting an ACL sets permission
/// bits; all of them change times of the file.
pub(super) fn apply(
    node: &Node<'_>,
    stat: &Stat,
    meta: &Metadata,
    policy: &MetadataPolicy,
    owners: &OwnerNumbers,
    before: Before,
) -> Applied {
    let mut applied = Applied::default();
    let owner = change_owner(node, stat, meta, policy, owners, &mut applied);
    let mut touched = owner.changed;
    if policy.xattrs {
        touched |= apply_xattrs(node, stat, meta, policy, before, &mut applied);
    }
    if meta.kind != EntryKind::Symlink {
        let acl_missing = !policy.xattrs || applied.xattrs_failed > 0;
        let mode = if acl_missing { acl::mode_without_acl(node, meta) } else { meta.mode };
        let mode = mode & policy.mode(meta);
        let allowed = mode & !forbidden_bits(meta.kind, &owner);
        applied.special_bits_dropped = allowed != mode;
        if touched || allowed != mode_of(stat) {
            change_mode(node, allowed, &mut applied);
        }
    }
    applied.times_failed = !set_mtime(node, meta.mtime);
    applied.special_bits_set = meta.kind != EntryKind::Directory
        && meta.kind != EntryKind::Symlink
        && policy.mode(meta) & SETUID_AND_SETGID != 0
        && !applied.special_bits_dropped
        && !applied.mode_failed;
    applied
}

struct OwnerNow {
    changed: bool,
    user_is_right: bool,
    group_is_right: bool,
}

fn change_owner(
    node: &Node<'_>,
    stat: &Stat,
    meta: &Metadata,
    policy: &MetadataPolicy,
    owners: &OwnerNumbers,
    applied: &mut Applied,
) -> OwnerNow {
    let (uid, gid) = owners.of(&meta.owner, policy.owner);
    let is_foreign = uid != rustix::process::geteuid().as_raw();
    let mut now = OwnerNow {
        changed: false,
        user_is_right: stat.st_uid == uid,
        group_is_right: stat.st_gid == gid,
    };
    if policy.owner == OwnerPolicy::Leave {
        return now;
    }
    if now.user_is_right && now.group_is_right {
        applied.foreign_owner = is_foreign;
        return now;
    }
    // The highest number means "leave it" to the kernel, so nobody can have it.
    let user = (!now.user_is_right && uid != u32::MAX).then(|| Uid::from_raw(uid));
    let group = (!now.group_is_right && gid != u32::MAX).then(|| Gid::from_raw(gid));
    if node.chown(user, group).is_ok() {
        now.changed = true;
        now.user_is_right |= user.is_some();
        now.group_is_right |= group.is_some();
    } else if user.is_some() && group.is_some() && node.chown(None, group).is_ok() {
        // An ordinary user may still choose among the own groups.
        now.changed = true;
        now.group_is_right = true;
    }
    applied.owner_failed = !(now.user_is_right && now.group_is_right);
    applied.foreign_owner = is_foreign && now.user_is_right;
    now
}

/// The special bits that an item must not have with the owner that it has now. A program that
/// should run as its owner must not run as whoever restored it. In a folder the setgid bit gives
/// no rights; it only has to go with its group.
fn forbidden_bits(kind: EntryKind, owner: &OwnerNow) -> u16 {
    match kind {
        EntryKind::Directory if owner.group_is_right => 0,
        EntryKind::Directory => SETGID,
        _ if owner.user_is_right && owner.group_is_right => 0,
        _ => SETUID_AND_SETGID,
    }
}

fn change_mode(node: &Node<'_>, mode: u16, applied: &mut Applied) {
    applied.mode_failed = node.chmod(mode).is_err();
    // The kernel drops the setgid bit silently for who is not in the group.
    if mode & SETUID_AND_SETGID != 0 && !applied.mode_failed {
        let has = node.stat().map_or(0, |stat| mode_of(&stat));
        applied.special_bits_dropped |= has & SETUID_AND_SETGID != mode & SETUID_AND_SETGID;
    }
}

/// Says whether the mode may have changed by it.
fn apply_xattrs(
    node: &Node<'_>,
    stat: &Stat,
    meta: &Metadata,
    policy: &MetadataPolicy,
    before: Before,
    applied: &mut Applied,
) -> bool {
    let failed = &mut applied.xattrs_failed;
    let extra = match before {
        Before::Nothing => Vec::new(),
        Before::Anything => match node.xattr_names() {
            Ok(names) => names.into_iter().filter(|name| is_extra(name, meta, policy)).collect(),
            Err(_) => {
                *failed += 1;
                Vec::new()
            }
        },
    };
    if extra.is_empty() && policy.xattrs_of(meta).next().is_none() {
        return false;
    }
    // Attributes of an ordinary user need the right to write, which the item's owner may lack so
    // far; the right mode is set afterwards.
    if before == Before::Anything && mode_of(stat) & 0o200 == 0 {
        node.chmod(mode_of(stat) | 0o200).ok();
    }
    let removals = extra.iter().map(|name| node.remove_xattr(name));
    for outcome in removals {
        *failed += u32::from(outcome.is_err());
    }
    for xattr in policy.xattrs_of(meta) {
        let set = node.set_xattr(&xattr.name, &xattr.value).is_ok();
        *failed += u32::from(!set);
        if *xattr.name == *CAPABILITY {
            (applied.capability_set, applied.capability_failed) = (set, !set);
        }
    }
    true
}

/// Whether an item has an attribute that its entry does not have and that a restore takes away.
/// Those that the system gives to files by itself (labels of security modules) stay.
pub(super) fn is_extra(name: &[u8], meta: &Metadata, policy: &MetadataPolicy) -> bool {
    let restored = name.starts_with(b"user.")
        || name.starts_with(b"trusted.")
        || name.starts_with(b"system.posix_acl_")
        || name == CAPABILITY;
    restored && policy.xattrs_of(meta).all(|xattr| *xattr.name != *name)
}

/// Says whether it worked. The time of the last access is left alone.
fn set_mtime(node: &Node<'_>, mtime: Timestamp) -> bool {
    // Higher numbers would mean "now" or "leave it" to the kernel.
    if mtime.nanos > 999_999_999 {
        return false;
    }
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanos.into() },
    };
    node.set_times(&times).is_ok()
}
