//! Mail through the machine's own `sendmail`.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Sends `body` to `address`.
pub(crate) fn send(address: &str, subject: &str, body: &str) -> Result<(), String> {
    let known = ["/usr/sbin/sendmail", "/usr/lib/sendmail"];
    let program = known.into_iter().find(|path| Path::new(path).exists()).unwrap_or("sendmail");
    let mut child = Command::new(program)
        .args(["-i", "--", address])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot start {program}: {error}"))?;
    let plain: String = subject.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let message = format!(
        "To: {address}\nSubject: {plain}\nMIME-Version: 1.0\n\
         Content-Type: text/plain; charset=utf-8\nAuto-Submitted: auto-generated\n\n{body}\n"
    );
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(message.as_bytes()).map_err(|error| format!("{program}: {error}"))?;
    }
    match child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{program}: {status}")),
        Err(error) => Err(format!("{program}: {error}")),
    }
}
