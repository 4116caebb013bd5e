//! `gabion restore`: brings files and streams back.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use gabion::format::path::printable;
use gabion::format::snapshot::{RawBytes, Snapshot};
use gabion::ops::find_snapshot;
use gabion::ops::restore::{Overwrite, RestoreOptions, RestoreSummary, restore};
use gabion::repo::Repository;
use gabion::source::pattern::{Patterns, literal};
use gabion::target::{MetadataPolicy, OwnerPolicy};
use serde::Serialize;

use crate::arguments::snapshot_spec;
use crate::errors::{Exit, Failure};
use crate::output::{one_json, one_line};
use crate::render::names::raw;
use crate::render::values::{count, counted, size};
use crate::running::must_be_stopped;
use crate::session::Session;

/// Restore a snapshot, or a part of it, into a folder
///
/// SNAP restores everything: absolute paths are made again below the target. SNAP:/PATH restores
/// what PATH holds directly into the target; a target that was new or empty then gets the
/// permissions, owner, time and attributes of PATH itself, and so does one whose files are replaced.
/// The target must be empty or new, unless --overwrite says what happens to the files in it.
/// A file that exists is replaced in one step, by one that is complete.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES:
  gabion restore latest --target /tmp/restored
  gabion restore latest:/home/me --target /home/me --overwrite if-changed
  gabion restore 1a2b3c4d --target /tmp/restored --include '*.conf' --verify
  gabion restore latest:/srv/wiki --target /srv/wiki --require-stopped 8080
  gabion restore latest --database mydb --into-postgresql newdb
  gabion restore latest --database wiki --into-mariadb newwiki
  gabion restore latest --database app.sqlite --into-sqlite /srv/app.db
  gabion restore latest --target /srv/new --database mydb --into-postgresql newdb")]
