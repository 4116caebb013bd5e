//! `gabion cron`: the lines that make a schedule run the jobs.

use std::io::Write as _;
use std::path::Path;

use gabion::job::config::{Configuration, Job};
use gabion::job::schedule::Schedule;

use crate::errors::{Exit, Failure};
use crate::output::{Output, OutputError};
use crate::session::Session;
use crate::{configuration, machine};

/// Print what makes cron or systemd run the configured jobs
///
/// Nothing is installed. The lines need no variable: every path is absolute.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES:
  (crontab -l; gabion cron) | crontab -
  gabion cron nightly --print cron.d > /etc/cron.d/gabion
  gabion cron nightly --print systemd")]
pub(crate) struct Args {
    /// The jobs [default: all]
    #[arg(value_name = "JOB")]
    jobs: Vec<String>,
    /// For whom
    #[arg(long, value_name = "FORM", default_value = "crontab")]
    print: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Form {
    /// Lines for `crontab -e`
    Crontab,
    /// A file for /etc/cron.d
    #[value(name = "cron.d")]
    CronD,
    /// Units for /etc/systemd/system
    Systemd,
}

/// Prints them.
pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    let configuration = configuration::read(session)?;
    let jobs = configuration::jobs(&configuration, &args.jobs)?;
    let mut output = Output::new();
    output.write_all(lines(&configuration, &jobs, args.print)?.as_bytes()).map_err(OutputError)?;
    output.finish()?;
    Ok(Exit::Done)
}

/// What makes a schedule run `jobs`.
pub(crate) fn lines(
    configuration: &Configuration,
    jobs: &[&Job],
    form: Form,
) -> Result<String, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::io("cannot tell where gabion itself lies", &error))?;
    let words = command(&program, configuration)?;
    let mut lines = String::new();
    if form == Form::CronD {
        lines.push_str("MAILTO=root\n");
    }
    for job in jobs {
        let drill = job.drill.schedule.as_ref().map(|schedule| ("drill", schedule));
        for (verb, schedule) in std::iter::once(("run", &job.schedule)).chain(drill) {
            let line = format!("{words} {verb} {}", job.name);
            let when = schedule.crontab();
            lines += &match form {
                Form::Crontab => format!("{when} {line}"),
                Form::CronD => format!("{when} {} {line}", machine::user()),
                Form::Systemd => units(&job.name, verb, schedule, &line),
            };
            lines.push('\n');
        }
    }
    Ok(lines)
}

/// The command without verb and job. Cron takes a `%` for the end of a line, and a shell, cron and
/// systemd each have quotes of their own: paths that would need any are refused.
fn command(program: &Path, configuration: &Configuration) -> Result<String, Failure> {
    let plain = |path: &Path| {
        let good = |c: char| c.is_ascii_alphanumeric() || "/._+,:@=-".contains(c);
        let text = path.to_str().filter(|text| text.chars().all(good)).map(str::to_owned);
        text.ok_or_else(|| {
            let path = path.display();
            Failure::usage(format!("cron would misread the path {path}"))
                .hint("use a path of letters, digits and any of / . _ + , : @ = -")
        })
    };
    Ok(format!("{} --quiet --config {}", plain(program)?, plain(configuration.file())?))
}

fn units(job: &str, verb: &str, schedule: &Schedule, line: &str) -> String {
    let (calendar, user) = (schedule.calendar(), machine::user());
    let name = if verb == "run" { job.to_owned() } else { format!("{verb}-{job}") };
    format!(
        "# /etc/systemd/system/gabion-{name}.service
[Unit]
Description=gabion {verb} {job}
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
User={user}
ExecStart={line}
Nice=10
IOSchedulingClass=idle
NoNewPrivileges=yes
ProtectSystem=full
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictSUIDSGID=yes
RestrictRealtime=yes
LockPersonality=yes

# /etc/systemd/system/gabion-{name}.timer
[Unit]
Description=gabion {verb} {job}

[Timer]
OnCalendar={calendar}
RandomizedDelaySec=5m
Persistent=true

[Install]
WantedBy=timers.target
"
    )
}
