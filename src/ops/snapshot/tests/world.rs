//! The files of a simulated source. What they hold lies in real files, so that the real calls find
//! it; their numbers and times are the simulation's.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::random::Rng;
use crate::format::entry::{EntryKind, Timestamp};
use crate::source::{Stat, Upkeep};

const SECOND: i64 = 1_000_000_000;
const MILLISECOND: i64 = 1_000_000;
/// When the first run begins, in seconds, and how long it is from each to the next.
pub(super) const FIRST_RUN: i64 = 1_000_000;
pub(super) const RUN: i64 = 1000;

/// A file system of the simulation. Both have the same stored identity, as clones have.
#[derive(Debug)]
pub(super) struct Disk {
    dev: u64,
    upkeep: Upkeep,
    /// Times are multiples of this many nanoseconds, and this much older than the clock.
    tick: i64,
    lag: i64,
    /// All times are the same for ever.
    pub(super) stands_still: bool,
    /// Several files may have the same number.
    collides: bool,
    next_inode: u64,
    /// Numbers of files that are gone.
    free: Vec<u64>,
}

/// How the length in the attributes differs from the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lie {
    None,
    Zero,
    Longer,
    Shorter,
}

/// A file, directory or link.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) kind: EntryKind,
    pub(super) disk: usize,
    pub(super) inode: u64,
    pub(super) born: Timestamp,
    pub(super) lie: Lie,
    names: u32,
    /// In which states it has been, each from a step on.
    pub(super) states: Vec<(u64, State)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    /// Of a link, its target.
    pub(super) bytes: Vec<u8>,
    pub(super) mode: u16,
    pub(super) mtime: Timestamp,
    pub(super) ctime: Timestamp,
}

impl Object {
    fn state(&self) -> &State {
        &self.states.last().expect("it was made in some state").1
    }

    /// The states in which it was at some time between two steps.
    pub(super) fn states_within(&self, from: u64, to: u64) -> impl Iterator<Item = &State> {
        let ends = self.states.iter().skip(1).map(|(at, _)| *at).chain([u64::MAX]);
        let within = move |((at, _), end): &(&(u64, State), u64)| *at <= to && *end >= from;
        self.states.iter().zip(ends).filter(within).map(|((_, state), _)| state)
    }
}

/// A name that an object had.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) path: String,
    pub(super) object: usize,
    pub(super) from: u64,
    pub(super) to: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct World {
    pub(super) root: PathBuf,
    /// Where files are made before they get their names.
    beside: PathBuf,
    pub(super) rng: Rng,
    /// Calls and changes so far.
    pub(super) step: u64,
    /// Nanoseconds since 1970.
    pub(super) clock: i64,
    /// The clock may jump by years, and never stands still.
    pub(super) jumps: bool,
    pub(super) disks: [Disk; 2],
    pub(super) objects: Vec<Object>,
    by_real: HashMap<(u64, u64), usize>,
    names: BTreeMap<String, (usize, u64)>,
    pub(super) past: Vec<Name>,
    made: u64,
    pub(super) trace: Vec<String>,
}

/// The directories at first, and those that they may be renamed to.
const DIRECTORIES: [&str; 4] = ["d0", "d0/s", "d1", "d1/s"];
const OTHER_NAMES: [(&str, &str); 2] = [("d0/s", "d0/t"), ("d1/s", "d1/t")];
const FILES: [&str; 5] = ["a", "b", "c", "d", "e"];

pub(super) fn time(nanos: i64) -> Timestamp {
    let nanos_of_second = u32::try_from(nanos.rem_euclid(SECOND)).unwrap();
    Timestamp { seconds: nanos.div_euclid(SECOND), nanos: nanos_of_second }
}

fn disk_of(path: &str) -> usize {
    usize::from(path.starts_with("d1"))
}

impl World {
    pub(super) fn new(place: &Path, seed: u64) -> Self {
        let mut rng = Rng::of(seed, 1);
        let mut disk = |dev| {
            let foreign = rng.once_in(3);
            Disk {
                dev,
                upkeep: if foreign { Upkeep::Foreign } else { Upkeep::Kernel },
                tick: *rng.pick(&[1, 4 * MILLISECOND, 10 * MILLISECOND, SECOND, 2 * SECOND]),
                lag: *rng.pick(&[0, 3, 10]) * MILLISECOND,
                stands_still: foreign && rng.once_in(2),
                collides: foreign && rng.once_in(2),
                next_inode: 10,
                free: Vec::new(),
            }
        };
        let disks = [disk(1), disk(2)];
        let (root, beside) = (place.join("source"), place.join("beside"));
        fs::create_dir(&root).unwrap();
        fs::create_dir(&beside).unwrap();
        let jumps = rng.once_in(8);
        let mut world = Self {
            root,
            beside,
            rng,
            step: 1,
            clock: (FIRST_RUN - 500) * SECOND,
            jumps,
            disks,
            objects: Vec::new(),
            by_real: HashMap::new(),
            names: BTreeMap::new(),
            past: Vec::new(),
            made: 0,
            trace: Vec::new(),
        };
        for path in DIRECTORIES {
            world.make_directory(path);
        }
        for _ in 0..6 + world.rng.below(6) {
            world.change();
        }
        world
    }

