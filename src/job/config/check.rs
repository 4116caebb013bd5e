//! From what is written to what makes sense: the file as a whole, jobs and their tables.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use super::file::{self, Text};
use super::sources::{aiida, streams};
use super::values::{
    Wrong, absolute, count, duration, optional, optional_path, size, text, texts, wrong,
};
use super::{
    Configuration, DEFAULT_COMPRESSION, DEFAULT_HOOK_TIMEOUT, Hooks, Job, Keep, KeyPlace, Limits,
    MountLinks, Place, RepositoryPlace, Wait,
};
use crate::format::path::printable;
use crate::job::schedule::Schedule;
use crate::ops::snapshot::FULL_SCAN_EVERY;
use crate::source::pattern::Patterns;

/// Reads and checks the whole file.
pub(super) fn configuration(source: &str, home: Option<&Path>) -> Result<Configuration, Wrong> {
    let file: file::File = toml::from_str(source).map_err(|error| syntax(&error))?;
    let repository = repository(file.repository.into_inner())?;
    let (mut jobs, mut places) = (BTreeMap::new(), Vec::new());
    for (name, job) in file.job {
        check_job_name(&name)?;
        let name = name.into_inner();
        let job = self::job(&name, job, home, &mut places)?;
        jobs.insert(name, job);
    }
    for place in &mut places {
        place.line = line_of(source, place.line);
    }
    Ok(Configuration { repository, jobs, file: PathBuf::new(), places })
}

/// The line, from 1, of a position in the text.
pub(super) fn line_of(source: &str, at: usize) -> usize {
    let before = source.as_bytes().get(..at).unwrap_or(source.as_bytes());
    1 + before.iter().filter(|&&byte| byte == b'\n').count()
}

/// What TOML or the names and types in it have against the file.
fn syntax(error: &toml::de::Error) -> Wrong {
    let message = error.message().replace('\n', "; ");
    let (reason, expected) = match message.split_once(", expected ") {
        Some((reason, expected)) => (reason, Some(expected)),
        None => (message.as_str(), None),
    };
    let cure = if reason.starts_with("unknown field `password`") {
        Some("a password never stands in the configuration: use password-command or a file".into())
    } else {
        expected.map(|expected| format!("expected {expected}"))
    };
    let reason = reason.replace("unknown field", "unknown key").replace("field", "key");
    Wrong { at: error.span().map(|span| span.start), reason, cure }
}

fn repository(written: file::Repository) -> Result<RepositoryPlace, Wrong> {
    let url = match crate::storage::Place::parse(written.url.get_ref().as_ref()) {
        Ok(crate::storage::Place::Folder(_)) => {
            crate::storage::Place::Folder(absolute(&written.url, "url")?)
        }
        Ok(remote) => remote,
        Err(error) => return Err(wrong(&written.url, format!("`url`: {error}"), error.cure)),
    };
    let mut keys: Vec<(usize, KeyPlace)> = Vec::new();
    if let Some(command) = written.password_command {
        let at = command.span().start;
        keys.push((at, KeyPlace::PasswordCommand(text(command, "password-command")?)));
    }
    if let Some(file) = &written.password_file {
        let path = absolute(file, "password-file")?;
        keys.push((file.span().start, KeyPlace::PasswordFile(path)));
    }
    if let Some(file) = &written.key_file {
        keys.push((file.span().start, KeyPlace::KeyFile(absolute(file, "key-file")?)));
    }
    if let [_, (at, _), ..] = &keys[..] {
        return Err(Wrong {
            at: Some(*at),
            reason: "two of password-command, password-file and key-file".to_owned(),
            cure: Some("leave one of them".to_owned()),
        });
    }
    let key = keys.pop().map(|(_, key)| key);
    let ssh_command = optional(written.ssh_command, "ssh-command")?;
    Ok(RepositoryPlace { url, ssh_command, key })
}

/// A job's name is part of file names, of units of systemd and of lines for cron.
fn check_job_name(name: &Text) -> Result<(), Wrong> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let text = name.get_ref();
    let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts && text.len() <= 64 && text.chars().all(good) {
        return Ok(());
    }
    let reason = format!("{:?} cannot name a job", printable(text.as_bytes()));
    Err(wrong(name, reason, "use letters, digits, dots, dashes and underscores, at most 64"))
}

