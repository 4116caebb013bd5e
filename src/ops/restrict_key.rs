//! The key in a plain dump of PostgreSQL.
//!
//! `pg_dump` writes a line `\restrict KEY` before everything that the server has a say in, and
//! `\unrestrict KEY` after it. Between both psql runs no command of its own, as long as the server
//! did not know the key. So `pg_dump` chooses a random one, which makes each dump another one. In
//! the repository the key is replaced by one that follows from the repository's secret: dumps of an
//! unchanged database are the same bytes. When the dump is read again, a new random key takes its
//! place: a key that was used for several dumps is one that a server may have learnt.

use crate::crypto::ChunkKind;
use crate::crypto::keys::Keys;
use crate::format::snapshot::{Snapshot, StreamRecord};

/// How the programs begin their output, up to the key.
const HEADS: [&[u8]; 2] = [
    b"--\n-- PostgreSQL database dump\n--\n\n\\restrict ",
    b"--\n-- PostgreSQL database cluster dump\n--\n\n\\restrict ",
];
/// What comes before the key at the end, and after it.
const UNRESTRICT: &[u8] = b"\n\\unrestrict ";
const TAILS: [&[u8]; 2] =
    [b"\n\n", b"\n\n--\n-- PostgreSQL database cluster dump complete\n--\n\n"];
/// Longest key that is looked for; those of `pg_dump` have 63 letters.
const MAX_KEY: usize = 256;
/// Bytes at the beginning and at the end in which the key must stand.
const WINDOW: usize = 512;
/// What the key in the repository follows from, beside the repository's secret.
const STORED: &[u8] = b"gabion: the key of psql's restricted mode";
const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Whether gabion made this dump with a program that writes the key.
fn has_key(stream: &StreamRecord) -> bool {
    let made = stream.origin.as_ref().is_some_and(|origin| origin.kind == "postgresql");
    made && matches!(stream.format.as_deref(), Some("pg_dump" | "pg_dumpall"))
}

/// A random key of `len` letters.
pub fn random_key(len: usize) -> Vec<u8> {
    let mut key = Vec::with_capacity(len);
    while key.len() < len {
        let mut bytes = [0; 64];
        crate::id::fill_random(&mut bytes);
        // Each letter is as likely as any other.
        let letters = bytes.iter().filter_map(|byte| LETTERS.get(usize::from(byte & 63)));
        key.extend(letters.take(len - key.len()));
    }
    key
}

/// The key of `len` letters that dumps have in the repository with these keys.
fn stored_key(keys: &Keys, len: usize) -> Vec<u8> {
    let hash = keys.chunk_id(ChunkKind::ContentPage, STORED).to_string();
    hash.bytes().cycle().take(len).collect()
}

/// Replaces the key of a dump that passes, by one of the same length: nothing else changes.
#[derive(Debug)]
pub(super) struct KeySwap {
    stored: Option<Vec<u8>>,
    held: Vec<u8>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The beginning has not been read.
    Beginning,
    /// There is no key.
    NoKey,
    /// The key that is replaced, and the one in its place.
    Swapping(Vec<u8>, Vec<u8>),
}

impl KeySwap {
    /// For a dump that goes into the repository with these keys.
    pub(super) fn into_repository(keys: &Keys) -> Self {
        let stored = Some(stored_key(keys, MAX_KEY));
        Self { stored, held: Vec::new(), state: State::Beginning }
    }

    /// For what is read at `path`, if it is a dump with a key.
    pub(super) fn out_of_repository(snapshot: &Snapshot, path: &[u8]) -> Option<Self> {
        let stream = snapshot.streams.iter().find(|stream| stream.name.as_bytes() == path)?;
        has_key(stream).then(|| Self { stored: None, held: Vec::new(), state: State::Beginning })
    }

    /// Takes the next bytes, and returns those that can be passed on.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        if matches!(self.state, State::Beginning) && self.held.len() >= WINDOW {
            self.begin();
        }
        let ready = match self.state {
            State::Beginning => 0,
            State::NoKey => self.held.len(),
            // Never a few bytes alone: the first ones show what format it is.
            State::Swapping(..) if self.held.len() < 2 * WINDOW => 0,
            State::Swapping(..) => self.held.len() - WINDOW,
        };
        let rest = self.held.split_off(ready);
        std::mem::replace(&mut self.held, rest)
    }

    fn begin(&mut self) {
        let Some(range) = key_at_beginning(&self.held) else {
            self.state = State::NoKey;
            return;
        };
        let new = match &self.stored {
            Some(stored) => stored[..range.len()].to_vec(),
            None => random_key(range.len()),
        };
        let old = self.held[range.clone()].to_vec();
        self.held[range].copy_from_slice(&new);
        self.state = State::Swapping(old, new);
    }

    /// Returns the last bytes, and whether the key at the end was the one at the beginning; without
    /// a key that is so.
    pub(super) fn finish(mut self) -> (Vec<u8>, bool) {
        if matches!(self.state, State::Beginning) {
            self.begin();
        }
        let State::Swapping(old, new) = &self.state else { return (self.held, true) };
        let end = TAILS.iter().find_map(|tail| {
            let end = self.held.len().checked_sub(tail.len())?;
            let at = end.checked_sub(old.len())?;
            let before = at.checked_sub(UNRESTRICT.len())?;
            let fits = self.held[end..] == **tail
                && self.held[at..end] == **old
                && self.held[before..at] == *UNRESTRICT;
            fits.then_some(at..end)
        });
        match end {
            Some(range) => {
                self.held[range].copy_from_slice(new);
                (self.held, true)
            }
            None => (self.held, false),
        }
    }
}

