//! Lists one folder with the attributes of all that is in it: two system calls for the folder's
//! names, one for each item, and no memory of its own for any of them. Where a folder is large and
//! nobody else is at work, several threads ask for the attributes.

use std::ffi::CStr;
use std::io;
use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::Arc;

use rustix::fd::{AsFd as _, BorrowedFd};
use rustix::fs::{AtFlags, Mode, OFlags, RawDir, StatxFlags, openat, statx};
use rustix::io::{Errno, retry_on_intr};

use super::exclude::{FolderRules, FolderView};
use super::filesystem::{Identity, Upkeep};
use super::open::Roots;
use super::parallel::Node;
use super::plan::{Fate, Folder, Item, Policy, READ_ATTRIBUTES, READ_FOLDER};
use super::probe::Call;
use super::{SourceError, Stat, kind_of_mode, permission_bits};
use crate::format::entry::{EntryKind, Timestamp};

/// Room for the names that the kernel returns at once.
const NAMES_AT_ONCE: usize = 256 << 10;

/// Items of a folder for which it pays to have a thread ask for the attributes.
const ITEMS_PER_THREAD: usize = 256;

/// Memory that a listing thread uses again and again.
pub(crate) struct Scratch {
    names: Vec<u8>,
    path: Vec<u8>,
    /// Where names are in those of the listing.
    found: Vec<Range<usize>>,
    /// Threads that may ask for attributes.
    threads: usize,
}

impl Scratch {
    /// For listing folders with so many threads.
    pub(crate) fn new(threads: usize) -> Self {
        let names = Vec::with_capacity(NAMES_AT_ONCE);
        Self { names, path: Vec::new(), found: Vec::new(), threads }
    }
}

/// What the consumer does with an item.
#[derive(Debug)]
pub(crate) enum Step {
    Keep,
    Excluded,
    Ignore,
    Enter(Arc<Node>),
    /// A folder that the caller looks after.
    Defer(Box<Folder>),
}

#[derive(Debug)]
struct Listed {
    name_at: usize,
    name_len: usize,
    stat: Stat,
    step: Step,
}

/// A listed folder.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// All names, one after the other, each ended by a zero.
    names: Vec<u8>,
    items: Vec<Listed>,
    /// Indices of `items` by name, each with the first bytes of the name.
    order: Vec<(u64, u32)>,
    /// What could not be read, most recent first.
    pub(crate) problems: Vec<SourceError>,
}

impl Listing {
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// The item at `position` in order of names.
    pub(crate) fn get(&self, position: usize) -> Option<(&[u8], &Stat, &Step)> {
        let &(_, index) = self.order.get(position)?;
        let item = self.items.get(usize::try_from(index).ok()?)?;
        Some((self.name(item), &item.stat, &item.step))
    }

    /// The attributes of the item of that name.
    pub(crate) fn find(&self, name: &[u8]) -> Option<&Stat> {
        let wanted = (first_bytes(name), name);
        let found = self.order.binary_search_by(|&(first, index)| {
            let item = usize::try_from(index).ok().and_then(|index| self.items.get(index));
            (first, item.map_or(&[][..], |item| self.name(item))).cmp(&wanted)
        });
        found.ok().and_then(|at| self.get(at)).map(|(_, stat, _)| stat)
    }

    fn name(&self, item: &Listed) -> &[u8] {
        &self.names[item.name_at..item.name_at + item.name_len]
    }

    /// The folders to enter, in order of names.
    pub(crate) fn folders(&self) -> impl Iterator<Item = &Arc<Node>> {
        (0..self.len()).filter_map(|position| match self.get(position) {
            Some((_, _, Step::Enter(node))) => Some(node),
            _ => None,
        })
    }

    fn sort(&mut self) -> io::Result<()> {
        let count = u32::try_from(self.items.len()).map_err(|_| Errno::OVERFLOW)?;
        self.order.reserve_exact(self.items.len());
        for (index, item) in (0..count).zip(&self.items) {
            self.order.push((first_bytes(self.name(item)), index));
        }
        let (names, items) = (&self.names, &self.items);
        let name = |index: u32| {
            let item = usize::try_from(index).ok().and_then(|index| items.get(index));
            item.map_or(&[][..], |item| &names[item.name_at..item.name_at + item.name_len])
        };
        self.order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| name(a.1).cmp(name(b.1))));
        Ok(())
    }
}

/// The first eight bytes of a name as a number that sorts like them; short names are filled up
/// with zeros, which no name contains.
fn first_bytes(name: &[u8]) -> u64 {
    (0..8).fold(0, |sum, at| sum << 8 | u64::from(name.get(at).copied().unwrap_or(0)))
}

