//! Restoring what a hostile snapshot holds: nothing but the target may change.

mod entries;
mod jail;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use gabion::crypto::ChunkKind;
use gabion::crypto::passphrase::KdfCosts;
use gabion::format::entry::Entry;
use gabion::format::page::{Leaf, PageRef, Upper};
use gabion::format::path;
use gabion::format::snapshot::{Moment, Snapshot};
use gabion::id::{ChunkId, SnapshotId};
use gabion::ops::restore::{Overwrite, RestoreOptions, restore};
use gabion::repo::{InitOptions, PackClass, Repository, RepositoryError, Unlock, Worker, Writer};
use gabion::source::pattern::Patterns;
use gabion::storage::{MemoryStorage, ObjectName};
use gabion::target::{MetadataPolicy, OwnerPolicy};

use entries::{Bytes, Stored};
use jail::Jail;

/// How the restore is asked for; the first two bytes of an input.
struct Wish {
    overwrite: Option<Overwrite>,
    delete: bool,
    verify: bool,
    dry_run: bool,
    /// Links that lead out, and folders, lie in the target before.
    planted: bool,
    /// The rest of the input is the top page as it is.
    raw: bool,
    names: bool,
    /// Entries lie in pages as they come, not sorted.
    unsorted: bool,
    path: Option<Vec<u8>>,
}

impl Wish {
    fn of(first: u8, second: u8) -> Self {
        let overwrite = match first & 7 {
            0 => Some(Overwrite::Always),
            1 => Some(Overwrite::IfChanged),
            2 => Some(Overwrite::IfNewer),
            3 => Some(Overwrite::Never),
            _ => None,
        };
        let flag = |bit: u8| first & bit != 0;
        let path = match second >> 3 & 7 {
            5 => Some(b"a".to_vec()),
            6 => Some(b"a/b".to_vec()),
            7 => Some(Vec::new()),
            _ => None,
        };
        Self {
            overwrite,
            delete: flag(8) && overwrite.is_some(),
            verify: flag(16),
            dry_run: flag(32) && flag(64) && flag(128),
            planted: flag(64) && overwrite.is_some(),
            raw: second & 7 == 7,
            names: flag(128),
            unsorted: second & 7 == 6,
            path,
        }
    }
}

/// A repository with a few chunks, made once: to make one for each input would take longer than
/// the restore.
struct Base {
    storage: MemoryStorage,
    repository: Arc<Repository>,
    /// What it holds between two inputs.
    objects: BTreeSet<ObjectName>,
    stored: Stored,
}

static BASE: LazyLock<Base> = LazyLock::new(|| Base::new().expect("memory does not fail"));

impl Base {
    fn new() -> Result<Self, RepositoryError> {
        let storage = MemoryStorage::new();
        let options = InitOptions {
            unlock: Unlock::Nothing,
            costs: KdfCosts::default(),
            label: String::new(),
            now: "2026-11-22T00:00:00Z".to_owned(),
            parity_per_mille: None,
            delta: false,
        };
        Repository::init(&storage, "memory", &options)?;
        let place = Arc::new(storage.clone());
        let repository =
            Arc::new(Repository::open(place, "memory", &Unlock::Nothing, None, Arc::new(()))?);
        repository.load_index()?;
        let writer = Writer::new(&repository, 1);
        let mut worker = writer.worker(PackClass::Content)?;
        let stored = Stored::put(&mut worker)?;
        worker.flush()?;
        writer.checkpoint()?;
        let objects = storage.names().into_iter().collect();
        Ok(Self { storage, repository, objects, stored })
    }

    /// Takes away what the last input added: the same input always meets the same repository.
    fn tidy(&self) -> Result<(), RepositoryError> {
        for name in self.storage.names().into_iter().filter(|name| !self.objects.contains(name)) {
            self.storage.remove(name);
        }
        self.repository.load_index()
    }
}

/// Restores a made-up snapshot into a folder beside which others lie. Whatever the snapshot holds,
/// the restore ends, and what lies beside the target is as it was. The input is two bytes of
/// [`Wish`], then entries (see [`entries`]) or the top page.
pub fn restore_plan(data: &[u8]) {
    let Some((&[first, second], rest)) = data.split_first_chunk() else { return };
    let wish = Wish::of(first, second);
    let jail = Jail::new(wish.planted);
    let base = &*BASE;
    base.tidy().expect("memory does not fail");
    let root = store(base, &wish, rest, &jail).expect("memory does not fail");
    // Most inputs end with an error or with problems; only what is beside the target matters here.
    let _ = restore(&base.repository, options(wish, root, jail.target()));
    jail.check();
}

fn options(wish: Wish, root: ChunkId, target: PathBuf) -> RestoreOptions {
    RestoreOptions {
        snapshot: snapshot(root),
        path: wish.path,
        target,
        include: Patterns::default(),
        exclude: Patterns::default(),
        overwrite: wish.overwrite,
        delete: wish.delete,
        delete_excluded: wish.delete,
        protected: Vec::new(),
        dry_run: wish.dry_run,
        verify: wish.verify,
        policy: MetadataPolicy {
            owner: if wish.names { OwnerPolicy::Names } else { OwnerPolicy::Numbers },
            xattrs: true,
            special: true,
        },
        sync: false,
        threads: 1,
        interrupted: Arc::default(),
    }
}

/// Stores pages without any of the care that gabion takes, and returns the top one.
fn store(base: &Base, wish: &Wish, data: &[u8], jail: &Jail) -> Result<ChunkId, RepositoryError> {
    let writer = Writer::new(&base.repository, 1);
    let mut pages = writer.worker(PackClass::Pages)?;
    let root = if wish.raw {
        pages.store(ChunkKind::Page, data)?
    } else {
        // A file may be one hole of any length, and reading that back takes as long as it takes.
        let longest = if wish.verify { 1 << 20 } else { u64::MAX >> 1 };
        let leaves = entries::leaves(&mut Bytes(data), &base.stored, jail, longest);
        store_leaves(&mut pages, leaves, wish.unsorted)?
    };
    pages.flush()?;
    writer.checkpoint()?;
    Ok(root)
}

/// One leaf is the top page itself; several lie below an upper page, and what they hold may be in
/// any order: no decoder sees more than one page.
fn store_leaves(
    pages: &mut Worker,
    leaves: Vec<Vec<Entry>>,
    unsorted: bool,
) -> Result<ChunkId, RepositoryError> {
    let mut children = Vec::new();
    for mut entries in leaves {
        if !unsorted {
            entries.sort_by(|a, b| path::compare(&a.path, &b.path));
            entries.dedup_by(|a, b| a.path == b.path);
        }
        children.push(PageRef {
            first_path: entries.first().map_or_else(Box::default, |entry| entry.path.clone()),
            id: pages.store(ChunkKind::Page, &Leaf::encode(&entries))?,
            entries: entries.len() as u64,
            bytes: 0,
        });
    }
    if let [only] = &children[..] {
        return Ok(only.id);
    }
    if !unsorted {
        children.sort_by(|a, b| path::compare(&a.first_path, &b.first_path));
        children.dedup_by(|a, b| a.first_path == b.first_path);
    }
    pages.store(ChunkKind::Page, &Upper { height: 1, children }.encode())
}

fn snapshot(root: ChunkId) -> Snapshot {
    let time = Moment { seconds: 1_700_000_000, nanos: 0 };
    Snapshot::bare(SnapshotId([1; 16]), root, time)
}
