//! Restoring from the command line.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::support::Sandbox;

fn with_snapshot() -> Sandbox {
    let sandbox = Sandbox::with_repository();
    sandbox.write("src/a/file", "content");
    sandbox.write("src/b.tmp", "more");
    sandbox.gabion(["snapshot", "src", "--stream", "db.sql=echo data"]).run().success();
    sandbox
}

fn read(sandbox: &Sandbox, name: &str) -> String {
    fs::read_to_string(sandbox.path(name)).unwrap()
}

#[test]
fn the_whole_snapshot_goes_below_the_target() {
    let sandbox = with_snapshot();
    let done = sandbox.gabion(["restore", "latest", "--target", "out", "--verify"]).run().success();
    assert_eq!(done.stderr(), "");
    assert!(done.stdout().starts_with("restored "), "{}", done.stdout());
    assert!(done.stdout().contains(" verified\n"), "{}", done.stdout());
    let below = format!("out{}", sandbox.path("src/a/file").display());
    assert_eq!(read(&sandbox, &below), "content");
    assert_eq!(read(&sandbox, "out/db.sql"), "data\n");
}

#[test]
fn a_path_goes_directly_into_the_target() {
    let sandbox = with_snapshot();
    let what = format!("latest:{}", sandbox.path("src").display());
    let args = ["restore", &what, "--target", "out", "--exclude", "*.tmp", "--json"];
    let summary = sandbox.gabion(args).run().success().json_lines().remove(0);
    assert_eq!((&summary["type"], &summary["left-out"]), (&"summary".into(), &1.into()));
    assert_eq!(read(&sandbox, "out/a/file"), "content");
    assert!(!sandbox.path("out/b.tmp").exists());
    sandbox.gabion(["restore", "latest:/nowhere", "--target", "new"]).run().code(1);
}

#[test]
fn what_is_there_is_not_touched_without_leave() {
    let sandbox = with_snapshot();
    let what = format!("latest:{}", sandbox.path("src").display());
    sandbox.write("out/a/file", "mine");
    sandbox.write("out/extra", "mine");
    let refused = sandbox.gabion(["restore", &what, "--target", "out"]).run().code(1);
    refused.says("out is not empty").says("--overwrite");
    assert_eq!(read(&sandbox, "out/a/file"), "mine");
    let with = |rest: &[&str]| {
        let args = ["restore", &what, "--target", "out", "-q"];
        sandbox.gabion(args.iter().chain(rest)).run().success().silent();
    };
    with(&["--overwrite", "never"]);
    assert_eq!(read(&sandbox, "out/a/file"), "mine");
    with(&["--overwrite", "always", "--delete", "--dry-run"]);
    assert_eq!(read(&sandbox, "out/a/file"), "mine");
    with(&["--overwrite", "always", "--delete"]);
    assert_eq!(read(&sandbox, "out/a/file"), "content");
    assert!(!sandbox.path("out/extra").exists());
}

#[test]
fn recorded_permissions_come_back_whatever_the_mask() {
    let sandbox = with_snapshot();
    fs::set_permissions(sandbox.path("src/a"), fs::Permissions::from_mode(0o755)).unwrap();
    let script = "umask 077; $GABION snapshot -q src; $GABION restore -q latest --target out";
    sandbox.shell(script).run().success().silent();
    let restored = sandbox.path(format!("out{}", sandbox.path("src/a").display()));
    assert_eq!(fs::metadata(restored).unwrap().permissions().mode() & 0o777, 0o755);
}

#[test]
fn damage_ends_with_13_and_the_rest_is_restored() {
    let sandbox = with_snapshot();
    let noise: Vec<u8> = (0..200_000_u32)
        .flat_map(|n| blake3::hash(&n.to_le_bytes()).as_bytes()[..4].to_vec())
        .collect();
    sandbox.write("src/large", noise);
    sandbox.gabion(["snapshot", "src"]).run().success();
    let mut packs = Vec::new();
    for folder in fs::read_dir(sandbox.path("repository/packs")).unwrap() {
        packs
            .extend(fs::read_dir(folder.unwrap().path()).unwrap().map(|item| item.unwrap().path()));
    }
    let largest = packs.into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&largest).unwrap();
    bytes[300_000] ^= 1;
    fs::set_permissions(&largest, fs::Permissions::from_mode(0o600)).unwrap();
    sandbox.write(largest.strip_prefix(sandbox.path("")).unwrap(), bytes);
    let done = sandbox.gabion(["restore", "latest", "--target", "out"]).run().code(13);
    done.says("problem: ").says("src/large: ");
    assert!(done.stdout().contains(" PROBLEMS\n"), "{}", done.stdout());
    assert_eq!(read(&sandbox, &format!("out{}", sandbox.path("src/a/file").display())), "content");
    let what = format!("latest:{}", sandbox.path("src/large").display());
    sandbox.gabion(["cat", &what]).run().code(13);
}

#[test]
fn a_server_that_must_be_stopped_keeps_a_restore_away() {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;
    let sandbox = Sandbox::with_repository();
    sandbox.write("src/file", "content");
    sandbox.gabion(["snapshot", "src"]).run().success();
    let restore = |what: &str| {
        let args = ["restore", "latest", "--target", "new", "--require-stopped", what];
        sandbox.gabion(args).run()
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let socket = sandbox.path("socket");
    let answers = UnixListener::bind(&socket).unwrap();
    let socket = socket.display().to_string();
    sandbox.write("pid", format!("{}\n/srv/data\n", std::process::id()));
    for (what, said) in [
        (&*port, "is open"),
        (&format!("localhost:{port}"), "localhost accepts at port"),
        (&socket, "answers"),
        ("pid", "of pid"),
    ] {
        restore(what).code(1).says("what must be stopped is running: ").says(said);
        assert!(!sandbox.path("new").exists());
    }
    sandbox.write("odd", "no number");
    restore("odd").code(2).says("it holds no number");
    restore("not/there").code(2).says("name a port, a socket, or a file");
    drop((listener, answers));
    // Nothing listens there any more; of a process that is gone, the number is left behind.
    let mut gone = std::process::Command::new("true").spawn().unwrap();
    sandbox.write("pid", gone.id().to_string());
    gone.wait().unwrap();
    let all = ["--require-stopped", &socket, "--require-stopped", "pid"];
    let more = ["--require-stopped", "/run/no/such.pid", "--require-stopped", &port];
    let args = ["restore", "latest", "--target", "new"];
    sandbox.gabion(args.iter().chain(&all).chain(&more)).run().success();
    assert!(sandbox.path("new").exists());
}
