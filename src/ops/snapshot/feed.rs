//! The feeder: runs the streams, walks the sources in path order, merges the walk with earlier
//! trees, and hands out what must be read.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use super::SnapshotOptions;
use super::large::{LARGE, read_large};
use super::pipeline::{Message, ReadJob, Shared, Slot};
use super::previous::{Known, Previous};
use super::read::read_batch;
use super::rows;
use super::slabs::{Gone, send};
use super::stand_in::{StandIn, StandIns};
use super::streams::run_stream;
use crate::format::entry::EntryKind;
use crate::format::snapshot::StreamRecord;
use crate::ops::OpError;
use crate::source::scan::{Scan, Scanned};
use crate::source::{Stat, live};
use crate::tree::LeafPage;

/// A batch is handed out once its files are so long together, or it has so many of them.
const BATCH_BYTES: u64 = 1 << 20;
const BATCH_JOBS: usize = 256;
/// Or once it has so many places, taken over ones included.
const BATCH_SLOTS: usize = 1024;
/// Hard-linked files that are remembered, so that each is read once. Further ones are read again;
/// their chunks are found to be there.
const MAX_LINKS: usize = 1 << 20;

/// What the feeder counted.
#[derive(Debug, Default)]
pub(super) struct FeedTotals {
    pub(super) streams: Vec<StreamRecord>,
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) new: u64,
    pub(super) modified: u64,
    pub(super) unchanged: u64,
    pub(super) removed: u64,
    pub(super) excluded: u64,
    pub(super) to_read: u64,
}

pub(super) struct Feeder<'a, 'r> {
    shared: &'a Arc<Shared>,
    out: &'a SyncSender<Message>,
    previous: Previous<'r>,
    dry_run: bool,
    allow_live_database: bool,
    totals: FeedTotals,
    slots: Vec<Slot>,
    jobs: Vec<ReadJob>,
    job_bytes: u64,
    slot_bytes: u64,
    links: HashSet<(u64, u64)>,
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
            slots: Vec::new(),
            jobs: Vec::new(),
            job_bytes: 0,
            slot_bytes: 0,
            links: HashSet::new(),
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
            let record = run_stream(self.shared, self.out, options, source)?;
            self.totals.entries += 1;
            self.totals.bytes += record.bytes;
            self.totals.to_read += record.bytes;
            self.totals.new += 1;
            self.totals.streams.push(record);
        }
        rows::fit(&mut self.totals.streams);
        Ok(())
    }

    /// Walks the sources; some of their files are stored as copies.
    pub(super) fn walk(
        mut self,
        mut scan: Scan,
        stand_ins: Vec<StandIn>,
    ) -> Result<FeedTotals, OpError> {
        if !self.dry_run {
            self.stand_ins = StandIns::new(stand_ins);
        }
        let gone = |_| OpError::Interrupted;
        while let Some(step) = scan.next() {
            if self.shared.is_interrupted() {
                return Err(OpError::Interrupted);
            }
            match step {
                Scanned::Entry { path, stat } => self.entry(path, stat)?,
                Scanned::Excluded { .. } => self.totals.excluded += 1,
                Scanned::Problem(error) => {
                    let path = error.path.as_os_str().as_encoded_bytes();
                    let path = path.strip_prefix(b"/").unwrap_or(path);
                    self.shared.source_problem(path, &error);
                }
            }
        }
        self.hand_out().map_err(gone)?;
        self.stand_ins.finish()?;
        self.previous.finish()?;
        // A stream was in the parent too, but no walk comes by it.
        self.totals.removed = self.previous.removed;
        Ok(self.totals)
    }

    fn entry(&mut self, path: &[u8], stat: &Stat) -> Result<(), OpError> {
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
        match self.previous.lookup(path, stat)? {
            Known::Same(page, at) if !self.stand_ins.replaces(path) => {
                self.stand_ins.may_grow(path, stat)?;
                self.totals.unchanged += 1;
                return self.same(page, at, stat.size).map_err(gone);
            }
            Known::New => self.totals.new += 1,
            Known::Same(..) | Known::Modified => self.totals.modified += 1,
        }
        if self.stand_ins.replaces(path) {
            self.hand_out().map_err(gone)?;
            return self.stand_ins.put(self.shared, self.out, path, stat);
        }
        let may_grow = self.stand_ins.may_grow(path, stat)?;
        let another_name = stat.kind == EntryKind::File && stat.links > 1 && !self.first_name(stat);
        if stat.kind == EntryKind::File && !another_name {
            self.totals.to_read += stat.size;
        }
        if self.dry_run {
            return Ok(());
        }
        let job = ReadJob { path: path.into(), stat: *stat, another_name, may_grow };
        if stat.kind == EntryKind::File && stat.size > LARGE && !another_name {
            self.hand_out().map_err(gone)?;
            self.shared.observer.event(crate::event::Event::Working(crate::source::absolute(path)));
            return read_large(self.shared, self.out, &job).map_err(gone);
        }
        self.jobs.push(job);
        self.job_bytes += if another_name { 0 } else { stat.size };
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

    /// Whether this is the first of a hard-linked file's names.
    fn first_name(&mut self, stat: &Stat) -> bool {
        let key = (stat.filesystem, stat.inode);
        if self.links.contains(&key) {
            return false;
        }
        if self.links.len() < MAX_LINKS {
            self.links.insert(key);
        }
        true
    }

    fn same(&mut self, page: Arc<LeafPage>, at: usize, bytes: u64) -> Result<(), Gone> {
        if self.dry_run {
            return Ok(());
        }
        self.slot_bytes += bytes;
        self.slots.push(Slot::Same(page, at));
        self.hand_out_if_full()
    }

    fn hand_out_if_full(&mut self) -> Result<(), Gone> {
        if self.job_bytes >= BATCH_BYTES
            || self.jobs.len() >= BATCH_JOBS
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
        send(self.out, Message::Batch { slots: std::mem::take(&mut self.slots), results, bytes })
    }
}
