//! A database comes back as it was: nothing is left out silently, and it goes only into one that is
//! set as it was.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::super::support_databases::{Mariadb, Postgres};
use super::{configure, job, snapshots, with_jobs};

fn mariadb_job(server: &Mariadb, more: &str) -> String {
    format!(
        "[job.night]\n[[job.night.mariadb]]\nsocket = \"{}\"\n{more}\n\
         [job.night.drill]\nfiles = 0\n",
        server.socket().display()
    )
}

#[test]
fn the_past_and_the_text_of_mariadb_come_back_whatever_option_files_say() {
    let server = Mariadb::start();
    server.sql_binary(
        "",
        "SET NAMES utf8mb4; CREATE DATABASE lab CHARACTER SET utf8mb4 COLLATE utf8mb4_bin; USE lab; \
         CREATE TABLE acc (id INT PRIMARY KEY, bal INT) WITH SYSTEM VERSIONING; \
         INSERT INTO acc VALUES (1, 10), (2, 20); UPDATE acc SET bal = 11 WHERE id = 1; \
         DELETE FROM acc WHERE id = 2; CREATE TABLE t (s TEXT); \
         INSERT INTO t VALUES ('grüße 😂 日本'); CREATE SEQUENCE q; CREATE VIEW v AS SELECT 1 AS a; \
         CREATE TABLE u (x INT); INSERT INTO u VALUES (1), (2)",
    );
    let defaults = "user = \"root\"\ndatabase = \"lab\"\ndefaults-file = \"TOP/my.cnf\"";
    let sandbox = with_jobs(&mariadb_job(&server, defaults));
    let options = |text: &str| {
        let file = sandbox.write("my.cnf", format!("[client]\nuser=root\n{text}\n"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    };
    for (line, name) in [
        ("[mysqldump]\nignore-table=lab.u", "ignore-table"),
        ("[mariadb-dump]\nwhere=\"x < 0\"", "where"),
        ("[mysqldump]\nno-data", "no-data"),
        ("[mysqldump]\nno_create_info", "no-create-info"),
        ("[mysqldump]\ncompatible=ansi", "compatible"),
        ("[mysqldump]\nskip-opt", "skip-opt"),
    ] {
        options(line);
        let refused = job(&sandbox, &["run", "night"]).run().code(12);
        refused.says(&format!("an option file sets {name:?}"));
    }
    assert!(snapshots(&sandbox).is_empty());
    options(
        "default-character-set=latin1\n[mysqldump]\nskip-comments\nskip-routines\nskip-quote-names",
    );
    job(&sandbox, &["run", "night"]).run().success();
    let origin = &snapshots(&sandbox)[0]["streams"][0]["origin"];
    assert_eq!(origin["settings"]["collation"], "utf8mb4_bin");
    assert_eq!(origin["counted"]["rows of `acc` FOR SYSTEM_TIME ALL"], 3);
    assert_eq!(origin["counted"]["sequence"], 1);
    job(&sandbox, &["drill", "night"]).run().success();

    server.sql("", "CREATE DATABASE back CHARACTER SET latin1");
    let file = format!("[client]\nuser=root\nsocket={}\n", server.socket().display());
    sandbox.write("back.cnf", file);
    let args = ["restore", "latest", "--database", "lab", "--into-mariadb", "back"];
    let restore = || sandbox.gabion(args.iter().chain(&["--mariadb-defaults", "back.cnf"])).run();
    let line = "ALTER DATABASE `back` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";
    restore().code(1).says(line);
    server.sql("", line);
    restore().success();
    for query in [
        "SELECT id, bal, row_start, row_end > NOW() FROM acc FOR SYSTEM_TIME ALL ORDER BY 1, 3",
        "SELECT HEX(CONVERT(s USING utf8mb4)) FROM t",
        "SELECT * FROM u",
        "SELECT a FROM v",
    ] {
        assert_eq!(server.sql("back", query), server.sql("lab", query), "{query}");
    }
    assert_eq!(server.sql("back", "SELECT COUNT(*) FROM acc FOR SYSTEM_TIME ALL"), "3");
}

#[test]
fn a_drill_compares_with_the_server_and_not_with_the_dump_alone() {
    let server = Mariadb::start();
    server.sql(
        "",
        "CREATE DATABASE lab; USE lab; CREATE TABLE t (x INT); INSERT INTO t VALUES (1), (2); \
         CREATE TABLE u (x INT); CREATE VIEW v AS SELECT 1 AS a",
    );
    let more = "user = \"root\"\ndatabase = \"lab\"\nprograms = \"TOP/bin\"";
    let sandbox = with_jobs(&mariadb_job(&server, more));
    let program = |name: &str, text: &str| {
        let file = sandbox.write(format!("bin/{name}"), format!("#!/bin/sh\n{text}\n"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    };
    // Drills take the servers' programs from there, too, where they are.
    program("mariadb", "exec mariadb \"$@\"");
    for (filter, said) in [
        ("--ignore-table=lab.u", "the server had 2 base table, the restored database has 1"),
        ("--ignore-table=lab.v", "the server had 1 view, the restored database has 0"),
        ("--where=x<2", "the server had 2 rows of `t`, the restored database has 1"),
    ] {
        let script = format!(
            "case $* in *--print-defaults*|*--version*|*--help*) exec mariadb-dump \"$@\";; esac\n\
             for last; do :; done\nexec mariadb-dump --no-defaults --user=root \
             --socket={} --skip-dump-date '{filter}' \"$last\"",
            server.socket().display()
        );
        program("mariadb-dump", &script);
        job(&sandbox, &["run", "night"]).run().success();
        sandbox.shell("mv bin/mariadb bin/away").run().success();
        job(&sandbox, &["drill", "night"]).run().code(1).says(said);
        sandbox.shell("mv bin/away bin/mariadb").run().success();
    }
}

#[test]
fn what_the_servers_own_programs_pass_over_is_passed_over_with_a_word() {
    let server = Postgres::start();
    for name in ["good", "bad", "big"] {
        server.sql("postgres", &format!("CREATE DATABASE {name}"));
    }
    server.sql("postgres", "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'bad'");
    server.sql("template1", "DROP DATABASE postgres");
    let host = server.host().display().to_string();
    let postgresql = |more: &str| {
        format!(
            "[job.night]\n[[job.night.postgresql]]\nhost = \"{host}\"\nuser = \"postgres\"\n\
             all = true\n{more}\n"
        )
    };
    let sandbox = with_jobs(&postgresql("exclude = [\"big\"]"));
    let names = || {
        let last = snapshots(&sandbox).pop().unwrap();
        let names = last["streams"].as_array().unwrap().iter().map(|s| s["name"].to_string());
        names.collect::<Vec<_>>().join(" ")
    };
    let run = job(&sandbox, &["run", "night"]).run().success();
    run.says("the database bad is passed over");
    assert_eq!(names(), "\"good.pgsql\"");

    let maria = Mariadb::start();
    maria.sql("", "CREATE DATABASE lab; CREATE DATABASE scratch");
    for directory in [".ssh", ".snapshot"] {
        fs::create_dir(maria.data().join(directory)).unwrap();
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(maria.data().join(directory), open).unwrap();
    }
    let more = "user = \"root\"\nall = true\nexclude = [\"scratch\"]";
    configure(&sandbox, &mariadb_job(&maria, more));
    let run = job(&sandbox, &["run", "night"]).run().success();
    run.says("#mysql50#.ssh is passed over");
    assert_eq!(names(), "\"lab.mysql\"");

    let second = "[[job.night.postgresql]]\nhost = \"other\"\ndatabase = \"good\"\n";
    configure(&sandbox, &(postgresql("") + second));
    job(&sandbox, &["jobs"]).run().code(2).says("a database of the same name").says("`prefix`");
    configure(&sandbox, &(postgresql("") + second + "prefix = \"other-\"\n"));
    job(&sandbox, &["jobs"]).run().success();
}

#[test]
fn a_database_of_another_encoding_is_refused_and_drilled_in_its_own() {
    let server = Postgres::start();
    server.sql(
        "postgres",
        "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'",
    );
    server.sql("latin", "CREATE TABLE t (x text); INSERT INTO t VALUES (chr(252))");
    server.sql(
        "postgres",
        "CREATE DATABASE back TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'",
    );
    let sandbox = with_jobs(&format!(
        "[job.night]\n[[job.night.postgresql]]\nhost = \"{}\"\nuser = \"postgres\"\n\
         database = \"latin\"\n[job.night.drill]\nfiles = 0\n[[job.night.drill.sql]]\n\
         database = \"latin\"\nquery = \"SELECT octet_length(x) FROM t\"\nvalue = \"1\"\n",
        server.host().display()
    ));
    job(&sandbox, &["run", "night"]).run().success();
    job(&sandbox, &["drill", "night"]).run().success();
    let args = ["restore", "latest", "--database", "latin", "--into-postgresql", "back"];
    let restore =
        || sandbox.gabion(args).env("PGHOST", server.host()).env("PGUSER", "postgres").run();
    let refused = restore().code(1);
    refused.says("the database back has the encoding SQL_ASCII, the dump's had LATIN1");
    refused.says("--encoding LATIN1 --lc-collate C --lc-ctype C NAME");
    server.sql("postgres", "DROP DATABASE back");
    let right =
        "CREATE DATABASE back TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'";
    server.sql("postgres", right);
    restore().success();
    assert_eq!(server.sql("back", "SELECT octet_length(x), ascii(x) FROM t"), "1|252");
}
