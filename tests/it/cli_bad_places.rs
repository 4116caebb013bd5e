//! Repositories on bad ground: full and read-only disks, later formats, damage.

use std::fs;

use super::support::Sandbox;

/// Runs `script` where it may mount file systems, if that is possible here.
fn in_own_mounts(sandbox: &Sandbox, script: &str) -> Option<super::support::Output> {
    let possible = sandbox.shell("unshare -m true 2>&1").run();
    if !rustix::process::geteuid().is_root() || !possible.ended_well() {
        return None;
    }
    Some(sandbox.shell(&format!("exec unshare -m sh -ec '{script}'")).run())
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error_that_is_told() {
    let sandbox = Sandbox::with_repository();
    sandbox.write("src/noise", crate::small::noise(3_000_000, 7));
    let limited = |command: &str| sandbox.shell(&format!("ulimit -f 1000; {command}")).run();
    limited("$GABION snapshot src --quiet").code(1).says("File too large");
    let listed = sandbox.gabion(["snapshots", "--json"]).run().success();
    assert_eq!(listed.stdout(), "");
    sandbox.gabion(["snapshot", "src", "--quiet"]).run().success();
    limited("$GABION restore latest --target out --quiet").code(1).says("File too large");
    sandbox.gabion(["check", "--read-data"]).run().success();
}

#[test]
fn a_full_disk_is_an_error_with_a_hint_and_no_snapshot() {
    let sandbox = Sandbox::new();
    let mut state = 1_u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        u8::try_from(state >> 24).unwrap()
    });
    let noise: Vec<u8> = noise.take(4_000_000).collect();
    sandbox.write("src/noise", noise);
    fs::create_dir(sandbox.path("mount")).unwrap();
    let script = "mount -t tmpfs -o size=2m none mount; export GABION_REPOSITORY=mount/r; \
                  $GABION init --plaintext -q; $GABION snapshot src && exit 99; code=$?; \
                  $GABION snapshots; exit $code";
    let Some(output) = in_own_mounts(&sandbox, script) else { return };
    let done = output.code(1);
    done.says("No space left on device").says("hint: make room where the repository is");
    assert_eq!(done.stdout(), "");
}

#[test]
fn a_read_only_repository_can_be_read_and_not_written() {
    let sandbox = Sandbox::with_repository();
    sandbox.write("src/file", "x");
    sandbox.gabion(["snapshot", "src"]).run().success();
    let script = "mount --bind repository repository; \
                  mount -o remount,bind,ro repository; \
                  $GABION ls latest; exec $GABION snapshot src";
    let Some(output) = in_own_mounts(&sandbox, script) else { return };
    let done = output.code(1);
    done.says("Read-only file system").says("hint: the repository's file system cannot be written");
    assert!(done.stdout().ends_with("/src/file\n"));
}

#[test]
fn a_repository_of_a_later_version_is_left_alone() {
    let sandbox = Sandbox::with_repository();
    for name in ["config", "copy/config"] {
        rewrite_config(&sandbox, name, "\"format-version\":1", "\"format-version\":2");
    }
    let done = sandbox.gabion(["snapshots"]).run().code(1);
    done.says("has format version 2").says("hint: a newer gabion made it");
}

#[test]
fn a_changed_configuration_is_damage() {
    let sandbox = Sandbox::with_repository();
    for name in ["config", "copy/config"] {
        rewrite_config(&sandbox, name, "\"pack-size\":", "\"pack-size\": ");
    }
    sandbox.gabion(["snapshots"]).run().code(13).says("the config is not authentic");
    for name in ["config", "copy/config"] {
        sandbox.write(format!("repository/{name}"), "nonsense\n");
    }
    sandbox.gabion(["snapshots"]).run().code(13).says("the config is damaged");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "takes away what an interrupted init did not make")]
fn what_an_interrupted_init_left_out_is_made_by_the_next_writer() {
    let sandbox = Sandbox::with_repository();
    sandbox.write("src/file", "x");
    let config = sandbox.path("repository/config");
    let before = fs::read(&config).unwrap();
    for command in [&["snapshot", "src"][..], &["prune"]] {
        fs::remove_file(&config).unwrap();
        sandbox.gabion(["check"]).run().code(13).says("problem: config: ");
        sandbox.gabion(command).run().success();
        assert_eq!(fs::read(&config).unwrap(), before);
        sandbox.gabion(["check"]).run().success();
    }
}

#[test]
fn a_damaged_snapshot_is_a_problem_and_ends_with_13() {
    let sandbox = Sandbox::with_repository();
    sandbox.write("src/file", "x");
    sandbox.gabion(["snapshot", "src"]).run().success();
    sandbox.gabion(["snapshot", "src"]).run().success();
    let folder = sandbox.path("repository/snapshots");
    let first = fs::read_dir(folder).unwrap().next().unwrap().unwrap();
    let name = first.file_name().into_string().unwrap();
    sandbox.write(format!("repository/snapshots/{name}"), "nonsense");
    let done = sandbox.gabion(["snapshots"]).run().success();
    assert_eq!(done.stdout().lines().count(), 3, "the second copy is whole");
    sandbox.gabion(["check"]).run().code(13).says(&format!("problem: snapshots/{name}: "));
    sandbox.write(format!("repository/copy/snapshots/{name}"), "nonsense");
    let done = sandbox.gabion(["snapshots"]).run().code(13);
    done.says(&format!("problem: snapshots/{name}: "));
    assert_eq!(done.stdout().lines().count(), 2, "the other one is still listed");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "loses packs")]
