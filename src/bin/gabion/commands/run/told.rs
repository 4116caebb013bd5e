//! What is remembered of a run, said of it, and told.

use gabion::format::entry::Timestamp;
use gabion::job::notify::{Notice, Occasion};
use gabion::job::state::{Begun, CUT_OFF, Outcome, Past, RunRecord, Status};

use super::Run;
use super::take::Taken;
use crate::commands::snapshot::{mention, print};
use crate::errors::{Exit, Failure};
use crate::output::one_line;
use crate::render::records::what_was_saved;
use crate::render::values::size;
use crate::{machine, notify};

impl Run<'_> {
    /// Remembers that this run is under way, and tells the watchdog. One that was under way without
    /// coming to its end, since its lock is ours now, failed: that is remembered and told, too.
    pub(super) fn begin(&self, started: i64) -> Vec<String> {
        let name = &self.job.name;
        let mut status = self.state.read(name).ok().flatten().unwrap_or_default();
        status.job.clone_from(name);
        let identity = machine::identity();
        let begun = Begun { started, process: std::process::id(), identity };
        let before = status.last_run.as_ref().map(|run| run.outcome == Outcome::Ok);
        let cut_off = status.under_way.replace(begun).map(|begun| begun.cut_off(started));
        if let Some(record) = &cut_off {
            status.add(record.clone());
            // Who cannot write this will say so at the end.
            let _ = self.state.add_to_past(name, &Past::Run(record.clone()));
        }
        let _ = self.state.write(&status);
        let mut untold = Vec::new();
        if let Some(record) = &cut_off {
            let message = format!("{name}: the run of {}: {CUT_OFF}", time_of(record.started));
            let _ = Failure::new(Exit::Failed, message).report();
            untold.extend(self.tell(&status, record, before));
        }
        untold.extend(notify::tell_watchdog(self.job, "/start", ""));
        untold
    }

    pub(super) fn record(&self, started: i64, result: &Result<Taken, Failure>) -> RunRecord {
        let mut record = RunRecord {
            started,
            ended: machine::now().seconds,
            outcome: Outcome::Failed,
            exit_code: 0,
            message: String::new(),
            details: Vec::new(),
            snapshot: None,
            entries: 0,
            bytes: 0,
            added_bytes: 0,
            problems: 0,
            checked: None,
        };
        match result {
            Ok(taken @ Taken { summary, trouble, checked, .. }) => {
                record.checked = *checked;
                let first = trouble.first().map(Failure::exit);
                let exit = match first {
                    Some(Exit::Damage) => Exit::Damage,
                    None if summary.problems == 0 => Exit::Done,
                    _ => Exit::Incomplete,
                };
                record.outcome = if exit == Exit::Done { Outcome::Ok } else { Outcome::Incomplete };
                record.exit_code = exit as i32;
                record.message = taken.in_words();
                for failure in trouble {
                    record.message.push_str(&format!("; {}", failure.message()));
                    record.details.extend_from_slice(failure.details());
                }
                record.snapshot = summary.snapshot.as_ref().map(|found| found.id.to_string());
                record.entries = summary.counts.entries;
                record.bytes = summary.counts.bytes;
                record.added_bytes = summary.counts.stored_bytes;
                record.problems = summary.problems + trouble.len() as u64;
            }
            Err(failure) => {
                record.exit_code = failure.exit() as i32;
                failure.message().clone_into(&mut record.message);
                record.details = failure.details().to_vec();
            }
        }
        record
    }

    pub(super) fn say(
        &self,
        result: &Result<Taken, Failure>,
        exit_code: i32,
    ) -> Result<Exit, Failure> {
        let taken = match result {
            Ok(taken) => taken,
            Err(failure) => return Ok(failure.report()),
        };
        for failure in &taken.trouble {
            failure.report();
        }
        mention(self.session, &taken.summary);
        if self.session.json() {
            print(self.session, &taken.summary, self.how.dry_run)
                .map_err(|failure| failure.after(what_was_saved(&taken.summary)))?;
        } else if !self.session.quiet() {
            one_line(format!("{}: {}", self.job.name, taken.in_words()))
                .map_err(|failure| failure.after(what_was_saved(&taken.summary)))?;
        }
        Ok(exit_of(exit_code))
    }

    /// Tells people and the watchdog how the run ended.
    pub(super) fn tell(
        &self,
        status: &Status,
        record: &RunRecord,
        before: Option<bool>,
    ) -> Vec<String> {
        let ok = record.outcome == Outcome::Ok;
        let ending = if ok { "" } else { "/fail" };
        let mut untold = notify::tell_watchdog(self.job, ending, &record.in_lines());
        let last = status.last_success.as_ref().map(|run| time_of(run.ended));
        let (host, occasion) = (machine::host(), Occasion::of(ok, before));
        let last = last.as_deref().unwrap_or("never");
        let notice = Notice::of_run(&host, &self.job.name, record, occasion, last);
        untold.extend(notify::tell(self.job, &notice));
        untold
    }

    /// Tells once a week what happened in it.
    pub(super) fn tell_weekly(&self, status: &mut Status) -> Vec<String> {
        // Nightly runs do not begin at the same second.
        const WEEK: i64 = 7 * 86_400 - 3600;
        let now = machine::now().seconds;
        let since = match status.last_summary.filter(|last| *last <= now) {
            Some(since) if now - since < WEEK => return Vec::new(),
            Some(since) => since,
            None => {
                status.last_summary = Some(now);
                return Vec::new();
            }
        };
        status.last_summary = Some(now);
        if !self.job.notify.when.weekly {
            return Vec::new();
        }
        let past = self.state.past(&self.job.name).unwrap_or_default();
        let notice = Notice::of_week(&machine::host(), &self.job.name, &past, (since, now), &size);
        notify::tell(self.job, &notice)
    }
}

fn time_of(seconds: i64) -> String {
    crate::render::values::time(Timestamp { seconds, nanos: 0 })
}

/// How the program ends after a run with a snapshot and this code.
pub(super) fn exit_of(code: i32) -> Exit {
    match code {
        0 => Exit::Done,
        code if code == Exit::Damage as i32 => Exit::Damage,
        _ => Exit::Incomplete,
    }
}
