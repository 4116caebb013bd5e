//! Increments that are told what changed: that and nothing else is looked at.

use super::*;
use crate::format::snapshot::Snapshot;
use crate::id::SnapshotId;

#[test]
fn what_is_told_is_looked_at_and_nothing_else() {
    let world = World::new();
    world.store();
    world.take(Scope::Everything);
    let none = world.take(world.told(&[]));
    assert_eq!((none.full_scan_because.as_deref(), none.unseen_entries), (None, 1042));
    world.write("store/07/new", "new");
    world.write("store/07/05", "edited in place");
    world.write("store/new/deep/file", "deep");
    fs::remove_file(world.path("store/08/03")).unwrap();
    fs::remove_dir_all(world.path("store/10")).unwrap();
    fs::remove_dir_all(world.path("store/12")).unwrap();
    world.write("store/12", "a file now");
    fs::remove_file(world.path("store/13/01")).unwrap();
    world.write("store/13/01/inner", "a folder now");
    let changes = [
        "store/07/new",
        "store/07/05",
        "store/new",
        "store/08/03",
        "store/10",
        "store/12/00",
        "store/12",
        "store/13/01",
    ];
    let changed = world.take(world.told(&changes));
    assert_eq!(changed.full_scan_because, None);
    assert!(looked_at(&changed) < 30, "{changed:?}");
    assert_eq!(changed.removed_entries, 1 + 26 + 25);
    world.assert_equals_force(&changed);
    world.write("store/20/00", "not told");
    let missed = world.take(world.told(&["store/20/01"]));
    assert!(missed.new_entries == 0 && missed.counts.read_bytes == 0, "the caller vouches");
    let outside =
        world.try_take(told(vec![PathBuf::from("/elsewhere/x")])).unwrap_err().to_string();
    assert!(
        outside.contains("/elsewhere/x") && outside.contains("none of the sources"),
        "{outside}"
    );
}

#[test]
fn changes_are_told_since_the_parent_that_was_named() {
    let world = World::new();
    world.store();
    let first = world.take(Scope::Everything).snapshot.unwrap();
    world.write("store/01/01", "second");
    let second = world.take(Scope::Everything).snapshot.unwrap();
    world.write("store/02/02", "third");
    let since = |parent, changes: Vec<PathBuf>| {
        let expected = first.id;
        let changes = Box::new(move |parent: &Snapshot| {
            assert_eq!(parent.id, expected);
            Ok(ChangesSince::Below(changes))
        });
        Scope::Told(Told { parent: Some(parent), changes })
    };
    let both = vec![world.path("store/01/01"), world.path("store/02/02")];
    let taken = world.take(since(first.id, both));
    assert_eq!(taken.snapshot.as_ref().unwrap().parent, Some(first.id));
    world.assert_equals_force(&taken);
    assert_ne!(first.id, second.id);
    let unknown = SnapshotId([7; 16]);
    let error = world.try_take(since(unknown, Vec::new())).unwrap_err().to_string();
    assert!(error.contains("none of these sources"), "{error}");
}
