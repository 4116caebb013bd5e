//! Snapshots and the objects that lead up to them: what is sealed under `snapshots/`, `roots/` and
//! `sessions/`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::DecodeError;
use super::left_out::ExcludeRecord;
pub use super::moment::{Moment, Window};
use crate::id::{ChunkId, PackId, SessionId, SnapshotId};

/// Longest body of a snapshot, root or session, in bytes.
pub const MAX_RECORD_LEN: u64 = 1 << 20;

/// Raw bytes as text where they are UTF-8, else as hexadecimal digits in an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RawBytes(pub Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum RawBytesForm {
    Text(String),
    Hex { hex: String },
}

impl Serialize for RawBytes {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => RawBytesForm::Text(text.to_owned()),
            Err(_) => {
                RawBytesForm::Hex { hex: self.0.iter().map(|byte| format!("{byte:02x}")).collect() }
            }
        }
        .serialize(out)
    }
}

impl<'de> Deserialize<'de> for RawBytes {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        match RawBytesForm::deserialize(input)? {
            RawBytesForm::Text(text) => Ok(Self(text.into_bytes())),
            RawBytesForm::Hex { hex } => {
                let pairs = hex.as_bytes().chunks(2).map(|pair| {
                    let digits = std::str::from_utf8(pair).ok()?;
                    if digits.len() != 2 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                        return None;
                    }
                    u8::from_str_radix(digits, 16).ok()
                });
                let bytes = pairs.collect::<Option<Vec<u8>>>();
                bytes.map(Self).ok_or_else(|| serde::de::Error::custom("not hexadecimal"))
            }
        }
    }
}

/// What a snapshot remembers of a stream beside its entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StreamRecord {
    /// The stream's name: its path in the snapshot.
    pub name: String,
    /// When its command was started.
    pub started: Moment,
    /// When its end was reached and the command's success was known.
    pub ended: Moment,
    /// Plain length in bytes.
    pub bytes: u64,
    /// The known format whose end mark was found ("pg_dump"), if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// What it is a dump of, when gabion made the dump.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<StreamOrigin>,
    /// How many rows of which table passed, where gabion knows how to count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<BTreeMap<String, u64>>,
}

/// What a dump was made of and with: what one needs to know to bring it back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StreamOrigin {
    /// "postgresql", "mariadb", "sqlite" or "command".
    pub kind: String,
    /// The database's name, or file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// The version line of the program that made the dump.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// The version that the server says it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// What the database is set to and a dump does not hold: "encoding", "collation" and the like.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// What the server itself counted in the database, before and after the dump, where both were
    /// the same: objects of each kind ("tables", "views" …), and rows of smaller tables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counted: BTreeMap<String, u64>,
}

/// Counts of what a snapshot holds and what it cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SnapshotCounts {
    /// Entries of all kinds.
    pub entries: u64,
    /// Plain bytes of all files and streams.
    pub bytes: u64,
    /// Entries that the parent did not have, or has otherwise.
    pub changed_entries: u64,
    /// Plain bytes that were read from the source.
    pub read_bytes: u64,
    /// Plain bytes that were new to the repository.
    pub new_bytes: u64,
    /// Bytes that were added to the repository.
    pub stored_bytes: u64,
}

/// What a later snapshot of the same sources must know of this one to take over parts of it without
/// a look at them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Continuation {
    /// Stands for the rules by which things were left out: equal for equal rules.
    pub rules: ChunkId,
    /// Folders of whose contents this one could not be sure: something in them could not be read,
    /// or changed so late that a further change might bear the same time. The next one looks at
    /// them, whatever it is told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsure: Vec<RawBytes>,
    /// Which share of the folders that were taken over was verified, 0 to 31.
    #[serde(default)]
    pub share: u8,
    /// The first path that the next snapshot verifies of what a change list does not name; missing
    /// where it begins with the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_to: Option<RawBytes>,
    /// When the last walk began that looked at everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_scan: Option<Moment>,
}

/// A confirmed record naming a root page at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Snapshot {
    /// The snapshot's own id, equal to the object's name.
    pub id: SnapshotId,
    /// Top page of the sorted map of entries.
    pub root: ChunkId,
    /// The time the snapshot is of, as users see it (`--time`, else when it was begun).
    pub time: Moment,
    /// When the walk began; what changed later than just before it may have been missed and is
    /// read again by the next snapshot.
    pub scan_started: Moment,
    /// The machine it was taken on.
    pub host: String,
    /// Who took it.
    pub user: String,
    /// The sources as named, absolute.
    pub paths: Vec<RawBytes>,
    /// The streams, in the order in which they ran.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<StreamRecord>,
    /// Free words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Whether no policy may forget it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub pinned: bool,
    /// The ids that it had before its tags or its pin were changed, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub formerly: Vec<SnapshotId>,
    /// The job that took it, if a configured one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// The snapshot whose entries it was merged with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<SnapshotId>,
    /// How many sources could not be read, or not whole: 0 for a complete snapshot.
    #[serde(default)]
    pub problems: u64,
    /// Whether the record has a second copy: one that lacks it was damaged then. The first
    /// snapshots of version 1 had none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mirrored: bool,
    /// A partial snapshot: of what is no folder, only what changed in this window is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// What the next snapshot needs to take over parts unseen; nothing when it must look at
    /// everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continuation: Option<Continuation>,
    /// The rules by which files were left out. Nothing when that is not known: an older gabion took
    /// the snapshot, or the rules are too long for a record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excludes: Option<ExcludeRecord>,
    /// Counts.
    pub counts: SnapshotCounts,
    /// Version of the program that took it.
    pub program: String,
}

