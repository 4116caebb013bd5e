//! Jobs with the real servers: dump, failure, restore.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rusqlite::Connection;

use super::super::support::{Run, Sandbox};
use super::super::support_databases::{Mariadb, Postgres};
use super::{configure, job, snapshots, with_jobs};

fn postgresql_job(server: &Postgres, more: &str) -> String {
    let host = server.host().display();
    format!(
        "[job.night]\npaths = [\"TOP/src\"]\n[[job.night.postgresql]]\nhost = \"{host}\"\n\
         user = \"postgres\"\n{more}\n"
    )
}

fn with_server(run: Run, server: &Postgres) -> Run {
    run.env("PGHOST", server.host()).env("PGUSER", "postgres")
}

const FILL: &str = "CREATE TABLE t (id int PRIMARY KEY, word text); \
    INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 60000) AS n; \
    CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql AS 'SELECT 2 * $1'";
const SUM: &str = "SELECT count(*), md5(string_agg(id || word, ',' ORDER BY id)) FROM t";

#[test]
fn postgresql_comes_back_as_it_was_and_failed_nights_destroy_nothing() {
    let server = Postgres::start();
    server.sql("postgres", "CREATE DATABASE \"my db\"");
    server.sql("my db", FILL);
    server.sql("postgres", "CREATE ROLE reader");
    let sandbox = with_jobs(&postgresql_job(&server, "all = true\nglobals = true"));
    job(&sandbox, &["run", "night"]).run().success();
    let first = snapshots(&sandbox).remove(0);
    let names: Vec<&str> =
        first["streams"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["my db.pgsql", "postgres.pgsql", "postgresql-globals.pgsql"]);
    let stream = &first["streams"][0];
    assert_eq!(stream["format"], "pg_dump");
    assert_eq!(stream["origin"]["database"], "my db");
    assert!(stream["origin"]["tool"].as_str().unwrap().starts_with("pg_dump (PostgreSQL) "));
    assert!(stream["origin"]["server"].as_str().unwrap().starts_with("PostgreSQL "));
    let globals = sandbox.gabion(["cat", "latest:postgresql-globals.pgsql"]).run().success();
    assert!(globals.stdout().contains("CREATE ROLE reader;"));

    let expected = server.sql("my db", SUM);
    server.sql("postgres", "CREATE DATABASE back TEMPLATE template0");
    let restore = ["restore", "latest", "--database", "my db", "--into-postgresql", "back"];
    let both = restore.iter().chain(&["--target", "new"]);
    let done = with_server(sandbox.gabion(both), &server).run().success();
    assert!(done.stdout().contains("every byte verified\nnext: "), "{}", done.stdout());
    assert!(done.stdout().contains("next: stop the program and move new/"), "{}", done.stdout());
    // The files of the same snapshot, without the dump that is in the database now.
    let file = sandbox.path("new").join(sandbox.path("src/file").strip_prefix("/").unwrap());
    assert_eq!(fs::read_to_string(file).unwrap(), "content");
    assert!(sandbox.path("new/postgres.pgsql").exists());
    assert!(!sandbox.path("new/my db.pgsql").exists());
    assert_eq!(server.sql("back", SUM), expected);
    assert_eq!(server.sql("back", "SELECT twice(21)"), "42");
    let again = restore.iter().chain(&["--target", "again"]);
    let again = with_server(sandbox.gabion(again), &server).run().code(1);
    again.says("the database back is not empty");
    assert!(!sandbox.path("again").exists(), "it was refused before files were restored");
    assert_eq!(server.sql("back", SUM), expected);

    server.down();
    for _ in 0..2 {
        let night = job(&sandbox, &["run", "night"]).run().code(12);
        night.says("gabion: stream postgresql: ").says("  | ");
    }
    configure(&sandbox, &postgresql_job(&server, "database = \"my db\""));
    let night = job(&sandbox, &["run", "night"]).run().code(12);
    night.says("gabion: stream my db.pgsql: its command ended with exit status 1");
    assert_eq!(snapshots(&sandbox).len(), 1);
    let status = job(&sandbox, &["status"]).run().code(1);
    assert!(status.stdout().contains("night failed "), "{}", status.stdout());
    server.up();
    job(&sandbox, &["run", "night"]).run().success();
    job(&sandbox, &["status"]).run().success();
}

