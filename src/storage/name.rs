//! The names of a repository's objects, and the folders that hold them.

use std::fmt;
use std::str::FromStr;

use crate::id::{PackId, SegmentId, SessionId, SlotId, SnapshotId};

/// Most names that are taken from any directory at once.
pub(super) const MAX_NAMES: usize = 1 << 24;

/// What an object is for; decides the folder that it lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// The repository's format version, id and parameters.
    Config,
    /// The second copy of the config.
    ConfigCopy,
    /// A key slot.
    Key,
    /// The second copy of a key slot.
    KeyCopy,
    /// Blocks and their footer.
    Pack,
    /// What a pack can be repaired with; has the pack's id.
    Parity,
    /// An index segment.
    Segment,
    /// A confirmed snapshot.
    Snapshot,
    /// The second copy of a confirmed snapshot.
    SnapshotCopy,
    /// A tentative snapshot.
    Root,
    /// A writer's or pruner's announced presence.
    Session,
    /// The announced condemnation of packs.
    Mark,
    /// A damaged object that was set aside, or what is about to take its place.
    Quarantine,
}

impl ObjectKind {
    /// Every kind, in order.
    pub const ALL: [Self; 13] = [
        Self::Config,
        Self::ConfigCopy,
        Self::Key,
        Self::KeyCopy,
        Self::Pack,
        Self::Parity,
        Self::Segment,
        Self::Snapshot,
        Self::SnapshotCopy,
        Self::Root,
        Self::Session,
        Self::Mark,
        Self::Quarantine,
    ];

    /// The kind's one object has a fixed name instead of an id.
    pub(super) fn is_single(self) -> bool {
        matches!(self, Self::Config | Self::ConfigCopy)
    }

    /// Most names that are taken from a directory of the kind's objects, whatever they are: far more
    /// than any gabion makes, and few enough for the memory that they take.
    pub(super) fn max_names(self) -> usize {
        match self {
            Self::Config | Self::ConfigCopy | Self::Key | Self::KeyCopy => 1 << 12,
            Self::Root | Self::Session | Self::Mark => 1 << 16,
            Self::Segment | Self::Snapshot | Self::SnapshotCopy | Self::Quarantine => 1 << 20,
            Self::Pack | Self::Parity => MAX_NAMES,
        }
    }

    /// It is the record of a snapshot, or its second copy.
    pub(super) fn is_snapshot(self) -> bool {
        matches!(self, Self::Snapshot | Self::SnapshotCopy)
    }

    /// The folder of the kind's objects (of packs and parity: that of their fan-out folders).
    pub(super) fn folder(self) -> Folder {
        match self {
            Self::Config => Folder::Top,
            Self::ConfigCopy => Folder::Copy,
            Self::Key => Folder::Keys,
            Self::KeyCopy => Folder::CopyKeys,
            Self::Pack => Folder::Packs,
            Self::Parity => Folder::Parity,
            Self::Segment => Folder::Index,
            Self::Snapshot => Folder::Snapshots,
            Self::SnapshotCopy => Folder::CopySnapshots,
            Self::Root => Folder::Roots,
            Self::Session => Folder::Sessions,
            Self::Mark => Folder::Marks,
            Self::Quarantine => Folder::Quarantine,
        }
    }
}

/// The name of the two config objects inside their folders.
pub(super) const CONFIG_FILE: &str = "config";

/// Names one object of a repository. `Display` gives the path inside the repository, `FromStr`
/// reads it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// What the object is for.
    pub kind: ObjectKind,
    /// The object's id; zero for the two config objects.
    pub id: [u8; 16],
}

impl ObjectName {
    /// The config.
    pub const CONFIG: Self = Self { kind: ObjectKind::Config, id: [0; 16] };
    /// The second copy of the config.
    pub const CONFIG_COPY: Self = Self { kind: ObjectKind::ConfigCopy, id: [0; 16] };

    /// The name of a pack.
    pub fn pack(id: PackId) -> Self {
        Self { kind: ObjectKind::Pack, id: id.0 }
    }

    /// The name of the parity object of a pack.
    pub fn parity(id: PackId) -> Self {
        Self { kind: ObjectKind::Parity, id: id.0 }
    }

    /// The name of an index segment.
    pub fn segment(id: SegmentId) -> Self {
        Self { kind: ObjectKind::Segment, id: id.0 }
    }

    /// The name of a confirmed snapshot.
    pub fn snapshot(id: SnapshotId) -> Self {
        Self { kind: ObjectKind::Snapshot, id: id.0 }
    }

