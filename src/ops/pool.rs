//! Pools of threads.

use std::io;
use std::sync::OnceLock;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::repo::RepositoryError;

/// A pool of `threads` threads, or of as many as the system allows.
///
/// # Errors
/// When it does not allow a single one.
pub(super) fn pool(threads: usize) -> Result<ThreadPool, RepositoryError> {
    let mut wanted = threads.max(1);
    loop {
        let name = |number| format!("worker {number}");
        match ThreadPoolBuilder::new().num_threads(wanted).thread_name(name).build() {
            Ok(pool) => return Ok(pool),
            Err(_) if wanted > 1 => wanted /= 2,
            Err(error) => return Err(RepositoryError::Thread(io::Error::other(error))),
        }
    }
}

/// The pool for work that brings none: one for the whole process, with a thread for each core.
///
/// # Errors
/// As [`pool`].
pub(super) fn shared_pool() -> Result<&'static ThreadPool, RepositoryError> {
    static POOL: OnceLock<ThreadPool> = OnceLock::new();
    if POOL.get().is_none() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        // Another thread may have been faster: then this pool ends.
        drop(POOL.set(pool(cores)?));
    }
    Ok(POOL.get().expect("set just above"))
}
