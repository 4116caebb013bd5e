//! Mail through the machine's own `sendmail`.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long `sendmail` may take; it usually only puts a mail into a queue.
const PATIENCE: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(20);
/// Longest text of a mail, in letters: less than a pipe takes from a program that does not read.
const MAX_TEXT: usize = 8000;

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
    let body: String = body.chars().take(MAX_TEXT).collect();
    let message = format!(
        "To: {address}\nSubject: {plain}\nMIME-Version: 1.0\n\
         Content-Type: text/plain; charset=utf-8\nAuto-Submitted: auto-generated\n\n{body}\n"
    );
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(message.as_bytes()).map_err(|error| format!("{program}: {error}"))?;
    }
    let until = Instant::now() + PATIENCE;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("{program}: {status}")),
            Ok(None) if Instant::now() < until => std::thread::sleep(TICK),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{program} does not end"));
            }
            Err(error) => return Err(format!("{program}: {error}")),
        }
    }
}
