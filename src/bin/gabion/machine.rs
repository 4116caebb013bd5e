//! What the program asks the machine: its name, the user, the time, where caches go and how many
//! processors there are.

use std::ffi::OsString;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use gabion::format::entry::Timestamp;
use gabion::format::snapshot::{ProcessIdentity, Session};
use gabion::repo::Presence;

use crate::console::Console;

/// The machine's name.
pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The user's name, or number where there is no name.
pub(crate) fn user() -> String {
    let uid = nix::unistd::Uid::current();
    let known = nix::unistd::User::from_uid(uid).ok().flatten();
    known.map_or_else(|| uid.to_string(), |user| user.name)
}

/// Where `gabion watch` listens if nothing else is said.
const WATCH_SOCKET: &str = "/run/gabion/watch.sock";

/// Where `gabion watch` listens.
pub(crate) fn watch_socket() -> PathBuf {
    std::env::var_os("GABION_WATCH_SOCKET")
        .filter(|path| !path.is_empty())
        .map_or_else(|| WATCH_SOCKET.into(), PathBuf::from)
}

/// What tells this process from every other of the machine, where the kernel says so.
pub(crate) fn identity() -> Option<ProcessIdentity> {
    Some(ProcessIdentity {
        boot: std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned(),
        namespace: std::fs::metadata("/proc/self/ns/pid").ok()?.ino(),
        started: start_of("self")?,
    })
}

/// This process, as sessions announce it.
pub(crate) fn presence() -> Presence {
    Presence { host: host(), now: now(), identity: identity() }
}

/// Whether the process of `session` has certainly ended: it ran under the same kernel, among the
/// same processes as this one, and is not there any more. False where that cannot be known.
pub(crate) fn has_ended(session: &Session) -> bool {
    process_has_ended(session.process, session.identity.as_ref(), false)
}

/// The same of a process of this machine, as which it is known to have run: when the machine has
/// started anew since, it has ended.
pub(crate) fn own_process_has_ended(process: u32, identity: Option<&ProcessIdentity>) -> bool {
    process_has_ended(process, identity, true)
}

fn process_has_ended(process: u32, identity: Option<&ProcessIdentity>, here: bool) -> bool {
    let (Some(its), Some(own)) = (identity, self::identity()) else { return false };
    if here && its.boot != own.boot {
        return true;
    }
    if (&its.boot, its.namespace) != (&own.boot, own.namespace) {
        return false;
    }
    let process = process.to_string();
    match std::fs::exists(Path::new("/proc").join(&process)) {
        Ok(true) => start_of(&process).is_some_and(|started| started != its.started),
        Ok(false) => true,
        Err(_) => false,
    }
}

/// When a process was started, in ticks since the boot: the 22nd word of its line, counted behind
/// the name, which is in parentheses and may hold anything.
fn start_of(process: &str) -> Option<u64> {
    let line = std::fs::read_to_string(Path::new("/proc").join(process).join("stat")).ok()?;
    let (_, words) = line.rsplit_once(')')?;
    words.split_whitespace().nth(19)?.parse().ok()
}

/// The time of the machine's clock.
pub(crate) fn now() -> Timestamp {
    let now = jiff::Timestamp::now().as_nanosecond();
    let seconds = i64::try_from(now.div_euclid(1_000_000_000)).unwrap_or(i64::MAX);
    let nanos = u32::try_from(now.rem_euclid(1_000_000_000)).unwrap_or(0);
    Timestamp { seconds, nanos }
}

/// The time of the machine's clock as text (RFC 3339).
pub(crate) fn now_text() -> String {
    format!("{:.0}", jiff::Timestamp::now())
}

/// How many threads can run at once.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The value of a variable; one that is set to nothing counts as not set.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The folder that derived data is kept in, made if need be; nothing when there is no good place,
/// which the console is told.
pub(crate) fn cache_folder(chosen: Option<&Path>, console: &Console) -> Option<PathBuf> {
    let Some(folder) = chosen.map(Path::to_path_buf).or_else(default_cache_folder) else {
        console.note("no cache folder: neither HOME nor XDG_CACHE_HOME is set");
        return None;
    };
    let made = std::path::absolute(&folder).and_then(|folder| {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(folder)
    });
    let folder = match made {
        Ok(folder) => folder,
        Err(error) => {
            console.note(&format!("no cache folder: cannot make {}: {error}", folder.display()));
            return None;
        }
    };
    if let Some(kind) = shared_filesystem(&folder) {
        let place = folder.display();
        console.note(&format!("no cache folder: {place} lies on {kind}, where it would break"));
        return None;
    }
    Some(folder)
}

