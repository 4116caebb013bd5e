//! Drills: what is restored for real, what must come out, and what is left behind: nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::super::support::Sandbox;
use super::super::support_databases::{Mariadb, Postgres};
use super::{configure, job, with_jobs};

/// A folder that whoever runs the servers can reach, with a short path.
fn scratch() -> tempfile::TempDir {
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(folder.path(), open).unwrap();
    folder
}

fn drill_in<'a>(folder: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["drill", "night", "--folder", folder.to_str().unwrap()];
    args.extend(more);
    args
}

#[track_caller]
fn nothing_is_left(folder: &Path) {
    assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
}

#[test]
fn a_postgresql_database_and_files_are_restored_counted_and_asked() {
    let server = Postgres::start();
    server.sql("postgres", "CREATE ROLE owner");
    server.sql("postgres", "CREATE DATABASE \"my db\"");
    server.sql(
        "my db",
        "CREATE TABLE t (id int PRIMARY KEY, word text); ALTER TABLE t OWNER TO owner; \
         INSERT INTO t SELECT n, E'a\\nb' FROM generate_series(1, 6000) AS n; \
         CREATE SCHEMA \"S p\"; CREATE TABLE \"S p\".\"T\" (x int); CREATE TABLE u () INHERITS (t); \
         INSERT INTO u VALUES (0, 'heir')",
    );
    let table = |more: &str| {
        format!(
            "[job.night]\npaths = [\"TOP/src\"]\n[[job.night.postgresql]]\nhost = \"{}\"\n\
             user = \"postgres\"\ndatabase = \"my db\"\nglobals = true\n{more}",
            server.host().display()
        )
    };
    let sandbox = with_jobs(&table(""));
    job(&sandbox, &["drill", "night"]).run().code(1).says("holds no snapshot of the job night");
    job(&sandbox, &["run", "night"]).run().success();
    let folder = scratch();
    let passed = job(&sandbox, &drill_in(folder.path(), &[])).run().success();
    let text = passed.stdout();
    assert!(text.contains("3 tables, 6 001 rows; compared"), "{text}");
    assert!(text.contains("1 restored and compared") && text.contains("drill passed"), "{text}");
    nothing_is_left(folder.path());
    let status = job(&sandbox, &["status"]).run().success();
    assert!(status.stdout().contains(", drilled "), "{}", status.stdout());

    let queries = "[job.night.drill]\nfiles = \"100%\"\nrequire = [\"TOP/src/file\", \"TOP/src/gone\"]\n\
        [[job.night.drill.sql]]\ndatabase = \"my db\"\nquery = \"SELECT count(*), 7 FROM t\"\n\
        value = \"6001|7\"\n\
        [[job.night.drill.sql]]\ndatabase = \"my db.pgsql\"\nquery = \"SELECT count(*) FROM t\"\n\
        at-least = 9000\n\
        [[job.night.drill.sql]]\ndatabase = \"my db\"\nquery = \"SELECT 1 FROM t WHERE id < 0\"\n\
        [[job.night.drill.sql]]\ndatabase = \"other\"\nquery = \"SELECT 1\"\n";
    configure(&sandbox, &table(queries));
    let failed = job(&sandbox, &drill_in(folder.path(), &["--json"])).run().code(1);
    let line = &failed.json_lines()[0];
    assert_eq!(
        (&line["ok"], &line["streams"][0]["server"].as_str().is_some()),
        (&false.into(), &true)
    );
    assert_eq!(line["queries"][0]["answer"], "6001|7");
    let right: Vec<_> = line["queries"].as_array().unwrap().iter().map(|q| &q["ok"]).collect();
    assert_eq!(right, [&true, &false, &false]);
    assert_eq!((&line["files"]["required"], &line["files"]["restored"]), (&1.into(), &1.into()));
    for said in [
        "which is not 9000 or more",
        "it gives no row",
        "other: the snapshot holds no such database or stream",
        "src/gone is required, but not in the snapshot",
    ] {
        assert!(failed.stdout().contains(said), "{said}: {}", failed.stdout());
    }
    nothing_is_left(folder.path());
    let status = job(&sandbox, &["status"]).run().code(1);
    assert!(status.stdout().contains("its drill failed "), "{}", status.stdout());
}

