//! What only the inside can arrange: a system without `openat2`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::format::entry::{Owner, Timestamp};

fn without_whole_paths(folder: &Path) -> TargetFolder {
    let root = fs::File::open(folder).unwrap();
    TargetFolder::at_handle(folder.to_owned(), Resolver::by_component(root.into()))
}

fn file_meta() -> Metadata {
    Metadata {
        kind: EntryKind::File,
        mode: 0o640,
        owner: Arc::new(Owner::default()),
        mtime: Timestamp { seconds: 1, nanos: 2 },
        ctime: Timestamp::default(),
        inode: 0,
        filesystem: 0,
        links: 1,
        size: 0,
        device: 0,
        xattrs: Arc::new([]),
        target: Box::default(),
        unsettled: false,
    }
}

const POLICY: MetadataPolicy =
    MetadataPolicy { owner: OwnerPolicy::Leave, xattrs: true, special: true };

#[test]
fn component_by_component_no_link_is_followed() {
    let place = tempfile::tempdir().unwrap();
    let outside = place.path().join("outside");
    let inside = place.path().join("inside");
    fs::create_dir_all(outside.join("sub")).unwrap();
    fs::create_dir_all(inside.join("real")).unwrap();
    symlink(&outside, inside.join("evil")).unwrap();
    symlink(&outside, inside.join("real/evil")).unwrap();
    fs::File::create_new(inside.join("file")).unwrap();
    let target = without_whole_paths(&inside);

    for path in [&b"evil/x"[..], b"evil/sub/x", b"real/evil/x", b"real/evil/sub/x"] {
        let error = target.write_small(path, &file_meta(), b"x", &POLICY, true).unwrap_err();
        assert_eq!(error.kind, TargetErrorKind::UnsafePath, "{error}");
        assert_eq!(target.existing(path).unwrap_err().kind, TargetErrorKind::UnsafePath);
    }
    let error = target.write_small(b"file/x", &file_meta(), b"x", &POLICY, true).unwrap_err();
    assert_eq!(error.kind, TargetErrorKind::NotAFolder);
    assert_eq!(fs::read_dir(outside.join("sub")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn component_by_component_deep_trees_work() {
    let place = tempfile::tempdir().unwrap();
    let target = without_whole_paths(place.path());
    let mut path = Vec::new();
    for _ in 0..40 {
        path.extend([b'd'; 200]);
        assert!(target.make_folder(&path).unwrap());
        path.push(b'/');
    }
    path.push(b'f');
    assert!(target.write_small(&path, &file_meta(), b"x", &POLICY, false).unwrap().is_complete());
    assert_eq!(target.existing(&path).unwrap().unwrap().size, 1);
    assert!(target.remove(&path[..200]).unwrap());
    assert!(target.is_empty().unwrap());
}