    /// Sets the clock to so many nanoseconds before the start of a run.
    pub(super) fn set_clock(&mut self, run: i64, before: i64) {
        self.clock = (FIRST_RUN + run * RUN) * SECOND - before;
    }

    fn real(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn now(&self, disk: usize) -> Timestamp {
        let Disk { tick, lag, stands_still, .. } = self.disks[disk];
        if stands_still {
            return Timestamp { seconds: 5, nanos: 7 };
        }
        let clock = self.clock - lag;
        time(clock - clock.rem_euclid(tick))
    }

    fn free_inode(&mut self, disk: usize) -> u64 {
        let disk = &mut self.disks[disk];
        if disk.collides && self.rng.once_in(2) {
            return 5;
        }
        if !disk.free.is_empty() && !self.rng.once_in(4) {
            return disk.free.pop().unwrap();
        }
        disk.next_inode += 1;
        disk.next_inode
    }

    /// Takes a real item into the simulation, under a name that it has.
    fn adopt(&mut self, path: &str, kind: EntryKind, bytes: Vec<u8>, mode: u16) {
        let disk = disk_of(path);
        let now = self.now(disk);
        let metadata = self.real(path).symlink_metadata().unwrap();
        let lie = match self.disks[disk].upkeep {
            Upkeep::Foreign => {
                *self.rng.pick(&[Lie::None, Lie::None, Lie::Zero, Lie::Longer, Lie::Shorter])
            }
            _ => Lie::None,
        };
        let inode = self.free_inode(disk);
        let state = State { bytes, mode, mtime: now, ctime: now };
        let object = self.objects.len();
        let states = vec![(self.step, state)];
        self.objects.push(Object { kind, disk, inode, born: now, lie, names: 1, states });
        self.by_real.insert((metadata.dev(), metadata.ino()), object);
        self.names.insert(path.to_owned(), (object, self.step));
    }

    fn make_directory(&mut self, path: &str) {
        fs::create_dir(self.real(path)).unwrap();
        self.adopt(path, EntryKind::Directory, Vec::new(), 0o755);
    }

    /// Ends a name. Its object may be gone with it.
    fn drop_name(&mut self, path: &str) {
        let Some((object, from)) = self.names.remove(path) else { return };
        self.past.push(Name { path: path.to_owned(), object, from, to: self.step });
        self.objects[object].names -= 1;
        let Object { disk, inode, names, .. } = self.objects[object];
        if names == 0 {
            self.disks[disk].free.push(inode);
        } else {
            self.enter(object, |_| {});
        }
    }

    /// A new state of an object, which differs by `change` and in its ctime.
    fn enter(&mut self, object: usize, change: impl FnOnce(&mut State)) {
        let mut state = self.objects[object].state().clone();
        state.ctime = self.now(self.objects[object].disk);
        change(&mut state);
        self.objects[object].states.push((self.step, state));
    }

    /// Bytes that show whose they are and of which state.
    fn content(&mut self, len: Option<usize>) -> Vec<u8> {
        self.made += 1;
        let len = len.unwrap_or_else(|| usize::try_from(self.rng.below(4) * 40).unwrap());
        format!("<{}>", self.made).into_bytes().into_iter().cycle().take(len).collect()
    }

    pub(super) fn pick_name(&mut self) -> Option<String> {
        let directories: Vec<&String> = self.names.keys().collect();
        let at = usize::try_from(self.rng.below(directories.len() as u64)).unwrap();
        let found = directories.get(at).map(|path| (*path).clone());
        found.filter(|path| self.kind(path) != Some(EntryKind::Directory))
    }

    fn kind(&self, path: &str) -> Option<EntryKind> {
        self.names.get(path).map(|(object, _)| self.objects[*object].kind)
    }

    /// A path in a directory that exists, on the given disk if any.
    fn pick_path(&mut self, disk: Option<usize>) -> String {
        let is_here = |path: &&str| {
            self.names.contains_key(*path) && disk.is_none_or(|disk| disk_of(path) == disk)
        };
        let all = DIRECTORIES.iter().chain(OTHER_NAMES.iter().map(|(_, other)| other)).copied();
        let here: Vec<&str> = all.filter(is_here).collect();
        let directory = *self.rng.pick(&here);
        format!("{directory}/{}", self.rng.pick(&FILES))
    }

    fn is_directory(&self, path: &str) -> bool {
        self.kind(path) == Some(EntryKind::Directory)
    }

    /// Something happens.
    pub(super) fn change(&mut self) {
        self.step += 1;
        let steps = [0, 1000, MILLISECOND, 5 * MILLISECOND, 3 * SECOND / 2];
        self.clock += *self.rng.pick(&steps[usize::from(self.jumps) * 4..]);
        if self.jumps && self.rng.once_in(6) {
            self.clock += *self.rng.pick(&[-1, 1]) * 366 * 86_400 * SECOND;
        }
        let number = self.rng.below(16);
        let what = match number {
            0..=2 => self.create(),
            3 | 4 => self.remove(),
            5 => self.replace(),
            6 | 7 => self.rename(),
            8 | 9 => self.link(),
            10 | 11 => self.write(),
            12 => self.resize(),
            13 => self.change_mode(),
            14 => self.reuse(),
            _ => self.rename_directory(),
        };
        if let Some(what) = what {
            self.trace.push(format!("step {}: {what}", self.step));
        }
    }

    /// Makes a file or link at a path, with what was there gone at the same moment.
    fn put(&mut self, path: &str) {
        let beside = self.beside.join("new");
        let is_link = self.rng.once_in(6);
        let bytes = self.content(if is_link { Some(9) } else { None });
        if is_link {
            symlink(String::from_utf8(bytes.clone()).unwrap(), &beside).unwrap();
        } else {
            fs::write(&beside, &bytes).unwrap();
            fs::set_permissions(&beside, fs::Permissions::from_mode(0o644)).unwrap();
        }
        fs::rename(&beside, self.real(path)).unwrap();
        self.drop_name(path);
        let kind = if is_link { EntryKind::Symlink } else { EntryKind::File };
        self.adopt(path, kind, bytes, if is_link { 0o777 } else { 0o644 });
    }

    fn create(&mut self) -> Option<String> {
        let path = self.pick_path(None);
        if self.names.contains_key(&path) {
            return None;
        }
        if self.rng.once_in(12) {
            self.make_directory(&path);
            return Some(format!("made the directory {path}"));
        }
        self.put(&path);
        Some(format!("made {path}"))
    }

    fn replace(&mut self) -> Option<String> {
        let path = self.pick_name()?;
        self.put(&path);
        Some(format!("replaced {path}"))
    }

    fn remove(&mut self) -> Option<String> {
        let path = self.pick_name()?;
        fs::remove_file(self.real(&path)).unwrap();
        self.drop_name(&path);
        Some(format!("removed {path}"))
    }

    /// A file goes with all of its names, and a new one gets its number at once.
    fn reuse(&mut self) -> Option<String> {
        let path = self.pick_name()?;
        let (object, _) = self.names[&path];
        let is_of = |(_, (other, _)): &(&String, &(usize, u64))| *other == object;
        let all: Vec<String> =
            self.names.iter().filter(is_of).map(|(path, _)| path.clone()).collect();
        for path in &all {
            fs::remove_file(self.real(path)).unwrap();
            self.drop_name(path);
        }
        let new = self.pick_path(Some(self.objects[object].disk));
        if self.names.contains_key(&new) {
            return Some(format!("removed {all:?}"));
        }
        self.put(&new);
        let other = self.pick_path(Some(self.objects[object].disk));
        if self.kind(&new) == Some(EntryKind::File) && !self.names.contains_key(&other) {
            self.add_link(&new, &other);
        }
        Some(format!("removed {all:?}, made {new} and {other}"))
    }

    fn rename(&mut self) -> Option<String> {
        let from = self.pick_name()?;
        let to = self.pick_path(Some(disk_of(&from)));
        let (object, _) = self.names[&from];
        let is_same = self.names.get(&to).is_some_and(|(other, _)| *other == object);
        if is_same || self.is_directory(&to) {
            return None;
        }
        fs::rename(self.real(&from), self.real(&to)).unwrap();
        self.drop_name(&to);
        self.objects[object].names += 1;
        self.names.insert(to.clone(), (object, self.step));
        self.drop_name(&from);
        Some(format!("renamed {from} to {to}"))
    }

    fn add_link(&mut self, from: &str, to: &str) {
        fs::hard_link(self.real(from), self.real(to)).unwrap();
        let (object, _) = self.names[from];
        self.objects[object].names += 1;
        self.names.insert(to.to_owned(), (object, self.step));
        self.enter(object, |_| {});
    }

    fn link(&mut self) -> Option<String> {
        let from = self.pick_name()?;
        let to = self.pick_path(Some(disk_of(&from)));
        if self.names.contains_key(&to) {
            return None;
        }
        self.add_link(&from, &to);
        Some(format!("linked {from} to {to}"))
    }

    /// Other bytes of the same length, in place; now and then with the old time of modification.
    fn write(&mut self) -> Option<String> {
        let path = self.pick_name()?;
        let object = self.file_at(&path)?;
        let bytes = self.content(Some(self.objects[object].state().bytes.len()));
        self.set_content(&path, object, bytes);
        Some(format!("wrote {path}"))
    }

    /// The same to the file at a path of the scan's form, if it has one.
    pub(super) fn write_to(&mut self, path: &[u8]) {
        let root = self.root.to_str().unwrap().len();
        let path = String::from_utf8(path.get(root..).unwrap_or_default().to_vec()).unwrap();
        if self.kind(&path) == Some(EntryKind::File) {
            self.step += 1;
            self.clock += 20 * MILLISECOND;
            let (object, _) = self.names[&path];
            let bytes = self.content(Some(self.objects[object].state().bytes.len()));
            self.set_content(&path, object, bytes);
            self.trace.push(format!("step {}: wrote {path} while it is read", self.step));
        }
    }

    fn resize(&mut self) -> Option<String> {
        let path = self.pick_name()?;
        let object = self.file_at(&path)?;
        let old = self.objects[object].state().bytes.clone();
        let bytes = match self.rng.below(3) {
            0 => old[..old.len() / 2].to_vec(),
            1 => [old, self.content(Some(40))].concat(),
            _ => self.content(None),
        };
        self.set_content(&path, object, bytes);
        Some(format!("resized {path}"))
    }

    fn file_at(&self, path: &str) -> Option<usize> {
        let (object, _) = self.names[path];
        (self.objects[object].kind == EntryKind::File).then_some(object)
    }

    fn set_content(&mut self, path: &str, object: usize, bytes: Vec<u8>) {
        fs::write(self.real(path), &bytes).unwrap();
        let now = self.now(self.objects[object].disk);
        let keeps_mtime = self.rng.once_in(3);
        self.enter(object, |state| {
            state.bytes = bytes;
            if !keeps_mtime {
                state.mtime = now;
            }
        });
    }

    fn change_mode(&mut self) -> Option<String> {
        let path = self.pick_name()?;
        let object = self.file_at(&path)?;
        let mode = *self.rng.pick(&[0o600_u16, 0o640, 0o644, 0o755]);
        fs::set_permissions(self.real(&path), fs::Permissions::from_mode(mode.into())).unwrap();
        self.enter(object, |state| state.mode = mode);
        Some(format!("changed the mode of {path}"))
    }

    fn rename_directory(&mut self) -> Option<String> {
        let (one, other) = *self.rng.pick(&OTHER_NAMES);
        let (from, to) = if self.names.contains_key(one) { (one, other) } else { (other, one) };
        fs::rename(self.real(from), self.real(to)).unwrap();
        let prefix = format!("{from}/");
        let is_within = |path: &&String| **path == *from || path.starts_with(&prefix);
        let within: Vec<String> = self.names.keys().filter(is_within).cloned().collect();
        for path in within {
            let (object, since) = self.names.remove(&path).unwrap();
            let new = format!("{to}{}", &path[from.len()..]);
            self.past.push(Name { path, object, from: since, to: self.step });
            self.names.insert(new, (object, self.step));
        }
        Some(format!("renamed the directory {from} to {to}"))
    }

    /// Ends all names as far as the past goes.
    pub(super) fn all_names(&self) -> impl Iterator<Item = Name> {
        let past = self.past.iter().map(|name| Name { path: name.path.clone(), ..*name });
        let now = self.names.iter().map(|(path, (object, from))| Name {
            path: path.clone(),
            object: *object,
            from: *from,
            to: u64::MAX,
        });
        past.chain(now)
    }

    /// What the attributes of an item are, of which the kernel told the real ones.
    pub(super) fn told(&self, stat: &mut Stat) -> Option<usize> {
        let object = *self.by_real.get(&(stat.dev, stat.inode))?;
        let found = &self.objects[object];
        let (disk, state) = (&self.disks[found.disk], found.state());
        (stat.dev, stat.inode, stat.upkeep, stat.filesystem) =
            (disk.dev, found.inode, disk.upkeep, 77);
        (stat.mtime, stat.ctime, stat.born) = (state.mtime, state.ctime, found.born);
        if found.kind == EntryKind::File {
            let len = state.bytes.len() as u64;
            stat.size = match found.lie {
                Lie::None => len,
                Lie::Zero => 0,
                Lie::Longer => len + 7,
                Lie::Shorter => len / 2,
            };
            stat.blocks_512 = 8;
        }
        Some(object)
    }
}
