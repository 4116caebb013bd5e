//! `gabion key`: the ways to open the repository.

use std::path::PathBuf;

use gabion::crypto::passphrase::KdfCosts;
use gabion::format::key_slot::SlotKind;
use gabion::format::path::printable;
use gabion::id::SlotId;
use gabion::repo::{InitOptions, Repository, SlotInfo};
use serde::Serialize;

use crate::errors::{Exit, Failure};
use crate::key_sources::NewKey;
use crate::machine;
use crate::output::{Output, one_json, one_line};
use crate::render::table::{Side, Table};
use crate::render::values::short;
use crate::session::{Opened, Session};

/// Add, list, remove and export the keys of the repository
///
/// A repository has any number of key slots, each opened by a passphrase or a key file of its own.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Let another passphrase or key file open the repository, too
    #[command(after_help = "\
EXAMPLES:
  gabion key add --label second
  gabion key add --new-key-file /root/gabion.key")]
    Add {
        /// Name of the slot
        #[arg(long, value_name = "TEXT", default_value = "")]
        label: String,
        #[command(flatten)]
        new_key: NewKey,
    },
    /// List the key slots
    #[command(after_help = "\
EXAMPLES:
  gabion key list")]
    List,
    /// Remove a key slot: what opened it opens the repository no more
    ///
    /// Who has copied the repository's folder before and knows the passphrase can still open the
    /// copy.
    #[command(after_help = "\
EXAMPLES:
  gabion key remove 1a2b3c4d")]
    Remove {
        /// The slot's id, or its beginning
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Write a new key file to keep in a safe place
    ///
    /// Adds a slot that the file opens: with it the repository can be opened when the passphrase
    /// is forgotten. The same as `key add --new-key-file`.
    #[command(after_help = "\
EXAMPLES:
  gabion key export /media/usb/gabion.key")]
    Export {
        /// The file; must not exist yet
        #[arg(value_name = "FILE")]
        path: PathBuf,
        /// Name of the slot
        #[arg(long, value_name = "TEXT", default_value = "export")]
        label: String,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct SlotLine {
    id: SlotId,
    label: String,
    kind: Option<SlotKind>,
    created: Option<String>,
}

/// Does what the sub-command says.
pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    let opened = session.open()?;
    match &args.command {
        Command::Add { label, new_key } => add(session, &opened, label, new_key),
        Command::List => list(session, &opened),
        Command::Remove { id } => remove(session, &opened, id),
        Command::Export { path, label } => {
            let new_key = NewKey { new_key_file: Some(path.clone()), ..NewKey::default() };
            add(session, &opened, label, &new_key)
        }
    }
}

fn add(session: &Session, opened: &Opened, label: &str, new_key: &NewKey) -> Result<Exit, Failure> {
    if opened.repository.config().plaintext_key.is_some() {
        return Err(Failure::new(Exit::Failed, "a repository without encryption has no keys"));
    }
    let options = InitOptions {
        unlock: new_key.get(&session.console)?,
        costs: KdfCosts::default(),
        label: label.to_owned(),
        now: machine::now_text(),
        parity_per_mille: None,
        delta: false,
    };
    let added = opened.repository.add_slot(&opened.unlock, &options);
    let id = added.inspect_err(|_| new_key.give_up())?;
    if session.json() {
        one_json(&serde_json::json!({ "id": id }))?;
    } else if !session.quiet() {
        one_line(format!("added key slot {}", short(id)))
            .map_err(|failure| failure.after(format!("key slot {} was added", short(id))))?;
    }
    Ok(Exit::Done)
}

fn list(session: &Session, opened: &Opened) -> Result<Exit, Failure> {
    let slots = slots(opened)?;
    let mut output = Output::new();
    if session.json() {
        let lines: Vec<SlotLine> = slots.into_iter().map(SlotLine::from).collect();
        output.json(&lines)?;
        output.finish()?;
        return Ok(Exit::Done);
    }
    let columns = ["ID", "KIND", "MADE", "LABEL"].map(|name| (name, Side::Left));
    let mut table = Table::new(&columns);
    for slot in &slots {
        table.row([
            short(slot.id),
            slot.kind.map_or("damaged", kind).to_owned(),
            printable(slot.created.as_bytes()),
            printable(slot.label.as_bytes()),
        ]);
    }
    if !slots.is_empty() {
        for line in table.lines() {
            output.line(line)?;
        }
    }
    output.finish()?;
    Ok(Exit::Done)
}

fn remove(session: &Session, opened: &Opened, wanted: &str) -> Result<Exit, Failure> {
    let slots = slots(opened)?;
    let fits = |slot: &&SlotInfo| !wanted.is_empty() && slot.id.to_string().starts_with(wanted);
    let found: Vec<&SlotInfo> = slots.iter().filter(fits).collect();
    let id = match &found[..] {
        [slot] => slot.id,
        [] => {
            return Err(Failure::new(Exit::Failed, format!("no key slot {wanted}"))
                .hint("`gabion key list` shows the slots"));
        }
        several => {
            let ids: Vec<String> = several.iter().map(|slot| slot.id.to_string()).collect();
            let message = format!("{wanted} could be any of the key slots {}", ids.join(", "));
            return Err(Failure::new(Exit::Failed, message));
        }
    };
    opened.repository.remove_slot(id)?;
    if session.json() {
        one_json(&serde_json::json!({ "id": id }))?;
    } else if !session.quiet() {
        one_line(format!("removed key slot {}", short(id)))
            .map_err(|failure| failure.after(format!("key slot {} was removed", short(id))))?;
    }
    Ok(Exit::Done)
}

fn slots(opened: &Opened) -> Result<Vec<SlotInfo>, Failure> {
    let repository = &opened.repository;
    Ok(Repository::slots(&**repository.storage(), repository.id())?)
}

fn kind(kind: SlotKind) -> &'static str {
    match kind {
        SlotKind::Passphrase => "passphrase",
        SlotKind::KeyFile => "key file",
    }
}

impl From<SlotInfo> for SlotLine {
    fn from(slot: SlotInfo) -> Self {
        let SlotInfo { id, label, kind, created } = slot;
        Self { id, label, kind, created: Some(created).filter(|text| !text.is_empty()) }
    }
}
