//! `gabion version`: which program this is and which repositories it can use.

use gabion::format::config;
use serde::Serialize;

use crate::errors::{Exit, Failure};
use crate::output::{one_json, one_line};
use crate::session::Session;

/// Show the version of the program and of the repository format
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES:
  gabion version
  gabion version --json")]
pub(crate) struct Args {}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Version {
    program: &'static str,
    version: &'static str,
    repository_format: u32,
}

/// Prints the version.
pub(crate) fn run(session: &Session, _args: &Args) -> Result<Exit, Failure> {
    let version = Version {
        program: "gabion",
        version: env!("CARGO_PKG_VERSION"),
        repository_format: config::FORMAT_VERSION,
    };
    if session.json() {
        one_json(&version)?;
    } else {
        let Version { program, version, repository_format } = version;
        one_line(format!("{program} {version}, repository format {repository_format}"))?;
    }
    Ok(Exit::Done)
}
