//! A closed-off place to run the real program in: own home, own cache, a bare environment.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use tempfile::TempDir;

/// A folder with a home, room for sources, and the place of one repository.
pub(crate) struct Sandbox {
    folder: TempDir,
    /// Whether the key file `key` opens the repository.
    has_key: bool,
}

impl Sandbox {
    /// An empty one.
    pub(crate) fn new() -> Self {
        // In memory where that is possible: hundreds of runs would wait for a disk otherwise.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        fs::create_dir(folder.path().join("home")).unwrap();
        Self { folder, has_key: false }
    }

    /// One with a repository that is not encrypted.
    pub(crate) fn with_repository() -> Self {
        let sandbox = Self::new();
        sandbox.gabion(["init", "--plaintext", "--quiet"]).run().success();
        sandbox
    }

    /// One with an encrypted repository, whose key file every later command is given.
    pub(crate) fn with_encrypted_repository() -> Self {
        let mut sandbox = Self::new();
        sandbox.gabion(["init", "--new-key-file", "key", "--quiet"]).run().success();
        sandbox.use_key();
        sandbox
    }

    /// Every later command is given the key file `key`.
    pub(crate) fn use_key(&mut self) {
        self.has_key = true;
    }

    /// A path in the sandbox.
    pub(crate) fn path(&self, name: impl AsRef<OsStr>) -> PathBuf {
        // The folder of temporary files may be reached by a link; the program shows what is behind.
        self.folder.path().canonicalize().unwrap().join(name.as_ref())
    }

    /// Writes a file, and the folders that it lies in.
    #[expect(clippy::disallowed_methods, reason = "tests lay out sources by hand")]
    pub(crate) fn write(&self, name: impl AsRef<OsStr>, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// The program with these arguments, to be run in the sandbox.
    pub(crate) fn gabion<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Run {
        self.command(OsStr::new(env!("CARGO_BIN_EXE_gabion")), args)
    }

    /// A shell script, in which `$GABION` is the program.
    pub(crate) fn shell(&self, script: &str) -> Run {
        self.command(OsStr::new("sh"), ["-c", script]).env("GABION", env!("CARGO_BIN_EXE_gabion"))
    }

    /// Any program with these arguments, to be run in the sandbox.
    pub(crate) fn program<A: AsRef<OsStr>>(
        &self,
        program: &str,
        args: impl IntoIterator<Item = A>,
    ) -> Run {
        self.command(OsStr::new(program), args)
    }

    fn command<A: AsRef<OsStr>>(&self, program: &OsStr, args: impl IntoIterator<Item = A>) -> Run {
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(self.path(""))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("TZ", "UTC")
            .env("COLUMNS", "100")
            .env("GABION_REPOSITORY", self.path("repository"))
            .env("GABION_CACHE_DIR", self.path("cache"));
        if self.has_key {
            command.env("GABION_KEY_FILE", self.path("key"));
        }
        Run { command, stdin: Vec::new() }
    }
}

/// Gives the calling test a mount namespace of its own, which the programs that it starts share:
/// nothing that is mounted from now on can be busy because of another test, or stays mounted when
/// the test fails or is killed. `false` where this process may not do that.
pub(crate) fn private_mounts() -> bool {
    #[cfg(target_os = "linux")]
    {
        use nix::mount::{MsFlags, mount};
        let none = None::<&str>;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).is_ok()
            && mount(none, "/", none, private, none).is_ok()
    }
    #[cfg(not(target_os = "linux"))]
    false
}

/// A program that is about to run.
pub(crate) struct Run {
    command: Command,
    stdin: Vec<u8>,
}

