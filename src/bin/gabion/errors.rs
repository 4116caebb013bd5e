//! What a failed run says and how it ends: the one place that turns errors into a message, hints
//! and an exit code.

mod hints;

use std::error::Error;
use std::fmt::Display;
use std::io;
use std::process::ExitCode;

use gabion::format::config::ConfigError as RepositoryConfigError;
use gabion::format::path::harmless;
use gabion::job::config::ConfigError;
use gabion::job::state::StateError;
use gabion::ops::OpError;
use gabion::repo::RepositoryError;
use gabion::source::exclude::ExcludeError;
use gabion::source::pattern::PatternError;
use gabion::storage::StorageError;

use crate::nearby::nearby;

/// How the program ends. Scripts rely on the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All done.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// A snapshot was taken, but not of everything.
    Incomplete = 3,
    /// The two sides of a comparison differ.
    Differs = 4,
    /// There is no repository at the place.
    NoRepository = 10,
    /// What was given opens no key slot.
    WrongKey = 11,
    /// A stream failed.
    StreamFailed = 12,
    /// The repository is damaged.
    Damage = 13,
    /// The user or the system asked to end.
    Interrupted = 130,
}

/// The exit codes with their meanings, as every help text shows them.
pub(crate) const EXIT_CODES: &str = "\
EXIT CODES:
    0  done
    1  failed; nothing was committed unless the message says so
    2  the command line makes no sense
    3  the snapshot was taken, but some sources could not be read
    4  `diff`: the two sides differ
   10  there is no repository
   11  wrong passphrase or key file, or none was given
   12  a stream failed, nothing was committed
   13  damage was found
  130  interrupted";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        // All codes fit; should one ever not, it must not look like success.
        Self::from(u8::try_from(exit as i32).unwrap_or(1))
    }
}

/// What may have become of a source.
const MOUNTED: &str = "is the source's disk mounted?";

/// What to do about a failure of gabion itself.
const REPORT: &str = "report this with the lines above: it is a fault of gabion";

/// What to do when the system refuses threads.
const MORE_THREADS: &str = "raise the limit of processes (`ulimit -u`, `pids.max`) or of memory \
                            (`ulimit -v`), or use fewer --threads";

/// Why the program did not do what it was asked to.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    /// Nothing for a failure that is not worth a word (a reader that has enough).
    message: Option<String>,
    details: Vec<String>,
    hints: Vec<String>,
}

impl Failure {
    /// A failure with this message.
    pub(crate) fn new(exit: Exit, message: impl Display) -> Self {
        Self { exit, message: Some(message.to_string()), details: vec![], hints: vec![] }
    }

    /// The arguments make no sense together.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// An error with its causes.
    pub(crate) fn of(exit: Exit, error: &dyn Error) -> Self {
        Self::new(exit, with_causes(error))
    }

    /// The operating system refused something.
    pub(crate) fn io(what: impl Display, error: &io::Error) -> Self {
        Self::new(Exit::Failed, format!("{what}: {}", plain(error)))
    }

    /// gabion itself failed.
    pub(crate) fn internal(message: impl Display) -> Self {
        Self::new(Exit::Failed, message).hint(REPORT)
    }

    /// The system did not allow another thread.
    pub(crate) fn no_thread(error: &io::Error) -> Self {
        Self::io("cannot start a thread", error).hint(MORE_THREADS)
    }

