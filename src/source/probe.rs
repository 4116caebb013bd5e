//! Where tests come between any two calls that a walk makes to the kernel, and change what these
//! say: the files of a simulated source change there, and have the numbers and times that the
//! simulation gives them. In a program it is of no size and does nothing.

#[cfg(test)]
use std::path::{Path, PathBuf};
#[cfg(test)]
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;

use super::Stat;

/// A call to the kernel that is about to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// Something is opened, by its path below the root.
    Open,
    /// The names in a directory are read.
    List,
    /// The attributes of an item are read.
    Look,
    /// Bytes of a file are read.
    Read,
    /// Extended attributes are read.
    Xattrs,
}

/// What a simulation does at each call.
#[cfg(test)]
pub(crate) trait Script: std::fmt::Debug + Send + Sync {
    /// Before `call` about the item at `path`; an error is the answer in place of the call.
    fn before(&self, call: Call, path: &[u8]) -> Result<(), Errno>;
    /// Changes what the kernel said of an item.
    fn told(&self, stat: &mut Stat);
    /// How many of `wanted` bytes one call reads at most.
    fn room(&self, wanted: usize) -> usize;
    /// Above which size a file is read in slabs, and how many jobs make a batch.
    fn sizes(&self) -> (u64, usize);
}

/// The scripts of the simulations that run, by the root of their source.
#[cfg(test)]
static SCRIPTS: Mutex<Vec<(PathBuf, Arc<dyn Script>)>> = Mutex::new(Vec::new());

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Probe {
    #[cfg(test)]
    script: Option<Arc<dyn Script>>,
}

#[cfg(not(test))]
#[expect(clippy::unused_self, reason = "there is something in it in tests")]
impl Probe {
    #[inline]
    pub(crate) fn before(&self, _call: Call, _path: &[u8]) -> Result<(), Errno> {
        Ok(())
    }

    #[inline]
    pub(crate) fn of(_root: &std::path::Path) -> Self {
        Self {}
    }

    #[inline]
    pub(crate) fn told(&self, _stat: &mut Stat) {}

    #[inline]
    pub(crate) fn room(&self, wanted: usize) -> usize {
        wanted
    }

    #[inline]
    pub(crate) fn sizes(&self, large: u64, jobs: usize) -> (u64, usize) {
        (large, jobs)
    }
}

#[cfg(test)]
impl Probe {
    /// The probe of the source with this root.
    pub(crate) fn of(root: &Path) -> Self {
        let scripts = SCRIPTS.lock().unwrap_or_else(PoisonError::into_inner);
        let found = scripts.iter().find(|(path, _)| path == root);
        Self { script: found.map(|(_, script)| Arc::clone(script)) }
    }

    /// From now on `script` is asked about the source with this root.
    pub(crate) fn install(root: &Path, script: Arc<dyn Script>) {
        let mut scripts = SCRIPTS.lock().unwrap_or_else(PoisonError::into_inner);
        scripts.push((root.to_owned(), script));
    }

    /// Ends that.
    pub(crate) fn remove(root: &Path) {
        let mut scripts = SCRIPTS.lock().unwrap_or_else(PoisonError::into_inner);
        scripts.retain(|(path, _)| path != root);
    }

    pub(crate) fn before(&self, call: Call, path: &[u8]) -> Result<(), Errno> {
        self.script.as_ref().map_or(Ok(()), |script| script.before(call, path))
    }

    pub(crate) fn told(&self, stat: &mut Stat) {
        if let Some(script) = &self.script {
            script.told(stat);
        }
    }

    pub(crate) fn room(&self, wanted: usize) -> usize {
        self.script.as_ref().map_or(wanted, |script| script.room(wanted))
    }

    pub(crate) fn sizes(&self, large: u64, jobs: usize) -> (u64, usize) {
        self.script.as_ref().map_or((large, jobs), |script| script.sizes())
    }
}
