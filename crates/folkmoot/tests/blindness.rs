//! What the Delivery Service of a real server hears, keeps and says to its operator while people talk
//! through it: no name, no credential, no key of anybody's, no reference of a KeyPackage, no title, no
//! message; and no value by which a mailbox and a log could be put together. Each service records what it
//! receives after TLS, by itself, and its database is opened.

mod common;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use std::process::Stdio;

use common::secrets::{groups, packages};
use common::{Person, Server, folkmoot, scale, tap, texts};
use folkmoot_client::transport::{Grpc, ServerUrl, ServiceAddress, Transport};
use folkmoot_credential::UserId;
use folkmoot_delivery_service::store::{AtRestKeys, Partition, SqliteStore, Table};
use folkmoot_mls::codec::Encode;
use folkmoot_protocol::authentication::LookUpRequest;
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::directory::DirectoryEntry;
use rusqlite::types::ValueRef;
use sha2::{Digest, Sha256};

const DOMAIN: &str = "moot.example";
const TITLE: &str = "a secret meeting";
const PEOPLE: [&str; 4] = [
    "alice-liddell",
    "bob-roberts",
    "charlie-darwin",
    "dora-maar",
];

/// Pieces of this size are looked for, in bytes.
const WINDOW: usize = 16;
/// A piece with fewer different bytes (zeros, above all) can be anybody's.
const VARIETY: usize = 6;

/// What must stay unknown, with a word on what it is.
#[derive(Default)]
struct Secrets {
    /// Shorter than a window.
    short: BTreeMap<Vec<u8>, String>,
    windows: HashMap<[u8; WINDOW], String>,
}

impl Secrets {
    /// Every piece of it, as it is and in hexadecimal.
    fn add(&mut self, what: &str, secret: &[u8]) {
        assert!(secret.len() >= 8, "too short to be looked for: {what}");
        for form in [secret.to_vec(), hex::encode(secret).into_bytes()] {
            if form.len() < WINDOW {
                self.short.insert(form, what.to_owned());
                continue;
            }
            for window in form.windows(WINDOW) {
                if is_telling(window) {
                    let window = window.try_into().unwrap();
                    self.windows
                        .entry(window)
                        .or_insert_with(|| what.to_owned());
                }
            }
        }
    }

    /// What of it is in these bytes.
    fn found_in(&self, bytes: &[u8]) -> BTreeSet<&str> {
        let whole = bytes.windows(WINDOW).filter_map(|window| {
            let window: [u8; WINDOW] = window.try_into().unwrap();
            self.windows.get(&window)
        });
        let short = self.short.iter().filter(|(secret, _)| find(bytes, secret));
        whole
            .chain(short.map(|(_, what)| what))
            .map(String::as_str)
            .collect()
    }

    /// The KeyPackages that a device offers now, and the group's leaves as it sees them.
    fn add_keys(&mut self, person: &Person, name: &str) {
        for (reference, bundle) in packages(person) {
            let package = &bundle.key_package;
            let leaf = &package.leaf_node;
            for (what, bytes) in [
                ("a KeyPackage's reference", reference.as_slice()),
                ("an init key", &package.init_key),
                (
                    "an init key's private part",
                    bundle.init_private_key.as_slice(),
                ),
                ("an encryption key", &leaf.encryption_key),
                ("a signature key", &leaf.signature_key),
                ("a credential", &leaf.credential.to_bytes()),
                ("a KeyPackage", &package.to_bytes()),
            ] {
                self.add(&format!("{what} of {name}"), bytes);
            }
        }
    }

    fn add_leaves(&mut self, person: &Person) {
        for group in groups(person) {
            for (_, leaf) in group.members() {
                self.add("an encryption key", &leaf.encryption_key);
                self.add("a signature key", &leaf.signature_key);
                self.add("a credential", &leaf.credential.to_bytes());
            }
        }
    }

    /// Who somebody is and where it is reached.
    fn add_identity(&mut self, name: &str, entry: &DirectoryEntry) {
        self.add(&format!("the name of {name}"), name.as_bytes());
        let statement = &entry.binding.statement;
        let device = &entry.devices[0];
        for (what, bytes) in [
            ("identity key", statement.identity_key.0.as_slice()),
            ("binding", &entry.binding.signature),
            ("device key", &device.certificate.signature_key.0),
            ("certificate", &device.certificate.signature),
            ("mailbox key", &device.mailbox_key.key),
            ("shelf key", device.shelf_key.key.as_slice()),
        ] {
            self.add(&format!("the {what} of {name}"), bytes);
        }
    }
}

