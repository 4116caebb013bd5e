//! Files of a drill: some chosen at random and what the job requires, restored as a user would and
//! compared with the snapshot.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::format::entry::EntryKind;
use crate::format::page::EntryRef;
use crate::format::snapshot::Snapshot;
use crate::job::config::{Drill, Sample};
use crate::job::state::DrilledFiles;
use crate::ops::OpError;
use crate::ops::list::{find_entry, list};
use crate::ops::restore::{RestoreOptions, restore};
use crate::repo::Repository;
use crate::source::pattern::Patterns;
use crate::target::{MetadataPolicy, OwnerPolicy};

/// Where they go.
pub(super) struct Place {
    pub(super) target: PathBuf,
    pub(super) threads: usize,
    pub(super) interrupted: Arc<AtomicBool>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) files: DrilledFiles,
    pub(super) problems: Vec<String>,
    pub(super) damaged: bool,
}

/// A file that was chosen.
struct Chosen {
    path: Vec<u8>,
    size: u64,
}

/// Restores a sample of the files of `snapshot`, and what the job requires.
pub(super) fn restore_sample(
    repository: &Arc<Repository>,
    snapshot: &Snapshot,
    drill: &Drill,
    place: &Place,
) -> Result<Found, OpError> {
    let mut found = Found::default();
    let mut wanted = Vec::new();
    for path in &drill.require {
        let stored = path.as_os_str().as_encoded_bytes();
        let stored = stored.strip_prefix(b"/").unwrap_or(stored);
        match find_entry(repository, snapshot, stored) {
            Ok(entry) => {
                found.files.required += 1;
                // A folder may be of any size: that it is there is enough.
                wanted.extend(as_file(&(&entry).into()).map(|file| file.path));
            }
            Err(OpError::NoSuchPath { .. }) => {
                let said = format!("{} is required, but not in the snapshot", path.display());
                found.problems.push(said);
            }
            Err(error) => return Err(error),
        }
    }
    let mut bytes = 0;
    for file in choose(repository, snapshot, drill.files)? {
        if file.size > drill.file_bytes - bytes {
            found.files.too_large += 1;
            continue;
        }
        bytes += file.size;
        wanted.push(file.path);
    }
    if wanted.is_empty() {
        return Ok(found);
    }
    wanted.sort();
    wanted.dedup();
    let expected = wanted.len() as u64;
    let options = RestoreOptions {
        snapshot: snapshot.clone(),
        path: None,
        target: place.target.clone(),
        include: Patterns::of_paths(wanted.iter().map(|path| &**path)),
        exclude: Patterns::default(),
        overwrite: None,
        delete: false,
        delete_excluded: false,
        protected: Vec::new(),
        dry_run: false,
        verify: true,
        // Content is what is tried out here; owners and attributes may be beyond the caller.
        policy: MetadataPolicy { owner: OwnerPolicy::Leave, xattrs: false, special: false },
        sync: false,
        threads: place.threads,
        interrupted: Arc::clone(&place.interrupted),
    };
    let summary = restore(repository, options)?;
    found.damaged = summary.damaged > 0;
    (found.files.restored, found.files.bytes) = (expected, summary.bytes);
    if summary.problems > 0 {
        let problems = summary.problems;
        found.problems.push(format!("{problems} problems with the restored files"));
    } else if summary.verified < expected {
        let verified = summary.verified;
        found.problems.push(format!("only {verified} of {expected} files were restored"));
    }
    Ok(found)
}

fn as_file(entry: &EntryRef<'_>) -> Option<Chosen> {
    let is_file = entry.kind() == EntryKind::File;
    is_file.then(|| Chosen { path: entry.path().to_vec(), size: entry.size() })
}

/// Chooses files, each with the same chance.
fn choose(
    repository: &Repository,
    snapshot: &Snapshot,
    sample: Sample,
) -> Result<Vec<Chosen>, OpError> {
    let mut random = Random::new();
    let (mut chosen, mut seen) = (Vec::new(), 0u64);
    list(repository, snapshot, b"", true, &mut |entry| {
        let Some(file) = as_file(entry) else { return Ok(()) };
        seen += 1;
        match sample {
            Sample::Percent(percent) => {
                if random.fraction() * 100.0 < percent {
                    chosen.push(file);
                }
            }
            Sample::Number(number) if (chosen.len() as u64) < number => chosen.push(file),
            // Each file that comes takes the place of one with the chance that keeps all equal.
            Sample::Number(_) => {
                if let Ok(at) = usize::try_from(random.below(seen))
                    && let Some(place) = chosen.get_mut(at)
                {
                    *place = file;
                }
            }
        }
        Ok(())
    })?;
    Ok(chosen)
}

/// Random numbers for a choice that nobody has to be unable to foresee (splitmix64).
struct Random(u64);

impl Random {
    fn new() -> Self {
        let mut bytes = [0; 8];
        crate::id::fill_random(&mut bytes);
        Self(u64::from_le_bytes(bytes))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        let product = u128::from(self.next()) * u128::from(limit);
        u64::try_from(product >> 64).unwrap_or(0)
    }

    fn fraction(&mut self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits are what such a number holds")]
        let number = (self.next() >> 11) as f64;
        number / 9_007_199_254_740_992.0
    }
}