#[test]
fn the_second_day_stores_little() {
    let server = Postgres::start();
    server.sql("postgres", FILL);
    let sandbox = with_jobs(&postgresql_job(&server, "database = \"postgres\""));
    let run = || {
        job(&sandbox, &["run", "night"]).run().success();
        let json = snapshots(&sandbox).pop().unwrap();
        let number = |name: &str| json["counts"][name].as_u64().unwrap();
        (number("bytes"), number("new-bytes"), number("stored-bytes"))
    };
    let (bytes, new, _) = run();
    assert!(new > bytes / 2, "{new} of {bytes}");
    // An unchanged database gives the same dump, so nothing of it is stored.
    let (_, same, _) = run();
    assert_eq!(same, 0);
    // A hundredth of the rows, all at one place, as new rows are.
    server.sql("postgres", "UPDATE t SET word = md5(word) WHERE id > 59400");
    let (bytes, new, stored) = run();
    // PostgreSQL writes changed rows at the end: so much is truly new, once as new and once as gone.
    let limit = bytes / 100 * 3 / 2 + 64_000;
    assert!(new > 0 && new < limit && stored < limit, "{new} and {stored} of {bytes}");
}

/// Bytes of all files of the repository.
fn stored(sandbox: &Sandbox) -> u64 {
    let files = walk(&sandbox.path("repository"));
    files.iter().map(|file| fs::metadata(file).unwrap().len()).sum()
}

/// What is really new in a dump: the lines that the one before it does not have, compressed by
/// themselves as the repository compresses. That is less than can be stored, since a line is of no
/// use without its place.
fn really_new(sandbox: &Sandbox, before: &str, after: &str) -> u64 {
    let known: std::collections::HashSet<&str> = before.lines().collect();
    let new = after.lines().filter(|line| !known.contains(line));
    let text: String = new.map(|line| format!("{line}\n")).collect();
    sandbox.write("new.txt", text);
    sandbox.shell("zstd -q -1 -f new.txt -o new.zst").run().success();
    fs::metadata(sandbox.path("new.zst")).unwrap().len()
}

/// A table as AiiDA's: most of a row is random or near to that.
const NODES: &str = "CREATE TABLE node (id int PRIMARY KEY, uuid uuid, ctime timestamptz, \
    attributes jsonb); CREATE INDEX ON node (uuid); CREATE TABLE link (a int, b int, label text);";

fn add_nodes(server: &Postgres, from: u32, to: u32) {
    server.sql(
        "postgres",
        &format!(
            "INSERT INTO node SELECT n, gen_random_uuid(), now() + n * interval '1 s', \
             jsonb_build_object('energy', random(), 'hash', md5(random()::text), 'step', n, \
             'cell', json_build_array(random(), random(), random())) \
             FROM generate_series({from}, {to}) AS n; \
             INSERT INTO link SELECT n, n - 1, 'out_' || n % 7 FROM generate_series({from}, {to}) AS n"
        ),
    );
}

#[test]
fn a_day_stores_hardly_more_than_is_really_new() {
    let server = Postgres::start();
    server.sql("postgres", NODES);
    add_nodes(&server, 1, 40_000);
    let sandbox = with_jobs(&postgresql_job(&server, "database = \"postgres\""));
    let dump = || {
        job(&sandbox, &["run", "night"]).run().success();
        let dump = sandbox.gabion(["cat", "latest:postgres.pgsql"]).run().success();
        dump.stdout().to_owned()
    };
    let mut yesterday = dump();
    for day in 0..3 {
        let from = 40_001 + day * 1500;
        add_nodes(&server, from, from + 1499);
        let before = stored(&sandbox);
        let today = dump();
        // All that the repository grew by: records, index and pages, too.
        let grown = stored(&sandbox) - before;
        let new = really_new(&sandbox, &yesterday, &today);
        assert!(new > 100_000 && grown <= new * 3 / 2, "day {day}: {grown} for {new}");
        yesterday = today;
    }
}