/// What a connection of the Delivery Service is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Logs and pickups.
    Log,
    /// Mailboxes and shelves, one's own or others'.
    Mailbox,
    /// Where people knock, and wait for answers.
    Door,
    /// Attachments.
    Blob,
}

impl Kind {
    fn of(path: &str) -> Self {
        match path.rsplit(['.', '/']).nth(1).unwrap() {
            "Logs" => Self::Log,
            "Mailboxes" | "Shelves" => Self::Mailbox,
            "Doors" => Self::Door,
            "Blobs" => Self::Blob,
            other => panic!("which connections is {other} on?"),
        }
    }
}

/// By what a mailbox and a log could be put together: connections that carry both, and values that were
/// received on both kinds, but for those that are `everybody's`.
fn links<'a>(
    received: impl Iterator<Item = (&'a str, &'a str, &'a [u8])>,
    everybodys: &[Vec<u8>],
) -> BTreeSet<String> {
    let mut kinds: HashMap<&str, BTreeSet<Kind>> = HashMap::new();
    let mut values: HashMap<[u8; WINDOW], BTreeMap<Kind, &str>> = HashMap::new();
    for (connection, path, body) in received {
        let kind = Kind::of(path);
        kinds.entry(connection).or_default().insert(kind);
        let pieces = without(body, everybodys);
        let windows = pieces.iter().flat_map(|piece| piece.windows(WINDOW));
        for window in windows.filter(|window| is_telling(window)) {
            let window = window.try_into().unwrap();
            values
                .entry(window)
                .or_default()
                .entry(kind)
                .or_insert(path);
        }
    }
    let connections = kinds.into_values().filter(|kinds| kinds.len() > 1);
    let connections = connections.map(|kinds| format!("a connection for {kinds:?}"));
    let values = values.into_values().filter(|kinds| kinds.len() > 1);
    let values = values.map(|kinds| format!("a value in {:?}", kinds.values()));
    connections.chain(values).collect()
}

/// What is left of some bytes between these values. Where one ends by chance as elsewhere, the bytes beside
/// it would otherwise seem to be shared.
fn without<'a>(bytes: &'a [u8], values: &[Vec<u8>]) -> Vec<&'a [u8]> {
    let mut pieces = vec![bytes];
    for value in values {
        let split = |piece: &'a [u8]| {
            let mut rest = piece;
            let mut found = Vec::new();
            while let Some(at) = rest.windows(value.len()).position(|window| window == value) {
                found.push(&rest[..at]);
                rest = &rest[at + value.len()..];
            }
            found.push(rest);
            found
        };
        pieces = pieces.into_iter().flat_map(split).collect();
    }
    pieces
}

/// Whether a piece can hardly be anybody's.
fn is_telling(window: &[u8]) -> bool {
    window.iter().collect::<BTreeSet<_>>().len() >= VARIETY
}

fn find(bytes: &[u8], secret: &[u8]) -> bool {
    bytes.windows(secret.len()).any(|window| window == secret)
}

/// What the directory says about somebody.
fn look_up(url: &ServerUrl, name: &str) -> DirectoryEntry {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let transport = Grpc::new();
        let services = transport.well_known(url).await.unwrap();
        let key = services.authentication.unwrap().key;
        let address = ServiceAddress {
            url: url.url.clone(),
            key,
            pin: url.pin,
        };
        let request = LookUpRequest {
            name: name.to_owned(),
            ..LookUpRequest::default()
        };
        let answer = transport.call(&address, Call::LookUp(request)).await;
        let Ok(Answer::LookUp(response)) = answer else {
            panic!("{answer:?}")
        };
        let user: UserId = format!("{name}@{DOMAIN}").parse().unwrap();
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        DirectoryEntry::read(&response, &user, &key, now).unwrap()
    })
}

