//! Random trees and random changes: however little is looked at, the snapshot is the one that a look
//! at everything gives.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// A change below the source; numbers choose among what is there.
#[derive(Debug, Clone)]
enum Step {
    Add { place: usize, name: usize, folder: bool },
    Remove { place: usize },
    Rename { from: usize, to: usize, name: usize },
    Edit { place: usize },
    Link { from: usize, to: usize, name: usize },
    Mode { place: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let n = || 0usize..1000;
    let step = prop_oneof![
        4 => (n(), n(), any::<bool>())
            .prop_map(|(place, name, folder)| Step::Add { place, name, folder }),
        2 => n().prop_map(|place| Step::Remove { place }),
        2 => (n(), n(), n()).prop_map(|(from, to, name)| Step::Rename { from, to, name }),
        2 => n().prop_map(|place| Step::Edit { place }),
        1 => (n(), n(), n()).prop_map(|(from, to, name)| Step::Link { from, to, name }),
        1 => n().prop_map(|place| Step::Mode { place }),
    ];
    proptest::collection::vec(step, 0..10)
}

fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_dir())
}

/// All that is in the source, in some fixed order, the source itself first.
fn all(source: &Path) -> Vec<PathBuf> {
    let mut found = vec![source.to_owned()];
    let mut at = 0;
    while at < found.len() {
        if is_folder(&found[at]) {
            let mut inner: Vec<_> =
                fs::read_dir(&found[at]).unwrap().map(|entry| entry.unwrap().path()).collect();
            inner.sort();
            found.extend(inner);
        }
        at += 1;
    }
    found
}

/// Applies a step. Below `store` nothing is changed in place, as its rule says.
fn apply(world: &World, step: &Step) {
    let source = world.source();
    let all = all(&source);
    let pick = |number: usize| all[number % all.len()].clone();
    let folder = |number: usize| {
        let path = pick(number);
        if is_folder(&path) { path } else { path.parent().unwrap().to_owned() }
    };
    let fixed =
        |path: &Path| path == source || path == world.path("store") || path == world.path("free");
    let written_once = |path: &Path| path.starts_with(world.path("store"));
    match *step {
        Step::Add { place, name, folder: true } => {
            let _ = fs::create_dir(folder(place).join(format!("d{}", name % 7)));
        }
        Step::Add { place, name, folder: false } => {
            let path = folder(place).join(format!("f{}", name % 30));
            if !path.exists() {
                fs::write(path, format!("content {name}")).unwrap();
            }
        }
        Step::Remove { place } if !fixed(&pick(place)) => {
            let path = pick(place);
            let _ = if is_folder(&path) { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        }
        Step::Rename { from, to, name } if !fixed(&pick(from)) => {
            let to = folder(to).join(format!("r{}", name % 20));
            if !to.exists() {
                // Into itself is not possible.
                let _ = fs::rename(pick(from), to);
            }
        }
        Step::Edit { place } => {
            let path = pick(place);
            if !is_folder(&path) && !written_once(&path) {
                fs::write(path, format!("edit {place}")).unwrap();
            }
        }
        Step::Link { from, to, name } => {
            let (from, to) = (pick(from), folder(to).join(format!("l{}", name % 20)));
            if !is_folder(&from) && !to.exists() {
                fs::hard_link(from, to).unwrap();
            }
        }
        Step::Mode { place } => {
            use std::os::unix::fs::PermissionsExt as _;
            let path = pick(place);
            if is_folder(&path) || !written_once(&path) {
                let mode = if path.metadata().unwrap().mode() & 0o010 > 0 { 0o700 } else { 0o750 };
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
        _ => {}
    }
}

/// What tells one state of an item from another.
#[derive(Debug, PartialEq)]
struct State {
    inode: u64,
    mode: u32,
    ctime: (i64, i64),
}

fn states(world: &World) -> BTreeMap<PathBuf, State> {
    let state = |path: &Path| {
        let found = path.symlink_metadata().unwrap();
        let ctime = (found.ctime(), found.ctime_nsec());
        State { inode: found.ino(), mode: found.mode(), ctime }
    };
    all(&world.source()).into_iter().map(|path| (path.clone(), state(&path))).collect()
}

/// What a system that knows of changes tells. A folder is not told for what has changed in it, but
/// it is when something came and went in it, of which nothing else is left.
fn told_of(
    before: &BTreeMap<PathBuf, State>,
    after: &BTreeMap<PathBuf, State>,
) -> BTreeSet<PathBuf> {
    let paths: BTreeSet<&PathBuf> = before.keys().chain(after.keys()).collect();
    let is_another = |path: &Path| match (before.get(path), after.get(path)) {
        (Some(old), Some(new)) if is_folder(path) => (old.inode, old.mode) != (new.inode, new.mode),
        (old, new) => old != new,
    };
    let mut told: BTreeSet<PathBuf> =
        paths.iter().filter(|path| is_another(path)).map(|path| (*path).clone()).collect();
    let explained: BTreeSet<PathBuf> =
        told.iter().filter_map(|path| path.parent()).map(Path::to_owned).collect();
    let moved = |path: &&&PathBuf| before.get(**path) != after.get(**path);
    told.extend(
        paths
            .iter()
            .filter(moved)
            .filter(|path| !explained.contains(**path))
            .map(|path| (*path).clone()),
    );
    told
}

/// Two folders of a few dozen entries.
fn begin(world: &World) {
    for top in ["store", "free"] {
        for folder in 0..6 {
            for file in 0..8 {
                let name = format!("{top}/d{folder}/f{file}");
                world.write(&name, &format!("{top} {folder} {file}"));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn a_look_at_less_finds_what_a_look_at_everything_finds(
        rounds in proptest::collection::vec(steps(), 1..4),
    ) {
        let world = World::new();
        begin(&world);
        world.take(Scope::Everything);
        for steps in rounds {
            steps.iter().for_each(|step| apply(&world, step));
            let summary = world.take(world.write_once(&["store"]));
            prop_assert_eq!(summary.problems, 0);
            world.assert_equals_force(&summary);
        }
    }

    #[test]
    fn told_of_all_changes_it_is_the_same_too(
        rounds in proptest::collection::vec(steps(), 1..4),
    ) {
        let world = World::new();
        begin(&world);
        world.take(Scope::Everything);
        for steps in rounds {
            let before = states(&world);
            steps.iter().for_each(|step| apply(&world, step));
            let after = states(&world);
            let paths = told_of(&before, &after);
            let summary = world.take(told(paths.into_iter().collect()));
            prop_assert_eq!(summary.problems, 0);
            world.assert_equals_force(&summary);
        }
    }
}
