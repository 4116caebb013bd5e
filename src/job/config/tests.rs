//! What a configuration may say, and what is refused with which words.

use super::*;

const HEAD: &str = "[repository]\nurl = \"/mnt/backup\"\n\n";

fn parse(rest: &str) -> Result<Configuration, ConfigError> {
    Configuration::parse(
        &format!("{HEAD}{rest}"),
        Path::new("/etc/gabion.toml"),
        Some(Path::new("/home/me")),
    )
}

#[track_caller]
fn refused(rest: &str, line: usize, reason: &str) {
    let error = parse(rest).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(&format!("/etc/gabion.toml:{line}: ")), "{text}");
    assert!(text.contains(reason), "{text}");
    assert!(!text.contains('\n'), "{text}");
    assert!(error.cure.is_some_and(|cure| !cure.is_empty() && !cure.contains('\n')), "{text}");
}

#[test]
fn the_example_of_the_manual_is_understood() {
    let text = include_str!("example.toml");
    let read = Configuration::parse(text, Path::new("example.toml"), None).unwrap();
    assert!(matches!(read.repository.key, Some(KeyPlace::PasswordFile(_))));
    let job = &read.jobs["aiida"];
    assert_eq!(job.streams.len(), 4);
    let names: Vec<String> = job.streams.iter().flat_map(StreamConfig::stream_names).collect();
    let expected = [
        "aiidadb.pgsql",
        "postgresql-globals.pgsql",
        "caosdb.mysql",
        "packs.idx.sqlite",
        "etc.tar",
    ];
    assert_eq!(names, expected);
    let keep = job.keep.as_ref().unwrap();
    assert_eq!((keep.daily, keep.yearly), (Some(7), None));
    assert_eq!(job.limits.wait, Wait::For(Duration::from_secs(1800)));
    assert_eq!(job.check_budget, Some(1 << 30));
}

#[test]
fn a_short_job_gets_all_defaults() {
    let read = parse("[job.home]\npaths = [\"/home/\"]\n").unwrap();
    let job = &read.jobs["home"];
    assert_eq!(job.paths, [Path::new("/home")]);
    assert_eq!((job.compression, job.schedule.to_string().as_str()), (1, "02:30"));
    assert_eq!(
        (job.keep.is_none(), job.limits, job.notify.mail.is_none()),
        (true, Limits::default(), true)
    );
}

#[test]
fn what_makes_no_sense_is_refused_with_its_line() {
    let job = |rest: &str| format!("[job.x]\npaths = [\"/a\"]\n{rest}\n");
    for (rest, line, reason) in [
        ("[job.x]\npathes = [\"/a\"]\n".to_owned(), 5, "unknown key `pathes`"),
        ("[job.x]\npaths = \"/a\"\n".to_owned(), 5, "invalid type"),
        ("[job.x]\npaths = [\"a/b\"]\n".to_owned(), 5, "no absolute path"),
        ("[job.x]\npaths = [\"/a/../b\"]\n".to_owned(), 5, "`..`"),
        ("[job.x]\ntags = [\"t\"]\n".to_owned(), 4, "nothing to take a snapshot of"),
        ("[job.\"a b\"]\npaths = [\"/a\"]\n".to_owned(), 4, "cannot name a job"),
        (job("tags = [\"\"]"), 6, "`tags` is empty"),
        (job("exclude = [\"a[\"]"), 6, "pattern"),
        (job("write-once = [\"/b\"]"), 6, "none of the job's paths"),
        (job("watched = true\nwrite-once = [\"/a\"]"), 6, "`watched` and `write-once`"),
        (job("changed-from = \"x\"\nwatched = true"), 7, "`watched` and `changed-from`"),
        (job("full-scan-every = \"0d\""), 6, "`full-scan-every`"),
        (job("compression = 0"), 6, "between 1 and 22"),
        (job("schedule = \"daily\""), 6, "`schedule`"),
        (job("[job.x.keep]\ndaily = 0"), 7, "`daily` must be a number from 1, not 0"),
        (job("[job.x.keep]\ndaily = -7"), 7, "not -7"),
        (job("[job.x.keep]"), 6, "holds no rule"),
        (job("[job.x.keep]\nwithin = \"0d\""), 7, "`within`"),
        (job("[job.x.hooks]\ntimeout = \"10\""), 7, "`timeout`"),
        (job("[job.x.notify]\nwebhook = \"a.example\""), 7, "`webhook`"),
        (job("[job.x.notify]\nping = \"http://a\"\nping-file = \"/p\""), 7, "both given"),
        (job("[job.x.notify]\nwhen = \"weekly\""), 6, "tells nobody"),
        (job("[job.x.notify]\nwhen = \"never\""), 7, "`when`"),
        (job("[job.x.notify]\nmail = \"a b\""), 7, "no address"),
        (job("[job.x.check]\nbudget = \"much\""), 7, "`budget`"),
        (job("[job.x.limits]\nwait = \"stay\""), 7, "`wait`"),
        (job("[job.x.limits]\nnice = 20"), 7, "`nice`"),
        (job("[job.x.limits]\nionice = \"high\""), 7, "`ionice`"),
        (job("[job.x.limits]\nrate = \"fast\""), 7, "`rate`"),
        (job("[job.x.drill]\nfiles = \"many\""), 7, "`files`"),
        (job("[job.x.drill]\nfiles = -1"), 7, "`files`"),
        (job("[job.x.drill]\nrequire = [\"a\"]"), 7, "no absolute path"),
        (
            job("[[job.x.drill.sql]]\ndatabase = \"d\"\nquery = \"q\"\nvalue = 1\nat-least = 1"),
            6,
            "both given",
        ),
        (job("[[job.x.postgresql]]\nhost = \"h\""), 6, "which database"),
        (job("[[job.x.postgresql]]\ndatabase = \"a\"\nall = true"), 6, "said twice"),
        (job("[[job.x.postgresql]]\ndatabase = \"a\"\nport = 0"), 8, "`port`"),
        (job("[[job.x.postgresql]]\ndatabase = \"a\"\npassword = \"s\""), 8, "`password`"),
        (job("[[job.x.mariadb]]\ndatabase = \"a\"\nhost = \"h\"\nsocket = \"/s\""), 9, "both"),
        (job("[[job.x.command]]\nname = \"a/b\"\ncommand = \"true\""), 7, "cannot name a stream"),
        (job("[[job.x.command]]\nname = \"a\"\ncommand = \"true\""), 6, "first folder"),
        (
            job("[[job.x.sqlite]]\npath = \"/d/a.db\"\n[[job.x.sqlite]]\npath = \"/e/a.sqlite\""),
            8,
            "two streams",
        ),
    ] {
        refused(&rest, line, reason);
    }
}

