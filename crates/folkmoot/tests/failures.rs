//! Whatever goes wrong: one clear line that says what to do, a non-zero exit, nothing lost.

mod common;

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::process::Stdio;

use common::{Person, Server, folkmoot, one_line, output, texts};

#[test]
fn an_unknown_user() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("server"));
    let alice = Person::registered(folder.path(), "alice", &server);
    alice.ok(&["new", "weekend"]);
    let line = alice.fails(&["add", "weekend", "nobody"]);
    assert!(line.contains("nobody"), "{line}");
    let line = alice.fails(&["new", "other", "--with", "nobody"]);
    assert!(line.contains("nobody"), "{line}");
    // The group is as it was and works.
    let group = alice.ok(&["members", "weekend"]);
    assert_eq!(group["epoch"], 0);
    alice.ok(&["send", "weekend", "still here"]);
    assert_eq!(texts(&alice.ok(&["read", "weekend"])), ["still here"]);
}

#[test]
fn a_server_that_is_down_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("server");
    let server = Server::start(&data);
    let listen = server.listen();
    let alice = Person::registered(folder.path(), "alice", &server);
    alice.ok(&["new", "weekend"]);
    drop(server);
    let line = alice.fails(&["send", "weekend", "into the dark"]);
    assert!(line.contains("cannot reach"), "{line}");
    let line = Person::new(folder.path(), "bob").fails(&[
        "register",
        "bob",
        "--server",
        &format!("https://{listen}#{}", "00".repeat(32)),
    ]);
    assert!(line.contains("cannot reach"), "{line}");

    // What was to be sent was kept, and goes out once the server is back.
    let _server = Server::start_at(&data, &listen);
    alice.ok(&["sync"]);
    assert_eq!(texts(&alice.ok(&["read", "weekend"])), ["into the dark"]);
}

#[test]
fn a_wrong_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("server"));
    let listen = server.listen();
    let wrong = format!("https://{listen}#{}", "ab".repeat(32));
    let alice = Person::new(folder.path(), "alice");
    let line = alice.fails(&["register", "alice", "--server", &wrong]);
    assert!(line.contains("certificate"), "{line}");
    let unpinned = format!("https://{listen}");
    let line = alice.fails(&["register", "alice", "--server", &unpinned]);
    assert!(line.contains("certificate"), "{line}");

    // Another server in the same place, with another certificate, is not spoken to.
    alice.ok(&["register", "alice", "--server", &server.url]);
    alice.ok(&["new", "weekend"]);
    drop(server);
    let _impostor = Server::start_at(&folder.path().join("impostor"), &listen);
    let line = alice.fails(&["send", "weekend", "secret"]);
    assert!(line.contains("certificate"), "{line}");
}

#[test]
fn a_damaged_state_file() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("server"));
    let alice = Person::registered(folder.path(), "alice", &server);
    alice.ok(&["new", "weekend"]);
    alice.ok(&["send", "weekend", "before"]);
    let state = fs::read_dir(&alice.home)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap();
    let whole = fs::read(&state).unwrap();
    let mut file = fs::OpenOptions::new().write(true).open(&state).unwrap();
    file.seek(SeekFrom::Start(100)).unwrap();
    file.write_all(&[0xff; 4000]).unwrap();
    drop(file);
    let damaged = fs::read(&state).unwrap();
    let line = alice.fails(&["groups"]);
    assert!(line.contains("damaged"), "{line}");
    assert_eq!(
        fs::read(&state).unwrap(),
        damaged,
        "what is left was not touched"
    );

    // With the file put back, nothing was lost.
    fs::write(&state, whole).unwrap();
    assert_eq!(texts(&alice.ok(&["read", "weekend"])), ["before"]);
}

