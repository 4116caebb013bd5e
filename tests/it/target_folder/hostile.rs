//! What a hostile snapshot, or somebody who changes the target meanwhile, may try.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::Duration;

use gabion::format::entry::EntryKind;
use gabion::target::{Put, TargetError, TargetErrorKind, TargetFolder};

use super::{NUMBERS, Place, file_meta, meta, write};

type Action = fn(&TargetFolder, &[u8]) -> Option<TargetError>;

/// Everything that can be done with a path; the outcome is the error, if there was one.
const EVERYTHING: [(&str, Action); 20] = [
    ("write", |t, path| t.write_small(path, &file_meta(b"x"), b"x", &NUMBERS, false).err()),
    ("replace", |t, path| t.write_small(path, &file_meta(b"x"), b"x", &NUMBERS, true).err()),
    ("begin", |t, path| t.begin_file(path, 1).err()),
    ("folder", |t, path| t.make_folder(path).err()),
    ("finish", |t, path| t.finish_folder(path, &meta(EntryKind::Directory), &NUMBERS).err()),
    ("set", |t, path| t.set_metadata(path, &file_meta(b"x"), &NUMBERS).err()),
    ("symlink", |t, path| t.make_symlink(path, b"x", &meta(EntryKind::Symlink), &NUMBERS).err()),
    ("link to", |t, path| t.make_hard_link(path, b"stolen").err()),
    ("link at", |t, path| t.make_hard_link(b"own", path).err()),
    ("pipe", |t, path| t.make_fifo(path, &meta(EntryKind::Fifo), &NUMBERS).err()),
    ("device", |t, path| t.make_device(path, &meta(EntryKind::CharDevice), &NUMBERS).err()),
    ("existing", |t, path| t.existing(path).err()),
    ("compare", |t, path| t.compare(path, &file_meta(b"x"), &NUMBERS).err()),
    ("read", |t, path| t.read_back(path).err()),
    ("remove", |t, path| t.remove(path).err()),
    ("put", |t, path| {
        t.put(path, Put::Replace, |at| t.make_fifo(at, &meta(EntryKind::Fifo), &NUMBERS)).err()
    }),
    ("commit", |t, path| t.commit(&t.stage(path), path, Put::Replace).err()),
    ("by folder", |t, path| t.replace_by_folder(path).err()),
    ("remove item", |t, path| t.remove_item(path).err()),
    ("remove folder", |t, path| t.remove_folder(path).err()),
];

fn all_are_refused(target: &TargetFolder, path: &[u8]) {
    for (what, action) in EVERYTHING {
        let kind = action(target, path).map(|error| error.kind);
        assert_eq!(kind, Some(TargetErrorKind::UnsafePath), "{what} {}", path.escape_ascii());
    }
}

/// A file and a folder that somebody else owns the content of.
fn plant(outside: &Path) -> (u64, fs::Metadata) {
    fs::create_dir_all(outside.join("sub")).unwrap();
    fs::write(outside.join("victim"), "precious").unwrap();
    fs::set_permissions(outside.join("victim"), fs::Permissions::from_mode(0o604)).unwrap();
    let facts = fs::metadata(outside.join("victim")).unwrap();
    (fs::metadata(outside).unwrap().ino(), facts)
}

fn unharmed(outside: &Path, planted: &(u64, fs::Metadata)) {
    let facts = fs::metadata(outside.join("victim")).unwrap();
    assert_eq!(fs::read_to_string(outside.join("victim")).unwrap(), "precious");
    assert_eq!(facts.mode(), planted.1.mode());
    assert_eq!(facts.nlink(), 1);
    assert_eq!((facts.mtime(), facts.mtime_nsec()), (planted.1.mtime(), planted.1.mtime_nsec()));
    assert_eq!((facts.ctime(), facts.ctime_nsec()), (planted.1.ctime(), planted.1.ctime_nsec()));
    assert_eq!(fs::metadata(outside).unwrap().ino(), planted.0);
    let mut names: Vec<_> =
        fs::read_dir(outside).unwrap().map(|item| item.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["sub", "victim"]);
    assert_eq!(fs::read_dir(outside.join("sub")).unwrap().count(), 0);
}

#[test]
fn a_link_on_the_way_is_never_followed() {
    let place = Place::new();
    let planted = plant(&place.outside());
    write(&place.target, b"own", b"").unwrap();
    place.target.make_folder(b"real").unwrap();
    for link in ["evil", "real/evil"] {
        let (path, to) = (link.as_bytes(), place.outside());
        let to = to.as_os_str().as_encoded_bytes();
        let link_meta = meta(EntryKind::Symlink);
        let _ = place.target.make_symlink(path, to, &link_meta, &NUMBERS).unwrap();
        for below in ["victim", "new", "sub", "sub/new"] {
            all_are_refused(&place.target, format!("{link}/{below}").as_bytes());
        }
    }
    // Even one that would stay inside.
    symlink("real", place.path("inner")).unwrap();
    all_are_refused(&place.target, b"inner/new");
    symlink("/proc/self/root", place.path("magic")).unwrap();
    all_are_refused(&place.target, b"magic/tmp/new");
    unharmed(&place.outside(), &planted);
}

#[test]
fn a_link_at_the_end_is_never_followed() {
    let place = Place::new();
    let planted = plant(&place.outside());
    for victim in ["victim", "sub", "new"] {
        for (what, action) in EVERYTHING {
            symlink(place.outside().join(victim), place.path("evil")).unwrap();
            let error = action(&place.target, b"evil");
            // Those that work are about the link itself.
            let is_fine = [
                "replace",
                "link to",
                "existing",
                "compare",
                "remove",
                "put",
                "by folder",
                "remove item",
            ];
            assert_eq!(error.is_none(), is_fine.contains(&what), "{what}: {error:?}");
            for name in ["evil", "stolen"] {
                fs::remove_file(place.path(name)).ok();
                fs::remove_dir(place.path(name)).ok();
            }
            unharmed(&place.outside(), &planted);
        }
    }
}

