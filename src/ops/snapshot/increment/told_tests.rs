//! Increments that are told what changed: that and nothing else is looked at.

use super::*;
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
        Scope::Told(Told { parent: Some(parent), by_kernel: false, changes })
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

/// Takes snapshots that are told of nothing, until one has a problem, for as long as every entry
/// needs to be verified.
fn until_a_problem(world: &World, by_kernel: bool) -> Option<SnapshotSummary> {
    (0..34).find_map(|_| {
        let changes = Box::new(|_: &Snapshot| Ok(ChangesSince::Below(Vec::new())));
        let summary = world.take(Scope::Told(Told { parent: None, by_kernel, changes }));
        (summary.problems > 0).then_some(summary)
    })
}

#[test]
fn a_change_that_nobody_reported_is_found_and_everything_is_looked_at() {
    for by_kernel in [false, true] {
        let world = World::new();
        world.store();
        world.take(Scope::Everything);
        world.write("store/23/20", "not reported, and longer than before");
        let found = until_a_problem(&world, by_kernel).unwrap();
        let why = found.full_scan_because.clone().unwrap();
        assert!(why.ends_with("store/23/20 changed and was not reported"), "{why}");
        let told = world.problems();
        let who = if by_kernel { "the kernel" } else { "the list of changes" };
        assert!(told.len() == 1 && told[0].contains("store/23/20: it changed before"), "{told:?}");
        assert!(told[0].contains(who), "{told:?}");
        assert_eq!((found.unseen_entries, found.problems), (0, 1));
        world.assert_equals_force(&found);
    }
}

#[test]
fn a_removal_that_nobody_reported_is_found() {
    let world = World::new();
    world.store();
    world.take(Scope::Everything);
    fs::remove_file(world.path("store/23/20")).unwrap();
    let found = until_a_problem(&world, true).unwrap();
    assert!(found.full_scan_because.as_ref().unwrap().contains("store/23"), "{found:?}");
    world.assert_equals_force(&found);
}

#[test]
fn what_a_list_need_not_have_is_looked_at_and_is_not_a_problem() {
    let world = World::new();
    world.store();
    world.take(Scope::Everything);
    // It came and went, which only its directory shows; and only the last of the times is new.
    world.write("store/23/came", "and went");
    fs::remove_file(world.path("store/23/came")).unwrap();
    let mode = fs::metadata(world.path("store/24/01")).unwrap().permissions();
    fs::set_permissions(world.path("store/24/01"), mode).unwrap();
    assert_eq!(until_a_problem(&world, false), None);
    let last = world.take(world.told(&[]));
    assert_eq!(last.full_scan_because, None);
    world.assert_equals_force(&last);
}

#[test]
fn a_file_that_appeared_and_was_not_listed_is_stored_when_its_directory_is_verified() {
    let world = World::new();
    world.store();
    world.take(Scope::Everything);
    world.write("store/23/new", "not listed");
    assert_eq!(until_a_problem(&world, false), None);
    let last = world.take(world.told(&[]));
    world.assert_equals_force(&last);
    // The kernel would have reported it.
    world.write("store/23/newer", "not reported");
    assert!(until_a_problem(&world, true).is_some());
}

#[test]
fn everything_is_looked_at_when_that_was_long_ago() {
    let world = World::new();
    world.store();
    world.take(Scope::Everything);
    let take = |clock: fn() -> Timestamp, every: Option<u64>, scope: Scope| {
        world.settle();
        let full_scan_every = every.map(Duration::from_secs);
        let options = SnapshotOptions { clock, full_scan_every, ..world.options(scope) };
        snapshot(&world.made.repository, options).unwrap()
    };
    let later: fn() -> Timestamp = || Timestamp { seconds: now().seconds + 8 * 86_400, ..now() };
    let week = Some(7 * 86_400);
    for scope in [|world: &World| world.told(&[]), |world: &World| world.write_once(&["store"])] {
        assert_eq!(take(now, week, scope(&world)).full_scan_because, None);
        assert_eq!(take(later, None, scope(&world)).full_scan_because, None);
        let due = take(later, week, scope(&world));
        let why = due.full_scan_because.as_deref();
        assert_eq!(
            (why, due.unseen_entries),
            (Some("everything was looked at last 8 days ago"), 0)
        );
        assert_eq!(take(later, week, scope(&world)).full_scan_because, None);
        // The clock was set back.
        let back = take(now, week, scope(&world)).full_scan_because.unwrap();
        assert!(back.contains("in the future"), "{back}");
    }
}

#[test]
fn a_parent_that_does_not_say_when_everything_was_looked_at_is_not_enough() {
    let world = World::new();
    world.store();
    let record = world.take(Scope::Everything).snapshot.unwrap();
    let known = record.continuation.unwrap();
    let week = Duration::from_secs(7 * 86_400);
    assert_eq!(super::super::full_scan_due(&known, week, now()), Ok(()));
    let older = crate::format::snapshot::Continuation { full_scan: None, ..known };
    let why = super::super::full_scan_due(&older, week, now()).unwrap_err();
    assert!(why.contains("not known when"), "{why}");
}
