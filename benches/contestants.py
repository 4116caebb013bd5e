"""The programs that take part in the race, and how each is asked for the same thing.

Every program gets its own fresh repository, its own empty cache folder and home folder, encrypts,
and runs with its default settings otherwise. All take the same pass phrase from the environment.
"""

import json
import os
import shutil
import subprocess

PASSPHRASE = "correct horse battery staple"
STREAM = "db.sql"


class Contestant:
    """A program with one repository. Every command is returned, not run, so that the race can
    measure it; `restore` and `read_stream` may assume that the newest snapshot is meant."""

    name = program = ""
    cwd = None

    def __init__(self, program, folder):
        self.program = program
        self.folder = folder
        self.repository = os.path.join(folder, "repository")
        self.cache = os.path.join(folder, "cache")
        self.home = os.path.join(folder, "home")
        self.taken = 0
        for path in (self.cache, self.home):
            os.makedirs(path)

    @classmethod
    def installed(cls):
        """The program's path, or None when it is not installed."""
        return shutil.which(cls.name)

    def environment(self):
        kept = {key: os.environ[key] for key in ("PATH", "TMPDIR", "LANG") if key in os.environ}
        return kept | {"HOME": self.home, "XDG_CACHE_HOME": self.cache,
                       "XDG_CONFIG_HOME": self.home} | self.settings()

    def settings(self):
        return {}

    def ask(self, *arguments):
        """Output of a command that is not part of the race."""
        return subprocess.run([self.program, *arguments], env=self.environment(), check=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True).stdout

    def version(self):
        done = subprocess.run([self.program, "--version"], env=self.environment(), check=False,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        return (done.stdout.splitlines() or ["unknown"])[0]

    def prepare(self):
        """What has to be done before `init`, untimed."""

    def init(self):
        raise NotImplementedError

    def snapshot(self, path):
        raise NotImplementedError

    def stream(self):
        """Takes standard input as the entry STREAM."""
        raise NotImplementedError

    def list(self):
        raise NotImplementedError

    def find(self, pattern):
        """Looks for a name in the newest snapshot; None where there is no such command."""

    def diff(self):
        """Compares the newest two snapshots; None where there is no such command."""

    def restore(self, folder):
        raise NotImplementedError

    def restored(self, folder, source):
        """Where `source` is after it was restored into `folder`."""
        return os.path.join(folder, source.lstrip("/"))

    def read_stream(self):
        """Writes the newest STREAM to standard output."""
        raise NotImplementedError

    def prune(self, keep):
        """Forgets all snapshots but the newest `keep` and gives their space back; None where
        there is no such command."""

    def check(self):
        """Verifies the repository with all of its data; None where there is no such command."""
        raise NotImplementedError


class Gabion(Contestant):
    name = "gabion"

    def settings(self):
        return {"GABION_REPOSITORY": self.repository, "GABION_PASSWORD": PASSPHRASE,
                "GABION_CACHE_DIR": self.cache}

    def init(self):
        return [self.program, "init"]

    def snapshot(self, path):
        return [self.program, "snapshot", path]

    def stream(self):
        return [self.program, "snapshot", "--stdin", STREAM]

    def list(self):
        return [self.program, "ls", "latest"]

    def find(self, pattern):
        return [self.program, "find", "--snapshot", "latest", pattern]

    def diff(self):
        return [self.program, "diff", "latest~1", "latest"]

    def restore(self, folder):
        return [self.program, "restore", "latest", "--target", folder]

    def read_stream(self):
        return [self.program, "cat", f"latest:{STREAM}"]

    def prune(self, keep):
        # Forced, since without it a policy that removes most of a history is asked about.
        return [self.program, "prune", "--keep-last", str(keep), "--force"]

    def check(self):
        return [self.program, "check", "--read-data"]


class GabionDelta(Gabion):
    """gabion in a repository that stores differences."""

    name = "gabion-delta"

    def init(self):
        return [self.program, "init", "--delta"]


class Restic(Contestant):
    name = "restic"

    def settings(self):
        return {"RESTIC_REPOSITORY": self.repository, "RESTIC_PASSWORD": PASSPHRASE,
                "RESTIC_CACHE_DIR": self.cache}

    def version(self):
        return self.ask("version").strip()

    def init(self):
        return [self.program, "init"]

    def snapshot(self, path):
        return [self.program, "backup", path]

    def stream(self):
        return [self.program, "backup", "--stdin", "--stdin-filename", STREAM]

    def list(self):
        return [self.program, "ls", "latest"]

    def find(self, pattern):
        return [self.program, "find", "--snapshot", "latest", pattern]

    def diff(self):
        newest = json.loads(self.ask("snapshots", "--json"))[-2:]
        return [self.program, "diff", *(snapshot["id"] for snapshot in newest)]

    def restore(self, folder):
        return [self.program, "restore", "latest", "--target", folder]

    def read_stream(self):
        return [self.program, "dump", "latest", f"/{STREAM}"]

    def prune(self, keep):
        return [self.program, "forget", "--keep-last", str(keep), "--prune"]

    def check(self):
        return [self.program, "check", "--read-data"]


class Rustic(Contestant):
    name = "rustic"

    def settings(self):
        return {"RUSTIC_REPOSITORY": self.repository, "RUSTIC_PASSWORD": PASSPHRASE,
                "RUSTIC_CACHE_DIR": self.cache, "RUSTIC_NO_PROGRESS": "true"}

    def init(self):
        return [self.program, "init"]

    def snapshot(self, path):
        return [self.program, "backup", path]

    def stream(self):
        return [self.program, "backup", "--stdin-filename", STREAM, "-"]

    def list(self):
        return [self.program, "ls", "latest"]

    def restore(self, folder):
        return [self.program, "restore", "latest", folder]

    def read_stream(self):
        return [self.program, "dump", f"latest:/{STREAM}"]

    def prune(self, keep):
        return [self.program, "forget", "--keep-last", str(keep), "--prune", "--instant-delete"]

    def check(self):
        return [self.program, "check", "--read-data"]


class Borg(Contestant):
    """borg as it comes: it compresses with lz4."""

    name = "borg"
    options = ()

    def settings(self):
        return {"BORG_REPO": self.repository, "BORG_PASSPHRASE": PASSPHRASE,
                "BORG_BASE_DIR": self.home, "BORG_CACHE_DIR": self.cache,
                "BORG_EXIT_CODES": "legacy"}

    def init(self):
        return [self.program, "init", "--encryption", "repokey-blake2"]

    def snapshot(self, path):
        self.taken += 1
        return [self.program, "create", *self.options, f"::{self.taken}", path]

    def stream(self):
        self.taken += 1
        return [self.program, "create", *self.options, "--stdin-name", STREAM,
                f"::{self.taken}", "-"]

    def list(self):
        return [self.program, "list", f"::{self.taken}"]

    def find(self, pattern):
        return [self.program, "list", f"::{self.taken}", f"sh:**/{pattern}"]

    def diff(self):
        return [self.program, "diff", f"::{self.taken - 1}", str(self.taken)]

    def restore(self, folder):
        self.cwd = folder
        return [self.program, "extract", f"::{self.taken}"]

    def read_stream(self):
        return [self.program, "extract", "--stdout", f"::{self.taken}", STREAM]

    def prune(self, keep):
        both = '"$1" prune --keep-last "$2" && "$1" compact'
        return ["sh", "-c", both, "sh", self.program, str(keep)]

    def check(self):
        return [self.program, "check", "--verify-data"]


class BorgZstd(Borg):
    """borg with the compression that the others have by default."""

    name = "borg-zstd"
    options = ("--compression", "zstd,3")

    @classmethod
    def installed(cls):
        return Borg.installed()


class Kopia(Contestant):
    """kopia as it comes: it does not compress."""

    name = "kopia"
    source = f"/{STREAM}"

    def settings(self):
        return {"KOPIA_PASSWORD": PASSPHRASE, "KOPIA_CACHE_DIRECTORY": self.cache,
                "KOPIA_CONFIG_PATH": os.path.join(self.home, "repository.config"),
                "KOPIA_LOG_DIR": os.path.join(self.home, "logs"), "KOPIA_CHECK_FOR_UPDATES": "false"}

    def init(self):
        return [self.program, "repository", "create", "filesystem", f"--path={self.repository}"]

    def snapshot(self, path):
        self.source = path
        return [self.program, "snapshot", "create", path]

    def stream(self):
        self.source = os.path.join(self.home, "stream")
        os.makedirs(self.source, exist_ok=True)
        return [self.program, "snapshot", "create", f"--stdin-file={STREAM}", self.source]

    def root(self):
        newest = json.loads(self.ask("snapshot", "list", "--json", self.source))[-1]
        return newest["rootEntry"]["obj"]

    def list(self):
        return [self.program, "ls", "-l", "-r", self.root()]

    def restore(self, folder):
        return [self.program, "snapshot", "restore", self.root(), folder]

    def restored(self, folder, source):
        return folder

    def read_stream(self):
        return [self.program, "show", f"{self.root()}/{STREAM}"]

    def check(self):
        return [self.program, "snapshot", "verify", "--verify-files-percent=100"]


class Bupstash(Contestant):
    name = "bupstash"

    def settings(self):
        return {"BUPSTASH_REPOSITORY": self.repository,
                "BUPSTASH_KEY": os.path.join(self.home, "key")}

    def prepare(self):
        self.ask("new-key", "-o", os.path.join(self.home, "key"))

    def init(self):
        return [self.program, "init"]

    def snapshot(self, path):
        self.taken += 1
        return [self.program, "put", "--quiet", f"name={self.taken}", path]

    def stream(self):
        return self.snapshot("-")

    def list(self):
        return [self.program, "list-contents", "--quiet", f"name={self.taken}"]

    def restore(self, folder):
        return [self.program, "restore", "--quiet", "--into", folder, f"name={self.taken}"]

    def restored(self, folder, source):
        return folder

    def read_stream(self):
        return [self.program, "get", "--quiet", f"name={self.taken}"]

    def check(self):
        return None


ALL = (Gabion, GabionDelta, Restic, Rustic, Borg, BorgZstd, Kopia, Bupstash)
