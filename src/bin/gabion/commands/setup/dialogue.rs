//! Questions on a terminal; without one, flags and defaults.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use gabion::format::path::harmless;

use crate::errors::{Exit, Failure};
use crate::session::Session;

/// Who answers.
pub(super) struct Dialogue {
    asks: bool,
}

impl Dialogue {
    /// Asks when there is somebody to answer.
    pub(super) fn new(session: &Session, yes: bool) -> Self {
        let terminal = io::stdin().is_terminal() && session.console.is_terminal();
        Self { asks: terminal && !yes && !session.json() && !session.quiet() }
    }

    /// Whether anything is asked.
    pub(super) fn asks(&self) -> bool {
        self.asks
    }

    /// Something worth knowing before the questions.
    pub(super) fn say(&self, text: &str) {
        if self.asks {
            eprintln!("{}", harmless(text.as_bytes()));
        }
    }

    /// One line of an answer; nothing typed means the default.
    pub(super) fn line(&self, question: &str, default: Option<&str>) -> Result<String, Failure> {
        let default = default.unwrap_or_default();
        let shown = if default.is_empty() { String::new() } else { format!(" [{default}]") };
        eprint!("{}{}: ", harmless(question.as_bytes()), harmless(shown.as_bytes()));
        let _ = io::stderr().flush();
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        match read {
            Ok(0) => Err(Failure::new(Exit::Interrupted, "no answer; nothing was written")),
            Err(error) => Err(Failure::io("cannot read the answer", &error)),
            Ok(_) => match answer.trim() {
                "" => Ok(default.to_owned()),
                answer => Ok(answer.to_owned()),
            },
        }
    }

    /// The value of a flag, an answer, or the default, each as `check` reads it. An answer that it
    /// refuses is asked for again.
    pub(super) fn checked<T>(
        &self,
        flag: &str,
        given: Option<String>,
        question: &str,
        default: Option<String>,
        check: impl Fn(&str) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if let Some(given) = given {
            return check(&given);
        }
        if !self.asks {
            let missing = || {
                Failure::usage(format!("{flag} is missing, and there is no terminal to ask on"))
                    .hint("`gabion setup --help` shows all flags")
            };
            return check(&default.ok_or_else(missing)?);
        }
        loop {
            let answer = self.line(question, default.as_deref())?;
            if answer.is_empty() {
                continue;
            }
            match check(&answer) {
                Ok(value) => return Ok(value),
                Err(failure) if failure.exit() == Exit::Interrupted => return Err(failure),
                Err(failure) => drop(failure.report()),
            }
        }
    }

    /// The same for any text.
    pub(super) fn text(
        &self,
        flag: &str,
        given: Option<String>,
        question: &str,
        default: Option<String>,
    ) -> Result<String, Failure> {
        self.checked(flag, given, question, default, |answer| Ok(answer.to_owned()))
    }

    /// A text that need not be there.
    pub(super) fn optional(
        &self,
        given: Option<String>,
        question: &str,
    ) -> Result<Option<String>, Failure> {
        if given.is_some() || !self.asks {
            return Ok(given);
        }
        let answer = self.line(&format!("{question} (empty: none)"), None)?;
        Ok((!answer.is_empty()).then_some(answer))
    }

    /// Yes or no; no when nobody can be asked.
    pub(super) fn confirm(&self, question: &str, default: bool) -> Result<bool, Failure> {
        if !self.asks {
            return Ok(false);
        }
        loop {
            let answer = self.line(question, Some(if default { "yes" } else { "no" }))?;
            match answer.to_ascii_lowercase().as_str() {
                "y" | "yes" => return Ok(true),
                "n" | "no" => return Ok(false),
                _ => self.say("yes or no?"),
            }
        }
    }
}
