//! Tests of the config: its text, damage, forgery, and every bound.

use proptest::prelude::*;

use super::*;

const CREATED: &str = "2026-11-22T13:00:00Z";

fn keys() -> Keys {
    Keys::derive(&MasterKey::from_bytes(&[0x42; 32]))
}

fn sealed() -> Config {
    Config::new(RepositoryId([0x11; 16]), Sealing::Aes256Gcm, CREATED.to_owned())
}

fn plaintext() -> Config {
    let mut config = Config::new(RepositoryId([0x11; 16]), Sealing::None, CREATED.to_owned());
    config.plaintext_key = Some(MasterKey::from_bytes(&[0x42; 32]));
    config
}

/// Decodes and verifies.
fn read(bytes: &[u8]) -> Result<Config, ConfigError> {
    Config::decode(bytes)?.verify(&keys())
}

/// A whole and authentic config whose JSON is `line`.
fn whole(line: &str) -> Vec<u8> {
    let mut bytes = text::with_hash_line(line.as_bytes());
    let mac = text::to_hex(&keys().config_mac(line.as_bytes()));
    bytes.extend_from_slice(format!("mac {mac}\n").as_bytes());
    bytes
}

fn line_of(config: &Config) -> String {
    String::from_utf8(text::json_line(config)).unwrap()
}

#[test]
fn the_text_is_that_of_the_format() {
    let line = concat!(
        r#"{"format-version":1,"repository-id":"11111111111111111111111111111111","#,
        r#""created":"2026-11-22T13:00:00Z","sealing":"none","chunker":{"#,
        r#""files":{"min":32768,"avg":65536,"max":262144},"#,
        r#""streams":{"min":2048,"avg":4096,"max":16384}},"#,
        r#""pages":{"fan-out-bits":8,"content-fan-out-bits":6},"#,
        r#""pack-size":67108864,"block-size":1048576,"page-block-size":262144,"#,
        r#""inline-size":64,"required-features":[],"optional-features":[],"#,
        r#""plaintext-key":"4242424242424242424242424242424242424242424242424242424242424242"}"#,
    );
    let text = String::from_utf8(plaintext().encode(&keys())).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], line);
    assert_eq!(lines[1], "blake3 bfc792a05a7926714afd6a965b057646f007732ea40ff0d217cdb9cd72c24f79");
    assert_eq!(lines[2], "mac aa44a67fdc02be762a0450dca736d34ac65f2cb2ade9718301ad3e265e965e23");
    assert_eq!((lines.len(), text.ends_with('\n')), (3, true));
    assert!(!line_of(&sealed()).contains("plaintext-key"));
}

#[test]
fn what_is_written_is_read_back() {
    for config in [sealed(), plaintext()] {
        let bytes = config.encode(&keys());
        let unverified = Config::decode(&bytes).unwrap();
        assert_eq!(unverified.repository_id(), config.repository_id);
        assert_eq!(unverified.sealing(), config.sealing);
        assert_eq!(unverified.plaintext_key(), config.plaintext_key.as_ref());
        assert_eq!(unverified.verify(&keys()), Ok(config));
    }
    let new = Config::new(RepositoryId::random(), Sealing::None, CREATED.to_owned());
    let keys = Keys::derive(new.plaintext_key.as_ref().unwrap());
    assert_eq!(Config::decode(&new.encode(&keys)).unwrap().verify(&keys), Ok(new));
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    let bytes = sealed().encode(&keys());
    let mac_at = bytes.len() - 65;
    for bit in 0..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        match read(&bad) {
            Err(ConfigError::Damaged(_)) => {}
            Err(ConfigError::NotAuthentic) => assert!(bit / 8 >= mac_at, "bit {bit}"),
            other => panic!("bit {bit}: {other:?}"),
        }
    }
    for len in 0..bytes.len() {
        let result = read(&bytes[..len]);
        assert!(matches!(result, Err(ConfigError::Damaged(_))), "cut to {len}: {result:?}");
    }
    let longer = [&bytes[..], b"\n"].concat();
    assert!(matches!(read(&longer), Err(ConfigError::Damaged(_))));
}

#[test]
fn a_changed_parameter_with_a_new_hash_is_not_authentic() {
    let mut changed = sealed();
    changed.inline_size = 128;
    let stranger = Keys::derive(&MasterKey::from_bytes(&[0x43; 32]));
    assert_eq!(read(&changed.encode(&stranger)), Err(ConfigError::NotAuthentic));
}

