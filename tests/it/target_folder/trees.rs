//! Deep, wide and strangely named trees.

use std::fs;
use std::os::unix::fs::symlink;

use gabion::format::entry::{EntryKind, Metadata};
use gabion::target::{Difference, TargetErrorKind};

use super::{NUMBERS, Place, file_meta, meta, write};

#[test]
fn paths_longer_than_the_kernel_takes() {
    let place = Place::new();
    let mut path = Vec::new();
    let mut folders = Vec::new();
    for level in 0..300 {
        path.extend(format!("{level:0>200}").bytes());
        assert!(place.target.make_folder(&path).unwrap());
        folders.push(path.clone());
        path.push(b'/');
    }
    assert!(path.len() > 14 * 4096);
    let below = |name: &str| [&path, name.as_bytes()].concat();
    write(&place.target, &below("file"), b"deep").unwrap();
    let link = Metadata { target: b"..".as_slice().into(), ..meta(EntryKind::Symlink) };
    let applied = place.target.make_symlink(&below("link"), b"..", &link, &NUMBERS).unwrap();
    assert!(applied.is_complete());
    place.target.make_hard_link(&below("file"), b"shallow").unwrap();
    place.target.make_hard_link(b"shallow", &below("third")).unwrap();
    let large = place.target.begin_file(&below("large"), 10).unwrap();
    assert!(large.finish(&file_meta(&[0; 10]), &NUMBERS).unwrap().is_complete());
    let folder = Metadata { mode: 0o755, ..meta(EntryKind::Directory) };
    for path in folders.iter().rev() {
        assert!(place.target.finish_folder(path, &folder, &NUMBERS).unwrap().is_complete());
    }
    for path in &folders {
        assert_eq!(place.target.compare(path, &folder, &NUMBERS).unwrap(), []);
    }
    let file = place.target.existing(&below("file")).unwrap().unwrap();
    assert_eq!((file.size, file.links), (4, 3));
    assert_eq!(place.target.compare(&below("link"), &link, &NUMBERS).unwrap(), []);
    assert_eq!(
        place.target.compare(&below("none"), &link, &NUMBERS).unwrap(),
        [Difference::Missing]
    );
    assert_eq!(fs::read(place.path("shallow")).unwrap(), b"deep");

    assert!(place.target.remove(&folders[150]).unwrap());
    assert_eq!(place.target.existing(&folders[150]).unwrap(), None);
    assert!(place.target.remove(&folders[0]).unwrap());
    assert!(!place.target.remove(&folders[0]).unwrap());
    assert!(!place.target.remove(&folders[9]).unwrap());
    assert_eq!(place.target.existing(b"shallow").unwrap().unwrap().links, 1);
}

#[test]
fn names_are_bytes() {
    let place = Place::new();
    let long = [b'n'; 255];
    for name in [&b"a\nb"[..], b"\xff\xfe", b" ", b"...", b"-rf", b"a\\b", b"*", &long] {
        place.target.make_folder(name).unwrap();
        let path = [name, b"/", name].concat();
        write(&place.target, &path, name).unwrap();
        assert_eq!(place.target.compare(&path, &file_meta(name), &NUMBERS).unwrap(), []);
        assert!(place.target.remove(name).unwrap());
    }
    let error = write(&place.target, &[b'n'; 256], b"").unwrap_err();
    assert_eq!(error.kind, TargetErrorKind::Other);
    let error = write(&place.target, &[&[b'n'; 5000][..], b"/x"].concat(), b"").unwrap_err();
    assert_eq!(error.kind, TargetErrorKind::Other);
    assert!(place.target.is_empty().unwrap());
}

#[test]
fn a_tree_is_removed_and_what_its_links_point_to_is_not() {
    let place = Place::new();
    fs::create_dir(place.outside().join("sub")).unwrap();
    fs::write(place.outside().join("sub/victim"), "precious").unwrap();
    place.target.make_folder(b"d").unwrap();
    for folder in 0..2500 {
        fs::create_dir(place.path(&format!("d/{folder}"))).unwrap();
    }
    for file in 0..3000 {
        fs::File::create_new(place.path(&format!("d/7/{file}"))).unwrap();
    }
    fs::create_dir_all(place.path("d/8/9/10")).unwrap();
    symlink(place.outside(), place.path("d/link")).unwrap();
    symlink(place.outside().join("sub"), place.path("d/8/9/10/link")).unwrap();
    symlink("..", place.path("d/8/9/10/up")).unwrap();
    fs::hard_link(place.outside().join("sub/victim"), place.path("d/8/hard")).unwrap();

    assert!(place.target.remove(b"d/link").unwrap());
    symlink(place.outside(), place.path("d/link")).unwrap();
    assert!(place.target.remove(b"d").unwrap());
    assert!(place.target.is_empty().unwrap());
    assert_eq!(fs::read_to_string(place.outside().join("sub/victim")).unwrap(), "precious");
    assert!(!place.target.remove(b"d").unwrap());
}

#[test]
fn a_very_deep_tree_needs_few_handles_to_be_removed() {
    let place = Place::new();
    // Deeper than a process may hold handles open.
    let path = ["d"; 2000].join("/");
    let steps: Vec<usize> = (1..=path.len()).step_by(2).collect();
    for end in steps {
        place.target.make_folder(&path.as_bytes()[..end]).unwrap();
    }
    assert!(place.target.remove(b"d").unwrap());
    assert!(place.target.is_empty().unwrap());
}

#[test]
fn two_threads_fill_one_folder() {
    let place = Place::new();
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let target = &place.target;
            scope.spawn(move || {
                for round in 0..500 {
                    let folder = format!("d{}", round / 50);
                    target.make_folder(folder.as_bytes()).unwrap();
                    let path = format!("{folder}/{thread}-{round}");
                    write(target, path.as_bytes(), path.as_bytes()).unwrap();
                }
            });
        }
    });
    for thread in 0..2 {
        for round in 0..500 {
            let path = format!("d{}/{thread}-{round}", round / 50);
            assert_eq!(fs::read_to_string(place.path(&path)).unwrap(), path);
        }
    }
    // Of two who want the same name exactly one gets it.
    let winners: usize = std::thread::scope(|scope| {
        let attempt = || {
            (0..500)
                .filter(|round| {
                    match write(&place.target, format!("d0/same {round}").as_bytes(), b"x") {
                        Ok(()) => true,
                        Err(error) => {
                            assert_eq!(error.kind, TargetErrorKind::Exists);
                            false
                        }
                    }
                })
                .count()
        };
        let (one, other) = (scope.spawn(attempt), scope.spawn(attempt));
        one.join().unwrap() + other.join().unwrap()
    });
    assert_eq!(winners, 500);
}