/// Items of a folder with their attributes, and what could not be read, in the order of the names.
struct Items {
    items: Vec<Listed>,
    problems: Vec<SourceError>,
}

/// A folder being listed.
pub(super) struct Job<'a> {
    pub(super) policy: &'a Policy,
    pub(super) roots: &'a Roots,
    pub(super) folder: &'a Folder,
    pub(super) dir: BorrowedFd<'a>,
}

/// Lists `folder`. Never fails: what could not be read is among the listing's problems.
pub(crate) fn list(
    policy: &Policy,
    roots: &Roots,
    folder: &Folder,
    scratch: &mut Scratch,
) -> Listing {
    let mut listing = Listing::default();
    let opened = folder.handle.open_dir(folder.rel()).and_then(|dir| {
        let job = Job { policy, roots, folder, dir: dir.as_fd() };
        let end = job.read_items(scratch, &mut listing);
        listing.sort()?;
        job.judge_items(scratch, &mut listing);
        end
    });
    if let Err(error) = opened {
        listing.problems.push(SourceError::at(&folder.path, READ_FOLDER, error));
    }
    listing.problems.reverse();
    listing
}

impl Job<'_> {
    /// Reads names and attributes, in the order in which the kernel has them.
    fn read_items(&self, scratch: &mut Scratch, listing: &mut Listing) -> io::Result<()> {
        let end = self.read_names(scratch, listing);
        let threads = scratch.threads.min(scratch.found.len() / ITEMS_PER_THREAD);
        let looked = match threads {
            0 | 1 => self.look_at_all(&listing.names, &scratch.found),
            _ => self.look_at_all_at_once(&listing.names, &scratch.found, threads),
        };
        (listing.items, listing.problems) = (looked.items, looked.problems);
        end
    }

    /// Reads names, in the order in which the kernel has them.
    fn read_names(&self, scratch: &mut Scratch, listing: &mut Listing) -> io::Result<()> {
        scratch.names.clear();
        scratch.found.clear();
        self.roots.probe.before(Call::List, &self.folder.path)?;
        let mut names = RawDir::new(self.dir, scratch.names.spare_capacity_mut());
        while let Some(next) = names.next() {
            let entry = match next {
                Ok(entry) => entry,
                Err(Errno::INTR) => continue,
                // Removed after it was opened: empty, and normal.
                Err(Errno::NOENT) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let at = listing.names.len();
            listing.names.extend_from_slice(name.to_bytes_with_nul());
            scratch.found.push(at..listing.names.len());
        }
        Ok(())
    }

    /// The attributes of the items whose names are at `found` in `names`.
    fn look_at_all(&self, names: &[u8], found: &[Range<usize>]) -> Items {
        let mut looked = Items { items: Vec::with_capacity(found.len()), problems: Vec::new() };
        for range in found {
            let Ok(name) = CStr::from_bytes_with_nul(&names[range.clone()]) else { continue };
            match self.look_at(name) {
                Ok(stat) => {
                    let (name_at, name_len) = (range.start, range.len() - 1);
                    let step = Step::Keep;
                    looked.items.push(Listed { name_at, name_len, stat, step });
                }
                // Deleted since the kernel gave the name.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let mut path = Vec::new();
                    start_path(&self.folder.path, &mut path);
                    path.extend_from_slice(name.to_bytes());
                    looked.problems.push(SourceError::at(&path, READ_ATTRIBUTES, error));
                }
            }
        }
        looked
    }

    /// The same with so many threads.
    fn look_at_all_at_once(&self, names: &[u8], found: &[Range<usize>], threads: usize) -> Items {
        let mut parts = found.chunks(found.len().div_ceil(threads));
        let own = parts.next().unwrap_or_default();
        std::thread::scope(|scope| {
            let begin = |part| {
                let look = move || self.look_at_all(names, part);
                (part, std::thread::Builder::new().spawn_scoped(scope, look))
            };
            let others: Vec<_> = parts.map(begin).collect();
            let mut looked = self.look_at_all(names, own);
            for (part, thread) in others {
                let more = match thread {
                    Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
                    // There are no more threads to be had.
                    Err(_) => self.look_at_all(names, part),
                };
                looked.items.extend(more.items);
                looked.problems.extend(more.problems);
            }
            looked
        })
    }

    /// The attributes of an item of the folder.
    pub(super) fn look_at(&self, name: &CStr) -> io::Result<Stat> {
        self.roots.probe.before(Call::Look, name.to_bytes())?;
        let mut stat = stat_at(self.dir, name)?;
        if stat.dev == self.folder.dev {
            (stat.filesystem, stat.upkeep) = (self.folder.filesystem, self.folder.upkeep);
        } else {
            self.identify(&stat, name).describe(&mut stat);
        }
        self.roots.probe.told(&mut stat);
        Ok(stat)
    }

    fn identify(&self, stat: &Stat, name: &CStr) -> Identity {
        self.roots.filesystems.identify(stat, |readable| {
            let access = if readable { OFlags::RDONLY | OFlags::NONBLOCK } else { OFlags::PATH };
            let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            Ok(retry_on_intr(|| openat(self.dir, name, flags, Mode::empty()))?)
        })
    }

    /// What becomes of an item of the folder, which is subject to `rules`.
    pub(super) fn judge(
        &self,
        rules: &FolderRules,
        path: &[u8],
        name_at: usize,
        stat: &Stat,
    ) -> Fate {
        self.policy.judge(self.folder, rules, &Item { path, name_at, stat })
    }

    fn judge_items(&self, scratch: &mut Scratch, listing: &mut Listing) {
        let mut problems = Vec::new();
        let view = View { listing, dir: self.dir };
        let rules = self.folder.rules.enter(&self.folder.path, &view, &mut problems);
        listing.problems.append(&mut problems);
        let path = &mut scratch.path;
        start_path(&self.folder.path, path);
        let name_at = path.len();
        for &(_, index) in &listing.order {
            let Some(item) = usize::try_from(index).ok().and_then(|i| listing.items.get_mut(i))
            else {
                continue;
            };
            path.truncate(name_at);
            path.extend_from_slice(&listing.names[item.name_at..item.name_at + item.name_len]);
            let fate = self.judge(&rules, path, name_at, &item.stat);
            item.step = match fate {
                Fate::Keep => Step::Keep,
                Fate::Excluded => Step::Excluded,
                Fate::Ignore => Step::Ignore,
                Fate::Enter(folder) if self.policy.defers(&folder.path) => Step::Defer(folder),
                Fate::Enter(folder) => Step::Enter(Arc::new(Node::new(*folder))),
            };
        }
    }
}

