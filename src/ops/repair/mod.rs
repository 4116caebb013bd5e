//! `repair`: puts right what a check finds, as far as anything is left to do it from.
//!
//! Nothing is deleted and nothing is written over. What is of no use any more is moved to the
//! repository's quarantine, and only after whatever can be read of it lies elsewhere. On a sound
//! repository nothing is written at all.
//!
//! Others may be at work meanwhile. A repair announces itself as whoever adds something; damaged
//! packs go the way of packs that are pruned (they are condemned, and stay where they are as long
//! as somebody is at work who may not have seen that).

mod copies;
mod live;
mod packs;
mod records;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::check::{look_again, look_in_silence};
use super::pool::pool;
use super::scrub::{ScrubOptions, make_parity_again, scrub};
use super::segments::{self, Faults};
use super::{OpError, check};
use crate::event::Event;
use crate::format::snapshot::Session;
use crate::id::SessionId;
use crate::repo::{Presence, Repository, RepositoryError};
use crate::storage::{ObjectName, StorageErrorKind};
use crate::threads::caught;

/// How to repair.
#[derive(Debug, Clone)]
pub struct RepairOptions {
    /// Folders and files that may still hold what was lost: absolute, lexically clean paths.
    pub from: Vec<PathBuf>,
    /// Read all data to find what is damaged; otherwise only the structure is read.
    pub read_data: bool,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Who repairs.
    pub presence: Presence,
    /// Whether the process of a session has certainly ended.
    pub has_ended: fn(&Session) -> bool,
    /// zstd level for what is stored again.
    pub compression: i32,
    /// Threads that read and verify.
    pub threads: usize,
    /// Set by the caller to ask for an early, orderly end.
    pub interrupted: Arc<AtomicBool>,
}

/// What was done, or in a dry run would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RepairSummary {
    /// Problems that were found before.
    pub problems_before: u64,
    /// Problems that are left; each was told to the observer.
    pub problems: u64,
    /// Packs that were rebuilt with their parity.
    pub rebuilt: u64,
    /// Objects that were made again: copies of the configuration, key slots and records.
    pub copies: u64,
    /// Chunks that were stored again.
    pub chunks: u64,
    /// Objects that were moved to the quarantine.
    pub set_aside: u64,
    /// Damaged packs that stay where they are because somebody else is at work.
    pub packs_waiting: u64,
    /// Index segments that were published.
    pub segments: u64,
}

/// Repairs `repository`. Its index is loaded by this.
///
/// # Errors
/// When the place is lost, storage fails, a folder to take lost content from cannot be read, or
/// the caller interrupts. Whatever was done by then is whole, and the next repair goes on.
pub fn repair(
    repository: &Arc<Repository>,
    options: &RepairOptions,
) -> Result<RepairSummary, OpError> {
    caught(|| look_and_repair(repository, options))
}

fn look_and_repair(
    repository: &Arc<Repository>,
    options: &RepairOptions,
) -> Result<RepairSummary, OpError> {
    let pool = pool(options.threads)?;
    let look = |read| pool.install(|| look_in_silence(repository, &options.interrupted, read));
    let mut looked = look(options.read_data)?;
    let problems_before = looked.summary.problems;
    if problems_before == 0 {
        return Ok(RepairSummary::default());
    }
    let (rebuilt, parity) = rebuild(repository, options, &looked)?;
    if rebuilt + parity > 0 {
        looked = look(options.read_data)?;
    }
    let repair = Repair {
        repository,
        options,
        session: Cell::new(None),
        done: RefCell::new(RepairSummary {
            problems_before,
            rebuilt,
            copies: parity,
            ..RepairSummary::default()
        }),
    };
    let steps = caught(|| repair.steps(&looked));
    repair.end(steps)?;
    let mut summary = repair.done.into_inner();
    summary.problems = match options.dry_run {
        true => problems_before,
        false => {
            let bad = looked.picture.bad_copies();
            let left = pool.install(|| look_again(repository, &options.interrupted, &bad))?;
            left.problems
        }
    };
    Ok(summary)
}

/// Rebuilds damaged packs where there is parity: then nothing of them is lost. And parity from the
/// packs, where all data is read. Returns how many of both.
fn rebuild(
    repository: &Repository,
    options: &RepairOptions,
    looked: &check::Looked,
) -> Result<(u64, u64), OpError> {
    let damaged = looked.picture.damaged_packs();
    let nothing_to_do = damaged.is_empty() && !options.read_data;
    if options.dry_run || nothing_to_do || repository.parity().is_none() {
        return Ok((0, 0));
    }
    let options = ScrubOptions {
        mend: true,
        only: (!options.read_data).then_some(damaged),
        threads: options.threads,
        interrupted: Arc::clone(&options.interrupted),
    };
    let (storage, observer) = (&**repository.storage(), &**repository.observer());
    let done = scrub(storage, observer, &options)?;
    Ok((done.rebuilt, done.parity_rebuilt))
}

