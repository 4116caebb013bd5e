//! How long work may take: ended when its time is over or the user wishes it, never left alone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::Builder;
use std::time::{Duration, Instant};

use gabion::job::config::duration_text;

use crate::errors::Failure;

/// How often it is looked whether time is over.
const TICK: Duration = Duration::from_millis(100);

/// A limit, and the flag that ends the work.
pub(crate) struct Limit {
    time: Option<Duration>,
    stop: Arc<AtomicBool>,
    passed: AtomicBool,
}

impl Limit {
    /// Sets `stop` when `time` is over.
    pub(crate) fn new(time: Option<Duration>, stop: &Arc<AtomicBool>) -> Self {
        Self { time, stop: Arc::clone(stop), passed: AtomicBool::new(false) }
    }

    /// Does `work`, which looks at the flag; the flag is also set when `interrupted` is. A panic is
    /// an error as any other: it is remembered and told like all that ends a job.
    pub(crate) fn guard<T>(
        &self,
        interrupted: &AtomicBool,
        work: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let from = Instant::now();
        std::thread::scope(|scope| {
            let (done, ended) = channel::<()>();
            let watch = Builder::new().name("limit".into()).spawn_scoped(scope, move || {
                while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                    if self.time.is_some_and(|time| from.elapsed() >= time) {
                        self.passed.store(true, Ordering::Relaxed);
                        self.stop.store(true, Ordering::Relaxed);
                    }
                    if interrupted.load(Ordering::Relaxed) {
                        self.stop.store(true, Ordering::Relaxed);
                    }
                }
            });
            watch.map_err(|error| Failure::no_thread(&error))?;
            let result = catch_unwind(AssertUnwindSafe(work));
            drop(done);
            result.unwrap_or_else(|_| Err(Failure::internal("internal error: the job stopped")))
        })
    }

    /// The limit as text, if it was passed.
    pub(crate) fn passed(&self) -> Option<String> {
        let passed = self.passed.load(Ordering::Relaxed);
        self.time.filter(|_| passed).map(duration_text)
    }
}
