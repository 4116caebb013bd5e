//! `gabion snapshot`: takes a snapshot of files and streams.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gabion::format::entry::Timestamp;
use gabion::format::path::harmless;
use gabion::format::snapshot::{Moment, Window};
use gabion::job::config::parse_duration;
use gabion::job::watched::watched;
use gabion::ops::find_snapshot;
use gabion::ops::snapshot::{
    ChangesSince, Scope, SnapshotOptions, SnapshotSummary, StreamInput, StreamSource, Told,
    changed_paths, snapshot,
};
use gabion::repo::Repository;
use gabion::source::exclude::{Excludes, ExcludesBuilder};
use serde::Serialize;

use crate::arguments::parse_stream;
use crate::errors::{Exit, Failure};
use crate::output::{one_json, one_line};
use crate::render::records::{SnapshotLine, what_was_saved};
use crate::render::values::{count, counted, parse_size, parse_time, short, size};
use crate::session::Session;
use crate::{machine, sources};

/// Take a snapshot of files, folders and streams
///
/// A stream is the output of a command, or standard input. The commands run first, one after the
/// other; if one of them fails or prints nothing, nothing is committed. Patterns are those of git's
/// ignore files, relative to each PATH; one that begins with an absolute PATH means that path.
/// Files named .gabionignore in the tree hold such patterns, too.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES:
  gabion snapshot /home /etc --exclude '*.tmp' --tag nightly
  gabion snapshot /srv/files --stream 'db.sql=pg_dump mydb'
  mysqldump mydb | gabion snapshot --stdin mydb.sql
  gabion snapshot /srv/store --write-once /srv/store/loose
  gabion snapshot /srv/files --since 2026-01-01T00:00:00Z --days 30
  psql -0Atc \"$query\" mydb >/tmp/changed && gabion snapshot /srv/files --changed-from /tmp/changed
