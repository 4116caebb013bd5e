//! Who is told how runs end, over HTTP: a server of the test's own listens.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};

use super::super::support::Sandbox;
use super::{FILES, configure, job, snapshots, with_jobs};

/// What was received: method and path, headers in lower case, body.
#[derive(Debug, Clone)]
pub(super) struct Request {
    line: String,
    headers: Vec<String>,
    pub(super) body: String,
}

/// A server that notes what it is sent.
pub(super) struct Receiver {
    pub(super) port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Receiver {
    pub(super) fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let noted = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                noted.lock().unwrap().push(receive(stream, answer));
            }
        });
        Self { port, requests }
    }

    /// What came since the last look.
    pub(super) fn take(&self) -> Vec<Request> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }

    /// Their first lines.
    fn lines(&self) -> Vec<String> {
        self.take().into_iter().map(|request| request.line).collect()
    }
}

fn receive(stream: TcpStream, answer: &str) -> Request {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let line = lines.remove(0).trim_end_matches(" HTTP/1.1").to_owned();
    let headers: Vec<String> = lines.iter().map(|line| line.to_lowercase()).collect();
    let len = headers.iter().find_map(|header| header.strip_prefix("content-length: "));
    let mut body = vec![0; len.map_or(0, |len| len.parse().unwrap())];
    reader.read_exact(&mut body).unwrap();
    let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    reader.get_mut().write_all(answer.as_bytes()).unwrap();
    Request { line, headers, body: String::from_utf8(body).unwrap() }
}

fn secret(sandbox: &Sandbox, name: &str, text: &str) {
    let path = sandbox.write(name, text);
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a source goes away and comes back")]
fn failures_and_recoveries_are_told_and_a_watchdog_hears_of_all() {
    let server = Receiver::start("200 OK");
    let port = server.port;
    let notify = format!(
        "[job.files.notify]\nwebhook-file = \"TOP/hook\"\nntfy = \"http://127.0.0.1:{port}/topic\"\n\
         ping = \"http://127.0.0.1:{port}/uuid\"\nauthorization-file = \"TOP/token\"\n"
    );
    let sandbox = with_jobs(&format!("{FILES}{notify}"));
    secret(&sandbox, "hook", &format!("http://127.0.0.1:{port}/hook?key=word\n"));
    secret(&sandbox, "token", "Bearer some-word\n");
    let all = job(&sandbox, &["jobs", "--explain"]).run().success();
    assert!(all.stdout().contains(&format!("notify.ntfy = http://127.0.0.1:{port}\n")));
    let run = || job(&sandbox, &["--quiet", "run", "files"]).run();

    run().success().silent();
    assert_eq!(server.lines(), ["POST /uuid/start", "POST /uuid"]);
    fs::rename(sandbox.path("src"), sandbox.path("away")).unwrap();
    run().code(1);
    let told = server.take();
    let lines: Vec<&str> = told.iter().map(|request| request.line.as_str()).collect();
    assert_eq!(
        lines,
        ["POST /uuid/start", "POST /uuid/fail", "POST /hook?key=word", "POST /topic"]
    );
    assert!(told[1].body.contains("names ") && told[1].body.contains("src"), "{}", told[1].body);
    let hook: serde_json::Value = serde_json::from_str(&told[2].body).unwrap();
    assert_eq!((&hook["occasion"], &hook["job"]), (&"failure".into(), &"files".into()));
    assert_eq!((&hook["run"]["exit-code"], &hook["run"]["outcome"]), (&1.into(), &"failed".into()));
    let has = |request: &Request, header: &str| request.headers.iter().any(|h| h == header);
    assert!(has(&told[2], "content-type: application/json"), "{:?}", told[2]);
    assert!(has(&told[2], "authorization: bearer some-word"), "{:?}", told[2]);
    assert!(has(&told[3], "priority: high") && has(&told[3], "tags: warning"), "{:?}", told[3]);
    assert!(told[3].headers.iter().any(|h| h.starts_with("title: gabion on ")), "{:?}", told[3]);
    assert!(!has(&told[0], "authorization: bearer some-word"), "not the watchdog's");

    fs::rename(sandbox.path("away"), sandbox.path("src")).unwrap();
    run().success().silent();
    let told = server.take();
    assert_eq!(told.len(), 4);
    let hook: serde_json::Value = serde_json::from_str(&told[2].body).unwrap();
    assert_eq!(hook["occasion"], "recovery");
    assert!(hook["subject"].as_str().unwrap().ends_with("files ok again"), "{hook}");
    run().success().silent();
    assert_eq!(server.lines(), ["POST /uuid/start", "POST /uuid"], "a recovery is told once");
    job(&sandbox, &["run", "--dry-run", "files"]).run().success();
    assert_eq!(server.lines().len(), 0);

    configure(&sandbox, &format!("{FILES}{notify}when = \"always\"\n"));
    run().success().silent();
    assert_eq!(server.lines().len(), 4);

    // A week has passed.
    configure(&sandbox, &format!("{FILES}{notify}when = [\"weekly\"]\n"));
    let path = sandbox.path("home/.local/state/gabion/files.json");
    let mut state: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let last = state["last-summary"].as_i64().unwrap();
    state["last-summary"] = (last - 8 * 86_400).into();
    sandbox.write(&path, state.to_string());
    run().success().silent();
    let told = server.take();
    let hook: serde_json::Value = serde_json::from_str(&told[2].body).unwrap();
    assert_eq!((told.len(), &hook["occasion"]), (4, &"weekly".into()));
    assert!(told[3].body.contains("runs: 5 ok, 0 incomplete, 1 failed"), "{}", told[3].body);
    run().success().silent();
    assert_eq!(server.lines().len(), 2);
}

#[test]
fn who_cannot_be_told_is_said_and_changes_no_exit_code() {
    let server = Receiver::start("500 Internal Server Error");
    // Nobody accepts here: the connection is made and nothing comes.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let notify = format!(
        "[job.files.notify]\nwebhook = \"http://127.0.0.1:{}/secret-path\"\n\
         ntfy = \"http://127.0.0.1:{}/secret-path\"\nping-file = \"TOP/ping\"\n\
         when = \"always\"\ntimeout = \"1s\"\n",
        server.port,
        mute.local_addr().unwrap().port()
    );
    let sandbox = with_jobs(&format!("{FILES}{notify}"));
    let ping = sandbox.write("ping", "http://127.0.0.1:1/secret-path");
    let done = job(&sandbox, &["--quiet", "run", "files"]).run().success();
    done.says("gabion: files: no ping: others can read ");
    done.says("no webhook: http://127.0.0.1").says("it answered with status 500");
    done.says("no ntfy: http://127.0.0.1").says("it did not answer in time");
    assert!(!done.stderr().contains("secret-path"), "{}", done.stderr());
    assert_eq!((done.stdout(), snapshots(&sandbox).len()), ("", 1));
    let status = job(&sandbox, &["status"]).run().success();
    assert!(status.stdout().contains("untold: no ping: "), "{}", status.stdout());
    fs::set_permissions(&ping, fs::Permissions::from_mode(0o600)).unwrap();
    let refused = job(&sandbox, &["--quiet", "run", "files"]).run().success();
    assert!(!refused.stderr().contains("secret-path"), "{}", refused.stderr());
}

