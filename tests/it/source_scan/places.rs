//! Where a scan starts and where it does not go: roots within and beside one another, links,
//! other file systems.

use std::path::{Path, PathBuf};
use std::process::Command;

use gabion::format::entry::EntryKind;
use gabion::source::exclude::ExcludesBuilder;
use gabion::source::scan::{Scan, ScanOptions};

use super::{Seen, Tree, of, paths_below, scan};
use crate::support::private_mounts;

fn both(tree: &Tree, roots: &[&str]) -> ScanOptions {
    ScanOptions::new(roots.iter().map(|root| tree.at(root)).collect())
}

#[test]
fn several_roots_come_in_one_order_with_their_ancestors_once() {
    let tree = Tree::new();
    tree.file("x/a/1", "").file("x/a/other", "").file("x/a-b/2", "").file("x/beside", "");
    tree.file("y/file", "").link("y/link", "file").file("z/not", "");
    let options = both(&tree, &["y/link", "x/a-b", "y/file", "x/a"]);
    let want = ["x", "x/a", "x/a/1", "x/a/other", "x/a-b", "x/a-b/2", "y", "y/file", "y/link"];
    assert_eq!(paths_below(&tree.path, &options), want);
    let kinds: Vec<_> = scan(&options)
        .into_iter()
        .filter_map(|seen| match seen {
            Seen::Entry(_, stat) => Some(stat.kind),
            _ => None,
        })
        .collect();
    assert_eq!(kinds[kinds.len() - 2..], [EntryKind::File, EntryKind::Symlink]);
}

#[test]
fn a_link_above_a_root_is_followed_and_shown_as_the_folder_it_leads_to() {
    let tree = Tree::new();
    tree.file("real/root/1", "").link("link", "real");
    assert_eq!(
        paths_below(&tree.path, &both(&tree, &["link/root"])),
        ["link", "link/root", "link/root/1"]
    );
    let all = scan(&both(&tree, &["link/root"]));
    assert!(all.iter().all(|seen| match seen {
        Seen::Entry(path, stat) => path.ends_with('1') || stat.kind == EntryKind::Directory,
        _ => false,
    }));
}

#[test]
fn nested_roots_are_covered_and_never_left_out() {
    let tree = Tree::new();
    tree.file("a/b/c/keep", "").file("a/b/drop", "").file("a/d/c", "").file("a/b/c/x.o", "");
    let mut options = both(&tree, &["a", "a/b/c"]);
    assert_eq!(
        paths_below(&tree.path, &options),
        ["a", "a/b", "a/b/c", "a/b/c/keep", "a/b/c/x.o", "a/b/drop", "a/d", "a/d/c"]
    );
    let leave_out = |pattern: &str| {
        ExcludesBuilder { patterns: vec![pattern.into(), "*.o".into()], ..Default::default() }
            .build()
            .unwrap()
    };
    options.excludes = leave_out("b");
    // Of the folder that is left out, only the way to the named root.
    let want = ["a", "a/b", "a/b/c", "a/b/c/keep", "-a/b/c/x.o", "a/d", "a/d/c"];
    assert_eq!(paths_below(&tree.path, &options), want);
    options.excludes = leave_out("c");
    let want = ["a", "a/b", "a/b/c", "a/b/c/keep", "-a/b/c/x.o", "a/b/drop", "a/d", "-a/d/c"];
    assert_eq!(paths_below(&tree.path, &options), want);
}

#[test]
fn roots_that_are_missing_or_unclean_are_named() {
    let tree = Tree::new();
    tree.folder("there").file("elsewhere/x/1", "").link("there/link", "../elsewhere");
    let bad = |roots: Vec<PathBuf>| Scan::start(ScanOptions::new(roots)).err().unwrap();
    let error = bad(vec![tree.at("there"), tree.at("gone")]);
    assert_eq!(error.path, tree.at("gone"));
    assert_eq!(bad(vec![tree.at("there"), tree.at("there/gone")]).path, tree.at("there/gone"));
    assert_eq!(bad(vec![PathBuf::from("relative")]).path, Path::new("relative"));
    // The outer root does not go through the link, so it would not cover this one.
    let error = bad(vec![tree.at("there"), tree.at("there/link/x")]);
    assert_eq!(error.path, tree.at("there/link/x"));
}

#[test]
fn the_root_of_everything_has_no_entry_of_its_own() {
    let excludes = ExcludesBuilder { patterns: vec!["/*".into()], ..Default::default() };
    let options = ScanOptions { excludes: excludes.build().unwrap(), ..of(Path::new("/")) };
    let all = scan(&options);
    assert!(all.contains(&Seen::Excluded("usr".into())));
    assert!(all.iter().all(|seen| matches!(seen, Seen::Excluded(_))), "{all:?}");
}

/// A mounted file system, gone at the end of the test.
struct Mount(PathBuf);

impl Mount {
    /// `None` where this process may not mount.
    fn new(kind: &str, at: PathBuf) -> Option<Self> {
        if !private_mounts() {
            return None;
        }
        let done = Command::new("mount").args(["-t", kind, "none"]).arg(&at).output().ok()?;
        done.status.success().then(|| Self(at))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let done = Command::new("umount").arg(&self.0).status();
        if !std::thread::panicking() {
            let done = done.is_ok_and(|status| status.success());
            assert!(done, "still mounted: {}", self.0.display());
        }
    }
}

#[test]
fn other_file_systems_are_entered_unless_told_otherwise() {
    let tree = Tree::new();
    tree.folder("mnt/disk").folder("mnt/proc").file("z", "");
    let Some(_disk) = Mount::new("tmpfs", tree.at("mnt/disk")) else { return };
    tree.file("mnt/disk/inner/1", "").file("mnt/disk/2", "");
    let Some(_proc) = Mount::new("proc", tree.at("mnt/proc")) else { return };

    let mut options = of(&tree.path);
    let inside = ["mnt", "mnt/disk", "mnt/disk/2", "mnt/disk/inner", "mnt/disk/inner/1"];
    let entered = [&inside[..], &["mnt/proc", "z"]].concat();
    assert_eq!(paths_below(&tree.path, &options), entered);
    let filesystem_of = |name: &str, all: &[Seen]| {
        all.iter().find_map(|seen| match seen {
            Seen::Entry(path, stat) if path.ends_with(name) => Some(stat.filesystem),
            _ => None,
        })
    };
    let all = scan(&options);
    assert_ne!(filesystem_of("/z", &all), filesystem_of("/mnt/disk/2", &all));
    assert_eq!(filesystem_of("/mnt/disk", &all), filesystem_of("/mnt/disk/2", &all));

    options.one_file_system = true;
    let kept_out = ["mnt", "mnt/disk", "mnt/proc", "z"];
    assert_eq!(paths_below(&tree.path, &options), kept_out);
    // A root there is entered, and nothing beside it.
    options.roots.push(tree.at("mnt/disk/inner"));
    let named = ["mnt", "mnt/disk", "mnt/disk/inner", "mnt/disk/inner/1", "mnt/proc", "z"];
    assert_eq!(paths_below(&tree.path, &options), named);
    options.roots =
        vec![tree.path.clone(), tree.at("mnt/disk"), tree.at("mnt/proc/sys/kernel/ostype")];
    options.one_file_system = false;
    let found = paths_below(&tree.path, &options);
    assert_eq!(found[..5], inside);
    let way =
        ["mnt/proc", "mnt/proc/sys", "mnt/proc/sys/kernel", "mnt/proc/sys/kernel/ostype", "z"];
    assert_eq!(found[5..], way);
}