A command in a stream is better than a pipe: whether the program before a pipe failed, gabion
cannot know.
--write-once is for object stores (git, disk-objectstore) and Maildirs. Where files are changed in
place, or linked from elsewhere, it misses that. A 32nd part of what it skips is verified each time;
a change found so is a problem, and everything is looked at.")]
pub(crate) struct Args {
    /// Files and folders
    #[arg(value_name = "PATH", required_unless_present_any = ["stdin", "stream"])]
    paths: Vec<PathBuf>,
    /// Keep standard input under this name
    #[arg(long, value_name = "NAME")]
    stdin: Option<String>,
    /// Keep the output of a shell command under this name
    #[arg(long, value_name = "NAME=COMMAND", value_parser = parse_stream)]
    stream: Vec<(String, String)>,
    /// Accept streams without a single byte, and a list without changes
    #[arg(long)]
    allow_empty: bool,
    /// Accept a PATH that is an empty directory although the last complete snapshot holds files of it
    #[arg(long)]
    allow_empty_source: bool,
    #[command(flatten)]
    exclude: ExcludeArgs,
    /// Take the raw files of a running database although they cannot be consistent
    #[arg(long)]
    allow_live_database: bool,
    /// Stay on the file systems of the PATHs
    #[arg(long)]
    one_file_system: bool,
    /// A word to find the snapshot by
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Name of the machine [default: its own]
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Time of the snapshot, as 2026-11-22T13:59:07Z or "2026-11-22 13:59" [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    time: Option<Timestamp>,
    /// Walk and compare, but store nothing
    #[arg(long)]
    dry_run: bool,
    /// Read every file, changed or not
    #[arg(long)]
    force: bool,
    /// A folder in a PATH in which files only appear and vanish, whole: nothing in it is ever changed
    /// in place. What lies in folders of it that did not change is taken over without a look
    #[arg(long, value_name = "PATH")]
    write_once: Vec<PathBuf>,
    /// Look only at what this file (-: standard input) lists as changed since the parent: paths,
    /// each ended by a zero byte, absolute or below the only PATH, a folder with all that is in it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["write_once", "force"])]
    changed_from: Option<PathBuf>,
    /// Ask a running `gabion watch` what changed since the parent, and look nowhere else
    #[arg(long, conflicts_with_all = ["write_once", "changed_from", "force"])]
    watched: bool,
    /// The snapshot that the changes are listed since [default: the latest of the same PATHs]
    #[arg(long, value_name = "SNAP", requires = "changed_from")]
    parent: Option<String>,
    /// Look at everything, whatever is write-once, listed or watched
    #[arg(long)]
    full_scan: bool,
    /// With --write-once, --changed-from or --watched: look at everything when that was last done so
    /// long ago, as 36h or 14d, or never
    #[arg(long, value_name = "AGE", default_value = "7d", value_parser = parse_age)]
    full_scan_every: Age,
    /// Level of compression, from 1 (fast) to 22 (small)
    #[arg(long, value_name = "LEVEL", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=22))]
    compression: i32,
}

/// How old something may be; nothing for no limit.
#[derive(Debug, Clone, Copy)]
struct Age(Option<Duration>);

fn parse_age(text: &str) -> Result<Age, String> {
    let age = if text == "never" { Some(None) } else { parse_duration(text).map(Some) };
    age.map(Age).ok_or_else(|| "write a number and a unit, as 36h or 14d, or never".to_owned())
}

#[derive(Debug, clap::Args)]
struct ExcludeArgs {
    /// Leave out what matches the pattern
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<OsString>,
    /// Leave out what matches a pattern of this file
    #[arg(long, value_name = "FILE")]
    exclude_file: Vec<PathBuf>,
    /// Take no heed of .gabionignore files
    #[arg(long)]
    no_ignore_files: bool,
    /// Leave out what lies in folders with a valid CACHEDIR.TAG
    #[arg(long)]
    exclude_caches: bool,
    /// Leave out what lies in folders that hold a file of this name
    #[arg(long, value_name = "NAME")]
    exclude_if_present: Vec<OsString>,
    /// Leave out files larger than this, as 500M or 2GiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    exclude_larger_than: Option<u64>,
    /// Take a partial snapshot: of what is no folder, only what was last changed at this time or
    /// later, as 2026-11-22T13:59:07Z or "2026-11-22 13:59". `latest` passes over it
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<Timestamp>,
    /// And nothing that was changed later than this
    #[arg(long, value_name = "TIME", value_parser = parse_time, conflicts_with = "days")]
    until: Option<Timestamp>,
    /// The same, as so many days behind --since
    #[arg(long, value_name = "N", requires = "since", value_parser = clap::value_parser!(u32).range(1..))]
    days: Option<u32>,
}

impl ExcludeArgs {
    /// The time that what is taken was changed in, if that counts.
    fn window(&self) -> Result<Option<Window>, Failure> {
        let since = self.since.map(Moment::from);
        let behind = |days: u32| {
            since.map(|since| Moment {
                seconds: since.seconds.saturating_add(i64::from(days) * 86_400),
                ..since
            })
        };
        let until = self.until.map(Moment::from).or_else(|| self.days.and_then(behind));
        match (since, until) {
            (None, None) => Ok(None),
            (Some(since), Some(until)) if until < since => {
                Err(Failure::usage("--until lies before --since: nothing could be taken"))
            }
            (since, until) => Ok(Some(Window { since, until })),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case", tag = "type", rename = "summary")]
struct Summary<'a> {
    snapshot: Option<SnapshotLine<'a>>,
    dry_run: bool,
    new_entries: u64,
    modified_entries: u64,
    unchanged_entries: u64,
    removed_entries: u64,
    unseen_entries: u64,
    full_scan_because: Option<&'a str>,
    lost_entries: u64,
    lost_pages: u64,
    excluded: u64,
    problems: u64,
    resumed: bool,
    counts: gabion::format::snapshot::SnapshotCounts,
}

/// Takes the snapshot.
pub(crate) fn run(session: &Session, args: Args) -> Result<Exit, Failure> {
    let paths: Vec<PathBuf> =
        args.paths.iter().map(|path| sources::absolute(path)).collect::<Result<_, _>>()?;
    let interrupted = session.interruption()?;
    let opened = session.open()?;
    sources::mention_links(&paths, &session.console);
    let excludes = excludes(session, &args.exclude, &paths)?;
    let dry_run = args.dry_run;
    let watched = args.watched.then(|| {
        let socket = machine::watch_socket();
        watched(&socket, &opened.repository, &paths, args.one_file_system)
    });
    let scope = match &watched {
        Some(watched) if !args.full_scan => watched.scope(),
        _ => scope(&opened.repository, &args, &paths)?,
    };
    let options = SnapshotOptions {
        identity: crate::machine::identity(),
        paths,
        streams: streams(args.stdin, args.stream),
        stand_ins: Vec::new(),
        allow_empty: args.allow_empty,
        allow_empty_source: args.allow_empty_source,
        excludes,
        allow_live_database: args.allow_live_database,
        one_file_system: args.one_file_system,
        tags: args.tag,
        host: args.host.unwrap_or_else(machine::host),
        user: machine::user(),
        job: None,
        time: args.time.unwrap_or_else(machine::now),
        clock: machine::now,
        force: args.force,
        scope,
        full_scan_every: args.full_scan_every.0,
        dry_run,
        rate: None,
        compression: args.compression,
        threads: session.readers(),
        interrupted,
    };
    let summary = snapshot(&opened.repository, options)?;
    if let Some(watched) = watched {
        watched.done(&opened.repository, &summary);
    }
    session.console.finish();
    mention(session, &summary);
    print(session, &summary, dry_run).map_err(|failure| failure.after(what_was_saved(&summary)))?;
    Ok(if summary.problems > 0 { Exit::Incomplete } else { Exit::Done })
}

fn scope(repository: &Repository, args: &Args, paths: &[PathBuf]) -> Result<Scope, Failure> {
    if args.full_scan {
        return Ok(Scope::Everything);
    }
    if let Some(list) = &args.changed_from {
        if args.stdin.is_some() && list.as_os_str() == "-" {
            return Err(Failure::usage("--stdin and --changed-from - both want standard input"));
        }
        let source = if let [only] = paths { Some(&**only) } else { None };
        let changes = listed_changes(list, source, args.allow_empty)?;
        let named = args.parent.as_ref().map(|snapshot| find_snapshot(repository, snapshot));
        let parent = named.transpose()?.map(|snapshot| snapshot.id);
        let changes = ChangesSince::Below(changes);
        return Ok(Scope::Told(Told {
            parent,
            by_kernel: false,
            changes: Box::new(|_| Ok(changes)),
        }));
    }
    if args.write_once.is_empty() {
        return Ok(Scope::Everything);
    }
    let folders = args.write_once.iter().map(|path| sources::absolute(path));
    Ok(Scope::WriteOnce(folders.collect::<Result<_, _>>()?))
}

fn listed_changes(
    file: &Path,
    source: Option<&Path>,
    allow_empty: bool,
) -> Result<Vec<PathBuf>, Failure> {
    let mut list = Vec::new();
    let read = match file.as_os_str() == "-" {
        true => std::io::stdin().read_to_end(&mut list),
        false => File::open(file).and_then(|mut file| file.read_to_end(&mut list)),
    };
    read.map_err(|error| Failure::io(format!("cannot read {}", file.display()), &error))?;
    if list.is_empty() && !allow_empty {
        let message = "the list of changes is empty, as if the program that writes it had failed";
        return Err(Failure::new(Exit::Failed, message).hint("if nothing changed: --allow-empty"));
    }
    changed_paths(&list, source).map_err(|why| Failure::new(Exit::Failed, why))
}

fn streams(stdin: Option<String>, commands: Vec<(String, String)>) -> Vec<StreamSource> {
    let stdin = stdin.map(|name| {
        let input = StreamInput::Reader(Box::new(std::io::stdin()));
        StreamSource::new(name, input)
    });
    let commands = commands
        .into_iter()
        .map(|(name, command)| StreamSource::new(name, StreamInput::Command(command)));
    stdin.into_iter().chain(commands).collect()
}

fn excludes(session: &Session, args: &ExcludeArgs, paths: &[PathBuf]) -> Result<Excludes, Failure> {
    let mut patterns = args.exclude.clone();
    // Last, so that no pattern of the user's brings them back.
    patterns.extend(sources::patterns_against_own(session, paths)?);
    let builder = ExcludesBuilder {
        patterns,
        pattern_files: args.exclude_file.clone(),
        use_ignore_files: !args.no_ignore_files,
        caches: args.exclude_caches,
        if_present: args.exclude_if_present.clone(),
        larger_than: args.exclude_larger_than,
        window: args.window()?,
    };
    builder.build().map_err(Failure::from)
}

/// Says why everything was looked at although less was asked for, and what was read again because
/// the repository had lost it.
pub(crate) fn mention(session: &Session, summary: &SnapshotSummary) {
    if let Some(why) = &summary.full_scan_because {
        session.console.notice(&format!("everything was looked at: {why}"));
    }
    let (entries, pages) = (summary.lost_entries, summary.lost_pages);
    if entries + pages > 0 {
        session.console.notice(&format!(
            "the repository had lost content of {} and {} of the earlier snapshot; what they stand \
             for was read again, and `gabion check` tells what else is lost",
            counted(entries, "unchanged file", "unchanged files"),
            counted(pages, "page", "pages"),
        ));
    }
}

/// Says what came of it.
pub(crate) fn print(
    session: &Session,
    summary: &SnapshotSummary,
    dry_run: bool,
) -> Result<(), Failure> {
    if session.json() {
        return one_json(&Summary {
            snapshot: summary.snapshot.as_ref().map(SnapshotLine::new),
            dry_run,
            new_entries: summary.new_entries,
            modified_entries: summary.modified_entries,
            unchanged_entries: summary.unchanged_entries,
            removed_entries: summary.removed_entries,
            unseen_entries: summary.unseen_entries,
            full_scan_because: summary.full_scan_because.as_deref(),
            lost_entries: summary.lost_entries,
            lost_pages: summary.lost_pages,
            excluded: summary.excluded,
            problems: summary.problems,
            resumed: summary.resumed,
            counts: summary.counts,
        });
    }
    if session.quiet() { Ok(()) } else { one_line(in_words(summary)) }
}

/// The one line that a nightly run mails.
pub(crate) fn in_words(summary: &SnapshotSummary) -> String {
    let what = match &summary.snapshot {
        Some(snapshot) if snapshot.window.is_some() => {
            format!("partial snapshot {} saved", short(snapshot.id))
        }
        Some(snapshot) => format!("snapshot {} saved", short(snapshot.id)),
        None => "dry run, nothing stored".to_owned(),
    };
    let counts = &summary.counts;
    let entries = counted(counts.entries, "entry", "entries");
    let added = match &summary.snapshot {
        Some(_) => format!("; {} added to the repository", size(counts.stored_bytes)),
        None => String::new(),
    };
    // What a partial one does not hold is not gone.
    let removed = match &summary.snapshot {
        Some(snapshot) if snapshot.window.is_some() => String::new(),
        _ => format!(", {} removed", count(summary.removed_entries)),
    };
    let mut line = format!(
        "{what}: {entries}, {}; {} new, {} changed{removed}{added}",
        size(counts.bytes),
        count(summary.new_entries),
        count(summary.modified_entries),
    );
    if summary.problems > 0 {
        let problems = counted(summary.problems, "problem", "problems");
        line.push_str(&format!("; INCOMPLETE: {problems}"));
    }
    harmless(line.as_bytes())
}
