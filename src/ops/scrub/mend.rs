//! Putting right what scrub found, without the key.

use super::Scrub;
use crate::format::parity::Head;
use crate::ops::OpError;
use crate::parity::{RebuildError, encode};
use crate::repo::{PackState, RepositoryError};
use crate::storage::{ObjectName, Storage, StorageError, StorageErrorKind};

/// A new name in quarantine. Random: what is there already is never touched.
fn new_name() -> ObjectName {
    ObjectName::quarantine(crate::id::SessionId::random().0)
}

/// Exchanges what was rebuilt, under its name in quarantine, with the damaged object. False when
/// that is not there any more: then what was rebuilt goes, too.
fn put_in_place(
    storage: &dyn Storage,
    rebuilt: ObjectName,
    name: ObjectName,
) -> Result<bool, StorageError> {
    match storage.swap(name, rebuilt) {
        Ok(()) => Ok(true),
        Err(error) if error.kind == StorageErrorKind::NotFound => {
            storage.delete(rebuilt)?;
            Ok(false)
        }
        Err(error) => {
            // Best effort: the error that brought us here is the one to tell.
            let _ = storage.delete(rebuilt);
            Err(error)
        }
    }
}

impl Scrub<'_> {
    /// Rebuilds a pack and puts it in the place of the damaged one. Returns where that is kept, or
    /// in words why nothing was changed.
    pub(super) fn mend_pack(
        &self,
        state: &PackState,
    ) -> Result<Result<ObjectName, String>, OpError> {
        let (name, kept) = (ObjectName::pack(state.head.pack), new_name());
        let storage = self.storage;
        let failed = |error: StorageError| OpError::Repository(error.into());
        let len = state.head.layout.pack_len();
        let mut object = storage.create(kept, Some(len)).map_err(failed)?;
        match state.rebuild(storage, |bytes| object.append(bytes)) {
            Ok(()) => {}
            Err(RebuildError::Failed(error)) if error.kind == StorageErrorKind::NoSpace => {
                return Err(failed(error));
            }
            // One bad pack must not keep the others from being put right.
            Err(error) => return Ok(Err(error.to_string())),
        }
        object.publish().map_err(failed)?;
        match put_in_place(storage, kept, name).map_err(failed)? {
            true => Ok(Ok(kept)),
            false => Ok(Err("it was deleted meanwhile".to_owned())),
        }
    }

    /// Computes the parity of a whole pack anew and puts it in the place of the damaged one. False
    /// when the pack is not what the head says.
    pub(super) fn mend_parity(&self, head: &Head) -> Result<bool, OpError> {
        let (pack, name) = (ObjectName::pack(head.pack), ObjectName::parity(head.pack));
        let storage = self.storage;
        let failed = |error: StorageError| OpError::Repository(RepositoryError::from(error));
        let read = |offset: u64, bytes: &mut [u8]| storage.read_range(pack, offset, bytes);
        let Ok(parity) = encode(head.pack, head.layout, read) else { return Ok(false) };
        if parity.head != *head {
            return Ok(false);
        }
        let rebuilt = new_name();
        storage.publish(rebuilt, &parity.encode()).map_err(failed)?;
        if !put_in_place(storage, rebuilt, name).map_err(failed)? {
            return Ok(false);
        }
        // Nothing of the damaged one is worth keeping: all of it follows from the pack.
        storage.delete(rebuilt).map_err(failed)?;
        Ok(true)
    }
}