/// What `pg_dump` would write around this.
fn dump(body: &str) -> String {
    format!(
        "--\n-- PostgreSQL database dump\n--\n\n{body}\n--\n-- PostgreSQL database dump complete\n--\n"
    )
}

/// A job whose only source is a dump, the stream `name`, that `dump.sql` holds.
fn with_dump(name: &str, body: &str, more: &str) -> Sandbox {
    let sandbox = with_jobs(&format!(
        "[job.night]\n[[job.night.command]]\nname = \"{name}\"\ncommand = \"cat TOP/dump.sql\"\n{more}"
    ));
    sandbox.write("dump.sql", dump(body));
    job(&sandbox, &["run", "night"]).run().success();
    sandbox
}

#[test]
fn rows_that_do_not_come_back_and_statements_that_fail_are_problems() {
    // A trigger that fires while the rows come, as no dump of a sane database would have it.
    let sandbox = with_dump(
        "d.pgsql",
        "CREATE TABLE public.t (id integer);\n\
         CREATE FUNCTION public.odd() RETURNS trigger LANGUAGE plpgsql AS\n\
         $$ BEGIN IF NEW.id = 2 THEN RETURN NULL; END IF; RETURN NEW; END $$;\n\
         CREATE TRIGGER odd BEFORE INSERT ON public.t FOR EACH ROW EXECUTE FUNCTION public.odd();\n\
         ALTER TABLE public.t OWNER TO somebody;\n\
         --\n-- Data for Name: t; Type: TABLE DATA\n--\n\n\
         COPY public.t (id) FROM stdin;\n1\n2\n3\n\\.\n\nSELECT no_such_function();\n",
        "",
    );
    let folder = scratch();
    let failed = job(&sandbox, &drill_in(folder.path(), &[])).run().code(1);
    failed.says("d.pgsql: table public.t has 2 rows, its dump 3");
    failed.says("no_such_function");
    assert!(failed.stdout().contains("1 owners, rights or tablespaces"), "{}", failed.stdout());
    assert!(failed.stdout().contains("drill FAILED"), "{}", failed.stdout());
    nothing_is_left(folder.path());
}

/// Whether a process has `text` in its command line.
fn runs(text: &str) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|item| {
        let line = fs::read(item.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(text)
    })
}

#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(300);
    while !holds() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn end(child: &mut std::process::Child, signal: rustix::process::Signal) -> Option<i32> {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).unwrap();
    child.wait().unwrap().code()
}

#[test]
fn a_drill_that_is_ended_leaves_no_server_and_the_next_removes_its_folder() {
    let sandbox = with_dump("ended", "SELECT pg_sleep(3600);", "[job.night.drill]\nfiles = 0\n");
    let folder = scratch();
    let begin = || {
        let mut command = job(&sandbox, &drill_in(folder.path(), &[])).command();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        // The server says in the names of its processes what they do.
        wait_until("the dump is being restored", || runs("gabion_drill ended [local] SELECT"));
        child
    };
    let place = folder.path().to_str().unwrap();
    assert_eq!(end(&mut begin(), rustix::process::Signal::TERM), Some(130));
    nothing_is_left(folder.path());
    assert!(!runs(place));

    assert_eq!(end(&mut begin(), rustix::process::Signal::KILL), None);
    wait_until("the server ends with its drill", || !runs(place));
    let left: PathBuf = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    sandbox.write("dump.sql", dump("SELECT 1;"));
    job(&sandbox, &["run", "night"]).run().success();
    job(&sandbox, &drill_in(folder.path(), &[])).run().success();
    assert!(!left.exists());
    nothing_is_left(folder.path());
}

#[test]
fn a_drill_that_takes_too_long_fails_and_is_remembered() {
    let more = "[job.night.drill]\nfiles = 0\ntime = \"4s\"\nmax-age = \"8d\"\n";
    let sandbox = with_dump("late", "SELECT pg_sleep(3600);", more);
    let status = job(&sandbox, &["status"]).run().code(1);
    assert!(status.stdout().contains(", never drilled"), "{}", status.stdout());
    let folder = scratch();
    let late = job(&sandbox, &drill_in(folder.path(), &[])).run().code(1);
    late.says("it took longer than 4s and was ended");
    nothing_is_left(folder.path());
    let status = job(&sandbox, &["status"]).run().code(1);
    assert!(status.stdout().contains("took longer than 4s"), "{}", status.stdout());
}

