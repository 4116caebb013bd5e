//! Packs go with their parity, and parity goes that has no pack.

use super::Prune;
use crate::event::Event;
use crate::id::PackId;
use crate::ops::OpError;
use crate::repo::RepositoryError;
use crate::storage::{ObjectKind, ObjectName};

impl Prune<'_> {
    /// Deletes a pack, and then its parity: no pack that is there lacks it.
    pub(super) fn delete_pack(&self, id: PackId) -> Result<(), RepositoryError> {
        self.delete(ObjectName::pack(id))?;
        if self.repository.parity().is_some() {
            self.delete(ObjectName::parity(id))?;
        }
        Ok(())
    }

    /// Deletes what was left of runs that ended between a pack and its parity.
    ///
    /// Writers publish the parity first. So parity is listed before sessions, and packs after them:
    /// who was between both when the parity was listed has a session still, or has its pack.
    pub(super) fn delete_parity_of_nothing(&self) -> Result<(), OpError> {
        if self.repository.parity().is_none() {
            return Ok(());
        }
        let list = |kind| self.repository.storage().list(kind).map_err(RepositoryError::from);
        let parity = list(ObjectKind::Parity)?.objects;
        let sessions = self.all_sessions()?;
        let packs = self.repository.list_packs()?;
        let (mut count, mut bytes) = (0, 0);
        for (name, len) in parity {
            let id = PackId(name.id);
            let is_wanted = sessions.iter().any(|session| id.is_of_session(*session));
            if is_wanted || packs.contains_key(&id) {
                continue;
            }
            self.go_on()?;
            self.delete(name)?;
            (count, bytes) = (count + 1, bytes + len);
        }
        if count > 0 {
            let text = format!("{count} parity objects of packs that are gone were deleted");
            self.repository.observer().event(Event::Note(format!("{text} ({bytes} bytes)")));
        }
        Ok(())
    }
}
