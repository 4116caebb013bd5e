//! What a set-up says when all is made.

use gabion::id::RepositoryId;
use gabion::job::config::{Configuration, KeyPlace};
use serde::Serialize;

use super::Plan;
use crate::commands::cron;
use crate::errors::Failure;
use crate::output::{Output, one_json};
use crate::render::values::short;
use crate::session::Session;

/// What was done.
pub(super) struct Done<'a> {
    pub(super) plan: &'a Plan,
    pub(super) configuration: &'a Configuration,
    /// What the databases' servers call themselves.
    pub(super) servers: Vec<String>,
    pub(super) id: RepositoryId,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Json<'a> {
    configuration: &'a std::path::Path,
    job: &'a str,
    repository: String,
    place: String,
    new: bool,
    servers: &'a [String],
    crontab: Option<String>,
}

impl Done<'_> {
    /// Says it.
    pub(super) fn report(&self, session: &Session) -> Result<(), Failure> {
        let job = &self.configuration.jobs[&self.plan.answers.job];
        // A program that cron could not start is worth a hint, but everything else is done.
        let crontab = cron::lines(self.configuration, &[job], cron::Form::Crontab);
        if session.json() {
            return one_json(&Json {
                configuration: &self.plan.file,
                job: &job.name,
                repository: self.id.to_string(),
                place: self.plan.place.at.to_string(),
                new: !self.plan.place.exists,
                servers: &self.servers,
                crontab: crontab.ok(),
            });
        }
        if session.quiet() {
            return Ok(());
        }
        let mut output = Output::new();
        let (place, id) = (&self.plan.place.at, short(self.id));
        for server in &self.servers {
            output.line(format!("answers: {server}"))?;
        }
        let how = if self.plan.place.exists { "found" } else { "made" };
        output.line(format!("{how} repository {id} at {place}"))?;
        output.line(format!("wrote {}", self.plan.file.display()))?;
        self.warn(&mut output)?;
        match crontab {
            Ok(lines) => {
                output.line("\nFor cron, put this line into `crontab -e`:\n")?;
                output.line(lines.trim_end())?;
                let units = cron::lines(self.configuration, &[job], cron::Form::Systemd)?;
                output.line("\nOr for systemd, put these into two files, and run `systemctl enable --now`:\n")?;
                output.line(units.trim_end())?;
            }
            Err(failure) => drop(failure.report()),
        }
        output.finish()?;
        Ok(())
    }

    /// What must not be forgotten.
    fn warn(&self, output: &mut Output) -> Result<(), Failure> {
        let (Some(path), Some(KeyPlace::PasswordFile(_))) =
            (&self.plan.new_password_file, &self.plan.answers.key)
        else {
            return Ok(());
        };
        let path = path.display();
        output.line(format!("made a random passphrase in {path}"))?;
        output.line("")?;
        output.line("!! KEEP A COPY OF THIS FILE ON ANOTHER MACHINE, AND ONE ON PAPER.")?;
        output.line(
            "!! Without it nothing in the repository can ever be read again. The repository",
        )?;
        output.line("!! itself does not hold it in a form that anybody could use.")?;
        Ok(())
    }
}