/// All that a service keeps, piece by piece: its files as they are, with free pages and the write-ahead
/// log, and every value of its database.
fn kept(data: &Path, service: &str) -> Vec<(String, Vec<u8>)> {
    let mut kept = Vec::new();
    for file in fs::read_dir(data).unwrap() {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        if name.starts_with(service) {
            kept.push((format!("file {name}"), fs::read(file.path()).unwrap()));
        }
    }
    let path = data.join(format!("{service}.sqlite"));
    if service == "delivery" {
        // Encrypted; what a copied database tells is looked at elsewhere.
        let keys = fs::read_to_string(data.join("delivery.at-rest.key")).unwrap();
        let store = SqliteStore::open(&path, &AtRestKeys::read(&keys).unwrap()).unwrap();
        let mut keep = |table: Table, partition: Partition, key: &[u8], value: &[u8]| {
            let record = [&partition.0, key, value].concat();
            kept.push((format!("table {}", table.name()), record));
        };
        store.visit_all(&mut keep).unwrap();
        return kept;
    }
    let database = rusqlite::Connection::open(path).unwrap();
    let names = "SELECT name FROM sqlite_schema WHERE type = 'table'";
    let names: Vec<String> = database
        .prepare(names)
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    for name in names {
        let mut statement = database.prepare(&format!("SELECT * FROM {name}")).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            for column in 0..columns {
                if let ValueRef::Blob(bytes) | ValueRef::Text(bytes) = row.get_ref(column).unwrap()
                {
                    kept.push((format!("table {name}"), bytes.to_vec()));
                }
            }
        }
    }
    kept
}

/// All that a service heard, request by request.
fn heard(folder: &Path, service: &str) -> Vec<(String, Vec<u8>)> {
    tap::received(folder, service)
        .into_iter()
        .map(|request| {
            let all = [request.head.as_bytes(), &request.body].concat();
            (request.path().to_owned(), all)
        })
        .collect()
}

#[test]
fn the_search_finds_what_is_there() {
    let mut secrets = Secrets::default();
    secrets.add("a name", b"alice-liddell");
    secrets.add("a key", &(0..32).collect::<Vec<u8>>());
    secrets.add("nothing", &[0; 100]);
    let none = BTreeSet::new();
    assert_eq!(secrets.found_in(&[0; 1000]), none);
    assert_eq!(secrets.found_in(b"alice-liddel"), none);
    assert_eq!(secrets.found_in(b"Call alice-liddell!").len(), 1);
    let half: Vec<u8> = (10..26).collect();
    assert_eq!(secrets.found_in(&half), ["a key"].into());
    assert_eq!(
        secrets.found_in(hex::encode(half).as_bytes()),
        ["a key"].into()
    );
}

#[test]
fn the_search_finds_what_links() {
    let (log, mailbox) = (
        "/folkmoot.delivery.v1.Logs/Read",
        "/folkmoot.delivery.v1.Shelves/Take",
    );
    let value: Vec<u8> = (0..40).collect();
    let with = |from: u8| [&[from; 9], &value[from.into()..]].concat();
    let (one, two, third) = (with(1), with(7), vec![9; 99]);
    let linked = |requests: &[(&str, &str, &[u8])]| links(requests.iter().copied(), &[]).len();
    assert_eq!(
        linked(&[("a", log, &one), ("b", log, &two), ("c", mailbox, &third)]),
        0
    );
    let shared: [(_, _, &[u8]); 2] = [("a", log, &one), ("b", mailbox, &two)];
    assert_eq!(linked(&shared), 1);
    assert!(links(shared.into_iter(), &[value[7..].to_vec()]).is_empty());
    assert_eq!(
        linked(&[("a", log, &one), ("b", mailbox, &third), ("b", log, &[])]),
        1
    );
}