fn is_false(value: &bool) -> bool {
    !*value
}

impl Snapshot {
    /// Whether all of its sources are in it.
    pub fn is_complete(&self) -> bool {
        self.problems == 0 && self.window.is_none()
    }

    /// Whether this record stands in the place of `old`: it says that it was `old` before, and
    /// differs in nothing but id, tags and pin. Saying so is not enough, because anybody who can
    /// write snapshots can say so of any other; one that holds the same is at least no loss.
    pub fn replaces(&self, old: &Self) -> bool {
        let knows = |id: &SnapshotId| self.formerly.contains(id);
        knows(&old.id)
            && old.formerly.iter().all(knows)
            && !old.formerly.contains(&self.id)
            && self.without_labels() == old.without_labels()
    }

    /// What no change of tags or pin touches.
    fn without_labels(&self) -> Self {
        Self {
            id: SnapshotId([0; 16]),
            tags: Vec::new(),
            pinned: false,
            formerly: Vec::new(),
            ..self.clone()
        }
    }
}

impl Snapshot {
    /// The record of a complete snapshot of which nothing is known but its root and its time.
    pub fn bare(id: SnapshotId, root: ChunkId, time: Moment) -> Self {
        Self {
            id,
            root,
            time,
            scan_started: time,
            host: String::new(),
            user: String::new(),
            paths: Vec::new(),
            streams: Vec::new(),
            tags: Vec::new(),
            pinned: false,
            formerly: Vec::new(),
            job: None,
            parent: None,
            problems: 0,
            mirrored: false,
            window: None,
            continuation: None,
            excludes: None,
            counts: SnapshotCounts::default(),
            program: String::new(),
        }
    }
}

/// A root that is not (or not yet) a confirmed snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", tag = "kind")]
pub enum Root {
    /// All that a snapshot will be, published before the last look at the marks.
    Tentative {
        /// The session it belongs to.
        session: SessionId,
        /// The snapshot as it will be confirmed.
        snapshot: Box<Snapshot>,
    },
    /// How far an unfinished snapshot has come: later runs take finished files over from it.
    Checkpoint {
        /// The session it belongs to.
        session: SessionId,
        /// Top page of the entries so far.
        root: ChunkId,
        /// See [`Snapshot::scan_started`].
        scan_started: Moment,
        /// See [`Snapshot::host`].
        host: String,
        /// See [`Snapshot::paths`].
        paths: Vec<RawBytes>,
    },
}

/// What lies in the place of a snapshot that was announced and must never be confirmed any more: a
/// name is used once, so whoever comes to confirm it finds that it is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GivenUp {
    /// The id that the snapshot would have had, equal to the object's name.
    pub given_up: SnapshotId,
}

/// What tells one process of a machine from every other that ran there or will.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProcessIdentity {
    /// The machine's boot: random, made anew at every start of its kernel.
    pub boot: String,
    /// The space of process numbers in which the process has its own (containers have others).
    pub namespace: u64,
    /// When the process was started, in the kernel's ticks since the boot.
    pub started: u64,
}

/// A writer's or pruner's announced presence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Session {
    /// The session's own id, equal to the object's name.
    pub id: SessionId,
    /// "snapshot", "tag", "forget" or "prune".
    pub role: String,
    /// The machine, for people.
    pub host: String,
    /// The process there, for people.
    pub process: u32,
    /// When it began by its own clock, for people; nothing is decided by it.
    pub started: Moment,
    /// What a process of the same machine can tell by whether this one still lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<ProcessIdentity>,
    /// Snapshots that it removes: until the session ends they count as removed, however far it
    /// came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forgets: Vec<SnapshotId>,
    /// Nobody is at work: this is the trace that a finished removal leaves, so that other clients
    /// need not wonder where the snapshots are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub over: bool,
}

impl Session {
    /// Whether it confirms snapshots, and so relies on packs.
    pub fn writes(&self) -> bool {
        !matches!(self.role.as_str(), "prune" | "forget")
    }
}

/// The announced condemnation of packs: monotone, never taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Mark {
    /// The pruner's session.
    pub session: SessionId,
    /// The packs that no new snapshot may rely on.
    pub packs: Vec<PackId>,
    /// The sessions that were announced when the packs had been marked already, and may not have
    /// seen that: until they end no pack is deleted. Where this is not known, all sessions count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<Vec<SessionId>>,
}