fn job(
    name: &str,
    written: Spanned<file::Job>,
    home: Option<&Path>,
    places: &mut Vec<Place>,
) -> Result<Job, Wrong> {
    let whole = Spanned::new(written.span(), ());
    let mut job = written.into_inner();
    let paths = job_paths(name, &job.paths, "paths", places)?;
    for pattern in &job.exclude {
        check_pattern(pattern)?;
    }
    let exclude_files = job.exclude_file.take().map(file::list).unwrap_or_default();
    let exclude_files = job_paths(name, &exclude_files, "exclude-file", places)?;
    let write_once = write_once(&job.write_once, &paths, !job.aiida.is_empty())?;
    if let Some(command) = job.changed_from.as_ref().filter(|_| !write_once.is_empty()) {
        let reason = "`changed-from` and `write-once` say two things of the same files".to_owned();
        return Err(wrong(command, reason, "leave one of them"));
    }
    let watched = watched(job.watched.take(), job.changed_from.is_some(), &write_once)?;
    let streams = streams(name, &mut job, &paths, places)?;
    let aiida = aiida(name, &mut job, home, places)?;
    if paths.is_empty() && streams.is_empty() && aiida.is_empty() {
        let reason = format!("the job {name} has nothing to take a snapshot of");
        return Err(wrong(&whole, reason, "give it `paths`, or a database"));
    }
    let schedule = job.schedule.as_ref().map(schedule).transpose()?.unwrap_or_default();
    Ok(Job {
        name: name.to_owned(),
        paths,
        exclude: texts(job.exclude, "exclude")?,
        exclude_files,
        tags: tags(job.tags)?,
        one_file_system: job.one_file_system,
        allow_empty_source: job.allow_empty_source,
        mount_links: mount_links(job.mount_links)?,
        allow_live_database: job.allow_live_database,
        write_once,
        changed_from: optional(job.changed_from, "changed-from")?,
        watched,
        full_scan_every: full_scan_every(job.full_scan_every.as_ref())?,
        compression: compression(job.compression)?,
        host: optional(job.host, "host")?,
        schedule,
        streams,
        aiida,
        indexes: Vec::new(),
        keep: job.keep.map(keep).transpose()?,
        hooks: hooks(job.hooks.unwrap_or_default())?,
        notify: job.notify.map(super::notify::notify).transpose()?.unwrap_or_default(),
        check_budget: job.check.map(|check| size(&check.budget, "budget")).transpose()?,
        limits: limits(job.limits.unwrap_or_default())?,
        drill: job.drill.map(super::drill::drill).transpose()?.unwrap_or_default(),
    })
}

/// When something is to run.
pub(super) fn schedule(written: &Text) -> Result<Schedule, Wrong> {
    written.get_ref().parse().map_err(|why| {
        let reason = format!("`schedule` is {:?}: {why}", written.get_ref());
        wrong(written, reason, "write hourly, 02:30, sun 02:30 or mon,thu 02:30")
    })
}

/// The paths of a job; whether they are there is looked at when the job is used.
fn job_paths(
    job: &str,
    written: &[Text],
    key: &'static str,
    places: &mut Vec<Place>,
) -> Result<Vec<PathBuf>, Wrong> {
    let mut paths = Vec::new();
    for value in written {
        let path = absolute(value, key)?;
        if paths.contains(&path) {
            let reason = format!("`{key}` names {} twice", printable(value.get_ref().as_bytes()));
            return Err(wrong(value, reason, "name it once"));
        }
        places.push(Place::new(job, key, &path, value.span().start));
        paths.push(path);
    }
    Ok(paths)
}

fn check_pattern(pattern: &Text) -> Result<(), Wrong> {
    Patterns::new([pattern.get_ref()]).map(drop).map_err(|error| {
        wrong(pattern, error.to_string(), error.advice().unwrap_or("correct the pattern"))
    })
}

/// Where presets stand for further paths, it turns out at a run whether they hold all of these.
fn write_once(
    written: &[Text],
    paths: &[PathBuf],
    has_presets: bool,
) -> Result<Vec<PathBuf>, Wrong> {
    let mut checked = Vec::new();
    for value in written {
        let path = absolute(value, "write-once")?;
        if !has_presets && !paths.iter().any(|top| path.starts_with(top)) {
            let reason = format!(
                "`write-once` names {}, which lies in none of the job's paths",
                printable(value.get_ref().as_bytes())
            );
            return Err(wrong(value, reason, "name one of `paths`, or a folder in it"));
        }
        checked.push(path);
    }
    Ok(checked)
}

fn watched(
    written: Option<Spanned<bool>>,
    is_told: bool,
    write_once: &[PathBuf],
) -> Result<bool, Wrong> {
    let Some(written) = written else { return Ok(false) };
    if *written.get_ref() && (is_told || !write_once.is_empty()) {
        let other = if is_told { "changed-from" } else { "write-once" };
        let reason = format!("`watched` and `{other}` say two things of the same files");
        return Err(wrong(&written, reason, "leave one of them"));
    }
    Ok(written.into_inner())
}

