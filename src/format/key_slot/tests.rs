//! Tests of key slots: golden text, damage apart from wrong keys, and hostile costs.

use proptest::prelude::*;

use super::*;

const CREATED: &str = "2026-11-22T13:00:00Z";
const CHEAP: KdfCosts = KdfCosts { memory_kib: 32, passes: 1, lanes: 4 };

fn master() -> MasterKey {
    MasterKey::from_bytes(&[0x42; 32])
}

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(text).unwrap()
}

fn key_file() -> KeyFile {
    KeyFile::parse(format!("gabion key file 1\n{}\n", "5a".repeat(32)).as_bytes()).unwrap()
}

/// A slot without anything random in it.
fn fixed(secret: Secret<'_>) -> KeySlot {
    let (repository, slot) = (RepositoryId([0x11; 16]), SlotId([0x22; 16]));
    KeySlot::with_salt(repository, slot, [0x33; 32], secret, CHEAP)
        .described("laptop", CREATED)
        .unwrap()
        .filled(&master(), secret)
        .unwrap()
}

fn golden_text(extra: &str, check: &str, wrapped: &str, hash: &str) -> String {
    let (id, slot, salt) = ("11".repeat(16), "22".repeat(16), "33".repeat(32));
    format!(
        "{{\"format-version\":1,\"repository-id\":\"{id}\",\"slot-id\":\"{slot}\",\
         \"label\":\"laptop\",\"created\":\"{CREATED}\",{extra},\"salt\":\"{salt}\",\
         \"check\":\"{check}\",\"wrapped\":\"{wrapped}\"}}\nblake3 {hash}\n"
    )
}

#[test]
fn the_text_is_that_of_the_format() {
    let passphrase = passphrase("open sesame");
    let slot = fixed(Secret::Passphrase(&passphrase));
    let extra = "\"kind\":\"passphrase\",\
        \"kdf\":{\"name\":\"argon2id\",\"memory-kib\":32,\"passes\":1,\"lanes\":4}";
    let expected = golden_text(
        extra,
        "a028f5a8670fb8278ad5f48a359ac2df",
        "47ce399c7afbfe7588fa752da89682af71ef93007b93c6bea9ad56a9b52f2d9174eed956da315f2ee976a12380d5d653",
        "b4c3b27f9325a5578cddb62469e81751bd982fdd2bb601333280800f7f33dab0",
    );
    assert_eq!(String::from_utf8(slot.encode()).unwrap(), expected);

    let key_file = key_file();
    let slot = fixed(Secret::KeyFile(&key_file));
    let expected = golden_text(
        "\"kind\":\"key-file\"",
        "7c766d2dd4cd819cac38ea66b985ea4f",
        "af0ab882f38beb9ae6844fc1b8e2c6e0dcf02571d8b98ddf01b32e1b7b75c73a09f0aa60d338f3d5de2dc083bdbce614",
        "9f3a4fb4e1d3fe5263c51f94b7dc1d6abfe49fd6d7e1e4d1137a224c56248a34",
    );
    assert_eq!(String::from_utf8(slot.encode()).unwrap(), expected);
}

#[test]
fn a_slot_gives_the_key_to_its_own_secret_only() {
    let (right, wrong) = (passphrase("right"), passphrase("wrong"));
    let (file, other_file) = (key_file(), KeyFile::generate());
    let id = RepositoryId::random();
    for (own, strange, other_kind) in [
        (Secret::Passphrase(&right), Secret::Passphrase(&wrong), Secret::KeyFile(&file)),
        (Secret::KeyFile(&file), Secret::KeyFile(&other_file), Secret::Passphrase(&right)),
    ] {
        let slot = KeySlot::wrap(&master(), id, "Zoë's laptop", CREATED, own, CHEAP).unwrap();
        let read = KeySlot::decode(&slot.encode()).unwrap();
        assert_eq!(read, slot);
        assert_eq!((read.repository_id(), read.label()), (id, "Zoë's laptop"));
        assert_eq!(read.created(), CREATED);
        assert_eq!(read.costs().is_some(), read.kind() == SlotKind::Passphrase);
        assert_eq!(read.unwrap_master(own), Ok(master()));
        assert_eq!(read.unwrap_master(strange), Err(UnwrapError::WrongKey));
        assert_eq!(read.unwrap_master(other_kind), Err(UnwrapError::WrongKind));
    }
}

