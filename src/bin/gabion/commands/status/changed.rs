//! Whether the repository of the jobs still holds the snapshots that this machine took.

use gabion::job::config::RepositoryPlace;
use gabion::repo::RepositoryError;
use gabion::storage::{LocalStorage, Storage};

use crate::errors::with_causes;
use crate::render::values::counted;
use crate::session::Session;

/// What nothing explains, in words. Names are looked at first, which needs no key; only when some are
/// absent is the repository opened, if its key can be had without asking. A repository on another
/// machine, or on a disk that is not there, is not looked at.
pub(super) fn of_snapshots(session: &mut Session, place: &RepositoryPlace) -> Option<String> {
    let folder = place.url.folder()?.to_owned();
    session.use_configured(place).ok()?;
    let memory = session.memory().ok()??;
    let storage = LocalStorage::open(&folder).ok()?;
    let absent = match memory.absent(&storage as &dyn Storage) {
        Ok(absent) => absent.len(),
        Err(
            error @ (RepositoryError::AnotherRepository { .. }
            | RepositoryError::NoLongerEncrypted(_)),
        ) => return Some(with_causes(&error)),
        Err(_) => return None,
    };
    if absent == 0 {
        return None;
    }
    let count = |count: usize| counted(count as u64, "snapshot is", "snapshots are");
    let gone = |ids: usize| format!("{} gone that this machine took", count(ids));
    if !matches!((&place.key, session.key_source()), (Some(_), _) | (_, Ok(Some(_)))) {
        return Some(format!(
            "{}: `gabion check` tells whether another one forgot them",
            gone(absent)
        ));
    }
    match session.open() {
        Ok(opened) if opened.changes.is_empty() => None,
        Ok(opened) => {
            let missing = opened.changes.missing.len() + opened.changes.returned.len();
            Some(format!("{} and that nobody forgot", gone(missing)))
        }
        Err(failure) => Some(format!("{}: {}", gone(absent), failure.message())),
    }
}
