//! What the program asks the machine: its name, the user, the time, where caches go and how many
//! processors there are.

use std::ffi::OsString;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use gabion::format::entry::Timestamp;

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

fn default_cache_folder() -> Option<PathBuf> {
    let absolute = |path: OsString| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    let base = variable("XDG_CACHE_HOME").and_then(absolute);
    Some(base.or_else(|| Some(home()?.join(".cache")))?.join("gabion"))
}

/// The user's home; a schedule may start the program without any variables.
fn home() -> Option<PathBuf> {
    let absolute = |path: PathBuf| Some(path).filter(|path| path.is_absolute());
    variable("HOME").map(PathBuf::from).and_then(absolute).or_else(|| {
        let user = nix::unistd::User::from_uid(nix::unistd::Uid::current()).ok().flatten();
        user.map(|user| user.dir).and_then(absolute)
    })
}

/// The folder that a job's state is kept in.
pub(crate) fn state_folder() -> Option<PathBuf> {
    let absolute = |path: OsString| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    let base = variable("XDG_STATE_HOME").and_then(absolute);
    Some(base.or_else(|| Some(home()?.join(".local/state")))?.join("gabion"))
}

/// Where a configuration may lie, the first that is there counts.
pub(crate) fn configuration_files() -> Vec<PathBuf> {
    let absolute = |path: OsString| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    let base = variable("XDG_CONFIG_HOME").and_then(absolute);
    let own = base.or_else(|| Some(home()?.join(".config")));
    let own = own.map(|base| base.join("gabion/gabion.toml"));
    own.into_iter().chain([PathBuf::from("/etc/gabion/gabion.toml")]).collect()
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
    fn network_file_systems_are_known_by_their_numbers() {
        assert_eq!(name_of_shared(0x6969), Some("NFS"));
        assert_eq!(name_of_shared(0xff53_4d42), Some("SMB"));
        for local in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x2fc1_2fc1] {
            assert_eq!(name_of_shared(local), None, "{local:x}");
        }
    }
}