#[test]
fn a_drill_that_fails_is_told() {
    let server = Receiver::start("200 OK");
    let sandbox = with_jobs(&format!(
        "{FILES}[job.files.notify]\nwebhook = \"http://127.0.0.1:{}/\"\n\
         [job.files.drill]\nrequire = [\"/gone\"]\n",
        server.port
    ));
    job(&sandbox, &["run", "files"]).run().success();
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    let place = folder.path().to_str().unwrap();
    job(&sandbox, &["--quiet", "drill", "files", "--folder", place]).run().code(1);
    let told = server.take();
    let hook: serde_json::Value = serde_json::from_str(&told[0].body).unwrap();
    assert_eq!((told.len(), &hook["occasion"]), (1, &"failure".into()));
    assert_eq!(hook["drill"]["problems"][0], "/gone is required, but not in the snapshot");
}

#[test]
fn a_gentle_run_has_the_priorities_that_it_was_given() {
    let stream = "[[job.files.command]]\nname = \"who\"\ncommand = \"nice; ionice\"\n";
    let limits = "[job.files.limits]\nnice = 7\nionice = \"idle\"\nrate = \"1GiB\"\n";
    let sandbox = with_jobs(&format!("{FILES}{stream}{limits}"));
    job(&sandbox, &["run", "files"]).run().success();
    let given = sandbox.gabion(["cat", "latest:who"]).run().success();
    let mut lines = given.stdout().lines();
    let nice: i32 = lines.next().unwrap().parse().unwrap();
    assert!(nice >= 7, "{}", given.stdout());
    assert_eq!(lines.next(), Some("idle"));
}
