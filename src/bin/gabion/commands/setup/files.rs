//! What a set-up writes: the passphrase, the repository, the configuration, in this order.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use gabion::crypto::passphrase::KdfCosts;
use gabion::id::{RepositoryId, fill_random};
use gabion::job::output_file::{create_private, replace_with_mode};
use gabion::repo::{InitOptions, Unlock};

use super::Plan;
use crate::errors::Failure;
use crate::key_sources::KeySource;
use crate::machine;
use crate::session::Session;

/// Makes what is not there yet, and returns the repository's own id.
pub(super) fn make(
    session: &mut Session,
    plan: &Plan,
    text: &str,
) -> Result<RepositoryId, Failure> {
    if let Some(folder) = plan.file.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| Failure::io(format!("cannot make {}", folder.display()), &error))?;
    }
    if let Some(path) = &plan.new_password_file {
        password_file(path)?;
    }
    let made = repository(session, plan).inspect_err(|_| {
        if let Some(path) = &plan.new_password_file {
            #[expect(clippy::disallowed_methods, reason = "it opens nothing")]
            let _ = std::fs::remove_file(path);
        }
    })?;
    replace_with_mode(&plan.file, text.as_bytes(), 0o600)
        .map_err(|error| Failure::io(format!("cannot write {}", plan.file.display()), &error))?;
    session.use_configuration_file(&plan.file);
    Ok(made)
}

/// The repository: opened with the key that was named, or made for it.
fn repository(session: &mut Session, plan: &Plan) -> Result<RepositoryId, Failure> {
    let place = gabion::job::config::RepositoryPlace {
        url: plan.answers.repository.clone(),
        ssh_command: plan.answers.ssh_command.clone(),
        key: plan.answers.key.clone(),
    };
    session.use_configured(&place)?;
    if plan.place.exists {
        return Ok(session.open()?.repository.config().repository_id);
    }
    let unlock = match &plan.answers.key {
        None => Unlock::Nothing,
        Some(key) => KeySource::configured(key).get(&session.console)?,
    };
    let options = InitOptions {
        unlock,
        costs: KdfCosts::default(),
        label: "first".to_owned(),
        now: machine::now_text(),
        parity_per_mille: None,
        delta: false,
    };
    let made = crate::commands::init::make(&place.url, &session.ssh(), &options)?;
    session.remember_made(made, plan.answers.key.is_some())?;
    Ok(made)
}

/// A file with a random passphrase, durably: without it the repository is lost.
fn password_file(path: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        Failure::io(format!("cannot make the password file {}", path.display()), &error)
    };
    let folder = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    // 160 random bits, as text that can be written down and typed again.
    let mut random = [0; 20];
    fill_random(&mut random);
    let words: Vec<String> = random
        .chunks(4)
        .map(|four| four.iter().map(|byte| format!("{byte:02x}")).collect())
        .collect();
    create_private(path, format!("{}\n", words.join("-")).as_bytes()).map_err(failed)
}