/// Puts into `path` what stands before the name of an item of `folder`.
fn start_path(folder: &[u8], path: &mut Vec<u8>) {
    path.clear();
    path.extend_from_slice(folder);
    if !folder.is_empty() {
        path.push(b'/');
    }
}

/// The folder as the excludes see it.
struct View<'a> {
    listing: &'a Listing,
    dir: BorrowedFd<'a>,
}

impl FolderView for View<'_> {
    fn kind_of(&self, name: &[u8]) -> Option<EntryKind> {
        self.listing.find(name).map(|stat| stat.kind)
    }

    fn read_start(&self, name: &str, limit: usize) -> io::Result<Vec<u8>> {
        read_start_at(self.dir, name, limit)
    }
}

/// At most the first `limit` bytes of the file `name` in `dir`.
pub(super) fn read_start_at(dir: BorrowedFd<'_>, name: &str, limit: usize) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = std::fs::File::from(retry_on_intr(|| openat(dir, name, flags, Mode::empty()))?);
    super::read_start(file, limit)
}

/// The attributes of the item `name` in `dir`, or of `dir` itself when the name is empty, with
/// the identity of the file system left open.
pub(crate) fn stat_at(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Stat> {
    let own = if name.is_empty() { AtFlags::EMPTY_PATH } else { AtFlags::empty() };
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | own;
    let found = statx(dir, name, flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME)?;
    let Some(kind) = kind_of_mode(u32::from(found.stx_mode)) else {
        return Err(io::Error::from(io::ErrorKind::Unsupported));
    };
    let has_device = matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice);
    let device = rustix::fs::makedev(found.stx_rdev_major, found.stx_rdev_minor);
    // Where the file system keeps no time of creation the kernel leaves zeros.
    Ok(Stat {
        kind,
        mode: permission_bits(u32::from(found.stx_mode)),
        uid: found.stx_uid,
        gid: found.stx_gid,
        mtime: time(found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec),
        ctime: time(found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec),
        inode: found.stx_ino,
        filesystem: 0,
        links: found.stx_nlink,
        size: if kind == EntryKind::File { found.stx_size } else { 0 },
        device: if has_device { device } else { 0 },
        blocks_512: found.stx_blocks,
        dev: rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor),
        born: time(found.stx_btime.tv_sec, found.stx_btime.tv_nsec),
        upkeep: Upkeep::Foreign,
    })
}

fn time(seconds: i64, nanos: u32) -> Timestamp {
    Timestamp { seconds, nanos }
}
