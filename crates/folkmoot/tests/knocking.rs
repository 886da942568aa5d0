//! Links and knocks, as processes of the real binary.

mod common;

use common::{Person, Server, of_kind, texts};
use serde_json::Value;

fn link(answer: &Value) -> &str {
    answer["link"].as_str().unwrap()
}

#[test]
fn who_has_a_link_knocks_and_a_member_answers() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("server"));
    let names = ["alice", "bob", "charlie", "dora"];
    let [alice, bob, charlie, dora] = Person::all(folder.path(), &server, names);
    alice.ok(&["new", "weekend", "--with", "bob"]);
    bob.ok(&["sync"]);
    let made = alice.ok(&["invite", "--link", "weekend"]);
    assert!(link(&made).starts_with("folkmoot:"));
    // Asked again, it is the same one.
    assert_eq!(
        alice.ok(&["invite", "--link", "weekend"])["link"],
        made["link"]
    );

    // Somebody else than its maker answers.
    charlie.ok(&["knock", link(&made)]);
    bob.ok(&["sync"]);
    charlie.ok(&["sync"]);
    charlie.ok(&["send", "weekend", "thank you"]);
    let read = alice.ok(&["read", "weekend"]);
    assert_eq!(texts(&read), ["thank you"]);
    let added = of_kind(&read, "added");
    assert!(
        added
            .iter()
            .any(|line| line["from"] == "bob@localhost" && line["user"] == "charlie@localhost")
    );

    // A removal replaces the link.
    alice.ok(&["remove", "weekend", "charlie"]);
    let dead = dora.fails(&["knock", link(&made)]);
    assert!(dead.contains("no longer good"), "{dead}");
    let news = bob.ok(&["sync"]);
    let new = news["events"].as_array().unwrap().iter();
    let new: Vec<_> = new.filter(|event| event["kind"] == "new_link").collect();
    let new = link(new[0]);
    assert_ne!(new, link(&made));

    // From now on members are asked.
    let asking = alice.ok(&["invite", "--link", "weekend", "--ask"]);
    dora.ok(&["knock", link(&asking)]);
    alice.ok(&["sync"]);
    let knocks = alice.ok(&["knocks", "weekend"]);
    assert_eq!(knocks["knocks"][0]["user"], "dora@localhost");
    alice.ok(&["decline", "weekend", "dora"]);
    let gone = alice.fails(&["accept", "weekend", "dora"]);
    assert!(gone.contains("has not knocked"), "{gone}");
    dora.ok(&["knock", link(&asking)]);
    bob.ok(&["sync"]);
    let members = bob.ok(&["accept", "weekend", "dora"]);
    assert_eq!(members["members"].as_array().unwrap().len(), 3);
    dora.ok(&["sync"]);
    dora.ok(&["send", "weekend", "in at last"]);
    assert_eq!(
        texts(&bob.ok(&["read", "weekend"])),
        ["thank you", "in at last"]
    );

    assert!(
        dora.fails(&["knock", "https://example.org"])
            .contains("no link")
    );
    let taken = alice.ok(&["invite", "--link", "weekend", "--stop"]);
    assert!(taken["link"].is_null());
    let dead = charlie.fails(&["knock", link(&asking)]);
    assert!(dead.contains("no longer good"), "{dead}");
}
