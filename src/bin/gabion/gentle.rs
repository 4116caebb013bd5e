//! Work that gives way to others: with less processor time and only idle disks.

use std::process::{Command, Stdio};
use std::thread::{Builder, ScopedJoinHandle};

use gabion::job::config::Limits;

use crate::console::Console;
use crate::errors::Failure;

/// Does `work` as gently as `limits` say. Priorities belong to threads and those that they start,
/// and are not given back, so gentle work gets a thread of its own.
pub(crate) fn gently<T: Send>(
    limits: &Limits,
    console: &Console,
    work: impl FnOnce() -> Result<T, Failure> + Send,
) -> Result<T, Failure> {
    if limits.nice == 0 && !limits.idle_io {
        return work();
    }
    let done = std::thread::scope(|scope| {
        let gentle = Builder::new().name("gentle".into()).spawn_scoped(scope, || {
            give_way(limits, console);
            work()
        });
        gentle.map(ScopedJoinHandle::join).map_err(|error| Failure::no_thread(&error))
    });
    done?.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// What cannot be had is said; the work is done all the same.
fn give_way(limits: &Limits, console: &Console) {
    if limits.nice > 0
        && let Err(error) = rustix::process::nice(i32::from(limits.nice))
    {
        console.notice(&format!("`nice` has no effect: {error}"));
    }
    if limits.idle_io {
        let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
        let mut ionice = Command::new("ionice");
        ionice.args(["-c", "3", "-p", &thread]);
        ionice.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match ionice.status() {
            Ok(status) if status.success() => {}
            Ok(status) => console.notice(&format!("`ionice` has no effect: {status}")),
            Err(error) => console.notice(&format!("`ionice` has no effect: {error}")),
        }
    }
}
