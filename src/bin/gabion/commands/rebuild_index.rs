//! `gabion rebuild-index`: makes the index anew.

use serde::Serialize;

use crate::errors::{Exit, Failure};
use crate::output::{one_json, one_line};
use crate::render::values::counted;
use crate::session::Session;

/// Make this machine's index anew from what the repository holds
///
/// Never needed: an index that cannot be used is made anew by itself. Nothing in the repository is
/// changed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES:
  gabion rebuild-index")]
pub(crate) struct Args {}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Rebuilt {
    packs: u64,
}

/// Makes the index anew.
pub(crate) fn run(session: &Session, _args: &Args) -> Result<Exit, Failure> {
    let opened = session.open()?;
    opened.repository.rebuild_index()?;
    let packs = u64::try_from(opened.repository.index().packs().count()).unwrap_or(u64::MAX);
    session.console.finish();
    if session.json() {
        one_json(&Rebuilt { packs })?;
    } else if !session.quiet() {
        one_line(format!("made the index of {} anew", counted(packs, "pack", "packs")))?;
    }
    Ok(Exit::Done)
}
