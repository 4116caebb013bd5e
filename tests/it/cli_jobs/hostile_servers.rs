//! Servers that put commands into their dumps: nothing of them runs, and no file is read, where a
//! dump is restored or drilled.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::super::support::Sandbox;
use super::super::support_databases::{Mariadb, Postgres};
use super::{configure, job, with_jobs};

const SECRET: &str = "a-secret-of-this-machine";

/// A directory that every user can write to, with a file that must not be read and one that must
/// not be run as a script.
fn trap() -> tempfile::TempDir {
    let trap = tempfile::tempdir_in("/tmp").unwrap();
    let open = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    open(trap.path(), 0o777);
    for (name, text) in [("secret", SECRET.to_owned()), ("script", command(trap.path(), "script"))]
    {
        let file = trap.path().join(name);
        #[expect(clippy::disallowed_methods, reason = "bait beside the sandbox")]
        fs::write(&file, format!("{text}\n")).unwrap();
        open(&file, 0o644);
    }
    trap
}

fn command(trap: &Path, name: &str) -> String {
    format!("\\! touch {}/ran-{name}", trap.display())
}

#[track_caller]
fn nothing_ran(trap: &Path) {
    let names = fs::read_dir(trap).unwrap().map(|item| item.unwrap().file_name());
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, ["script", "secret"], "something of a dump ran");
}

/// What a server puts into a dump for psql; `RUN` runs something, `TRAP` is the directory.
const FOR_PSQL: [&str; 15] = [
    "\\! RUN",
    "\\unrestrict gabion\n\\! RUN\n\\restrict gabion",
    "\\unrestrict KEY\n\\! RUN\n\\restrict KEY",
    "\\unrestrict KEY\nSELECT 1;",
    "\\copy (SELECT 1) TO PROGRAM 'RUN'",
    "SELECT 1 \\g |RUN",
    "\\o |RUN",
    "\\i TRAP/script",
    "\\set x `RUN`",
    "\\w |RUN",
    "\\copy loot FROM 'TRAP/secret'",
    "\\lo_import TRAP/secret",
    "COPY loot FROM PROGRAM 'RUN';",
    "COPY loot FROM 'TRAP/secret';",
    "DO $a$ BEGIN EXECUTE 'COPY loot FROM PROGRAM ''RUN'''; END $a$;",
];

#[test]
fn a_hostile_postgresql_server_runs_and_reads_nothing() {
    let (origin, target, trap) = (Postgres::start(), Postgres::start(), trap());
    let sandbox = with_jobs("");
    let host = origin.host().display();
    let jobs = |databases: &str| {
        format!(
            "[job.night]\n[[job.night.postgresql]]\nhost = \"{host}\"\nuser = \"postgres\"\n\
             {databases}\n[job.night.drill]\nfiles = 0\n"
        )
    };
    // The server knows what an earlier dump looked like, in the repository and outside of it.
    configure(&sandbox, &jobs("database = \"postgres\""));
    job(&sandbox, &["run", "night"]).run().success();
    sandbox.gabion(["restore", "latest", "--target", "old"]).run().success();
    let old = fs::read_to_string(sandbox.path("old/postgres.pgsql")).unwrap();
    let key = old.split("\\restrict ").nth(1).unwrap().lines().next().unwrap().to_owned();
    for (number, attack) in FOR_PSQL.iter().enumerate() {
        let run = format!("touch {}/ran-{number}", trap.path().display());
        let attack = attack.replace("RUN", &run).replace("KEY", &key);
        let attack = attack.replace("TRAP", trap.path().to_str().unwrap());
        let database = format!("evil{number}");
        origin.sql("postgres", &format!("CREATE DATABASE {database}"));
        origin.sql(&database, "CREATE TABLE loot (x text); CREATE VIEW v AS SELECT 1 AS a");
        origin.sql(
            &database,
            &format!(
                "CREATE OR REPLACE FUNCTION pg_catalog.pg_get_viewdef(oid) RETURNS text \
                 LANGUAGE sql AS $f$ SELECT $t$ SELECT 1 AS a;\n{attack}\nSELECT 1;$t$ $f$"
            ),
        );
    }
    let names: Vec<String> = (0..FOR_PSQL.len()).map(|n| format!("\"evil{n}\"")).collect();
    configure(&sandbox, &jobs(&format!("databases = [{}]", names.join(", "))));
    job(&sandbox, &["run", "night"]).run().success();
    for (number, attack) in FOR_PSQL.iter().enumerate() {
        let (database, into) = (format!("evil{number}"), format!("back{number}"));
        target.sql("postgres", &format!("CREATE DATABASE {into} TEMPLATE template0"));
        let args = ["restore", "latest", "--database", &database, "--into-postgresql", &into];
        let done = sandbox.gabion(args).env("PGHOST", target.host()).env("PGUSER", "postgres");
        let done = done.run().code(12);
        done.says("the dump holds ").says("which pg_dump never writes");
        let tables = "SELECT count(*) FROM pg_class WHERE relname IN ('loot', 'v')";
        assert_eq!(target.sql(&into, tables), "0", "{attack}");
    }
    let drill = job(&sandbox, &["drill", "night"]).run().code(1);
    for number in 0..FOR_PSQL.len() {
        drill.says(&format!("evil{number}.pgsql: the dump holds "));
    }
    nothing_ran(trap.path());
}

