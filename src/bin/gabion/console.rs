//! Standard error: problems, notes and progress. What the user asked for goes to standard output
//! (see `output`); everything that is said beside it goes here.

use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use gabion::event::{Event, Observer, Problem};
use gabion::format::path::{harmless, printable};
use serde::Serialize;

use crate::progress::Progress;
use crate::render::names::PathText;

/// Where and how much is said while an operation runs.
#[derive(Debug)]
pub(crate) struct Console {
    quiet: bool,
    terminal: bool,
    /// Problems are lines of JSON on standard output, because a program reads that.
    json_problems: bool,
    /// What a dry run would delete is listed.
    lists_deletions: AtomicBool,
    progress: Option<Mutex<Progress>>,
}

/// How much the user wants to hear.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Verbosity {
    /// Problems only.
    pub(crate) quiet: bool,
    /// A program reads standard output.
    pub(crate) json: bool,
    /// A bar, where there is a terminal to draw it on.
    pub(crate) progress: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case", tag = "type", rename = "problem")]
struct ProblemLine<'a> {
    subject: PathText,
    message: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case", tag = "type", rename = "delete")]
struct DeletionLine {
    path: PathText,
}

impl Console {
    /// A console on this process's standard error.
    pub(crate) fn new(how: Verbosity) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = terminal && how.progress && !how.quiet && !how.json;
        Self {
            quiet: how.quiet,
            terminal,
            json_problems: how.json,
            lists_deletions: AtomicBool::new(false),
            progress: bar.then(|| Mutex::new(Progress::new())),
        }
    }

    /// From here on, what a dry run would delete is listed on standard output.
    pub(crate) fn list_deletions(&self) {
        self.lists_deletions.store(!self.quiet, Ordering::Relaxed);
    }

    fn deletion(&self, path: &Path) {
        let path = PathText::of_path(path);
        // Without a reader of the list there is still the number of deletions.
        let _ = match self.json_problems {
            true => crate::output::one_json(&DeletionLine { path }),
            false => crate::output::one_line(format!("delete {}", path.printable())),
        };
    }

    /// Whether standard error is a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Something worth knowing, for a person who watches. A nightly run does not say it every
    /// night.
    pub(crate) fn note(&self, text: &str) {
        if self.terminal && !self.quiet {
            self.line(&format!("note: {}", harmless(text.as_bytes())));
        }
    }

    /// Something the user should change or must know, said without a terminal too.
    pub(crate) fn notice(&self, text: &str) {
        if !self.quiet {
            self.line(&format!("note: {}", harmless(text.as_bytes())));
        }
    }

    /// Something that is most likely a mistake, said in any case.
    pub(crate) fn warning(&self, text: &str) {
        self.line(&format!("warning: {}", harmless(text.as_bytes())));
    }

    /// A finding that does not stop the operation.
    pub(crate) fn problem(&self, problem: &Problem) {
        let subject = PathText::of_path(&problem.subject);
        if self.json_problems {
            let line = ProblemLine { subject, message: &problem.message };
            let line = serde_json::to_string(&line).expect("a problem has a JSON form");
            // Whoever does not read the list of problems still gets the exit code.
            let _ = crate::output::one_line(&line);
            return;
        }
        let message = harmless(problem.message.as_bytes());
        self.line(&format!("problem: {}: {message}", subject.printable()));
    }

    /// Takes the bar away: what follows is the result.
    pub(crate) fn finish(&self) {
        self.with_progress(|progress| progress.clear());
    }

    fn line(&self, line: &str) {
        match &self.progress {
            Some(_) => self.with_progress(|progress| progress.print_above(line)),
            None => eprintln!("{line}"),
        }
    }

    fn with_progress(&self, act: impl FnOnce(&mut Progress)) {
        if let Some(progress) = &self.progress {
            act(&mut progress.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        }
    }
}

impl Observer for Console {
    fn event(&self, event: Event) {
        match event {
            Event::Problem(problem) => self.problem(&problem),
            Event::Note(text) => self.note(&text),
            Event::Warning(text) => self.warning(&text),
            Event::Notice(text) => self.notice(&text),
            Event::CommandOutput { stream, line } if self.terminal && !self.quiet => {
                let (stream, line) = (printable(stream.as_bytes()), harmless(line.as_bytes()));
                self.line(&format!("{stream}: {line}"));
            }
            Event::Planned { action: "delete", path }
                if self.lists_deletions.load(Ordering::Relaxed) =>
            {
                self.with_progress(|progress| progress.clear());
                self.deletion(&path);
            }
            event => self.with_progress(|progress| progress.take(&event)),
        }
    }
}
