//! What profiles of all ages stand for.

use super::*;

fn preset(folder: &Path, profile: Option<&str>) -> AiidaConfig {
    AiidaConfig {
        folder: folder.to_owned(),
        profile: profile.map(str::to_owned),
        programs: None,
        prefix: "lab-".to_owned(),
    }
}

const CONFIG: &str = r#"{"CONFIG_VERSION": {"CURRENT": 10}, "default_profile": "main", "profiles": {
    "main": {"storage": {"backend": "core.psql_dos", "config": {
        "database_hostname": "localhost", "database_port": 5433, "database_username": "aiida",
        "database_password": "top-secret", "database_name": "aiidadb",
        "repository_uri": "file:///home/a/.aiida/repository/main"}},
        "process_control": {"config": {"broker_password": "guest-secret"}}},
    "lite": {"storage": {"backend": "core.sqlite_dos", "config": {"filepath": "/data/lite/"}}},
    "old": {"AIIDADB_BACKEND": "django", "AIIDADB_NAME": "olddb", "AIIDADB_HOST": "db",
        "AIIDADB_PORT": "5432", "AIIDADB_USER": "u", "AIIDADB_PASS": "old-secret",
        "AIIDADB_REPOSITORY_URI": "file:///home/a/.aiida/repository/old"},
    "odd": {"storage": {"backend": "core.sqlite_temp", "config": {}}},
    "away": {"storage": {"backend": "core.sqlite_dos", "config": {"filepath": "here"}}}}}"#;

fn with_config() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    #[expect(clippy::disallowed_methods, reason = "makes test data")]
    std::fs::write(dir.path().join("config.json"), CONFIG).unwrap();
    dir
}

#[test]
fn a_profile_of_postgresql_is_a_dump_and_a_container() {
    let dir = with_config();
    let found = profile(&preset(dir.path(), None)).unwrap();
    let [StreamConfig::Postgresql(server), StreamConfig::Document(entry)] = &found.streams[..]
    else {
        panic!("{found:?}")
    };
    assert_eq!(server.stream_names(), ["lab-aiidadb.pgsql"]);
    assert_eq!((server.host.as_deref(), server.port), (Some("localhost"), Some(5433)));
    assert!(server.password.is_some());
    let container = Path::new("/home/a/.aiida/repository/main/container");
    assert_eq!(found.paths, [container.parent().unwrap()]);
    assert_eq!(found.indexes[0].file, container.join("packs.idx"));
    assert_eq!(found.indexes[0].beside, container.join("packs"));
    // Passwords are neither in what is stored nor in what could be printed.
    let text = String::from_utf8(entry.bytes.clone()).unwrap();
    assert_eq!(entry.name, "lab-main.aiida.json");
    assert!(text.contains("\"database_name\": \"aiidadb\"") && !text.contains("lite"), "{text}");
    assert!(!text.contains("secret") && !format!("{found:?}").contains("secret"), "{text}");
}

#[test]
fn profiles_of_sqlite_and_of_the_first_aiida_are_known_too() {
    let dir = with_config();
    let found = profile(&preset(dir.path(), Some("lite"))).unwrap();
    let StreamConfig::Sqlite(database) = &found.streams[0] else { panic!("{found:?}") };
    assert_eq!(database.path, Path::new("/data/lite/database.sqlite"));
    assert_eq!(database.stream, "lab-lite.sqlite");
    assert_eq!(found.paths, [Path::new("/data/lite")]);
    let found = profile(&preset(dir.path(), Some("old"))).unwrap();
    let StreamConfig::Postgresql(server) = &found.streams[0] else { panic!("{found:?}") };
    assert_eq!((server.port, server.user.as_deref()), (Some(5432), Some("u")));
    assert_eq!(found.paths, [Path::new("/home/a/.aiida/repository/old")]);
    assert!(found.indexes.is_empty() && server.password.is_some());
}

#[test]
fn what_cannot_be_kept_is_refused_with_what_there_is() {
    let dir = with_config();
    for (name, said) in [
        ("none", "no profile \"none\" (it has away, "),
        ("odd", "the storage \"core.sqlite_temp\", which is not known"),
        ("away", "no absolute path"),
    ] {
        let error = profile(&preset(dir.path(), Some(name))).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    assert!(profile(&preset(&dir.path().join("gone"), None)).is_err());
}

#[test]
fn a_profile_that_is_being_maintained_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("access/main");
    std::fs::create_dir_all(&folder).unwrap();
    let touch = |name: String| {
        let file = folder.join(name);
        drop(std::fs::File::options().create_new(true).write(true).open(file).unwrap());
    };
    let mut gone = std::process::Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    touch(format!("{}.lock", gone.id()));
    touch("1.pid".to_owned());
    refuse_locked(dir.path(), "main").unwrap();
    touch(format!("{}.lock", std::process::id()));
    let error = refuse_locked(dir.path(), "main").unwrap_err().to_string();
    assert!(error.contains("is locked by its process"), "{error}");
    refuse_locked(dir.path(), "other").unwrap();
}