    /// Standard output failed. That its reader has enough is no failure.
    pub(crate) fn output(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self { exit: Exit::Done, message: None, details: vec![], hints: vec![] };
        }
        Self::io("cannot write to standard output", &error)
    }

    /// The same with what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The same after something that stays done.
    pub(crate) fn after(mut self, done: impl Display) -> Self {
        if let Some(message) = &mut self.message {
            message.push_str(&format!("; {done}"));
        }
        self
    }

    /// Whether it is only that the reader of standard output has enough.
    pub(crate) fn is_closed_output(&self) -> bool {
        self.message.is_none()
    }

    /// The same with lines that a command wrote.
    pub(crate) fn with_details(self, details: Vec<String>) -> Self {
        Self { details, ..self }
    }

    /// How the program is to end.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// What went wrong, on one line.
    pub(crate) fn message(&self) -> &str {
        self.message.as_deref().unwrap_or("standard output was closed")
    }

    /// The last lines that a command wrote.
    pub(crate) fn details(&self) -> &[String] {
        &self.details
    }

    /// The same failure with another exit code.
    pub(crate) fn with_exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// Says it on standard error and returns how to end.
    pub(crate) fn report(&self) -> Exit {
        if let Some(message) = &self.message {
            eprintln!("gabion: {}", harmless(message.as_bytes()));
        }
        for line in &self.details {
            eprintln!("  | {}", harmless(line.as_bytes()));
        }
        for hint in &self.hints {
            eprintln!("hint: {}", harmless(hint.as_bytes()));
        }
        self.exit
    }
}

impl From<RepositoryError> for Failure {
    fn from(error: RepositoryError) -> Self {
        repository(&error)
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        repository(&RepositoryError::Storage(error))
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let failure = Self::of(Exit::Usage, &error);
        match error.cure {
            Some(cure) => failure.hint(cure),
            None => failure,
        }
    }
}

impl From<PatternError> for Failure {
    fn from(error: PatternError) -> Self {
        let failure = Self::of(Exit::Usage, &error);
        match error.advice() {
            Some(advice) => failure.hint(advice),
            None => failure,
        }
    }
}

impl From<ExcludeError> for Failure {
    fn from(error: ExcludeError) -> Self {
        let failure = Self::of(Exit::Usage, &error);
        match error.advice() {
            Some(advice) => failure.hint(advice),
            None => failure,
        }
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        Self::of(Exit::Failed, &error).hint("name another folder with --state-dir")
    }
}

