//! Where passphrases and key files come from: options, variables, a program, the terminal. Never
//! an argument: every user of a machine can read those.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;

use gabion::crypto::key_file::KeyFile;
use gabion::crypto::passphrase::Passphrase;
use gabion::job::config::KeyPlace;
use gabion::job::output_file::create_private;
use gabion::ops::program::{ProgramError, describe, run_to_end};
use gabion::repo::Unlock;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::console::Console;
use crate::errors::{Exit, Failure};
use crate::machine::variable;

/// Longest passphrase or key file that is read, in bytes.
const MAX_LEN: u64 = 64 << 10;

/// The variables, for messages.
const VARIABLES: &str =
    "GABION_PASSWORD, GABION_PASSWORD_FILE, GABION_PASSWORD_COMMAND or GABION_KEY_FILE";

/// Where one secret comes from.
#[derive(Debug, Clone)]
pub(crate) enum KeySource {
    /// The passphrase itself, from a variable.
    Passphrase(OsString),
    /// A file that holds the passphrase.
    PassphraseFile(PathBuf),
    /// A shell command that prints the passphrase.
    PassphraseCommand(OsString),
    /// A key file.
    KeyFile(PathBuf),
}

impl KeySource {
    /// The one that the configuration names.
    pub(crate) fn configured(place: &KeyPlace) -> Self {
        match place {
            KeyPlace::PasswordCommand(command) => Self::PassphraseCommand(command.into()),
            KeyPlace::PasswordFile(path) => Self::PassphraseFile(path.clone()),
            KeyPlace::KeyFile(path) => Self::KeyFile(path.clone()),
        }
    }

    /// The one that is set in the environment.
    ///
    /// # Errors
    /// When several are: which of them counts should not have to be known by heart.
    pub(crate) fn from_environment() -> Result<Option<Self>, Failure> {
        let mut set = Vec::new();
        // Set to nothing, this one is an error: most often a command that should fill it failed.
        if let Some(text) = std::env::var_os("GABION_PASSWORD") {
            set.push(("GABION_PASSWORD", Self::Passphrase(text)));
        }
        if let Some(path) = variable("GABION_PASSWORD_FILE") {
            set.push(("GABION_PASSWORD_FILE", Self::PassphraseFile(path.into())));
        }
        if let Some(command) = variable("GABION_PASSWORD_COMMAND") {
            set.push(("GABION_PASSWORD_COMMAND", Self::PassphraseCommand(command)));
        }
        if let Some(path) = variable("GABION_KEY_FILE") {
            set.push(("GABION_KEY_FILE", Self::KeyFile(path.into())));
        }
        if let [(first, _), (second, _), ..] = &set[..] {
            return Err(Failure::usage(format!("{first} and {second} are both set"))
                .hint("unset one of them, or use an option, which counts more than both"));
        }
        Ok(set.pop().map(|(_, source)| source))
    }

    /// The file that holds the secret, if one does.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::PassphraseFile(path) | Self::KeyFile(path) => Some(path),
            Self::Passphrase(_) | Self::PassphraseCommand(_) => None,
        }
    }

    /// Gets the secret.
    pub(crate) fn get(&self, console: &Console) -> Result<Unlock, Failure> {
        match self {
            Self::Passphrase(text) => passphrase(text.as_bytes().to_vec(), "GABION_PASSWORD"),
            Self::PassphraseFile(path) => {
                let bytes = read_secret(path, "password file", console)?;
                passphrase(bytes, &format!("the password file {}", path.display()))
            }
            Self::PassphraseCommand(command) => {
                passphrase(run(command, console)?, "the output of the password command")
            }
            Self::KeyFile(path) => {
                let bytes = read_secret(path, "key file", console)?;
                let bad = |error| {
                    let path = path.display();
                    Failure::new(Exit::WrongKey, format!("cannot use {path}: {error}"))
                };
                KeyFile::parse(&bytes).map(Unlock::KeyFile).map_err(bad)
            }
        }
    }
}

/// Asks for the passphrase of a repository.
pub(crate) fn ask(place: &str, console: &Console) -> Result<Unlock, Failure> {
    if !can_ask(console) {
        return Err(no_source(place));
    }
    let text = prompt(&format!("Passphrase of {place}: "), place)?;
    passphrase(text, "the passphrase")
}

/// Asks for a new passphrase, twice.
pub(crate) fn ask_new(what: &str, console: &Console) -> Result<Unlock, Failure> {
    if !can_ask(console) {
        return Err(no_source(what));
    }
    let first = prompt(&format!("New passphrase of {what}: "), what)?;
    let second = prompt("The same again: ", what)?;
    if first != second {
        return Err(Failure::new(Exit::Failed, "the two passphrases differ"));
    }
    passphrase(first, "the passphrase")
}

fn can_ask(console: &Console) -> bool {
    console.is_terminal() || io::stdin().is_terminal()
}

fn no_source(what: &str) -> Failure {
    let message = format!("no passphrase or key file for {what}, and no terminal to ask on");
    Failure::new(Exit::WrongKey, message)
        .hint(format!("set {VARIABLES}, or use the options of the same names"))
}

/// Keeps the terminal from showing what is typed, from before the question on: whoever answers at
/// once, or by a program, would see the answer otherwise.
struct Silence {
    terminal: std::fs::File,
    before: Termios,
}

