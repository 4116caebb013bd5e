//! What a server over SFTP answers.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::OnceLock;

use gabion::storage::{ObjectKind, ObjectName, Place, SftpStorage, Ssh, Storage};

/// Most bytes of an object.
const LIMIT: u64 = 1 << 16;

/// The input is everything that a server ever says, whatever it is asked.
///
/// Whatever it is, opening a repository, listing and reading come to an end, with an error or with
/// no more than they may give.
pub fn sftp_answers(data: &[u8]) {
    ignore_broken_pipes();
    let file = file();
    std::fs::write(file, data).expect("room for the input");
    // What follows are arguments for ssh.
    let command = Some(format!("cat {} #", file.display()));
    let ssh = Ssh { command, batch: true, notes: None };
    let place = Place::parse(OsStr::new("host:/repository"));
    let Ok(Place::Remote(place)) = place else { panic!("{place:?}") };
    let Ok(storage) = SftpStorage::open(&place, &ssh) else { return };
    for kind in [ObjectKind::Snapshot, ObjectKind::Pack] {
        if let Ok(listing) = storage.list(kind) {
            assert!(listing.objects.iter().all(|(name, _)| name.kind == kind), "{listing:?}");
        }
    }
    if let Ok(bytes) = storage.read(ObjectName::CONFIG, LIMIT) {
        assert!(bytes.len() as u64 <= LIMIT);
    }
    let mut buffer = [0; 100];
    let _ = storage.read_range(ObjectName::CONFIG, 3, &mut buffer);
}

/// As the runtime of every Rust program does, which a fuzzer's does not have: who writes to a program
/// that has ended gets an error and goes on.
fn ignore_broken_pipes() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    // SAFETY: no handler is installed that could run.
    ONCE.call_once(|| unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
    });
}

/// Of this process alone, in memory where that is possible.
fn file() -> &'static PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let memory = PathBuf::from("/dev/shm");
        let folder = if memory.is_dir() { memory } else { std::env::temp_dir() };
        folder.join(format!("gabion-fuzz-{}", std::process::id()))
    })
}
