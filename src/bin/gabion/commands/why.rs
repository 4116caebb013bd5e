//! `gabion why`: which rule of a job takes a path in or leaves it out.

use std::path::PathBuf;

use gabion::job::aiida::expand;
use gabion::job::config::StreamConfig;
use gabion::job::run::excludes;
use gabion::source::why::{Reason, why};

use crate::errors::{Exit, Failure};
use crate::output::one_line;
use crate::session::Session;
use crate::{configuration, sources};

/// Say which rule of a job takes a path in or leaves it out
///
/// Ends with 0 when the path is taken, with 1 when it is not.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES:
  gabion why /home/me/notes.tmp --job home")]
pub(crate) struct Args {
    /// The file or folder
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// The job
    #[arg(long, value_name = "JOB")]
    job: String,
}

/// Says it.
pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    let configuration = configuration::read(session)?;
    let job = configuration::job(&configuration, &args.job)?;
    let job = &*expand(job)?;
    let path = sources::absolute(&args.path)?;
    let shown = path.display();
    let excludes = excludes(job, Vec::new())?;
    let reason =
        why(&job.paths, &excludes, &path).map_err(|error| Failure::of(Exit::Failed, &error))?;
    let live = job.streams.iter().find_map(|stream| match stream {
        StreamConfig::Sqlite(database) if database.path == path => Some(&database.stream),
        _ => None,
    });
    let (exit, line) = match (reason, live) {
        (_, Some(stream)) => {
            (Exit::Done, format!("{shown} is taken as the stream {stream}, not as a file"))
        }
        (Reason::Outside, _) => {
            (Exit::Failed, format!("{shown} is not taken: it lies in none of the job's paths"))
        }
        (Reason::Included { root, rule: Some(rule) }, _) => {
            (Exit::Done, format!("{shown} is taken: it lies in {}, and {rule}", root.display()))
        }
        (Reason::Included { root, rule: None }, _) => {
            let root = root.display();
            (Exit::Done, format!("{shown} is taken: it lies in {root}, and no rule speaks of it"))
        }
        (Reason::Excluded { at, rule }, _) if at == path => {
            (Exit::Failed, format!("{shown} is left out by {rule}"))
        }
        (Reason::Excluded { at, rule }, _) => {
            (Exit::Failed, format!("{shown} is left out with {} by {rule}", at.display()))
        }
    };
    one_line(line)?;
    Ok(exit)
}
