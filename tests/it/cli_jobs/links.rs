//! Links to mounted file systems: reported, or followed.

use std::os::unix::fs::symlink;

use super::{configure, job, with_jobs};

#[test]
fn links_that_lead_out_are_reported_or_what_they_lead_to_is_taken() {
    let sandbox = with_jobs("");
    let top = sandbox.path("").display().to_string().trim_end_matches('/').to_owned();
    sandbox.write("mnt/archive/old", "old data");
    sandbox.write("mnt/second/more", "more data");
    symlink("../mnt/archive", sandbox.path("src/archive")).unwrap();
    symlink(sandbox.path("mnt/second"), sandbox.path("mnt/archive/next")).unwrap();
    symlink(sandbox.path("gone"), sandbox.path("src/dead")).unwrap();
    symlink("file", sandbox.path("src/inside")).unwrap();
    symlink("..", sandbox.path("src/above")).unwrap();
    let with = |how: &str| {
        configure(
            &sandbox,
            &format!("[job.lab]\npaths = [\"TOP/src\"]\nmount-links = \"{how}\"\n"),
        );
        job(&sandbox, &["run", "lab"]).run()
    };
    let list = || sandbox.gabion(["ls", "latest"]).run().success().stdout().to_owned();
    let done = with("report").success();
    done.says(&format!("not contained: {top}/src/archive -> {top}/mnt/archive\n"));
    done.says(&format!("not contained: {top}/src/dead -> {top}/gone (not there)\n"));
    done.says(&format!("not contained: {top}/src/above -> {top}\n"));
    assert!(done.stdout().contains("; 3 links lead to what is not contained"), "{}", done.stdout());
    assert!(!done.stderr().contains("src/inside") && !list().contains("mnt/archive/old"));
    let done = with("follow").success();
    assert!(done.stdout().contains("; 2 links lead to what is not contained"), "{}", done.stdout());
    let listed = list();
    for path in ["mnt/archive/old", "mnt/second/more", "src/archive"] {
        assert!(listed.contains(path), "{listed}");
    }
    // A night says nothing of it, and the same folders are there the next time.
    job(&sandbox, &["--quiet", "run", "lab"]).run().success().silent();
    configure(&sandbox, "[job.lab]\npaths = [\"TOP/src\"]\nmount-links = \"yes\"\n");
    job(&sandbox, &["run", "lab"]).run().code(2).says("`mount-links` is \"yes\"");
}
