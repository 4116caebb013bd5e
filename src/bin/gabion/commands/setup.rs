//! `gabion setup`: asks once, writes the configuration, makes the repository.

mod checks;
mod databases;
mod dialogue;
mod files;
mod linkahead;
mod machine_files;
mod report;

use std::path::{Path, PathBuf};

use gabion::job::aiida::{expand, folders};
use gabion::job::config::{AiidaConfig, Configuration, Keep, KeyPlace, MountLinks};
use gabion::job::setup::Answers;

use self::checks::Place;
use self::databases::DatabaseArgs;
use self::dialogue::Dialogue;
use self::machine_files::Found;
use self::report::Done;
use super::status::StateArgs;
use crate::errors::{Exit, Failure};
use crate::key_sources::KeySource;
use crate::output::Output;
use crate::session::Session;
use crate::{machine, process, sources};

/// Ask a few questions, then write the configuration and make the repository
///
/// Every question is a flag, too; what a flag says is not asked. Without a terminal, or with --yes,
/// nothing is asked: what has no default must be said. Everything is checked before anything is
/// written: whether the sources are there, whether the databases answer, and whether the
/// repository lies on another disk than what it is to save.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES:
  gabion setup
  gabion setup --repository /mnt/backup/gabion --path /srv/files --postgresql mydb --yes
  gabion setup --repository /mnt/backup/gabion --aiida main --yes
  gabion setup --repository backup@nas:gabion --ssh-command \"ssh -i KEY\" --path /home
  gabion setup --repository /mnt/backup/gabion --linkahead /opt/caosdb/conf/ext/server.conf --yes
  gabion setup --repository /mnt/backup/gabion --path /home --print-config")]
