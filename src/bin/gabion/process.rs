//! The process itself: what it keeps to itself, what it may use, and how it is told to stop.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};

use crate::errors::{Exit, Failure};

/// Open files that are asked for, as far as the hard limit allows.
const WANTED_FILES: u64 = 65_536;

/// Settles what has to be settled before the first secret is in memory. None of it is needed for
/// correct work, so what the system refuses is left as it is.
pub(crate) fn prepare() {
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let files = getrlimit(Resource::Nofile);
    let wanted = files.maximum.map_or(WANTED_FILES, |most| most.min(WANTED_FILES));
    if files.current.is_some_and(|now| now < wanted) {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..files });
    }
    // A file that reaches the limit on its size (`ulimit -f`) is a write that fails with a reason.
    // The signal would end the program without a word; programs that are started still get it.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    give_memory_back();
}

/// Arenas of the allocator, in place of eight for each processor: each keeps what was freed in it.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const ARENAS: i32 = 2;
/// Bytes from which on a piece of memory is the system's again as soon as it is freed. By itself
/// the allocator raises this to the longest buffer that ever was, and keeps them all.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: i32 = 1 << 20;

/// Bounds what the C library's allocator keeps for later: a third of a first snapshot's memory.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "no safe wrapper of mallopt exists")]
fn give_memory_back() {
    // SAFETY: it only sets numbers, and no other thread allocates yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}

/// From here on, nobody else can read what is written. A restore must not ask for this: its files
/// are the user's.
pub(crate) fn private_files() {
    umask(Mode::RWXG | Mode::RWXO);
}

/// A flag that is set when the user or the system asks the program to end. Asking a second time
/// ends it at once. Only for operations that look at the flag: others are ended by the signal. The
/// end of the session stays ignored where it is from the start, as under `nohup`.
pub(crate) fn interruption() -> Result<Arc<AtomicBool>, Failure> {
    let flag = Arc::new(AtomicBool::new(false));
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let end_of_session = (!is_ignored(&status, SIGHUP)).then_some(SIGHUP);
    for signal in [SIGINT, SIGTERM].into_iter().chain(end_of_session) {
        // The order counts: the shutdown looks at the flag before this signal sets it.
        let exit = Exit::Interrupted as i32;
        signal_hook::flag::register_conditional_shutdown(signal, exit, Arc::clone(&flag))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&flag)))
            .map_err(|error| Failure::io("cannot handle signals", &error))?;
    }
    Ok(flag)
}

/// Whether the process ignores a signal, as the system's `status` of it says.
fn is_ignored(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_counts_from_one() {
        let status = "Name:\tgabion\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000004001\n";
        assert!(is_ignored(status, SIGHUP) && is_ignored(status, SIGTERM));
        assert!(!is_ignored(status, SIGINT) && !is_ignored("", SIGHUP));
    }
}
