//! The calls: a webhook, ntfy, and pings of a watchdog. Addresses are secrets and never part of
//! an error.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use ureq::tls::{RootCerts, TlsConfig};

use super::{Notice, Occasion};
use crate::job::config::{Address, host_of};

/// Longest secret that is read from a file, in bytes.
const MAX_SECRET: u64 = 4096;
/// Longest text that is sent, in letters; services refuse or cut longer ones.
const MAX_TEXT: usize = 4000;

/// What calls addresses.
#[derive(Debug)]
pub struct Agent(ureq::Agent);

impl Agent {
    /// One whose calls take so long at most.
    pub fn new(timeout: Duration, version: &str) -> Self {
        // The machine's own authorities count: those inside of an organisation are there.
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            .tls_config(tls)
            .max_redirects(3)
            .user_agent(format!("gabion/{version}"))
            .build();
        Self(config.into())
    }

    /// Posts the notice as a JSON object.
    ///
    /// # Errors
    /// In words, without the address.
    pub fn webhook(
        &self,
        to: &Address,
        authorization: Option<&Path>,
        notice: &Notice,
    ) -> Result<(), String> {
        let body = serde_json::to_vec(notice).map_err(|error| error.to_string())?;
        let headers = [("Content-Type", "application/json".to_owned())];
        self.post(to, "", authorization, &headers, &body)
    }

    /// Posts the notice as text, with title, priority and tags as ntfy takes them.
    ///
    /// # Errors
    /// In words, without the address.
    pub fn ntfy(
        &self,
        to: &Address,
        authorization: Option<&Path>,
        notice: &Notice,
    ) -> Result<(), String> {
        let (priority, tags) = match notice.occasion {
            Occasion::Failure => ("high", "warning"),
            Occasion::Recovery => ("default", "white_check_mark"),
            Occasion::Success | Occasion::Weekly => ("low", "white_check_mark"),
        };
        let plain = |c: char| if c.is_ascii() && !c.is_ascii_control() { c } else { '?' };
        let headers = [
            ("Title", notice.subject.chars().map(plain).collect()),
            ("Priority", priority.to_owned()),
            ("Tags", tags.to_owned()),
            ("Content-Type", "text/plain; charset=utf-8".to_owned()),
        ];
        self.post(to, "", authorization, &headers, short(&notice.text).as_bytes())
    }

    fn post(
        &self,
        to: &Address,
        ending: &str,
        authorization: Option<&Path>,
        headers: &[(&str, String)],
        body: &[u8],
    ) -> Result<(), String> {
        let url = url(to)?;
        let host = host_of(&url).unwrap_or_default();
        let mut request = self.0.post(with_ending(&url, ending));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        if let Some(file) = authorization {
            request = request.header("Authorization", secret(file)?);
        }
        request.send(body).map(drop).map_err(|error| format!("{host}: {}", in_words(error)))
    }
}

/// Tells a watchdog that a run begins (`ending` is `/start`), succeeded, or did not (`/fail`).
///
/// # Errors
/// In words, without the address.
pub fn ping(agent: &Agent, to: &Address, ending: &str, text: &str) -> Result<(), String> {
    agent.post(to, ending, None, &[], short(text).as_bytes())
}

fn in_words(error: ureq::Error) -> String {
    match error {
        ureq::Error::StatusCode(code) => format!("it answered with status {code}"),
        ureq::Error::Timeout(_) => "it did not answer in time".to_owned(),
        ureq::Error::HostNotFound => "there is no such host".to_owned(),
        ureq::Error::Io(error) => error.to_string(),
        // Others may hold the address.
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => "the address makes no sense".to_owned(),
        error => error.to_string(),
    }
}

/// The address with something behind its path, before what follows a question mark.
fn with_ending(url: &str, ending: &str) -> String {
    match url.split_once('?') {
        Some((path, query)) => format!("{}{ending}?{query}", path.trim_end_matches('/')),
        None if ending.is_empty() => url.to_owned(),
        None => format!("{}{ending}", url.trim_end_matches('/')),
    }
}

fn url(address: &Address) -> Result<String, String> {
    match address {
        Address::Here(url) => Ok(url.clone()),
        Address::InFile(path) => {
            let url = secret(path)?;
            match host_of(&url) {
                Some(_) => Ok(url),
                None => Err(format!("{} holds no address", path.display())),
            }
        }
    }
}

/// The one line of a file that only its owner can read.
fn secret(path: &Path) -> Result<String, String> {
    use std::os::unix::fs::MetadataExt as _;
    let shown = path.display();
    let failed = |error: std::io::Error| format!("cannot read {shown}: {error}");
    let file = std::fs::File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.mode() & 0o077 != 0 {
        return Err(format!("others can read {shown}: `chmod 600` it"));
    }
    let mut text = String::new();
    file.take(MAX_SECRET).read_to_string(&mut text).map_err(failed)?;
    Ok(text.trim().to_owned())
}

fn short(text: &str) -> &str {
    text.char_indices().nth(MAX_TEXT).map_or(text, |(at, _)| &text[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_come_before_questions() {
        for (url, ending, expected) in [
            ("https://h/a", "", "https://h/a"),
            ("https://h/a", "/start", "https://h/a/start"),
            ("https://h/a/", "/fail", "https://h/a/fail"),
            ("https://h/a?k=v", "/fail", "https://h/a/fail?k=v"),
        ] {
            assert_eq!(with_ending(url, ending), expected);
        }
    }

    #[test]
    fn what_is_shown_of_an_address_is_no_secret() {
        let address = Address::Here("https://me:word@example.org/secret?key=secret".to_owned());
        assert_eq!(address.shown(), "https://example.org");
        assert!(!format!("{address:?}").contains("word"));
        for bad in ["ftp://h/", "https://", "http:/h", "https://a b/", "", "h/x"] {
            assert_eq!(host_of(bad), None, "{bad}");
        }
    }
}