pub(crate) struct Args {
    /// Name of the job [default: nightly]
    #[arg(long, value_name = "NAME")]
    job: Option<String>,
    /// A file or folder to be taken; may be given several times
    #[arg(long, value_name = "PATH")]
    path: Vec<PathBuf>,
    /// A pattern of what is left out; may be given several times
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// A profile of AiiDA: its database and its files; may be given several times
    #[arg(long, value_name = "PROFILE")]
    aiida: Vec<String>,
    /// The folder of AiiDA's configuration [default: ~/.aiida]
    #[arg(long, value_name = "FOLDER", requires = "aiida")]
    aiida_folder: Option<PathBuf>,
    /// LinkAhead's server.conf: the files, the folder of this file and the database that it names
    #[arg(long, value_name = "FILE")]
    linkahead: Option<PathBuf>,
    #[command(flatten)]
    databases: DatabaseArgs,
    /// Make this file with a random passphrase for a new repository
    #[arg(long, value_name = "FILE", conflicts_with_all = ["password_file", "password_command", "key_file"])]
    make_password_file: Option<PathBuf>,
    /// Make a repository that is not encrypted
    #[arg(long, conflicts_with_all = ["make_password_file", "password_file", "password_command", "key_file"])]
    plaintext: bool,
    /// The repository may lie on the disk of what it saves
    #[arg(long)]
    same_disk: bool,
    /// When the job runs: hourly, 02:30, sun 02:30 or mon,thu 02:30 [default: 02:30]
    #[arg(long, value_name = "WHEN")]
    schedule: Option<String>,
    /// Snapshots that are kept: one for each of so many days [default: 7]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep_daily: Option<u32>,
    /// One for each of so many weeks [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep_weekly: Option<u32>,
    /// One for each of so many months [default: 12]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep_monthly: Option<u32>,
    /// Who gets a mail when a run fails [default: nobody; cron's own mail tells]
    #[arg(long, value_name = "ADDRESS")]
    mail: Option<String>,
    /// So much is read back and verified after each run, such as 1GiB [default: 1GiB]
    #[arg(long, value_name = "SIZE")]
    check_budget: Option<String>,
    /// Replace a configuration that is there
    #[arg(long)]
    overwrite: bool,
    /// Take the first snapshot at once
    #[arg(long)]
    first_snapshot: bool,
    /// Take no snapshot yet
    #[arg(long, conflicts_with = "first_snapshot")]
    no_first_snapshot: bool,
    /// Ask nothing and take the defaults
    #[arg(short, long)]
    yes: bool,
    /// Show the configuration and write nothing
    #[arg(long)]
    print_config: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// What was decided, and what it means for the machine.
struct Plan {
    file: PathBuf,
    answers: Answers,
    place: Place,
    /// The password file that is to be made.
    new_password_file: Option<PathBuf>,
}

/// Sets up.
pub(crate) fn run(session: &mut Session, args: &Args) -> Result<Exit, Failure> {
    process::private_files();
    let dialogue = Dialogue::new(session, args.yes);
    let plan = plan(session, args, &dialogue)?;
    let (text, configuration) = plan.answers.configuration(&plan.file)?;
    if args.print_config {
        let mut output = Output::new();
        output.line(text.trim_end())?;
        output.finish()?;
        return Ok(Exit::Done);
    }
    let job = expand(&configuration.jobs[&plan.answers.job])?;
    let servers = databases::answering(session, &job.streams, &args.databases)?;
    let id = files::make(session, &plan, &text)?;
    let done = Done { plan: &plan, configuration: &configuration, servers, id };
    done.report(session)?;
    first_snapshot(session, args, &dialogue, &plan, &configuration)
}

fn plan(session: &Session, args: &Args, dialogue: &Dialogue) -> Result<Plan, Failure> {
    let file = configuration_file(session, args, dialogue)?;
    let found = Found::look();
    found.tell(dialogue);
    let job =
        dialogue.text("--job", args.job.clone(), "Name of the job", Some("nightly".into()))?;
    let aiida = aiida(args, dialogue, &found)?;
    let linkahead = linkahead::ask(args.linkahead.as_deref(), dialogue, &found)?;
    let mut paths = paths(args, dialogue, &found)?;
    if let Some(server) = &linkahead {
        paths.extend(linkahead::paths(server)?);
    }
    let of_server = linkahead.as_ref().map(|server| &server.database);
    let streams = databases::ask(&args.databases, dialogue, &found, of_server)?;
    if paths.is_empty() && streams.is_empty() && aiida.is_empty() {
        return Err(Failure::usage("nothing was named that a snapshot could be taken of").hint(
            "say --path PATH, --aiida PROFILE, --linkahead FILE, --postgresql NAME, --mariadb NAME \
             or --sqlite FILE",
        ));
    }
    let mut sources = paths.clone();
    for preset in &aiida {
        sources.extend(folders(preset)?);
    }
    let place = repository(session, args, dialogue, &found, &sources)?;
    let (key, new_password_file) = key(session, args, dialogue, &place, &file)?;
    let answers = Answers {
        repository: place.at.clone(),
        ssh_command: session.ssh_command().map(str::to_owned),
        key,
        job,
        paths,
        exclude: args.exclude.clone(),
        mount_links: linkahead.map(|_| MountLinks::Report),
        aiida,
        streams,
        schedule: schedule(args, dialogue)?,
        keep: keep(args, dialogue)?,
        mail: dialogue.optional(args.mail.clone(), "Who gets a mail when a run fails")?,
        check_budget: Some(args.check_budget.clone().unwrap_or_else(|| "1GiB".to_owned())),
    };
    Ok(Plan { file, answers, place, new_password_file })
}

/// Where the configuration is written to.
fn configuration_file(
    session: &Session,
    args: &Args,
    dialogue: &Dialogue,
) -> Result<PathBuf, Failure> {
    let named = session.configuration_file().map(Path::to_owned);
    let file = match named.or_else(machine::own_configuration_file) {
        Some(file) => sources::absolute(&file)?,
        None => return Err(Failure::usage("there is no home folder: say --config FILE")),
    };
    if args.overwrite || args.print_config || !file.exists() {
        return Ok(file);
    }
    let shown = file.display();
    if dialogue.confirm(&format!("{shown} is there already. Replace it?"), false)? {
        return Ok(file);
    }
    Err(Failure::usage(format!("{shown} is there already"))
        .hint("say --overwrite, or write another file with --config FILE"))
}

fn aiida(args: &Args, dialogue: &Dialogue, found: &Found) -> Result<Vec<AiidaConfig>, Failure> {
    let mut names = args.aiida.clone();
    let proposed = found.aiida_profiles();
    if names.is_empty() && dialogue.asks() && !proposed.is_empty() {
        let answer = dialogue.line("AiiDA profiles to be kept (- for none)", Some(&proposed))?;
        names = answer.split_whitespace().filter(|name| *name != "-").map(str::to_owned).collect();
    }
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let folder = args.aiida_folder.clone().or_else(|| found.aiida_folder());
    let folder = folder.ok_or_else(|| {
        Failure::usage("there is no folder ~/.aiida").hint("say --aiida-folder FOLDER")
    })?;
    let folder = checks::source(&folder)?;
    let preset = |name: String| AiidaConfig {
        folder: folder.clone(),
        profile: Some(name),
        programs: None,
        prefix: String::new(),
    };
    Ok(names.into_iter().map(preset).collect())
}

fn paths(args: &Args, dialogue: &Dialogue, found: &Found) -> Result<Vec<PathBuf>, Failure> {
    if !args.path.is_empty() || !dialogue.asks() {
        return args.path.iter().map(|path| checks::source(path)).collect();
    }
    let mut paths = Vec::new();
    let mut proposed = found.folders().into_iter();
    loop {
        let default = proposed.next();
        let question = "A file or folder to be taken (an empty line or - ends the list)";
        let answer = dialogue.line(question, default.as_deref())?;
        if answer.is_empty() || answer == "-" {
            return Ok(paths);
        }
        match checks::source(Path::new(&answer)) {
            Ok(path) => paths.push(path),
            Err(failure) => drop(failure.report()),
        }
    }
}

fn repository(
    session: &Session,
    args: &Args,
    dialogue: &Dialogue,
    found: &Found,
    paths: &[PathBuf],
) -> Result<Place, Failure> {
    let given = session.named_repository().map(|path| path.display().to_string());
    let question = "Folder of the repository, best on another disk, or host:folder";
    let default = found.backup_folder().map(|path| path.display().to_string());
    dialogue.checked("--repository", given, question, default, |answer| {
        let place = checks::repository(answer, paths, &session.ssh())?;
        let Some(source) = &place.on_disk_of else { return Ok(place) };
        let (path, source) = (&place.at, source.display());
        let message =
            format!("{path} lies on the same disk as {source}: what takes one takes both");
        if args.same_disk || dialogue.confirm(&format!("{message}. Use it all the same?"), false)? {
            return Ok(place);
        }
        Err(Failure::usage(message).hint("name a folder on another disk, or say --same-disk"))
    })
}

/// What opens the repository, and the password file that is to be made for it.
fn key(
    session: &Session,
    args: &Args,
    dialogue: &Dialogue,
    place: &Place,
    file: &Path,
) -> Result<(Option<KeyPlace>, Option<PathBuf>), Failure> {
    if args.plaintext {
        return Ok((None, None));
    }
    if args.make_password_file.is_none()
        && let Some(source) = session.key_source()?
    {
        return Ok((Some(key_place(source)?), None));
    }
    let beside = file.with_file_name("password").display().to_string();
    let given = args.make_password_file.as_ref().map(|path| path.display().to_string());
    if place.exists {
        let question = "File with the passphrase of the repository that is there";
        let answer = dialogue.checked("--password-file", given, question, None, |answer| {
            checks::absolute_text(Path::new(answer))
        })?;
        return Ok((Some(KeyPlace::PasswordFile(answer)), None));
    }
    let question = "File to be made for a random passphrase";
    let password =
        dialogue.checked("--make-password-file", given, question, Some(beside), |answer| {
            checks::new_password_file(Path::new(answer), place)
        })?;
    Ok((Some(KeyPlace::PasswordFile(password.clone())), Some(password)))
}

/// A secret that a schedule can get without a person.
fn key_place(source: KeySource) -> Result<KeyPlace, Failure> {
    Ok(match source {
        KeySource::Passphrase(_) => {
            return Err(Failure::usage(
                "a passphrase in GABION_PASSWORD is of no use to a schedule",
            )
            .hint("unset it, and say --password-file FILE or --password-command COMMAND"));
        }
        KeySource::PassphraseFile(path) => KeyPlace::PasswordFile(checks::absolute_text(&path)?),
        KeySource::KeyFile(path) => KeyPlace::KeyFile(checks::absolute_text(&path)?),
        KeySource::PassphraseCommand(command) => {
            let text = command.into_string();
            let text = text.map_err(|_| Failure::usage("the password command is no UTF-8"))?;
            KeyPlace::PasswordCommand(text)
        }
    })
}

fn schedule(args: &Args, dialogue: &Dialogue) -> Result<gabion::job::schedule::Schedule, Failure> {
    let (given, default) = (args.schedule.clone(), Some("02:30".to_owned()));
    let question = "When it runs (hourly, 02:30, sun 02:30 or mon,thu 02:30)";
    dialogue.checked("--schedule", given, question, default, |answer| {
        answer.parse().map_err(|why| {
            Failure::usage(format!("--schedule {answer:?}: {why}"))
                .hint("write hourly, 02:30, sun 02:30 or mon,thu 02:30")
        })
    })
}

fn keep(args: &Args, dialogue: &Dialogue) -> Result<Keep, Failure> {
    let ask = |flag: &str, given: Option<u32>, question: &str, default: u32| {
        let given = given.map(|number| number.to_string());
        dialogue.checked(flag, given, question, Some(default.to_string()), |answer| {
            let number = answer.parse::<u32>().ok().filter(|&number| number > 0);
            number.ok_or_else(|| Failure::usage(format!("{flag} {answer:?}: no number from 1")))
        })
    };
    Ok(Keep {
        daily: Some(ask("--keep-daily", args.keep_daily, "Keep daily snapshots", 7)?),
        weekly: Some(ask("--keep-weekly", args.keep_weekly, "Keep weekly snapshots", 5)?),
        monthly: Some(ask("--keep-monthly", args.keep_monthly, "Keep monthly snapshots", 12)?),
        ..Keep::default()
    })
}

fn first_snapshot(
    session: &Session,
    args: &Args,
    dialogue: &Dialogue,
    plan: &Plan,
    configuration: &Configuration,
) -> Result<Exit, Failure> {
    let wanted = args.first_snapshot
        || (!args.no_first_snapshot
            && dialogue.asks()
            && dialogue.confirm("Take the first snapshot now?", true)?);
    if !wanted {
        return Ok(Exit::Done);
    }
    let job = &configuration.jobs[&plan.answers.job];
    super::run::run_jobs(
        session,
        configuration,
        &[job],
        &args.state.folder()?,
        super::run::How::default(),
    )
}
