//! Restores onto targets of every kind: hard links and special files at the target, full disks,
//! other owners, and file systems that cannot do everything.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use super::support::{Output, Run, Sandbox};

/// Runs `script` as the superuser in a mount namespace of its own; nothing where that cannot be.
fn in_own_mounts(sandbox: &Sandbox, script: &str) -> Option<Output> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let run = sandbox.program("unshare", ["-m", "sh", "-c", script]);
    let output = run.env("GABION", env!("CARGO_BIN_EXE_gabion")).run();
    (!output.errors().contains("unshare failed")).then_some(output)
}

fn restore(sandbox: &Sandbox, source: &str, target: &str, more: &[&str]) -> Run {
    let what = format!("latest:{}", sandbox.path(source).display());
    sandbox.gabion(["restore", &what, "--target", target].iter().chain(more))
}

fn inode(path: &Path) -> u64 {
    path.symlink_metadata().unwrap().ino()
}

#[test]
fn hard_links_at_the_target_are_mended_and_verified() {
    let sandbox = Sandbox::with_repository();
    for (name, text) in [("h/a", "data"), ("h/x", "1234"), ("h/y", "5678"), ("h/alone", "one")] {
        sandbox.write(name, text);
    }
    let script = "ln h/a h/b; ln h/a h/c; chmod 600 h/x; touch -d @1000000 h/x h/y
                  mkfifo h/pipe; ln h/pipe h/pipe2; ln -s to h/link; ln h/link h/link2";
    sandbox.shell(script).run().success();
    sandbox.gabion(["snapshot", "h", "--quiet"]).run().success();
    restore(&sandbox, "h", "o", &["--verify", "--quiet"]).run().success();
    let at = |name: &str| inode(&sandbox.path(format!("o/{name}")));
    let is_right = || {
        assert_eq!((at("a"), at("a")), (at("b"), at("c")));
        assert_eq!((at("pipe"), at("link")), (at("pipe2"), at("link2")));
        assert_ne!(at("x"), at("y"));
        let text = |name: &str| fs::read_to_string(sandbox.path(format!("o/{name}"))).unwrap();
        assert_eq!((&text("x")[..], &text("y")[..], &text("a")[..]), ("1234", "5678", "data"));
        let mode =
            |name: &str| sandbox.path(format!("o/{name}")).metadata().unwrap().mode() & 0o777;
        assert_eq!((mode("x"), mode("y")), (0o600, 0o644));
    };
    is_right();
    let again = ["--overwrite", "if-changed", "--verify", "--quiet"];
    // Broken, joined, joined across, and shared with a file that the restore is not about.
    for damage in [
        "rm o/a; rm o/x; ln o/y o/x",
        "cp -p o/a o/d; mv o/d o/c",
        "rm o/y; ln o/x o/y",
        "rm o/b o/y; ln o/x o/y; cp -p o/a o/b",
        "rm o/pipe2 o/link2; mkfifo o/pipe2; ln -s to o/link2",
        "ln o/alone outside; ln o/b outside2",
    ] {
        sandbox.shell(damage).run().success();
        restore(&sandbox, "h", "o", &again).run().success();
        is_right();
    }
    let outside = sandbox.path("outside").metadata().unwrap();
    assert_ne!((outside.ino(), outside.nlink()), (at("alone"), 2));
    // What is right stays as it is.
    let before = (at("a"), at("x"), at("alone"));
    restore(&sandbox, "h", "o", &again).run().success();
    assert_eq!((at("a"), at("x"), at("alone")), before);
    // A restore that does not mend finds it when it verifies.
    for (damage, said) in [
        ("cp -p o/a o/d; mv o/d o/c", "c: differs after the restore: hard links"),
        ("ln -f o/a o/c; rm o/y; ln o/x o/y", "it is one file with another entry"),
    ] {
        sandbox.shell(damage).run().success();
        restore(&sandbox, "h", "o", &["--overwrite", "never", "--verify"]).run().code(1).says(said);
    }
}

