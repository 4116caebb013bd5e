//! Servers for repositories on other machines: OpenSSH's own behind a pipe, and one that stands in
//! front of it and does what a bad server, line or disk does.

use std::path::Path;

use gabion::storage::{Place, RemotePlace, Ssh};
use tempfile::TempDir;

/// Debian's place of the server's program.
pub(crate) const SERVER: &str = "/usr/lib/openssh/sftp-server";

/// Whether the server's program is there; says so if not.
#[expect(clippy::print_stderr, reason = "whoever runs the tests should know")]
pub(crate) fn has_server() -> bool {
    let there = Path::new(SERVER).exists();
    if !there {
        eprintln!("not run: {SERVER} is not there");
    }
    there
}

/// The folder `path` of a server.
pub(crate) fn place(path: &Path) -> RemotePlace {
    match Place::parse(format!("host:{}", path.display()).as_ref()) {
        Ok(Place::Remote(place)) => place,
        other => panic!("{other:?}"),
    }
}

/// A shell command in place of ssh that runs `script`, whatever its arguments.
pub(crate) fn instead_of_ssh(script: &str) -> String {
    format!("sh -c '{script}' --")
}

/// The server itself in place of ssh.
pub(crate) fn pipe() -> Ssh {
    Ssh { command: Some(instead_of_ssh(SERVER)), batch: true, notes: None }
}

/// Passes packets on between a client and a server, and interferes as it is told.
const MEDDLER: &str = r#"
import os, struct, subprocess, sys, threading
server_path, mode, arg = sys.argv[1], sys.argv[2], sys.argv[3]
server = subprocess.Popen([server_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
lock = threading.Lock()
seen = 0

def receive(stream):
    head = stream.read(4)
    return stream.read(struct.unpack(">I", head)[0]) if len(head) == 4 else None

def send(stream, body):
    stream.write(struct.pack(">I", len(body)) + body)
    stream.flush()

def answer(body):
    with lock:
        send(sys.stdout.buffer, body)

def text(body, at):
    length = struct.unpack(">I", body[at:at + 4])[0]
    return body[at + 4:at + 4 + length]

def refuse(request, why=b"meddled"):
    answer(b"\x65" + request[1:5] + struct.pack(">II", 4, len(why)) + why + struct.pack(">I", 0))

def without(body, name):
    kept, at = body[:5], 5
    while at < len(body):
        start, one = at, text(body, at)
        at += 4 + len(one)
        at += 4 + len(text(body, at))
        if one != name:
            kept += body[start:at]
    return kept

def answers():
    while (body := receive(server.stdout)) is not None:
        if mode == "lacks" and body[0] == 2:
            body = without(body, arg.encode())
        if mode == "claims" and body[0] == 104:
            body = body[:5] + struct.pack(">I", int(arg)) + body[9:]
        if mode == "nameless" and body[0] == 105:
            body = body[:5] + struct.pack(">I", 0)
        answer(body)
    os._exit(0)

threading.Thread(target=answers, daemon=True).start()
while (body := receive(sys.stdin.buffer)) is not None:
    kind = body[0]
    if mode == "cut-at-write" and kind == 6:
        seen += 1
        if seen > int(arg):
            # First: whoever waits for answers ends all when the server is gone.
            sys.stderr.write("the line is cut\n")
            sys.stderr.flush()
            server.kill()
            os._exit(1)
    if mode == "cut-at-link" and kind == 200 and text(body, 5) == b"hardlink@openssh.com":
        os._exit(1)
    if mode == "list-fails" and kind == 12:
        seen += 1
        if seen > int(arg):
            refuse(body)
            continue
    if mode == "no-folders" and kind == 3 and os.path.isdir(text(body, 5)):
        refuse(body)
        continue
    if mode == "no-links" and kind == 200 and text(body, 5) == b"hardlink@openssh.com":
        refuse(body)
        continue
    send(server.stdin, body)
server.stdin.close()
server.wait()
os._exit(0)
"#;

/// A server that misbehaves.
pub(crate) struct Meddler(TempDir);

impl Meddler {
    #[expect(clippy::disallowed_methods, reason = "no object of a repository")]
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("meddler.py"), MEDDLER).unwrap();
        Self(folder)
    }

    /// What stands in place of ssh for a server that does this.
    pub(crate) fn command(&self, mode: &str, argument: impl std::fmt::Display) -> String {
        let script = self.0.path().join("meddler.py");
        instead_of_ssh(&format!("exec python3 {} {SERVER} {mode} {argument}", script.display()))
    }

    /// The same for a storage.
    pub(crate) fn ssh(&self, mode: &str, argument: impl std::fmt::Display) -> Ssh {
        Ssh { command: Some(self.command(mode, argument)), batch: true, notes: None }
    }
}
