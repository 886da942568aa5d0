//! Several processes at once: on one home, in one group, and on an old copy of a home.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::thread;

use common::secrets::Witness;
use common::{Deadline, Person, Server, folkmoot, of_kind, scale, tap, texts};
use serde_json::Value;

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[test]
fn an_old_copy_of_a_home_encrypts_nothing() {
    // What the home did after the copy was made: talk, or commit.
    let after: [&[&str]; 2] = [&["send", "moot", "two"], &["update", "moot"]];
    for after in after {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(&folder.path().join("server"));
        let [alice, bob] = Person::all(folder.path(), &server, ["alice", "bob"]);
        alice.ok(&["new", "moot", "--with", "bob"]);
        bob.ok(&["sync"]);
        alice.ok(&["send", "moot", "one"]);
        let backup = folder.path().join("backup");
        copy(&alice.home, &backup);
        alice.ok(after);
        bob.ok(&["send", "moot", "in between"]);
        let said = texts(&bob.ok(&["read", "moot"]));

        copy(&backup, &alice.home);
        for arguments in [&["send", "moot", "with old keys"][..], &["update", "moot"]] {
            let line = alice.fails(arguments);
            assert!(line.contains("older copy"), "{line}");
            assert!(line.contains("add you again"), "it says what to do: {line}");
        }
        let history = bob.ok(&["read", "moot"]);
        assert_eq!(texts(&history), said, "nothing was sent");
        assert!(of_kind(&history, "unreadable").is_empty());

        // What it says helps.
        bob.ok(&["remove", "moot", "alice"]);
        bob.ok(&["add", "moot", "alice"]);
        alice.ok(&["sync"]);
        alice.ok(&["send", "moot", "with new keys"]);
        let history = bob.ok(&["read", "moot"]);
        assert_eq!(texts(&history).last().unwrap(), "with new keys");
    }
}

#[test]
fn four_send_at_once_on_one_home_while_one_follows() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("server");
    let server = Server::started_by(tap::on(folkmoot(), folder.path()), &data, "127.0.0.1:0");
    let [alice, bob] = Person::all(folder.path(), &server, ["alice", "bob"]);
    let mut witness = Witness::of_new_group(&server, "moot", &["alice", "bob"]);
    alice.ok(&["sync"]);
    bob.ok(&["sync"]);
    let mut follower = alice
        .command(&["--json", "read", "moot", "--follow"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let each = scale(5, 25);
    let (alice, bob) = (&alice, &bob);
    thread::scope(|scope| {
        for sender in 0..4 {
            scope.spawn(move || {
                for number in 0..each {
                    alice.ok(&["send", "moot", &format!("{sender}: {number}")]);
                }
            });
        }
        // Commits come in between.
        scope.spawn(|| (0..3).for_each(|_| drop(bob.ok(&["update", "moot"]))));
    });

    let history = bob.ok(&["read", "moot"]);
    // No message key is used twice, not even for what the log did not take.
    let received = tap::received(folder.path(), "delivery");
    let used = witness.used(&received);
    assert!(used.applications >= 4 * each, "{used:?}");
    // Two messages of one key in the log would leave one of them unreadable.
    assert!(of_kind(&history, "unreadable").is_empty());
    assert!(of_kind(&history, "contradiction").is_empty());
    let said = texts(&history);
    let expected: BTreeSet<String> = (0..4)
        .flat_map(|sender| (0..each).map(move |number| format!("{sender}: {number}")))
        .collect();
    assert_eq!(said.len(), expected.len(), "each once: {said:?}");
    assert_eq!(said.iter().cloned().collect::<BTreeSet<_>>(), expected);
    for sender in 0..4 {
        let own = said
            .iter()
            .filter(|text| text.starts_with(&format!("{sender}:")));
        let numbers = own.map(|text| text[3..].parse::<usize>().unwrap());
        assert!(numbers.eq(0..each), "in its sender's order");
    }
    assert_eq!(texts(&alice.ok(&["read", "moot"])), said);

    // Who follows saw the same.
    let mut followed = Vec::new();
    let deadline = Deadline::of(&follower);
    let lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    for line in lines {
        let value: Value = serde_json::from_str(&line.unwrap()).unwrap();
        assert!(value["error"].is_null(), "{value}");
        if value["entries"].is_array() {
            followed.extend(texts(&value));
        } else if value["kind"] == "text" {
            followed.push(value["text"].as_str().unwrap().to_owned());
        }
        if followed.len() >= said.len() {
            break;
        }
    }
    drop(deadline);
    follower.kill().unwrap();
    follower.wait().unwrap();
    assert_eq!(followed, said);
}

#[test]
fn two_commit_at_the_same_moment() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("server"));
    let [alice, bob, charlie] = Person::all(folder.path(), &server, ["alice", "bob", "charlie"]);
    let first = alice.ok(&["new", "moot", "--with", "bob"]);
    bob.ok(&["sync"]);
    let mut epoch = first["epoch"].as_u64().unwrap();
    for round in 0..scale(10, 100) {
        let both: [&[&str]; 2] = match round % 4 {
            0 => [&["update", "moot"], &["update", "moot"]],
            1 => [&["add", "moot", "charlie"], &["update", "moot"]],
            2 => [&["update", "moot"], &["update", "moot"]],
            _ => [&["update", "moot"], &["remove", "moot", "charlie"]],
        };
        thread::scope(|scope| {
            scope.spawn(|| alice.ok(both[0]));
            scope.spawn(|| bob.ok(both[1]));
        });
        charlie.ok(&["sync"]);
        let seen = [&alice, &bob].map(|person| {
            person.ok(&["sync"]);
            person.ok(&["members", "moot"])
        });
        // Each intent is one commit; none is lost, none happens twice.
        epoch += 2;
        assert_eq!(seen[0]["epoch"], epoch, "round {round}");
        assert_eq!(seen[1]["epoch"], epoch, "round {round}");
        assert_eq!(
            seen[0]["epoch_authenticator"],
            seen[1]["epoch_authenticator"]
        );
        let members = if matches!(round % 4, 1 | 2) { 3 } else { 2 };
        assert_eq!(seen[0]["members"].as_array().unwrap().len(), members);
    }
    // One commit after each parent: both went through the same epochs, one after the other.
    let epochs = |person: &Person| -> Vec<(u64, u64, String)> {
        let history = person.ok(&["read", "moot"]);
        let epochs = of_kind(&history, "epoch").into_iter().map(|entry| {
            let number = |name: &str| entry[name].as_u64().unwrap();
            let authenticator = entry["authenticator"].as_str().unwrap().to_owned();
            (number("sequence"), number("epoch"), authenticator)
        });
        epochs.collect()
    };
    let (alice, bob) = (epochs(&alice), epochs(&bob));
    assert!(alice.iter().map(|(_, number, _)| *number).eq(1..=epoch));
    assert_eq!(alice, bob);
}