#[test]
fn restore_in_place_on_a_full_disk_costs_nothing() {
    let sandbox = Sandbox::with_repository();
    let noise = |seed: u8| {
        let mut bytes = vec![0; 3_000_000];
        blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
        bytes
    };
    for (name, seed) in [("big/a", 1), ("big/b", 2)] {
        sandbox.write(name, noise(seed));
    }
    sandbox.gabion(["snapshot", "big", "--quiet"]).run().success();
    for free in [0, 2000, 4000, 7000] {
        let script = format!(
            "rm -rf kept; mkdir -p tiny kept; mount -t tmpfs -o size=12m none tiny || exit 90
             mkdir tiny/t; echo old a >tiny/t/a; echo old b >tiny/t/b
             dd if=/dev/zero of=tiny/fill bs=1k count=$((12200 - {free})) 2>dd.txt
             $GABION restore latest:$PWD/big --target tiny/t --overwrite always >out.txt 2>&1
             echo $? >status; cp -a tiny/t/. kept"
        );
        let Some(output) = in_own_mounts(&sandbox, &script) else {
            eprintln!("not run: only the superuser can mount a small disk");
            return;
        };
        output.success();
        let status = fs::read_to_string(sandbox.path("status")).unwrap();
        let said = fs::read_to_string(sandbox.path("out.txt")).unwrap();
        assert_eq!(status.trim() == "0", free == 7000, "{free}: {said}");
        assert!(free == 7000 || said.contains("no space left"), "{said}");
        assert!(!said.contains(".gabion-restore-"), "{said}");
        for (name, seed) in [("a", 1), ("b", 2)] {
            let now = fs::read(sandbox.path(format!("kept/{name}"))).unwrap();
            let old = format!("old {name}\n").into_bytes();
            assert!(now == old || now == noise(seed), "{free}: {name} is neither old nor new");
        }
        assert_eq!(fs::read_dir(sandbox.path("kept")).unwrap().count(), 2);
    }
}

#[test]
fn special_files_are_counted_named_and_left_out_when_that_is_asked_for() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not run: only the superuser can make devices");
        return;
    }
    let sandbox = Sandbox::with_repository();
    for name in ["src/suid", "src/sgid", "src/able", "src/theirs", "src/plain"] {
        sandbox.write(name, name);
    }
    let script = "chmod 4755 src/suid; chmod 2755 src/sgid; mknod src/null c 1 3
                  chown 12345:54321 src/theirs; chmod 755 src/able
                  setfattr -n security.capability \
                    -v 0x0100000200040000000000000000000000000000 src/able && touch able";
    sandbox.shell(script).run().success();
    let able = u64::from(sandbox.path("able").exists());
    sandbox.gabion(["snapshot", "src", "--quiet"]).run().success();
    let summary = |target: &str, more: &[&str]| {
        let more = [&["--json", "--verify"][..], more].concat();
        restore(&sandbox, "src", target, &more).run().success().json_lines().remove(0)
    };
    let all = summary("all", &[]);
    let counts = ["set-ids", "capabilities", "devices", "foreign-owners", "specials-lost"];
    let counted = |summary: &serde_json::Value| counts.map(|name| summary[name].as_u64().unwrap());
    assert_eq!(counted(&all), [2, able, 1, 1, 0]);
    let none = summary("none", &["--no-special"]);
    assert_eq!(counted(&none), [0, 0, 0, 1, 0]);
    assert_eq!(none["specials-left-out"], 1);
    let mode = |name: &str| sandbox.path(name).metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("all/suid"), mode("none/suid"), mode("none/sgid")), (0o4755, 0o755, 0o755));
    assert!(sandbox.path("all/null").exists() && !sandbox.path("none/null").exists());
    // Over what has them, they are taken off.
    summary("all", &["--no-special", "--overwrite", "if-changed"]);
    assert_eq!(mode("all/suid"), 0o755);
    // An ordinary user is told what was lost.
    let script = "mkdir mine; chown 65534 mine; chmod 711 .; chmod -R a+rX repository
                  cp $GABION program; env -u GABION_CACHE_DIR \
                  setpriv --reuid 65534 --clear-groups ./program --no-cache restore \
                    latest:$PWD/src --target mine --json; echo $? >status";
    let lost = sandbox.shell(script).run().success().json_lines();
    let lost = lost.iter().find(|line| line["type"] == "summary").unwrap();
    assert_eq!((&lost["specials-lost"], &lost["devices"]), (&(3 + able).into(), &0.into()));
    let mut named: Vec<&str> =
        lost["lost"].as_array().unwrap().iter().map(|it| it["path"].as_str().unwrap()).collect();
    named.sort_unstable();
    let expected: &[&str] =
        if able == 1 { &["able", "null", "sgid", "suid"] } else { &["null", "sgid", "suid"] };
    assert_eq!(named, expected);
}

