//! `restore --delete`: it deletes at and below the snapshot's own sources, keeps what the snapshot
//! left out, and touches neither gabion's own files nor what lies on other mounts.
#![expect(clippy::disallowed_methods, reason = "lays out sources and targets by hand")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::support::{Output, Run, Sandbox};

/// Runs `script` in a mount namespace of its own, where nothing that it mounts outlives it.
/// Nothing when this machine does not allow that.
fn in_own_mounts(sandbox: &Sandbox, script: &str) -> Option<Output> {
    let args = ["-m", "sh", "-c", script];
    let output = sandbox.program("unshare", args).env("GABION", env!("CARGO_BIN_EXE_gabion")).run();
    if output.errors().contains("unshare failed") {
        return None;
    }
    Some(output)
}

/// `gabion restore latest:SOURCE --target TARGET --overwrite if-changed --delete MORE`.
fn restore(sandbox: &Sandbox, source: &str, target: &str, more: &[&str]) -> Run {
    let what = match source {
        "" => "latest".to_owned(),
        source => format!("latest:{}", sandbox.path(source).display()),
    };
    let args = ["restore", &what, "--target", target, "--overwrite", "if-changed", "--delete"];
    sandbox.gabion(args.iter().chain(more))
}

/// All that is below `folder`, by path.
fn below(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(current) = folders.pop() {
        for item in fs::read_dir(current).unwrap() {
            let path = item.unwrap().path();
            found.insert(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            }
        }
    }
    found
}

#[test]
fn restore_delete_takes_neither_the_repository_nor_what_was_excluded() {
    let sandbox = Sandbox::new();
    let repository = sandbox.path("d/backup/repo");
    let run = |run: Run| run.env("GABION_REPOSITORY", &repository).run();
    fs::create_dir_all(sandbox.path("d/backup")).unwrap();
    run(sandbox.gabion(["init", "--plaintext", "--quiet"])).success();
    for name in ["d/doc", "d/scratch/big", "d/x.tmp"] {
        sandbox.write(name, name);
    }
    let args = ["snapshot", "d", "--exclude", "*.tmp", "--exclude", "/scratch", "--quiet"];
    run(sandbox.gabion(args)).success();
    sandbox.write("d/new/deep.tmp", "left out as well");
    sandbox.write("d/new/deep", "new");
    fs::rename(sandbox.path("d/doc"), sandbox.path("d/moved")).unwrap();
    run(restore(&sandbox, "d", "d", &[])).success();
    run(sandbox.gabion(["check", "--quiet"])).success();
    let left: BTreeSet<_> =
        below(&sandbox.path("d")).into_iter().filter(|p| !p.starts_with("backup/repo/")).collect();
    let all = "backup backup/repo doc new new/deep.tmp scratch scratch/big x.tmp";
    assert_eq!(left, all.split(' ').map(str::to_owned).collect());
    run(restore(&sandbox, "d", "d", &["--delete-excluded"])).success();
    run(sandbox.gabion(["check", "--quiet"])).success();
    let left = below(&sandbox.path("d"));
    assert!(!left.contains("x.tmp") && !left.contains("scratch") && !left.contains("new"));
}

#[test]
fn restore_delete_touches_nothing_beside_the_source() {
    let sandbox = Sandbox::with_repository();
    sandbox.write("srv/a/kept", "1");
    sandbox.write("srv/b/kept", "1");
    sandbox.write("srv/c/not-a-source", "1");
    sandbox.gabion(["snapshot", "srv/a", "srv/b", "--quiet"]).run().success();
    sandbox.gabion(["restore", "latest", "--target", "top", "--quiet"]).run().success();
    let top = |name: &str| format!("top{}", sandbox.path(name).display());
    for name in [&top("other/o"), &top("srv/beside"), &top("srv/c/x"), "top/etc/passwd"] {
        sandbox.write(name, "not in the snapshot");
    }
    for name in [top("srv/a/extra"), top("srv/b/more/extra")] {
        sandbox.write(name, "to be deleted");
    }
    let done = restore(&sandbox, "", "top", &["--json"]).run().success();
    assert_eq!(done.json_lines().remove(0)["deleted"], 3);
    for name in [&top("other/o"), &top("srv/beside"), &top("srv/c/x"), "top/etc/passwd"] {
        assert!(sandbox.path(name).exists(), "{name}");
    }
    assert!(
        !sandbox.path(top("srv/a/extra")).exists() && !sandbox.path(top("srv/b/more")).exists()
    );
    // The same with a path that lies above the sources.
    for name in ["up/beside", "up/a/extra", "up/b/extra"] {
        sandbox.write(name, "x");
    }
    restore(&sandbox, "srv", "up", &["--quiet"]).run().success();
    let left: Vec<_> = below(&sandbox.path("up")).into_iter().collect();
    assert_eq!(left, ["a", "a/kept", "b", "b/kept", "beside"]);
}

