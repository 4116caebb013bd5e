//! A store that moves its objects into packs while it is snapshotted: loose ones are read first,
//! then the index is copied, then the packs are looked at.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gabion::ops::OpError;
use gabion::ops::snapshot::{SnapshotSummary, StandIn};

use super::{World, noise, write};

/// Loose objects, a pack, an index of it, and a file that never changes.
fn store() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("c")).unwrap();
    write(folder.path().join("c/config.json"), b"{}");
    for number in 0..300 {
        let place = folder.path().join(format!("c/loose/{:02x}", number % 40));
        fs::create_dir_all(&place).unwrap();
        write(
            place.join(format!("object{number}")),
            &noise(5000, u8::try_from(number % 251).unwrap()),
        );
    }
    fs::create_dir(folder.path().join("c/packs")).unwrap();
    write(folder.path().join("c/packs/0"), &noise(5 << 20, 77));
    write(folder.path().join("c/packs/0.lock"), b"");
    write(folder.path().join("c/packs.idx"), b"live");
    // What is older than this when a walk begins is known to be unchanged by the next.
    std::thread::sleep(Duration::from_millis(50));
    folder
}

fn append(path: &Path, bytes: &[u8]) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
}

/// A snapshot in which `change` happens when the copy is made.
fn take(
    world: &World,
    folder: &Path,
    change: impl Fn(&Path) -> io::Result<()> + Send + 'static,
) -> Result<SnapshotSummary, OpError> {
    let container = folder.join("c");
    world.take(|options| {
        options.paths = vec![folder.to_owned()];
        let copy = folder.with_extension("copy");
        options.stand_ins = vec![StandIn {
            path: container.join("packs.idx"),
            before: container.join("packs"),
            names: |name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit),
            make: Box::new(move || {
                change(&container)?;
                write(copy.clone(), &noise(40_000, 5));
                let file = File::open(&copy);
                #[expect(clippy::disallowed_methods, reason = "tests lay out sources by hand")]
                fs::remove_file(&copy)?;
                file
            }),
        }];
    })
}

fn contents(world: &World, summary: &SnapshotSummary, folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let at = |path: &[u8]| Path::new("/").join(std::str::from_utf8(path).unwrap());
    let entries = world.entries(summary);
    let inside = entries.iter().filter(|entry| at(&entry.path).starts_with(folder));
    inside.map(|entry| (at(&entry.path), world.content(entry))).collect()
}

fn of<'a>(all: &'a [(PathBuf, Vec<u8>)], path: &Path) -> &'a [u8] {
    &all.iter().find(|(found, _)| found == path).unwrap_or_else(|| panic!("no {path:?}")).1
}

#[test]
fn all_that_the_copied_index_names_is_in_the_snapshot() {
    let (world, store) = (World::new(), store());
    let folder = store.path();
    for round in 0..2 {
        // All loose objects move: some to the end of the pack, some to a pack that is new.
        let moved = take(&world, folder, move |container| {
            append(&container.join("packs/0"), &noise(9000, 100 + round));
            write(container.join(format!("packs/{}", round + 1)), &noise(7000, 110 + round));
            // Whoever packs lets go of a lock, and another one takes it.
            let (lock, other) = (container.join("packs/0.lock"), container.join("other"));
            write(other.clone(), b"");
            #[expect(clippy::disallowed_methods, reason = "tests lay out sources by hand")]
            fs::rename(other, lock)?;
            fs::remove_dir_all(container.join("loose"))?;
            fs::create_dir(container.join("loose"))
        });
        let moved = moved.unwrap();
        assert_eq!((moved.problems, moved.unchanged_entries > 0), (0, round > 0));
        let all = contents(&world, &moved, folder);
        let loose = all.iter().filter(|(path, _)| path.to_string_lossy().contains("/object"));
        assert_eq!(loose.count(), if round == 0 { 300 } else { 0 });
        assert_eq!(of(&all, &folder.join("c/packs.idx")), noise(40_000, 5));
        let pack = of(&all, &folder.join("c/packs/0"));
        assert!(pack.ends_with(&noise(9000, 100 + round)), "{}", pack.len());
        assert_eq!(
            of(&all, &folder.join(format!("c/packs/{}", round + 1))),
            noise(7000, 110 + round)
        );
    }
}

#[test]
fn packs_that_grow_while_they_are_read_are_no_trouble() {
    let (world, store) = (World::new(), store());
    let pack = store.path().join("c/packs/0");
    let ended = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (pack, ended) = (pack.clone(), Arc::clone(&ended));
        move || {
            while !ended.load(Ordering::Relaxed) && pack.metadata().unwrap().len() < 40 << 20 {
                append(&pack, &noise(3000, 9));
            }
        }
    });
    let taken = take(&world, store.path(), |_| Ok(())).unwrap();
    ended.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    assert_eq!(taken.problems, 0, "{:?}", world.recorder.events());
    let all = contents(&world, &taken, store.path());
    let (stored, now) = (of(&all, &pack), fs::read(&pack).unwrap());
    assert!(stored.len() >= 5 << 20 && now.starts_with(stored), "{}", stored.len());
}

#[test]
fn a_pack_that_is_replaced_or_a_copy_that_fails_commits_nothing() {
    type Change = fn(&Path) -> io::Result<()>;
    let changes: [(Change, &str); 4] = [
        (
            |container| {
                write(container.join("packs/new"), &noise(100, 1));
                #[expect(clippy::disallowed_methods, reason = "tests lay out sources by hand")]
                fs::rename(container.join("packs/new"), container.join("packs/0"))
            },
            "packs/0 was replaced while",
        ),
        (
            #[expect(clippy::disallowed_methods, reason = "tests lay out sources by hand")]
            |container| fs::remove_file(container.join("packs/0")),
            "packs/0 was replaced while",
        ),
        (|_| Err(io::Error::other("out of luck")), "cannot copy it: out of luck"),
        (|_| Err(io::ErrorKind::NotFound.into()), "cannot copy it: "),
    ];
    for (change, said) in changes {
        let (world, store) = (World::new(), store());
        let Err(OpError::Stream(failure)) = take(&world, store.path(), change) else { panic!() };
        assert!(failure.to_string().contains(said), "{failure}");
        assert_eq!(world.confirmed(), 0);
    }
}
