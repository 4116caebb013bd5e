//! Hooks: commands of the user's around a run, each with a time limit.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::ops::program::{ProgramError, describe, run_to_end, shell};

/// A hook that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the hook `{name}` {reason}")]
pub struct HookFailure {
    /// Which one.
    pub name: &'static str,
    /// What was wrong.
    pub reason: String,
    /// The last lines that it wrote to standard error.
    pub stderr_tail: Vec<String>,
}

/// Runs the hook `name`, the shell command `line`, with these variables.
///
/// # Errors
/// When it cannot be started, fails, takes too long, or is interrupted.
pub fn run_hook(
    name: &'static str,
    line: &str,
    variables: &[(&str, String)],
    limit: Duration,
    interrupted: &AtomicBool,
) -> Result<(), HookFailure> {
    let mut command = shell(line);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    let failed = |reason: String, stderr_tail| Err(HookFailure { name, reason, stderr_tail });
    match run_to_end(command, Some(limit), interrupted) {
        Ok(done) if done.status.success() => Ok(()),
        Ok(done) => failed(describe(done.status), done.stderr_tail),
        Err(ProgramError::TimedOut) => {
            let limit = super::config::duration_text(limit);
            failed(format!("did not end within {limit} and was ended"), Vec::new())
        }
        Err(ProgramError::Start(error)) => {
            failed(format!("cannot be started: {error}"), Vec::new())
        }
        Err(ProgramError::Interrupted) => failed("was interrupted".to_owned(), Vec::new()),
    }
}
