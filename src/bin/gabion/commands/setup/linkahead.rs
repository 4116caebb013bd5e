//! A server of LinkAhead: its files, its configuration and its database by one answer.

use std::path::{Path, PathBuf};

use gabion::job::setup::{FoundLinkahead, linkahead};

use super::checks;
use super::dialogue::Dialogue;
use super::machine_files::{Found, text};
use crate::errors::Failure;

/// The server whose `server.conf` was named, or is found and wanted.
pub(super) fn ask(
    given: Option<&Path>,
    dialogue: &Dialogue,
    found: &Found,
) -> Result<Option<FoundLinkahead>, Failure> {
    let proposed = found.linkahead().map(|found| found.file.display().to_string());
    if given.is_none() && (proposed.is_none() || !dialogue.asks()) {
        return Ok(None);
    }
    let given = given.map(|file| file.display().to_string());
    let question = "LinkAhead's server.conf (- for none)";
    dialogue.checked("--linkahead", given, question, proposed, |answer| {
        if answer == "-" { Ok(None) } else { read(Path::new(answer)).map(Some) }
    })
}

fn read(file: &Path) -> Result<FoundLinkahead, Failure> {
    let file = checks::source(file)?;
    let shown = file.display();
    let text = text(&file).ok_or_else(|| Failure::usage(format!("cannot read {shown}")))?;
    let found = linkahead(&text, &file);
    if found.files.is_none() {
        let message = format!("{shown} does not tell where FILE_SYSTEM_ROOT is");
        return Err(Failure::usage(message)
            .hint("name the folder with --path and the database with --mariadb"));
    }
    Ok(found)
}

/// What of it is taken: its files, and the folder of its configuration.
pub(super) fn paths(server: &FoundLinkahead) -> Result<Vec<PathBuf>, Failure> {
    let conf = server.file.parent().map(Path::to_owned);
    let all = server.files.clone().into_iter().chain(conf);
    all.map(|path| checks::source(&path)).collect()
}
