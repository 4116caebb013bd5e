//! `gabion setup`: with flags, with questions on a terminal, and what it refuses.

mod databases;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::support::{Run, Sandbox};

/// A set-up in which `TOP` stands for the sandbox.
fn setup(sandbox: &Sandbox, flags: &str) -> Run {
    let top = sandbox.path("").display().to_string().trim_end_matches('/').to_owned();
    let flags = flags.replace("TOP", &top);
    let flags = flags.split_whitespace().map(str::to_owned);
    let all = ["setup".to_owned(), format!("--config={top}/etc/gabion.toml")];
    let command = sandbox.gabion(all.into_iter().chain(flags));
    command.env_remove("GABION_REPOSITORY").env_remove("GABION_CACHE_DIR")
}

fn with_source() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("src/file", "content");
    sandbox
}

const FLAGS: &str = "--repository TOP/r --path TOP/src --same-disk --make-password-file TOP/etc/p";

#[test]
fn flags_alone_set_everything_up_to_the_first_snapshot() {
    let sandbox = with_source();
    let done = setup(&sandbox, &format!("{FLAGS} --mail a@b --first-snapshot")).run().success();
    let config = sandbox.path("etc/gabion.toml");
    let password = fs::read_to_string(sandbox.path("etc/p")).unwrap();
    assert!(password.trim_end().len() >= 40 && password.ends_with('\n'), "{password:?}");
    for file in [&config, &sandbox.path("etc/p")] {
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    for said in
        ["made repository ", "KEEP A COPY", "30 2 * * * ", "OnCalendar=", "nightly: snapshot "]
    {
        assert!(done.stdout().contains(said), "{said:?} is not in {}", done.stdout());
    }
    assert!(!done.stdout().contains(password.trim_end()));
    let config = config.to_str().unwrap().to_owned();
    let configured = |args: &[&str]| {
        let all = ["--config", &config].into_iter().chain(args.iter().copied());
        sandbox.gabion(all).env_remove("GABION_REPOSITORY")
    };
    let jobs = configured(&["jobs", "--explain"]).run().success();
    assert!(jobs.stdout().contains("notify.mail = a@b"), "{}", jobs.stdout());
    assert_eq!(configured(&["snapshots", "--json"]).run().success().json_lines().len(), 1);
    configured(&["status"]).run().success();

    let before = fs::read(&config).unwrap();
    setup(&sandbox, FLAGS).run().code(2).says("is there already").says("--overwrite");
    assert_eq!(fs::read(&config).unwrap(), before);
    let again = "--repository TOP/r --path TOP/src --same-disk --overwrite --job other";
    let again = setup(&sandbox, &format!("{again} --password-file TOP/etc/p --json"));
    let said = again.run().success().json_lines().remove(0);
    assert_eq!((&said["new"], &said["job"]), (&false.into(), &"other".into()));
    assert!(fs::read_to_string(&config).unwrap().contains("[job.other]\n"));
    sandbox.write("wrong", "word\n");
    let wrong = "--repository TOP/r --path TOP/src --same-disk --overwrite";
    setup(&sandbox, &format!("{wrong} --password-file TOP/wrong")).run().code(11);
    assert!(fs::read_to_string(&config).unwrap().contains("[job.other]\n"));
}

#[test]
fn what_is_missing_or_makes_no_sense_is_refused_and_nothing_is_written() {
    let sandbox = with_source();
    sandbox.write("full/thing", "");
    sandbox.write("src/inner/file", "");
    std::os::unix::fs::symlink("src", sandbox.path("link")).unwrap();
    for (flags, said) in [
        ("--repository TOP/r --same-disk", "say --path PATH, --aiida PROFILE, --linkahead FILE"),
        ("--repository TOP/r --aiida x --same-disk", "~/.aiida"),
        ("--path TOP/src", "--repository is missing"),
        ("--path TOP/src --repository me@host::/srv/r", "is no place for a repository"),
        ("--path TOP/src --mariadb-user me", "it is not said which MariaDB database"),
        ("--repository TOP/r --path TOP/src", "say --same-disk"),
        ("--repository TOP/src/r --path TOP/src --same-disk", "lies in the source"),
        ("--repository TOP/src --path TOP/src/inner --same-disk", "the source "),
        ("--repository TOP/full --path TOP/src --same-disk", "neither a repository nor an empty"),
        ("--repository TOP/no/r --path TOP/src --same-disk", "cannot find "),
        ("--repository TOP/r --path TOP/gone --same-disk", "cannot find "),
        ("--repository TOP/r --path TOP/link --same-disk", "is a link"),
        (
            "--repository TOP/r --path TOP/src --same-disk --make-password-file TOP/r/p",
            "lies in the",
        ),
        (
            "--repository TOP/r --path TOP/src --same-disk --make-password-file TOP/full/thing",
            "there",
        ),
        ("--repository TOP/r --path TOP/src --same-disk --schedule daily", "--schedule"),
        ("--repository TOP/r --path TOP/src --same-disk --keep-daily 0", "--keep-daily"),
        ("--repository TOP/r --path TOP/src --same-disk --job a/b", "cannot name a job"),
        ("--repository TOP/r --path TOP/src --same-disk --mail=-x", "no address"),
        ("--repository TOP/r --path TOP/src --same-disk --exclude a[", "pattern"),
    ] {
        setup(&sandbox, flags).run().code(2).says(said);
    }
    let secret = setup(&sandbox, "--repository TOP/r --path TOP/src --same-disk");
    secret.env("GABION_PASSWORD", "word").run().code(2).says("--password-file");
    let shown = setup(&sandbox, &format!("{FLAGS} --print-config")).run().success();
    assert!(shown.stdout().contains("\n[repository]\nurl = \""), "{}", shown.stdout());
    for path in ["etc", "r", "src/r"] {
        assert!(!sandbox.path(path).exists(), "{path}");
    }
    assert_eq!(fs::read_dir(sandbox.path("full")).unwrap().count(), 1);
}

#[test]
fn a_server_of_linkahead_is_one_answer() {
    let sandbox = with_source();
    let conf = "FILE_SYSTEM_ROOT=./files\nMYSQL_HOST=localhost\nMYSQL_DATABASE_NAME=lab\n\
                MYSQL_USER_PASSWORD=secret-word\n";
    let file = sandbox.write("server/conf/core/server.conf", conf);
    let flags = "--repository TOP/r --same-disk --linkahead TOP/server/conf/core/server.conf \
                 --skip-database-test --print-config";
    setup(&sandbox, flags).run().code(2).says("cannot find ").says("server/files");
    sandbox.write("server/files/data", "data");
    let shown = setup(&sandbox, &format!("{flags} --mariadb-defaults-file TOP/my.cnf")).run();
    let shown = shown.success();
    for line in ["mount-links = \"report\"", "[[job.nightly.mariadb]]", "database = \"lab\""] {
        assert!(shown.stdout().lines().any(|found| found == line), "{}", shown.stdout());
    }
    for part in ["server/files\"", "server/conf/core\"", "my.cnf\""] {
        assert!(shown.stdout().contains(part), "{}", shown.stdout());
    }
    assert!(!shown.stdout().contains("secret-word"));
    sandbox.write(&file, "MYSQL_HOST=localhost\n");
    setup(&sandbox, flags).run().code(2).says("where FILE_SYSTEM_ROOT is").says("--path");
}

#[test]
fn programs_that_are_missing_are_named_with_their_package() {
    let sandbox = with_source();
    for (flags, package) in
        [("--postgresql lab", "postgresql-client"), ("--mariadb lab", "mariadb-client")]
    {
        let flags = format!("--repository TOP/r --plaintext {flags}");
        let none = setup(&sandbox, &flags).env("PATH", "/none").run().code(12);
        none.says("cannot start ").says(package);
    }
    assert!(!sandbox.path("etc").exists());
}

#[test]
fn a_repository_on_another_disk_needs_no_flag() {
    use std::os::unix::fs::MetadataExt as _;
    let sandbox = with_source();
    let other = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let disk = |path: &std::path::Path| fs::metadata(path).unwrap().dev();
    if disk(other.path()) == disk(&sandbox.path("src")) {
        return;
    }
    let place = other.path().join("r").display().to_string();
    setup(&sandbox, &format!("--repository {place} --path TOP/src --plaintext")).run().success();
    let text = fs::read_to_string(sandbox.path("etc/gabion.toml")).unwrap();
    assert!(text.contains("# The repository is not encrypted"), "{text}");
}

#[test]
fn a_person_is_asked_and_wrong_answers_are_asked_for_again() {
    let sandbox = with_source();
    sandbox.write(
        "home/.aiida/config.json",
        r#"{"profiles": {"lab": {"storage":
        {"backend": "core.psql_dos", "config": {"database_name": "aiidadb"}}}}}"#,
    );
    let old = format!(r#"{{"backup_dir": "{}"}}"#, sandbox.path("disk/backup_dest").display());
    sandbox.write("home/.aiida/backup_lab/backup_info.json", old);
    fs::create_dir(sandbox.path("disk")).unwrap();
    let source = sandbox.path("src").display().to_string() + "\n";
    let proposed = format!("[{}]: ", sandbox.path("disk/gabion").display());
    let run = setup(&sandbox, "--no-first-snapshot").env("PGPASSFILE", "/none");
    let done = run.run_on_terminal(&[
        ("the AiiDA profile lab (core.psql_dos, aiidadb)", ""),
        ("Name of the job [nightly]: ", "lab\n"),
        ("AiiDA profiles to be kept (- for none) [lab]: ", "-\n"),
        ("A file or folder", "/no/such\n"),
        ("cannot find /no/such", ""),
        ("A file or folder", &source),
        ("A file or folder", "\n"),
        ("PostgreSQL databases", "-\n"),
        ("MariaDB or MySQL databases", "\n"),
        ("An SQLite database", "\n"),
        (&proposed, "\n"),
        ("Use it all the same? [no]: ", "yes\n"),
        ("File to be made for a random passphrase", "\n"),
        ("When it runs", "sometimes\n"),
        ("When it runs", "sun 04:05\n"),
        ("Keep daily snapshots [7]: ", "\n"),
        ("Keep weekly snapshots", "x\n"),
        ("Keep weekly snapshots", "2\n"),
        ("Keep monthly snapshots", "\n"),
        ("Who gets a mail", "\n"),
    ]);
    done.success();
    let text = fs::read_to_string(sandbox.path("etc/gabion.toml")).unwrap();
    for line in ["[job.lab]", "schedule = \"sun 04:05\"", "daily = 7", "weekly = 2", "monthly = 12"]
    {
        assert!(text.lines().any(|found| found == line), "{text}");
    }
    assert!(sandbox.path("disk/gabion/config").exists() && sandbox.path("etc/password").exists());
    // Who presses Ctrl-D has changed nothing.
    let leaves = setup(&sandbox, "").run_on_terminal(&[("Replace it? [no]: ", "\x04")]);
    leaves.code(130);
    assert_eq!(fs::read_to_string(sandbox.path("etc/gabion.toml")).unwrap(), text);
}