#[test]
fn a_dry_run_shows_how_much_would_be_written() {
    let sandbox = Sandbox::with_repository();
    sandbox.write("src/a", vec![7; 123_456]);
    sandbox.shell("ln src/a src/b").run().success();
    sandbox.gabion(["snapshot", "src", "--quiet"]).run().success();
    let planned = restore(&sandbox, "src", "out", &["--dry-run", "--json"]).run().success();
    assert_eq!(planned.json_lines().remove(0)["bytes"], 123_456);
    assert!(!sandbox.path("out").exists());
}

/// Restores names that are alike, a hard link, a symbolic link and a pipe onto a disk of its own.
fn onto(make: &str, mount: &str) -> Option<(String, String)> {
    let sandbox = Sandbox::with_repository();
    sandbox.write("src/Name", "first");
    sandbox.write("src/name", "second");
    sandbox.write("src/d/f", "inner");
    sandbox.write("src/D/g", "other");
    sandbox.write("src/linked", vec![3; 100_000]);
    sandbox.shell("ln src/linked src/linked2; ln -s f src/d/l").run().success();
    sandbox.gabion(["snapshot", "src", "--quiet"]).run().success();
    let script = format!(
        "truncate -s 40M image; {make} >made.txt 2>&1 || exit 91
         mkdir disk; {mount} || exit 92
         mkdir -p disk/t; [ -e flags ] && chattr +F disk/t
         for overwrite in none always if-changed; do
           more=; [ $overwrite = none ] || more=\"--overwrite $overwrite\"
           $GABION restore latest:$PWD/src --target disk/t $more >out.txt 2>&1; echo $? >>codes
           cat out.txt >>said.txt
           for f in disk/t/* disk/t/*/*; do [ -f $f ] && echo \"$overwrite $f $(cat $f | head -c 9)\"; done >>files
         done
         cat disk/t/linked2 | cmp - src/linked || exit 93
         ls -A disk/t disk/t/* | grep gabion-restore && exit 94
         umount disk"
    );
    let output = in_own_mounts(&sandbox, &script)?;
    if matches!(output.exit_code(), Some(91 | 92)) {
        return None;
    }
    let said = fs::read_to_string(sandbox.path("said.txt")).unwrap();
    assert_eq!(output.exit_code(), Some(0), "{} {} {said}", output.text(), output.errors());
    let codes = fs::read_to_string(sandbox.path("codes")).unwrap();
    assert_eq!(codes, "1\n1\n1\n", "{said}");
    Some((said, fs::read_to_string(sandbox.path("files")).unwrap()))
}

#[test]
fn names_that_a_target_does_not_distinguish_are_problems_and_never_overwrite_each_other() {
    let vfat = onto("mkfs.vfat image", "mount -o loop,utf8 image disk");
    let exfat = onto("mkfs.exfat image", "mount -o loop image disk");
    let make = "mkfs.ext4 -q -O casefold -E encoding=utf8 image && touch flags";
    let ext4 = onto(make, "mount -o loop image disk");
    for (kind, found) in [("vfat", vfat), ("exfat", exfat), ("ext4", ext4)] {
        let Some((said, files)) = found else {
            eprintln!("not run on {kind}: it cannot be mounted here");
            continue;
        };
        assert!(said.contains("upper and lower case"), "{kind}: {said}");
        for line in files.lines().filter(|line| line.contains("ame ")) {
            assert!(line.ends_with("/Name first"), "{kind}: {files}");
        }
        assert!(files.contains("/g other") && !files.contains("inner"), "{kind}: {files}");
    }
}

#[test]
fn what_belongs_to_others_at_the_target_stays_as_it_is() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not run: only the superuser can give files away");
        return;
    }
    let sandbox = Sandbox::with_repository();
    for name in ["src/a", "src/d/b", "src/e/c"] {
        sandbox.write(name, "new");
    }
    sandbox.gabion(["snapshot", "src", "--quiet"]).run().success();
    for name in ["t/a", "t/d/b", "t/d/extra", "t/e/c"] {
        sandbox.write(name, "old");
    }
    let script = "chown 65534 t t/e; chmod 1777 t; chmod 711 .; chmod -R a+rX repository
                  cp $GABION program; env -u GABION_CACHE_DIR \
                  setpriv --reuid 65534 --clear-groups ./program --no-cache restore \
                    latest:$PWD/src --target t --overwrite always --delete";
    let done = sandbox.shell(script).run().code(1);
    done.says("d/b").says("not permitted");
    let text = |name: &str| fs::read_to_string(sandbox.path(name)).unwrap();
    assert_eq!((&text("t/d/b")[..], &text("t/d/extra")[..]), ("old", "old"));
    assert_eq!(text("t/e/c"), "new");
}
