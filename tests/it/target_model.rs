//! Random snapshots restored over random targets with random options and faults: afterwards each
//! file is as it was before or as the snapshot has it, and nothing else has changed.
#![expect(clippy::disallowed_methods, reason = "lays out sources and targets by hand")]

mod kills;
mod trees;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use gabion::format::snapshot::Snapshot;
use gabion::ops::OpError;
use gabion::ops::restore::{Overwrite, RestoreOptions, RestoreSummary, restore};
use gabion::source::exclude::ExcludesBuilder;
use gabion::source::pattern::Patterns;
use gabion::storage::ObjectKind;
use rustix::process::Uid;
use rustix::thread::set_thread_res_uid;

use crate::snapshot_op::World;
use trees::{Item, Random, Seen, State, Tree, lay_out, observe, random_file, random_tree};

/// Set in the process that runs the cases: it has mounts of its own.
const INSIDE: &str = "GABION_TARGET_MODEL_IN";
/// Cases of a run of the tests.
const CASES: u64 = 2500;
/// Targets that one snapshot is restored over.
const TARGETS: u64 = 10;
/// The user that a part of the restores is made as.
const OTHER_USER: u32 = 65_534;

/// What is done to a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// The disk has room for so many further files.
    Full(u64),
    /// The restore is made by a user who may write to a part of the target only.
    OtherUser,
    /// Some packs of the repository are damaged.
    Damage,
}

struct Case {
    seed: u64,
    overwrite: Option<Overwrite>,
    delete: bool,
    delete_excluded: bool,
    exclude: Vec<String>,
    fault: Fault,
}

impl Case {
    fn of(seed: u64, random: &mut Random, can_mount: bool) -> Self {
        let overwrite = match random.below(8) {
            0..=2 => Overwrite::Always,
            3..=5 => Overwrite::IfChanged,
            6 => Overwrite::IfNewer,
            _ => Overwrite::Never,
        };
        let fault = match random.below(6) {
            0 | 1 if can_mount => Fault::Full(random.below(12)),
            2 if can_mount => Fault::OtherUser,
            3 => Fault::Damage,
            _ => Fault::None,
        };
        let delete = random.one_in(2);
        Self {
            seed,
            overwrite: Some(overwrite),
            delete,
            delete_excluded: delete && random.one_in(3),
            exclude: if random.one_in(6) { vec!["d".to_owned()] } else { Vec::new() },
            fault,
        }
    }
}

/// A snapshot and what its source looked like.
struct Source {
    world: World,
    snapshot: Snapshot,
    tree: Tree,
    state: State,
}

fn is_excluded(path: &str) -> bool {
    path.split('/').any(|name| name.ends_with(".tmp"))
}

fn source(place: &Path, tree: Tree) -> Source {
    let root = place.join("source");
    fs::create_dir(&root).unwrap();
    lay_out(&root, &tree);
    let world = World::new();
    let patterns = vec!["*.tmp".into()];
    let excludes = ExcludesBuilder { patterns, ..ExcludesBuilder::default() }.build().unwrap();
    let taken = world.take(|options| {
        options.paths = vec![root.clone()];
        options.excludes = excludes;
    });
    let mut state = observe(&root);
    state.retain(|path, _| !is_excluded(path));
    fs::remove_dir_all(&root).unwrap();
    Source { world, snapshot: taken.unwrap().snapshot.unwrap(), tree, state }
}

/// A target that something lies in already: a copy of the source with changes, or another tree.
fn target_tree(random: &mut Random, source: &Tree) -> Tree {
    if random.one_in(4) {
        let era = 5_000_000 * random.below(2) + 10_000;
        return random_tree(random, era);
    }
    let mut tree = source.clone();
    for _ in 0..random.below(5) {
        let paths: Vec<String> = tree.keys().cloned().collect();
        if paths.is_empty() {
            break;
        }
        let path = random.pick(&paths).clone();
        let inside = format!("{path}/");
        tree.retain(|other, item| {
            let gone =
                |path: &str| path == &inside[..inside.len() - 1] || path.starts_with(&inside);
            !gone(other) && !matches!(item, Item::Name(first) if gone(first))
        });
        let files: Vec<String> = tree
            .iter()
            .filter(|(_, item)| matches!(item, Item::File { .. }))
            .map(|(path, _)| path.clone())
            .collect();
        let new = match random.below(7) {
            0 => continue,
            1 => Item::Folder,
            2 => Item::Link("../beside".to_owned()),
            3 => Item::Pipe,
            4 | 5 if !files.is_empty() => Item::Name(random.pick(&files).clone()),
            _ => random_file(random, 3_000_000),
        };
        if new == Item::Folder {
            tree.insert(format!("{path}/e"), random_file(random, 3_000_000));
            tree.insert(format!("{path}/x"), random_file(random, 3_000_000));
        }
        tree.insert(path, new);
    }
    tree
}