    /// The name of the second copy of a confirmed snapshot.
    pub fn snapshot_copy(id: SnapshotId) -> Self {
        Self { kind: ObjectKind::SnapshotCopy, id: id.0 }
    }

    /// The name of the tentative form of a snapshot.
    pub fn root(id: SnapshotId) -> Self {
        Self { kind: ObjectKind::Root, id: id.0 }
    }

    /// The name of a session.
    pub fn session(id: SessionId) -> Self {
        Self { kind: ObjectKind::Session, id: id.0 }
    }

    /// The name of a mark.
    pub fn mark(id: [u8; 16]) -> Self {
        Self { kind: ObjectKind::Mark, id }
    }

    /// The name of an object in quarantine.
    pub fn quarantine(id: [u8; 16]) -> Self {
        Self { kind: ObjectKind::Quarantine, id }
    }

    /// The name of a key slot.
    pub fn key(id: SlotId) -> Self {
        Self { kind: ObjectKind::Key, id: id.0 }
    }

    /// The name of the second copy of a key slot.
    pub fn key_copy(id: SlotId) -> Self {
        Self { kind: ObjectKind::KeyCopy, id: id.0 }
    }

    /// The folder that holds the object.
    pub(super) fn folder(self) -> Folder {
        match self.kind {
            ObjectKind::Pack => Folder::Fan(self.id[0]),
            ObjectKind::Parity => Folder::ParityFan(self.id[0]),
            kind => kind.folder(),
        }
    }

    /// The object's name inside its folder.
    pub(super) fn file_name(self) -> String {
        if self.kind.is_single() { CONFIG_FILE.to_owned() } else { hex(&self.id) }
    }

    /// The object of `kind` that is called `file_name` inside its folder; `None` for a name that
    /// gabion does not give to such objects.
    pub(super) fn from_file_name(kind: ObjectKind, file_name: &str) -> Option<Self> {
        if kind.is_single() {
            return (file_name == CONFIG_FILE).then_some(Self { kind, id: [0; 16] });
        }
        Some(Self { kind, id: file_name.parse::<PackId>().ok()?.0 })
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.folder().path_of(&self.file_name()))
    }
}

/// A path that is not the path of any object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a repository object: {0:?}")]
pub struct ParseNameError(pub String);

impl FromStr for ObjectName {
    type Err = ParseNameError;

    fn from_str(path: &str) -> Result<Self, ParseNameError> {
        let file_name = path.rsplit('/').next().unwrap_or(path);
        ObjectKind::ALL
            .into_iter()
            .filter_map(|kind| Self::from_file_name(kind, file_name))
            .find(|name| name.to_string() == path)
            .ok_or_else(|| ParseNameError(path.to_owned()))
    }
}

/// A folder of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Folder {
    /// The repository itself.
    Top,
    /// The folder of second copies.
    Copy,
    /// Key slots.
    Keys,
    /// Second copies of the key slots.
    CopyKeys,
    /// The fan-out folders of the packs.
    Packs,
    /// The packs whose id begins with this byte.
    Fan(u8),
    /// The fan-out folders of the parity objects.
    Parity,
    /// The parity objects whose id begins with this byte.
    ParityFan(u8),
    /// Index segments.
    Index,
    /// Confirmed snapshots.
    Snapshots,
    /// Second copies of the confirmed snapshots.
    CopySnapshots,
    /// Tentative snapshots.
    Roots,
    /// Sessions.
    Sessions,
    /// Marks.
    Marks,
    /// What was set aside.
    Quarantine,
}

impl Folder {
    /// All folders that every repository has but the top one, a folder always after the folder that
    /// it lies in.
    pub(super) fn all_below_top() -> impl Iterator<Item = Self> {
        [
            Self::Copy,
            Self::Keys,
            Self::CopyKeys,
            Self::Packs,
            Self::Index,
            Self::Snapshots,
            Self::CopySnapshots,
            Self::Roots,
            Self::Sessions,
            Self::Marks,
        ]
        .into_iter()
        .chain((0..=u8::MAX).map(Self::Fan))
    }

    /// The folders of parity objects, in the same order.
    pub(super) fn all_of_parity() -> impl Iterator<Item = Self> {
        std::iter::once(Self::Parity).chain((0..=u8::MAX).map(Self::ParityFan))
    }

