//! Parity objects in storage: making them, and finding out with them what is left of a pack. All of
//! it works on storage alone, without keys.

use std::collections::HashSet;

use super::{Repository, RepositoryError};
use crate::format::parity::{
    FIXED_LEN, Head, Layout, PackHasher, TRAILER_LEN, decode_trailer, shard_hash,
};
use crate::id::PackId;
use crate::parity::{Lost, RebuildError, encode, rebuild};
use crate::storage::{ObjectKind, ObjectName, Storage, StorageError, StorageErrorKind};

impl Repository {
    /// Parity shards for every thousand data shards, if the repository has parity.
    pub fn parity(&self) -> Option<u32> {
        self.config().parity_per_mille
    }

    /// The packs that are there and have no parity object, in a repository whose packs are to have
    /// one. Packs are listed first: a pack that is seen was published after its parity.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn packs_without_parity(&self) -> Result<Vec<PackId>, RepositoryError> {
        if self.parity().is_none() {
            return Ok(Vec::new());
        }
        let packs = self.list_packs()?;
        let parity = self.storage().list(ObjectKind::Parity)?.objects;
        let covered: HashSet<PackId> = parity.iter().map(|(name, _)| PackId(name.id)).collect();
        Ok(packs.into_keys().filter(|id| !covered.contains(id)).collect())
    }
}

/// Computes the parity of the pack `id`, of `len` bytes, and publishes it. Returns the length of
/// the parity object. `read` fills a buffer with the bytes of the pack from an offset on.
///
/// # Errors
/// When `read` or storage fails.
pub fn publish_parity(
    storage: &dyn Storage,
    id: PackId,
    len: u64,
    per_mille: u32,
    read: impl FnMut(u64, &mut [u8]) -> Result<(), StorageError>,
) -> Result<u64, RepositoryError> {
    let name = ObjectName::parity(id);
    let layout = Layout::for_pack(len, per_mille)
        .map_err(|error| RepositoryError::Writer(format!("{name}: {error}")))?;
    let parity = encode(id, layout, read)?;
    let [start, end] = parity.parts();
    let mut object = storage.create(name, Some(layout.object_len()))?;
    object.append(&start)?;
    object.append(&parity.shards)?;
    object.append(&end)?;
    object.publish()?;
    Ok(layout.object_len())
}

/// What is left of the description of a pack's shards.
#[derive(Debug)]
pub enum ParityHead {
    /// The pack has no parity object.
    Missing,
    /// Neither head can be used, for this reason.
    Lost(String),
    /// It is known how the pack is cut and hashed.
    Usable {
        /// From whichever copy is whole.
        head: Head,
        /// What is wrong with the parity object all the same.
        flaw: Option<String>,
    },
}

/// Reads the heads of the parity object of a pack.
///
/// # Errors
/// When the place is lost.
pub fn parity_head(storage: &dyn Storage, id: PackId) -> Result<ParityHead, RepositoryError> {
    let name = ObjectName::parity(id);
    let len = match storage.len(name) {
        Ok(len) => len,
        Err(error) if error.kind == StorageErrorKind::NotFound => return Ok(ParityHead::Missing),
        Err(error) => return Ok(ParityHead::Lost(words(error)?)),
    };
    let first = usable(first_head(storage, name)?, id);
    let second = usable(second_head(storage, name, len)?, id);
    Ok(match (first, second) {
        (Err(reason), Err(_)) => ParityHead::Lost(reason),
        (Ok(head), second) => {
            let flaw = match second {
                _ if head.layout.object_len() != len => {
                    Some(format!("it has {len} bytes instead of {}", head.layout.object_len()))
                }
                Err(reason) => Some(format!("its second head: {reason}")),
                Ok(second) if second != head => Some("its two heads differ".to_owned()),
                Ok(_) => None,
            };
            ParityHead::Usable { head, flaw }
        }
        (Err(reason), Ok(head)) => {
            ParityHead::Usable { head, flaw: Some(format!("its first head: {reason}")) }
        }
    })
}

fn usable(read: Result<Head, String>, id: PackId) -> Result<Head, String> {
    match read {
        Ok(head) if head.pack != id => Err("it is that of another pack".to_owned()),
        read => read,
    }
}

/// The head at the start; in words why there is none.
fn first_head(
    storage: &dyn Storage,
    name: ObjectName,
) -> Result<Result<Head, String>, RepositoryError> {
    let mut fixed = [0; FIXED_LEN];
    if let Err(error) = storage.read_range(name, 0, &mut fixed) {
        return Ok(Err(words(error)?));
    }
    match Head::measure(&fixed) {
        Ok(len) => read_head(storage, name, 0, len),
        Err(error) => Ok(Err(error.to_string())),
    }
}

/// The head before the end of an object of `len` bytes; in words why there is none.
fn second_head(
    storage: &dyn Storage,
    name: ObjectName,
    len: u64,
) -> Result<Result<Head, String>, RepositoryError> {
    let mut trailer = [0; TRAILER_LEN];
    let end = len.saturating_sub(TRAILER_LEN as u64);
    if let Err(error) = storage.read_range(name, end, &mut trailer) {
        return Ok(Err(words(error)?));
    }
    match decode_trailer(&trailer) {
        Ok(head_len) if head_len <= end => read_head(storage, name, end - head_len, head_len),
        Ok(_) => Ok(Err("it is longer than the object".to_owned())),
        Err(error) => Ok(Err(error.to_string())),
    }
}

