//! `gabion init`: makes a repository.

use gabion::crypto::passphrase::KdfCosts;
use gabion::repo::{InitOptions, Repository, RepositoryError, Unlock};
use gabion::storage::{LocalStorage, Place, SftpStorage, Ssh, Storage, StorageErrorKind};
use serde::Serialize;

use crate::errors::{Exit, Failure};
use crate::key_sources::{self, NewKey};
use crate::output::{one_json, one_line};
use crate::render::values::short;
use crate::session::Session;
use crate::{machine, process};

/// Make a repository
///
/// The folder must not exist yet, or be empty; the folder that it lies in must exist. It may lie on
/// another machine that is reached by ssh, whose server must be that of OpenSSH. What opens
/// the repository is taken from where other commands take it, else asked for. Without it nothing
/// can ever be read again: keep it in a second place.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES:
  gabion init -r /mnt/backup/gabion
  gabion init -r /mnt/backup/gabion --new-key-file /root/gabion.key
  gabion init -r /srv/gabion --plaintext
  gabion init -r backup@nas:/srv/gabion
  gabion init -r /mnt/backup/gabion --parity 3%
  gabion init -r /mnt/backup/gabion --delta")]
pub(crate) struct Args {
    /// Encrypt nothing: whoever can read the folder can read everything in it
    #[arg(long, conflicts_with_all = ["password_file", "password_command", "key_file", "new_key_file"])]
    plaintext: bool,
    /// Make this key file, which must not exist yet, and let it open the repository
    #[arg(long, value_name = "FILE", conflicts_with_all = ["password_file", "password_command", "key_file"])]
    new_key_file: Option<std::path::PathBuf>,
    /// Spend so many per cent of space on parity, from 0.1% to 25%: damage of up to that share of
    /// a pack can be found and repaired without the key. Versions before this one cannot use such
    /// a repository
    #[arg(long, value_name = "PERCENT", value_parser = parse_parity)]
    parity: Option<u32>,
    /// Store what changed within streams and large files as a difference to what it was: databases
    /// and images that change in many places take a fraction of the space. Versions before this
    /// one cannot use such a repository
    #[arg(long)]
    delta: bool,
    /// Name of the first key slot
    #[arg(long, value_name = "TEXT", default_value = "first")]
    label: String,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Made {
    repository: String,
    place: String,
    encrypted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    parity_per_mille: Option<u32>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    delta: bool,
}

/// Makes the repository.
pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    process::private_files();
    let at = session.place()?;
    let place = at.to_string();
    // Nothing is asked for, and no key file is made, in vain.
    match session.open_storage() {
        Ok(_) => return Err(RepositoryError::AlreadyInitialised(place).into()),
        Err(failure) if at.folder().is_none() && failure.exit() != Exit::NoRepository => {
            return Err(failure);
        }
        Err(_) => {}
    }
    let new_key = NewKey { new_key_file: args.new_key_file.clone(), ..NewKey::default() };
    let unlock = secret(session, args, &new_key, &place)?;
    let encrypted = !matches!(unlock, Unlock::Nothing);
    let options = InitOptions {
        unlock,
        costs: KdfCosts::default(),
        label: args.label.clone(),
        now: machine::now_text(),
        parity_per_mille: args.parity,
        delta: args.delta,
    };
    let made = make(&at, &session.ssh(), &options).inspect_err(|_| new_key.give_up())?;
    let made_it = |failure: Failure| failure.after(format!("repository {} was made", short(made)));
    session.remember_made(made, encrypted)?;
    if session.json() {
        let parity_per_mille = args.parity;
        let (repository, delta) = (made.to_string(), args.delta);
        one_json(&Made { repository, place, encrypted, parity_per_mille, delta })
            .map_err(made_it)?;
    } else if !session.quiet() {
        let how = if encrypted { "encrypted" } else { "not encrypted" };
        let parity = if args.parity.is_some() { ", with parity" } else { "" };
        let delta = if args.delta { ", with deltas" } else { "" };
        one_line(format!("made repository {} at {place} ({how}{parity}{delta})", short(made)))
            .map_err(made_it)?;
    }
    Ok(Exit::Done)
}

/// Makes a repository at `place`.
pub(crate) fn make(
    place: &Place,
    ssh: &Ssh,
    options: &InitOptions,
) -> Result<gabion::id::RepositoryId, Failure> {
    let made: Result<Box<dyn Storage>, _> = match place {
        Place::Folder(path) => LocalStorage::create(path).map(|storage| Box::new(storage) as _),
        Place::Remote(remote) => {
            SftpStorage::create(remote, ssh).map(|storage| Box::new(storage) as _)
        }
    };
    let storage = made.map_err(|error| match error.kind {
        StorageErrorKind::NotFound => Failure::of(Exit::Failed, &error)
            .hint("the folder above it must exist; if it should, is its disk mounted?"),
        _ => error.into(),
    })?;
    Ok(Repository::init(&*storage, &place.to_string(), options)?)
}

fn secret(
    session: &Session,
    args: &Args,
    new_key: &NewKey,
    place: &str,
) -> Result<Unlock, Failure> {
    if new_key.is_given() {
        return new_key.get(&session.console);
    }
    match (args.plaintext, session.key_source()?) {
        (true, None) => Ok(Unlock::Nothing),
        (true, Some(_)) => Err(Failure::usage("--plaintext, but a passphrase or key file is set")
            .hint("unset the GABION_PASSWORD and GABION_KEY_FILE variables, or leave --plaintext")),
        (false, Some(source)) => source.get(&session.console),
        (false, None) => key_sources::ask_new(place, &session.console).map_err(|failure| {
            failure.hint("--plaintext makes a repository that is not encrypted")
        }),
    }
}

/// A percentage as parity shards for every thousand data shards.
fn parse_parity(text: &str) -> Result<u32, String> {
    let bad = || format!("{text:?} is no percentage from 0.1% to 25%");
    let digits = text.strip_suffix('%').unwrap_or(text);
    let (whole, tenths) = digits.split_once('.').unwrap_or((digits, "0"));
    let number = |digits: &str| {
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse::<u32>().ok()).flatten().ok_or_else(bad)
    };
    if tenths.len() != 1 {
        return Err(bad());
    }
    let per_mille = number(whole)?.saturating_mul(10).saturating_add(number(tenths)?);
    if (1..=250).contains(&per_mille) { Ok(per_mille) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_read() {
        let good = [("3%", 30), ("3", 30), ("2.5%", 25), ("0.1%", 1), ("25%", 250), ("25.0", 250)];
        for (text, per_mille) in good {
            assert_eq!(parse_parity(text), Ok(per_mille), "{text}");
        }
        for bad in ["", "%", "0", "0%", "25.1%", "26%", "-3%", "+3%", "3.25%", "3.%", "1e1", "x"] {
            assert!(parse_parity(bad).is_err(), "{bad:?}");
        }
    }
}
