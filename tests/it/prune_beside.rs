//! A prune beside others that are faster than it, at each of its calls.

use std::sync::Arc;

use gabion::event::Recorder;
use gabion::format::entry::Timestamp;
use gabion::ops::check::ReadData;
use gabion::ops::prune::{PruneOptions, PruneSummary, prune};
use gabion::repo::{Repository, Unlock};
use gabion::storage::{MemoryStorage, Storage};

use crate::small::{FailAt, copy, files, noise, open_plain, options, problems, take};
use crate::specimen::checked;

fn pruned(place: &(impl Storage + Clone + 'static)) -> (PruneSummary, Vec<String>) {
    let recorder = Arc::new(Recorder::default());
    let storage: Arc<dyn Storage> = Arc::new(place.clone());
    let opened = Repository::open(storage, "here", &Unlock::Nothing, None, recorder.clone());
    let clock = || Timestamp { seconds: 1_000_000, nanos: 0 };
    let options = PruneOptions::new("box".to_owned(), clock, 1);
    let summary = prune(&Arc::new(opened.unwrap()), &options).unwrap();
    (summary, problems(&recorder))
}

#[test]
fn a_snapshot_that_comes_while_a_prune_looks_is_no_reason_to_stop() {
    let before = MemoryStorage::new();
    Repository::init(&before, "here", &options(Unlock::Nothing)).unwrap();
    let repository = open_plain(&before);
    let gone = take(&repository, &files([("a", noise(500, 1)), ("b", noise(90, 2))]), 1).unwrap();
    take(&repository, &files([("b", noise(90, 2)), ("c", noise(200, 3))]), 2).unwrap();
    repository.remove_records(&[gone.id]).unwrap();
    let mut at = 1;
    loop {
        let storage = copy(&before);
        let place = FailAt::meddling(storage.clone(), at, |storage| {
            let new = files([("c", noise(200, 3)), ("d", noise(300, 4))]);
            take(&open_plain(storage), &new, 3).unwrap();
        });
        let (summary, problems) = pruned(&place);
        assert_eq!(problems, [""; 0], "at call {at}");
        assert!(summary.packs_deleted > 0, "at call {at}: {summary:?}");
        assert_eq!(checked(&open_plain(&storage), ReadData::All).problems, 0, "at call {at}");
        if !place.has_failed() {
            break;
        }
        at += 1;
    }
    assert!(at > 50, "{at} calls");
}
