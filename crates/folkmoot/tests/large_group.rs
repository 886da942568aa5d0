//! A group whose tree travels in pages: most of its devices have only registered, some live. The founder's
//! process is killed while it adds them all, and goes on.

mod common;

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Person, Server, of_kind, scale, texts};
use folkmoot_client::store::MemoryStore;
use folkmoot_client::transport::{Grpc, ServerUrl};
use folkmoot_client::{Client, System};

/// Nobody is waited for longer.
const DEADLINE: Duration = Duration::from_secs(60);

/// How many register at the same time.
const AT_ONCE: usize = 8;

/// Makes accounts that nobody uses any further, by the same calls as every account.
fn register(server: &Server, count: usize) -> Vec<String> {
    let url: ServerUrl = server.url.parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let well_known = Grpc::new().well_known(&url).await.unwrap();
        let next = Arc::new(AtomicUsize::new(0));
        let mut workers = tokio::task::JoinSet::new();
        for _ in 0..AT_ONCE {
            let (next, url, well_known) = (next.clone(), url.clone(), well_known.clone());
            workers.spawn(async move {
                let transport = Arc::new(Grpc::new());
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let store = MemoryStore::default();
                    let mut device = Client::new(store, transport.clone(), System::new());
                    let name = format!("user{number}");
                    device.register(&name, &url, &well_known).await.unwrap();
                }
            });
        }
        while let Some(result) = workers.join_next().await {
            result.unwrap();
        }
    });
    (0..count).map(|number| format!("user{number}")).collect()
}

#[test]
fn a_group_of_three_hundred_devices() {
    let folder = tempfile::tempdir().unwrap();
    // Drawing tokens for hundreds of accounts is another test's matter, and takes most of the time.
    let data = folder.path().join("server");
    let server = Server::started_with(common::folkmoot(), &data, "127.0.0.1:0", &["--no-tokens"]);
    let devices = scale(300, 3_000);
    let live = ["alice", "bob", "charlie", "dora", "emil"];
    let [alice, bob, charlie, dora, emil] = Person::all(folder.path(), &server, live);
    let mut users = register(&server, devices - live.len());
    users.extend(live[1..].iter().map(|name| (*name).to_owned()));

    // Alice's process is killed again and again while it adds them.
    let with = users.join(",");
    let mut commands = vec![vec!["new", "folk", "--with", &with]];
    commands.resize(4, vec!["sync"]);
    for (arguments, wait) in commands.iter().zip([700, 900, 1200, 1700]) {
        let mut child = alice
            .command(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // What was asked for is durable before anything is killed.
        let begun = Instant::now();
        while alice.ok(&["groups"])["groups"]
            .as_array()
            .unwrap()
            .is_empty()
        {
            assert!(begun.elapsed() < DEADLINE, "there is no group");
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(Duration::from_millis(wait));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    alice.ok(&["sync"]);
    let members = alice.ok(&["members", "folk"]);
    assert_eq!(members["members"].as_array().unwrap().len(), devices);
    assert_eq!(members["epoch"], 1);

    // Those who live join by the pages of the tree, and see the same.
    // In a group of that size they offer to be committers, one after another: one at least within a minute.
    std::thread::scope(|scope| {
        for person in [&bob, &charlie, &dora, &emil] {
            scope.spawn(|| person.ok(&["sync"]));
        }
    });
    for person in [&bob, &charlie, &dora, &emil] {
        assert_eq!(
            person.ok(&["members", "folk"])["members"],
            members_of(&members, person)
        );
    }
    // Alice names whoever has offered, who may commit then.
    alice.ok(&["update", "folk"]);
    let mut live = [&bob, &charlie, &dora, &emil].into_iter();
    assert!(live.any(|person| person.run(&["update", "folk"]).status.success()));
    alice.ok(&["send", "folk", "Hello, folk"]);
    for person in [&bob, &charlie, &dora, &emil] {
        let history = person.ok(&["read", "folk"]);
        assert_eq!(texts(&history), ["Hello, folk"]);
        assert_eq!(of_kind(&history, "updated").len(), 2);
    }
    emil.ok(&["leave", "folk"]);
    alice.ok(&["send", "folk", "Farewell"]);
    for person in [&alice, &bob, &charlie, &dora] {
        assert_eq!(
            texts(&person.ok(&["read", "folk"])),
            ["Hello, folk", "Farewell"]
        );
        let seen = person.ok(&["members", "folk"]);
        assert_eq!(seen["members"].as_array().unwrap().len(), devices - 1);
        assert_eq!(seen["epoch"], 4);
    }
}

/// The list of members as somebody else than its owner sees it.
fn members_of(list: &serde_json::Value, person: &Person) -> serde_json::Value {
    let name = person.home.file_name().unwrap().to_str().unwrap();
    let mut members = list["members"].clone();
    for member in members.as_array_mut().unwrap() {
        let own = member["user"] == format!("{name}@localhost");
        member["you"] = own.into();
    }
    members
}