#[test]
fn a_mariadb_database_is_restored_with_its_triggers_and_counted() {
    let server = Mariadb::start();
    server.sql(
        "",
        "CREATE DATABASE lab; USE lab; CREATE TABLE t (id INT PRIMARY KEY, word TEXT, n INT); \
         CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET NEW.n = NEW.id * 2; \
         CREATE TABLE g (a INT, b INT AS (a + 1)); INSERT INTO g (a) VALUES (1), (2); \
         INSERT INTO t (id, word) SELECT seq, ');(''\\\\' FROM seq_1_to_5000; CREATE TABLE e (x INT)",
    );
    let jobs = format!(
        "[job.night]\n[[job.night.mariadb]]\nsocket = \"{}\"\nuser = \"root\"\nall = true\n\
         [[job.night.drill.sql]]\ndatabase = \"lab\"\nquery = \"SELECT SUM(n), 1 FROM t\"\n\
         value = \"25005000|1\"\n",
        server.socket().display()
    );
    let sandbox = with_jobs(&jobs);
    job(&sandbox, &["run", "night"]).run().success();
    let folder = scratch();
    let passed = job(&sandbox, &drill_in(folder.path(), &["--json"])).run().success();
    let line = &passed.json_lines()[0];
    let stream = &line["streams"][0];
    assert_eq!((&stream["tables"], &stream["rows"]), (&3.into(), &5002.into()));
    assert_eq!((&stream["compared"], &line["queries"][0]["ok"]), (&3.into(), &true.into()));
    nothing_is_left(folder.path());
}

#[test]
fn sqlite_databases_and_other_streams_are_looked_through() {
    let sandbox = with_jobs(
        "[job.night]\n[[job.night.sqlite]]\npath = \"TOP/app.db\"\n\
         [[job.night.command]]\nname = \"words\"\ncommand = \"echo words\"\n\
         [[job.night.drill.sql]]\ndatabase = \"app.sqlite\"\nquery = \"SELECT sum(x) FROM t\"\n\
         value = 6\n",
    );
    let made = Connection::open(sandbox.path("app.db")).unwrap();
    made.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1), (2), (3)").unwrap();
    drop(made);
    job(&sandbox, &["run", "night"]).run().success();
    let folder = scratch();
    let passed = job(&sandbox, &drill_in(folder.path(), &["--json"])).run().success();
    let line = &passed.json_lines()[0];
    assert_eq!(
        (&line["streams"][0]["rows"], &line["queries"][0]["answer"]),
        (&3.into(), &"6".into())
    );
    assert!(line["streams"][1]["notes"][0].as_str().unwrap().contains("read and verified"));
    // A database that is broken inside, which its bytes alone do not show.
    let made = Connection::open(sandbox.path("app.db")).unwrap();
    made.execute_batch(
        "CREATE INDEX i ON t (x); PRAGMA writable_schema = ON; \
        UPDATE sqlite_schema SET sql = 'CREATE TABLE t (x, y NOT NULL)' WHERE name = 't'",
    )
    .unwrap();
    drop(made);
    job(&sandbox, &["run", "night"]).run().success();
    let failed = job(&sandbox, &drill_in(folder.path(), &[])).run().code(1);
    failed.says("app.sqlite: NULL value in t.y");
    nothing_is_left(folder.path());
}

#[test]
fn damage_in_the_repository_is_told_as_damage() {
    let sandbox = with_jobs("[job.night]\npaths = [\"TOP/src\"]\n");
    sandbox.write("src/file", "x".repeat(100_000));
    job(&sandbox, &["run", "night"]).run().success();
    for pack in super::databases::walk(&sandbox.path("repository/packs")) {
        let mut bytes = fs::read(&pack).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::set_permissions(&pack, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        sandbox.write(&pack, bytes);
    }
    let folder = scratch();
    job(&sandbox, &drill_in(folder.path(), &[])).run().code(13);
    nothing_is_left(folder.path());
    job(&sandbox, &["status"]).run().code(1);
}