#[test]
fn a_profile_of_aiida_is_found_and_its_database_asked() {
    let sandbox = with_source();
    let data = sandbox.path("data/lab");
    let config = serde_json::json!({"default_profile": "lab", "profiles": {"lab": {"storage": {
        "backend": "core.sqlite_dos", "config": {"filepath": data}}}}});
    sandbox.write("home/.aiida/config.json", config.to_string());
    fs::create_dir_all(data.join("container/packs")).unwrap();
    let index = rusqlite::Connection::open(data.join("container/packs.idx")).unwrap();
    index.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE db_object (id)").unwrap();
    let flags = "--repository TOP/r --aiida lab --plaintext --first-snapshot";
    setup(&sandbox, flags).run().code(2).says("lies on the same disk as ").says("data/lab");
    let flags = format!("{flags} --same-disk");
    // The database is not there yet.
    setup(&sandbox, &flags).run().code(12).says("stream lab.sqlite");
    let other = setup(&sandbox, &flags.replace("--aiida lab", "--aiida bal"));
    other.run().code(1).says("no profile \"bal\" (it has lab)");
    let database = rusqlite::Connection::open(data.join("database.sqlite")).unwrap();
    database.execute_batch("CREATE TABLE db_dbnode (id)").unwrap();
    let done = setup(&sandbox, &flags).run().success();
    assert!(done.stdout().contains("answers: SQLite "), "{}", done.stdout());
    let listed = sandbox.gabion(["ls", "latest", "-r", sandbox.path("r").to_str().unwrap()]);
    let listed = listed.run().success();
    for name in ["lab.aiida.json", "lab.sqlite", "container/packs.idx"] {
        assert!(listed.stdout().contains(&format!("{name}\n")), "{}", listed.stdout());
    }
    assert!(!listed.stdout().contains("-wal") && !listed.stdout().contains("database.sqlite"));
}

