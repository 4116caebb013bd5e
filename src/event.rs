//! What the library tells its caller while it works. The library never prints.

use std::path::PathBuf;

/// Something that happened during an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The size of the work became known or changed: so many items and plain bytes in all.
    Total {
        /// Entries (or blocks, packs: what the operation counts) to work through.
        items: u64,
        /// Plain bytes to work through.
        bytes: u64,
    },
    /// Work went on by so much since the last event.
    Progress {
        /// Entries finished.
        items: u64,
        /// Plain bytes finished.
        bytes: u64,
    },
    /// What is being worked on now.
    Working(PathBuf),
    /// A new part of the operation began ("reading the index").
    Phase(&'static str),
    /// Something worth knowing that is no problem: "the index was rebuilt".
    Note(String),
    /// Something that whoever reads the result must know, but no problem.
    Warning(String),
    /// Something that the user should change or must know, although it is no problem.
    Notice(String),
    /// A finding that does not stop the operation but makes its exit code non-zero.
    Problem(Problem),
    /// What a dry run would do.
    Planned {
        /// A verb: "make", "replace", "delete".
        action: &'static str,
        /// What it would be done to.
        path: PathBuf,
    },
    /// A line that a started command wrote to its standard error.
    CommandOutput {
        /// The stream whose command wrote.
        stream: String,
        /// The line without its end.
        line: String,
    },
}

/// A non-fatal finding, reported and counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The path, object or stream it is about.
    pub subject: PathBuf,
    /// What is wrong with it, in words, without the subject.
    pub message: String,
}

/// Receives events. `()` ignores them.
pub trait Observer: Send + Sync {
    /// Called from any thread; must return quickly.
    fn event(&self, event: Event);
}

impl Observer for () {
    fn event(&self, _event: Event) {}
}

/// Keeps every event, for tests and for summaries of problems.
#[derive(Debug, Default)]
pub struct Recorder(std::sync::Mutex<Vec<Event>>);

impl Recorder {
    /// The events so far, oldest first.
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl Observer for Recorder {
    fn event(&self, event: Event) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(event);
    }
}