/// Names, texts and bodies of real objects that look like commands.
#[test]
fn odd_names_and_texts_come_back_and_run_nothing() {
    let (origin, target, trap) = (Postgres::start(), Postgres::start(), trap());
    let run = command(trap.path(), "odd");
    origin.sql("postgres", "CREATE DATABASE odd");
    origin.sql(
        "odd",
        &format!(
            "CREATE TABLE \"x\n{run}\nCOMMIT;\n\" (\"a\n{run}\" text DEFAULT E'\\n{run}\\n'); \
             INSERT INTO \"x\n{run}\nCOMMIT;\n\" VALUES (E'\\n{run}\\n\\\\.\\n'), ('\\.'), (NULL); \
             COMMENT ON TABLE \"x\n{run}\nCOMMIT;\n\" IS E'it''s\\n{run}\\nBEGIN;\\n'; \
             CREATE FUNCTION \"f\n{run}\"(begin int) RETURNS text LANGUAGE plpgsql AS $f$ begin /*\n\
             {run}\nCOMMIT;\n*/ return 1; end $f$; \
             CREATE VIEW v AS SELECT E'\\n{run}\\n' AS a; \
             CREATE FUNCTION g() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; \
             SELECT CASE WHEN true THEN 2 END; END; \
             CREATE RULE r AS ON INSERT TO v DO INSTEAD (SELECT 1; SELECT E'\\n{run}\\n')"
        ),
    );
    let host = origin.host().display();
    let sandbox = with_jobs(&format!(
        "[job.night]\n[[job.night.postgresql]]\nhost = \"{host}\"\nuser = \"postgres\"\n\
         database = \"odd\"\n[job.night.drill]\nfiles = 0\n"
    ));
    job(&sandbox, &["run", "night"]).run().success();
    target.sql("postgres", "CREATE DATABASE back TEMPLATE template0");
    let args = ["restore", "latest", "--database", "odd", "--into-postgresql", "back"];
    let done = sandbox.gabion(args).env("PGHOST", target.host()).env("PGUSER", "postgres");
    done.run().success();
    for query in [
        &format!("SELECT * FROM \"x\n{run}\nCOMMIT;\n\""),
        "SELECT relname, obj_description(oid, 'pg_class') FROM pg_class \
         WHERE relnamespace = 'public'::regnamespace ORDER BY 1",
        "SELECT proname, prosrc, pg_get_functiondef(oid) FROM pg_proc \
         WHERE pronamespace = 'public'::regnamespace ORDER BY 1",
        "SELECT * FROM v",
        "SELECT pg_get_ruledef(oid) FROM pg_rewrite WHERE rulename = 'r'",
    ] {
        assert_eq!(target.sql("back", query), origin.sql("odd", query), "{query}");
    }
    job(&sandbox, &["drill", "night"]).run().success();
    nothing_ran(trap.path());
}

/// What a server puts into a dump for its client. Each stands where a statement may begin.
const FOR_THE_CLIENT: [&str; 14] = [
    "\\! RUN",
    "SELECT 1 \\! RUN",
    "system RUN",
    "source TRAP/script",
    "\\. TRAP/script",
    "SELECT 1\\g \\! RUN\n",
    "DELIMITER x\nSELECT 1x\n\\! RUN\nDELIMITER ;",
    "DELIMITER \\!\nSELECT 1\\! RUN\nDELIMITER ;",
    "tee TRAP/ran-tee\nSELECT 1;\nnotee",
    "\\T TRAP/ran-tee\nSELECT 1;",
    "pager RUN\nSELECT 1;",
    "\\P RUN\nSELECT 1;",
    "SELECT 1\nedit\n;",
    "LOAD DATA LOCAL INFILE 'TRAP/secret' INTO TABLE loot;",
];
/// What only a drill must refuse, since its server is not the user's own.
const FOR_THE_DRILL: [&str; 3] = [
    "LOAD DATA INFILE 'TRAP/secret' INTO TABLE loot;",
    "SELECT 1 INTO OUTFILE 'TRAP/ran-outfile';",
    "INSERT INTO loot VALUES (LOAD_FILE('TRAP/secret'));",
];

fn mariadb_dump(attack: &str) -> String {
    format!(
        "-- MariaDB dump 10.19\n--\n/*!40101 SET @a=1 */;\nCREATE TABLE `loot` (x TEXT);\n\
         {attack}\nINSERT INTO `loot` VALUES ('end');\n-- Dump completed\n"
    )
}

