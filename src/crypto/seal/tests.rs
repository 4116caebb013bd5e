//! Tests of sealing: golden bytes, damage, and objects in the wrong place.

use proptest::prelude::*;

use super::*;
use crate::crypto::keys::MasterKey;
use crate::crypto::text::to_hex;

const REPOSITORY: RepositoryId = RepositoryId([0x11; 16]);
const ID: [u8; 16] = [0x22; 16];
const BOTH: [Sealing; 2] = [Sealing::None, Sealing::Aes256Gcm];

fn keys() -> Keys {
    Keys::derive(&MasterKey::from_bytes(&[0x42; 32]))
}

fn golden_object(sealing: Sealing) -> Vec<u8> {
    let header = ObjectHeader::with_salt(ObjectType::Snapshot, sealing, ID, [0x33; 32]);
    seal_object_with(&keys(), REPOSITORY, &header, b"a wall of stones")
}

fn open(sealing: Sealing, bytes: &[u8]) -> Result<Vec<u8>, OpenError> {
    open_object(&keys(), REPOSITORY, sealing, ObjectType::Snapshot, &ID, bytes.to_vec())
}

#[test]
fn sealed_bytes_are_those_of_the_format() {
    let golden = [
        (Sealing::None, "612077616c6c206f662073746f6e65730fcc193dce17a94532c637d8c552a1b5"),
        (Sealing::Aes256Gcm, "b1c0295b092be6f7c3db4e5508aced300228ad7e251245b28f913e19e2cc2551"),
    ];
    for (sealing, expected) in golden {
        let object = golden_object(sealing);
        assert_eq!(to_hex(&object[HEADER_LEN..]), expected, "{sealing:?}");
        assert_eq!(open(sealing, &object), Ok(b"a wall of stones".to_vec()));
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    for sealing in BOTH {
        let object = golden_object(sealing);
        for bit in 0..object.len() * 8 {
            let mut bad = object.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(open(sealing, &bad).is_err(), "{sealing:?}: bit {bit}");
        }
        for len in 0..object.len() {
            assert!(open(sealing, &object[..len]).is_err(), "{sealing:?}: cut to {len} bytes");
        }
        let longer = [&object[..], &[0]].concat();
        assert_eq!(open(sealing, &longer), Err(OpenError::NotAuthentic));
    }
}

#[test]
fn another_object_in_its_place_is_refused() {
    for sealing in BOTH {
        let object = golden_object(sealing);
        let keys = keys();
        let open = |repository, object_type, id| {
            open_object(&keys, repository, sealing, object_type, id, object.clone())
        };
        assert!(open(REPOSITORY, ObjectType::Snapshot, &ID).is_ok());
        let retyped = open(REPOSITORY, ObjectType::Root, &ID);
        assert_eq!(retyped, Err(OpenError::Misplaced("type")));
        let renamed = open(REPOSITORY, ObjectType::Snapshot, &[0x23; 16]);
        assert_eq!(renamed, Err(OpenError::Misplaced("id")));
        let foreign = open(RepositoryId([0x12; 16]), ObjectType::Snapshot, &ID);
        assert_eq!(foreign, Err(OpenError::NotAuthentic));
    }
    let downgraded = open(Sealing::Aes256Gcm, &golden_object(Sealing::None));
    assert_eq!(downgraded, Err(OpenError::Misplaced("sealing")));
    let other = Keys::derive(&MasterKey::random());
    let sealing = Sealing::Aes256Gcm;
    let object = golden_object(sealing);
    let opened =
        open_object(&other, REPOSITORY, sealing, ObjectType::Snapshot, &ID, object.clone());
    assert_eq!(opened, Err(OpenError::NotAuthentic));
}

#[test]
fn a_header_patched_to_fit_opens_nothing() {
    for sealing in BOTH {
        let keys = keys();
        let object = golden_object(sealing);
        // A snapshot passed off as a root, and one under the name of another.
        let mut retyped = object.clone();
        retyped[10] = ObjectType::Root as u8;
        let result =
            open_object(&keys, REPOSITORY, sealing, ObjectType::Root, &ID, retyped.clone());
        assert_eq!(result, Err(OpenError::NotAuthentic));
        let mut renamed = object.clone();
        renamed[16..32].copy_from_slice(&[0x23; 16]);
        let expected_id = &[0x23; 16];
        let result = open_object(
            &keys,
            REPOSITORY,
            sealing,
            ObjectType::Snapshot,
            expected_id,
            renamed.clone(),
        );
        assert_eq!(result, Err(OpenError::NotAuthentic));
        let mut resealed = object;
        resealed[11] ^= 1;
        let other = if sealing == Sealing::None { Sealing::Aes256Gcm } else { Sealing::None };
        assert_eq!(open(other, &resealed), Err(OpenError::NotAuthentic));
    }
}

fn pack_sealer(sealing: Sealing) -> ObjectSealer {
    let header = ObjectHeader::new(ObjectType::Pack, sealing, ID);
    ObjectSealer::new(&keys(), REPOSITORY, &header)
}

#[test]
fn parts_of_a_pack_open_only_in_their_own_slot() {
    for sealing in BOTH {
        let sealer = pack_sealer(sealing);
        let slots = [(PartKind::Block, 0), (PartKind::Block, 1), (PartKind::Footer, FOOTER_SLOT)];
        let sealed = slots.map(|(part, slot)| {
            let mut buffer = b"equal bytes".to_vec();
            sealer.seal(part, slot, &mut buffer);
            assert_eq!(buffer.len(), 11 + TAG_LEN);
            buffer
        });
        for (i, (part, slot)) in slots.into_iter().enumerate() {
            for (j, bytes) in sealed.iter().enumerate() {
                let mut buffer = bytes.clone();
                let result = sealer.open(part, slot, &mut buffer);
                if i == j {
                    assert_eq!((result, &buffer[..]), (Ok(()), &b"equal bytes"[..]));
                } else {
                    assert_eq!((result, &buffer), (Err(OpenError::NotAuthentic), bytes));
                }
            }
            let mut buffer = sealed[i].clone();
            let other_kind = sealer.open(PartKind::Body, slot, &mut buffer);
            assert_eq!(other_kind, Err(OpenError::NotAuthentic));
            let mut buffer = sealed[i].clone();
            let other_pack = pack_sealer(sealing).open(part, slot, &mut buffer);
            assert_eq!(other_pack, Err(OpenError::NotAuthentic), "salts differ");
        }
    }
}

#[test]
fn encryption_hides_the_bytes_and_plain_sealing_keeps_them() {
    let mut encrypted = vec![0; 64];
    pack_sealer(Sealing::Aes256Gcm).seal(PartKind::Block, 0, &mut encrypted);
    assert!(encrypted.chunks(16).all(|run| run != [0; 16]));
    let mut plain = vec![7; 64];
    pack_sealer(Sealing::None).seal(PartKind::Block, 0, &mut plain);
    assert_eq!(plain[..64], [7; 64]);
}

#[test]
#[should_panic(expected = "sealed for the second time")]
fn no_slot_is_used_twice() {
    let sealer = pack_sealer(Sealing::Aes256Gcm);
    sealer.seal(PartKind::Block, 5, &mut vec![1]);
    sealer.seal(PartKind::Block, 5, &mut vec![2]);
}

#[test]
#[should_panic(expected = "no Block in slot 4294967295")]
fn no_block_takes_the_slot_of_the_footer() {
    pack_sealer(Sealing::Aes256Gcm).seal(PartKind::Block, FOOTER_SLOT, &mut vec![1]);
}

#[test]
#[should_panic(expected = "no Body in slot 0 of a Pack")]
fn no_pack_has_a_body() {
    pack_sealer(Sealing::None).seal(PartKind::Body, BODY_SLOT, &mut vec![1]);
}

#[test]
fn debug_output_holds_no_key_bytes() {
    let shown = format!("{:?}", pack_sealer(Sealing::None));
    assert_eq!(shown, "ObjectSealer { object_type: Pack, .. }");
}

proptest! {
    #[test]
    fn what_is_sealed_opens(body in prop::collection::vec(any::<u8>(), 0..300), encrypt: bool) {
        let sealing = if encrypt { Sealing::Aes256Gcm } else { Sealing::None };
        let keys = keys();
        let object = seal_object(&keys, REPOSITORY, sealing, ObjectType::Mark, ID, &body);
        let opened = open_object(&keys, REPOSITORY, sealing, ObjectType::Mark, &ID, object.clone());
        prop_assert_eq!(opened, Ok(body));
    }

    #[test]
    fn open_never_panics(tail in prop::collection::vec(any::<u8>(), 0..100), slot: u32) {
        prop_assert!(open(Sealing::None, &tail).is_err());
        let header = &golden_object(Sealing::Aes256Gcm)[..HEADER_LEN];
        prop_assert!(open(Sealing::Aes256Gcm, &[header, &tail].concat()).is_err());
        for part in [PartKind::Block, PartKind::Footer, PartKind::Body] {
            let mut buffer = tail.clone();
            prop_assert!(pack_sealer(Sealing::None).open(part, slot, &mut buffer).is_err());
            prop_assert_eq!(&buffer, &tail);
        }
    }
}