#[test]
fn a_data_folder_that_was_moved_is_compared_at_every_level() {
    let server = Postgres::start();
    server.sql("postgres", FILL);
    server.down();
    let sandbox = Sandbox::with_repository();
    let (old, new) =
        (server.data().display().to_string(), sandbox.path("new").display().to_string());
    // The certificate of the machine: root's, behind a link that belongs to the server's user.
    sandbox.write("key.pem", "a key");
    let link = format!(
        "ln -s $PWD/key.pem {old}/server.key && chown -h --reference={old} {old}/server.key"
    );
    sandbox.shell(&link).run().success();
    sandbox.gabion(["snapshot", &old]).run().success();
    sandbox.shell(&format!("cp -a {old} {new}")).run().success();
    let diff = |code| sandbox.gabion(["diff", &format!("latest:{old}"), &new]).run().code(code);
    assert_eq!(diff(0).stdout(), "0 added, 0 removed, 0 changed; +0 B, -0 B\n");
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // Each of these keeps the server from starting, or would on another day.
    for (spoil, mend, line) in [
        ("chmod 755 new", "chmod 700 new", "(mode)"),
        ("chown 0 new", "chown --reference=new/base new", "(owner)"),
        ("chown 0 new/global/pg_control", "chown --reference=new new/global/pg_control", "(owner)"),
        ("chgrp 0 new/base/1/1259", "chgrp --reference=new new/base/1/1259", "(owner)"),
        ("chown -h 0 new/server.key", "chown -h --reference=new new/server.key", "(owner)"),
    ] {
        sandbox.shell(spoil).run().success();
        let found = diff(4).stdout().to_owned();
        let changed: Vec<&str> = found.lines().filter(|l| l.starts_with("M ")).collect();
        assert_eq!(changed.len(), 1, "{spoil}: {found}");
        assert!(changed[0].ends_with(line), "{spoil}: {found}");
        sandbox.shell(mend).run().success();
    }
    sandbox
        .shell("printf x | dd of=new/global/pg_control conv=notrunc status=none")
        .run()
        .success();
    assert!(diff(4).stdout().contains("pg_control  (content"), "{}", diff(4).stdout());
    server.up();
}