/// Lays out a target and what lies beside it, some of it linked with files of the target.
fn prepare(place: &Path, random: &mut Random, tree: &Tree) {
    for folder in ["target", "beside", "beside/b"] {
        fs::create_dir(place.join(folder)).unwrap();
    }
    lay_out(&place.join("target"), tree);
    fs::write(place.join("beside/own"), "own").unwrap();
    symlink("own", place.join("beside/link")).unwrap();
    let files: Vec<&String> = tree
        .iter()
        .filter(|(_, item)| matches!(item, Item::File { .. }))
        .map(|(path, _)| path)
        .collect();
    for (number, path) in files.iter().enumerate() {
        if random.one_in(4) {
            let name = place.join(format!("beside/{number}"));
            fs::hard_link(place.join("target").join(path), name).unwrap();
        }
    }
}

fn options(source: &Source, case: &Case, target: &Path) -> RestoreOptions {
    RestoreOptions {
        overwrite: case.overwrite,
        delete: case.delete,
        delete_excluded: case.delete_excluded,
        exclude: Patterns::new(&case.exclude).unwrap(),
        verify: false,
        threads: 1,
        ..crate::restore_op::options(&source.snapshot, target)
    }
}

fn run(source: &Source, case: &Case, place: &Path) -> Result<RestoreSummary, OpError> {
    let world = source.world.again();
    let options = options(source, case, &place.join("target"));
    if case.fault == Fault::Damage {
        let mut packs =
            world.storage.names().into_iter().filter(|name| name.kind == ObjectKind::Pack);
        if let Some(name) = packs.next() {
            let sound = world.storage.get(name).unwrap();
            let mut bytes = sound.to_vec();
            let at = usize::try_from(case.seed).unwrap() * 31 % bytes.len();
            bytes[at] ^= 1;
            world.storage.put(name, bytes);
            let done = restore(&world.repository, options);
            world.storage.put(name, sound.to_vec());
            return done;
        }
    }
    if case.fault == Fault::OtherUser {
        let uid = |number| {
            set_thread_res_uid(None::<Uid>, Uid::from_raw(number), None::<Uid>).unwrap();
        };
        uid(OTHER_USER);
        let done = restore(&world.repository, options);
        uid(0);
        return done;
    }
    restore(&world.repository, options)
}

/// What is wrong with the target after a restore, if anything is.
fn judge(
    source: &Source,
    case: &Case,
    before: &State,
    after: &State,
    summary: Option<&RestoreSummary>,
) -> Result<(), String> {
    let mut paths: Vec<&String> = before.keys().chain(source.state.keys()).collect();
    paths.extend(after.keys());
    paths.sort();
    paths.dedup();
    let is_clean = summary.is_some_and(|summary| summary.problems == 0);
    // Otherwise a directory may be kept in the place of a file, with all that is in it.
    let replaces = matches!(case.overwrite, Some(Overwrite::Always | Overwrite::IfChanged));
    for path in paths {
        let (old, new) = (before.get(path), source.state.get(path));
        let now = after.get(path);
        if path.contains(".gabion-restore-") {
            return Err(format!("{path}: a temporary item is left"));
        }
        let wanted = !case.exclude.iter().any(|name| path.split('/').any(|part| part == name));
        let new = new.filter(|_| wanted);
        let content = |seen: Option<&Seen>| seen.map(|seen| seen.what.clone());
        let is_old = content(now) == content(old);
        let is_new = content(now) == content(new);
        // An item that is in no directory of that name any more went with what it lay in.
        let went = now.is_none() && is_replaced_above(path, source, after);
        let spared = is_excluded(path) && !case.delete_excluded || !wanted;
        let may_go = new.is_none() && ((case.delete && !spared) || went);
        if !is_old && !(is_new && (new.is_some() || may_go)) && !(now.is_none() && old.is_none()) {
            return Err(format!("{path}: neither old nor new: {old:?} {new:?} {now:?}"));
        }
        let (Some(now), true) = (now, is_clean) else {
            if is_clean && replaces && now.is_none() && new.is_some() {
                return Err(format!("{path}: it was not restored"));
            }
            continue;
        };
        let must_go = case.delete && replaces && new.is_none() && !spared;
        if is_clean && must_go && !holds_spared(path, case, after) {
            return Err(format!("{path}: it was not deleted"));
        }
        let Some(new) = new else { continue };
        let keeps = match case.overwrite {
            Some(Overwrite::Never) => old.is_some(),
            Some(Overwrite::IfNewer) => old.is_some_and(|old| old.mtime >= new.mtime),
            _ => false,
        };
        if !new.is_folder() && !keeps && !now.is_like(new) {
            return Err(format!("{path}: not as in the snapshot: {new:?} {now:?}"));
        }
    }
    // Another user may not link to the files of others: each name is a file of its own then.
    let are_linked = summary.is_some_and(|summary| summary.unlinked == 0);
    if is_clean && replaces && are_linked && case.exclude.is_empty() {
        same_links(source, after)
    } else {
        Ok(())
    }
}

