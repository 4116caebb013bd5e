//! Sources whose numbers say less than those of an ordinary disk: file systems with the same
//! identity, files without a length.

use std::fs;
use std::path::{Path, PathBuf};

use super::support::{Output, Sandbox};

/// Runs `script` where it may mount file systems that are gone with it, if that is possible here.
pub(crate) fn with_mounts(sandbox: &Sandbox, script: &str) -> Option<Output> {
    if !sandbox.shell("unshare -m true").run().ended_well() {
        return None;
    }
    sandbox.write("script", script);
    Some(sandbox.shell("exec unshare -m sh -e script").run())
}

/// Makes two disks with the same identity, of which the second has other content in the same inode,
/// with the same size and time of modification, and mounts them as `one` and `two`.
const CLONES: &str = "
    truncate -s 20M first; mkfs.ext4 -q first; mkdir one two
    mount -o loop first one; mkdir one/in one/out
    echo 'one one one' >one/in/a; ln one/in/a one/out/b; echo same >one/in/same
    umount one; cp first second
    mount -o loop second two; echo 'two two two' >two/in/a; touch -r one two/in/a
    umount two; mount -o loop first one; touch -r two one/in/a
    mount -o loop second two
    cmp_stored() { $GABION cat \"latest:$PWD/$1\" | cmp - $1; }
";

#[test]
fn hard_links_of_two_disks_with_the_same_identity_stay_apart() {
    let sandbox = Sandbox::with_repository();
    let script = format!(
        "{CLONES}
        test \"$(stat -c %i one/in/a)\" = \"$(stat -c %i two/in/a)\"
        $GABION snapshot one/in two/in --quiet
        cmp_stored one/in/a; cmp_stored two/in/a; cmp_stored two/in/same
        $GABION snapshot one two/in --quiet
        cmp_stored one/out/b; cmp_stored two/in/a"
    );
    let Some(output) = with_mounts(&sandbox, &script) else { return };
    output.success().silent();
}

#[test]
fn a_disk_in_the_place_of_its_clone_is_read() {
    let sandbox = Sandbox::with_repository();
    let script = format!(
        "{CLONES}
        $GABION snapshot one --quiet; cmp_stored one/in/a
        umount one two; mount -o loop second one
        $GABION snapshot one --quiet; cmp_stored one/in/a; cmp_stored one/out/b"
    );
    let Some(output) = with_mounts(&sandbox, &script) else { return };
    output.success().silent();
}

/// What is stored of a file.
fn stored(sandbox: &Sandbox, path: &Path) -> Vec<u8> {
    let item = format!("latest:{}", path.display());
    sandbox.gabion(["cat", &item]).run().success().stdout_bytes().to_vec()
}

#[test]
fn files_of_size_0_are_read_to_their_end() {
    let sandbox = Sandbox::with_repository();
    let kind = Path::new("/proc/sys/kernel/ostype");
    // Of one more than what is read at once behind the end of a file.
    let long = Path::new("/proc/kallsyms");
    assert_eq!((fs::metadata(kind).unwrap().len(), fs::metadata(long).unwrap().len()), (0, 0));
    let args = ["snapshot", kind.to_str().unwrap(), long.to_str().unwrap(), "--quiet"];
    sandbox.gabion(args).run().success().silent();
    assert_eq!(stored(&sandbox, kind), b"Linux\n");
    assert_eq!(stored(&sandbox, long), fs::read(long).unwrap());
}

#[test]
fn files_that_are_shorter_than_they_are_said_to_be_are_stored_as_they_are() {
    let sandbox = Sandbox::with_repository();
    let candidates = ["/sys/kernel/fscaps", "/sys/kernel/rcu_expedited", "/sys/kernel/profiling"];
    let Some(file) = candidates.map(PathBuf::from).into_iter().find(|path| path.exists()) else {
        return;
    };
    let content = fs::read(&file).unwrap();
    assert!((content.len() as u64) < fs::metadata(&file).unwrap().len());
    sandbox.gabion(["snapshot", file.to_str().unwrap(), "--quiet"]).run().success().silent();
    assert_eq!(stored(&sandbox, &file), content);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "no file is written")]
fn what_the_kernel_makes_up_is_read_each_time() {
    let sandbox = Sandbox::with_repository();
    // The name of a thread of this process, with times that stay as they are.
    let name = PathBuf::from("/proc/thread-self/comm").parent().unwrap().canonicalize().unwrap();
    let name = name.join("comm");
    for text in ["one", "two"] {
        fs::write(&name, text).unwrap();
        sandbox.gabion(["snapshot", name.to_str().unwrap(), "--quiet"]).run().success();
        assert_eq!(stored(&sandbox, &name), format!("{text}\n").as_bytes());
    }
}