#[test]
fn the_delivery_service_of_a_real_server_learns_nothing_that_it_need_not_know() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("server");
    let start = |listen: &str| {
        let command = tap::on(folkmoot(), folder.path());
        Server::started_with(command, &data, listen, &["--domain", DOMAIN])
    };
    let server = start("127.0.0.1:0");
    let people = Person::all(folder.path(), &server, PEOPLE);
    let [alice, bob, charlie, dora] = &people;

    let mut secrets = Secrets::default();
    secrets.add("the domain", DOMAIN.as_bytes());
    secrets.add("the title", TITLE.as_bytes());
    secrets.add("the media type", b"text/plain;charset=utf-8");
    let url = server.url.parse().unwrap();
    for name in PEOPLE {
        secrets.add_identity(name, &look_up(&url, name));
    }
    let mut learn = |members: &[&Person]| {
        for (person, name) in people.iter().zip(PEOPLE) {
            secrets.add_keys(person, name);
        }
        members.iter().for_each(|person| secrets.add_leaves(person));
    };
    learn(&[]);

    // Every kind of call, some of them more than once.
    let long = "a long story of many words; ".repeat(2000);
    let log = alice.ok(&["new", TITLE, "--with", PEOPLE[1]])["log"].clone();
    let log = hex::decode(log.as_str().unwrap()).unwrap();
    bob.ok(&["sync"]);
    learn(&[alice, bob]);
    let mut follower = bob
        .command(&["read", TITLE, "--follow"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    alice.ok(&["send", TITLE, "the password is swordfish"]);
    bob.ok(&["add", TITLE, PEOPLE[2], PEOPLE[3]]);
    charlie.ok(&["sync"]);
    dora.ok(&["sync"]);
    learn(&[alice, dora]);
    assert!(
        charlie
            .run_with(&["send", TITLE], long.as_bytes())
            .status
            .success()
    );
    // What waits while the server is away goes out later.
    let listen = server.listen();
    server.kill();
    dora.fails(&["send", TITLE, "is anybody listening to this?"]);
    let server = start(&listen);
    dora.ok(&["sync"]);
    charlie.ok(&["update", TITLE]);
    alice.ok(&["sync"]);
    learn(&[alice]);
    alice.ok(&["remove", TITLE, PEOPLE[2]]);
    dora.ok(&["sync"]);
    learn(&[dora]);
    dora.ok(&["leave", TITLE]);
    alice.ok(&["send", TITLE, "those two are gone from here"]);
    for person in &people {
        person.ok(&["sync"]);
    }
    learn(&[alice, bob]);
    follower.kill().unwrap();
    follower.wait().unwrap();
    let said = texts(&bob.ok(&["read", TITLE]));
    assert_eq!(said.len(), 4);
    for text in said {
        secrets.add("a message", text.as_bytes());
    }

    // Killed, it leaves its write-ahead log.
    server.kill();
    let record = heard(folder.path(), "delivery");
    let calls: BTreeSet<&str> = record.iter().map(|(path, _)| path.as_str()).collect();
    for call in [
        "Logs/Open",
        "Logs/Append",
        "Logs/Nonce",
        "Logs/Read",
        "Logs/PickUp",
        "Mailboxes/Create",
        "Mailboxes/Nonce",
        "Mailboxes/DropAll",
        "Mailboxes/Collect",
        "Mailboxes/Acknowledge",
        "Shelves/Nonce",
        "Shelves/Stock",
        "Shelves/Count",
        "Shelves/Take",
    ] {
        assert!(calls.iter().any(|path| path.ends_with(call)), "{call}");
    }
    let stored = kept(&data, "delivery");
    assert!(stored.iter().any(|(place, _)| place.ends_with("-wal")));

    // It hears and keeps what it must: the log's id. Without its key the database does not show even that.
    let has = |pieces: &[(String, Vec<u8>)]| pieces.iter().any(|(_, bytes)| find(bytes, &log));
    let (files, records): (Vec<_>, Vec<_>) =
        { stored.iter().cloned() }.partition(|(place, _)| place.starts_with("file"));
    assert_eq!(
        (has(&record), has(&records), has(&files)),
        (true, true, false)
    );
    // And the other service has what this one must not have, so that it would be seen here.
    for pieces in [
        heard(folder.path(), "authentication"),
        kept(&data, "authentication"),
    ] {
        let all: Vec<u8> = pieces.into_iter().flat_map(|(_, bytes)| bytes).collect();
        let found = secrets.found_in(&all);
        for name in PEOPLE {
            assert!(found.contains(&*format!("the name of {name}")), "{name}");
            assert!(found.contains(&*format!("the identity key of {name}")));
            assert!(found.contains(&*format!("the device key of {name}")));
        }
    }

    for (place, bytes) in record.iter().chain(&stored) {
        let found = secrets.found_in(bytes);
        assert!(found.is_empty(), "{place} has {found:?}");
    }
    // What comes with a request says nothing about who sends it.
    for request in tap::received(folder.path(), "delivery") {
        for (name, value) in request.headers() {
            let known = match name {
                "te" => value == "trailers",
                "content-type" => value == "application/grpc",
                "user-agent" => value.starts_with("tonic/"),
                "content-length" => true,
                _ => false,
            };
            assert!(known, "{name}: {value}");
        }
    }
}

/// The names of the keys that issue a domain's tokens (RFC 9578, section 6.1).
fn issuer_keys(url: &ServerUrl) -> Vec<Vec<u8>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let document = runtime.block_on(Grpc::new().well_known(url)).unwrap();
    let keys = document.token_keys.iter();
    let keys: Vec<_> = keys
        .map(|key| Sha256::digest(&key.token_key).to_vec())
        .collect();
    assert!(!keys.is_empty());
    keys
}