pub(crate) struct Args {
    /// The snapshot, and what of it
    #[arg(value_name = "SNAP[:PATH]")]
    what: OsString,
    /// The folder to restore into
    #[arg(short, long, value_name = "FOLDER", required_unless_present = "database")]
    target: Option<PathBuf>,
    #[command(flatten)]
    into: super::restore_into::IntoArgs,
    /// Restore only what matches the pattern, as in an ignore file, relative to the target. A pattern
    /// that matches nothing is a problem
    #[arg(long, value_name = "GLOB")]
    include: Vec<OsString>,
    /// Do not restore what matches the pattern, as in an ignore file, relative to the target
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<OsString>,
    /// Restore only when this is not running, as a server's port (10443, host:10443), socket or PID
    /// file shows; may be given several times
    #[arg(long, value_name = "PORT|FILE")]
    require_stopped: Vec<OsString>,
    /// What happens to files that are there already
    #[arg(long, value_name = "WHEN")]
    overwrite: Option<When>,
    /// Remove what the snapshot does not have, at and below the places of its own sources; what its
    /// exclude rules left out stays, and so does what lies on another mounted file system
    #[arg(long, requires = "overwrite")]
    delete: bool,
    /// With --delete, remove also what the exclude rules of the snapshot left out
    #[arg(long, requires = "delete")]
    delete_excluded: bool,
    /// Say what would be done and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Read everything back afterwards and compare
    #[arg(long)]
    verify: bool,
    /// Give files to the recorded user and group numbers, not names
    #[arg(long, conflicts_with = "no_owner")]
    numeric_owner: bool,
    /// Let all files belong to who restores them
    #[arg(long)]
    no_owner: bool,
    /// Restore no extended attributes and no access control lists
    #[arg(long)]
    no_xattrs: bool,
    /// Leave out devices, set-user-id and set-group-id bits of files, and capabilities
    #[arg(long)]
    no_special: bool,
    /// Do not wait until everything has reached the disk
    #[arg(long)]
    no_sync: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum When {
    /// Replace all
    Always,
    /// Replace what differs in size or time
    IfChanged,
    /// Replace what is older
    IfNewer,
    /// Replace nothing
    Never,
}

impl From<When> for Overwrite {
    fn from(when: When) -> Self {
        match when {
            When::Always => Self::Always,
            When::IfChanged => Self::IfChanged,
            When::IfNewer => Self::IfNewer,
            When::Never => Self::Never,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case", tag = "type", rename = "summary")]
struct Summary {
    dry_run: bool,
    restored: u64,
    unchanged: u64,
    kept: u64,
    left_out: u64,
    sockets: u64,
    deleted: u64,
    bytes: u64,
    owners_failed: u64,
    xattrs_failed: u64,
    modes_or_times_failed: u64,
    unlinked: u64,
    set_ids: u64,
    capabilities: u64,
    devices: u64,
    foreign_owners: u64,
    specials_left_out: u64,
    specials_lost: u64,
    /// The first of those.
    lost: Vec<Lost>,
    problems: u64,
    damaged: u64,
    verified: u64,
}

/// Something special that could not be restored.
#[derive(Serialize)]
struct Lost {
    path: RawBytes,
    what: &'static str,
}

/// Restores what was asked for.
pub(crate) fn run(session: &Session, args: Args) -> Result<Exit, Failure> {
    let spec = snapshot_spec(&args.what)?;
    if args.into.is_given() && spec.path.is_some() {
        return Err(Failure::usage("--database names the stream: give SNAP without a path"));
    }
    let include = Patterns::selecting(&args.include)?;
    let exclude = Patterns::new(&args.exclude)?;
    for what in &args.require_stopped {
        must_be_stopped(what)?;
    }
    let interrupted = session.interruption()?;
    let repository = session.open_for_restore()?.repository;
    let snapshot = find_snapshot(&repository, &spec.snapshot)?;
    // Whether the database can be restored is known before the first file is written.
    let into = match args.into.is_given() {
        true => Some(args.into.check(&snapshot, &interrupted)?),
        false => None,
    };
    let mut exit = Exit::Done;
    let target = args.target.clone();
    if let Some(target) = &target {
        let elsewhere = into.as_ref().map(|into| literal(format!("/{}", into.stream())));
        let exclude = exclude.and(Patterns::new(elsewhere)?);
        exit = files(
            session,
            &repository,
            &args,
            FilesOf {
                snapshot: snapshot.clone(),
                path: spec.path,
                target: target.clone(),
                include,
                exclude,
                interrupted: Arc::clone(&interrupted),
            },
        )?;
    }
    // A database beside files that lack something is better than none.
    if let Some(into) = &into
        && !args.dry_run
    {
        repository.load_index()?;
        session.console.finish();
        into.bring(session, &repository, &snapshot, target.as_deref(), &interrupted)?;
    }
    Ok(exit)
}

/// Which files go where.
struct FilesOf {
    snapshot: Snapshot,
    path: Option<Vec<u8>>,
    target: PathBuf,
    include: Patterns,
    /// What the user leaves out, and the stream that goes elsewhere.
    exclude: Patterns,
    interrupted: Arc<AtomicBool>,
}

fn files(
    session: &Session,
    repository: &Arc<Repository>,
    args: &Args,
    of: FilesOf,
) -> Result<Exit, Failure> {
    let owner = match (args.numeric_owner, args.no_owner) {
        (true, _) => OwnerPolicy::Numbers,
        (_, true) => OwnerPolicy::Leave,
        _ => OwnerPolicy::Names,
    };
    let dry_run = args.dry_run;
    if dry_run {
        session.console.list_deletions();
    }
    let options = RestoreOptions {
        snapshot: of.snapshot,
        path: of.path,
        target: of.target,
        include: of.include,
        exclude: of.exclude,
        overwrite: args.overwrite.map(Overwrite::from),
        delete: args.delete,
        delete_excluded: args.delete_excluded,
        protected: if args.delete { session.own_paths()? } else { Vec::new() },
        dry_run,
        verify: args.verify,
        policy: MetadataPolicy { owner, xattrs: !args.no_xattrs, special: !args.no_special },
        sync: !args.no_sync,
        threads: session.threads(),
        interrupted: of.interrupted,
    };
    let summary = restore(repository, options)?;
    session.console.finish();
    print(session, &summary, dry_run).map_err(|failure| match dry_run {
        true => failure,
        false => failure.after("what was asked for was restored before"),
    })?;
    Ok(match summary {
        RestoreSummary { damaged: 1.., .. } => Exit::Damage,
        RestoreSummary { problems: 1.., .. } => Exit::Failed,
        _ => Exit::Done,
    })
}

fn print(session: &Session, summary: &RestoreSummary, dry_run: bool) -> Result<(), Failure> {
    let lost =
        summary.lost.iter().map(|lost| Lost { path: raw(&lost.path), what: lost.what.name() });
    if session.json() {
        return one_json(&Summary {
            dry_run,
            restored: summary.restored,
            unchanged: summary.unchanged,
            kept: summary.kept,
            left_out: summary.left_out,
            sockets: summary.sockets,
            deleted: summary.deleted,
            bytes: summary.bytes,
            owners_failed: summary.owners_failed,
            xattrs_failed: summary.xattrs_failed,
            modes_or_times_failed: summary.modes_or_times_failed,
            unlinked: summary.unlinked,
            set_ids: summary.set_ids,
            capabilities: summary.capabilities,
            devices: summary.devices,
            foreign_owners: summary.foreign_owners,
            specials_left_out: summary.specials_left_out,
            specials_lost: summary.specials_lost,
            lost: lost.collect(),
            problems: summary.problems,
            damaged: summary.damaged,
            verified: summary.verified,
        });
    }
    for Lost { path, what } in lost {
        session.console.notice(&format!("{}: without its {what}", printable(&path.0)));
    }
    if session.quiet() { Ok(()) } else { one_line(in_words(summary, dry_run)) }
}

/// One line; what did not happen is left out.
fn in_words(summary: &RestoreSummary, dry_run: bool) -> String {
    let what = if dry_run { "dry run, would restore" } else { "restored" };
    let entries = counted(summary.restored, "entry", "entries");
    let mut line = format!("{what} {entries}, {}", size(summary.bytes));
    for (number, words) in [
        (summary.unchanged, "unchanged"),
        (summary.kept, "kept as they were"),
        (summary.left_out, "left out"),
        (summary.sockets, "sockets passed over"),
        (summary.deleted, if dry_run { "to be removed" } else { "removed" }),
        (summary.owners_failed, "with another owner"),
        (summary.xattrs_failed, "without all attributes"),
        (summary.modes_or_times_failed, "with other permissions or times"),
        (summary.unlinked, "not linked with other names of the same file"),
        (summary.set_ids, "with set-user-id or set-group-id bits"),
        (summary.capabilities, "with capabilities"),
        (summary.devices, "devices"),
        (summary.foreign_owners, "of other owners"),
        (summary.specials_left_out, "devices left out"),
        (summary.specials_lost, "devices, set-user-id bits or capabilities lost"),
        (summary.verified, "verified"),
        (summary.problems, "PROBLEMS"),
    ] {
        if number > 0 {
            line.push_str(&format!("; {} {words}", count(number)));
        }
    }
    line
}