/// Where the key stands in the first bytes of a dump.
fn key_at_beginning(bytes: &[u8]) -> Option<std::ops::Range<usize>> {
    let from = HEADS.iter().find(|head| bytes.starts_with(head))?.len();
    let len = bytes[from..].iter().position(|byte| !byte.is_ascii_alphanumeric())?;
    let fits = (1..=MAX_KEY).contains(&len) && bytes[from + len] == b'\n';
    fits.then_some(from..from + len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::keys::MasterKey;

    fn swapped(swap: impl Fn() -> KeySwap, text: &[u8], step: usize) -> (Vec<u8>, bool) {
        let mut swap = swap();
        let mut out = Vec::new();
        text.chunks(step).for_each(|piece| out.extend(swap.push(piece)));
        let (rest, right) = swap.finish();
        out.extend(rest);
        (out, right)
    }

    fn dump(key: &str, body: &str) -> String {
        format!(
            "--\n-- PostgreSQL database dump\n--\n\n\\restrict {key}\n\n{body}\n--\n\
             -- PostgreSQL database dump complete\n--\n\n\\unrestrict {key}\n\n"
        )
    }

    #[test]
    fn only_the_first_and_the_last_line_are_changed() {
        let keys = Keys::derive(&MasterKey::random());
        let store = || KeySwap::into_repository(&keys);
        let give = || KeySwap { stored: None, held: Vec::new(), state: State::Beginning };
        let (first, second) = ("a".repeat(63), "b".repeat(63));
        for body in ["", "\\restrict x\n\\unrestrict x\n", &"SELECT 1;\n".repeat(500)] {
            for step in [1, 7, 100, 1 << 20] {
                let (one, right) = swapped(store, dump(&first, body).as_bytes(), step);
                let (two, _) = swapped(store, dump(&second, body).as_bytes(), 33);
                assert!(right && one == two, "dumps are the same bytes");
                let (given, right) = swapped(give, &one, step);
                let given = String::from_utf8(given).unwrap();
                let key = &given[given.find("\\restrict ").unwrap() + 10..][..63];
                assert!(right && given == dump(key, body), "{given}");
                assert!(one != given.as_bytes() && key != first, "another key");
                assert_ne!(swapped(give, &one, step).0, given.as_bytes(), "another key each time");
            }
        }
        let cluster = "--\n-- PostgreSQL database cluster dump\n--\n\n\\restrict K\n\nx\n\n\
                       \\unrestrict K\n\n--\n-- PostgreSQL database cluster dump complete\n--\n\n";
        let (out, right) = swapped(store, cluster.as_bytes(), 9);
        assert!(right && out.len() == cluster.len() && !out.windows(3).any(|w| w == b" K\n"));
    }

    #[test]
    fn what_has_no_key_stays_as_it_is_and_a_key_without_its_end_is_found() {
        let keys = Keys::derive(&MasterKey::random());
        let store = || KeySwap::into_repository(&keys);
        for text in [
            "",
            "x",
            "--\n-- PostgreSQL database dump\n--\n\nSELECT 1;\n",
            "\n--\n-- PostgreSQL database dump\n--\n\n\\restrict abc\n\n\\unrestrict abc\n\n",
        ] {
            assert_eq!(swapped(store, text.as_bytes(), 5), (text.into(), true));
        }
        for cut in ["\\unrestrict other\n\n", "\\unrestrict K\n\n\n", "\\unrestrict K\n"] {
            let text = format!(
                "--\n-- PostgreSQL database dump\n--\n\n\\restrict K\n\nSELECT 1;\n\n{cut}"
            );
            assert!(!swapped(store, text.as_bytes(), 5).1, "{cut}");
        }
    }

    #[test]
    fn random_keys_are_letters_and_differ() {
        let key = random_key(63);
        assert!(key.len() == 63 && key.iter().all(u8::is_ascii_alphanumeric));
        assert_ne!(key, random_key(63));
    }
}
