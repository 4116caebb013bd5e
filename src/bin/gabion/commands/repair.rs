//! `gabion repair`: puts damage right.

use crate::commands::scrub;
use crate::errors::{Exit, Failure};
use crate::session::Session;

/// Put damage right
///
/// Damaged packs are rebuilt with their parity, and damaged parity is made again, in repositories
/// that were made with `gabion init --parity`. That needs no key and works on every machine that
/// holds the folder. A damaged pack is never overwritten: the rebuilt one is compared with what was
/// written and takes its place, and the damaged one is kept in the folder `quarantine`, which may be
/// emptied at any time. Parity that is lost altogether is only made again with the passphrase or key
/// file. On a sound repository nothing is done.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES:
  gabion repair --parity
  gabion repair --parity -r /srv/gabion --json")]
pub(crate) struct Args {
    /// Rebuild packs with their parity
    #[arg(long, required = true)]
    parity: bool,
}

/// Repairs the repository.
pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    scrub::run(session, args.parity)
}
