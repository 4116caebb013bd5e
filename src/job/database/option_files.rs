//! The option files of MariaDB's and MySQL's dump program: they may say where the server is, and
//! must not say what is dumped.

use std::sync::atomic::AtomicBool;

use super::tool::{ask, failure};
use crate::ops::OpError;
use crate::ops::program::Program;

/// Options that change nothing of what a dump holds, or that gabion sets itself.
const HARMLESS: [&str; 46] = [
    "add-locks",
    "bind-address",
    "character-sets-dir",
    "column-statistics",
    "comments",
    "compress",
    "connect-timeout",
    "create-options",
    "default-auth",
    "default-character-set",
    "disable-keys",
    "dump-date",
    "dump-history",
    "enable-cleartext-plugin",
    "events",
    "extended-insert",
    "get-server-public-key",
    "hex-blob",
    "host",
    "lock-tables",
    "max-allowed-packet",
    "net-buffer-length",
    "order-by-primary",
    "password",
    "pipe",
    "plugin-dir",
    "port",
    "protocol",
    "quick",
    "quote-names",
    "routines",
    "secure-auth",
    "server-public-key-path",
    "set-charset",
    "set-gtid-purged",
    "single-transaction",
    "socket",
    "tablespaces",
    "tls-version",
    "triggers",
    "tz-utc",
    "user",
    "verbose",
    "shared-memory-base-name",
    "zstd-compression-level",
    "compression-algorithms",
];

/// Refuses option files that change what `dump`, which has its options for the connection, would
/// write: a dump without rows is complete by its own account.
pub(super) fn check(stream: &str, dump: &Program, interrupted: &AtomicBool) -> Result<(), OpError> {
    let mut asked = dump.clone();
    // The option that names the file counts only as the very first.
    let has_file = asked
        .args
        .first()
        .is_some_and(|first| first.to_string_lossy().starts_with("--defaults-file="));
    asked.args.truncate(usize::from(has_file));
    let answer = ask(stream, &asked.arg("--print-defaults"), interrupted)?;
    match foreign(&String::from_utf8_lossy(&answer)) {
        None => Ok(()),
        Some(option) => Err(failure(
            stream,
            format!(
                "an option file sets {option:?} for the dump program, which changes what is \
                 dumped: take it out of [mysqldump] and [mariadb-dump], or name a file with the \
                 connection alone as `defaults-file`"
            ),
        )),
    }
}

/// The first option that is not harmless. Values are never shown: one may be a password.
fn foreign(printed: &str) -> Option<String> {
    let options = printed.lines().skip(1).flat_map(str::split_ascii_whitespace);
    let names = options.filter_map(|word| {
        let name = word.strip_prefix("--")?.split('=').next()?.replace('_', "-");
        let name = name.strip_prefix("loose-").unwrap_or(&name);
        let bare = ["skip-", "disable-", "enable-"].iter().find_map(|with| name.strip_prefix(with));
        let known = |name: &str| HARMLESS.contains(&name) || name.starts_with("ssl");
        let harmless = name.is_empty() || known(name) || bare.is_some_and(known);
        (!harmless).then(|| name.to_owned())
    });
    names.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_a_dump_is_found_however_it_is_written() {
        let found =
            |options: &str| foreign(&format!("x would have been started with:\n{options} "));
        for fine in [
            "",
            "--socket=/run/s --quick --quote-names --max_allowed_packet=16M",
            "--user=u --password=a -b --skip-ssl --ssl-ca=/x --loose-skip-column_statistics",
        ] {
            assert_eq!(found(fine), None, "{fine}");
        }
        for (bad, name) in [
            ("--user=u --ignore-table=a.b", "ignore-table"),
            ("--ignore_table=a.b", "ignore-table"),
            ("--no-data", "no-data"),
            ("--loose-where=id < 0", "where"),
            ("--where=1", "where"),
            ("--skip-opt", "skip-opt"),
            ("--compatible=ansi", "compatible"),
            ("--force", "force"),
            ("--no-create-info", "no-create-info"),
            ("--result-file=x", "result-file"),
        ] {
            assert_eq!(found(bad).as_deref(), Some(name), "{bad}");
        }
    }
}
