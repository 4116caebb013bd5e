//! Threads, and how a panic in one of them ends: as an error of the operation, never as a wait for
//! ever, an abort of the process or a result that lacks something.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{Builder, JoinHandle, Result as Joined, Scope, ScopedJoinHandle};

/// gabion itself failed: code that should never panic did.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("internal error: {message}{outcome}")]
pub struct Panicked {
    message: String,
    outcome: &'static str,
}

impl Panicked {
    /// The error for what a panic carried.
    pub(crate) fn new(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Self { message: text.unwrap_or_else(|| "no reason was given".to_owned()), outcome: "" }
    }

    /// The same error, followed by what it means for the user, unless that is known already.
    pub(crate) fn with_outcome(self, outcome: &'static str) -> Self {
        match self.outcome {
            "" => Self { outcome, ..self },
            _ => self,
        }
    }
}

/// Does `work`; a panic in it is an error. What `work` was changing may be half changed after a
/// panic: the caller must not rely on it.
pub(crate) fn caught<T, E: From<Panicked>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(Panicked::new(&*panic).into()))
}

/// The result of a thread that was waited for; a panic in it is an error.
pub(crate) fn joined<T, E: From<Panicked>>(result: Joined<Result<T, E>>) -> Result<T, E> {
    result.unwrap_or_else(|panic| Err(Panicked::new(&*panic).into()))
}

/// Starts a thread.
///
/// # Errors
/// When the system does not allow another thread; `std::thread::spawn` would panic then.
pub(crate) fn start<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.to_owned()).spawn(work)
}

/// Starts a thread of `scope`.
///
/// # Errors
/// As [`start`].
pub(crate) fn start_in<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    Builder::new().name(name.to_owned()).spawn_scoped(scope, work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_words() {
        let fail = |what: u8| -> Result<u8, Panicked> {
            caught(|| match what {
                0 => panic!("plain words"),
                1 => panic!("words with a {}", what + 1),
                2 => std::panic::panic_any(7u8),
                other => Ok(other),
            })
        };
        let text = |what| fail(what).unwrap_err().to_string();
        assert_eq!(text(0), "internal error: plain words");
        assert_eq!(text(1), "internal error: words with a 2");
        assert_eq!(text(2), "internal error: no reason was given");
        assert_eq!(fail(3), Ok(3));
        let error = fail(0).unwrap_err().with_outcome("; nothing was committed");
        assert_eq!(error.to_string(), "internal error: plain words; nothing was committed");
        let thread = start("test", || -> Result<(), Panicked> { panic!("elsewhere") }).unwrap();
        let error = joined(thread.join()).unwrap_err();
        assert_eq!(error.to_string(), "internal error: elsewhere");
    }
}
