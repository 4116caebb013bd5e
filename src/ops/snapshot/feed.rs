//! The feeder: runs the streams, walks the sources in path order, merges the walk with earlier
//! trees, and hands out what must be read.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use super::SnapshotOptions;
#[cfg(target_os = "linux")]
use super::increment::Partial;
use super::increment::{Increment, Stop};
use super::large::read_large;
use super::links::{Links, Role};
use super::pipeline::{Message, ReadJob, Shared, Slot};
use super::previous::{Known, Previous, UpToFolder};
use super::read::read_batch;
use super::rows;
use super::slabs::{Gone, send};
use super::stand_in::{StandIn, StandIns};
use super::streams::run_stream;
use super::totals::FeedTotals;
use crate::format::entry::EntryKind;
use crate::ops::OpError;
use crate::repo::Repository;
use crate::source::exclude::Excludes;
use crate::source::scan::{Scan, Scanned};
use crate::source::{SourceError, Stat, live};
use crate::tree::{Bound, LeafPage, Taken};

/// A batch is handed out once its files are so long together, or it has so many of them.
const BATCH_BYTES: u64 = 1 << 20;
const BATCH_JOBS: usize = 256;
/// Or once it has so many places, taken over ones included.
const BATCH_SLOTS: usize = 1024;

/// What became of an item since the parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It is as it was.
    Same,
    /// It changed, or may have.
    Modified,
    /// It was not there.
    New,
}

pub(super) struct Feeder<'a, 'r> {
    shared: &'a Arc<Shared>,
    out: &'a SyncSender<Message>,
    previous: Previous<'r>,
    dry_run: bool,
    allow_live_database: bool,
    totals: FeedTotals,
    /// The totals before the walk.
    of_streams: FeedTotals,
    slots: Vec<Slot>,
    jobs: Vec<ReadJob>,
    job_bytes: u64,
    slot_bytes: u64,
    links: Links,
    stand_ins: StandIns,
}

impl<'a, 'r> Feeder<'a, 'r> {
    pub(super) fn new(
        shared: &'a Arc<Shared>,
        out: &'a SyncSender<Message>,
        previous: Previous<'r>,
        options: &SnapshotOptions,
    ) -> Self {
        Self {
            shared,
            out,
            previous,
            dry_run: options.dry_run,
            allow_live_database: options.allow_live_database,
            totals: FeedTotals::default(),
            of_streams: FeedTotals::default(),
            slots: Vec::new(),
            jobs: Vec::new(),
            job_bytes: 0,
            slot_bytes: 0,
            links: Links::default(),
            stand_ins: StandIns::default(),
        }
    }

    /// Runs the streams, one after the other.
    pub(super) fn streams(&mut self, options: &mut SnapshotOptions) -> Result<(), OpError> {
        for source in std::mem::take(&mut options.streams) {
            if self.dry_run {
                self.shared.note(format!("stream {}: not run", source.name));
                continue;
            }
            let basis = self.previous.old_content(source.name.as_bytes())?;
            let record = run_stream(self.shared, self.out, options, source, basis)?;
            self.totals.entries += 1;
            self.totals.bytes += record.bytes;
            self.totals.to_read += record.bytes;
            self.totals.new += 1;
            self.totals.streams.push(record);
        }
        rows::fit(&mut self.totals.streams);
        self.of_streams = self.totals.clone();
        Ok(())
    }

    /// From now on these files are stored as copies.
    pub(super) fn stand_in(&mut self, stand_ins: Vec<StandIn>) {
        if !self.dry_run {
            self.stand_ins = StandIns::new(stand_ins);
        }
    }

    /// Begins the walk anew, merged with `previous`; what was walked so far does not count.
    pub(super) fn start_over(&mut self, previous: Previous<'r>) -> Result<(), OpError> {
        self.previous = previous;
        self.totals = self.of_streams.clone();
        self.slots.clear();
        self.jobs.clear();
        (self.job_bytes, self.slot_bytes) = (0, 0);
        self.links.clear();
        self.stand_ins.start_over();
        send(self.out, Message::StartOver).map_err(|_| OpError::Interrupted)
    }