impl Silence {
    /// Nothing where there is no terminal; asking fails then, too.
    fn begin() -> Option<Self> {
        let terminal = std::fs::File::open("/dev/tty").ok()?;
        let before = tcgetattr(&terminal).ok()?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&terminal, OptionalActions::Now, &silent).ok()?;
        Some(Self { terminal, before })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

fn prompt(text: &str, what: &str) -> Result<Vec<u8>, Failure> {
    let _silence = Silence::begin();
    match rpassword::prompt_password(gabion::format::path::harmless(text.as_bytes())) {
        Ok(text) => Ok(text.into_bytes()),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            Err(Failure::new(Exit::Interrupted, "interrupted"))
        }
        Err(_) => Err(no_source(what)),
    }
}

fn passphrase(bytes: Vec<u8>, origin: &str) -> Result<Unlock, Failure> {
    let empty = |_| Failure::new(Exit::WrongKey, format!("{origin} is empty"));
    Passphrase::new(bytes).map(Unlock::Passphrase).map_err(empty)
}

/// Reads a file with a secret, without the end of its last line.
fn read_secret(path: &Path, what: &str, console: &Console) -> Result<Vec<u8>, Failure> {
    let failed = |error: io::Error| {
        Failure::io(format!("cannot read the {what} {}", path.display()), &error)
            .with_exit(Exit::WrongKey)
    };
    let file = File::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if about.is_file() && about.mode() & 0o077 != 0 {
        let path = path.display();
        console.notice(&format!("other users can read the {what} {path}: `chmod 600` it"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_LEN + 1).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len > MAX_LEN) {
        return Err(failed(io::Error::other(format!("it is longer than {MAX_LEN} bytes"))));
    }
    cut_line_end(&mut bytes);
    Ok(bytes)
}

/// Runs the command. What it writes to standard error is shown to a person who watches, who may be
/// asked something there; otherwise its last lines are kept for the message.
fn run(command: &OsStr, console: &Console) -> Result<Vec<u8>, Failure> {
    let failed = |what: String| Failure::new(Exit::WrongKey, what);
    let no_start = |error: &io::Error| {
        Failure::io("cannot start the password command", error).with_exit(Exit::WrongKey)
    };
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command);
    let (status, mut bytes, stderr_tail) = if can_ask(console) {
        shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = shell.spawn().map_err(|error| no_start(&error))?;
        let mut bytes = Vec::new();
        if let Some(output) = child.stdout.take() {
            // A command that writes more finds its pipe closed.
            output.take(MAX_LEN + 1).read_to_end(&mut bytes).map_err(|error| no_start(&error))?;
        }
        (child.wait().map_err(|error| no_start(&error))?, bytes, Vec::new())
    } else {
        match run_to_end(shell, None, &AtomicBool::new(false)) {
            Ok(done) => (done.status, done.stdout, done.stderr_tail),
            Err(ProgramError::Start(error)) => return Err(no_start(&error)),
            Err(error) => return Err(failed(format!("the password command: {error}"))),
        }
    };
    if u64::try_from(bytes.len()).is_ok_and(|len| len > MAX_LEN) {
        return Err(failed(format!("the password command prints more than {MAX_LEN} bytes")));
    }
    if !status.success() {
        let message = format!("the password command {}", describe(status));
        return Err(failed(message).with_details(stderr_tail));
    }
    cut_line_end(&mut bytes);
    Ok(bytes)
}

fn cut_line_end(bytes: &mut Vec<u8>) {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
}

/// Where the secret of a new key slot comes from.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct NewKey {
    /// Take the new passphrase from this file
    #[arg(long, value_name = "FILE", conflicts_with = "new_password_command")]
    pub(crate) new_password_file: Option<PathBuf>,
    /// Take the new passphrase from the output of this shell command
    #[arg(long, value_name = "COMMAND", conflicts_with = "new_key_file")]
    pub(crate) new_password_command: Option<OsString>,
    /// Make this key file, which must not exist yet, and let it open the repository
    #[arg(long, value_name = "FILE", conflicts_with = "new_password_file")]
    pub(crate) new_key_file: Option<PathBuf>,
}

impl NewKey {
    /// Whether anything was given.
    pub(crate) fn is_given(&self) -> bool {
        self.source().is_some() || self.new_key_file.is_some()
    }

    fn source(&self) -> Option<KeySource> {
        let file = self.new_password_file.clone().map(KeySource::PassphraseFile);
        file.or_else(|| self.new_password_command.clone().map(KeySource::PassphraseCommand))
    }

    /// The secret: made, read or asked for.
    pub(crate) fn get(&self, console: &Console) -> Result<Unlock, Failure> {
        if let Some(path) = &self.new_key_file {
            return new_key_file(path).map(Unlock::KeyFile);
        }
        match self.source() {
            Some(source) => source.get(console),
            None => ask_new("the new key slot", console),
        }
    }

    /// Takes a key file back that turned out to be of no use.
    pub(crate) fn give_up(&self) {
        if let Some(path) = &self.new_key_file {
            #[expect(clippy::disallowed_methods, reason = "it is no part of a repository")]
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Makes a key file that only its owner can read, durably: without it the repository may be lost.
pub(crate) fn new_key_file(path: &Path) -> Result<KeyFile, Failure> {
    let failed = |error: io::Error| {
        Failure::io(format!("cannot make the key file {}", path.display()), &error)
    };
    let key = KeyFile::generate();
    create_private(path, key.encode().as_bytes()).map_err(failed)?;
    Ok(key)
}
