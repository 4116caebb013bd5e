//! The scratch folder of a drill, and the programs and servers that run in it.

use std::collections::VecDeque;
use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::ops::program::{Finished, ProgramError, describe, last_lines, run_to_end};
use crate::ops::{OpError, StreamFailure};

/// Where programs are looked for. The caller's search path is not used: nothing of the caller's
/// environment reaches what a dump may run.
const FOLDERS: [&str; 8] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/usr/libexec",
    "/sbin",
    "/bin",
    "/opt/homebrew/bin",
];
/// How long a server may take to answer for the first time.
const START: Duration = Duration::from_secs(300);
/// How long a server may take to end when it is told to.
const END: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_millis(50);
/// Room that a database takes for each byte of its dump, with its indices and logs.
const ROOM: u64 = 2;

/// A user of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

/// A name for a scratch folder in `folder` that nothing has yet.
pub fn scratch_path(folder: &Path) -> PathBuf {
    let mut bytes = [0; 6];
    crate::id::fill_random(&mut bytes);
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    folder.join(format!("gabion-drill-{digits}"))
}

/// Removes a scratch folder, if it is there. A server that was told to end may still remove files
/// of its own meanwhile.
///
/// # Errors
/// When something of it stays.
pub fn remove_scratch(path: &Path) -> io::Result<()> {
    let named = path.file_name().and_then(|name| name.to_str());
    if !named.is_some_and(|name| name.starts_with("gabion-drill-")) {
        return Err(io::Error::other("it is no scratch folder"));
    }
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        match std::fs::remove_dir_all(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !path.exists() => {
                return Ok(());
            }
            Err(error) if Instant::now() >= until => return Err(error),
            Err(_) => std::thread::sleep(TICK),
        }
    }
}

/// The folder; removed when dropped.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    account: Option<Account>,
}

impl Scratch {
    /// Makes it.
    pub(super) fn make(path: PathBuf, account: Option<Account>) -> Result<Self, OpError> {
        let failed = |error: io::Error| refused("make the scratch folder", &path, &error);
        DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
        let scratch = Self { path: path.clone(), account };
        if account.is_some() {
            // Who runs the servers has to get through, but sees nothing.
            std::fs::set_permissions(&path, Permissions::from_mode(0o711)).map_err(failed)?;
        }
        Ok(scratch)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses to begin what the disk has no room for.
    pub(super) fn check_room(&self, bytes: u64) -> Result<(), OpError> {
        let about = rustix::fs::statvfs(&self.path)
            .map_err(|error| refused("look at", &self.path, &error.into()))?;
        let free = about.f_bavail.saturating_mul(about.f_frsize);
        let needed = bytes.saturating_mul(ROOM);
        if free >= needed {
            return Ok(());
        }
        let place = self.path.parent().unwrap_or(&self.path).display();
        let (needed, free) = (needed >> 20, free >> 20);
        Err(OpError::Refused(format!(
            "a drill needs about {needed} MiB in {place}, where {free} MiB are free: name another \
             place with `drill.folder`"
        )))
    }

    /// A private folder in it, of whoever runs the servers.
    pub(super) fn room(&self, name: &str) -> Result<Room, OpError> {
        let path = self.path.join(name);
        let failed = |error: io::Error| refused("make", &path, &error);
        DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
        if let Some(Account { uid, gid }) = self.account {
            std::os::unix::fs::chown(&path, Some(uid), Some(gid)).map_err(failed)?;
        }
        Ok(Room { path: path.clone(), account: self.account })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is removed by the next drill.
        let _ = remove_scratch(&self.path);
    }
}

fn refused(action: &str, path: &Path, error: &io::Error) -> OpError {
    OpError::Refused(format!("cannot {action} {}: {error}", path.display()))
}

/// The first of these programs that is there: in `folder`, or where programs usually are.
pub(super) fn find(folder: Option<&Path>, names: &[&str]) -> Option<PathBuf> {
    let usual = FOLDERS.iter().map(Path::new);
    let folders: Vec<&Path> = folder.into_iter().chain(usual).collect();
    let places = names.iter().flat_map(|name| folders.iter().map(move |at| at.join(name)));
    places.into_iter().find(|path| path.is_file())
}

/// A folder in which programs run, by whom, and with nothing of the caller's environment.
#[derive(Debug)]
pub(super) struct Room {
    path: PathBuf,
    account: Option<Account>,
}

impl Room {
    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A private folder in it.
    pub(super) fn folder(&self, name: &str) -> Result<PathBuf, OpError> {
        let path = self.path.join(name);
        let failed = |error: io::Error| refused("make", &path, &error);
        DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
        if let Some(Account { uid, gid }) = self.account {
            std::os::unix::fs::chown(&path, Some(uid), Some(gid)).map_err(failed)?;
        }
        Ok(path)
    }

