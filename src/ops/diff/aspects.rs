//! In which ways two entries at the same path differ.

use crate::format::entry::{EntryKind, Metadata, Owner};

/// One way in which entries can differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Aspect {
    /// What it is; nothing else is compared then.
    Kind,
    /// The bytes.
    Content,
    /// The length.
    Size,
    /// Permission bits.
    Mode,
    /// User or group.
    Owner,
    /// Time of the last change of the content.
    Mtime,
    /// Extended attributes, ACLs among them.
    Xattrs,
    /// What a symbolic link points to.
    Target,
    /// The number of a device.
    Device,
    /// Which paths are hard links of one another, or how many there are.
    Links,
}

impl Aspect {
    /// Every aspect, in order.
    pub const ALL: [Self; 10] = [
        Self::Kind,
        Self::Content,
        Self::Size,
        Self::Mode,
        Self::Owner,
        Self::Mtime,
        Self::Xattrs,
        Self::Target,
        Self::Device,
        Self::Links,
    ];

    /// The aspect's name, the same for people and scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kind => "kind",
            Self::Content => "content",
            Self::Size => "size",
            Self::Mode => "mode",
            Self::Owner => "owner",
            Self::Mtime => "mtime",
            Self::Xattrs => "xattrs",
            Self::Target => "target",
            Self::Device => "device",
            Self::Links => "links",
        }
    }
}

/// A set of aspects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Aspects(u16);

impl Aspects {
    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `aspect` is one of them.
    pub fn contains(self, aspect: Aspect) -> bool {
        self.0 & (1 << aspect as u8) != 0
    }

    /// The aspects in order.
    pub fn iter(self) -> impl Iterator<Item = Aspect> {
        Aspect::ALL.into_iter().filter(move |&aspect| self.contains(aspect))
    }

    pub(super) fn insert(&mut self, aspect: Aspect) {
        self.0 |= 1 << aspect as u8;
    }

    pub(super) fn remove(&mut self, aspect: Aspect) {
        self.0 &= !(1 << aspect as u8);
    }

    /// In what a restore would bring back, two entries' metadata differ so. Hard links are not
    /// compared: what they mean depends on where the metadata is from.
    pub(super) fn of_metadata(old: &Metadata, new: &Metadata) -> Self {
        let mut aspects = Self::default();
        if old.kind != new.kind {
            aspects.insert(Aspect::Kind);
            return aspects;
        }
        // No system lets anybody choose the mode of a symbolic link.
        let has_mode = old.kind != EntryKind::Symlink;
        for (aspect, differs) in [
            (Aspect::Size, old.size != new.size),
            (Aspect::Mode, has_mode && old.mode != new.mode),
            (Aspect::Owner, !same_owner(&old.owner, &new.owner)),
            (Aspect::Mtime, old.mtime != new.mtime),
            (Aspect::Xattrs, old.xattrs != new.xattrs),
            (Aspect::Target, old.target != new.target),
            (Aspect::Device, old.device != new.device),
        ] {
            if differs {
                aspects.insert(aspect);
            }
        }
        aspects
    }
}

/// Whether the number of hard links says something, and differs. That of a folder counts its
/// folders.
pub(super) fn counts_links(old: &Metadata, new: &Metadata) -> bool {
    old.kind != EntryKind::Directory && old.links != new.links
}

/// The names decide where both are known, as for a restore; else the numbers.
fn same_owner(old: &Owner, new: &Owner) -> bool {
    let same = |numbers: (u32, u32), names: (&[u8], &[u8])| match names {
        (b"", _) | (_, b"") => numbers.0 == numbers.1,
        (old, new) => old == new,
    };
    same((old.uid, new.uid), (&old.user, &new.user))
        && same((old.gid, new.gid), (&old.group, &new.group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_hold_what_was_put_in() {
        let mut set = Aspects::default();
        assert!(set.is_empty());
        for (count, aspect) in Aspect::ALL.into_iter().enumerate() {
            assert!(!set.contains(aspect));
            set.insert(aspect);
            assert_eq!(set.iter().count(), count + 1);
        }
        set.remove(Aspect::Mode);
        assert!(!set.contains(Aspect::Mode) && set.contains(Aspect::Links));
    }

    #[test]
    fn owners_are_compared_by_name_where_both_are_known() {
        let owner =
            |uid, user: &str| Owner { uid, user: user.as_bytes().into(), ..Owner::default() };
        assert!(same_owner(&owner(1, "ann"), &owner(2, "ann")));
        assert!(!same_owner(&owner(1, "ann"), &owner(1, "bob")));
        assert!(same_owner(&owner(1, "ann"), &owner(1, "")));
        assert!(!same_owner(&owner(1, ""), &owner(2, "ann")));
    }
}