/// `len` was checked against the limits.
fn read_head(
    storage: &dyn Storage,
    name: ObjectName,
    offset: u64,
    len: u64,
) -> Result<Result<Head, String>, RepositoryError> {
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    Ok(match storage.read_range(name, offset, &mut bytes) {
        Err(error) => Err(words(error)?),
        Ok(()) => Head::decode(&bytes).map_err(|error| error.to_string()),
    })
}

/// In words why bytes cannot be had. An error only when the whole place is gone.
fn words(error: StorageError) -> Result<String, RepositoryError> {
    match (error.kind, &error.source) {
        (StorageErrorKind::PlaceLost, _) => Err(error.into()),
        (StorageErrorKind::Truncated, None) => Ok("it ends too early".to_owned()),
        (_, Some(source)) => Ok(format!("it cannot be read: {source}")),
        (_, None) => Ok(error.to_string()),
    }
}

/// What is left of a pack and its parity, as every byte says.
#[derive(Debug)]
pub struct PackState {
    /// How the pack is cut and hashed.
    pub head: Head,
    /// The shards that are lost, of the pack or of the parity.
    pub lost: Lost,
    /// The pack lies where it belongs and is, whole, what was written.
    pub is_sound: bool,
    /// Where the bytes of the pack may be found.
    places: Vec<ObjectName>,
    /// For every data shard the place that has it.
    found_at: Vec<Option<u8>>,
}

/// Reads a pack and its parity whole. Shards of the pack that are damaged where it belongs are
/// looked for in `others`: objects that were the pack once and were set aside.
///
/// # Errors
/// When the place is lost.
pub fn pack_state(
    storage: &dyn Storage,
    head: Head,
    others: &[ObjectName],
) -> Result<PackState, RepositoryError> {
    let layout = head.layout;
    let pack = ObjectName::pack(head.pack);
    let mut places = vec![pack];
    places.extend(others.iter().take(usize::from(u8::MAX)));
    let right_len = match storage.len(pack) {
        Ok(len) => len == layout.pack_len(),
        Err(error) if error.kind == StorageErrorKind::NotFound => false,
        Err(error) => words(error).map(|_| false)?,
    };
    let (mut lost, mut found_at) = (Vec::new(), Vec::new());
    let mut hasher = PackHasher::default();
    let mut buffer = vec![0; layout.shard_len() as usize];
    for shard in 0..layout.data_shards() {
        let (offset, len) = layout.data_range(shard);
        let (bytes, wanted) = (&mut buffer[..len], head.shard_hashes[shard as usize]);
        let mut found = None;
        for (number, place) in (0u8..).zip(&places) {
            if read_shard(storage, *place, offset, bytes)? && shard_hash(bytes) == wanted {
                found = Some(number);
                hasher.data_shard(bytes);
                break;
            }
        }
        if found.is_none() {
            lost.push(shard);
        }
        found_at.push(found);
    }
    for shard in 0..layout.parity_shards() {
        let number = layout.data_shards() + shard;
        let offset = layout.parity_offset(shard);
        let there = read_shard(storage, ObjectName::parity(head.pack), offset, &mut buffer)?;
        if !there || shard_hash(&buffer) != head.shard_hashes[number as usize] {
            lost.push(number);
        }
    }
    let in_place = found_at.iter().all(|place| *place == Some(0));
    let is_sound = right_len && in_place && hasher.pack_hash() == head.pack_hash;
    Ok(PackState { head, lost: Lost::new(lost), is_sound, places, found_at })
}

/// Whether the bytes could be read. A bad sector costs a shard.
fn read_shard(
    storage: &dyn Storage,
    name: ObjectName,
    offset: u64,
    bytes: &mut [u8],
) -> Result<bool, RepositoryError> {
    match storage.read_range(name, offset, bytes) {
        Ok(()) => Ok(true),
        Err(error) => words(error).map(|_| false),
    }
}

impl PackState {
    /// Whether the pack can be made again as it was, as far as can be told without doing it.
    pub fn can_be_rebuilt(&self) -> bool {
        self.lost.can_be_found(&self.head)
    }

    /// Hands the pack as it was written to `take`, from its first byte to its last. Only when this
    /// returns without an error was the whole compared with what was written; until then nothing
    /// that was taken may be published.
    ///
    /// # Errors
    /// When too much is lost, reading or `take` fails, or the result is not the pack that was.
    pub fn rebuild(
        &self,
        storage: &dyn Storage,
        take: impl FnMut(&[u8]) -> Result<(), StorageError>,
    ) -> Result<(), RebuildError<StorageError>> {
        let layout = self.head.layout;
        let parity = ObjectName::parity(self.head.pack);
        let read = |shard: u32, at: usize, bytes: &mut [u8]| match shard
            .checked_sub(layout.data_shards())
        {
            Some(shard) => {
                storage.read_range(parity, layout.parity_offset(shard) + at as u64, bytes)
            }
            None => {
                let place = self.found_at[shard as usize].unwrap_or(0);
                let name = self.places[usize::from(place)];
                storage.read_range(name, layout.data_range(shard).0 + at as u64, bytes)
            }
        };
        rebuild(&self.head, &self.lost, read, take)
    }
}