    /// The program, ready to get its arguments.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", FOLDERS.join(":")).env("LC_ALL", "C.UTF-8");
        command.env("HOME", &self.path).current_dir(&self.path);
        if let Some(Account { uid, gid }) = self.account {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// What a program prints, which must succeed.
    pub(super) fn ask(
        &self,
        subject: &str,
        command: Command,
        interrupted: &AtomicBool,
    ) -> Result<String, OpError> {
        let name = command.get_program().to_string_lossy().into_owned();
        match run_to_end(command, None, interrupted) {
            Ok(Finished { status, stdout, .. }) if status.success() => {
                Ok(String::from_utf8_lossy(&stdout).into_owned())
            }
            Ok(Finished { status, stderr_tail, .. }) => {
                let reason = format!("{name} {}", describe(status));
                Err(StreamFailure { name: subject.to_owned(), reason, stderr_tail }.into())
            }
            Err(ProgramError::Interrupted) => Err(OpError::Interrupted),
            Err(error) => Err(failure(subject, format!("{name}: {error}"))),
        }
    }

    /// What a program prints, whether or not it succeeds.
    pub(super) fn answer(
        &self,
        subject: &str,
        command: Command,
        interrupted: &AtomicBool,
    ) -> Result<String, OpError> {
        match run_to_end(command, None, interrupted) {
            Ok(done) => Ok(String::from_utf8_lossy(&done.stdout).into_owned()),
            Err(ProgramError::Interrupted) => Err(OpError::Interrupted),
            Err(error) => Err(failure(subject, error.to_string())),
        }
    }

    /// A file for what a program writes to its standard error.
    pub(super) fn stderr(&self, name: &str) -> Result<(File, PathBuf), OpError> {
        let path = self.path.join(name);
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(true).open(&path);
        file.map(|file| (file, path.clone())).map_err(|error| refused("make", &path, &error))
    }

    /// Starts a server, which ends with this process, and waits until `answers` says that it does.
    pub(super) fn serve(
        &self,
        mut command: Command,
        ending: Signal,
        interrupted: &AtomicBool,
        mut answers: impl FnMut() -> bool,
    ) -> Result<Server, OpError> {
        let name = command.get_program().to_string_lossy().into_owned();
        let (log, log_path) = self.stderr("log")?;
        let output = log.try_clone().map_err(|error| refused("write", &log_path, &error))?;
        command.stdin(Stdio::null()).stdout(output).stderr(log).process_group(0);
        end_with_parent(&mut command, ending);
        let child = command.spawn().map_err(|error| failure(&name, error.to_string()))?;
        let mut server = Server { child, ending };
        let until = Instant::now() + START;
        loop {
            if answers() {
                return Ok(server);
            }
            if interrupted.load(Ordering::Relaxed) {
                return Err(OpError::Interrupted);
            }
            let ended = server.child.try_wait().ok().flatten().map(describe);
            let reason = match ended {
                None if Instant::now() < until => {
                    std::thread::sleep(TICK);
                    continue;
                }
                None => "does not answer".to_owned(),
                Some(how) => format!("{how} instead of serving"),
            };
            let stderr_tail = File::open(&log_path).map(last_lines).unwrap_or_default();
            return Err(StreamFailure { name, reason, stderr_tail }.into());
        }
    }
}

/// A server that runs; ended when dropped.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    /// What ends it at once and lets it end its own processes.
    ending: Signal,
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, self.ending);
        }
        let until = Instant::now() + END;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(TICK / 5);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Has the kernel send `signal` to the program when the thread that starts it ends, however.
#[cfg(target_os = "linux")]
fn end_with_parent(command: &mut Command, signal: Signal) {
    let parent = rustix::process::getpid();
    let before = move || {
        rustix::process::set_parent_process_death_signal(Some(signal))?;
        match rustix::process::getppid() == Some(parent) {
            true => Ok(()),
            // It ended before the signal was asked for.
            false => Err(rustix::io::Errno::SRCH.into()),
        }
    };
    // SAFETY: between fork and exec only system calls may be made; these are two, and nothing is
    // allocated.
    #[expect(unsafe_code, reason = "no safe function can be run there")]
    unsafe {
        command.pre_exec(before);
    }
}

#[cfg(not(target_os = "linux"))]
fn end_with_parent(_command: &mut Command, _signal: Signal) {}

/// A failure of what is named.
pub(super) fn failure(name: &str, reason: impl Into<String>) -> OpError {
    let (name, reason) = (name.to_owned(), reason.into());
    StreamFailure { name, reason, stderr_tail: Vec::new() }.into()
}

/// The lines of a program's standard error that `wanted` picks, and how many more there were.
pub(super) fn lines_of(
    path: &Path,
    most: usize,
    wanted: impl Fn(&str) -> bool,
) -> (VecDeque<String>, usize) {
    use std::io::BufRead as _;
    let (mut lines, mut more) = (VecDeque::new(), 0);
    let Ok(file) = File::open(path) else { return (lines, more) };
    for line in io::BufReader::new(file).split(b'\n').map_while(Result::ok) {
        let line = crate::format::path::harmless(&line);
        if wanted(&line) {
            if lines.len() < most {
                lines.push_back(line);
            } else {
                more += 1;
            }
        }
    }
    (lines, more)
}