impl Run {
    /// The command as it stands, to be started by hand.
    pub(crate) fn command(self) -> Command {
        self.command
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn env_remove(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    pub(crate) fn current_dir(mut self, folder: impl AsRef<Path>) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// What the program reads from standard input; nothing otherwise.
    pub(crate) fn stdin(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.stdin = bytes.as_ref().to_vec();
        self
    }

    /// Runs it to its end.
    pub(crate) fn run(mut self) -> Output {
        let stdin = if self.stdin.is_empty() { Stdio::null() } else { Stdio::piped() };
        let command = self.command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        if let Some(mut pipe) = child.stdin.take() {
            // A program that does not read all of it says so in its own way.
            let _ = pipe.write_all(&self.stdin);
        }
        let output = child.wait_with_output().unwrap();
        Output { status: output.status, stdout: output.stdout, stderr: output.stderr }
    }

    /// Runs it on a terminal of its own and types each answer when its question appears. Both
    /// outputs are one then.
    pub(crate) fn run_on_terminal(self, dialogue: &[(&str, &str)]) -> Output {
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        let line: Vec<OsString> = words.map(quoted).collect();
        let mut command = Command::new("script");
        command
            .args(["--quiet", "--return", "--flush", "--command"])
            .arg(line.join(OsStr::new(" ")));
        command.arg("/dev/null").env_clear();
        for (name, value) in self.command.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command.current_dir(self.command.get_current_dir().unwrap());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (mut typed, mut shown) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (mut stdout, mut answered, mut from) = (Vec::new(), 0, 0);
        let mut byte = [0];
        while shown.read(&mut byte).unwrap() > 0 {
            stdout.push(byte[0]);
            let Some((question, answer)) = dialogue.get(answered) else { continue };
            if String::from_utf8_lossy(&stdout[from..]).contains(question) {
                // Typed only when echoing was surely switched off.
                std::thread::sleep(std::time::Duration::from_millis(100));
                typed.write_all(answer.as_bytes()).unwrap();
                (answered, from) = (answered + 1, stdout.len());
            }
        }
        assert_eq!(answered, dialogue.len(), "{}", String::from_utf8_lossy(&stdout));
        Output { status: child.wait().unwrap(), stdout, stderr: Vec::new() }
    }
}

fn quoted(word: &OsStr) -> OsString {
    let text = word.to_str().unwrap().replace('\'', "'\\''");
    OsString::from(format!("'{text}'"))
}

/// What a program did.
#[must_use = "say how it ended: .success() or .code(n)"]
#[derive(Debug)]
pub(crate) struct Output {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Output {
    /// Whether it ended with 0.
    pub(crate) fn ended_well(&self) -> bool {
        self.status.success()
    }

    /// The code that it ended with; nothing when it was killed.
    pub(crate) fn exit_code(&self) -> Option<i32> {
        self.status.code()
    }

    /// What it printed.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    /// What it said about problems and errors.
    pub(crate) fn errors(&self) -> &str {
        std::str::from_utf8(&self.stderr).unwrap()
    }

    /// It ended with 0.
    #[track_caller]
    pub(crate) fn success(self) -> Done {
        self.code(0)
    }

    /// It ended with this code.
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Done {
        assert_eq!(
            self.status.code(),
            Some(code),
            "stdout: {}\nstderr: {}",
            String::from_utf8_lossy(&self.stdout),
            String::from_utf8_lossy(&self.stderr),
        );
        Done(self)
    }
}

/// What a program printed that ended as expected.
#[derive(Debug)]
pub(crate) struct Done(Output);

impl Done {
    pub(crate) fn stdout(&self) -> &str {
        std::str::from_utf8(&self.0.stdout).unwrap()
    }

    pub(crate) fn stdout_bytes(&self) -> &[u8] {
        &self.0.stdout
    }

    pub(crate) fn stderr(&self) -> &str {
        std::str::from_utf8(&self.0.stderr).unwrap()
    }

    /// Nothing was printed at all.
    #[track_caller]
    pub(crate) fn silent(&self) {
        assert_eq!((self.stdout(), self.stderr()), ("", ""));
    }

    /// Standard error holds this text.
    #[track_caller]
    pub(crate) fn says(&self, text: &str) -> &Self {
        assert!(self.stderr().contains(text), "{text:?} is not in {}", self.stderr());
        self
    }

    /// The lines of standard output as JSON.
    #[track_caller]
    pub(crate) fn json_lines(&self) -> Vec<serde_json::Value> {
        self.stdout().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A name that is not UTF-8 and plays with the terminal.
pub(crate) fn odd_name() -> &'static OsStr {
    OsStr::from_bytes(b"odd\x1b[2J\n\xff")
}
