//! The second reader of the format: `tools/last-resort.py`, written from `FORMAT.md` alone, must
//! list, check and restore every kind of repository that gabion makes and has ever made.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::support::{Run, Sandbox};

/// `tools/last-resort.py` with these arguments, in the Python environment that `./test` makes.
fn last_resort<A: AsRef<OsStr>>(sandbox: &Sandbox, args: impl IntoIterator<Item = A>) -> Run {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let python = target.join("last-resort/bin/python");
    assert!(python.exists(), "{} is missing; ./test makes it", python.display());
    let program = program();
    let args: Vec<_> = args.into_iter().collect();
    let all = [program.as_os_str()].into_iter().chain(args.iter().map(AsRef::as_ref));
    sandbox.program(python.to_str().unwrap(), all)
}

fn program() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/last-resort.py")
}

/// A sandbox with a copy of a kept repository, its key and what it must restore to.
fn with_fixture(name: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    sandbox.shell(&format!("cp -r '{}'/. .", from.display())).run().success();
    sandbox
}

const WITH_KEY: [&str; 3] = ["--key-file", "key", "repository"];

fn with_key<'a>(args: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    WITH_KEY.into_iter().chain(args.iter().copied())
}

#[test]
fn the_last_resort_reads_every_kept_repository() {
    for name in ["repo-v1", "repo-v1-parity"] {
        let sandbox = with_fixture(name);
        let listed = last_resort(&sandbox, with_key(&["list"])).run().success();
        assert_eq!(listed.stdout().lines().count(), 2, "{name}");
        last_resort(&sandbox, with_key(&["check"])).run().success();
        last_resort(&sandbox, with_key(&["restore", "latest", "out"])).run().success();
        // An empty directory does not survive a checkout.
        let compare = "[ ! -d expected/sub ] || mkdir -p expected/sub/empty out/data/sub/empty; \
                       diff -r --no-dereference expected out/data";
        sandbox.shell(compare).run().success();
    }
    let sandbox = with_fixture("repo-v1-delta");
    let listed = last_resort(&sandbox, with_key(&["list"])).run().success();
    last_resort(&sandbox, with_key(&["check"])).run().success();
    for (line, day) in listed.stdout().lines().zip(1..) {
        let dump = last_resort(&sandbox, with_key(&["cat", &line[..32], "db.csv"])).run().success();
        let expected = std::fs::read_to_string(sandbox.path(format!("expected/{day}.csv")));
        assert!(dump.stdout() == expected.unwrap(), "day {day}");
    }
    assert_eq!(listed.stdout().lines().count(), 3);
}

/// A source with every kind of entry that can be made without rights, and two snapshots of it.
const SOURCE: &str = r#"
    mkdir -p src/deep/er "src/odd $(printf '\377')" && cd src
    echo one >deep/x && ln deep/x deep/y && ln -s ../deep deep/er/link && mkfifo pipe
    truncate -s 3M sparse && echo end >>sparse && head -c 5000000 /dev/urandom >random
    seq 200000 >text && for i in $(seq 400); do echo $i >deep/er/$i; done
    chmod 4750 deep/er/7 && chmod 500 deep/er && touch -d @1000000000.123456789 deep/er/8
    setfattr -n user.kind -v value deep/x && : >empty
    cd .. && $GABION snapshot src --stream 'd.sql=seq 100000' --quiet
    sed -i 's/^5/77/' src/text && date >src/new
    $GABION snapshot src --stream 'd.sql=seq 100001' --quiet
"#;

/// Lists every attribute that both programs restore, one line for each entry.
const COMPARE: &str = r#"
    list() { cd "$1$PWD/src" && find . -printf '%p %y %m %U %G %n %T@ %l %s %b\n' | sort
             getfattr -dhR -m - . ; }
    rm -f list.1 list.2
    (list "$PWD/out") >list.1 2>/dev/null && (list "$PWD/reference") >list.2 2>/dev/null
    cut -d' ' -f1-8 list.1 >cut.1 && cut -d' ' -f1-8 list.2 >cut.2 && cmp cut.1 cut.2
    rm "out$PWD/src/pipe" "reference$PWD/src/pipe"
    diff -r --no-dereference "reference$PWD/src" "out$PWD/src" && cmp reference/d.sql out/d.sql
"#;

#[test]
fn the_last_resort_restores_what_gabion_restores() {
    for options in [&[][..], &["--parity", "5"], &["--delta"]] {
        let sandbox = Sandbox::new();
        let password = |run: Run| run.env("GABION_PASSWORD", "pass wörd");
        let init = ["init", "--quiet"].iter().chain(options);
        password(sandbox.gabion(init)).run().success();
        restores_the_same(&sandbox, password);
    }
    let sandbox = Sandbox::with_repository();
    restores_the_same(&sandbox, |run| run);
}

fn restores_the_same(sandbox: &Sandbox, with_secret: impl Fn(Run) -> Run) {
    with_secret(sandbox.shell(SOURCE)).run().success();
    with_secret(sandbox.gabion(["restore", "latest", "--target", "reference", "--quiet"]))
        .run()
        .success();
    let reader = |args: &[&str]| {
        let args = ["repository"].into_iter().chain(args.iter().copied());
        with_secret(last_resort(sandbox, args)).run()
    };
    reader(&["check"]).success();
    reader(&["restore", "latest", "out"]).success();
    sandbox.shell(COMPARE).run().success();
}

#[test]
fn the_last_resort_names_damage_and_a_wrong_passphrase() {
    let sandbox = with_fixture("repo-v1");
    let hit = "f=$(find repository/packs -type f -size +2k | head -n 1); \
               printf x | dd of=$f bs=1 seek=200 conv=notrunc status=none";
    sandbox.shell(hit).run().success();
    last_resort(&sandbox, with_key(&["check"])).run().code(13);
    let wrong = last_resort(&sandbox, ["repository", "list"]).env("GABION_PASSWORD", "wrong");
    assert!(wrong.run().code(1).stderr().contains("no key slot opens"));
}

#[test]
fn the_last_resort_stays_short_enough_to_be_read() {
    let text = std::fs::read_to_string(program()).unwrap();
    let lines = text.lines().filter(|line| !line.trim().is_empty()).count();
    assert!(lines <= 600, "{lines} lines that are not blank");
}
