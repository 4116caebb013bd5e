//! Profiles of the real AiiDA: a snapshot while it stores and packs, a new profile from it, and
//! every node and file as it was.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::support::{Run, Sandbox};
use super::support_aiida::{Working, container, python, tell, verdi};
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

/// Drills the job; the evidence of the stream of that name.
fn drill(sandbox: &Sandbox, stream: &str) -> Value {
    // Whoever runs the servers must reach it, by a short path.
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(folder.path(), open).unwrap();
    let args = ["drill", "lab", "--json", "--folder", folder.path().to_str().unwrap()];
    let evidence = job(sandbox, &args).run().success().json_lines().remove(0);
    let streams = evidence["streams"].as_array().unwrap();
    assert_eq!(streams.len(), 2, "{evidence}");
    assert!(evidence["files"]["restored"].as_u64().unwrap() >= 2, "{evidence}");
    let found = streams.iter().find(|found| found["stream"] == stream);
    found.unwrap_or_else(|| panic!("{evidence}")).clone()
}

/// A job with more in it, and a profile whose configuration and files are made by hand.
fn by_hand(more: &str, profile: &Value) -> Sandbox {
    let sandbox = with_job();
    let path = sandbox.path("home/.config/gabion/gabion.toml");
    let text = fs::read_to_string(&path).unwrap();
    let top = sandbox.path("").display().to_string().trim_end_matches('/').to_owned();
    let (before, after) = text.split_once("[[job.lab.aiida]]").unwrap();
    let text = format!("{before}{more}[[job.lab.aiida]]{after}").replace("TOP", &top);
    sandbox.write(path, text);
    let config = json!({"default_profile": "lab", "profiles": {"lab": profile}});
    sandbox.write("aiida/.aiida/config.json", config.to_string().replace("TOP", &top));
    sandbox
}

/// The same with a profile of SQLite that has a database without nodes.
fn by_hand_in_sqlite(more: &str) -> Sandbox {
    let storage = json!({"backend": "core.sqlite_dos", "config": {"filepath": "TOP/data/lab"}});
    let sandbox = by_hand(more, &json!({"storage": storage}));
    table(&sandbox, "data/lab/database.sqlite");
    sandbox
}

