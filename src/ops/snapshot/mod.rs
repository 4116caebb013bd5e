//! Taking a snapshot: streams, then a walk merged with the parent, then the commit.
//!
//! The order of writes follows from FORMAT.md: session, packs, index segment, tentative root, one
//! more look at session, marks and packs, confirmed snapshot. Only the last makes it exist.

mod against;
mod clock;
mod collect;
mod commit;
mod doubt;
mod dump_format;
mod emptied;
mod feed;
mod increment;
mod large;
mod links;
mod long;
mod names;
mod options;
mod pipeline;
mod previous;
mod rate;
mod read;
mod read_file;
mod rows;
mod settled;
mod slabs;
mod stand_in;
mod streams;
mod told;
mod totals;
mod unchanged;
mod unsure;

use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

pub use options::{
    Census, Changes, ChangesSince, FULL_SCAN_EVERY, Scope, SnapshotOptions, SnapshotSummary,
    StreamInput, StreamSource, Told,
};
pub use rows::qualified_name_len;
pub use stand_in::StandIn;
pub use told::changed_paths;

use crate::event::Event;
use crate::format::entry::Timestamp;
use crate::format::snapshot::RawBytes;
use crate::ops::OpError;
use crate::repo::{Repository, RepositoryError, Writer};
use crate::source::live;
use crate::source::scan::{Scan, ScanOptions};
use crate::threads::{Panicked, caught, joined, start_in};
use collect::{Collected, Collector};
use commit::{Commit, NOTHING_COMMITTED};
use doubt::Doubt;
use feed::Feeder;
use increment::{Stop, continuation};
use pipeline::{Message, Shared};
use previous::{Earlier, Previous};
use totals::{FeedTotals, summarise};
use unchanged::{RACY_NANOS, before};

/// Takes a snapshot. The repository's index is loaded by this.
///
/// # Errors
/// When the repository, a stream, or a source that was named fails, or the caller asked to stop.
/// Nothing was confirmed then; what was stored is found and used by the next run.
pub fn snapshot(
    repository: &Arc<Repository>,
    options: SnapshotOptions,
) -> Result<SnapshotSummary, OpError> {
    caught(|| begin(repository, options)).map_err(|error| error.with_outcome(NOTHING_COMMITTED))
}

fn begin(
    repository: &Arc<Repository>,
    mut options: SnapshotOptions,
) -> Result<SnapshotSummary, OpError> {
    check_options(&options)?;
    // Before the session is announced: a typing error must not leave a trace.
    let scan_started = (options.clock)();
    let scan = scan_options(&options);
    if options.streams.is_empty() && matches!(options.scope, Scope::Everything) {
        // Nothing comes between this and the walk, so it may as well begin now.
        let scan = Scan::start(scan)?;
        return run(repository, &mut options, Source::Started(Box::new(scan)), scan_started);
    }
    crate::source::open::Roots::open(&options.paths)?;
    run(repository, &mut options, Source::Later(scan), scan_started)
}

/// Does what may follow a commit. The snapshot exists, so even a panic is only worth a note.
fn after_commit(repository: &Repository, work: impl FnOnce()) {
    if let Err(error) = caught(|| -> Result<(), Panicked> {
        work();
        Ok(())
    }) {
        let note = Event::Note(format!("{error}, after the snapshot was committed"));
        let _: Result<(), Panicked> = caught(|| {
            repository.observer().event(note);
            Ok(())
        });
    }
}

/// A look at all of the sources.
fn scan_options(options: &SnapshotOptions) -> ScanOptions {
    let mut scan = ScanOptions::new(options.paths.clone());
    scan.excludes = options.excludes.clone();
    scan.one_file_system = options.one_file_system;
    scan.threads = options.threads;
    scan.late = options.stand_ins.iter().map(|stand_in| stand_in.before.clone()).collect();
    scan
}

/// The walk: streams must have ended before it begins.
enum Source {
    Started(Box<Scan>),
    Later(ScanOptions),
}

fn check_options(options: &SnapshotOptions) -> Result<(), OpError> {
    let mut names = Vec::new();
    for stream in &options.streams {
        streams::check_name(&stream.name)?;
        let collides = options.paths.iter().any(|path| {
            path.components().nth(1).is_some_and(|top| top.as_os_str() == stream.name.as_str())
        });
        if collides || names.contains(&&stream.name) {
            let name = &stream.name;
            return Err(OpError::Refused(format!(
                "a stream cannot be named {name:?}: another source of this snapshot has that name"
            )));
        }
        names.push(&stream.name);
    }
    if !options.allow_live_database {
        for root in &options.paths {
            if let Some(kind) = live::at_root(root) {
                let file = [root.as_os_str().as_bytes(), b"/x"].concat();
                return Err(OpError::Refused(live::refusal(kind, &file[1..])));
            }
        }
    }
    increment::check(options)?;
    if options.paths.is_empty() && options.streams.is_empty() {
        return Err(OpError::Refused("there is nothing to take a snapshot of".to_owned()));
    }
    Ok(())
}

