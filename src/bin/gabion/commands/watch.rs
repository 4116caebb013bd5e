//! `gabion watch`: knows what changes, so that snapshots need not look for it.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use gabion::format::path::printable;
use gabion::watch::{ServeOptions, Status, WatchError, serve, status};

use crate::errors::{Exit, Failure};
use crate::output::{one_json, one_line};
use crate::render::values::counted;
use crate::session::Session;
use crate::{machine, sources};

/// Watch file systems, so that snapshots know what changed without a look
///
/// Runs until it is ended, for the superuser only: the kernel tells it of every change on the whole
/// file systems of PATH and of what is mounted below. A snapshot with --watched (or a job with
/// `watched = true`) looks only at what changed since the one before; where not everything is known
/// for certain, it looks at everything and says why.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES:
  gabion watch /srv/files &
  gabion watch /srv/files --print-unit > /etc/systemd/system/gabion-watch.service
  gabion snapshot /srv/files --watched
  gabion watch --status
It listens at /run/gabion/watch.sock, or where the environment variable GABION_WATCH_SOCKET says to
it and to snapshots. It keeps what it watches from being unmounted. Only ext4, xfs, tmpfs and f2fs
can be watched: others may change without this kernel's knowledge.")]
pub(crate) struct Args {
    /// Anything on the file systems to watch
    #[arg(value_name = "PATH", required_unless_present = "status")]
    paths: Vec<PathBuf>,
    /// Say what a running one watches and knows
    #[arg(long, conflicts_with_all = ["paths", "print_unit"])]
    status: bool,
    /// Print a systemd unit that does this
    #[arg(long)]
    print_unit: bool,
}

/// Watches, or says how it is.
pub(crate) fn run(session: &Session, args: Args) -> Result<Exit, Failure> {
    let socket = machine::watch_socket();
    if args.status {
        return tell(session, &status(&socket)?);
    }
    let paths: Vec<PathBuf> =
        args.paths.iter().map(|path| sources::absolute(path)).collect::<Result<_, _>>()?;
    if args.print_unit {
        one_line(unit(&paths)?)?;
        return Ok(Exit::Done);
    }
    let interrupted = session.interruption()?;
    let options = ServeOptions { paths, socket, interrupted };
    serve(&options, |paths| {
        let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        let at = options.socket.display();
        session.console.notice(&format!("watching {}; listening at {at}", paths.join(", ")));
    })?;
    Ok(Exit::Done)
}

fn tell(session: &Session, status: &Status) -> Result<Exit, Failure> {
    if session.json() {
        one_json(status)?;
        return Ok(Exit::Done);
    }
    let paths: Vec<_> = status.paths.iter().map(|path| printable(&path.0)).collect();
    one_line(format!(
        "watching {}; {} known to {}",
        paths.join(", "),
        counted(status.changes as u64, "change", "changes"),
        counted(status.series as u64, "series of snapshots", "series of snapshots"),
    ))?;
    Ok(Exit::Done)
}

/// The unit. What a `%` or a blank means to systemd is not what it means to a file system.
fn unit(paths: &[PathBuf]) -> Result<String, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::io("cannot tell where gabion itself lies", &error))?;
    let plain = |path: &Path| {
        let good = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._+,:@=-".contains(byte);
        let bytes = path.as_os_str().as_bytes();
        bytes.iter().all(good).then(|| String::from_utf8_lossy(bytes).into_owned()).ok_or_else(
            || {
                Failure::usage(format!("systemd would misread the path {}", path.display()))
                    .hint("use a path of letters, digits and any of / . _ + , : @ = -")
            },
        )
    };
    let paths = paths.iter().map(|path| plain(path)).collect::<Result<Vec<_>, _>>()?.join(" ");
    let program = plain(&program)?;
    Ok(format!(
        "[Unit]
Description=gabion watch {paths}
RequiresMountsFor={paths}

[Service]
ExecStart={program} watch {paths}
Restart=on-failure
RuntimeDirectory=gabion
RuntimeDirectoryMode=0700
CapabilityBoundingSet=CAP_SYS_ADMIN CAP_DAC_READ_SEARCH
NoNewPrivileges=yes
MemoryMax=1G
PrivateNetwork=yes
RestrictAddressFamilies=AF_UNIX
RestrictRealtime=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes

[Install]
WantedBy=multi-user.target"
    ))
}

impl From<WatchError> for Failure {
    fn from(error: WatchError) -> Self {
        let failure = Self::of(Exit::Failed, &error);
        match &error {
            WatchError::Io { source, .. }
                if source.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                failure.hint("only the superuser can watch whole file systems")
            }
            WatchError::Io { action: "talk to `gabion watch` at", .. } => {
                failure.hint("is `gabion watch` running?")
            }
            WatchError::Untrusted(_) => failure
                .hint("set GABION_WATCH_SOCKET to where `gabion watch` of the superuser listens"),
            WatchError::NotLocal { .. } => {
                failure.hint("leave it out; snapshots of it look at everything")
            }
            _ => failure,
        }
    }
}