fn full_scan_every(written: Option<&Text>) -> Result<Option<Duration>, Wrong> {
    match written {
        None => Ok(Some(FULL_SCAN_EVERY)),
        Some(written) if written.get_ref() == "never" => Ok(None),
        Some(written) => duration(written, "full-scan-every").map(Some),
    }
}

fn tags(written: Vec<Text>) -> Result<Vec<String>, Wrong> {
    texts(written, "tags")
}

fn mount_links(written: Option<Text>) -> Result<Option<MountLinks>, Wrong> {
    let Some(written) = written else { return Ok(None) };
    match written.get_ref().as_str() {
        "report" => Ok(Some(MountLinks::Report)),
        "follow" => Ok(Some(MountLinks::Follow)),
        other => {
            let reason = format!("`mount-links` is {other:?}");
            Err(wrong(&written, reason, "write \"report\" or \"follow\", or leave it out"))
        }
    }
}

fn compression(written: Option<Spanned<i64>>) -> Result<i32, Wrong> {
    let Some(written) = written else { return Ok(DEFAULT_COMPRESSION) };
    let level = i32::try_from(*written.get_ref()).ok().filter(|level| (1..=22).contains(level));
    level.ok_or_else(|| {
        let reason = format!("`compression` must lie between 1 and 22, not {}", written.get_ref());
        wrong(&written, reason, "1 is fast, 22 is small; leave it out for 1")
    })
}

fn keep(written: Spanned<file::Keep>) -> Result<Keep, Wrong> {
    let whole = Spanned::new(written.span(), ());
    let written = written.into_inner();
    let within = written.within.map(|value| duration(&value, "within")).transpose()?;
    let keep = Keep {
        last: count(written.last, "last")?,
        hourly: count(written.hourly, "hourly")?,
        daily: count(written.daily, "daily")?,
        weekly: count(written.weekly, "weekly")?,
        monthly: count(written.monthly, "monthly")?,
        yearly: count(written.yearly, "yearly")?,
        within,
        tags: tags(written.tags)?,
    };
    if keep == Keep::default() {
        let cure = "say what is kept, such as daily = 7, or leave the table out to keep all";
        return Err(wrong(&whole, "`keep` holds no rule, which would keep nothing", cure));
    }
    Ok(keep)
}

fn hooks(written: file::Hooks) -> Result<Hooks, Wrong> {
    let timeout = written.timeout.map(|value| duration(&value, "timeout")).transpose()?;
    Ok(Hooks {
        before: optional(written.before, "before")?,
        after: optional(written.after, "after")?,
        failed: optional(written.failed, "failed")?,
        finally: optional(written.finally, "finally")?,
        timeout: timeout.unwrap_or(DEFAULT_HOOK_TIMEOUT),
    })
}

fn limits(written: file::Limits) -> Result<Limits, Wrong> {
    let wait = match &written.wait {
        None => Wait::default(),
        Some(value) if value.get_ref() == "leave" => Wait::Leave,
        Some(value) => Wait::For(duration(value, "wait").map_err(|wrong| Wrong {
            cure: Some("write \"leave\", or how long to wait, such as 30m".to_owned()),
            ..wrong
        })?),
    };
    let time = written.time.map(|value| duration(&value, "time")).transpose()?;
    let nice = match &written.nice {
        None => 0,
        Some(value) => {
            let nice = u8::try_from(*value.get_ref()).ok().filter(|nice| *nice <= 19);
            nice.ok_or_else(|| {
                let reason = format!("`nice` must lie between 0 and 19, not {}", value.get_ref());
                wrong(value, reason, "0 is as important as others, 19 the least important")
            })?
        }
    };
    let idle_io = match &written.ionice {
        None => false,
        Some(value) if value.get_ref() == "idle" => true,
        Some(value) if value.get_ref() == "normal" => false,
        Some(value) => {
            let reason = format!("`ionice` is {:?}", value.get_ref());
            return Err(wrong(value, reason, "write \"idle\" or \"normal\""));
        }
    };
    let rate = written.rate.map(|value| size(&value, "rate")).transpose()?;
    Ok(Limits { time, wait, nice, idle_io, rate })
}

/// The folder of a server's programs.
pub(super) fn programs(written: Option<Text>) -> Result<Option<PathBuf>, Wrong> {
    optional_path(written, "programs")
}