    /// The folder that this one lies in, and its name there; `None` for the top.
    pub(super) fn place(self) -> Option<(Self, String)> {
        let (parent, name) = match self {
            Self::Top => return None,
            Self::Fan(byte) => return Some((Self::Packs, hex(&[byte]))),
            Self::ParityFan(byte) => return Some((Self::Parity, hex(&[byte]))),
            Self::CopyKeys => (Self::Copy, "keys"),
            Self::CopySnapshots => (Self::Copy, "snapshots"),
            Self::Copy => (Self::Top, "copy"),
            Self::Keys => (Self::Top, "keys"),
            Self::Packs => (Self::Top, "packs"),
            Self::Parity => (Self::Top, "parity"),
            Self::Index => (Self::Top, "index"),
            Self::Snapshots => (Self::Top, "snapshots"),
            Self::Roots => (Self::Top, "roots"),
            Self::Sessions => (Self::Top, "sessions"),
            Self::Marks => (Self::Top, "marks"),
            Self::Quarantine => (Self::Top, "quarantine"),
        };
        Some((parent, name.to_owned()))
    }

    /// Whether the folder holds fan-out folders.
    pub(super) fn has_fans(self) -> bool {
        matches!(self, Self::Packs | Self::Parity)
    }

    /// The folder's path inside the repository; empty for the top.
    pub(super) fn path(self) -> String {
        self.place().map_or_else(String::new, |(parent, name)| parent.path_of(&name))
    }

    /// The path inside the repository of what is called `name` in this folder.
    pub(super) fn path_of(self, name: &str) -> String {
        match self {
            Self::Top => name.to_owned(),
            _ => format!("{}/{name}", self.path()),
        }
    }

    /// The sub-folder that is called `name` in this folder.
    pub(super) fn child(self, name: &str) -> Option<Self> {
        match (self, name) {
            (Self::Top, "copy") => Some(Self::Copy),
            (Self::Top, "keys") => Some(Self::Keys),
            (Self::Top, "packs") => Some(Self::Packs),
            (Self::Top, "parity") => Some(Self::Parity),
            (Self::Top, "index") => Some(Self::Index),
            (Self::Top, "snapshots") => Some(Self::Snapshots),
            (Self::Top, "roots") => Some(Self::Roots),
            (Self::Top, "sessions") => Some(Self::Sessions),
            (Self::Top, "marks") => Some(Self::Marks),
            (Self::Top, "quarantine") => Some(Self::Quarantine),
            (Self::Copy, "keys") => Some(Self::CopyKeys),
            (Self::Copy, "snapshots") => Some(Self::CopySnapshots),
            (Self::Packs, _) => Some(Self::Fan(fan_byte(name)?)),
            (Self::Parity, _) => Some(Self::ParityFan(fan_byte(name)?)),
            _ => None,
        }
    }

    /// The folder may be empty for as long as it likes, and tools that copy trees (to a bucket and
    /// back, say) leave empty folders out: its absence means "no objects". The absence of any other
    /// folder is an error, since an empty list of snapshots would make everything garbage.
    pub(super) fn may_be_absent(self) -> bool {
        match self {
            Self::Copy | Self::CopyKeys | Self::CopySnapshots | Self::Fan(_) => true,
            Self::Parity | Self::ParityFan(_) => true,
            Self::Roots | Self::Sessions | Self::Marks | Self::Quarantine => true,
            Self::Top | Self::Keys | Self::Packs | Self::Index | Self::Snapshots => false,
        }
    }
}

/// The first byte of the ids in the fan-out folder `name`.
fn fan_byte(name: &str) -> Option<u8> {
    let byte = u8::from_str_radix(name, 16).ok()?;
    (hex(&[byte]) == name).then_some(byte)
}

/// Lower-case hexadecimal digits of `bytes`.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_is_found_again_in_its_parent_and_made_after_it() {
        let mut made = vec![Folder::Top];
        let on_demand = Folder::all_of_parity().chain([Folder::Quarantine]);
        for folder in Folder::all_below_top().chain(on_demand) {
            let (parent, name) = folder.place().unwrap();
            assert!(made.contains(&parent), "{folder:?} comes before {parent:?}");
            assert_eq!(parent.child(&name), Some(folder));
            made.push(folder);
        }
        assert_eq!(made.len(), 1 + 10 + 256 + 1 + 256 + 1);
        for strange in ["AB", "a", "+a", "abc", "", "zz"] {
            assert_eq!(Folder::Packs.child(strange), None, "{strange}");
            assert_eq!(Folder::Parity.child(strange), None, "{strange}");
        }
    }
}
