//! Randomness that a seed decides: the scheduler's own, and that of the library.
//!
//! Ids, salts and keys are drawn from the operating system, so two runs of one seed would differ
//! in the order of every listing. Here the function that all of them end in is put in the place of
//! the C library's, for this test binary: threads of a simulation get numbers that follow from its
//! seed, all others get true ones. A thread belongs to a simulation when it is a client's own or,
//! as new threads have the name of the one that starts them, when it was started by such a thread.

use std::cell::Cell;
use std::sync::{Mutex, PoisonError};

/// A generator of numbers (splitmix64): the same seed, the same numbers.
#[derive(Debug, Clone)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// One for a part of what `seed` decides.
    pub(super) fn of(seed: u64, part: u64) -> Self {
        Self(Self(seed ^ part.wrapping_mul(0x9e6c_63d0_876a_68ee)).next())
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// True once in `times`.
    pub(super) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of them.
    pub(super) fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        let at = self.below(list.len() as u64);
        &list[usize::try_from(at).unwrap()]
    }
}

/// Clients of all simulations that run at once, at most.
pub(super) const SLOTS: usize = 256;

/// What is drawn by the threads of one slot: by its own thread, and by those that it starts. Of
/// those, only one draws in each operation.
static STREAMS: [Mutex<[Rng; 2]>; SLOTS] =
    [const { Mutex::new([Rng::new(0), Rng::new(0)]) }; SLOTS];

thread_local! {
    static OWN: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The name of the threads of a slot.
pub(super) fn thread_name(slot: usize) -> String {
    format!("sim{slot}")
}

/// Says that this thread is the own one of `slot`, and what is drawn from now on.
pub(super) fn begin(slot: usize, seed: u64) {
    OWN.set(Some(slot));
    let mut streams = STREAMS[slot].lock().unwrap_or_else(PoisonError::into_inner);
    *streams = [Rng::of(seed, 1), Rng::of(seed, 2)];
}

/// The slot of this thread, and whether it is the slot's own thread.
#[cfg(target_os = "linux")]
fn slot() -> Option<(usize, usize)> {
    if let Ok(Some(own)) = OWN.try_with(Cell::get) {
        return Some((own, 0));
    }
    let name = rustix::thread::name().ok()?;
    let number = name.to_str().ok()?.strip_prefix("sim")?.parse().ok()?;
    (number < SLOTS).then_some((number, 1))
}

/// In the place of the C library's function.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "a C function is replaced, and called, to decide what is random")]
#[unsafe(no_mangle)]
extern "C" fn getrandom(buffer: *mut u8, len: usize, flags: u32) -> isize {
    if len > 0
        && let Some((slot, thread)) = slot()
    {
        // SAFETY: the caller gives a buffer of `len` bytes that it owns.
        let bytes = unsafe {
            std::ptr::write_bytes(buffer, 0, len);
            std::slice::from_raw_parts_mut(buffer, len)
        };
        // With flags it is the standard library that seeds a hash map: always the same.
        if flags == 0 {
            let mut streams = STREAMS[slot].lock().unwrap_or_else(PoisonError::into_inner);
            for piece in bytes.chunks_mut(8) {
                piece.copy_from_slice(&streams[thread].next().to_le_bytes()[..piece.len()]);
            }
        }
        return isize::try_from(len).unwrap_or(isize::MAX);
    }
    // SAFETY: what the C library would do with the same arguments.
    let got = unsafe { libc::syscall(libc::SYS_getrandom, buffer, len, flags) };
    isize::try_from(got).unwrap_or(-1)
}