/// Whether what `path` lay in is no directory any more, and is to be none.
fn is_replaced_above(path: &str, source: &Source, after: &State) -> bool {
    path.match_indices('/').any(|(at, _)| {
        let above = &path[..at];
        source.state.get(above).is_some_and(|new| !new.is_folder())
            && after.get(above).is_some_and(|now| !now.is_folder())
    })
}

/// Whether a directory holds something that is not to be deleted.
fn holds_spared(path: &str, case: &Case, after: &State) -> bool {
    let inside = format!("{path}/");
    after.keys().any(|other| {
        other.starts_with(&inside)
            && (is_excluded(other) && !case.delete_excluded
                || case.exclude.iter().any(|name| other.split('/').any(|part| part == name)))
    })
}

/// Which names are one file must be as in the snapshot.
fn same_links(source: &Source, after: &State) -> Result<(), String> {
    let (mut to, mut from) = (BTreeMap::new(), BTreeMap::new());
    for (path, new) in source.state.iter().filter(|(_, new)| !new.is_folder()) {
        let Some(now) = after.get(path) else { continue };
        if *to.entry(new.inode).or_insert(now.inode) != now.inode {
            return Err(format!("{path}: a file of its own, which it is not in the snapshot"));
        }
        if *from.entry(now.inode).or_insert(new.inode) != new.inode {
            return Err(format!("{path}: one with another file, which it is not in the snapshot"));
        }
    }
    Ok(())
}

fn mount(place: &Path, options: &str) -> bool {
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", options, "none"]).arg(place);
    mount.status().is_ok_and(|status| status.success())
}

/// Leaves room for so many further files.
fn leave_room(disk: &Path, files: u64) {
    let about = rustix::fs::statvfs(disk).unwrap();
    let inodes = about.f_files - about.f_ffree + files;
    assert!(mount(disk, &format!("remount,nr_inodes={inodes}")));
}

/// Runs one case in the empty directory `place`; says what is wrong.
fn run_case(
    source: &Source,
    case: &mut Case,
    random: &mut Random,
    disk: Option<&Path>,
    place: &Path,
) -> Result<(), String> {
    let tree = target_tree(random, &source.tree);
    prepare(place, random, &tree);
    let (target, beside) = (place.join("target"), place.join("beside"));
    if case.fault == Fault::OtherUser {
        for path in observe(&target).keys().chain([&String::new()]) {
            if random.one_in(2) {
                std::os::unix::fs::lchown(target.join(path), Some(OTHER_USER), None).unwrap();
            }
        }
    }
    let (before, beside_before) = (observe(&target), observe(&beside));
    if let (Fault::Full(files), Some(disk)) = (case.fault, disk) {
        leave_room(disk, files);
    }
    let done = run(source, case, place);
    if let (Fault::Full(_), Some(disk)) = (case.fault, disk) {
        leave_room(disk, 1 << 20);
    }
    let after = observe(&target);
    judge(source, case, &before, &after, done.as_ref().ok())?;
    let beside_after = observe(&beside);
    if beside_after != beside_before {
        return Err(format!("what lies beside has changed: {beside_before:?} {beside_after:?}"));
    }
    if case.fault == Fault::None && done.is_err() {
        return Err(format!("it failed: {done:?}"));
    }
    // Whatever happened, the next restore makes it right.
    let again = Case {
        fault: Fault::None,
        overwrite: Some(Overwrite::Always),
        exclude: Vec::new(),
        ..*case
    };
    let again_before = observe(&target);
    let done = run(source, &again, place).map_err(|error| format!("again: {error}"))?;
    judge(source, &again, &again_before, &observe(&target), Some(&done))
        .map_err(|wrong| format!("again: {wrong}"))
}