fn find_and_stats_go_on_past_damage_and_end_with_13() {
    let sandbox = Sandbox::with_repository();
    sandbox.write("one/first", "x");
    sandbox.gabion(["snapshot", "one"]).run().success();
    let before = packs(&sandbox);
    sandbox.write("two/second", "y");
    sandbox.gabion(["snapshot", "two"]).run().success();
    for pack in packs(&sandbox).into_iter().filter(|pack| !before.contains(pack)) {
        fs::remove_file(pack).unwrap();
    }
    let found = sandbox.gabion(["find", "*"]).run().code(13);
    found.says("problem: page ").says("is not searched");
    assert!(found.stdout().contains("/first") && !found.stdout().contains("/second"));
    let counted = sandbox.gabion(["stats"]).run().code(13);
    counted.says("problem: page ").says("is not counted");
    assert!(counted.stdout().contains("PROBLEMS"), "{}", counted.stdout());
    let json = sandbox.gabion(["stats", "--json"]).run().code(13).json_lines().pop().unwrap();
    assert_eq!((&json["snapshots"], &json["problems"]), (&2.into(), &1.into()));
    for name in fs::read_dir(sandbox.path("repository/snapshots")).unwrap() {
        let name = name.unwrap().file_name().into_string().unwrap();
        sandbox.write(format!("repository/snapshots/{name}"), "nonsense");
        sandbox.write(format!("repository/copy/snapshots/{name}"), "nonsense");
    }
    sandbox.gabion(["find", "*"]).run().code(13).says("problem: snapshots/");
    sandbox.gabion(["stats"]).run().code(13).says("problem: snapshots/");
}

#[test]
fn a_foreign_file_among_the_packs_is_named_and_left_alone() {
    let sandbox = Sandbox::with_repository();
    sandbox.write("src/file", "x");
    sandbox.gabion(["snapshot", "src"]).run().success();
    let foreign = ["packs/notes.txt", "packs/00/notes.txt", "packs/00/5a5a5a"];
    for name in foreign {
        sandbox.write(format!("repository/{name}"), "mine");
    }
    let checked = sandbox.gabion(["check"]).run_on_terminal(&[]).success();
    for name in foreign {
        let note = format!("{name} is no part of the repository");
        assert!(checked.stdout().contains(&note), "{}", checked.stdout());
    }
    for command in [&["prune"][..], &["repair"], &["snapshot", "src"]] {
        sandbox.gabion(command).run().success();
    }
    for name in foreign {
        assert_eq!(fs::read(sandbox.path(format!("repository/{name}"))).unwrap(), b"mine");
    }
}

#[test]
fn a_list_of_snapshots_that_shrank_is_not_believed_by_a_prune() {
    let sandbox = Sandbox::with_repository();
    for n in 0..4 {
        sandbox.write("src/file", format!("content {n}"));
        sandbox.gabion(["snapshot", "src"]).run().success();
    }
    sandbox.gabion(["prune"]).run().success();
    // As a list looks that is not whole.
    let hide = "mkdir aside && mv repository/snapshots aside/1 && mv repository/copy/snapshots aside/2 \
                && mkdir repository/snapshots repository/copy/snapshots";
    sandbox.shell(hide).run().success();
    let before = packs(&sandbox);
    let refused = sandbox.gabion(["prune"]).run().code(13);
    refused.says("4 snapshots changed in a way that nothing explains");
    // A machine that remembers nothing of the repository still has the list of the last prune.
    let refused = sandbox.gabion(["prune"]).env("GABION_STATE_DIR", sandbox.path("none")).run();
    refused.code(1).says("4 of the 4 snapshots").says("--accept-fewer");
    assert_eq!(packs(&sandbox), before);
    let back = "rmdir repository/snapshots repository/copy/snapshots \
                && mv aside/1 repository/snapshots && mv aside/2 repository/copy/snapshots";
    sandbox.shell(back).run().success();
    sandbox.gabion(["check", "--read-data"]).run().success();
}

fn packs(sandbox: &Sandbox) -> Vec<std::path::PathBuf> {
    let folders = fs::read_dir(sandbox.path("repository/packs")).unwrap();
    let files = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
    files.map(|file| file.unwrap().path()).collect()
}

/// Replaces text in the configuration and makes its unkeyed hash agree again.
fn rewrite_config(sandbox: &Sandbox, name: &str, from: &str, to: &str) {
    let path = format!("repository/{name}");
    let text = fs::read_to_string(sandbox.path(&path)).unwrap();
    let mut lines = text.lines();
    let line = lines.next().unwrap();
    assert!(line.contains(from), "{line}");
    let line = line.replace(from, to);
    let mac = lines.nth(1).unwrap();
    let hash = blake3::hash(line.as_bytes()).to_hex();
    sandbox.write(&path, format!("{line}\nblake3 {hash}\n{mac}\n"));
}

#[test]
fn a_place_with_a_colon_is_on_another_machine_or_nowhere() {
    let sandbox = Sandbox::new();
    for place in ["me@host::r", "host:", ":r", "host:a:b", "s3://bucket/r", "-oProxyCommand=x:r"] {
        for command in [&["snapshots"][..], &["init", "--plaintext"]] {
            let named = format!("--repository={place}");
            let run = sandbox.gabion([&*named].iter().chain(command)).run().code(2);
            run.says(&format!("{place} is no place for a repository")).says("write ");
        }
    }
    // A folder may have any name.
    sandbox.gabion(["-r", "./a:b", "init", "--plaintext"]).run().success();
    sandbox.gabion(["-r", "./a:b", "snapshots"]).run().success();
    let unreachable = ["-r", "a:b", "--ssh-command", "echo no such host >&2; false", "snapshots"];
    sandbox.gabion(unreachable).run().code(1).says("a:b").says("no such host");
}
