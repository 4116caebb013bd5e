//! What can be told about a dump from its first and last bytes: whether it came to its end, and
//! whether it was compressed already.

/// Bytes of the beginning that are looked at.
pub(super) const HEAD_LEN: usize = 4096;
/// Bytes of the end that are kept. `pg_dump` writes a line or two behind its end mark.
pub(super) const TAIL_LEN: usize = 4096;

/// A text format that ends with a mark.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DumpFormat {
    /// The program that writes it.
    pub(super) name: &'static str,
    /// What its first lines hold.
    head: &'static [u8],
    /// What its last lines hold when it is complete.
    mark: &'static [u8],
}

const FORMATS: [DumpFormat; 5] = [
    DumpFormat {
        name: "pg_dumpall",
        head: b"-- PostgreSQL database cluster dump\n",
        mark: b"-- PostgreSQL database cluster dump complete\n",
    },
    DumpFormat {
        name: "pg_dump",
        head: b"-- PostgreSQL database dump\n",
        mark: b"-- PostgreSQL database dump complete\n",
    },
    DumpFormat { name: "mariadb-dump", head: b"-- MariaDB dump", mark: b"\n-- Dump completed" },
    DumpFormat { name: "mysqldump", head: b"-- MySQL dump", mark: b"\n-- Dump completed" },
    DumpFormat {
        name: "sqlite3 .dump",
        head: b"PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n",
        mark: b"COMMIT;\n",
    },
];

impl DumpFormat {
    /// The format that begins with `head`, if it is a known one.
    pub(super) fn of(head: &[u8]) -> Option<&'static Self> {
        let sqlite = &FORMATS[4];
        FORMATS[..4]
            .iter()
            .find(|format| contains(head, format.head))
            .or_else(|| head.starts_with(sqlite.head).then_some(sqlite))
    }

    /// Whether a dump that ends with `tail` is complete.
    pub(super) fn is_complete(&self, tail: &[u8]) -> bool {
        if self.name == FORMATS[4].name {
            // Anything behind it would be an error that sqlite3 wrote in the place of COMMIT.
            return tail.ends_with(self.mark);
        }
        contains(tail, self.mark)
    }

    /// The mark, for people.
    pub(super) fn mark(&self) -> String {
        String::from_utf8_lossy(self.mark).trim().to_owned()
    }
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// What the input was compressed with, and what to do instead: compressed bytes share nothing from
/// one day to the next, and gabion compresses better itself.
pub(super) fn compressed_hint(head: &[u8]) -> Option<&'static str> {
    let table: [(&[u8], &str); 7] = [
        (
            b"PGDMP",
            "it is a compressed pg_dump archive; plain text (pg_dump without -Fc, or with \
             -Z0 -Fp) lets gabion share what did not change since yesterday",
        ),
        (b"\x1f\x8b", "it is compressed with gzip; leave the compression to gabion"),
        (b"\x28\xb5\x2f\xfd", "it is compressed with zstd; leave the compression to gabion"),
        (b"\xfd7zXZ\0", "it is compressed with xz; leave the compression to gabion"),
        (b"BZh", "it is compressed with bzip2; leave the compression to gabion"),
        (b"\x04\x22\x4d\x18", "it is compressed with lz4; leave the compression to gabion"),
        (b"PK\x03\x04", "it is a zip archive; leave the compression to gabion"),
    ];
    table.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, hint)| *hint)
}

/// Remembers the first and last bytes of a stream.
#[derive(Debug, Default)]
pub(super) struct Ends {
    pub(super) head: Vec<u8>,
    pub(super) tail: Vec<u8>,
    pub(super) len: u64,
}

impl Ends {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let wanted = HEAD_LEN.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..wanted]);
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL_LEN)..]);
        let excess = self.tail.len().saturating_sub(TAIL_LEN);
        self.tail.drain(..excess);
        self.len += bytes.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(text: &str) -> Option<(&'static str, bool)> {
        let mut ends = Ends::default();
        text.as_bytes().chunks(7).for_each(|piece| ends.push(piece));
        let format = DumpFormat::of(&ends.head)?;
        Some((format.name, format.is_complete(&ends.tail)))
    }

    #[test]
    fn complete_and_cut_dumps_are_told_apart() {
        let body = "INSERT INTO t VALUES (1);\n".repeat(1000);
        for (name, head, mark) in [
            (
                "pg_dump",
                "--\n-- PostgreSQL database dump\n--\n\n\\restrict abc\n",
                "--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict abc\n\n",
            ),
            (
                "pg_dumpall",
                "--\n-- PostgreSQL database cluster dump\n--\n",
                "--\n-- PostgreSQL database cluster dump complete\n--\n",
            ),
            (
                "mariadb-dump",
                "/*M!999999\\- enable the sandbox mode */ \n-- MariaDB dump 10.19\n",
                "\n-- Dump completed on 2026-11-22  3:00:00\n",
            ),
            ("mysqldump", "-- MySQL dump 10.13\n", "\n-- Dump completed\n"),
            ("sqlite3 .dump", "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n", "COMMIT;\n"),
        ] {
            assert_eq!(verdict(&format!("{head}{body}{mark}")), Some((name, true)));
            assert_eq!(verdict(&format!("{head}{body}")), Some((name, false)));
        }
        assert_eq!(verdict("just some text"), None);
        let failed = "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nROLLBACK; -- due to errors\n";
        assert_eq!(verdict(failed), Some(("sqlite3 .dump", false)));
    }

    #[test]
    fn a_cluster_dump_needs_its_own_mark() {
        let text = "-- PostgreSQL database cluster dump\n-- PostgreSQL database dump\n\
                    -- PostgreSQL database dump complete\n";
        assert_eq!(verdict(text), Some(("pg_dumpall", false)));
    }

    #[test]
    fn compressed_input_is_recognised() {
        assert!(compressed_hint(b"PGDMP\x01").unwrap().contains("-Fc"));
        assert!(compressed_hint(b"\x1f\x8b\x08").unwrap().contains("gzip"));
        assert_eq!(compressed_hint(b"-- PostgreSQL"), None);
    }
}
