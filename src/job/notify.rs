//! What is told about runs and drills, and telling it over HTTP.
//!
//! Telling somebody never changes how a run ended: what goes wrong with it is told in turn.

mod http;

use serde::Serialize;

pub use http::{Agent, ping};

use super::config::When;
use super::state::{DrillRecord, Outcome, Past, RunRecord};

/// Why somebody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Occasion {
    /// Something failed.
    Failure,
    /// The first success after that.
    Recovery,
    /// All is as it was: well.
    Success,
    /// A week has passed.
    Weekly,
}

impl Occasion {
    /// What a success or failure is after what was there before; nothing counts as a success.
    pub fn of(ok: bool, before: Option<bool>) -> Self {
        match (ok, before) {
            (false, _) => Self::Failure,
            (true, Some(false)) => Self::Recovery,
            (true, _) => Self::Success,
        }
    }

    /// Whether it is one of those.
    pub fn is_in(self, when: &When) -> bool {
        match self {
            Self::Failure => when.failure,
            Self::Recovery => when.recovery,
            Self::Success => when.success,
            Self::Weekly => when.weekly,
        }
    }
}

/// What is told, in every form.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Notice {
    /// Why.
    pub occasion: Occasion,
    /// The machine.
    pub host: String,
    /// The job.
    pub job: String,
    /// One line.
    pub subject: String,
    /// Some lines.
    pub text: String,
    /// The run, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<RunRecord>,
    /// The drill, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drill: Option<DrillRecord>,
}

impl Notice {
    /// About a run. `last_success` is for people.
    pub fn of_run(
        host: &str,
        job: &str,
        run: &RunRecord,
        occasion: Occasion,
        last_success: &str,
    ) -> Self {
        let word = match (run.outcome, occasion) {
            (_, Occasion::Recovery) => "ok again",
            (Outcome::Ok, _) => "ok",
            (Outcome::Incomplete, _) => "INCOMPLETE",
            (Outcome::Failed, _) => "FAILED",
        };
        let text = format!(
            "{}\n\nexit code: {}\nproblems: {}\nlast success: {last_success}",
            run.in_lines(),
            run.exit_code,
            run.problems
        );
        let subject = format!("gabion on {host}: {job} {word}");
        let (host, job) = (host.to_owned(), job.to_owned());
        Self { occasion, host, job, subject, text, run: Some(run.clone()), drill: None }
    }

    /// About a drill.
    pub fn of_drill(host: &str, job: &str, drill: &DrillRecord, occasion: Occasion) -> Self {
        let word = match occasion {
            Occasion::Recovery => "ok again",
            _ if drill.ok => "ok",
            _ => "FAILED",
        };
        let snapshot = drill.snapshot.as_deref().unwrap_or("none");
        let mut text = format!("snapshot: {snapshot}\n");
        for problem in &drill.problems {
            text.push_str(&format!("problem: {problem}\n"));
        }
        let subject = format!("gabion on {host}: drill of {job} {word}");
        let (host, job) = (host.to_owned(), job.to_owned());
        Self { occasion, host, job, subject, text, run: None, drill: Some(drill.clone()) }
    }

    /// About what happened from `since` until `until`. `size` writes bytes for people.
    pub fn of_week(
        host: &str,
        job: &str,
        past: &[Past],
        (since, until): (i64, i64),
        size: &dyn Fn(u64) -> String,
    ) -> Self {
        let (mut ok, mut incomplete, mut failed, mut added) = (0, 0, 0, 0);
        let mut lines = Vec::new();
        let mut last: Option<&RunRecord> = None;
        for item in past.iter().filter(|item| (since..=until).contains(&item.ended())) {
            match item {
                Past::Run(run) => {
                    match run.outcome {
                        Outcome::Ok => ok += 1,
                        Outcome::Incomplete => incomplete += 1,
                        Outcome::Failed => failed += 1,
                    }
                    added += run.added_bytes;
                    if run.outcome == Outcome::Ok {
                        last = Some(run);
                    } else {
                        lines.push(format!("run: {}", run.in_one_line()));
                    }
                }
                Past::Drill(drill) => lines.push(format!("drill: {}", drill.message)),
            }
        }
        let mut text = format!("runs: {ok} ok, {incomplete} incomplete, {failed} failed\n");
        if let Some(run) = last {
            text.push_str(&format!("last success: {}\n", run.message));
        }
        text.push_str(&format!("added to the repository: {}\n", size(added)));
        lines.iter().for_each(|line| text.push_str(&format!("{line}\n")));
        let word = match failed + incomplete {
            0 => format!("{ok} runs, all ok"),
            bad => format!("{bad} of {} runs NOT ok", ok + bad),
        };
        let subject = format!("gabion on {host}: {job}, the week: {word}");
        let (host, job) = (host.to_owned(), job.to_owned());
        Self { occasion: Occasion::Weekly, host, job, subject, text, run: None, drill: None }
    }
}
