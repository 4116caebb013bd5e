//! Parity objects, and the repair of packs with them.

use std::sync::Arc;

use gabion::format::parity::{FIXED_LEN, Head, TRAILER_LEN, decode_trailer, encode_trailer};
use gabion::id::PackId;
use gabion::ops::scrub::{ScrubOptions, scrub};
use gabion::repo::{ParityHead, pack_state, parity_head};
use gabion::storage::{MemoryStorage, ObjectName};

const HASH_LEN: usize = 32;
const PACK: PackId = PackId([7; 16]);

/// The input is the length of a pack (two bytes), the pack, and its parity object; since no fuzzer
/// guesses a hash, the first head gets the one that it should have.
///
/// Heads have one form; a pack that was put right has the hash that its head says, and what could
/// not be put right was not touched.
pub fn parity(data: &[u8]) {
    head(data);
    let Some((len, rest)) = data.split_first_chunk::<2>() else { return };
    let len = usize::from(u16::from_le_bytes(*len)).min(rest.len());
    let (pack, object) = rest.split_at(len);
    let mut object = object.to_vec();
    give_hash(&mut object);
    let storage = MemoryStorage::new();
    let (name, parity) = (ObjectName::pack(PACK), ObjectName::parity(PACK));
    storage.put(name, pack);
    storage.put(parity, object.clone());
    let options = ScrubOptions { mend: true, only: None, threads: 1, interrupted: Arc::default() };
    let summary = scrub(&storage, &(), &options).expect("memory does not fail");
    let now = storage.get(name).expect("the pack stays");
    if summary.rebuilt == 0 {
        assert_eq!(&now[..], pack, "the pack was touched");
    } else {
        let ParityHead::Usable { head, .. } = parity_head(&storage, PACK).expect("in memory")
        else {
            panic!("the pack was rebuilt without a head");
        };
        assert!(pack_state(&storage, head, &[]).expect("in memory").is_sound);
    }
    if summary.parity_rebuilt == 0 {
        assert_eq!(storage.get(parity).as_deref(), Some(&object[..]), "the parity was touched");
    }
}

fn head(data: &[u8]) {
    if let Ok(head) = Head::decode(data) {
        assert_eq!(head.encode(), data, "a head has two forms");
    }
    if let Some((trailer, _)) = data.split_first_chunk::<TRAILER_LEN>()
        && let Ok(len) = decode_trailer(trailer)
    {
        assert_eq!(encode_trailer(len), *trailer);
    }
}

/// Makes the first head whole, if it can be one.
fn give_hash(object: &mut [u8]) {
    let Some((fixed, _)) = object.split_first_chunk::<FIXED_LEN>() else { return };
    let Ok(len) = Head::measure(fixed) else { return };
    let Ok(len) = usize::try_from(len) else { return };
    if len <= object.len() {
        let hash = blake3::hash(&object[..len - HASH_LEN]);
        object[len - HASH_LEN..len].copy_from_slice(hash.as_bytes());
    }
}