#[test]
fn mariadb_comes_back_with_routines_and_triggers() {
    let mut server = Mariadb::start();
    server.sql(
        "",
        "CREATE DATABASE lab; USE lab; CREATE TABLE t (id INT PRIMARY KEY, b BLOB, n INT); \
         CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET NEW.n = NEW.id * 2; \
         CREATE FUNCTION f(x INT) RETURNS INT DETERMINISTIC RETURN x + 1; \
         CREATE PROCEDURE p() SELECT 1; \
         CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO DELETE FROM t WHERE id < 0; \
         INSERT INTO t (id, b) SELECT seq, UNHEX(SHA2(seq, 256)) FROM seq_1_to_5000; \
         CREATE USER 'dump'@'localhost' IDENTIFIED BY 'secret-word'; \
         GRANT ALL ON *.* TO 'dump'@'localhost'",
    );
    let socket = server.socket();
    let table = |which: &str| {
        format!(
            "[job.night]\n[[job.night.mysql]]\nsocket = \"{}\"\n\
             defaults-file = \"TOP/my.cnf\"\n{which}\n",
            socket.display()
        )
    };
    let sandbox = with_jobs(&table("all = true"));
    let options = sandbox.write("my.cnf", "[client]\nuser=dump\npassword=secret-word\n");
    fs::set_permissions(&options, fs::Permissions::from_mode(0o644)).unwrap();
    job(&sandbox, &["run", "night"]).run().code(12).says("others can read ");
    fs::set_permissions(&options, fs::Permissions::from_mode(0o600)).unwrap();
    job(&sandbox, &["run", "night"]).run().success();
    let taken = snapshots(&sandbox).remove(0);
    assert_eq!(taken["streams"].as_array().unwrap().len(), 1);
    assert_eq!(taken["streams"][0]["name"], "lab.mysql");
    assert_eq!(taken["streams"][0]["format"], "mariadb-dump");
    assert!(!taken.to_string().contains("secret-word"));
    let state = fs::read_to_string(sandbox.path("home/.local/state/gabion/night.json")).unwrap();
    assert!(!state.contains("secret-word"));
    configure(&sandbox, &table("database = \"lab\""));
    job(&sandbox, &["run", "night"]).run().success();
    assert_eq!(snapshots(&sandbox)[1]["counts"]["new-bytes"], 0);

    server.sql("", "CREATE DATABASE back");
    sandbox.write("my.cnf", format!("[client]\nuser=root\nsocket={}\n", socket.display()));
    let into = ["restore", "latest", "--database", "lab", "--into-mariadb", "back"];
    let with = |into: [&str; 6]| {
        sandbox.gabion(into.into_iter().chain(["--mariadb-defaults", "my.cnf"])).run()
    };
    let done = with(into).success();
    assert!(done.stdout().contains("next: give the program's user its rights on back"));
    with(into).code(1).says("the database back is not empty");
    let mut other = into;
    other[5] = "no such database";
    with(other).code(12).says("no such database");
    other[4] = "--into-postgresql";
    sandbox.gabion(other).run().code(2).says("is a dump of mariadb").says("--into-mariadb");
    sandbox.write("my.cnf", "[client]\nuser=dump\npassword=secret-word\n");
    let sum = "SELECT COUNT(*), SUM(n), MD5(GROUP_CONCAT(id, HEX(b))) FROM t";
    assert_eq!(server.sql("back", sum), server.sql("lab", sum));
    assert_eq!(server.sql("back", "SELECT f(41)"), "42");
    let kinds = "SELECT (SELECT COUNT(*) FROM information_schema.routines \
         WHERE routine_schema = 'back'), (SELECT COUNT(*) FROM information_schema.triggers \
         WHERE trigger_schema = 'back'), (SELECT COUNT(*) FROM information_schema.events \
         WHERE event_schema = 'back')";
    assert_eq!(server.sql("", kinds), "2\t1\t1");

    let data = server.data();
    let raw = sandbox.gabion(["snapshot", data.to_str().unwrap()]).run().code(1);
    raw.says("holds the files of a MariaDB server").says("--allow-live-database");
    two_nights_without_it_cost_nothing(&sandbox, &mut server);
}

fn two_nights_without_it_cost_nothing(sandbox: &Sandbox, server: &mut Mariadb) {
    let before = snapshots(sandbox).len();
    server.down();
    for _ in 0..2 {
        job(sandbox, &["run", "night"]).run().code(12).says("stream lab.mysql: ");
    }
    assert_eq!(snapshots(sandbox).len(), before);
    job(sandbox, &["status"]).run().code(1);
    server.up();
    job(sandbox, &["run", "night"]).run().success();
    assert_eq!(snapshots(sandbox).len(), before + 1);
    job(sandbox, &["status"]).run().success();
}

