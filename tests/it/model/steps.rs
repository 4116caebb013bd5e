//! What can be done to a source and its repository.

use proptest::prelude::*;

use crate::small::{Random, noise};

/// What a file holds: some are the same as others, or have parts of them.
#[derive(Debug, Clone)]
pub(super) enum Content {
    Empty,
    OneByte(u8),
    Zeros(usize),
    /// One of a few contents that come again and again.
    Common(u64),
    /// A beginning that many files share, and an end of its own.
    Shared(u64),
    /// More than one chunk of the greatest length.
    Long(u64),
}

impl Content {
    pub(super) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Empty => Vec::new(),
            Self::OneByte(byte) => vec![*byte],
            Self::Zeros(len) => vec![0; *len],
            Self::Common(seed) => noise(900, 10 + seed),
            Self::Shared(seed) => [noise(3000, 1), noise(200, 1000 + seed)].concat(),
            Self::Long(seed) => noise(20_000, 2000 + seed),
        }
    }
}

/// Changes a dump here and there, as its rows change.
pub(crate) fn edit(dump: &mut Vec<u8>, seed: u64) {
    let mut random = Random::new(seed);
    for _ in 0..1 + random.below(12) {
        let at = random.index(dump.len());
        let row = noise(20 + random.index(60), random.below(u64::MAX));
        let end = (at + row.len()).min(dump.len());
        match random.below(6) {
            0 => drop(dump.splice(at..at, row)),
            1 => drop(dump.drain(at..end)),
            2 => dump.extend(row.repeat(10)),
            _ => drop(dump.splice(at..end, row)),
        }
    }
}

/// Something that is done to a repository.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    Snapshot,
    Forget(usize),
    /// With so many per cent of dead bytes that may stay.
    Prune(u8),
    Check,
    Restore(usize),
}

/// One step. Numbers choose among what is there.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Write(String, Content),
    Edit(usize, Content),
    Remove(usize),
    Whole(Operation),
    /// The process dies at so many calls of the storage.
    Crash(Operation, u64),
    /// Some rows of the dump change, come or go.
    Rows(u64),
    /// Two writers that do not see each other take a snapshot of the same.
    Twins,
}

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![
        Just(Content::Empty),
        any::<u8>().prop_map(Content::OneByte),
        (1usize..6000).prop_map(Content::Zeros),
        (0u64..3).prop_map(Content::Common),
        (0u64..5).prop_map(Content::Shared),
        (0u64..4).prop_map(Content::Long),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => Just(Operation::Snapshot),
        2 => (0usize..8).prop_map(Operation::Forget),
        2 => prop_oneof![Just(5u8), Just(0), Just(50)].prop_map(Operation::Prune),
        1 => Just(Operation::Check),
        1 => (0usize..8).prop_map(Operation::Restore),
    ]
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let path = prop_oneof!["[a-d]", "[x-y]/[a-c]"];
    prop_oneof![
        4 => (path, content()).prop_map(|(path, content)| Step::Write(path, content)),
        2 => (0usize..8, content()).prop_map(|(at, content)| Step::Edit(at, content)),
        1 => (0usize..8).prop_map(Step::Remove),
        8 => operation().prop_map(Step::Whole),
        3 => (operation(), 5u64..120).prop_map(|(operation, after)| Step::Crash(operation, after)),
        4 => any::<u64>().prop_map(Step::Rows),
        1 => Just(Step::Twins),
    ]
}