/// Encodes a record as the JSON that is sealed.
///
/// # Panics
/// Never for the records of this module: they hold nothing that JSON cannot express.
pub fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    serde_json::to_vec(record).expect("records are plain data")
}

/// Decodes a record; unknown fields are left out, so that later versions may add some.
///
/// # Errors
/// When `bytes` are no such record.
pub fn decode<'a, T: Deserialize<'a>>(
    what: &'static str,
    bytes: &'a [u8],
) -> Result<T, DecodeError> {
    if bytes.len() as u64 > MAX_RECORD_LEN {
        return Err(DecodeError::new(what, "too long"));
    }
    serde_json::from_slice(bytes).map_err(|error| DecodeError::new(what, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let moment = Moment { seconds: 1_700_000_000, nanos: 5 };
        Snapshot {
            id: SnapshotId([1; 16]),
            root: ChunkId([2; 32]),
            time: moment,
            scan_started: moment,
            host: "box".into(),
            user: "me".into(),
            paths: vec![RawBytes(b"/a".to_vec()), RawBytes(b"/\xff".to_vec())],
            streams: vec![StreamRecord {
                name: "db.sql".into(),
                started: moment,
                ended: moment,
                bytes: 1,
                format: None,
                origin: Some(StreamOrigin {
                    kind: "postgresql".into(),
                    database: Some("db".into()),
                    tool: None,
                    server: Some("15.1".into()),
                    settings: [("encoding".to_owned(), "UTF8".to_owned())].into(),
                    counted: [("tables".to_owned(), 2)].into(),
                }),
                rows: Some([("public.t".to_owned(), 3)].into()),
            }],
            tags: vec!["nightly".into()],
            pinned: false,
            formerly: Vec::new(),
            job: None,
            parent: Some(SnapshotId([3; 16])),
            problems: 0,
            mirrored: true,
            window: Some(Window { since: Some(Moment { seconds: 5, nanos: 0 }), until: None }),
            continuation: Some(Continuation {
                rules: ChunkId([5; 32]),
                unsure: vec![RawBytes(b"a/b".to_vec())],
                share: 31,
                verified_to: Some(RawBytes(b"a/c".to_vec())),
                full_scan: Some(Moment { seconds: 4, nanos: 0 }),
            }),
            excludes: Some(ExcludeRecord {
                patterns: vec![RawBytes(b"*.tmp".to_vec())],
                ..ExcludeRecord::default()
            }),
            counts: SnapshotCounts::default(),
            program: "0.1.0".into(),
        }
    }

    #[test]
    fn records_round_trip() {
        let bytes = encode(&snapshot());
        assert_eq!(decode::<Snapshot>("snapshot", &bytes).unwrap(), snapshot());
        let root = Root::Tentative { session: SessionId([4; 16]), snapshot: Box::new(snapshot()) };
        assert_eq!(decode::<Root>("root", &encode(&root)).unwrap(), root);
    }

    #[test]
    fn a_record_replaces_only_what_it_names_and_equals() {
        let old = snapshot();
        let id = SnapshotId([9; 16]);
        let new = Snapshot {
            id,
            tags: Vec::new(),
            pinned: true,
            formerly: vec![SnapshotId([8; 16]), old.id],
            ..old.clone()
        };
        assert!(new.replaces(&old));
        assert!(!old.replaces(&new) && !new.replaces(&new) && !old.replaces(&old));
        assert!(!Snapshot { formerly: Vec::new(), ..new.clone() }.replaces(&old));
        assert!(
            !Snapshot { root: ChunkId([7; 32]), ..new.clone() }.replaces(&old),
            "other content"
        );
        assert!(!Snapshot { problems: 1, ..new.clone() }.replaces(&old));
        let moment = Moment { seconds: 1, nanos: 0 };
        assert!(!Snapshot { time: moment, ..new.clone() }.replaces(&old));
        let unknown = Snapshot { formerly: vec![SnapshotId([7; 16])], ..old.clone() };
        assert!(!new.replaces(&unknown), "it does not know all of its history");
        let circle = Snapshot { formerly: vec![id], ..old.clone() };
        let own = Snapshot { formerly: vec![old.id, id], ..new };
        assert!(!own.replaces(&circle) && !circle.replaces(&own), "neither of a circle");
        let bytes = encode(&own);
        assert_eq!(decode::<Snapshot>("snapshot", &bytes).unwrap(), own);
    }

    #[test]
    fn unknown_fields_are_left_out_and_missing_ones_refused() {
        let text = String::from_utf8(encode(&snapshot())).unwrap();
        let more = text.replacen('{', "{\"of-a-later-version\":[1,2],", 1);
        assert_eq!(decode::<Snapshot>("snapshot", more.as_bytes()).unwrap(), snapshot());
        let less = text.replace("\"host\"", "\"hoist\"");
        assert!(decode::<Snapshot>("snapshot", less.as_bytes()).is_err());
        assert!(decode::<Snapshot>("snapshot", &[b' '; (1 << 20) + 1]).is_err());
    }
}
