//! Leaving a group, as processes of the real binary.

mod common;

use common::{Person, Server, texts};
use serde_json::Value;

fn state(person: &Person, group: &str) -> Value {
    let groups = person.ok(&["groups"]);
    let lines = groups["groups"].as_array().unwrap();
    let line = lines.iter().find(|line| line["group"] == group).unwrap();
    line["state"].clone()
}

#[test]
fn who_leaves_is_out_as_soon_as_another_is_online() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("server"));
    let [alice, bob, charlie] =
        ["alice", "bob", "charlie"].map(|name| Person::registered(folder.path(), name, &server));
    alice.ok(&["new", "weekend", "--with", "bob,charlie"]);
    bob.ok(&["sync"]);
    charlie.ok(&["sync"]);
    bob.ok(&["send", "weekend", "goodbye"]);
    assert_eq!(bob.ok(&["leave", "weekend"])["state"], "leaving");
    assert_eq!(state(&bob, "weekend"), "leaving");
    assert!(bob.fails(&["send", "weekend", "oh"]).contains("leaving"));

    // It blocks nobody, and the first who reads it carries it out.
    charlie.ok(&["send", "weekend", "without bob"]);
    bob.ok(&["sync"]);
    assert_eq!(state(&bob, "weekend"), "left");
    let history = bob.ok(&["read", "weekend"]);
    assert_eq!(texts(&history), ["goodbye"]);
    assert_eq!(
        history["entries"].as_array().unwrap().last().unwrap()["kind"],
        "left"
    );
    assert!(bob.fails(&["send", "weekend", "?"]).contains("left"));
    let read = alice.ok(&["read", "weekend"]);
    assert_eq!(texts(&read), ["goodbye", "without bob"]);
    assert_eq!(
        alice.ok(&["members", "weekend"])["members"]
            .as_array()
            .unwrap()
            .len(),
        2
    );

    // The last one closes the door.
    alice.ok(&["remove", "weekend", "charlie"]);
    assert_eq!(alice.ok(&["leave", "weekend"])["state"], "left");
}
