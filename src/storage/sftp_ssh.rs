//! The program that leads to another machine: the user's own `ssh`, which knows keys, names, ports
//! and ways.

use std::path::PathBuf;
use std::process::Command;

use super::place::RemotePlace;

/// How other machines are reached.
#[derive(Debug, Clone, Default)]
pub struct Ssh {
    /// The shell command in place of `ssh`.
    pub command: Option<String>,
    /// Nobody is there to answer: what ssh would ask is an error.
    pub batch: bool,
    /// A folder of this machine that outlives the process, where it notes what it has not finished.
    pub notes: Option<PathBuf>,
}

/// The program that leads to `place`. What the user's command says comes first, and ssh takes the
/// first of two contradicting options.
pub(super) fn command(place: &RemotePlace, ssh: &Ssh) -> Command {
    let mut command = Command::new("/bin/sh");
    // An interruption is gabion's to handle; the line has to hold until it has.
    let program = ssh.command.as_deref().unwrap_or("ssh");
    command.arg("-c").arg(format!("trap '' INT; exec {program} \"$@\"")).arg("sh");
    let mut option = |text: &str| {
        command.args(["-o", text]);
    };
    if ssh.batch {
        option("BatchMode=yes");
    }
    // A dead line is noticed within a minute.
    for text in ["ConnectTimeout=30", "ServerAliveInterval=15", "ServerAliveCountMax=3"] {
        option(text);
    }
    for text in ["ForwardAgent=no", "ForwardX11=no", "PermitLocalCommand=no"] {
        option(text);
    }
    option("ClearAllForwardings=yes");
    if let Some(port) = place.port() {
        command.args(["-p", &port.to_string()]);
    }
    let user = place.user().map(|user| format!("{user}@")).unwrap_or_default();
    command.arg("-s").arg(format!("{user}{}", place.host())).arg("sftp");
    command
}