#[test]
fn a_later_format_is_named_whatever_else_it_holds() {
    let bytes = text::with_hash_line(br#"{"format-version":7,"anything":[1]}"#);
    let expected = ConfigError::NewerFormat { found: 7, supported: 1 };
    assert_eq!(read(&bytes), Err(expected.clone()));
    assert!(expected.to_string().contains('7') && expected.to_string().contains('1'));
    let older = whole(&line_of(&sealed()).replace(r#"version":1"#, r#"version":0"#));
    assert!(matches!(read(&older), Err(ConfigError::Damaged(_))));
}

#[test]
fn unknown_features_stop_only_when_required() {
    let mut config = sealed();
    config.optional_features.push("fast-lists".to_owned());
    assert_eq!(read(&config.encode(&keys())), Ok(config.clone()));
    config.required_features.push("padding".to_owned());
    let error = read(&config.encode(&keys())).unwrap_err();
    assert_eq!(error, ConfigError::UnknownFeature("padding".to_owned()));
    assert!(error.to_string().contains("padding"));
}

#[test]
fn fields_of_optional_features_are_passed_over_but_none_is_missing_or_double() {
    let line = line_of(&sealed());
    let more = line.replacen('{', r#"{"later":{"deep":[1,2]},"#, 1);
    assert_eq!(read(&whole(&more)), Ok(sealed()));
    let missing = line.replace(r#""inline-size":64,"#, "");
    let double = line.replace(r#""inline-size":64,"#, r#""inline-size":64,"inline-size":64,"#);
    let null =
        line.replace(r#""optional-features":[]"#, r#""optional-features":[],"plaintext-key":null"#);
    for bad in [missing, double, null, format!("{line} {line}"), String::new()] {
        assert!(matches!(read(&whole(&bad)), Err(ConfigError::Damaged(_))), "{bad}");
    }
}

#[test]
fn every_parameter_has_bounds() {
    let sizes = |min, avg, max| ChunkSizes { min, avg, max };
    type Change = Box<dyn Fn(&mut Config)>;
    let set = |change: fn(&mut Config)| -> Change { Box::new(change) };
    let mut bad: Vec<Change> = vec![
        set(|c| c.pages.fan_out_bits = 3),
        set(|c| c.pages.fan_out_bits = 13),
        set(|c| c.pages.content_fan_out_bits = 3),
        set(|c| c.pages.content_fan_out_bits = 13),
        set(|c| c.pack_size = (1 << 20) - 1),
        set(|c| c.pack_size = (1 << 30) + 1),
        set(|c| c.block_size = (64 << 10) - 1),
        set(|c| c.block_size = (8 << 20) + 1),
        set(|c| c.page_block_size = (64 << 10) - 1),
        set(|c| c.page_block_size = (8 << 20) + 1),
        set(|c| (c.pack_size, c.block_size) = (1 << 20, 2 << 20)),
        set(|c| c.inline_size = 4097),
        set(|c| c.created = "\u{1b}[2J".to_owned()),
        set(|c| c.optional_features.push("a".repeat(300))),
        set(|c| c.plaintext_key = Some(MasterKey::random())),
        set(|c| c.sealing = Sealing::None),
    ];
    for wrong in [
        sizes(62, 256, 1024),
        sizes(64, 254, 1024),
        sizes(64, 256, 1022),
        sizes(2 << 20, 3 << 20, 4 << 20),
        sizes(64, 5 << 20, 6 << 20),
        sizes(64, 256, (16 << 20) + 2),
        sizes(65, 256, 1024),
        sizes(64, 257, 1024),
        sizes(64, 256, 1025),
        sizes(512, 256, 1024),
        sizes(256, 256, 1024),
        sizes(64, 2048, 1024),
        sizes(0, 0, 0),
    ] {
        bad.push(Box::new(move |c| c.chunker.files = wrong));
        bad.push(Box::new(move |c| c.chunker.streams = wrong));
    }
    for change in bad {
        let mut config = sealed();
        change(&mut config);
        assert!(config.check().is_err(), "{config:?}");
        let result = read(&whole(&line_of(&config)));
        assert!(matches!(result, Err(ConfigError::Damaged(_))), "{config:?}: {result:?}");
    }
    let mut widest = sealed();
    widest.chunker.files = sizes(64, 256, 16 << 20);
    widest.chunker.streams = sizes(1 << 20, 4 << 20, 16 << 20);
    (widest.pack_size, widest.block_size, widest.page_block_size) = (1 << 20, 64 << 10, 64 << 10);
    assert_eq!(read(&widest.encode(&keys())), Ok(widest));
}

#[test]
#[should_panic(expected = "inline-size is 5000")]
fn an_invalid_config_is_never_written() {
    let mut config = sealed();
    config.inline_size = 5000;
    config.encode(&keys());
}

#[test]
fn neither_debug_output_nor_errors_hold_the_key() {
    let config = plaintext();
    let unverified = Config::decode(&config.encode(&keys())).unwrap();
    for shown in [format!("{config:?}"), format!("{unverified:?}")] {
        assert!(shown.contains("MasterKey(..)"), "{shown}");
        assert!(!shown.contains("4242") && !shown.contains("66, 66"), "{shown}");
    }
    let short = line_of(&config).replace("4242\"}", "42\"}");
    let error = format!("{:?}", read(&whole(&short)).unwrap_err());
    assert!(error.contains("expected 32 bytes") && !error.contains("4242"), "{error}");
}

proptest! {
    #[test]
    fn decode_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(read(&bytes).is_err());
        let _ = read(&text::with_hash_line(&bytes));
    }

    #[test]
    fn what_decodes_is_valid(at in 0_usize..9, number in any::<u32>()) {
        // Puts a random number in the place of one of the config's own.
        let numbers = [":32768", ":65536", ":262144}", ":2048", ":4096", ":8,", ":6}", ":67108864", ":64,"];
        let end = numbers[at].chars().last().filter(|c| !c.is_ascii_digit());
        let new = format!(":{number}{}", end.map_or(String::new(), String::from));
        let line = line_of(&sealed()).replace(numbers[at], &new);
        match read(&whole(&line)) {
            Ok(config) => prop_assert_eq!(config.check(), Ok(())),
            Err(error) => prop_assert!(matches!(error, ConfigError::Damaged(_))),
        }
    }
}
