//! Texts that check themselves: hexadecimal, and a line of JSON followed by its BLAKE3 hash.
//!
//! The hash is not keyed. It finds damage before any key is at hand, so that a flipped bit is
//! never taken for a wrong passphrase; it proves nothing about who wrote the text.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::format::DecodeError;

/// Longest text that is looked at, in bytes.
pub(crate) const TEXT_CAP: usize = 64 * 1024;

/// Longest free text (a label, a name) inside such a text, in bytes.
pub(crate) const NAME_CAP: usize = 256;

/// Lower-case hexadecimal form.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |four: u8| char::from(DIGITS[usize::from(four)]);
    bytes.iter().flat_map(|&byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Reads exactly `N` bytes. Upper case is refused: one value has one form, so that no flipped bit
/// goes unseen.
pub(crate) fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// Byte arrays as hexadecimal text, for `#[serde(with)]`. Its errors do not repeat the text, which
/// may be a secret.
pub(crate) mod hex_bytes {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer, const N: usize>(
        bytes: &[u8; N],
        out: S,
    ) -> Result<S::Ok, S::Error> {
        out.serialize_str(&super::to_hex(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        input: D,
    ) -> Result<[u8; N], D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(input)?;
        super::from_hex(&text)
            .ok_or_else(|| D::Error::custom(format_args!("expected {N} bytes as hexadecimal")))
    }
}

/// One line of JSON without its end.
///
/// # Panics
/// When `value` has no JSON form, which no type of the format allows.
pub(crate) fn json_line(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("types of the format have a JSON form")
}

/// Reads JSON. What goes into the error is shortened and holds no control characters, because the
/// text may come from a hostile repository and the error may reach a terminal.
pub(crate) fn from_json<T: DeserializeOwned>(
    what: &'static str,
    line: &[u8],
) -> Result<T, DecodeError> {
    serde_json::from_slice(line).map_err(|error| {
        let shown = error.to_string();
        let shown = shown.chars().take(200).map(|c| if c.is_control() { '?' } else { c });
        DecodeError::new(what, shown.collect::<String>())
    })
}

/// `line`, its end, and the line with its hash.
pub(crate) fn with_hash_line(line: &[u8]) -> Vec<u8> {
    let mut text = line.to_vec();
    text.extend_from_slice(b"\nblake3 ");
    text.extend_from_slice(blake3::hash(line).to_hex().as_bytes());
    text.push(b'\n');
    text
}

/// Splits a text into its first line, which agrees with its hash line, and what follows those two.
pub(crate) fn split_hash_line<'a>(
    what: &'static str,
    text: &'a [u8],
) -> Result<(&'a [u8], &'a [u8]), DecodeError> {
    if text.len() > TEXT_CAP {
        return Err(DecodeError::new(what, format!("longer than {TEXT_CAP} bytes")));
    }
    let end = text.iter().position(|&byte| byte == b'\n');
    let (line, rest) =
        text.split_at(end.ok_or_else(|| DecodeError::new(what, "its first line does not end"))?);
    let (hash, rest) = take_hex_line(what, "blake3", &rest[1..])?;
    // Whether an unkeyed hash agrees is no secret, but this comparison takes constant time anyway.
    if blake3::hash(line) != hash {
        return Err(DecodeError::new(what, "its hash does not agree"));
    }
    Ok((line, rest))
}

/// Takes the line `<name> <64 hexadecimal digits>` off the front of `text`.
pub(crate) fn take_hex_line<'a>(
    what: &'static str,
    name: &str,
    text: &'a [u8],
) -> Result<([u8; 32], &'a [u8]), DecodeError> {
    let read = || {
        let rest = text.strip_prefix(name.as_bytes())?.strip_prefix(b" ")?;
        let (digits, rest) = rest.split_at_checked(64)?;
        Some((from_hex(std::str::from_utf8(digits).ok()?)?, rest.strip_prefix(b"\n")?))
    };
    read().ok_or_else(|| DecodeError::new(what, format!("its line {name:?} is malformed")))
}

/// Refuses a free text that is too long or could steer a terminal.
pub(crate) fn check_name(what: &'static str, field: &str, text: &str) -> Result<(), DecodeError> {
    if text.len() > NAME_CAP {
        return Err(DecodeError::new(what, format!("{field} is longer than {NAME_CAP} bytes")));
    }
    if text.chars().any(char::is_control) {
        return Err(DecodeError::new(what, format!("{field} holds a control character")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_has_one_form_per_value() {
        assert_eq!(to_hex(&[0, 0x9a, 0xff]), "009aff");
        assert_eq!(from_hex("009aff"), Some([0, 0x9a, 0xff]));
        for bad in ["", "009af", "009afff", "009aFF", "009ag0", "é0aff"] {
            assert_eq!(from_hex::<3>(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_text_is_split_at_its_hash_line() {
        let mut text = with_hash_line(b"{}");
        assert_eq!(split_hash_line("text", &text), Ok((&b"{}"[..], &b""[..])));
        text.extend_from_slice(b"more");
        assert_eq!(split_hash_line("text", &text), Ok((&b"{}"[..], &b"more"[..])));
        for len in 0..text.len() - b"more".len() {
            assert!(split_hash_line("text", &text[..len]).is_err(), "cut to {len} bytes");
        }
        let long = with_hash_line(&vec![b' '; TEXT_CAP]);
        assert!(split_hash_line("text", &long).unwrap_err().reason.contains("longer than"));
    }

    #[test]
    fn names_cannot_steer_a_terminal() {
        assert_eq!(check_name("x", "label", "Zoë's laptop"), Ok(()));
        assert!(check_name("x", "label", "\u{1b}[2J").is_err());
        assert!(check_name("x", "label", &"a".repeat(NAME_CAP + 1)).is_err());
        #[derive(Debug, serde::Deserialize)]
        enum Word {
            Known,
        }
        let error = from_json::<Word>("x", br#""\u001b[2J""#).unwrap_err();
        assert!(!error.reason.chars().any(char::is_control), "{error:?}");
    }
}
