//! A scan: every item of the source with its attributes, in path order, in memory that does not
//! grow with the source.

use std::path::PathBuf;
use std::sync::Arc;

use super::exclude::Excludes;
use super::open::Roots;
use super::plan::{Folder, Plan};
use super::{SourceError, Stat};

#[cfg(target_os = "linux")]
use super::parallel::ParallelScan as Walker;
#[cfg(not(target_os = "linux"))]
use super::portable::PortableScan as Walker;

/// What to scan and how.
#[derive(Debug, Clone)]
pub struct ScanOptions {
    /// Absolute, lexically clean paths of folders, files or links. One that lies within another
    /// is covered by it, whatever the excludes say about it.
    pub roots: Vec<PathBuf>,
    /// What to leave out. A root itself is never left out.
    pub excludes: Excludes,
    /// Do not enter folders on another file system than their root's.
    pub one_file_system: bool,
    /// Folders that nobody looks into before the caller has come to them, absolute.
    pub late: Vec<PathBuf>,
    /// Folders that the caller looks after itself: each comes as an entry and is then handed over
    /// ([`Scanned::Deferred`]). In the scan's form. Other systems than Linux hand over none.
    pub deferred: Vec<Box<[u8]>>,
    /// Threads that list folders ahead of the caller; 0 leaves all to the caller's own.
    pub threads: usize,
    /// How many entries may lie ready before the threads pause. One folder alone may be more.
    pub lookahead_entries: usize,
}

impl ScanOptions {
    /// Everything below `roots`, listed by two threads.
    pub fn new(roots: Vec<PathBuf>) -> Self {
        Self {
            roots,
            excludes: Excludes::default(),
            one_file_system: false,
            late: Vec::new(),
            deferred: Vec::new(),
            threads: 2,
            lookahead_entries: 65_536,
        }
    }
}

/// One step of a scan.
#[derive(Debug)]
pub enum Scanned<'a> {
    /// An item of the source. Folders above a root come as entries too, without their other
    /// items; the folder `/` itself never does, for it has no name.
    Entry {
        /// Absolute, without the leading slash.
        path: &'a [u8],
        /// Its attributes.
        stat: &'a Stat,
    },
    /// Something that could not be read, after the entry of the folder it concerns.
    Problem(SourceError),
    /// The folder that came last is the caller's: nothing below it will come.
    Deferred(Deferred),
    /// Left out by the excludes; nothing below it will come.
    Excluded {
        /// Absolute, without the leading slash.
        path: &'a [u8],
    },
}

/// A folder that a scan does not enter because its caller wants to look after it.
#[derive(Debug)]
pub struct Deferred(
    #[cfg_attr(not(target_os = "linux"), expect(dead_code))] pub(super) Box<Folder>,
);

/// A scan under way. The order is that of [`super::compare_paths`] over all roots.
///
/// Items that vanish between the listing of their folder and the look at them are not mentioned:
/// deleting is normal. Nothing below the kernel's own file systems (`/proc`) comes unless a root
/// lies there.
pub struct Scan(Walker);

impl Scan {
    /// Opens the roots and starts listing.
    ///
    /// # Errors
    /// Names the root that does not exist, cannot be opened, or is not absolute and clean.
    pub fn start(options: ScanOptions) -> Result<Self, SourceError> {
        let plan = Plan::new(&options)?;
        Ok(Self(Walker::new(plan, options.threads, options.lookahead_entries)))
    }

    /// The next step, or `None` at the end.
    #[expect(clippy::should_implement_trait, reason = "what it returns borrows from the scan")]
    pub fn next(&mut self) -> Option<Scanned<'_>> {
        self.0.next()
    }

    /// What looks after deferred folders, by the same rules.
    #[cfg(target_os = "linux")]
    pub(crate) fn partial(&self) -> super::partial::PartialScan {
        self.0.partial()
    }

    /// The handles of the roots, for reading what the scan finds.
    pub fn roots(&self) -> Arc<Roots> {
        Arc::clone(self.0.roots())
    }
}