/// Names that are long enough to be looked for.
fn names(count: usize) -> Vec<String> {
    const FIRST: [&str; 5] = ["ingeborg", "thorvald", "sigridur", "ragnhild", "halldora"];
    let name = |number| format!("{}-{number:03}", FIRST[number % FIRST.len()]);
    (0..count).map(name).collect()
}

#[test]
fn after_a_day_of_use_nothing_links_a_mailbox_with_a_log() {
    let count = scale(6, 20);
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("server");
    let said = folder.path().join("server.log");
    let mut command = tap::on(folkmoot(), folder.path());
    command.stderr(fs::File::create(&said).unwrap());
    let server = Server::started_with(command, &data, "127.0.0.1:0", &["--domain", DOMAIN]);
    let names = names(count);
    let people: Vec<_> = names
        .iter()
        .map(|name| Person::registered(folder.path(), name, &server))
        .collect();
    let mut secrets = Secrets::default();
    secrets.add("the domain", DOMAIN.as_bytes());
    let url = server.url.parse().unwrap();
    for name in &names {
        secrets.add_identity(name, &look_up(&url, name));
    }
    let learn = |secrets: &mut Secrets| {
        for (person, name) in people.iter().zip(&names) {
            secrets.add_keys(person, name);
            secrets.add_leaves(person);
        }
    };
    learn(&mut secrets);
    let sync = || people.iter().for_each(|person| drop(person.ok(&["sync"])));

    // In the morning groups come about; each of four, and each person in two of them.
    let groups: Vec<(String, Vec<usize>)> = (0..count)
        .step_by(2)
        .map(|first| {
            let members = (first..first + 4).map(|member| member % count).collect();
            (format!("the circle of {first:03}"), members)
        })
        .collect();
    for (title, members) in &groups {
        secrets.add("a title", title.as_bytes());
        let with = { members[1..].iter() }.flat_map(|member| ["--with", &names[*member]]);
        let arguments: Vec<_> = ["new", title].into_iter().chain(with).collect();
        people[members[0]].ok(&arguments);
    }
    sync();
    learn(&mut secrets);
    // They talk.
    for (number, (title, members)) in groups.iter().enumerate() {
        for member in &members[..3] {
            let text = format!("word number {number} of {member} to everybody here");
            secrets.add("a message", text.as_bytes());
            people[*member].ok(&["send", title, &text]);
        }
    }
    sync();
    // Groups change: keys are renewed, somebody is removed, added, leaves.
    for (number, (title, members)) in groups.iter().enumerate() {
        let [first, second, third, fourth] = members[..] else {
            unreachable!()
        };
        match number % 3 {
            0 => drop(people[second].ok(&["update", title])),
            1 => {
                people[first].ok(&["remove", title, &names[third]]);
                people[second].ok(&["sync"]);
                people[second].ok(&["add", title, &names[third]]);
            }
            _ => drop(people[fourth].ok(&["leave", title])),
        }
    }
    learn(&mut secrets);
    sync();
    for (title, members) in &groups {
        let text = "that was a long day, good night to all";
        secrets.add("a message", text.as_bytes());
        people[members[0]].ok(&["send", title, text]);
    }
    sync();
    sync();
    learn(&mut secrets);
    let history = people[1].ok(&["read", &groups[0].0]);
    assert!(texts(&history).len() >= 4, "{history}");
    // A token says which key issued it: the same for all accounts of the domain (SECURITY.md, "Who pays").
    let everybodys = issuer_keys(&url);
    server.kill();

    let received = tap::received(folder.path(), "delivery");
    let mut pieces = heard(folder.path(), "delivery");
    pieces.extend(kept(&data, "delivery"));
    pieces.push(("the process's log".to_owned(), fs::read(&said).unwrap()));
    let bytes: usize = pieces.iter().map(|(_, bytes)| bytes.len()).sum();
    for (place, bytes) in &pieces {
        let found = secrets.found_in(bytes);
        assert!(found.is_empty(), "{place} has {found:?}");
    }
    let requests = received.iter().map(|request| {
        (
            request.connection(),
            request.path(),
            request.body.as_slice(),
        )
    });
    let found = links(requests, &everybodys);
    assert!(found.is_empty(), "{found:#?}");
    println!(
        "{count} people, {} requests, {bytes} bytes in {} places: nothing",
        received.len(),
        pieces.len()
    );
}
