//! How fast sources may be read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How much of a pause may be made up for by reading faster.
const GRACE: Duration = Duration::from_secs(1);
/// How often it is looked whether the caller wishes to stop.
const TICK: Duration = Duration::from_millis(100);

/// Bytes in a second, shared by all who read.
#[derive(Debug)]
pub(super) struct Rate {
    bytes: u64,
    /// When what was read so far may have been read.
    due: Mutex<Instant>,
}

impl Rate {
    pub(super) fn new(bytes: u64) -> Self {
        Self { bytes: bytes.max(1), due: Mutex::new(Instant::now()) }
    }

    /// Waits until so many bytes may have been read.
    pub(super) fn take(&self, bytes: u64, interrupted: &AtomicBool) {
        let until = self.until(bytes, Instant::now());
        while !interrupted.load(Ordering::Relaxed) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(TICK));
        }
    }

    fn until(&self, bytes: u64, now: Instant) -> Instant {
        #[expect(clippy::cast_precision_loss, reason = "a pause need not be exact")]
        let pause = Duration::from_secs_f64((bytes as f64 / self.bytes as f64).min(3600.0));
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(GRACE).unwrap_or(now);
        *due = (*due).max(earliest) + pause;
        *due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_takes_its_time_and_pauses_are_made_up_for_in_part() {
        let rate = Rate::new(1000);
        let start = Instant::now() + Duration::from_secs(60);
        let seconds = |at: Instant| at.saturating_duration_since(start).as_secs_f64();
        // A second is made up for, as the minute before was not used.
        assert!(seconds(rate.until(1000, start)).abs() < 0.001);
        assert!((seconds(rate.until(3000, start)) - 3.0).abs() < 0.001);
        let later = start + Duration::from_secs(100);
        assert!((seconds(rate.until(2000, later)) - 101.0).abs() < 0.001);
    }

    #[test]
    fn nobody_waits_who_wishes_to_stop() {
        Rate::new(1).take(u64::MAX, &AtomicBool::new(true));
    }
}