#[test]
fn a_configuration_is_replaced_at_once_or_not_at_all() {
    if !fs::exists("/usr/bin/strace").unwrap() {
        return;
    }
    let sandbox = with_source();
    setup(&sandbox, &format!("{FLAGS} --job old")).run().success();
    let file = sandbox.path("etc/gabion.toml");
    let old = fs::read_to_string(&file).unwrap();
    let top = sandbox.path("").display().to_string().trim_end_matches('/').to_owned();
    let again = |fault: &str| {
        let script = format!(
            "strace -f -qq -y -o trace -e trace=openat,write,fsync,rename,renameat,renameat2 {fault} $GABION setup \
             --config {top}/etc/gabion.toml --repository {top}/r --path {top}/src --same-disk \
             --overwrite --password-file {top}/etc/p --job new; true"
        );
        sandbox.shell(&script).env_remove("GABION_REPOSITORY").run().success();
        fs::read_to_string(sandbox.path("trace")).unwrap()
    };
    // Ended before the name changes, and with a disk that does not take the bytes.
    let renames = "rename,renameat,renameat2";
    let faults = ["signal=KILL", "error=EIO"].map(|fault| format!("{renames}:{fault}"));
    let syncs = ["signal=KILL", "error=EIO"].map(|fault| format!("fsync:{fault}"));
    for fault in faults.into_iter().chain(syncs) {
        again(&format!("-e inject={fault}"));
        assert_eq!(fs::read_to_string(&file).unwrap(), old, "{fault}");
    }
    let trace = again("");
    assert!(fs::read_to_string(&file).unwrap().contains("[job.new]"));
    // The bytes are on the disk before the name is theirs, and the name is before the end.
    let lines: Vec<&str> = trace.lines().collect();
    let synced = lines.iter().position(|l| l.contains("fsync(") && l.contains("/.gabion-"));
    let renamed = lines.iter().position(|l| l.contains("rename") && l.contains("gabion.toml\""));
    let folder = lines.iter().rposition(|l| l.contains("fsync(") && l.contains("/etc>"));
    assert!(synced.is_some() && synced < renamed && renamed < folder, "{trace}");
}
