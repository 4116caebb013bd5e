//! What files of other systems tell, and that whatever is answered is read back as it was meant.

use super::*;
use crate::job::config::{CommandConfig, Databases, MariadbConfig, PostgresqlConfig, SqliteConfig};

fn answers() -> Answers {
    Answers {
        repository: Place::Folder("/mnt/a \"b\"\\".into()),
        ssh_command: None,
        key: Some(KeyPlace::PasswordFile("/etc/gabion/password".into())),
        job: "lab.1".into(),
        paths: vec!["/srv/ü\u{7f}".into(), "/home".into()],
        exclude: vec!["*.t\"mp".into()],
        mount_links: Some(MountLinks::Report),
        aiida: vec![AiidaConfig {
            folder: "/home/a/.aiida".into(),
            profile: Some("main".into()),
            programs: None,
            prefix: String::new(),
        }],
        streams: vec![
            StreamConfig::Postgresql(PostgresqlConfig {
                databases: Databases::Named(vec!["a".into(), "b'".into()]),
                host: Some("localhost".into()),
                port: Some(5433),
                user: Some("u".into()),
                globals: true,
                pgpass: Some("/p".into()),
                password: None,
                programs: None,
                prefix: String::new(),
            }),
            StreamConfig::Mariadb(MariadbConfig {
                databases: Databases::All { but: Vec::new() },
                defaults_file: None,
                host: None,
                port: None,
                socket: Some("/run/s".into()),
                user: None,
                programs: Some("/opt/bin".into()),
                prefix: String::new(),
            }),
            StreamConfig::Sqlite(SqliteConfig { path: "/d/x.db".into(), stream: "x.s".into() }),
            StreamConfig::Command(CommandConfig {
                name: "etc.tar".into(),
                command: "tar -c \"/etc\"\t| cat".into(),
                allow_empty: false,
            }),
        ],
        schedule: "sun 04:05".parse().unwrap(),
        keep: Keep { daily: Some(7), yearly: Some(3), ..Keep::default() },
        mail: Some("admin@example.org".into()),
        check_budget: Some("1GiB".into()),
    }
}

#[test]
fn what_was_answered_is_read_back_as_it_was_meant() {
    let given = answers();
    let (text, read) = given.configuration(Path::new("f")).unwrap();
    assert_eq!(read.repository.url, given.repository);
    assert_eq!(read.repository.key, given.key);
    let job = &read.jobs["lab.1"];
    assert_eq!((&job.paths, &job.exclude), (&given.paths, &given.exclude));
    assert_eq!(job.mount_links, given.mount_links);
    assert_eq!((&job.streams, &job.aiida), (&given.streams, &given.aiida));
    assert_eq!(job.schedule, given.schedule);
    assert_eq!(job.keep.as_ref(), Some(&given.keep));
    assert_eq!((&job.notify.mail, job.check_budget), (&given.mail, Some(1 << 30)));
    assert!(text.lines().all(|line| !line.ends_with(' ')), "{text}");
    let least = Answers {
        key: None,
        exclude: vec![],
        streams: vec![],
        aiida: vec![],
        mail: None,
        check_budget: None,
        ..given
    };
    let (_, read) = least.configuration(Path::new("f")).unwrap();
    assert_eq!((read.repository.key, read.jobs["lab.1"].streams.len()), (None, 0));
}

#[test]
fn what_the_file_may_not_say_is_refused() {
    for wrong in [
        Answers { job: "a b".into(), ..answers() },
        Answers { repository: Place::Folder("relative".into()), ..answers() },
        Answers { keep: Keep::default(), ..answers() },
        Answers { mail: Some("-x".into()), ..answers() },
        Answers { check_budget: Some("much".into()), ..answers() },
        Answers { paths: vec!["/a".into(), "/a".into()], ..answers() },
    ] {
        assert!(wrong.configuration(Path::new("f")).is_err(), "{wrong:?}");
    }
}

#[test]
fn profiles_of_aiida_are_found_in_its_new_and_old_form() {
    let text = r#"{"default_profile": "two", "profiles": {
        "one": {"storage": {"backend": "core.psql_dos", "config": {"database_name": "aiidadb",
            "database_password": "secret"}}},
        "two": {"storage": {"backend": "core.sqlite_dos", "config": {"filepath": "/x"}}},
        "old": {"AIIDADB_BACKEND": "django", "AIIDADB_NAME": "olddb"},
        "odd": 5}}"#;
    let found: Vec<_> = profiles(text).into_iter().map(|p| (p.name, p.backend, p.about)).collect();
    let expected = [
        ("two", "core.sqlite_dos", "/x"),
        ("old", "django", "olddb"),
        ("one", "core.psql_dos", "aiidadb"),
    ];
    let expected = expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()));
    assert_eq!(found, expected);
    assert_eq!(profiles("{"), []);
}

#[test]
fn other_files_tell_folders_and_databases() {
    let info = r#"{"backup_dir": "/scratch/backup_dest//x/", "periodicity": 2}"#;
    assert_eq!(backup_folder(info), Some("/scratch/backup_dest/x".into()));
    assert_eq!(backup_folder(r#"{"backup_dir": null}"#), None);
    let conf = "# FILE_SYSTEM_ROOT=/no\nFILE_SYSTEM_ROOT=/a\n  FILE_SYSTEM_ROOT = /opt/files/ \n\
                MYSQL_HOST=sql\nMYSQL_PORT=3307\nMYSQL_DATABASE_NAME=lab\nMYSQL_USER_PASSWORD=x\n";
    let found = linkahead(conf, Path::new("/etc/server.conf"));
    assert_eq!(found.files, Some("/opt/files".into()));
    assert_eq!((found.database.host.as_deref(), found.database.port), (Some("sql"), Some(3307)));
    assert_eq!(found.database.databases, Databases::Named(vec!["lab".into()]));
    let usual = "FILE_SYSTEM_ROOT=./CaosDBFileSystem\nMYSQL_HOST=localhost\nMYSQL_PORT=3306\n";
    let found = linkahead(usual, Path::new("/opt/server/conf/core/server.conf"));
    assert_eq!(found.files, Some("/opt/server/CaosDBFileSystem".into()));
    assert_eq!((found.database.host, found.database.port), (None, None));
    assert_eq!(found.database.databases, Databases::Named(vec!["caosdb".into()]));
    assert_eq!(linkahead(usual, Path::new("/etc/server.conf")).files, None);
    let found = pgpass_databases("# c\nlocalhost:5432:aiidadb:aiida:pass:word\n*:*:*:x:y\nbad\n");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].databases, Databases::Named(vec!["aiidadb".into()]));
    assert_eq!((found[0].port, found[0].user.as_deref()), (Some(5432), Some("aiida")));
}