#[test]
fn one_text_may_stand_for_a_list() {
    for (written, expected) in [("\"/p\"", 1), ("[\"/p\", \"/q\"]", 2)] {
        let read = parse(&format!("[job.x]\npaths = [\"/a\"]\nexclude-file = {written}\n"));
        assert_eq!(read.unwrap().jobs["x"].exclude_files.len(), expected);
    }
    let notify = |when: &str| {
        let text =
            format!("[job.x]\npaths = [\"/a\"]\n[job.x.notify]\nmail = \"m\"\nwhen = {when}");
        parse(&text).unwrap().jobs["x"].notify.when
    };
    let When { failure, recovery, success, weekly } = notify("\"always\"");
    assert!(failure && recovery && success && !weekly);
    let When { failure, recovery, success, weekly } = notify("[\"weekly\", \"failure\"]");
    assert!(failure && !recovery && !success && weekly);
    let error = parse("[job.x]\npaths = [\"/a\"]\nexclude-file = 7\n").unwrap_err().to_string();
    assert_eq!(error, "/etc/gabion.toml:6: expected a string or a list of strings");
}

#[test]
fn aiidas_folder_is_in_the_home_of_who_runs_the_job() {
    let text = "[job.x]\n[[job.x.aiida]]\n";
    let read = parse(text).unwrap();
    assert_eq!(read.jobs["x"].aiida[0].folder, Path::new("/home/me/.aiida"));
    let homeless = Configuration::parse(&format!("{HEAD}{text}"), Path::new("f"), None);
    assert!(homeless.unwrap_err().reason.contains("has no home folder"));
}

#[test]
fn passwords_and_doubtful_repositories_are_refused() {
    for (text, reason) in [
        ("[repository]\nurl = \"/r\"\npassword = \"secret\"\n", "unknown key `password`"),
        ("[repository]\nurl = \"r\"\n", "no absolute path"),
        ("[repository]\nurl = \"s3://r\"\n", "s3://r"),
        ("[repository]\nurl = \"host::r\"\n", "two colons"),
        ("[repository]\nurl = \"host:\"\n", "names no folder"),
        ("[repository]\nurl = \"/r\"\nkey-file = \"/k\"\npassword-file = \"/p\"\n", "two of"),
        ("[repository]\n", "missing key `url`"),
        ("[job.x]\npaths = [\"/a\"]\n", "missing key `repository`"),
        ("[repository\n", ""),
    ] {
        let error = Configuration::parse(text, Path::new("f"), None).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[test]
fn a_path_that_is_gone_is_found_when_the_job_is_used() {
    let read = parse("[job.x]\npaths = [\"/no/such\"]\n[job.y]\npaths = [\"/\"]\n").unwrap();
    let error = read.check_places("x").unwrap_err();
    assert!(
        error.to_string().starts_with("/etc/gabion.toml:5: `paths` names /no/such: "),
        "{error}"
    );
    assert_eq!(read.check_places("y"), Ok(()));
}

#[test]
fn everything_is_looked_at_once_a_week_unless_the_job_says_otherwise() {
    let every = |rest: &str| {
        let text = format!("[job.x]\npaths = [\"/a\"]\n{rest}\n");
        parse(&text).unwrap().jobs["x"].full_scan_every
    };
    assert_eq!(every(""), Some(Duration::from_secs(7 * 86_400)));
    assert_eq!(every("full-scan-every = \"36h\""), Some(Duration::from_secs(36 * 3600)));
    assert_eq!(every("full-scan-every = \"never\""), None);
}

#[test]
fn durations_and_names_of_streams_are_written_as_they_are_read() {
    for text in ["90s", "30m", "26h", "15d", "6w"] {
        assert_eq!(duration_text(parse_duration(text).unwrap()), *text);
    }
    for bad in ["", "5", "m", "0h", "-1d", "1y", "99999999999999999999s", "9999999999d"] {
        assert_eq!(parse_duration(bad), None, "{bad}");
    }
    assert_eq!(stream_name("", "a/b%\n", ".pgsql"), "a%2Fb%25%0A.pgsql");
}