fn run(
    repository: &Arc<Repository>,
    options: &mut SnapshotOptions,
    source: Source,
    scan_started: Timestamp,
) -> Result<SnapshotSummary, OpError> {
    let paths: Vec<RawBytes> = options
        .paths
        .iter()
        .map(|path| RawBytes(path.as_os_str().as_encoded_bytes().to_vec()))
        .collect();
    let mut commit = Commit::begin(repository, options, paths)?;
    // Checkpoints are made before it is known when the walk after the streams begins: an earlier
    // time only means that more is read again.
    commit.scan_started = scan_started;
    let result = caught(|| run_in_session(repository, options, source, scan_started, &mut commit));
    result.map_err(|error| {
        commit.abandon();
        error.with_outcome(commit.outcome())
    })
}

fn run_in_session(
    repository: &Arc<Repository>,
    options: &mut SnapshotOptions,
    source: Source,
    scan_started: Timestamp,
    commit: &mut Commit,
) -> Result<SnapshotSummary, OpError> {
    repository.observer().event(Event::Phase("reading the index"));
    let named = if let Scope::Told(told) = &options.scope { told.parent } else { None };
    // Before the packs are listed: what comes after that may need one that is not in the list.
    let earlier = Earlier::find(repository, &options.host, commit.paths(), named)?;
    repository.load_index()?;
    commit.remember_packs();
    let doubt = Doubt::about(repository, &earlier)?;
    if let Some(parent) = &earlier.parent {
        let (items, bytes) = (parent.counts.entries, parent.counts.bytes);
        repository.observer().event(Event::Total { items, bytes });
    }
    let writer = Writer::new(repository, options.compression);
    commit.adopt(&writer);
    let base = (&earlier, &doubt);
    let result = caught(|| store_and_confirm(&writer, options, source, scan_started, commit, base));
    match &result {
        Err(_) => commit.packs_were_listed(&caught(|| writer.close())),
        Ok(summary) => {
            if let Some(snapshot) = &summary.snapshot {
                after_commit(repository, || doubt.settle(repository, snapshot.id));
            }
        }
    }
    result
}

fn store_and_confirm(
    writer: &Writer,
    options: &mut SnapshotOptions,
    source: Source,
    mut scan_started: Timestamp,
    commit: &mut Commit,
    (earlier, doubt): (&Earlier, &Doubt),
) -> Result<SnapshotSummary, OpError> {
    let repository = writer.repository();
    let shared = Arc::new(Shared::new(writer, options)?);
    repository.observer().event(Event::Phase("reading the sources"));
    let dry_run = options.dry_run;
    let fed = std::thread::scope(|scope| {
        let (out, messages) = sync_channel(shared.channel_len());
        let feeder = start_in(scope, "walk", || {
            let out = out;
            feed(&shared, &out, (earlier, doubt), options, source, &mut scan_started)
        });
        let feeder = feeder.map_err(RepositoryError::Thread)?;
        let collected = caught(|| collect(&shared, writer, commit, &messages, dry_run));
        if collected.is_err() {
            shared.give_up();
        }
        // The feeder ends when nobody listens any more.
        drop(messages);
        let fed = joined(feeder.join());
        // The collector's error is the cause of the feeder's, never the other way round.
        collected.and_then(|tree: Option<Collected>| Ok::<_, OpError>((tree, fed?)))
    });
    let (tree, fed) = fed?;
    let totals = tree.as_ref().map(|tree| tree.totals);
    let summary = summarise(&shared, writer, totals, &fed, earlier);
    let Some(tree) = tree else { return Ok(summary) };
    shared.clock.look(None);
    let scan_started = shared.clock.earliest(scan_started);
    commit.scan_started = scan_started;
    let unsure = shared.unsure.take().filter(|_| !shared.clock.was_set_back());
    commit.continuation = continuation(repository, options, earlier, unsure, &fed, scan_started);
    let summary = commit.confirm(options, writer, &tree, fed.streams, earlier, summary)?;
    if let (Some(seen), Some(_)) = (&fed.seen, &summary.snapshot) {
        after_commit(repository, || seen.keep(repository, &tree.root));
    }
    Ok(summary)
}

