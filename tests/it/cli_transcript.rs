//! The commands of `docs/transcript.md`, run as they stand there: a first day, a night under cron,
//! and a restore on an empty machine.

use std::fs;

use super::support::{Run, Sandbox};
use super::support_databases::Postgres;

/// The commands below each heading of the page, in order.
fn commands() -> Vec<(String, String)> {
    let page = include_str!("../../docs/transcript.md");
    let (mut parts, mut inside) = (Vec::<(String, String)>::new(), false);
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            parts.push((heading.to_owned(), String::new()));
        }
        inside = if line.starts_with("```") { line == "```console" } else { inside };
        if let Some(command) = line.strip_prefix("# ").filter(|_| inside) {
            let script = &mut parts.last_mut().unwrap().1;
            script.push_str(command);
            script.push('\n');
        }
    }
    parts
}

/// A machine: the sandbox, with a server of its own.
struct Machine<'a> {
    sandbox: &'a Sandbox,
    server: &'a Postgres,
}

impl Machine<'_> {
    /// The page's folders are the sandbox's. Everything in that lies on one disk.
    fn run(&self, script: &str) -> Run {
        let top = self.sandbox.path("").display().to_string().trim_end_matches('/').to_owned();
        let mut script =
            script.replace("/run/postgresql", &self.server.host().display().to_string());
        for folder in ["/srv/", "/mnt/", "/media/", "/etc/"] {
            script = script.replace(folder, &format!("{top}{folder}"));
        }
        let script = script.replace("gabion setup ", "gabion setup --same-disk ");
        let program = format!("gabion() {{ \"$GABION\" \"$@\"; }}\nset -e\n{script}");
        let config = format!("{top}/etc/gabion/gabion.toml");
        self.sandbox
            .shell(&program)
            .env("HOME", self.sandbox.path("home"))
            .env("GABION_CONFIG", config)
            .env_remove("GABION_REPOSITORY")
            .env_remove("GABION_CACHE_DIR")
    }
}

#[test]
fn the_transcript_leads_from_nothing_to_a_restore_on_an_empty_machine() {
    let sandbox = Sandbox::new();
    for folder in ["mnt/backup", "media/usb", "etc/cron.d"] {
        fs::create_dir_all(sandbox.path(folder)).unwrap();
    }
    sandbox.write("srv/lab/plan.txt", "a plan");
    sandbox.write("srv/lab/run/1/out.dat", vec![7; 300_000]);
    let parts = commands();
    let script = |heading: &str| {
        &parts.iter().find(|(found, _)| found == heading).unwrap_or_else(|| panic!("{heading}")).1
    };
    const SUM: &str = "SELECT count(*), md5(string_agg(x, ',' ORDER BY x)) FROM t";

    let server = Postgres::start();
    server.sql("postgres", "CREATE DATABASE lab");
    server.sql(
        "lab",
        "CREATE TABLE t AS SELECT md5(n::text) AS x FROM generate_series(1, 5000) AS n",
    );
    let first = Machine { sandbox: &sandbox, server: &server };
    let day = first.run(script("The first day")).run().success();
    assert!(day.stdout().contains("gabion OK: nightly "), "{}", day.stdout());

    // The night: what changed meanwhile, and cron with next to no variables.
    server.sql("lab", "INSERT INTO t SELECT md5(n::text) FROM generate_series(5001, 6000) AS n");
    sandbox.write("srv/lab/run/2/out.dat", vec![8; 200_000]);
    let table = fs::read_to_string(sandbox.path("etc/cron.d/gabion")).unwrap();
    let line = table.lines().find(|line| line.starts_with("30 2 * * * ")).unwrap();
    let command = line.split_whitespace().skip(6).collect::<Vec<_>>().join(" ");
    let home = sandbox.path("home").display().to_string();
    let night = format!("cd / && env -i PATH=/usr/bin:/bin HOME={home} setsid sh -c '{command}'");
    sandbox.shell(&format!("{night} </dev/null")).run().success().silent();

    let morning = first.run(script("The nights")).run().success();
    assert!(morning.stdout().lines().count() > 3, "{}", morning.stdout());
    first.run(script("A file is missed")).run().success();
    assert_eq!(fs::read_to_string(sandbox.path("srv/lab/plan.txt")).unwrap(), "a plan");
    let expected = server.sql("lab", SUM);
    drop(server);

    fs::remove_dir_all(sandbox.path("srv")).unwrap();
    fs::remove_dir_all(sandbox.path("etc")).unwrap();
    fs::remove_dir_all(sandbox.path("home")).unwrap();
    fs::create_dir_all(sandbox.path("srv")).unwrap();
    fs::create_dir_all(sandbox.path("home")).unwrap();
    let server = Postgres::start();
    let second = Machine { sandbox: &sandbox, server: &server };
    let script = format!("unset GABION_CONFIG\n{}", script("The machine is gone"));
    second.run(&script).run().success();
    assert_eq!(server.sql("lab", SUM), expected);
    assert_eq!(fs::read(sandbox.path("srv/lab/run/2/out.dat")).unwrap(), vec![8; 200_000]);
    assert_eq!(fs::read_to_string(sandbox.path("srv/lab/plan.txt")).unwrap(), "a plan");
}