#[test]
fn programs_of_mysql_itself_are_given_what_they_need() {
    // Not the real ones, which Debian does not have: what is looked at is what they are told.
    let sandbox =
        with_jobs("[job.night]\n[[job.night.mysql]]\ndatabase = \"d\"\nprograms = \"TOP/bin\"\n");
    let top = sandbox.path("").display().to_string().trim_end_matches('/').to_owned();
    let program = |name: &str, version: &str| {
        let text = format!(
            "#!/bin/sh\ncase $1 in --version) echo '{name}  {version}'; exit;; esac\n\
             echo \"$@\" >{top}/{name}.args\n\
             [ {name} = mysqldump ] || exit 0\n\
             echo '-- MySQL dump 10.13'; echo '-- Dump completed'\n"
        );
        let program = sandbox.write(format!("bin/{name}"), text);
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let options = " --no-tablespaces --set-gtid-purged=OFF";
    for (version, more) in [
        ("Ver 8.0.36 for Linux on x86_64 (MySQL Community Server - GPL)", options),
        ("Ver 9.7.4-2 for Linux on x86_64 ((Debian))", options),
        ("Ver 10.19 Distrib 10.5.23-MariaDB, for debian-linux-gnu (x86_64)", ""),
    ] {
        program("mysqldump", version);
        program("mysql", version);
        job(&sandbox, &["run", "night"]).run().success();
        let args = fs::read_to_string(sandbox.path("mysqldump.args")).unwrap();
        let expected = format!(
            "--single-transaction --routines --triggers --events --hex-blob --skip-dump-date \
             --default-character-set=utf8mb4 --set-charset --comments --create-options \
             --quote-names --tz-utc{more} -- d\n"
        );
        assert!(args.ends_with(&expected), "{args}");
    }
    assert_eq!(snapshots(&sandbox)[0]["streams"][0]["format"], "mysqldump");
}

#[test]
fn raw_files_of_a_running_server_are_refused() {
    let server = Postgres::start();
    let sandbox = Sandbox::with_repository();
    let (data, above) = (server.data(), server.host());
    for place in [&*data, above] {
        let refused = sandbox.gabion(["snapshot", place.to_str().unwrap()]).run().code(1);
        refused.says("data holds the files of a running PostgreSQL server");
    }
    assert!(snapshots(&sandbox).is_empty());
    let excluded = ["snapshot", above.to_str().unwrap(), "--exclude", "/data"];
    sandbox.gabion(excluded).run().success();
    let allowed = ["snapshot", data.to_str().unwrap(), "--allow-live-database"];
    // Files of a running server may change while they are read, which would be said.
    let _ = sandbox.gabion(allowed).run();
    assert_eq!(snapshots(&sandbox).len(), 2);
}

#[test]
fn an_sqlite_database_with_an_open_writer_is_taken_by_its_backup_interface() {
    let sandbox = with_jobs("[job.night]\npaths = [\"TOP/src\"]\n");
    let path = sandbox.path("src/app.db");
    let writer = Connection::open(&path).unwrap();
    writer
        .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t VALUES (1)")
        .unwrap();
    let refused = job(&sandbox, &["run", "night"]).run().code(1);
    refused.says("an SQLite database that is in use");
    configure(
        &sandbox,
        "[job.night]\npaths = [\"TOP/src\"]\n[[job.night.sqlite]]\npath = \"TOP/src/app.db\"\n",
    );
    writer.execute_batch("BEGIN; INSERT INTO t VALUES (2)").unwrap();
    job(&sandbox, &["run", "night"]).run().success();
    let list = sandbox.gabion(["ls", "latest"]).run().success();
    assert!(list.stdout().contains("app.sqlite\n") && list.stdout().contains("/file\n"));
    assert!(!list.stdout().contains("app.db"), "{}", list.stdout());
    let into = ["restore", "latest", "--database", "app.sqlite", "--into-sqlite", "back.db"];
    sandbox.gabion(into).run().success();
    assert_eq!(fs::metadata(sandbox.path("back.db")).unwrap().permissions().mode() & 0o777, 0o600);
    sandbox.gabion(into).run().code(1).says("is not empty");
    let back = Connection::open(sandbox.path("back.db")).unwrap();
    let sum: i64 = back.query_row("SELECT sum(x) FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(sum, 1);
    assert_eq!(
        fs::read_dir(sandbox.path("home/.local/state/gabion/night.work")).unwrap().count(),
        0
    );
    sandbox.write("src/broken.db", "this is no database");
    configure(&sandbox, "[job.night]\n[[job.night.sqlite]]\npath = \"TOP/src/broken.db\"\n");
    job(&sandbox, &["run", "night"]).run().code(12).says("stream broken.sqlite: ");
    assert_eq!(snapshots(&sandbox).len(), 1);
}

#[test]
fn a_dump_that_is_cut_or_killed_or_cannot_be_made_commits_nothing() {
    let table = "[job.night]\n[[job.night.postgresql]]\ndatabase = \"d\"\nprograms = \"TOP/bin\"\n";
    let sandbox = with_jobs(table);
    let missing = job(&sandbox, &["run", "night"]).run().code(12);
    missing.says("cannot start ").says("/bin/pg_dump: ");
    let begin = "case $1 in --version|--help) echo fake; exit;; esac\n\
                 echo '-- PostgreSQL database dump'; echo x";
    for (end, said) in [
        ("exit 0", "it is not complete"),
        ("kill -9 $$", "was ended by signal 9"),
        ("echo out of luck >&2; exit 1", "out of luck"),
    ] {
        let program = sandbox.write("bin/pg_dump", format!("#!/bin/sh\n{begin}\n{end}\n"));
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        job(&sandbox, &["run", "night"]).run().code(12).says(said);
    }
    assert!(snapshots(&sandbox).is_empty());
}

#[test]
fn a_real_dump_that_is_killed_half_way_is_no_snapshot() {
    let server = Postgres::start();
    server.sql("postgres", FILL);
    let table = postgresql_job(&server, "database = \"postgres\"\nprograms = \"TOP/bin\"");
    let sandbox = with_jobs(&table);
    // The real program, whose output and life end in the middle of the rows.
    let begin = "#!/bin/sh\ncase $1 in --version|--help) exec pg_dump \"$@\";; esac\n";
    let wrapper = |name: &str, text: &str| {
        let program = sandbox.write(name, text);
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    };
    wrapper("bin/psql", "#!/bin/sh\nexec psql \"$@\"\n");
    wrapper("bin/pg_dump", &format!("{begin}exec pg_dump \"$@\"\n"));
    job(&sandbox, &["run", "night"]).run().success();
    wrapper("bin/pg_dump", &format!("{begin}pg_dump \"$@\" | head -c 700000\nkill -9 $$\n"));
    job(&sandbox, &["run", "night"]).run().code(12).says("was ended by signal 9");
    wrapper("bin/pg_dump", &format!("{begin}pg_dump \"$@\" | head -c 700000\n"));
    job(&sandbox, &["run", "night"]).run().code(12).says("it is not complete");
    assert_eq!(snapshots(&sandbox).len(), 1);
    wrapper("bin/pg_dump", &format!("{begin}exec pg_dump \"$@\"\n"));
    job(&sandbox, &["run", "night"]).run().success();
    sandbox.gabion(["check", "--read-data"]).run().success();
}

#[test]
fn a_restore_that_is_killed_leaves_the_database_empty() {
    let server = Postgres::start();
    server.sql("postgres", "CREATE DATABASE back TEMPLATE template0");
    let sandbox = Sandbox::with_repository();
    // Longer than a pipe: while the server sleeps, the restore waits with the rest in its hands.
    let rows = "INSERT INTO t VALUES (1);\n".repeat(20_000);
    let dump = format!(
        "-- PostgreSQL database dump\nCREATE TABLE t (x int);\n\
         SELECT pg_sleep(1);\n{rows}-- PostgreSQL database dump complete\n"
    );
    sandbox.gabion(["snapshot", "--stdin", "d.pgsql"]).stdin(dump).run().success();
    let into = ["restore", "latest", "--database", "d.pgsql", "--into-postgresql", "back"];
    let mut restore = with_server(sandbox.gabion(into), &server).command().spawn().unwrap();
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'back'";
    let sleeps = format!("{others} AND wait_event = 'PgSleep'");
    let pause = || std::thread::sleep(std::time::Duration::from_millis(20));
    while server.sql("postgres", &sleeps) == "0" {
        assert!(restore.try_wait().unwrap().is_none(), "it ended before it was killed");
        pause();
    }
    restore.kill().unwrap();
    restore.wait().unwrap();
    while server.sql("postgres", others) != "0" {
        pause();
    }
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(server.sql("back", tables), "0");
    with_server(sandbox.gabion(into), &server).run().success();
    assert_eq!(server.sql("back", "SELECT count(*) FROM t"), "20000");
}

#[test]
fn a_restore_with_large_objects_is_all_or_nothing() {
    let server = Postgres::start();
    server.sql("postgres", "CREATE DATABASE lob");
    server.sql(
        "lob",
        "CREATE TABLE t (id int PRIMARY KEY, o oid); CREATE TABLE u (v text); CREATE INDEX ON u (v); \
         INSERT INTO t SELECT i, lo_from_bytea(0, convert_to('object ' || i, 'UTF8')) \
         FROM generate_series(1, 50) AS i",
    );
    server.sql("postgres", "CREATE DATABASE back TEMPLATE template0");
    let sandbox = with_jobs(&postgresql_job(&server, "database = \"lob\""));
    job(&sandbox, &["run", "night"]).run().success();
    let dump = sandbox.gabion(["cat", "latest:lob.pgsql"]).run().success();
    let at = |text: &str| dump.stdout().find(text).unwrap();
    assert!(at("\nCOMMIT;\n") < at("\nCREATE INDEX "), "the dump ends a transaction before that");
    let into = ["restore", "latest", "--database", "lob", "--into-postgresql", "back"];
    let left = "SELECT (SELECT count(*) FROM pg_class WHERE relname IN ('t', 'u')) + \
                (SELECT count(*) FROM pg_largeobject_metadata)";
    // An error after the objects.
    server.sql(
        "back",
        "CREATE FUNCTION no() RETURNS event_trigger LANGUAGE plpgsql \
         AS $$ BEGIN RAISE EXCEPTION 'the disk is full'; END $$; CREATE EVENT TRIGGER no \
         ON ddl_command_start WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION no()",
    );
    with_server(sandbox.gabion(into), &server).run().code(12).says("the disk is full");
    assert_eq!(server.sql("back", left), "0");
    // A kill after the objects.
    server.sql(
        "back",
        "CREATE OR REPLACE FUNCTION no() RETURNS event_trigger LANGUAGE plpgsql \
         AS $$ BEGIN PERFORM pg_sleep(3600); END $$",
    );
    let mut restore = with_server(sandbox.gabion(into), &server).command().spawn().unwrap();
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'back'";
    let pause = || std::thread::sleep(std::time::Duration::from_millis(20));
    while server.sql("postgres", &format!("{others} AND wait_event = 'PgSleep'")) == "0" {
        assert!(restore.try_wait().unwrap().is_none(), "it ended before it was killed");
        pause();
    }
    restore.kill().unwrap();
    restore.wait().unwrap();
    let end =
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = 'back'";
    server.sql("postgres", end);
    while server.sql("postgres", others) != "0" {
        pause();
    }
    assert_eq!(server.sql("back", left), "0");
    server.sql("back", "DROP EVENT TRIGGER no; DROP FUNCTION no()");
    with_server(sandbox.gabion(into), &server).run().success();
    let all = "SELECT count(*), md5(string_agg(id || convert_from(lo_get(o), 'UTF8'), ',' ORDER BY id)) \
               FROM t";
    assert_eq!(server.sql("back", all), server.sql("lob", all));
}

#[test]
fn a_restore_into_a_command_is_checked_to_its_end() {
    let sandbox = Sandbox::with_repository();
    let lines = "seq 1 200000";
    sandbox.gabion(["snapshot", "--stream", &format!("big={lines}")]).run().success();
    let into = |command: &str| {
        sandbox.gabion(["restore", "latest", "--database", "big", "--into-command", command]).run()
    };
    into("cat >out").success();
    let expected: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
    assert_eq!(fs::read_to_string(sandbox.path("out")).unwrap(), expected);
    into("cat >/dev/null; exit 4").code(12).says("the command ended with exit status 4");
    into("head -c 10 >/dev/null").code(12).says("before it had read everything");
    let unknown = ["restore", "latest", "--database", "other", "--into-command", "cat"];
    sandbox.gabion(unknown).run().code(1).says("holds no database \"other\"").says("big");
    // A damaged repository: the command must not see an end of its input.
    for pack in walk(&sandbox.path("repository/packs")) {
        let mut bytes = fs::read(&pack).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::set_permissions(&pack, fs::Permissions::from_mode(0o600)).unwrap();
        sandbox.write(&pack, bytes);
    }
    into("cat >/dev/null && touch ended").code(13);
    assert!(!sandbox.path("ended").exists());
}

#[test]
fn a_restore_into_a_command_that_does_not_read_can_be_interrupted() {
    let sandbox = Sandbox::with_repository();
    sandbox.gabion(["snapshot", "--stream", "big=seq 1 200000"]).run().success();
    let into = "touch begun; exec sleep 3600";
    let args = ["restore", "latest", "--database", "big", "--into-command", into];
    let mut restore = sandbox.gabion(args).command().spawn().unwrap();
    while !sandbox.path("begun").exists() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let pid = rustix::process::Pid::from_child(&restore);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(restore.wait().unwrap().code(), Some(130));
}

pub(super) fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let items = fs::read_dir(folder).unwrap().map(|item| item.unwrap().path());
    items.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
