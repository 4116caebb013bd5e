//! `gabion jobs`: the jobs of the configuration, in short or with everything filled in.

use gabion::job::config::{
    Address, Databases, Drill, Expected, Job, KeyPlace, MountLinks, Notify, Sample, StreamConfig,
    Wait, When, duration_text,
};

use crate::configuration;
use crate::errors::{Exit, Failure};
use crate::output::Output;
use crate::render::table::{Side, Table};
use crate::render::values::size;
use crate::session::Session;

/// List the configured jobs
///
/// The whole file is checked, and so is whether the paths of the jobs are there.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES:
  gabion jobs
  gabion jobs --explain nightly")]
pub(crate) struct Args {
    /// Show this job only
    #[arg(value_name = "JOB")]
    job: Option<String>,
    /// Show everything, with all defaults filled in
    #[arg(long)]
    explain: bool,
}

/// Lists them.
pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    let configuration = configuration::read(session)?;
    let jobs: Vec<&Job> = match &args.job {
        Some(name) => vec![configuration::job(&configuration, name)?],
        None => configuration.jobs.values().collect(),
    };
    let mut output = Output::new();
    if args.explain {
        output.line(format!("configuration = {:?}", configuration.file()))?;
        let repository = &configuration.repository;
        output.line(format!("repository = {:?}", repository.url.to_string()))?;
        if let Some(command) = &repository.ssh_command {
            output.line(format!("ssh-command = {command:?}"))?;
        }
        let key = match &configuration.repository.key {
            None => "from the variables, else asked for".to_owned(),
            Some(KeyPlace::PasswordCommand(command)) => format!("the output of {command:?}"),
            Some(KeyPlace::PasswordFile(path)) => format!("in the file {}", path.display()),
            Some(KeyPlace::KeyFile(path)) => format!("the key file {}", path.display()),
        };
        output.line(format!("passphrase: {key}"))?;
        for job in &jobs {
            for line in explained(job) {
                output.line(line)?;
            }
        }
    } else {
        let columns = [("JOB", Side::Left), ("RUNS", Side::Left), ("TAKES", Side::Left)];
        let mut table = Table::new(&columns);
        for job in &jobs {
            table.row([job.name.clone(), job.schedule.to_string(), takes(job).join(", ")]);
        }
        for line in table.lines() {
            output.line(line)?;
        }
    }
    output.finish()?;
    for job in jobs {
        configuration.check_places(&job.name)?;
    }
    Ok(Exit::Done)
}

fn takes(job: &Job) -> Vec<String> {
    let streams = job.streams.iter().flat_map(|stream| {
        let mut names = stream.stream_names();
        if is_all(stream) {
            names.push(format!("all databases ({})", stream.kind()));
        }
        names
    });
    let aiida = job.aiida.iter().map(|preset| {
        let profile = preset.profile.as_deref().unwrap_or("the default one");
        format!("AiiDA's profile {profile}")
    });
    streams.chain(aiida).chain(job.paths.iter().map(|path| path.display().to_string())).collect()
}

fn is_all(stream: &StreamConfig) -> bool {
    match stream {
        StreamConfig::Postgresql(server) => matches!(server.databases, Databases::All { .. }),
        StreamConfig::Mariadb(server) => matches!(server.databases, Databases::All { .. }),
        _ => false,
    }
}