#[test]
fn a_hostile_mariadb_server_runs_and_reads_nothing() {
    let (server, trap) = (Mariadb::start(), trap());
    let sandbox = Sandbox::with_repository();
    sandbox.write("my.cnf", format!("[client]\nuser=root\nsocket={}\n", server.socket().display()));
    let attacks: Vec<&str> = FOR_THE_CLIENT.iter().chain(&FOR_THE_DRILL).copied().collect();
    let mut jobs = "[job.night]\n[job.night.drill]\nfiles = 0\n".to_owned();
    for (number, attack) in attacks.iter().enumerate() {
        let run = format!("touch {}/ran-{number}", trap.path().display());
        let attack = attack.replace("RUN", &run).replace("TRAP", trap.path().to_str().unwrap());
        sandbox.write(format!("d{number}.sql"), mariadb_dump(&attack));
        jobs.push_str(&format!(
            "[[job.night.command]]\nname = \"d{number}\"\ncommand = \"cat TOP/d{number}.sql\"\n\
             [[job.night.drill.sql]]\ndatabase = \"d{number}\"\n\
             query = \"SELECT COUNT(*) FROM loot WHERE x LIKE '%secret%'\"\nvalue = \"0\"\n"
        ));
    }
    configure(&sandbox, &jobs);
    job(&sandbox, &["run", "night"]).run().success();
    for (number, attack) in FOR_THE_CLIENT.iter().enumerate() {
        let (name, database) = (format!("d{number}"), format!("back{number}"));
        server.sql("", &format!("CREATE DATABASE {database}"));
        let args = ["restore", "latest", "--database", &name, "--into-mariadb", &database];
        let done = sandbox.gabion(args.iter().chain(&["--mariadb-defaults", "my.cnf"]));
        let _ = done.env("EDITOR", trap.path().join("edit")).run();
        let found = server.sql(&database, "SELECT COUNT(*) FROM loot WHERE x LIKE '%secret%'");
        assert_eq!(found, "0", "{attack}");
    }
    let drill = job(&sandbox, &["drill", "night", "--json"]).run().code(1);
    let line = &drill.json_lines()[0];
    let queries = line["queries"].as_array().unwrap();
    assert_eq!(queries.len(), attacks.len());
    for (query, attack) in queries.iter().zip(&attacks) {
        assert_eq!(query["ok"], true, "{attack}");
    }
    nothing_ran(trap.path());
}

#[test]
fn odd_names_and_bodies_of_mariadb_come_back_and_run_nothing() {
    let (server, trap) = (Mariadb::start(), trap());
    let run = command(trap.path(), "odd");
    server.sql("", "CREATE DATABASE odd; CREATE DATABASE back");
    let script = format!(
        "CREATE TABLE `x\n{run}\nx` (`a;;\n{run}\nx` TEXT COMMENT '\n{run}\n') COMMENT '\n{run}\n';\n\
         INSERT INTO `x\n{run}\nx` VALUES ('\n{run}\n'), ('\r\n;;\\\\! x');\n\
         CREATE VIEW v AS SELECT '\n{run}\n' AS a;\nDELIMITER //\n\
         CREATE PROCEDURE p() BEGIN /* ;;\n{run}\n */ SELECT ';;\n{run}\n'; END//\nDELIMITER ;\n"
    );
    server.sql_binary("odd", &script);
    let sandbox = with_jobs(&format!(
        "[job.night]\n[[job.night.mariadb]]\nsocket = \"{}\"\nuser = \"root\"\n\
         database = \"odd\"\n[job.night.drill]\nfiles = 0\n",
        server.socket().display()
    ));
    job(&sandbox, &["run", "night"]).run().success();
    sandbox.write("my.cnf", format!("[client]\nuser=root\nsocket={}\n", server.socket().display()));
    let args = ["restore", "latest", "--database", "odd", "--into-mariadb", "back"];
    sandbox.gabion(args.iter().chain(&["--mariadb-defaults", "my.cnf"])).run().success();
    for query in [
        "SELECT table_name, table_comment FROM information_schema.tables \
         WHERE table_schema = DATABASE() ORDER BY 1",
        "SELECT column_name, column_comment FROM information_schema.columns \
         WHERE table_schema = DATABASE() ORDER BY 1",
        "SELECT routine_name, HEX(routine_definition) FROM information_schema.routines \
         WHERE routine_schema = DATABASE()",
        "SELECT HEX(a) FROM v",
        &format!("SELECT HEX(`a;;\n{run}\nx`) FROM `x\n{run}\nx`"),
    ] {
        // The client would take such a name in an argument for a command, too.
        let ask = |database| server.sql_binary(database, query);
        assert_eq!(ask("back"), ask("odd"), "{query}");
    }
    job(&sandbox, &["drill", "night"]).run().success();
    nothing_ran(trap.path());
}
