//! `gabion pin` and `gabion unpin`: which snapshots no policy may forget.

use gabion::ops::amend::Amendment;

use super::tag::change;
use crate::errors::{Exit, Failure};
use crate::session::Session;

/// Keep snapshots whatever a policy says
///
/// A pinned snapshot is not forgotten before it is unpinned, and takes no other's place in a
/// policy. It gets a new id by this; its old ones go on naming it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES:
  gabion pin latest
  gabion pin 1a2b3c4d 5e6f7a8b")]
pub(crate) struct PinArgs {
    /// The snapshots
    #[arg(value_name = "SNAP", required = true)]
    pub(crate) snapshots: Vec<String>,
}

/// Let policies judge pinned snapshots again
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES:
  gabion unpin 1a2b3c4d")]
pub(crate) struct UnpinArgs {
    /// The snapshots
    #[arg(value_name = "SNAP", required = true)]
    pub(crate) snapshots: Vec<String>,
}

/// Pins or unpins the snapshots.
pub(crate) fn run(session: &Session, snapshots: &[String], pin: bool) -> Result<Exit, Failure> {
    let amendment = Amendment { pinned: Some(pin), ..Amendment::default() };
    let state = if pin { "is pinned" } else { "is not pinned" };
    change(session, snapshots, &amendment, |_| state.to_owned())
}
