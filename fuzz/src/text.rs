//! What is readable in a repository: config, key slots, object headers, names and paths.

use std::cmp::Ordering;
use std::sync::LazyLock;

use gabion::crypto::header::{HEADER_LEN, ObjectHeader, Sealing};
use gabion::crypto::keys::Keys;
use gabion::crypto::passphrase::Passphrase;
use gabion::format::config::Config;
use gabion::format::key_slot::{KeyFile, KeySlot, Secret};
use gabion::format::path;
use gabion::id::RepositoryId;
use gabion::storage::ObjectName;

use crate::split_at_byte;

/// The line of a text that checks itself, with its hash.
pub fn with_hash(line: &[u8]) -> Vec<u8> {
    let mut text = line.to_vec();
    text.extend_from_slice(format!("\nblake3 {}\n", blake3::hash(line).to_hex()).as_bytes());
    text
}

/// Keys that are the same in every run, so that a finding can be repeated.
pub fn keys() -> &'static Keys {
    static KEYS: LazyLock<Keys> = LazyLock::new(|| {
        let created = "2026-11-22T12:00:00Z".to_owned();
        let config = Config::new(RepositoryId([1; 16]), Sealing::Aes256Gcm, created);
        let mut json = serde_json::to_value(&config).expect("a config is JSON");
        json["sealing"] = "none".into();
        json["plaintext-key"] = "07".repeat(32).into();
        let mut text = with_hash(json.to_string().as_bytes());
        text.extend_from_slice(format!("mac {}\n", "00".repeat(32)).as_bytes());
        let config = Config::decode(&text).expect("a config");
        Keys::derive(config.plaintext_key().expect("a plaintext repository has its key"))
    });
    &KEYS
}

/// Configs, both as they are found and (since no fuzzer guesses a hash) with the hash and the MAC
/// that their first line should have.
pub fn config(data: &[u8]) {
    let _ = Config::decode(data);
    let (line, _) = split_at_byte(data, b'\n');
    let mut text = with_hash(line);
    let mac = blake3::Hash::from_bytes(keys().config_mac(line));
    text.extend_from_slice(format!("mac {}\n", mac.to_hex()).as_bytes());
    let Ok(unverified) = Config::decode(&text) else { return };
    let config = unverified.verify(keys()).expect("its MAC is right");
    assert_eq!(config.check(), Ok(()));
    let written = config.encode(keys());
    // Escapes and left-out fields may make it longer than a config may be.
    if let Ok(again) = Config::decode(&written) {
        let again = again.verify(keys()).expect("its MAC is right");
        assert_eq!(again, config);
        assert_eq!(again.encode(keys()), written);
    }
    let last_digit = text.len() - 2;
    text[last_digit] = if text[last_digit] == b'0' { b'1' } else { b'0' };
    let forged = Config::decode(&text).expect("only its MAC changed");
    assert!(forged.verify(keys()).is_err(), "another MAC passes");
}

/// Key slots, like configs; and the headers of sealed objects, which have one form.
pub fn key_slot(data: &[u8]) {
    if let Ok(header) = ObjectHeader::decode(data) {
        assert_eq!(header.encode(), data[..HEADER_LEN]);
    }
    let _ = KeySlot::decode(data);
    let (line, _) = split_at_byte(data, b'\n');
    let Ok(slot) = KeySlot::decode(&with_hash(line)) else { return };
    let written = slot.encode();
    if let Ok(again) = KeySlot::decode(&written) {
        assert_eq!(again, slot);
        assert_eq!(again.encode(), written);
    }
    let key_file =
        b"gabion key file 1\n0101010101010101010101010101010101010101010101010101010101010101";
    let key_file = KeyFile::parse(key_file).expect("a key file");
    assert!(slot.unwrap_master(Secret::KeyFile(&key_file)).is_err(), "nobody wrapped that");
    if slot.costs().is_none_or(|costs| costs.memory_kib <= 64 && costs.passes <= 2) {
        let passphrase = Passphrase::new("guess").expect("not empty");
        assert!(
            slot.unwrap_master(Secret::Passphrase(&passphrase)).is_err(),
            "nobody wrapped that"
        );
    }
}

/// Paths and object names. The input is three paths, each ended by a zero byte.
pub fn names(data: &[u8]) {
    let (a, rest) = split_at_byte(data, 0);
    let (b, rest) = split_at_byte(rest, 0);
    let (c, _) = split_at_byte(rest, 0);
    for path in [a, b, c] {
        one_path(path);
        if let Ok(text) = std::str::from_utf8(path)
            && let Ok(name) = text.parse::<ObjectName>()
        {
            assert_eq!(name.to_string(), text, "an object has two names");
        }
    }
    assert_eq!(path::compare(a, b), path::compare(b, a).reverse());
    assert_eq!(path::compare(a, b) == Ordering::Equal, a == b);
    if path::compare(a, b).is_le() && path::compare(b, c).is_le() {
        assert!(path::compare(a, c).is_le(), "the order has a circle");
        if path::is_within(c, a) {
            assert!(path::is_within(b, a), "a subtree is not contiguous");
        }
    }
    if path::problem(a).is_none() && path::problem(b).is_none() {
        let list = |path| <[u8]>::split(path, |&byte| byte == b'/').collect::<Vec<_>>();
        assert_eq!(path::compare(a, b), list(a).cmp(&list(b)));
        assert_eq!(path::is_within(a, b), list(a).starts_with(&list(b)));
    }
}

fn one_path(bytes: &[u8]) {
    let strange = |part: &[u8]| part.is_empty() || part == b"." || part == b"..";
    let bad = bytes.len() > path::MAX_PATH_LEN || bytes.split(|&byte| byte == b'/').any(strange);
    assert_eq!(path::problem(bytes).is_some(), bad, "{bytes:?}");
    assert!(!path::display(bytes).chars().any(char::is_control));
    if bad {
        return;
    }
    let (folder, name) = (path::parent(bytes), path::name(bytes));
    let joined = if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() };
    assert_eq!(joined, bytes);
    assert!(path::is_within(bytes, folder) && path::is_within(bytes, bytes));
    assert!(path::compare(folder, bytes).is_lt());
}