fn table(sandbox: &Sandbox, name: &str) {
    let path = sandbox.path(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    rusqlite::Connection::open(path).unwrap().execute_batch("CREATE TABLE t (id)").unwrap();
}

/// Bytes of all files of the repository.
fn stored(sandbox: &Sandbox) -> u64 {
    files(&sandbox.path("repository"))
        .iter()
        .map(|(path, len, ..)| if path.is_file() { *len } else { 0 })
        .sum()
}

#[test]
fn what_is_packed_into_a_large_pack_costs_about_what_is_new() {
    let Some(python) = python() else { return };
    let sandbox = by_hand_in_sqlite("");
    let place = sandbox.path("data/lab/container").display().to_string();
    container(&sandbox, &python, &[&place, "pack", "6000", "4096"]);
    let run = || {
        let before = stored(&sandbox);
        job(&sandbox, &["run", "lab"]).run().success();
        stored(&sandbox) - before
    };
    assert!(run() > 24_000_000);
    // Half a megabyte comes and is moved to the end of the pack, which rsync would copy whole.
    container(&sandbox, &python, &[&place, "loose", "20", "25000"]);
    container(&sandbox, &python, &[&place, "packed"]);
    let grown = run();
    assert!((500_000..1_000_000).contains(&grown), "{grown}");
    // Nothing came.
    let same = run();
    assert!(same < 20_000, "{same}");
}

#[test]
fn loose_objects_of_a_profile_may_be_said_to_be_write_once() {
    let sandbox = by_hand_in_sqlite("write-once = [\"TOP/data/lab/container/loose\"]\n");
    let object =
        |number: u32| format!("data/lab/container/loose/{:02x}/{number:062x}", number % 16);
    for number in 0..200 {
        sandbox.write(object(number), format!("object {number}"));
    }
    fs::create_dir_all(sandbox.path("data/lab/container/packs")).unwrap();
    table(&sandbox, "data/lab/container/packs.idx");
    // Until all of it is older than the grain of the clock of files.
    let time = || fs::metadata(sandbox.write("probe", "")).unwrap().modified().unwrap();
    let first = time();
    while time().duration_since(first).unwrap() < std::time::Duration::from_millis(40) {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let run = || {
        let done = job(&sandbox, &["run", "lab", "--json"]).run().success();
        done.json_lines().pop().unwrap()
    };
    run();
    sandbox.write(object(1003), "a new object");
    let second = run();
    assert_eq!(second["full-scan-because"], Value::Null, "{second}");
    assert!(second["unseen-entries"].as_u64().unwrap() > 100, "{second}");
    let listed = sandbox.gabion(["ls", "latest"]).run().success();
    assert!(listed.stdout().contains(&format!("{}\n", object(1003))));
}

#[test]
fn nodes_of_the_older_repository_are_told_by_the_database() {
    let server = Postgres::start();
    let query = "SELECT 'repository/node/' || substr(uuid, 1, 2) || '/' || substr(uuid, 3, 2) || \
                 '/' || substr(uuid, 5) FROM db_dbnode WHERE mtime >= to_timestamp($GABION_SINCE)";
    let host = server.host().display();
    let command = format!("psql -X0Atc \"{query}\" -h {host} -U postgres aiidadb");
    let sandbox = by_hand(
        &format!("changed-from = '''{command}'''\n"),
        &json!({
            "AIIDADB_BACKEND": "django", "AIIDADB_HOST": server.host(),
            "AIIDADB_PORT": server.port(), "AIIDADB_USER": "postgres",
            "AIIDADB_NAME": "aiidadb", "AIIDADB_REPOSITORY_URI": "file://TOP/repo",
        }),
    );
    server.sql("postgres", "CREATE DATABASE aiidadb");
    server.sql("aiidadb", "CREATE TABLE db_dbnode (uuid text, mtime timestamptz)");
    let uuid = |number: u32| format!("{number:02x}{number:02x}0000-0000-4000-8000-000000000000");
    let file = |number: u32| {
        let uuid = uuid(number);
        let (a, b, rest) = (&uuid[..2], &uuid[2..4], &uuid[4..]);
        format!("repo/repository/node/{a}/{b}/{rest}/path/aiida.out")
    };
    for number in 0..40 {
        sandbox.write(file(number), format!("node {number}"));
        let uuid = uuid(number);
        let row = format!("INSERT INTO db_dbnode VALUES ('{uuid}', now() - interval '1 day')");
        server.sql("aiidadb", &row);
    }
    let run = |more: &[&str]| {
        let words = [&["run", "lab", "--json"], more].concat();
        job(&sandbox, &words).run().success().json_lines().pop().unwrap()
    };
    let first = run(&[]);
    assert_eq!(first["full-scan-because"], "there is no earlier snapshot of these sources");
    // One node changes as AiiDA changes them, and one behind the database's back.
    sandbox.write(file(7), "another result");
    server
        .sql("aiidadb", &format!("UPDATE db_dbnode SET mtime = now() WHERE uuid = '{}'", uuid(7)));
    sandbox.write(file(9), "nobody knows");
    let second = run(&[]);
    assert_eq!(second["full-scan-because"], Value::Null, "{second}");
    assert!(second["unseen-entries"].as_u64().unwrap() > 100, "{second}");
    let read = |number: u32| {
        let path = sandbox.path(file(number)).display().to_string();
        let content = sandbox.gabion(["cat", &format!("latest:{path}")]).run().success();
        content.stdout().to_owned()
    };
    assert_eq!((read(7), read(9)), ("another result".to_owned(), "node 9".to_owned()));
    run(&["--full-scan"]);
    assert_eq!(read(9), "nobody knows");
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
    let info = verdi(&sandbox, &python, "new", &["storage", "info"]);
    assert!(info.to_lowercase().contains("nodes"), "{info}");
    drill(&sandbox, "lab.sqlite");
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
    // What the guide says of a move: nothing differs but the index, which is a copy there.
    let diff = sandbox.gabion(["diff", &from, target.to_str().unwrap()]).run();
    assert!(matches!(diff.exit_code(), Some(0 | 4)), "{}", diff.errors());
    let different: Vec<&str> = diff.text().lines().filter(|line| line.contains('/')).collect();
    let expected = |line: &&str| line.contains("packs.idx") || line.contains("/sandbox");
    assert!(different.iter().all(expected), "{}", diff.text());
    compare(&tell(&sandbox, &python, "new"), &now);
    let info = verdi(&sandbox, &python, "new", &["storage", "info"]);
    assert!(info.to_lowercase().contains("nodes"), "{info}");
    let evidence = drill(&sandbox, "labdb.pgsql");
    let compared = evidence["compared"].as_u64().unwrap();
    assert!(compared > 5 && evidence["rows"].as_u64().unwrap() > 100, "{evidence}");
    let before = files(&storage);
    job(&sandbox, &["run", "lab"]).run().success();
    assert_eq!(files(&storage), before);
}
