//! What the Delivery Service hears and keeps while people talk through it: no name, no credential, no
//! key of anybody's, no reference of a KeyPackage, no title, no message.

use folkmoot_client::logic::Intent;
use folkmoot_client::store::{Store, StoreError, Table};
use folkmoot_mls::codec::Encode;
use folkmoot_protocol::call::Call;
use folkmoot_protocol::directory::DirectoryEntry;
use folkmoot_simulation::{DOMAIN, Sim, add, new, remove, send};

const PEOPLE: [&str; 3] = ["alice-liddell", "bob-roberts", "charlie-darwin"];

/// What must stay unknown, with a word on what it is.
type Secret = (String, Vec<u8>);

/// Who somebody is and where it is reached, piece by piece.
fn identity(name: &str, entry: &DirectoryEntry) -> Vec<Secret> {
    let device = &entry.devices[0];
    [
        ("name", name.as_bytes().to_vec()),
        ("identity key", entry.binding.statement.identity_key.into()),
        ("binding", entry.binding.signature.to_vec()),
        ("device key", device.certificate.signature_key.into()),
        ("certificate", device.certificate.signature.to_vec()),
        ("mailbox key", device.mailbox_key.key.to_vec()),
        ("shelf key", device.shelf_key.key.to_vec()),
    ]
    .map(|(what, bytes)| (format!("{what} of {name}"), bytes))
    .into()
}

/// The references of all KeyPackages that a device has now, and their public parts.
fn packages(sim: &mut Sim, who: usize) -> Vec<Secret> {
    let rows = sim
        .person(who)
        .store
        .transaction::<_, StoreError>(|tx| tx.scan(Table::Packages, &[], None, 1000))
        .unwrap();
    assert!(!rows.is_empty());
    rows.into_iter()
        .map(|(reference, _)| {
            (
                format!("a KeyPackage reference of {}", PEOPLE[who]),
                reference,
            )
        })
        .collect()
}

fn find(haystack: &[u8], secret: &[u8]) -> bool {
    assert!(secret.len() >= 8, "too short to be looked for");
    let (first, rest) = secret.split_first().unwrap();
    let mut from = 0;
    while let Some(at) = haystack[from..].iter().position(|byte| byte == first) {
        from += at + 1;
        if haystack[from..].starts_with(rest) {
            return true;
        }
    }
    false
}

#[test]
fn the_delivery_service_learns_nothing_that_it_need_not_know() {
    let mut sim = Sim::empty(23);
    sim.listen();
    for name in PEOPLE {
        let who = sim.join(name);
        let intent = sim.registration(name);
        sim.ask(who, intent).unwrap();
    }
    let mut secrets: Vec<Secret> = vec![("the domain".into(), DOMAIN.into())];
    for (who, name) in PEOPLE.iter().enumerate() {
        let entry = sim.look_up(name);
        secrets.extend(identity(name, &entry));
        secrets.extend(packages(&mut sim, who));
    }

    let title = "a secret meeting";
    secrets.push(("the title".into(), title.into()));
    let mut texts = Vec::new();
    let mut say = |sim: &mut Sim, who: usize, text: &str| {
        let log = sim.conversation(who, title).log;
        sim.ask(who, send(log, text)).unwrap();
        sim.sync_all();
        texts.push(text.to_owned());
    };
    sim.ask(0, new(title, &[PEOPLE[1]])).unwrap();
    sim.sync_all();
    let log = sim.conversation(0, title).log;
    say(&mut sim, 0, "the password is swordfish");
    say(&mut sim, 1, "nobody else may hear of it");
    sim.ask(1, add(log, &[PEOPLE[2]])).unwrap();
    sim.sync_all();
    say(&mut sim, 2, &"a long story of many words; ".repeat(4000));
    sim.ask(2, Intent::Update { log }).unwrap();
    sim.sync_all();
    sim.ask(0, remove(log, &[PEOPLE[2]])).unwrap();
    sim.sync_all();
    say(&mut sim, 1, "charlie is gone from here");
    for (who, _) in PEOPLE.iter().enumerate() {
        secrets.extend(packages(&mut sim, who));
        assert!(!sim.said(who, title).is_empty());
    }
    secrets.extend(
        texts
            .into_iter()
            .map(|text| ("a message".into(), text.into())),
    );

    let (heard, kept) = (sim.heard(), sim.kept());
    // All kinds of calls were made, and the scan finds what is there: the group's id.
    for path in [
        "Logs/Open",
        "Logs/Append",
        "Logs/Read",
        "Logs/PickUp",
        "Mailboxes/Create",
        "Mailboxes/DropAll",
        "Mailboxes/Collect",
        "Shelves/Stock",
        "Shelves/Take",
    ] {
        let made = heard.iter().any(|call| call.path().ends_with(path));
        assert!(made, "{path}");
    }
    let heard: Vec<u8> = heard.iter().flat_map(Call::encode).collect();
    for (where_, bytes) in [("heard", &heard), ("kept", &kept)] {
        assert!(find(bytes, &log.to_bytes()), "the scan is blind");
        for (what, secret) in &secrets {
            assert!(!find(bytes, secret), "the service has {where_} {what}");
        }
    }
}