/// Where derived data is kept if nothing else is said.
pub(crate) fn default_cache_folder() -> Option<PathBuf> {
    let absolute = |path: OsString| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    let base = variable("XDG_CACHE_HOME").and_then(absolute);
    let base = base.or_else(|| Some(home()?.join(".cache")));
    Some(
        base.filter(|base| is_own(base))
            .or_else(|| Some(home_on_record()?.join(".cache")))?
            .join("gabion"),
    )
}

/// The user's home; a schedule may start the program without any variables.
pub(crate) fn home() -> Option<PathBuf> {
    let absolute = |path: PathBuf| Some(path).filter(|path| path.is_absolute());
    variable("HOME").map(PathBuf::from).and_then(absolute).or_else(home_on_record)
}

/// The user's home by the machine's list of users.
fn home_on_record() -> Option<PathBuf> {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::effective()).ok().flatten();
    user.map(|user| user.dir).filter(|path| path.is_absolute())
}

/// Whether what this process makes in `folder` may be its own. Root must not leave files in another
/// user's home (sudo may keep HOME): they would lock that user out.
fn is_own(folder: &Path) -> bool {
    if !nix::unistd::Uid::effective().is_root() {
        return true;
    }
    let there = folder.ancestors().find_map(|folder| std::fs::metadata(folder).ok());
    there.is_none_or(|there| there.uid() == 0)
}

/// The folder that a job's state is kept in.
pub(crate) fn state_folder() -> Option<PathBuf> {
    let absolute = |path: OsString| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    let base = variable("XDG_STATE_HOME").and_then(absolute);
    let base = base.or_else(|| Some(home()?.join(".local/state")));
    let base = base.filter(|base| is_own(base));
    Some(base.or_else(|| Some(home_on_record()?.join(".local/state")))?.join("gabion"))
}

/// Where a configuration may lie, the first that is there counts.
pub(crate) fn configuration_files() -> Vec<PathBuf> {
    let absolute = |path: OsString| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    let base = variable("XDG_CONFIG_HOME").and_then(absolute);
    let own = base.or_else(|| Some(home()?.join(".config")));
    let own = own.map(|base| base.join("gabion/gabion.toml"));
    own.into_iter().chain([PathBuf::from("/etc/gabion/gabion.toml")]).collect()
}

/// Where a configuration of this user's is written: for the whole machine when the user is root,
/// unless there is one of root's own already.
pub(crate) fn own_configuration_file() -> Option<PathBuf> {
    let files = configuration_files();
    let there = files.iter().find(|file| file.exists());
    let root = nix::unistd::Uid::effective().is_root();
    there.or(if root { files.last() } else { files.first() }).cloned()
}

/// The kind of file system that `folder` lies on, if it is one on which a database cannot rely on
/// locks and shared memory.
#[cfg(target_os = "linux")]
fn shared_filesystem(folder: &Path) -> Option<&'static str> {
    let stat = rustix::fs::statfs(folder).ok()?;
    name_of_shared(u64::try_from(stat.f_type).ok()?)
}

#[cfg(not(target_os = "linux"))]
fn shared_filesystem(_folder: &Path) -> Option<&'static str> {
    None
}

/// The name of the file system with this number, if it is shared between machines or made by a
/// program.
#[cfg(target_os = "linux")]
fn name_of_shared(magic: u64) -> Option<&'static str> {
    Some(match magic {
        0x6969 => "NFS",
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => "SMB",
        0x6573_5546 => "FUSE",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x0102_1997 => "9p",
        0x00c3_6400 => "Ceph",
        _ => return None,
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_that_is_surely_gone_has_ended() {
        let own = identity().expect("this kernel has /proc");
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let session = |process: u32, identity: ProcessIdentity| Session {
            id: gabion::id::SessionId::random(),
            role: "snapshot".into(),
            host: host(),
            process,
            started: now().into(),
            identity: Some(identity),
            forgets: Vec::new(),
            over: false,
        };
        let me = std::process::id();
        assert!(!has_ended(&session(me, own.clone())));
        let earlier = ProcessIdentity { started: own.started - 1, ..own.clone() };
        assert!(has_ended(&session(me, earlier)), "its number was given to another process");
        assert!(child.wait().unwrap().success());
        assert!(has_ended(&session(child.id(), own.clone())));
        let elsewhere = ProcessIdentity { boot: "another".into(), ..own.clone() };
        assert!(!has_ended(&session(child.id(), elsewhere)));
        let container = ProcessIdentity { namespace: own.namespace + 1, ..own };
        assert!(!has_ended(&session(child.id(), container)));
    }

    #[test]
    fn network_file_systems_are_known_by_their_numbers() {
        assert_eq!(name_of_shared(0x6969), Some("NFS"));
        assert_eq!(name_of_shared(0xff53_4d42), Some("SMB"));
        for local in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x2fc1_2fc1] {
            assert_eq!(name_of_shared(local), None, "{local:x}");
        }
    }
}
