//! Telling people and watchdogs how runs and drills ended. What goes wrong with that is said, even
//! when nothing else is, and changes no exit code.

use gabion::job::config::Job;
use gabion::job::notify::{Agent, Notice, ping};

use crate::mail;

/// Tells everybody whom the job names; returns who could not be told, and why.
pub(crate) fn tell(job: &Job, notice: &Notice) -> Vec<String> {
    let notify = &job.notify;
    if !notice.occasion.is_in(&notify.when) {
        return Vec::new();
    }
    let mut untold = Vec::new();
    if let Some(address) = &notify.mail {
        let sent = mail::send(address, &notice.subject, &notice.text);
        untold.extend(sent.err().map(|error| format!("no mail to {address}: {error}")));
    }
    let authorization = notify.authorization_file.as_deref();
    let agent = || Agent::new(notify.timeout, env!("CARGO_PKG_VERSION"));
    if let Some(address) = &notify.webhook {
        let sent = agent().webhook(address, authorization, notice);
        untold.extend(sent.err().map(|error| format!("no webhook: {error}")));
    }
    if let Some(address) = &notify.ntfy {
        let sent = agent().ntfy(address, authorization, notice);
        untold.extend(sent.err().map(|error| format!("no ntfy: {error}")));
    }
    say(job, untold)
}

/// Tells the job's watchdog, if it has one.
pub(crate) fn tell_watchdog(job: &Job, ending: &str, text: &str) -> Vec<String> {
    let Some(address) = &job.notify.ping else { return Vec::new() };
    let agent = Agent::new(job.notify.timeout, env!("CARGO_PKG_VERSION"));
    let sent = ping(&agent, address, ending, text);
    say(job, sent.err().into_iter().map(|error| format!("no ping: {error}")).collect())
}

fn say(job: &Job, untold: Vec<String>) -> Vec<String> {
    for line in &untold {
        let line = gabion::format::path::harmless(line.as_bytes());
        eprintln!("gabion: {}: {line}", job.name);
    }
    untold
}
