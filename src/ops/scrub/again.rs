//! Making parity again that is lost altogether. Needs the key: only whoever can open every block of
//! a pack knows that its bytes are worth keeping.

use crate::event::{Event, Problem};
use crate::id::PackId;
use crate::ops::OpError;
use crate::repo::index::PackFooter;
use crate::repo::{
    PackReader, ParityHead, Repository, RepositoryError, check_block, parity_head, publish_parity,
};
use crate::storage::{ObjectName, StorageErrorKind};

/// Makes parity for every pack that has none, or none that can be used. Returns for how many packs
/// it was made, and for how many it was not, because they are damaged themselves (which is told).
///
/// # Errors
/// When storage fails.
pub fn make_parity_again(repository: &Repository) -> Result<(u64, u64), OpError> {
    let Some(per_mille) = repository.parity() else { return Ok((0, 0)) };
    let storage = &**repository.storage();
    let (mut made, mut not_made) = (0, 0);
    for (id, len) in repository.list_packs()? {
        let (pack, name) = (ObjectName::pack(id), ObjectName::parity(id));
        let damaged = match parity_head(storage, id)? {
            ParityHead::Usable { .. } => continue,
            ParityHead::Missing => false,
            ParityHead::Lost(_) => true,
        };
        if let Err(error) = open_all(repository, id, len) {
            if !error.is_about_one_object() {
                return Err(error.into());
            }
            let is_gone = storage.len(pack);
            if !matches!(is_gone, Err(error) if error.kind == StorageErrorKind::NotFound) {
                not_made += 1;
                let text = format!("no parity was made for it, since it is damaged: {error}");
                let problem = Problem { subject: pack.to_string().into(), message: text };
                repository.observer().event(Event::Problem(problem));
            }
            continue;
        }
        if damaged {
            storage.delete(name).map_err(RepositoryError::from)?;
        }
        let read = |offset, bytes: &mut [u8]| storage.read_range(pack, offset, bytes);
        publish_parity(storage, id, len, per_mille, read)?;
        made += 1;
        repository.observer().event(Event::Note(format!("{name} was made again")));
    }
    Ok((made, not_made))
}

/// Opens the footer and every block of a pack, and compares every chunk with its id.
fn open_all(repository: &Repository, id: PackId, len: u64) -> Result<(), RepositoryError> {
    let mut reader = PackReader::new(repository);
    let (_, footer) = reader.footer(id, len)?;
    let pack = PackFooter { id, len, footer };
    let mut plain = Vec::new();
    for block in &pack.footer.blocks {
        reader.block(&pack.location(block.first_chunk), &mut plain)?;
        if !check_block(repository, &plain, pack.footer.chunks_of(block)).is_empty() {
            let (object, reason) =
                (ObjectName::pack(id).to_string(), "a chunk is not what its id says");
            return Err(RepositoryError::Damaged { object, reason: reason.to_owned() });
        }
    }
    Ok(())
}
