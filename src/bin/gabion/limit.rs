//! How long work may take: ended when its time is over or the user wishes it, never left alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use gabion::job::config::duration_text;

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

    /// Does `work`, which looks at the flag; the flag is also set when `interrupted` is.
    pub(crate) fn guard<T>(&self, interrupted: &AtomicBool, work: impl FnOnce() -> T) -> T {
        let from = Instant::now();
        std::thread::scope(|scope| {
            let (done, ended) = channel::<()>();
            scope.spawn(move || {
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
            let result = work();
            drop(done);
            result
        })
    }

    /// The limit as text, if it was passed.
    pub(crate) fn passed(&self) -> Option<String> {
        let passed = self.passed.load(Ordering::Relaxed);
        self.time.filter(|_| passed).map(duration_text)
    }
}