#[test]
fn nothing_but_a_file_is_read_and_nothing_waits_for_a_pipe() {
    let place = Place::new();
    let planted = plant(&place.outside());
    symlink(place.outside().join("victim"), place.path("link")).unwrap();
    place.target.make_folder(b"folder").unwrap();
    let _ = place.target.make_fifo(b"pipe", &meta(EntryKind::Fifo), &NUMBERS).unwrap();
    for path in [&b"link"[..], b"folder", b"pipe"] {
        assert_eq!(place.target.read_back(path).unwrap_err().kind, TargetErrorKind::Other);
        let set = place.target.set_metadata(path, &file_meta(b""), &NUMBERS);
        assert_eq!(set.unwrap_err().kind, TargetErrorKind::Other);
    }
    let made = place.target.make_folder(b"link").unwrap_err();
    assert_eq!(made.kind, TargetErrorKind::NotAFolder);
    unharmed(&place.outside(), &planted);
}

#[test]
fn a_folder_swapped_for_a_link_leads_nowhere() {
    let place = Place::new();
    let planted = plant(&place.outside());
    place.target.make_folder(b"d").unwrap();
    write(&place.target, b"d/before", b"x").unwrap();
    fs::rename(place.path("d"), place.path("moved")).unwrap();
    symlink(place.outside(), place.path("d")).unwrap();
    // This thread still holds the folder; another one finds the link.
    write(&place.target, b"d/held", b"x").unwrap();
    assert!(place.path("moved/held").exists());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            write(&place.target, b"own", b"x").unwrap();
            all_are_refused(&place.target, b"d/after");
        });
    });
    unharmed(&place.outside(), &planted);
}

#[test]
fn swapping_all_the_time_gets_nothing_out() {
    let place = Place::new();
    let planted = plant(&place.outside());
    place.target.make_folder(b"d").unwrap();
    symlink(place.outside(), place.path("link")).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use std::sync::atomic::Ordering::Relaxed;
            while !done.load(Relaxed) {
                for (from, to) in [("d", "away"), ("link", "d"), ("d", "link"), ("away", "d")] {
                    fs::rename(place.path(from), place.path(to)).ok();
                }
            }
        });
        let until = std::time::Instant::now() + Duration::from_millis(500);
        let mut count = 0;
        while std::time::Instant::now() < until {
            count += 1;
            let path = format!("d/{count}");
            write(&place.target, path.as_bytes(), b"x").ok();
            // Elsewhere in between, so that the folder has to be found again.
            place.target.existing(b"x/y").ok();
            place.target.remove(path.as_bytes()).ok();
            place.target.remove(b"d/victim").ok();
            place.target.remove(b"d/sub").ok();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    unharmed(&place.outside(), &planted);
}

#[test]
fn a_hard_link_to_a_link_is_one_of_the_link() {
    let place = Place::new();
    let planted = plant(&place.outside());
    symlink(place.outside().join("victim"), place.path("evil")).unwrap();
    place.target.make_hard_link(b"evil", b"again").unwrap();
    assert_eq!(place.target.existing(b"again").unwrap().unwrap().kind, EntryKind::Symlink);
    let error = write(&place.target, b"again", b"x").unwrap_err();
    assert_eq!(error.kind, TargetErrorKind::Exists);
    unharmed(&place.outside(), &planted);
}

#[test]
fn what_is_no_path_is_refused() {
    let place = Place::new();
    write(&place.target, b"own", b"").unwrap();
    let outside = place.outside().join("new");
    let absolute = outside.as_os_str().as_encoded_bytes();
    for path in [
        &b""[..],
        b"/",
        b"/x",
        absolute,
        b"x/",
        b"x//y",
        b".",
        b"..",
        b"../outside/x",
        b"x/..",
        b"x/../../outside/x",
        b"./x",
        b"x/.",
        b"a\0b",
        b"own\0",
    ] {
        all_are_refused(&place.target, path);
    }
    let message = write(&place.target, b"/x\n\x1b[2J\xff", b"").unwrap_err().to_string();
    assert!(message.ends_with("out of the target"), "{message}");
    assert!(message.contains("//x\\n\\u{1b}[2J\\xff"), "{message}");
    assert_eq!(fs::read_dir(place.outside()).unwrap().count(), 0);
}

#[test]
fn a_folder_that_was_made_anew_is_found_again() {
    let place = Place::new();
    place.target.make_folder(b"d").unwrap();
    write(&place.target, b"d/f", b"1").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert!(place.target.remove(b"d").unwrap());
            place.target.make_folder(b"d").unwrap();
            write(&place.target, b"d/other", b"2").unwrap();
        });
    });
    assert!(place.target.existing(b"d/other").unwrap().is_some());
    assert!(place.target.remove(b"d").unwrap());
    assert_eq!(write(&place.target, b"d/f", b"").unwrap_err().kind, TargetErrorKind::Vanished);
    place.target.make_folder(b"d").unwrap();
    write(&place.target, b"d/f", b"2").unwrap();
    assert_eq!(fs::read(place.path("d/f")).unwrap(), b"2");
    // And as a link after all.
    assert!(place.target.remove(b"d").unwrap());
    symlink(place.outside(), place.path("d")).unwrap();
    all_are_refused(&place.target, b"d/f");
}