impl From<OpError> for Failure {
    fn from(error: OpError) -> Self {
        let exit_and_hint = match error {
            OpError::Repository(error) => return repository(&error),
            OpError::Source(ref missing) if missing.source.kind() == io::ErrorKind::NotFound => {
                let hint = nearby(&missing.path).unwrap_or_else(|| MOUNTED.to_owned());
                return Self::of(Exit::Failed, &error).hint(hint);
            }
            OpError::Source(_) => (Exit::Failed, Some(MOUNTED)),
            OpError::Stream(failure) => {
                let mut said = Self::of(Exit::StreamFailed, &failure);
                said.details = failure.stderr_tail;
                return said;
            }
            OpError::Target(ref error) => (Exit::Failed, hints::of_target(error.kind)),
            OpError::TargetNotEmpty(_) => (
                Exit::Failed,
                Some("name an empty or new folder, or say with --overwrite what happens to it"),
            ),
            OpError::CannotDelete(_) => (
                Exit::Failed,
                Some(
                    "leave --delete out, or use --delete-excluded to delete also what the \
                     snapshot left out",
                ),
            ),
            OpError::Output(error) => return Self::output(error),
            OpError::UnknownSnapshot(_) => {
                (Exit::Failed, Some("`gabion snapshots` shows the snapshots"))
            }
            OpError::AmbiguousSnapshot { .. } => (Exit::Failed, Some("give more digits of the id")),
            OpError::NoSuchPath { .. } => (Exit::Failed, Some("`gabion ls SNAP` shows the paths")),
            OpError::Interrupted => (Exit::Interrupted, None),
            OpError::Internal(_) => (Exit::Failed, Some(REPORT)),
            _ => (Exit::Failed, None),
        };
        let (exit, hint) = exit_and_hint;
        let failure = Self::of(exit, &error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

fn repository(error: &RepositoryError) -> Failure {
    use RepositoryError as E;
    let (exit, hint) = match error {
        E::Storage(error) => (Exit::Failed, hints::of_storage(error)),
        E::NotARepository(_) => (
            Exit::NoRepository,
            Some("`gabion init` makes one; if there should be one, is its disk mounted?"),
        ),
        E::AlreadyInitialised(_) => (Exit::Failed, Some("use it as it is, or name another place")),
        E::NoLongerEncrypted(_) => (
            Exit::Damage,
            Some(
                "whoever can write there may have replaced its configuration: bring `config` and \
                 `copy/config` back from a copy; if you made it again without encryption, use \
                 --accept-changes once",
            ),
        ),
        E::AnotherRepository { .. } => (
            Exit::Damage,
            Some(
                "is the right disk mounted? If this repository belongs there, too (disks that take \
                 turns), use --accept-changes once",
            ),
        ),
        E::KeyTooCostly { .. } => (
            Exit::WrongKey,
            Some(
                "remove key slots that nobody of yours made from the repository's keys and copy/keys, \
                 or use --allow-costly-keys if they are yours",
            ),
        ),
        E::WrongKey { .. } => (
            Exit::WrongKey,
            Some("check GABION_PASSWORD, --password-file, --password-command and --key-file"),
        ),
        E::UnexpectedPlaintext(_) => (
            Exit::WrongKey,
            Some(
                "if it was made with `gabion init --plaintext`, give no passphrase and no key \
                 file and unset the GABION_PASSWORD and GABION_KEY_FILE variables; if not, \
                 somebody has replaced it",
            ),
        ),
        E::NewerFormat { .. }
        | E::Config(
            RepositoryConfigError::NewerFormat { .. } | RepositoryConfigError::UnknownFeature(_),
        ) => (Exit::Failed, Some("a newer gabion made it: install that version or a later one")),
        E::Config(RepositoryConfigError::NotAuthentic) => {
            (Exit::Damage, Some("somebody may have changed the repository: do not rely on it"))
        }
        E::NoUsableSlot { .. } | E::Config(RepositoryConfigError::Damaged(_)) => {
            (Exit::Damage, Some("bring the object back from a copy of the repository"))
        }
        E::Damaged { .. } | E::MissingChunk(_) => {
            (Exit::Damage, Some("`gabion check --read-data` tells what else is damaged"))
        }
        E::LastSlot(_) => (Exit::Failed, Some("add another one first: `gabion key add`")),
        E::NoSuchSlot(_) => (Exit::Failed, Some("`gabion key list` shows the slots")),
        E::Internal(_) => (Exit::Failed, Some(REPORT)),
        E::Thread(_) => (Exit::Failed, Some(MORE_THREADS)),
        E::Replaced(_) => (Exit::Failed, Some("was another disk mounted there?")),
        _ => (Exit::Failed, None),
    };
    let failure = Failure::of(exit, error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// An error and its causes on one line.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = plain(error);
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&plain(error));
        cause = error.source();
    }
    text
}

/// The text of an error without the number that the standard library adds.
fn plain(error: &dyn Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(at) if text.ends_with(')') => text[..at].to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_follow_and_numbers_of_the_system_are_left_out() {
        let source = io::Error::from_raw_os_error(28);
        let error = StorageError::from_io("publish", "index/00", source);
        let failure = Failure::from(error);
        let message = failure.message.unwrap();
        assert_eq!(message, "cannot publish index/00: No space left on device");
        assert!(failure.hints[0].contains("make room"));
    }

    #[test]
    fn every_exit_code_is_in_the_help() {
        for exit in [
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::Incomplete,
            Exit::Differs,
            Exit::NoRepository,
            Exit::WrongKey,
            Exit::StreamFailed,
            Exit::Damage,
            Exit::Interrupted,
        ] {
            let listed = format!("\n{:>5}  ", exit as i32);
            assert!(EXIT_CODES.contains(&listed), "{exit:?}");
        }
    }
}