fn all_cases(cases: u64, first: u64) -> u64 {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let can_mount = std::env::var_os(INSIDE).is_some();
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    assert!(!can_mount || mount(&disk, "size=200m"), "the process has mounts of its own");
    let mut clean = 0;
    let new_source = |seed| source(folder.path(), random_tree(&mut Random::new(seed), 1_000_000));
    let mut made = new_source(first);
    for seed in first..first + cases {
        if seed % TARGETS == 0 {
            made = new_source(seed);
        }
        let mut random = Random::new(seed + 77_777);
        let mut case = Case::of(seed, &mut random, can_mount);
        let place = disk.join("case");
        fs::create_dir(&place).unwrap();
        let judged = run_case(&made, &mut case, &mut random, can_mount.then_some(&*disk), &place);
        if let Err(wrong) = judged {
            let Case { overwrite, delete, delete_excluded, exclude, fault, .. } = case;
            panic!(
                "case {seed}: {overwrite:?} delete {delete} {delete_excluded} exclude {exclude:?} \
                 {fault:?}: {wrong}"
            );
        }
        clean += u64::from(case.fault == Fault::None);
        fs::remove_dir_all(&place).unwrap();
    }
    clean
}

/// How many cases, and the first one.
fn wished() -> (u64, u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    (number("GABION_TARGET_CASES").unwrap_or(CASES), number("GABION_TARGET_FIRST").unwrap_or(1))
}

#[test]
fn each_file_of_a_target_is_old_or_new_whatever_happens() {
    let (cases, first) = wished();
    if std::env::var_os(INSIDE).is_some() {
        let clean = all_cases(cases, first);
        println!("proof: {cases} restores over existing targets, {clean} of them without a fault");
        return;
    }
    let test = "target_model::each_file_of_a_target_is_old_or_new_whatever_happens";
    let mut inside = Command::new("unshare");
    inside.arg("-m").arg(std::env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]);
    let output = inside.env(INSIDE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    if errors.contains("unshare failed") {
        eprintln!("not run with full disks: this user cannot mount");
        all_cases(cases, first);
        return;
    }
    assert!(output.status.success(), "{said}\n{errors}");
    assert!(said.contains("proof: "), "{said}");
    print!("{said}");
}

/// What is done to a target that is right, and how.
type Planted<'a> = (&'a str, &'a dyn Fn(&mut State));

#[test]
fn the_judge_of_targets_finds_planted_faults() {
    let folder = tempfile::tempdir().unwrap();
    let file = |content: &[u8]| Item::File { content: content.to_vec(), mode: 0o644, mtime: 1 };
    let tree: Tree = [
        ("a", file(b"one")),
        ("b", Item::Name("a".to_owned())),
        ("d", Item::Folder),
        ("d/f", file(b"two")),
        ("d/k.tmp", file(b"excluded")),
    ]
    .map(|(path, item)| (path.to_owned(), item))
    .into();
    let root = folder.path().join("target");
    fs::create_dir(&root).unwrap();
    lay_out(&root, &tree);
    let made = source(folder.path(), tree);
    let case = Case {
        seed: 0,
        overwrite: Some(Overwrite::Always),
        delete: true,
        delete_excluded: false,
        exclude: Vec::new(),
        fault: Fault::None,
    };
    let before = observe(&root);
    let summary = RestoreSummary::default();
    let judged = |change: &dyn Fn(&mut State)| {
        let mut after = before.clone();
        change(&mut after);
        judge(&made, &case, &before, &after, Some(&summary))
    };
    judged(&|_| {}).unwrap();
    let changes: [Planted<'_>; 7] = [
        ("a file that was replaced half", &|state| state.get_mut("a").unwrap().what.1.clear()),
        ("a file that was lost", &|state| drop(state.remove("d/f"))),
        ("an excluded file that was deleted", &|state| drop(state.remove("d/k.tmp"))),
        ("a broken link", &|state| state.get_mut("b").unwrap().inode = 0),
        ("a joined link", &|state| {
            state.get_mut("d/f").unwrap().inode = state["a"].inode;
        }),
        ("a wrong mode", &|state| state.get_mut("d/f").unwrap().mode = 0o600),
        ("something that was left", &|state| {
            state.insert("d/.gabion-restore-0".to_owned(), state["a"].clone());
        }),
    ];
    for (what, change) in changes {
        assert!(judged(change).is_err(), "{what} was not found");
    }
}
