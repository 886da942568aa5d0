//! `read --follow`: what others say comes as it is said, through a server that comes and goes.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use common::{Person, Server, folkmoot, texts};
use serde_json::Value;

/// Far more than anything takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A `read --follow` under way.
struct Follower {
    child: Child,
    lines: Receiver<Value>,
}

impl Follower {
    fn start(person: &Person, group: &str) -> Self {
        let mut child = folkmoot()
            .arg("--home")
            .arg(&person.home)
            .arg("--key-file")
            .arg(person.home.with_extension("key"))
            .args(["--json", "read", group, "--follow"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).unwrap());
            }
        });
        let follower = Self { child, lines };
        // What was said before comes first, all at once.
        let history = follower.lines.recv_timeout(PATIENCE).unwrap();
        assert!(history["entries"].is_array(), "{history}");
        follower
    }

    /// The next texts.
    fn texts(&self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        while texts.len() < count {
            let line = self.lines.recv_timeout(PATIENCE).unwrap();
            if line["kind"] == "text" {
                texts.push(line["text"].as_str().unwrap().to_owned());
            }
        }
        texts
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn people_follow_while_others_send() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("server");
    let server = Server::start(&data);
    let listen = server.listen();
    let [alice, bob, charlie] =
        ["alice", "bob", "charlie"].map(|name| Person::registered(folder.path(), name, &server));
    alice.ok(&["new", "weekend", "--with", "bob,charlie"]);
    bob.ok(&["sync"]);
    charlie.ok(&["sync"]);
    let followers = [&bob, &charlie].map(|person| Follower::start(person, "weekend"));

    // Two send at the same time; everybody hears all of it, once and in one order.
    std::thread::scope(|scope| {
        for (person, name) in [(&alice, "alice"), (&bob, "bob")] {
            scope.spawn(move || {
                for number in 0..5 {
                    person.ok(&["send", "weekend", &format!("{name} {number}")]);
                }
            });
        }
    });
    let [first, second] = followers.each_ref().map(|follower| follower.texts(10));
    assert_eq!(first, second);
    assert_eq!(first, texts(&alice.ok(&["read", "weekend"])));

    // After a cut with the newer key, and after the server was away as soon as it is back.
    alice.ok(&["remove", "weekend", "charlie"]);
    alice.ok(&["send", "weekend", "without charlie"]);
    assert_eq!(followers[0].texts(1), ["without charlie"]);
    let [follower, removed] = followers;
    assert!(ended(removed), "who was removed follows no longer");

    let stopping = Instant::now();
    server.stop();
    assert!(stopping.elapsed() < Duration::from_secs(4), "streams end");
    let _server = Server::start_at(&data, &listen);
    alice.ok(&["send", "weekend", "again"]);
    assert_eq!(follower.texts(1), ["again"]);
}

/// Whether a follower ends by itself, in peace.
fn ended(mut follower: Follower) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Some(status) = follower.child.try_wait().unwrap() {
            return status.success();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}
