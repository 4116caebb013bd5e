//! Databases are asked at once whether they answer, and what helps is said.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::super::support_databases::{Mariadb, Postgres};
use super::{setup, with_source};

const PLACE: &str = "--repository TOP/r --plaintext";

fn mode(path: &std::path::Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn postgresql_is_asked_and_a_password_is_helped_with() {
    let server = Postgres::start();
    let sandbox = with_source();
    let host = server.host().display();
    let other = format!("{PLACE} --postgresql postgres --postgresql-host {host}");
    let other = setup(&sandbox, &format!("{other} --postgresql-user nobody-here"));
    other.run().code(12).says("does not exist").says("--postgresql-user");
    server.require_passwords();
    let flags =
        |more: &str| format!("{PLACE} --postgresql-host {host} --postgresql-user postgres {more}");
    let try_it = |more: &str| setup(&sandbox, &flags(more)).env("HOME", sandbox.path("home"));
    let none = try_it("--postgresql postgres").run().code(12);
    none.says("no password supplied").says(":5432:postgres:postgres:PASSWORD into ~/.pgpass");
    let pgpass = sandbox.write("home/.pgpass", format!("*:*:*:postgres:{}\n", Postgres::PASSWORD));
    mode(&pgpass, 0o644);
    try_it("--postgresql postgres").run().code(12).says("`chmod 600` the password file");
    mode(&pgpass, 0o600);
    try_it("--postgresql no-such-database").run().code(12).says("no-such-database");
    assert!(!sandbox.path("r").exists() && !sandbox.path("etc").exists());
    let done = try_it("--postgresql * --first-snapshot").run().success();
    assert!(done.stdout().contains("answers: PostgreSQL "), "{}", done.stdout());
    let text = fs::read_to_string(sandbox.path("etc/gabion.toml")).unwrap();
    assert!(text.contains("all = true\n") && !text.contains(Postgres::PASSWORD), "{text}");
    // The same later, in a night.
    let config = sandbox.path("etc/gabion.toml").display().to_string();
    let night = || {
        let run = sandbox.gabion(["--config", &config, "run", "nightly"]);
        run.env_remove("GABION_REPOSITORY").run()
    };
    mode(&pgpass, 0o644);
    night().code(12).says("group or world access");
    mode(&pgpass, 0o600);
    night().success();
    server.down();
    try_it("--postgresql postgres --overwrite").run().code(12).says("--skip-database-test");
    assert_eq!(fs::read_to_string(sandbox.path("etc/gabion.toml")).unwrap(), text);
    try_it("--postgresql postgres --overwrite --skip-database-test").run().success();
}

#[test]
fn mariadb_is_asked_and_a_password_is_helped_with() {
    let server = Mariadb::start();
    server.sql(
        "",
        "CREATE DATABASE lab; CREATE USER 'dump'@'localhost' IDENTIFIED BY 'secret-word'; \
         GRANT ALL ON *.* TO 'dump'@'localhost'",
    );
    let sandbox = with_source();
    let socket = server.socket().display().to_string();
    let flags = format!(
        "{PLACE} --mariadb lab --mariadb-socket {socket} --mariadb-defaults-file TOP/my.cnf"
    );
    let options = sandbox.write("my.cnf", "[client]\nuser=dump\npassword=wrong\n");
    mode(&options, 0o644);
    setup(&sandbox, &flags).run().code(12).says("others can read ");
    mode(&options, 0o600);
    setup(&sandbox, &flags).run().code(12).says("Access denied").says("[client]");
    sandbox.write("my.cnf", "[client]\nuser=dump\npassword=secret-word\n");
    let done = setup(&sandbox, &format!("{flags} --first-snapshot")).run().success();
    assert!(done.stdout().contains("answers: MariaDB "), "{}", done.stdout());
    let sqlite = sandbox.write("app.db", "");
    rusqlite::Connection::open(&sqlite).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    let done = setup(&sandbox, &format!("{PLACE} --sqlite TOP/app.db --overwrite"));
    assert!(done.run().success().stdout().contains("answers: SQLite "));
    sandbox.write("bad.db", "no database, but long enough to have a header of one".repeat(9));
    setup(&sandbox, &format!("{PLACE} --sqlite TOP/bad.db --overwrite")).run().code(12);
}
