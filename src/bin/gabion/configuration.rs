//! Where the configuration of jobs lies, and which jobs of it are meant.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use gabion::job::config::{Configuration, Job};

use crate::errors::{Exit, Failure};
use crate::machine;
use crate::session::Session;

/// The configuration; it must be there.
pub(crate) fn read(session: &Session) -> Result<Configuration, Failure> {
    find(session)?.ok_or_else(|| {
        let places: Vec<String> =
            machine::configuration_files().iter().map(|path| path.display().to_string()).collect();
        Failure::usage("there is no configuration of jobs")
            .hint(format!("write one to {}, or name it with --config", places.join(" or ")))
    })
}

/// The configuration that was named, or the first that is found.
pub(crate) fn find(session: &Session) -> Result<Option<Configuration>, Failure> {
    if let Some(named) = session.configuration_file() {
        return parse(named).map(Some);
    }
    let found = machine::configuration_files().into_iter().find(|path| path.exists());
    found.map(|path| parse(&path)).transpose()
}

fn parse(path: &Path) -> Result<Configuration, Failure> {
    let failed = |error| {
        let what = format!("cannot read the configuration {}", path.display());
        Failure::io(what, &error).with_exit(Exit::Usage)
    };
    let path: PathBuf = std::path::absolute(path).map_err(failed)?;
    // Whoever can change it can have commands run.
    if path.metadata().map_err(failed)?.mode() & 0o002 != 0 {
        let message = format!("everybody can change the configuration {}", path.display());
        return Err(Failure::usage(message).hint("`chmod o-w` it, and look what it says"));
    }
    let text = std::fs::read_to_string(&path).map_err(failed)?;
    Ok(Configuration::parse(&text, &path, machine::home().as_deref())?)
}

/// The jobs of these names, or all where there is no name.
pub(crate) fn jobs<'a>(
    configuration: &'a Configuration,
    names: &[String],
) -> Result<Vec<&'a Job>, Failure> {
    match names {
        [] => Ok(configuration.jobs.values().collect()),
        names => names.iter().map(|name| job(configuration, name)).collect(),
    }
}

/// The job of that name.
pub(crate) fn job<'a>(configuration: &'a Configuration, name: &str) -> Result<&'a Job, Failure> {
    configuration.jobs.get(name).ok_or_else(|| {
        let known: Vec<&str> = configuration.jobs.keys().map(String::as_str).collect();
        let hint = match known.is_empty() {
            true => "it has no job at all".to_owned(),
            false => format!("it has {}", known.join(", ")),
        };
        let file = configuration.file().display();
        Failure::usage(format!("no job {name:?} in {file}")).hint(hint)
    })
}