    /// Walks the sources; folders that the scan hands over are looked after by `increment`.
    pub(super) fn walk(
        &mut self,
        scan: &mut Scan,
        increment: Option<&Increment>,
        excludes: &Excludes,
    ) -> Result<(), Stop> {
        if increment.is_some() {
            self.previous.watch_names();
        }
        #[cfg(target_os = "linux")]
        let mut partial = increment
            .map(|increment| Partial::new(scan, increment, self.previous.racy_from(), excludes));
        let mut last = None;
        while let Some(step) = scan.next() {
            self.go_on()?;
            match step {
                Scanned::Entry { path, stat } => {
                    last = Some(*stat);
                    self.entry(path, stat)?;
                }
                Scanned::Excluded { .. } => self.excluded(),
                Scanned::Problem(error) => self.source_problem(&error),
                #[cfg(target_os = "linux")]
                Scanned::Deferred(folder) => {
                    if let (Some(partial), Some(stat)) = (&mut partial, &last) {
                        partial.run(self, folder, stat)?;
                    }
                }
                #[cfg(not(target_os = "linux"))]
                Scanned::Deferred(_) => {}
            }
        }
        #[cfg(target_os = "linux")]
        {
            self.totals.seen = partial.and_then(Partial::into_seen);
        }
        self.stand_ins.finish()?;
        self.previous.finish()?;
        if let Some(path) = self.previous.unseen_name() {
            let place = crate::format::path::display(path);
            return Err(Stop::StartOver(format!("{place} has other names (hard links)")));
        }
        Ok(())
    }

    /// Hands out what is left and gives the counts.
    pub(super) fn finish(mut self) -> Result<FeedTotals, OpError> {
        self.hand_out().map_err(|_| OpError::Interrupted)?;
        self.shared.clock.look(None);
        (self.totals.lost, self.totals.lost_pages) = (self.previous.lost, self.previous.lost_pages);
        self.totals.removed = self.previous.removed;
        self.totals.unseen -= self.totals.passed_folders;
        Ok(self.totals)
    }

    pub(super) fn go_on(&self) -> Result<(), OpError> {
        self.shared.clock.look(None);
        if self.shared.is_interrupted() { Err(OpError::Interrupted) } else { Ok(()) }
    }