fn explained(job: &Job) -> Vec<String> {
    let mut lines = vec![String::new(), format!("[job.{}]", job.name)];
    let mut say = |key: &str, value: String| lines.push(format!("{key} = {value}"));
    say("paths", format!("{:?}", job.paths));
    say("exclude", format!("{:?}", job.exclude));
    say("exclude-file", format!("{:?}", job.exclude_files));
    say("tags", format!("{:?}", job.tags));
    say("one-file-system", job.one_file_system.to_string());
    say("allow-empty-source", job.allow_empty_source.to_string());
    let mount_links = match job.mount_links {
        None => "not looked for",
        Some(MountLinks::Report) => "report",
        Some(MountLinks::Follow) => "follow",
    };
    say("mount-links", mount_links.to_owned());
    say("allow-live-database", job.allow_live_database.to_string());
    say("write-once", format!("{:?}", job.write_once));
    say("changed-from", job.changed_from.as_ref().map_or("nothing".into(), |c| format!("{c:?}")));
    say("watched", job.watched.to_string());
    let every = job.full_scan_every.map_or("never".to_owned(), duration_text);
    say("full-scan-every", format!("{every:?}"));
    say("compression", job.compression.to_string());
    say("host", job.host.as_ref().map_or("the machine's name".into(), |host| format!("{host:?}")));
    say("schedule", format!("{:?}", job.schedule.to_string()));
    for stream in &job.streams {
        let all = if is_all(stream) { " and one for each database" } else { "" };
        say(stream.kind(), format!("streams {:?}{all}", stream.stream_names()));
    }
    for preset in &job.aiida {
        let profile = preset.profile.as_deref().unwrap_or("the default one");
        say("aiida", format!("{profile} of {:?}", preset.folder));
    }
    say("keep", job.keep.as_ref().map_or("all snapshots".into(), |keep| format!("{keep:?}")));
    for (name, hook) in [
        ("hooks.before", &job.hooks.before),
        ("hooks.after", &job.hooks.after),
        ("hooks.failed", &job.hooks.failed),
        ("hooks.finally", &job.hooks.finally),
    ] {
        say(name, hook.as_ref().map_or("nothing".into(), |line| format!("{line:?}")));
    }
    say("hooks.timeout", format!("{:?}", duration_text(job.hooks.timeout)));
    explain_notify(&job.notify, &mut say);
    say("check.budget", job.check_budget.map_or("nothing".into(), size));
    say("limits.time", job.limits.time.map_or("none".into(), duration_text));
    let wait = match job.limits.wait {
        Wait::Leave => "leave".to_owned(),
        Wait::For(time) => duration_text(time),
    };
    say("limits.wait", format!("{wait:?}"));
    say("limits.nice", job.limits.nice.to_string());
    say("limits.ionice", format!("{:?}", if job.limits.idle_io { "idle" } else { "normal" }));
    let rate = job.limits.rate.map_or("none".into(), |rate| format!("{} per second", size(rate)));
    say("limits.rate", rate);
    explain_drill(&job.drill, &mut say);
    lines
}

fn explain_notify(notify: &Notify, say: &mut dyn FnMut(&str, String)) {
    say("notify.mail", notify.mail.clone().unwrap_or("nobody".into()));
    for (name, address) in [
        ("notify.webhook", &notify.webhook),
        ("notify.ntfy", &notify.ntfy),
        ("notify.ping", &notify.ping),
    ] {
        say(name, address.as_ref().map_or("nobody".into(), Address::shown));
    }
    let file = notify.authorization_file.as_ref();
    say("notify.authorization-file", file.map_or("none".into(), |path| format!("{path:?}")));
    let When { failure, recovery, success, weekly } = notify.when;
    let words: Vec<&str> =
        [("failure", failure), ("recovery", recovery), ("always", success), ("weekly", weekly)]
            .iter()
            .filter_map(|(word, told)| told.then_some(*word))
            .collect();
    say("notify.when", format!("{words:?}"));
    say("notify.timeout", format!("{:?}", duration_text(notify.timeout)));
}

fn explain_drill(drill: &Drill, say: &mut dyn FnMut(&str, String)) {
    say(
        "drill.files",
        match drill.files {
            Sample::Number(number) => number.to_string(),
            Sample::Percent(percent) => format!("\"{percent}%\""),
        },
    );
    say("drill.file-bytes", format!("{:?}", size(drill.file_bytes)));
    say("drill.require", format!("{:?}", drill.require));
    for query in &drill.queries {
        let expected = match &query.expected {
            Expected::Row => "gives a row".to_owned(),
            Expected::Value(value) => format!("gives {value:?}"),
            Expected::AtLeast(number) => format!("gives {number} or more"),
        };
        say("drill.sql", format!("{:?} in {:?} {expected}", query.query, query.database));
    }
    let folder = drill.folder.as_ref();
    say("drill.folder", folder.map_or("$TMPDIR or /var/tmp".into(), |path| format!("{path:?}")));
    let user = drill.user.as_deref().unwrap_or("nobody");
    say("drill.user", format!("{user:?} when root runs it"));
    say("drill.time", format!("{:?}", duration_text(drill.time)));
    say("drill.max-age", drill.max_age.map_or("none".into(), duration_text));
    let schedule = drill.schedule.as_ref();
    say(
        "drill.schedule",
        schedule.map_or("never".into(), |found| format!("{:?}", found.to_string())),
    );
}