/// One run.
struct Repair<'r> {
    repository: &'r Arc<Repository>,
    options: &'r RepairOptions,
    /// Announced before the first change.
    session: Cell<Option<SessionId>>,
    done: RefCell<RepairSummary>,
}

impl Repair<'_> {
    fn steps(&self, looked: &check::Looked) -> Result<(), OpError> {
        self.phase("making lost copies again");
        copies::config(self)?;
        copies::slots(self)?;
        copies::snapshots(self)?;
        records::set_aside_damaged(self)?;
        packs::repair(self, looked)?;
        self.parity()?;
        self.segments()
    }

    /// Makes parity again that is lost altogether, when every pack that stays can be opened.
    fn parity(&self) -> Result<(), OpError> {
        let lacking = self.repository.packs_without_parity()?;
        if self.options.dry_run {
            lacking
                .iter()
                .for_each(|id| self.planned("make again", &ObjectName::parity(*id).to_string()));
            return Ok(());
        }
        if self.done.borrow().packs_waiting == 0 {
            let (made, _) = make_parity_again(self.repository)?;
            self.done.borrow_mut().copies += made;
        }
        Ok(())
    }

    /// Lists packs that are in no segment, and puts aside segments that are damaged or list what is
    /// not there.
    fn segments(&self) -> Result<(), OpError> {
        self.phase("listing packs in index segments");
        let own = self.session.get().unwrap_or(SessionId([0; 16]));
        let faults = Faults::find(self.repository, own)?;
        if !faults.unlisted.is_empty() && !self.options.dry_run {
            self.announce()?;
            let published = segments::list(self.repository, &faults.unlisted)?;
            self.done.borrow_mut().segments += published;
            if published > 0 {
                self.note(format!("{} packs were listed in the index", faults.unlisted.len()));
            }
        }
        faults.stale.into_iter().try_for_each(|name| self.set_aside(name))
    }

    /// Ends the session. After an error it stays when packs of it may be in no segment.
    fn end(&self, steps: Result<(), OpError>) -> Result<(), OpError> {
        let Some(session) = self.session.get() else { return steps };
        let ended = steps.is_ok() || segments::replace(self.repository, session).is_ok();
        if ended {
            self.repository.remove_finished_marks()?;
            self.repository.end_session(session)?;
        }
        steps
    }

    fn phase(&self, name: &'static str) {
        self.repository.observer().event(Event::Phase(name));
    }

    fn note(&self, text: String) {
        self.repository.observer().event(Event::Note(text));
    }

    fn planned(&self, action: &'static str, object: &str) {
        let path = object.into();
        self.repository.observer().event(Event::Planned { action, path });
    }

    fn go_on(&self) -> Result<(), OpError> {
        match self.options.interrupted.load(Ordering::Relaxed) {
            true => Err(OpError::Interrupted),
            false => Ok(()),
        }
    }

    /// Announces this repair, once.
    fn announce(&self) -> Result<SessionId, OpError> {
        if let Some(session) = self.session.get() {
            return Ok(session);
        }
        self.repository.verify_place()?;
        let session = self.options.presence.session("repair", Vec::new());
        self.repository.begin_session(&session)?;
        self.session.set(Some(session.id));
        Ok(session.id)
    }

    /// Whether anybody else may be at work.
    fn others_at_work(&self) -> Result<bool, OpError> {
        let (sessions, damaged) = self.repository.sessions()?;
        let own = self.session.get();
        let other =
            |session: &Session| Some(session.id) != own && !(self.options.has_ended)(session);
        Ok(!damaged.is_empty() || sessions.iter().any(other))
    }

    /// Moves an object to the quarantine. One that is gone is no trouble.
    fn set_aside(&self, name: ObjectName) -> Result<(), OpError> {
        self.go_on()?;
        if self.options.dry_run {
            self.planned("set aside", &name.to_string());
        } else {
            self.announce()?;
            match self.repository.storage().set_aside(name) {
                Ok(aside) => self.note(format!("{name} was moved to {aside}")),
                Err(error) if error.kind == StorageErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(RepositoryError::from(error).into()),
            }
        }
        self.done.borrow_mut().set_aside += 1;
        Ok(())
    }

    /// Publishes an object again that is missing.
    fn publish(&self, name: ObjectName, bytes: &[u8]) -> Result<(), OpError> {
        self.go_on()?;
        if self.options.dry_run {
            self.planned("make again", &name.to_string());
        } else {
            self.announce()?;
            match self.repository.storage().publish(name, bytes) {
                Ok(()) => self.note(format!("{name} was made again from its other copy")),
                // Somebody else was faster.
                Err(error) if error.kind == StorageErrorKind::AlreadyExists => return Ok(()),
                Err(error) => return Err(RepositoryError::from(error).into()),
            }
        }
        self.done.borrow_mut().copies += 1;
        Ok(())
    }
}