    pub(super) fn previous(&mut self) -> &mut Previous<'r> {
        &mut self.previous
    }

    pub(super) fn repository(&self) -> &Repository {
        &self.shared.repository
    }

    /// The attributes of an item as it is now, if it can be looked at.
    pub(super) fn look_again(&self, path: &[u8]) -> Option<Stat> {
        self.shared.look_again(path)
    }

    pub(super) fn problem(&self, path: &[u8], message: String) {
        self.shared.problem(path, message);
    }

    /// A folder was looked at that will be taken over.
    pub(super) fn passed_folder(&mut self) {
        self.totals.passed_folders += 1;
    }

    pub(super) fn excluded(&mut self) {
        self.totals.excluded += 1;
    }

    pub(super) fn source_problem(&self, error: &SourceError) {
        let path = error.path.as_os_str().as_encoded_bytes();
        self.shared.source_problem(path.strip_prefix(b"/").unwrap_or(path), error);
    }

    /// Takes an item of the source: says whether it is as it was.
    pub(super) fn entry(&mut self, path: &[u8], stat: &Stat) -> Result<Change, OpError> {
        let gone = |_| OpError::Interrupted;
        if !self.allow_live_database {
            self.refuse_live_database(path, stat)?;
        }
        if self.stand_ins.due(path) {
            self.hand_out().map_err(gone)?;
            self.stand_ins.make(self.out, path).map_err(|error| {
                if self.shared.is_interrupted() { OpError::Interrupted } else { error }
            })?;
        }
        self.totals.entries += 1;
        self.totals.bytes += stat.size;
        let change = match self.previous.lookup(path, stat)? {
            Known::Same(page, at) if !self.stand_ins.replaces(path) => {
                self.stand_ins.may_grow(path, stat)?;
                self.totals.unchanged += 1;
                self.same(page, at, stat.size).map_err(gone)?;
                return Ok(Change::Same);
            }
            Known::New => {
                self.totals.new += 1;
                Change::New
            }
            Known::Same(..) | Known::Modified => {
                self.totals.modified += 1;
                Change::Modified
            }
        };
        if self.stand_ins.replaces(path) {
            self.hand_out().map_err(gone)?;
            let basis = self.previous.old_content(path)?;
            self.stand_ins.put(self.shared, self.out, path, stat, basis)?;
        } else {
            self.read(path, stat)?;
        }
        Ok(change)
    }

    /// Has an item read.
    fn read(&mut self, path: &[u8], stat: &Stat) -> Result<(), OpError> {
        let gone = |_| OpError::Interrupted;
        let may_grow = self.stand_ins.may_grow(path, stat)?;
        let role = match may_grow {
            true => Role::Alone,
            false => self.links.role(stat, self.shared.racy_from.get().copied()),
        };
        let has_content = stat.kind == EntryKind::File && !matches!(role, Role::Further(_));
        if has_content {
            self.totals.to_read += stat.size;
        }
        if self.dry_run {
            return Ok(());
        }
        let mut job = ReadJob { path: path.into(), stat: *stat, role, may_grow };
        if has_content && stat.size > self.shared.large() {
            self.hand_out().map_err(gone)?;
            self.shared.observer.event(crate::event::Event::Working(crate::source::absolute(path)));
            let basis = self.previous.old_content(path)?;
            match read_large(self.shared, self.out, &job, basis.as_ref()).map_err(gone)? {
                None => return self.wait_if_sequential().map_err(gone),
                Some(stat) => (job.stat, job.role) = (stat, Role::Alone),
            }
        }
        self.jobs.push(job);
        self.job_bytes += if has_content { stat.size } else { 0 };
        self.slot_bytes += stat.size;
        self.slots.push(Slot::Read);
        self.hand_out_if_full().map_err(gone)
    }

    /// Stops where a running database keeps its files.
    fn refuse_live_database(&self, path: &[u8], stat: &Stat) -> Result<(), OpError> {
        let Some(roots) = self.shared.roots.get() else { return Ok(()) };
        let Some(found) = live::found_at(roots, path, stat) else { return Ok(()) };
        if found.minor {
            let place = crate::format::path::display(path);
            self.shared.note(format!("{place}: {}; take a dump where that matters", found.kind));
            return Ok(());
        }
        Err(OpError::Refused(live::refusal(found.kind, path)))
    }

    /// Takes over without a look what the parent has within `bound`, from behind the last entry on.
    pub(super) fn take_over(&mut self, bound: Bound<'_>) -> Result<(), OpError> {
        while let Some(taken) = self.previous.take(bound)? {
            self.unseen(taken)?;
        }
        Ok(())
    }

    /// The same within `folder` up to its next folder, whose path is given.
    pub(super) fn take_over_to_folder(
        &mut self,
        folder: &[u8],
    ) -> Result<Option<Box<[u8]>>, OpError> {
        loop {
            match self.previous.take_to_folder(folder)? {
                UpToFolder::End => return Ok(None),
                UpToFolder::Folder(path) => return Ok(Some(path)),
                UpToFolder::Taken(taken) => self.unseen(taken)?,
            }
        }
    }

    fn unseen(&mut self, taken: Taken) -> Result<(), OpError> {
        let (entries, bytes, slot) = match taken {
            Taken::Entries(page, range) => {
                let bytes = range.clone().map(|at| page.leaf.stat(at).size).sum();
                (range.len() as u64, bytes, Slot::Same(page, range))
            }
            Taken::Page(page, height) => {
                (page.entries, page.bytes, Slot::Page(Box::new(page), height))
            }
        };
        self.totals.entries += entries;
        self.totals.bytes += bytes;
        self.totals.unchanged += entries;
        self.totals.unseen += entries;
        self.taken_over(slot, bytes).map_err(|_| OpError::Interrupted)
    }

    fn same(&mut self, page: Arc<LeafPage>, at: usize, bytes: u64) -> Result<(), Gone> {
        self.taken_over(Slot::Same(page, at..at + 1), bytes)
    }

    fn taken_over(&mut self, slot: Slot, bytes: u64) -> Result<(), Gone> {
        if self.dry_run {
            return Ok(());
        }
        self.slot_bytes += bytes;
        self.slots.push(slot);
        self.hand_out_if_full()
    }

    fn hand_out_if_full(&mut self) -> Result<(), Gone> {
        if self.job_bytes >= BATCH_BYTES
            || self.jobs.len() >= self.batch_jobs()
            || self.slots.len() >= BATCH_SLOTS
        {
            return self.hand_out();
        }
        Ok(())
    }

    fn hand_out(&mut self) -> Result<(), Gone> {
        if self.slots.is_empty() {
            return Ok(());
        }
        let jobs = std::mem::take(&mut self.jobs);
        let results = (!jobs.is_empty())
            .then(|| self.shared.spawn(move |shared, context| read_batch(shared, context, jobs)));
        self.job_bytes = 0;
        let bytes = std::mem::take(&mut self.slot_bytes);
        let slots = std::mem::take(&mut self.slots);
        send(self.out, Message::Batch { slots, results, bytes })?;
        self.wait_if_sequential()
    }

    fn batch_jobs(&self) -> usize {
        self.shared.roots().probe.sizes(0, BATCH_JOBS).1
    }

    /// Where one thing is done after the other, waits until the collector has all that was sent.
    fn wait_if_sequential(&self) -> Result<(), Gone> {
        if !self.shared.is_sequential() {
            return Ok(());
        }
        let (reached, told) = sync_channel(1);
        send(self.out, Message::Reached(reached))?;
        told.recv().map_err(|_| Gone)
    }
}
