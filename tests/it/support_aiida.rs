//! AiiDA itself, in an environment that `./test` makes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::support::Sandbox;

/// The interpreter that has AiiDA, if there is one.
pub(crate) fn python() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let python = target.join("aiida/bin/python");
    if python.exists() {
        return Some(python);
    }
    // Past the test harness, which shows nothing of a test that passes.
    let line = format!("skipped: {} is not there; ./test makes it\n", python.display());
    let _ = std::io::stderr().write_all(line.as_bytes());
    None
}

fn script(sandbox: &Sandbox, python: &Path, folder: &str) -> Command {
    let mut command = in_place(sandbox, python, folder);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/aiida/profile.py"));
    command
}

/// What `verdi` says, with the configuration in `folder`; it must succeed.
#[track_caller]
pub(crate) fn verdi(sandbox: &Sandbox, python: &Path, folder: &str, words: &[&str]) -> String {
    // The environment was moved, so its own program is of no use.
    let program = "from aiida.cmdline.commands.cmd_verdi import verdi; verdi()";
    let mut command = in_place(sandbox, python, folder);
    let output = command.args(["-c", program]).args(words).stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "verdi {words:?}: {said}{errors}");
    said
}

/// Lets the script of containers work on one.
#[track_caller]
pub(crate) fn container(sandbox: &Sandbox, python: &Path, words: &[&str]) {
    let mut command = in_place(sandbox, python, "aiida");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/aiida/container.py"));
    let output = command.args(words).stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn in_place(sandbox: &Sandbox, python: &Path, folder: &str) -> Command {
    let mut command = Command::new(python);
    command
        .env("AIIDA_PATH", sandbox.path(folder))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("TMPDIR", sandbox.path("home"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// What is in the profile of the configuration in `folder`, a line for each node.
pub(crate) fn tell(sandbox: &Sandbox, python: &Path, folder: &str) -> Vec<String> {
    let output = script(sandbox, python, folder).arg("tell").stderr(Stdio::piped()).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    sorted(&String::from_utf8(output.stdout).unwrap())
}

fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> =
        text.lines().filter(|line| line.starts_with('{')).map(str::to_owned).collect();
    lines.sort();
    lines
}

/// A process of AiiDA that stores nodes and packs them, over and over.
pub(crate) struct Working {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Working {
    /// Makes a profile with so many nodes, and goes on.
    pub(crate) fn start(
        sandbox: &Sandbox,
        python: &Path,
        nodes: usize,
        backend: &str,
        storage: &serde_json::Value,
    ) -> Self {
        std::fs::create_dir(sandbox.path("aiida")).unwrap();
        let mut command = script(sandbox, python, "aiida");
        command.args(["work", &nodes.to_string(), &storage.to_string(), backend]);
        let log = std::fs::File::options().create(true).append(true).open(sandbox.path("log"));
        let mut child = command.stderr(log.unwrap()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let stdin = child.stdin.take();
        let mut working = Self { child, stdin, stdout };
        working.wait_for("ready", sandbox);
        working
    }

    fn wait_for(&mut self, word: &str, sandbox: &Sandbox) {
        let mut line = String::new();
        while line.trim() != word {
            line.clear();
            let log = || std::fs::read_to_string(sandbox.path("log")).unwrap_or_default();
            assert!(self.stdout.read_line(&mut line).unwrap() > 0, "{}", log());
        }
    }

    /// Waits until it has packed once more.
    pub(crate) fn packed(&mut self, sandbox: &Sandbox) {
        self.wait_for("packed", sandbox);
    }

    /// Ends it, and returns what it has stored.
    pub(crate) fn end(mut self) -> Vec<String> {
        drop(self.stdin.take());
        let mut text = String::new();
        std::io::Read::read_to_string(&mut self.stdout, &mut text).unwrap();
        assert!(self.child.wait().unwrap().success());
        sorted(&text)
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