#[test]
fn two_slots_for_one_secret_share_nothing() {
    let key_file = key_file();
    let wrap = || {
        let secret = Secret::KeyFile(&key_file);
        KeySlot::wrap(&master(), RepositoryId([0; 16]), "", CREATED, secret, CHEAP).unwrap()
    };
    let (one, two) = (wrap(), wrap());
    assert_ne!(one.slot_id(), two.slot_id());
    assert_ne!(one.salt, two.salt);
    assert_ne!(one.check, two.check);
    assert_ne!(one.wrapped, two.wrapped);
}

#[test]
fn every_flipped_bit_and_every_cut_is_damage_and_never_a_wrong_key() {
    let passphrase = passphrase("open sesame");
    let bytes = fixed(Secret::Passphrase(&passphrase)).encode();
    for bit in 0..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let result = KeySlot::decode(&bad);
        assert!(matches!(result, Err(SlotError::Damaged(_))), "bit {bit}: {result:?}");
    }
    for len in 0..bytes.len() {
        let result = KeySlot::decode(&bytes[..len]);
        assert!(matches!(result, Err(SlotError::Damaged(_))), "cut to {len}: {result:?}");
    }
    let longer = [&bytes[..], b"\n"].concat();
    assert!(matches!(KeySlot::decode(&longer), Err(SlotError::Damaged(_))));
}

#[test]
fn a_forged_slot_with_a_new_hash_does_not_open() {
    let key_file = key_file();
    let secret = Secret::KeyFile(&key_file);
    let good = fixed(secret);
    let forge = |change: fn(&mut KeySlot)| {
        let mut slot = good.clone();
        change(&mut slot);
        KeySlot::decode(&slot.encode()).unwrap().unwrap_master(secret)
    };
    assert_eq!(forge(|_| ()), Ok(master()));
    assert_eq!(forge(|slot| slot.repository_id.0[0] ^= 1), Err(UnwrapError::Damaged));
    assert_eq!(forge(|slot| slot.slot_id.0[0] ^= 1), Err(UnwrapError::Damaged));
    assert_eq!(forge(|slot| slot.wrapped[0] ^= 1), Err(UnwrapError::Damaged));
    assert_eq!(forge(|slot| slot.wrapped[47] ^= 1), Err(UnwrapError::Damaged));
    assert_eq!(forge(|slot| slot.salt[0] ^= 1), Err(UnwrapError::WrongKey));
    assert_eq!(forge(|slot| slot.check[15] ^= 1), Err(UnwrapError::WrongKey));
}

