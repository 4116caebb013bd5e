//! Passphrases and key files: where they come from, and what happens without.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::support::Sandbox;

fn with_key_file() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.gabion(["init", "--new-key-file", "key"]).run().success();
    sandbox
}

#[test]
fn a_key_file_opens_and_only_the_right_one() {
    let sandbox = with_key_file();
    let mode = fs::metadata(sandbox.path("key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    sandbox.gabion(["snapshots", "--key-file", "key"]).run().success().silent();
    sandbox.gabion(["snapshots"]).env("GABION_KEY_FILE", "key").run().success().silent();

    sandbox.gabion(["init", "-r", "other", "--new-key-file", "other-key"]).run().success();
    let wrong = sandbox.gabion(["snapshots", "--key-file", "other-key"]).run().code(11);
    wrong.says("gabion: wrong passphrase or key file").says("hint: check GABION_PASSWORD");
    sandbox.write("text", "something else");
    let text = sandbox.gabion(["snapshots", "--key-file", "text"]).run().code(11);
    assert!(text.says("malformed key file").stderr().contains("cannot use text"));
    let missing = sandbox.gabion(["snapshots", "--key-file", "missing"]).run().code(11);
    missing.says("cannot read the key file missing: No such file or directory\n");
}

#[test]
fn no_key_file_is_overwritten_or_left_behind() {
    let sandbox = Sandbox::new();
    sandbox.write("key", "precious");
    let init = sandbox.gabion(["init", "--new-key-file", "key"]).run().code(1);
    init.says("cannot make the key file key: File exists");
    assert_eq!(fs::read(sandbox.path("key")).unwrap(), b"precious");
    assert!(!sandbox.path("repository").exists());
    sandbox.gabion(["init", "-r", "no/where", "--new-key-file", "new"]).run().code(1);
    assert!(!sandbox.path("new").exists());
}

#[test]
fn without_any_source_and_terminal_the_variables_are_named() {
    let sandbox = with_key_file();
    for run in [sandbox.gabion(["snapshots"]), sandbox.gabion(["init", "-r", "new"])] {
        let done = run.run().code(11);
        done.says("no passphrase or key file for ").says("no terminal to ask on");
        for name in ["GABION_PASSWORD,", "GABION_PASSWORD_FILE", "GABION_PASSWORD_COMMAND"] {
            done.says(name);
        }
    }
    assert!(!sandbox.path("new").exists());
}

#[test]
fn passphrases_come_from_variables_files_and_commands() {
    let sandbox = Sandbox::new();
    sandbox.gabion(["init"]).env("GABION_PASSWORD", "open sesame").run().success();
    let file = sandbox.write("password", "open sesame\n");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    sandbox.gabion(["snapshots", "--password-file", "password"]).run().success().silent();
    let from_file = sandbox.gabion(["snapshots"]).env("GABION_PASSWORD_FILE", "password");
    from_file.run().success().silent();
    let command = ["snapshots", "--password-command", "echo open sesame; cat"];
    sandbox.gabion(command).stdin("not for the command").run().success().silent();
    let from_command = sandbox.gabion(["snapshots"]);
    from_command.env("GABION_PASSWORD_COMMAND", "echo open sesame").run().success().silent();
    // An option counts more than a variable.
    let both = sandbox.gabion(["snapshots", "--password-file", "password"]);
    both.env("GABION_PASSWORD", "wrong").run().success().silent();
    sandbox.gabion(["snapshots"]).env("GABION_PASSWORD", "wrong").run().code(11);
}

#[test]
fn passphrases_that_cannot_be_had_are_told_from_wrong_ones() {
    let sandbox = with_key_file();
    let run =
        |name: &str, value: &str| sandbox.gabion(["snapshots"]).env(name, value).run().code(11);
    run("GABION_PASSWORD", "").says("GABION_PASSWORD is empty");
    run("GABION_PASSWORD_FILE", "missing").says("cannot read the password file missing");
    run("GABION_PASSWORD_COMMAND", "exit 3").says("the password command ended with exit status 3");
    run("GABION_PASSWORD_COMMAND", "true").says("the output of the password command is empty");
    let two = sandbox.gabion(["snapshots"]).env("GABION_PASSWORD", "x");
    let two = two.env("GABION_KEY_FILE", "key").run().code(2);
    two.says("GABION_PASSWORD and GABION_KEY_FILE are both set");
}

#[test]
fn a_password_file_that_others_can_read_is_mentioned() {
    let sandbox = with_key_file();
    let key = sandbox.path("key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let args = ["snapshots", "--key-file", "key"];
    let done = sandbox.gabion(args).run().success();
    assert_eq!(done.stderr(), "note: other users can read the key file key: `chmod 600` it\n");
    sandbox.gabion(args.iter().chain([&"-q"])).run().success().silent();
}

#[test]
fn a_key_for_a_repository_without_encryption_is_refused() {
    let sandbox = Sandbox::with_repository();
    let done = sandbox.gabion(["snapshots"]).env("GABION_PASSWORD", "x").run().code(11);
    done.says("is not encrypted").says("unset the GABION_PASSWORD");
    let init = ["init", "--plaintext", "-r", "other"];
    sandbox.gabion(init).env("GABION_PASSWORD", "x").run().code(2).says("hint: unset");
    sandbox.gabion(["key", "add", "--new-key-file", "key"]).run().code(1).says("has no keys");
    assert!(!sandbox.path("key").exists());
}

#[test]
fn slots_are_added_listed_exported_and_removed() {
    let sandbox = with_key_file();
    let key = |args: &[&str]| sandbox.gabion(args).env("GABION_KEY_FILE", "key").run();
    let labels = || {
        let listed = key(&["key", "list", "--json"]).success().json_lines().remove(0);
        let slots = listed.as_array().unwrap().clone();
        let text = |slot: &serde_json::Value, name: &str| slot[name].as_str().unwrap().to_owned();
        let mut slots: Vec<(String, String)> =
            slots.iter().map(|slot| (text(slot, "label"), text(slot, "id"))).collect();
        slots.sort();
        slots
    };
    key(&["key", "add", "--label", "second", "--new-key-file", "second"]).success();
    key(&["key", "export", "safe"]).success();
    key(&["key", "export", "safe"]).code(1).says("File exists");
    let slots = labels();
    assert_eq!(
        slots.iter().map(|(label, _)| label.as_str()).collect::<Vec<_>>(),
        ["export", "first", "second"]
    );
    for file in ["second", "safe"] {
        sandbox.gabion(["snapshots", "--key-file", file]).run().success().silent();
    }
    assert_eq!(key(&["key", "list"]).success().stdout().matches("key file").count(), 3);

    key(&["key", "remove", &slots[2].1[..8]]).success();
    sandbox.gabion(["snapshots", "--key-file", "second"]).run().code(11);
    key(&["key", "remove", "ffff"]).code(1).says("`gabion key list`");
    key(&["key", "remove", ""]).code(1);
    key(&["key", "remove", &slots[0].1]).success();
    key(&["key", "remove", &slots[1].1]).code(1).says("the last key slot");
    assert_eq!(labels().len(), 1);
}

#[test]
fn on_a_terminal_the_passphrase_is_asked_for() {
    let sandbox = Sandbox::new();
    let asked = [("New passphrase of ", "open sesame\n"), ("The same again: ", "open sesame\n")];
    let made = sandbox.gabion(["init"]).run_on_terminal(&asked).success();
    assert!(made.stdout().contains("(encrypted)"), "{}", made.stdout());
    assert!(!made.stdout().contains("sesame"), "what is typed is not shown");
    let open =
        |answer| sandbox.gabion(["snapshots"]).run_on_terminal(&[("Passphrase of ", answer)]);
    open("open sesame\n").success();
    open("open says me\n").code(11);
    open("\n").code(11);

    let differ = [("New passphrase of ", "one\n"), ("The same again: ", "two\n")];
    let done = sandbox.gabion(["init", "-r", "other"]).run_on_terminal(&differ).code(1);
    assert!(done.stdout().contains("the two passphrases differ"), "{}", done.stdout());
    assert!(!sandbox.path("other").exists());
}

/// `key add` and `key remove` change two copies, one after the other.
#[test]
fn what_was_cut_off_between_the_two_copies_of_a_slot_is_completed_by_whoever_writes_next() {
    let sandbox = Sandbox::with_encrypted_repository();
    sandbox.write("data/a", "a");
    let slots = ["repository/keys", "repository/copy/keys"];
    let both = || sandbox.shell("diff -r repository/keys repository/copy/keys").run().success();
    let commands: [&[&str]; 4] = [
        &["snapshot", "data"],
        &["prune"],
        &["key", "add", "--new-key-file", "third", "--label", "third"],
        &["key", "remove", "THIRD"],
    ];
    sandbox.gabion(["key", "add", "--new-key-file", "second"]).run().success();
    let mut third = String::new();
    for (number, args) in commands.into_iter().enumerate() {
        sandbox
            .shell(&format!("rm \"$(ls -d {}/* | head -1)\"", slots[number % 2]))
            .run()
            .success();
        sandbox.gabion(["check"]).run().code(13);
        let args = args.iter().map(|arg| if *arg == "THIRD" { &third } else { *arg });
        sandbox.gabion(args).run().success();
        both();
        sandbox.gabion(["check"]).run().success();
        let listed = sandbox.gabion(["key", "list", "--json"]).run().success().json_lines();
        let slots = listed[0].as_array().unwrap();
        if let Some(slot) = slots.iter().find(|slot| slot["label"] == "third") {
            third = slot["id"].as_str().unwrap().to_owned();
        }
    }
}