#[test]
fn a_wrong_key() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("server"));
    let alice = Person::registered(folder.path(), "alice", &server);
    let key = alice.home.with_extension("key");
    let right = fs::read(&key).unwrap();
    fs::write(&key, "00".repeat(32)).unwrap();
    let line = alice.fails(&["groups"]);
    assert!(line.contains("does not open"), "{line}");
    fs::write(&key, right).unwrap();
    alice.ok(&["groups"]);

    // A passphrase, wrong and right, without any terminal.
    let home = folder.path().join("bob");
    let with = |passphrase: &str, arguments: &[&str]| {
        let mut command = folkmoot();
        command
            .arg("--home")
            .arg(&home)
            .env("FOLKMOOT_PASSPHRASE", passphrase);
        output(command.args(arguments))
    };
    assert!(
        with("long enough", &["register", "bob", "--server", &server.url])
            .status
            .success()
    );
    assert!(with("long enough", &["groups"]).status.success());
    assert!(one_line(&with("another", &["groups"])).contains("does not open"));
}

#[test]
fn a_file_that_is_no_mls_message() {
    let folder = tempfile::tempdir().unwrap();
    let person = Person::new(folder.path(), "nobody");
    let file = folder.path().join("text");
    fs::write(&file, "this is no message").unwrap();
    let line = person.fails(&["inspect", file.to_str().unwrap()]);
    assert!(line.contains("MLS"), "{line}");
    let line = person.fails(&["inspect", folder.path().join("missing").to_str().unwrap()]);
    assert!(line.contains("missing"), "{line}");
    let output = person.run_with(&["inspect", "-"], &[0xff; 3000]);
    assert!(one_line(&output).contains("MLS"));
}

#[test]
fn what_makes_no_sense() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("server"));
    let alice = Person::new(folder.path(), "alice");
    assert!(alice.fails(&["groups"]).contains("register"));
    assert!(
        alice
            .fails(&["register", "A b", "--server", &server.url])
            .contains("name")
    );
    assert!(
        alice
            .fails(&["register", "alice", "--server", "nonsense"])
            .contains("https://")
    );
    alice.ok(&["register", "alice", "--server", &server.url]);
    let other = Person::new(folder.path(), "other");
    assert!(
        other
            .fails(&["register", "alice", "--server", &server.url])
            .contains("taken")
    );
    assert!(alice.fails(&["send", "nowhere", "x"]).contains("nowhere"));
    alice.ok(&["new", "weekend"]);
    assert!(alice.fails(&["new", "weekend"]).contains("weekend"));
    assert!(
        alice
            .fails(&["add", "weekend", "alice"])
            .contains("oneself")
    );
    assert!(alice.fails(&["remove", "weekend", "bob"]).contains("bob"));
}

#[test]
fn whoever_reads_no_more_is_not_followed_for() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("server"));
    let alice = Person::registered(folder.path(), "alice", &server);
    alice.ok(&["new", "weekend"]);
    let mut following = folkmoot()
        .arg("--home")
        .arg(&alice.home)
        .arg("--key-file")
        .arg(alice.home.with_extension("key"))
        .args(["read", "weekend", "--follow"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The pipe is closed before the first entry comes.
    drop(following.stdout.take());
    for _ in 0..50 {
        alice.ok(&["send", "weekend", "is anybody there?"]);
        if let Some(status) = following.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return;
        }
    }
    following.kill().unwrap();
    following.wait().unwrap();
    panic!("it goes on for nobody");
}

#[test]
fn a_command_line_that_makes_no_sense_is_data_too() {
    let told = output(folkmoot().args(["--json", "send"]));
    assert_eq!(told.status.code(), Some(2));
    let data: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert!(data["error"].as_str().unwrap().contains("GROUP"), "{data}");
    let told = output(folkmoot().arg("send"));
    assert!(told.stdout.is_empty());
    assert!(String::from_utf8_lossy(&told.stderr).contains("GROUP"));
    assert!(
        output(folkmoot().args(["--json", "--help"]))
            .status
            .success()
    );
}

#[test]
fn an_error_is_one_line_whatever_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("server"));
    let alice = Person::registered(folder.path(), "alice", &server);
    alice.fails(&["send", "one\ntwo", "x"]);
}