#[test]
fn kind_and_costs_are_bound_to_the_wrapped_key() {
    let secret = passphrase("x");
    let slot = fixed(Secret::Passphrase(&secret));
    let bound = slot.bound();
    assert_eq!(bound.len(), 16 + 16 + 32 + 1 + 12);
    assert_eq!(bound[64..], [1, 32, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0]);
    let file = key_file();
    assert_eq!(
        fixed(Secret::KeyFile(&file)).bound()[64..],
        [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    );
}

#[test]
fn hostile_costs_are_refused_before_memory_is_taken() {
    let passphrase = passphrase("x");
    let secret = Secret::Passphrase(&passphrase);
    for costs in [
        KdfCosts { memory_kib: u32::MAX, ..CHEAP },
        KdfCosts { passes: u32::MAX, ..CHEAP },
        KdfCosts { lanes: 17, memory_kib: 17 * 8, ..CHEAP },
    ] {
        let mut slot = fixed(secret);
        slot.kdf = Some(Kdf { name: KdfName::Argon2id, costs });
        let read = KeySlot::decode(&slot.encode()).unwrap();
        let result = read.unwrap_master(secret);
        assert!(matches!(result, Err(UnwrapError::CostTooHigh(_))), "{result:?}");
        let made = KeySlot::wrap(&master(), RepositoryId([0; 16]), "", CREATED, secret, costs);
        assert!(matches!(made, Err(WrapError::Kdf(KdfError::CostTooHigh { .. }))), "{made:?}");
    }
    let mut slot = fixed(secret);
    slot.kdf = Some(Kdf { name: KdfName::Argon2id, costs: KdfCosts { passes: 0, ..CHEAP } });
    assert!(matches!(KeySlot::decode(&slot.encode()), Err(SlotError::Damaged(_))));
}

#[test]
fn a_later_format_is_named_whatever_else_it_holds() {
    let bytes = text::with_hash_line(br#"{"format-version":3,"anything":[1]}"#);
    let expected = SlotError::NewerFormat { found: 3, supported: 1 };
    assert_eq!(KeySlot::decode(&[&bytes[..], b"one more line\n"].concat()), Err(expected));
}

#[test]
fn slots_that_make_no_sense_are_damaged() {
    let passphrase = passphrase("x");
    let text = String::from_utf8(fixed(Secret::Passphrase(&passphrase)).encode()).unwrap();
    let line = text.lines().next().unwrap();
    let decode = |line: &str| KeySlot::decode(&text::with_hash_line(line.as_bytes()));
    assert!(decode(line).is_ok());
    for (from, to) in [
        ("version\":1", "version\":0"),
        ("\"passphrase\"", "\"key-file\""),
        ("\"passphrase\"", "\"retina\""),
        ("argon2id", "argon2i"),
        ("\"passes\":1,", ""),
        ("\"passes\":1,", "\"passes\":-1,"),
        ("\"memory-kib\":32", "\"memory-kib\":31"),
        ("laptop", "\\u001b[2J"),
        ("3333", "333"),
    ] {
        let bad = line.replacen(from, to, 1);
        assert_ne!(bad, line, "{from} is in the slot");
        assert!(matches!(decode(&bad), Err(SlotError::Damaged(_))), "{bad}");
    }
}

#[test]
fn labels_that_could_not_be_read_again_are_refused() {
    let key_file = key_file();
    for label in ["two\nlines".to_owned(), "a".repeat(257)] {
        let secret = Secret::KeyFile(&key_file);
        let id = RepositoryId([0; 16]);
        let made = KeySlot::wrap(&master(), id, &label, CREATED, secret, CHEAP);
        assert!(matches!(made, Err(WrapError::Description(_))), "{label}");
    }
}

#[test]
fn debug_output_holds_no_secret() {
    let (passphrase, key_file) = (passphrase("sesame"), key_file());
    for secret in [Secret::Passphrase(&passphrase), Secret::KeyFile(&key_file)] {
        let slot = fixed(secret);
        let shown = format!("{secret:?} {slot:?} {:?}", slot.unwrap_master(secret));
        assert!(!shown.contains("sesame") && !shown.contains("5a5a"), "{shown}");
        assert!(!shown.contains("90, 90") && !shown.contains("66, 66"), "{shown}");
    }
}

proptest! {
    #[test]
    fn decode_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(KeySlot::decode(&bytes).is_err());
        let _ = KeySlot::decode(&text::with_hash_line(&bytes));
    }

    #[test]
    fn numbers_of_any_size_are_survived(memory_kib: u32, passes: u32, lanes: u32) {
        let passphrase = passphrase("x");
        let secret = Secret::Passphrase(&passphrase);
        let costs = KdfCosts { memory_kib, passes, lanes };
        let slot = KeySlot::with_salt(RepositoryId([0; 16]), SlotId([0; 16]), [0; 32], secret, costs);
        let allowed = costs.check().is_ok();
        // Allowed costs are not tried here: they may take a gigabyte.
        if let (Ok(slot), false) = (KeySlot::decode(&slot.encode()), allowed) {
            prop_assert!(matches!(slot.unwrap_master(secret), Err(UnwrapError::CostTooHigh(_))));
        }
    }
}