/// Runs the feeder to its end and tells the collector how it ended.
fn feed(
    shared: &Arc<Shared>,
    out: &SyncSender<Message>,
    base: (&Earlier, &Doubt),
    options: &mut SnapshotOptions,
    source: Source,
    scan_started: &mut Timestamp,
) -> Result<FeedTotals, OpError> {
    match caught(|| run_streams_and_walk(shared, out, base, options, source, scan_started)) {
        Ok(totals) => {
            let _ = out.send(Message::Finished);
            Ok(totals)
        }
        Err(error) => {
            // Nobody listens when the collector failed first.
            let _ = out.send(Message::Failed(error));
            Err(OpError::Interrupted)
        }
    }
}

fn run_streams_and_walk(
    shared: &Arc<Shared>,
    out: &SyncSender<Message>,
    (earlier, doubt): (&Earlier, &Doubt),
    options: &mut SnapshotOptions,
    source: Source,
    scan_started: &mut Timestamp,
) -> Result<FeedTotals, OpError> {
    let bases = earlier.bases();
    let force = options.force;
    let previous = || {
        let previous = Previous::new(&shared.repository, &bases, force);
        if doubt.remains() { previous.doubt(&shared.repository) } else { previous }
    };
    let mut feeder = Feeder::new(shared, out, previous(), options);
    feeder.streams(options)?;
    emptied::report(shared, options, earlier)?;
    let (mut increment, mut full_scan_because) = (None, None);
    let mut scan = match source {
        Source::Started(scan) => *scan,
        Source::Later(mut scan) => {
            *scan_started = (options.clock)();
            match increment::plan(&shared.repository, options, earlier, doubt.why(), *scan_started)
            {
                Ok(planned) => increment = planned,
                Err(Stop::StartOver(why)) => full_scan_because = Some(why),
                Err(Stop::Error(error)) => return Err(error),
            }
            if let Some(increment) = &increment {
                scan.deferred.clone_from(&increment.folders);
            }
            Scan::start(scan)?
        }
    };
    shared.clock.look(Some(*scan_started));
    let _ = shared.roots.set(scan.roots());
    let _ = shared.racy_from.set(before(*scan_started, RACY_NANOS));
    let everything = scan_options(options);
    feeder.stand_in(std::mem::take(&mut options.stand_ins));
    let verified = increment::verify(shared, increment.as_mut(), earlier, *scan_started);
    let walked =
        verified.and_then(|()| feeder.walk(&mut scan, increment.as_ref(), &options.excludes));
    match walked {
        Ok(()) => {}
        Err(stop) => {
            full_scan_because = Some(increment::why_all_over(stop, increment.is_some())?);
            increment = None;
            feeder.start_over(previous())?;
            let mut scan = Scan::start(everything)?;
            match feeder.walk(&mut scan, None, &options.excludes) {
                Ok(()) => {}
                Err(Stop::Error(error)) => return Err(error),
                Err(Stop::StartOver(why)) => return Err(OpError::Refused(why)),
            }
        }
    }
    let mut totals = feeder.finish()?;
    totals.full_scan_because = full_scan_because;
    totals.is_partial = increment.is_some();
    let verified_to = increment.and_then(|increment| increment.verified_to);
    totals.verified_to = verified_to.map(|path| RawBytes(path.into_vec()));
    totals::count_streams(&mut totals, earlier.parent.as_ref(), options.dry_run);
    Ok(totals)
}

/// Builds the tree, or in a dry run only waits for the end.
fn collect(
    shared: &Arc<Shared>,
    writer: &Writer,
    commit: &mut Commit,
    messages: &Receiver<Message>,
    dry_run: bool,
) -> Result<Option<Collected>, OpError> {
    if dry_run {
        return loop {
            match messages.recv() {
                Ok(Message::Failed(error)) => break Err(error),
                Ok(Message::Finished) | Err(_) => break Ok(None),
                Ok(_) => {}
            }
        };
    }
    let started = commit.scan_started;
    let mut on_checkpoint = |root| {
        commit.scan_started = shared.clock.earliest(started);
        commit.checkpoint(root)
    };
    Collector::new(shared, writer, &mut on_checkpoint)?.run(messages).map(Some)
}

#[cfg(test)]
#[cfg(target_os = "linux")]
#[expect(clippy::disallowed_methods, reason = "makes test data")]
mod tests;
