//! `[job.NAME.notify]`: who is told, and when.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::file::{Text, Texts, list};
use super::values::{Wrong, duration, optional_path, text, wrong};

/// How long one notification may take where a job says nothing.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);

/// `[job.NAME.notify]`, with all defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    /// An address that gets a mail through the machine's `sendmail`.
    pub mail: Option<String>,
    /// What gets a JSON object by POST.
    pub webhook: Option<Address>,
    /// What gets a text with a title and a priority by POST, as ntfy takes it.
    pub ntfy: Option<Address>,
    /// What is called when a run begins (`/start`), succeeds, and does not (`/fail`).
    pub ping: Option<Address>,
    /// The file with the value of `Authorization` for webhook and ntfy.
    pub authorization_file: Option<PathBuf>,
    /// When mail, webhook and ntfy are told.
    pub when: When,
    /// How long each may take.
    pub timeout: Duration,
}

impl Default for Notify {
    fn default() -> Self {
        Self {
            mail: None,
            webhook: None,
            ntfy: None,
            ping: None,
            authorization_file: None,
            when: When { failure: true, recovery: true, success: false, weekly: false },
            timeout: DEFAULT_TIMEOUT,
        }
    }
}

/// On which occasions somebody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct When {
    /// After a run that failed or was incomplete, or a drill that failed.
    pub failure: bool,
    /// After the first success behind such a run or drill.
    pub recovery: bool,
    /// After every other success.
    pub success: bool,
    /// Once a week, with a summary.
    pub weekly: bool,
}

/// An address on the network. Who knows it can often use it, so it is not shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Address {
    /// It stands in the configuration.
    Here(String),
    /// It stands in this file.
    InFile(PathBuf),
}

impl std::fmt::Debug for Address {
    /// Without what may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown())
    }
}

impl Address {
    /// The address without its path, or the file that holds it.
    pub fn shown(&self) -> String {
        match self {
            Self::Here(url) => host_of(url).unwrap_or_default(),
            Self::InFile(path) => format!("the address in {}", path.display()),
        }
    }
}

/// Scheme and host of an address that can be called.
pub(in crate::job) fn host_of(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next()?;
    // A name and password before the host are secrets.
    let host = host.rsplit('@').next().filter(|host| !host.is_empty())?;
    let plain = !url.contains(|c: char| c.is_whitespace() || c.is_control());
    (matches!(scheme, "http" | "https") && plain).then(|| format!("{scheme}://{host}"))
}

/// The table as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Written {
    mail: Option<Text>,
    webhook: Option<Text>,
    webhook_file: Option<Text>,
    ntfy: Option<Text>,
    ntfy_file: Option<Text>,
    ping: Option<Text>,
    ping_file: Option<Text>,
    authorization_file: Option<Text>,
    when: Option<Texts>,
    timeout: Option<Text>,
}

/// Checks the table.
pub(super) fn notify(written: Spanned<Written>) -> Result<Notify, Wrong> {
    let whole = Spanned::new(written.span(), ());
    let written = written.into_inner();
    let notify = Notify {
        mail: written.mail.map(mail).transpose()?,
        webhook: address(written.webhook, written.webhook_file, "webhook")?,
        ntfy: address(written.ntfy, written.ntfy_file, "ntfy")?,
        ping: address(written.ping, written.ping_file, "ping")?,
        authorization_file: optional_path(written.authorization_file, "authorization-file")?,
        when: written.when.map_or(Ok(Notify::default().when), when)?,
        timeout: written
            .timeout
            .map_or(Ok(DEFAULT_TIMEOUT), |value| duration(&value, "timeout"))?,
    };
    let Notify { mail, webhook, ntfy, ping, .. } = &notify;
    if mail.is_none() && webhook.is_none() && ntfy.is_none() && ping.is_none() {
        let cure = "give it `mail`, `webhook`, `ntfy` or `ping`, or leave it out";
        return Err(wrong(&whole, "`notify` tells nobody", cure));
    }
    Ok(notify)
}

fn mail(mail: Text) -> Result<String, Wrong> {
    let plain = |c: char| !c.is_whitespace() && !c.is_control();
    if mail.get_ref().starts_with('-') || !mail.get_ref().chars().all(plain) {
        let reason = format!("`mail` is no address: {:?}", mail.get_ref());
        return Err(wrong(&mail, reason, "write one address, such as admin@example.org"));
    }
    text(mail, "mail")
}

fn address(
    here: Option<Text>,
    file: Option<Text>,
    key: &'static str,
) -> Result<Option<Address>, Wrong> {
    match (here, file) {
        (None, file) => Ok(optional_path(file, &format!("{key}-file"))?.map(Address::InFile)),
        (Some(url), None) => match host_of(url.get_ref()) {
            Some(_) => Ok(Some(Address::Here(url.into_inner()))),
            None => {
                let reason = format!("`{key}` is no address that could be called");
                Err(wrong(&url, reason, "begin it with https:// and the name of a host"))
            }
        },
        (Some(url), Some(_)) => {
            let reason = format!("`{key}` and `{key}-file` are both given");
            Err(wrong(&url, reason, "leave one of them"))
        }
    }
}

fn when(written: Texts) -> Result<When, Wrong> {
    let mut when = When { failure: false, recovery: false, success: false, weekly: false };
    for word in list(written) {
        match word.get_ref().as_str() {
            "failure" => when.failure = true,
            "recovery" => when.recovery = true,
            "weekly" => when.weekly = true,
            "always" => (when.failure, when.recovery, when.success) = (true, true, true),
            other => {
                let reason = format!("`when` is {other:?}");
                let cure =
                    "write one or several of \"failure\", \"recovery\", \"always\", \"weekly\"";
                return Err(wrong(&word, reason, cure));
            }
        }
    }
    Ok(when)
}
