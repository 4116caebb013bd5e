//! Real database servers in temporary folders, reached by a socket only.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// Who runs the servers when the tests run as root, which servers refuse.
const NOBODY: u32 = 65_534;

fn as_nobody(command: &mut Command) {
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
}

fn private_folder() -> TempDir {
    // Sockets need short paths.
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    folder
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// A PostgreSQL server; its superuser is `postgres`, without a password.
pub(crate) struct Postgres {
    folder: TempDir,
    programs: PathBuf,
    /// Where it listens beside its socket, if it does.
    network: Option<u16>,
}

impl Postgres {
    /// The superuser's password, once passwords are required.
    pub(crate) const PASSWORD: &str = "secret-word";

    /// Lets nobody in any more without a password.
    pub(crate) fn require_passwords(&self) {
        let statement = format!("ALTER ROLE postgres PASSWORD '{}'", Self::PASSWORD);
        self.sql("postgres", &statement);
        #[expect(clippy::disallowed_methods, reason = "a server's own configuration")]
        fs::write(
            self.data().join("pg_hba.conf"),
            "local all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\n",
        )
        .unwrap();
        self.control(&["reload"]);
        // The server reads it when it comes to it.
        let anybody = || {
            let mut psql = Command::new(self.programs.join("psql"));
            psql.args(["-Xwq", "-U", "postgres", "-d", "postgres", "-c", "SELECT 1", "-h"]);
            psql.arg(self.host())
                .args(["-p", &self.port().to_string()])
                .env_remove("PGPASSWORD")
                .env("HOME", self.host());
            psql.output().unwrap().status.success()
        };
        while anybody() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Makes a cluster and starts it.
    pub(crate) fn start() -> Self {
        Self::start_at(None)
    }

    /// The same, to be reached at 127.0.0.1, too.
    pub(crate) fn start_with_network() -> Self {
        // Free now; whoever takes it in between makes the start fail, and the test with it.
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        Self::start_at(Some(port))
    }

    fn start_at(network: Option<u16>) -> Self {
        let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is not installed");
        let programs = versions.map(|version| version.unwrap().path().join("bin"));
        let programs = programs.filter(|folder| folder.join("initdb").exists()).max().unwrap();
        let server = Self { folder: private_folder(), programs, network };
        let mut initdb = Command::new(server.programs.join("initdb"));
        initdb.args(["--auth=trust", "--username=postgres", "--no-sync", "--encoding=UTF8"]);
        as_nobody(initdb.arg("--pgdata").arg(server.data()).current_dir(server.folder.path()));
        run(&mut initdb);
        server.up();
        server
    }

    /// Where its files are.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The folder of its socket, which stands for a host.
    pub(crate) fn host(&self) -> &Path {
        self.folder.path()
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.network.unwrap_or(5432)
    }

    fn control(&self, args: &[&str]) {
        let mut control = Command::new(self.programs.join("pg_ctl"));
        control.args(args).arg("-D").arg(self.data()).current_dir(self.folder.path());
        // A server that inherits a pipe would keep it open.
        as_nobody(control.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
        let log = || fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        assert!(control.status().unwrap().success(), "{control:?}: {}", log());
    }

    /// Starts it.
    pub(crate) fn up(&self) {
        let addresses = self.network.map_or("", |_| "127.0.0.1");
        let options = format!(
            "-c listen_addresses='{addresses}' -p {} -c fsync=off -c unix_socket_directories='{}'",
            self.port(),
            self.host().display()
        );
        let log = self.folder.path().join("log");
        self.control(&["-w", "-l", log.to_str().unwrap(), "-o", &options, "start"]);
    }

    /// Stops it.
    pub(crate) fn down(&self) {
        self.control(&["-w", "-m", "immediate", "stop"]);
    }

    /// What a statement gives, bare.
    #[track_caller]
    pub(crate) fn sql(&self, database: &str, statement: &str) -> String {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.env("PGPASSWORD", Self::PASSWORD);
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-h"]);
        psql.arg(self.host()).args(["-p", &self.port().to_string(), "-c", statement]);
        run(&mut psql).trim_end().to_owned()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let mut control = Command::new(self.programs.join("pg_ctl"));
        control.args(["-m", "immediate", "stop", "-D"]).arg(self.data());
        as_nobody(control.current_dir("/").stdout(Stdio::null()).stderr(Stdio::null()));
        let _ = control.status();
    }
}

/// A MariaDB server; its user `root` has no password.
pub(crate) struct Mariadb {
    folder: TempDir,
    server: Option<Child>,
}

impl Mariadb {
    /// Makes a data folder and starts a server.
    pub(crate) fn start() -> Self {
        let folder = private_folder();
        let data = folder.path().join("data");
        let mut install = Command::new("mariadb-install-db");
        install.args(["--no-defaults", "--auth-root-authentication-method=normal"]);
        install.args(["--skip-test-db", "--innodb-flush-log-at-trx-commit=0"]);
        install.arg(format!("--datadir={}", data.display())).current_dir(folder.path());
        as_nobody(&mut install);
        run(&mut install);
        let mut server = Self { server: None, folder };
        server.up();
        server
    }

    /// Starts it.
    pub(crate) fn up(&mut self) {
        let program = if Path::new("/usr/sbin/mariadbd").exists() {
            "/usr/sbin/mariadbd"
        } else {
            "mariadbd"
        };
        let mut server = Command::new(program);
        server.args(["--no-defaults", "--skip-networking", "--innodb-flush-log-at-trx-commit=0"]);
        server.arg(format!("--datadir={}", self.data().display()));
        server.arg(format!("--socket={}", self.socket().display()));
        server.arg(format!("--pid-file={}", self.folder.path().join("pid").display()));
        server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        as_nobody(server.current_dir(self.folder.path()));
        self.server = Some(server.spawn().unwrap());
        for _ in 0..600 {
            if self.client("").args(["-e", "SELECT 1"]).output().unwrap().status.success() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("MariaDB does not answer");
    }

    /// Ends it.
    pub(crate) fn down(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// Where its files are.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn client(&self, database: &str) -> Command {
        let mut client = Command::new("mariadb");
        client.args(["--no-defaults", "--user=root", "--batch", "--skip-column-names"]);
        client.arg(format!("--socket={}", self.socket().display())).arg(database);
        client
    }

    /// What statements give, bare.
    #[track_caller]
    pub(crate) fn sql(&self, database: &str, statements: &str) -> String {
        run(self.client(database).args(["-e", statements])).trim_end().to_owned()
    }

    /// The same for statements that hold what the client would take for commands of its own.
    #[track_caller]
    pub(crate) fn sql_binary(&self, database: &str, statements: &str) -> String {
        let mut client = self.client(database);
        client.arg("--binary-mode").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = client.stderr(Stdio::inherit()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, statements.as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{statements}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }
}

impl Drop for Mariadb {
    fn drop(&mut self) {
        self.down();
    }
}