#[test]
fn the_dry_run_lists_every_path_that_restore_delete_removes() {
    let sandbox = Sandbox::with_repository();
    sandbox.write("src/a/kept", "1");
    sandbox.gabion(["snapshot", "src", "--exclude", "*.o", "--quiet"]).run().success();
    for name in ["src/x/y/z", "src/x/y/keep.o", "src/x/q/r", "src/a/extra", "src/a/link"] {
        sandbox.write(name, "x");
    }
    fs::remove_file(sandbox.path("src/a/link")).unwrap();
    symlink("/etc", sandbox.path("src/a/link")).unwrap();
    let before = below(&sandbox.path("src"));
    let planned = restore(&sandbox, "src", "src", &["--dry-run"]).run().success();
    assert_eq!(below(&sandbox.path("src")), before);
    let listed: BTreeSet<String> = planned
        .stdout()
        .lines()
        .filter_map(|line| Some(line.strip_prefix("delete ")?.to_owned()))
        .collect();
    restore(&sandbox, "src", "src", &["--quiet"]).run().success();
    let gone: BTreeSet<_> = before.difference(&below(&sandbox.path("src"))).cloned().collect();
    let expected = "a/extra a/link x/q x/q/r x/y/z";
    assert_eq!(gone, expected.split(' ').map(str::to_owned).collect());
    assert_eq!(listed, gone);
}

#[test]
fn rules_of_the_tree_and_of_the_command_line_keep_what_they_left_out() {
    let sandbox = Sandbox::with_repository();
    let tag = "Signature: 8a477f597d28d172789f06886806bc55\n";
    sandbox.write("src/.gabionignore", "*.log\n");
    sandbox.write("src/!deep/.gabionignore", "own\n");
    sandbox.write("src/!deep/kept", "1");
    sandbox.write("src/cache/CACHEDIR.TAG", tag);
    sandbox.write("src/cache/x", "1");
    sandbox.write("src/marked/.nobackup", "");
    sandbox.write("src/marked/x", "1");
    sandbox.write("rules", "/weak\n");
    let args = ["--exclude-file", "rules", "--exclude-caches", "--exclude-if-present", ".nobackup"];
    let args =
        [&["snapshot", "src", "--exclude-larger-than", "1000", "--quiet"][..], &args].concat();
    sandbox.gabion(args).run().success();
    let kept = ["!deep/own", "!deep/x.log", "weak/x", "large", "cache/y", "marked/y", "new/a.log"];
    let gone = ["!deep/x", "new/a", "new/weak", "small"];
    for name in kept.iter().chain(&gone) {
        let len = if *name == "large" { 1001 } else { 10 };
        sandbox.write(format!("src/{name}"), vec![b'x'; len]);
    }
    // What the snapshot knows counts, also where the target has lost it.
    fs::remove_file(sandbox.path("src/.gabionignore")).unwrap();
    restore(&sandbox, "src", "src", &["--quiet"]).run().success();
    let left = below(&sandbox.path("src"));
    for name in kept.iter().chain(&["cache/x", "marked/x", ".gabionignore"]) {
        assert!(left.contains(*name), "{name}");
    }
    for name in gone {
        assert!(!left.contains(name), "{name}");
    }
    // Patterns of the restore spare what they leave out.
    for name in ["src/spared.txt", "src/d/spared.txt", "src/d/gone"] {
        sandbox.write(name, "x");
    }
    restore(&sandbox, "src", "src", &["--exclude", "*.txt", "--quiet"]).run().success();
    let left = below(&sandbox.path("src"));
    assert!(
        left.contains("spared.txt") && left.contains("d/spared.txt") && !left.contains("d/gone")
    );
    sandbox.write("src/small", "x");
    restore(&sandbox, "src", "src", &["--include", "/!deep", "--quiet"]).run().success();
    assert!(sandbox.path("src/small").exists());
}

#[test]
fn no_path_leads_restore_delete_to_what_gabion_uses() {
    let mut sandbox = Sandbox::with_encrypted_repository();
    sandbox.use_key();
    sandbox.write("src/kept", "1");
    sandbox.gabion(["snapshot", "src", "--quiet"]).run().success();
    // Everything of gabion's own moves into the target, the repository behind two links.
    let mine = sandbox.path("src/mine");
    fs::create_dir_all(&mine).unwrap();
    for name in ["repository", "cache", "key"] {
        fs::rename(sandbox.path(name), mine.join(name)).unwrap();
    }
    symlink("mine", sandbox.path("src/link")).unwrap();
    symlink("src/link/repository", sandbox.path("repository")).unwrap();
    sandbox.write("src/home/.config/gabion/gabion.toml", "");
    sandbox.write("src/home/.local/state/gabion/x", "");
    sandbox.write("src/home/gone", "");
    let own = |run: Run| {
        run.env("GABION_CACHE_DIR", mine.join("cache"))
            .env("GABION_KEY_FILE", mine.join("key"))
            .env("HOME", sandbox.path("src/home"))
    };
    own(restore(&sandbox, "src", "src", &["--delete-excluded", "--quiet"])).run().success();
    own(sandbox.gabion(["check", "--quiet"])).run().success();
    let left = below(&sandbox.path("src"));
    for name in ["link", "mine/key", "mine/cache", "mine/repository/config"] {
        assert!(left.contains(name), "{name}: {left:?}");
    }
    assert!(left.contains("home/.config/gabion/gabion.toml"), "{left:?}");
    assert!(left.contains("home/.local/state/gabion/x") && !left.contains("home/gone"));
    // A target within the repository.
    let inside = mine.join("repository/packs");
    fs::create_dir_all(&inside).unwrap();
    let what = format!("latest:{}", sandbox.path("src").display());
    let before = below(&mine.join("repository"));
    let args = ["restore", &what, "--target", inside.to_str().unwrap(), "--overwrite", "never"];
    let args = args.iter().chain(&["--delete", "--delete-excluded", "--quiet"]);
    own(sandbox.gabion(args)).run().success();
    assert!(before.is_subset(&below(&mine.join("repository"))));
}

