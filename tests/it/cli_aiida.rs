//! Profiles of the real AiiDA: a snapshot while it stores and packs, a new profile from it, and
//! every node and file as it was.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::support::{Run, Sandbox};
use super::support_aiida::{Working, python, tell};
use super::support_databases::Postgres;

/// Nodes that are there before the first snapshot.
const NODES: usize = 200;

fn with_job() -> Sandbox {
    let sandbox = Sandbox::with_repository();
    let top = sandbox.path("").display().to_string().trim_end_matches('/').to_owned();
    let job = format!(
        "[repository]\nurl = \"{top}/repository\"\n[job.lab]\n[[job.lab.aiida]]\n\
         folder = \"{top}/aiida/.aiida\"\n"
    );
    sandbox.write("home/.config/gabion/gabion.toml", job);
    sandbox
}

fn job(sandbox: &Sandbox, args: &[&str]) -> Run {
    sandbox.gabion(args).env_remove("GABION_REPOSITORY")
}

/// Every file below `folder` with its length and time of change.
fn files(folder: &Path) -> Vec<(PathBuf, u64, i64, i64)> {
    use std::os::unix::fs::MetadataExt as _;
    let all = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter();
    let about = all.map(|item| {
        let item = item.unwrap();
        let meta = item.metadata().unwrap();
        (item.path().to_owned(), meta.len(), meta.ctime(), meta.ctime_nsec())
    });
    about.collect()
}

/// Puts the profile's entry of a snapshot into a new configuration, changed by `change`.
fn configure(sandbox: &Sandbox, snapshot: &str, change: impl Fn(&mut Value)) {
    let entry = sandbox.gabion(["cat", &format!("{snapshot}:lab.aiida.json")]).run().success();
    let mut config: Value = serde_json::from_slice(entry.stdout_bytes()).unwrap();
    change(config.pointer_mut("/profiles/lab/storage/config").unwrap());
    sandbox.write("new/.aiida/config.json", config.to_string());
}

/// What was restored is a part of what there is now, and no less than there was at first.
fn compare(restored: &[String], now: &[String]) {
    assert!(restored.len() >= NODES && restored.len() <= now.len(), "{}", restored.len());
    for node in restored {
        assert!(now.binary_search(node).is_ok(), "{node}");
    }
}

fn snapshots(sandbox: &Sandbox) -> Vec<Value> {
    sandbox.gabion(["snapshots", "--json"]).run().success().json_lines()
}

#[test]
fn a_profile_of_sqlite_that_is_being_written_to_comes_back_whole() {
    let Some(python) = python() else { return };
    let sandbox = with_job();
    let storage = sandbox.path("data/lab");
    let config = json!({"filepath": storage});
    let mut working = Working::start(&sandbox, &python, NODES, "core.sqlite_dos", &config);
    for _ in 0..4 {
        working.packed(&sandbox);
        job(&sandbox, &["run", "lab"]).run().success();
    }
    let now = working.end();
    let id = snapshots(&sandbox).last().unwrap()["id"].as_str().unwrap().to_owned();
    let target = sandbox.path("back");
    let from = format!("{id}:{}", storage.display());
    sandbox.gabion(["restore", &from, "--target", target.to_str().unwrap()]).run().success();
    assert!(
        !target.join("database.sqlite").exists()
            && !target.join("container/packs.idx-wal").exists()
    );
    let database = sandbox.gabion(["cat", &format!("{id}:lab.sqlite")]).run().success();
    sandbox.write("back/database.sqlite", database.stdout_bytes());
    configure(&sandbox, &id, |config| config["filepath"] = json!(target));
    compare(&tell(&sandbox, &python, "new"), &now);
    // Nothing of AiiDA's is written to, nor anything left in its folders.
    let before = (files(&storage), files(&sandbox.path("aiida/.aiida")));
    job(&sandbox, &["run", "lab"]).run().success();
    assert_eq!((files(&storage), files(&sandbox.path("aiida/.aiida"))), before);
    let list = job(&sandbox, &["jobs", "--explain"]).run().success();
    assert!(list.stdout().contains("aiida = the default one of "), "{}", list.stdout());
}

#[test]
fn a_profile_of_postgresql_that_is_being_written_to_comes_back_whole() {
    let Some(python) = python() else { return };
    let sandbox = with_job();
    let server = Postgres::start_with_network();
    server.require_passwords();
    server.sql("postgres", "CREATE DATABASE labdb");
    let storage = sandbox.path("data/lab");
    let config = json!({
        "database_engine": "postgresql_psycopg",
        "database_hostname": "127.0.0.1",
        "database_port": server.port(),
        "database_username": "postgres",
        "database_password": Postgres::PASSWORD,
        "database_name": "labdb",
        "repository_uri": format!("file://{}", storage.display()),
    });
    let mut working = Working::start(&sandbox, &python, NODES, "core.psql_dos", &config);
    for _ in 0..4 {
        working.packed(&sandbox);
        job(&sandbox, &["run", "lab"]).run().success();
    }
    let now = working.end();
    let taken = snapshots(&sandbox).pop().unwrap();
    // The password is in AiiDA's configuration, and nowhere in what gabion keeps and shows.
    let entry = sandbox.gabion(["cat", "latest:lab.aiida.json"]).run().success();
    let state = fs::read_to_string(sandbox.path("home/.local/state/gabion/lab.json")).unwrap();
    let shown = job(&sandbox, &["jobs", "--explain"]).run().success();
    for text in [&*taken.to_string(), entry.stdout(), &state, shown.stdout()] {
        assert!(!text.contains(Postgres::PASSWORD), "{text}");
    }
    let id = taken["id"].as_str().unwrap().to_owned();
    server.sql("postgres", "CREATE DATABASE newdb TEMPLATE template0");
    let into = ["restore", &id, "--database", "labdb", "--into-postgresql", "newdb"];
    let restore = sandbox.gabion(into).env("PGHOST", "127.0.0.1").env("PGUSER", "postgres");
    let restore = restore.env("PGPORT", server.port().to_string());
    restore.env("PGPASSWORD", Postgres::PASSWORD).run().success();
    let target = sandbox.path("back");
    let from = format!("{id}:{}", storage.display());
    sandbox.gabion(["restore", &from, "--target", target.to_str().unwrap()]).run().success();
    configure(&sandbox, &id, |config| {
        config["database_name"] = json!("newdb");
        config["database_password"] = json!(Postgres::PASSWORD);
        config["repository_uri"] = json!(format!("file://{}", target.display()));
    });
    compare(&tell(&sandbox, &python, "new"), &now);
    let before = files(&storage);
    job(&sandbox, &["run", "lab"]).run().success();
    assert_eq!(files(&storage), before);
}