#[test]
fn restore_delete_stops_at_mounts_and_at_the_repository_behind_one() {
    let sandbox = Sandbox::with_repository();
    sandbox.write("src/a/kept", "1");
    fs::create_dir_all(sandbox.path("src/disk")).unwrap();
    fs::create_dir_all(sandbox.path("src/bound")).unwrap();
    fs::create_dir_all(sandbox.path("elsewhere/deep")).unwrap();
    sandbox.write("elsewhere/x", "1");
    sandbox.gabion(["snapshot", "src", "--quiet"]).run().success();
    let script = "mkdir src/new src/repo
        mount -t tmpfs none src/disk && echo x >src/disk/x || exit 90
        mount --bind elsewhere src/bound; mount --bind elsewhere src/new; mount --bind repository src/repo
        mkdir src/gone
        $GABION restore latest:$PWD/src --target src --overwrite if-changed --delete --quiet || exit 91
        [ -e src/disk/x ] && [ -e src/bound/x ] && [ -e src/new/x ] || exit 92
        [ ! -e src/gone ] || exit 93
        umount src/disk src/bound src/new
        $GABION --repository src/repo restore latest:$PWD/src --target src --overwrite if-changed \
            --delete --quiet || exit 94
        umount src/repo
        $GABION check --quiet || exit 95";
    let Some(output) = in_own_mounts(&sandbox, script) else {
        eprintln!("not run: this user cannot mount");
        return;
    };
    output.success();
}

#[test]
fn without_knowledge_of_what_was_left_out_nothing_is_deleted() {
    let sandbox = Sandbox::with_repository();
    sandbox.write("src/kept", "1");
    let long: String = (0..20_000).map(|n| format!("pattern-{n}\n")).collect();
    sandbox.write("rules", &long);
    sandbox.write("src/extra", "x");
    for (args, said) in [
        (&["--exclude-file", "rules"][..], "does not record which files it left out"),
        (&["--since", "2020-01-01"], "holds only what changed in a certain time"),
    ] {
        let all = [&["snapshot", "src", "--quiet", "--exclude", "extra"][..], args].concat();
        sandbox.gabion(all).run().success();
        let listed = sandbox.gabion(["snapshots", "--json"]).run().success().json_lines();
        let id = listed.last().unwrap()["id"].as_str().unwrap().to_owned();
        let what = format!("{id}:{}", sandbox.path("src").display());
        let args = ["restore", &what, "--target", "src", "--overwrite", "if-changed", "--delete"];
        let refused = sandbox.gabion(args).run().code(1);
        refused.says(said).says("--delete-excluded");
        assert!(sandbox.path("src/extra").exists());
    }
    restore(&sandbox, "src", "src", &["--delete-excluded", "--quiet"]).run().success();
    assert!(!sandbox.path("src/extra").exists());
}

#[test]
fn a_folder_in_the_place_of_a_file_goes_only_if_all_of_it_may_go() {
    let sandbox = Sandbox::with_repository();
    for name in ["src/f", "src/g", "src/d/x"] {
        sandbox.write(name, name);
    }
    sandbox.gabion(["snapshot", "src", "--exclude", "*.tmp", "--quiet"]).run().success();
    fs::remove_file(sandbox.path("src/f")).unwrap();
    fs::remove_file(sandbox.path("src/g")).unwrap();
    fs::remove_dir_all(sandbox.path("src/d")).unwrap();
    sandbox.write("src/f/deep/x", "gone");
    sandbox.write("src/g/deep/x.tmp", "kept");
    sandbox.write("src/d", "a file where a folder belongs");
    let done = restore(&sandbox, "src", "src", &[]).run().code(1);
    done.says("problem: g: ").says("not to be deleted");
    let text = |name: &str| fs::read_to_string(sandbox.path(name)).unwrap();
    assert_eq!((&text("src/f")[..], &text("src/d/x")[..]), ("src/f", "src/d/x"));
    assert_eq!(text("src/g/deep/x.tmp"), "kept");
}
