//! What a copied database tells: sizes and counts. And how a new key takes over.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use folkmoot_delivery_service::store::{
    AtRestKeys, Change, Partition, Put, Store, StoreError, Table,
};
use folkmoot_delivery_service::{MemoryStore, SqliteStore};
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::delivery::{DropRequest, TakeResponse};
use folkmoot_protocol::ids::{PackageId, PickupAddress};

use crate::shelves::{package, stock, take_request};
use crate::world::{DAY, World, at_rest_keys, sqlite};

/// What must not be found, with a word on what it is.
type Secrets = BTreeMap<&'static str, Vec<u8>>;

/// Somebody opens a log, writes, adds a member, stocks a shelf, takes from it, drops a letter.
/// Everything that is stored of that.
fn scripted_use<S: Store>(world: &mut World<S>) -> Secrets {
    let mut secrets = Secrets::new();
    let mut group = world.group();
    secrets.insert(
        "the time of a log's opening",
        world.now.to_be_bytes().into(),
    );
    world.now += 12_345_678;
    let said = world.bytes();
    let head = world.message(&mut group, &said);
    secrets.insert("a message's ciphertext", said.into());
    secrets.insert("the time of an entry", world.now.to_be_bytes().into());
    secrets.insert("a chain hash", head.chain.0.into());
    secrets.insert("a log's id", group.log.0.into());
    secrets.insert("a branch", group.branch.0.into());
    secrets.insert("a fence key", group.fences[0].public().0.into());

    world.now += 1_234_567;
    let (address, shared, own) = (world.bytes(), world.bytes(), world.bytes());
    let next = world.key();
    let joiners = [(PickupAddress(address), own.to_vec())];
    let (append, request) = group.commit_with_welcome(&next.public(), &shared, &joiners);
    let head = world.append(request).unwrap();
    secrets.insert("the next fence key", next.public().0.into());
    secrets.insert("a commit's id", append.id().0.into());
    secrets.insert("a pickup address", address.into());
    secrets.insert("the shared part of a Welcome", shared.into());
    secrets.insert("a joiner's part of a Welcome", own.into());
    group.follow(&append, next, &head);
    let proposed = world.bytes();
    world.proposal(&mut group, &proposed);
    secrets.insert("a proposal", proposed.into());

    let owner = world.owner();
    secrets.insert("a mailbox's id", owner.mailbox().0.into());
    secrets.insert("its owner's key", owner.key.public().0.into());
    let sealed = [world.bytes(), world.bytes()];
    let mut packages: Vec<_> = sealed
        .iter()
        .map(|one| package(world, one, false))
        .collect();
    packages[1].expires += 77_777;
    secrets.insert("a sealed KeyPackage", sealed[1].into());
    secrets.insert("a KeyPackage's id", PackageId::of(&sealed[1]).0.into());
    secrets.insert("when it expires", packages[1].expires.to_be_bytes().into());
    stock(world, &owner, packages).unwrap();
    let take = take_request(world.bytes(), &[owner.mailbox()]);
    let Ok(Answer::Take(TakeResponse { taken })) = world.ask(Call::Take(take)) else {
        panic!("there is one to take");
    };
    let envelope = world.bytes();
    let letter = DropRequest {
        mailbox: owner.mailbox().into(),
        ticket: taken[0].ticket.clone(),
        envelope: envelope.into(),
    };
    assert!(world.ask(Call::Drop(letter)).is_ok());
    secrets.insert("a letter", envelope.into());
    secrets
}

/// What of it is in these bytes, as it is, backwards (as numbers may be), or in hexadecimal.
fn found(secrets: &Secrets, bytes: &[u8]) -> Vec<&'static str> {
    let is_there = |form: &[u8]| bytes.windows(form.len()).any(|window| window == form);
    let found = secrets.iter().filter(|(_, secret)| {
        let backwards: Vec<u8> = secret.iter().rev().copied().collect();
        let digits =
            |secret: &[u8]| -> String { secret.iter().map(|byte| format!("{byte:02x}")).collect() };
        // All of a time, whose last bytes change most; the first half of what is long, which may
        // go over a page's end.
        let piece = |secret: &[u8]| secret[..secret.len().min(16)].to_vec();
        is_there(&piece(secret))
            || is_there(&backwards)
            || is_there(digits(&piece(secret)).as_bytes())
    });
    found.map(|(what, _)| *what).collect()
}

/// The database and what SQLite puts beside it, as a thief copies it.
fn copied(path: &Path) -> Vec<u8> {
    let beside = |end: &str| path.with_file_name(format!("delivery.sqlite{end}"));
    let mut bytes = Vec::new();
    for end in ["", "-wal", "-shm"] {
        let file = beside(end);
        let copy = path.with_file_name("copy");
        if file.exists() {
            fs::copy(&file, &copy).unwrap();
            bytes.extend(fs::read(&copy).unwrap());
        }
    }
    assert!(bytes.len() > 10_000, "there is a database");
    bytes
}

#[test]
fn a_copied_database_tells_sizes_and_counts() {
    // The search finds all of it where it is in the clear.
    let clear = MemoryStore::new();
    let mut world = World::new(clear.clone());
    let secrets = scripted_use(&mut world);
    let all: Vec<_> = secrets.keys().copied().collect();
    assert_eq!(found(&secrets, &clear.to_bytes()), all);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("delivery.sqlite");
    let mut world = World::new(sqlite(&path));
    let secrets = scripted_use(&mut world);
    assert_eq!(found(&secrets, &copied(&path)), Vec::<&str>::new());
    // Nor after it was closed, swept and opened with another key.
    world.now += 40 * DAY;
    assert!(world.service.sweep(world.now).unwrap() > 0);
    drop(world);
    let keys = at_rest_keys(1).with_first(&at_rest_keys(2));
    let store = SqliteStore::open(&path, &keys).unwrap();
    while store.reencrypt(3).unwrap() > 0 {}
    assert_eq!(found(&secrets, &copied(&path)), Vec::<&str>::new());
    // Whoever has the key sees all that is left.
    let mut seen = Vec::new();
    let mut see = |_, partition: Partition, key: &[u8], value: &[u8]| {
        seen.extend([&partition.0, key, value].concat());
    };
    store.visit_all(&mut see).unwrap();
    assert!(found(&secrets, &seen).contains(&"a log's id"));
}

#[test]
fn a_database_opens_with_its_keys_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("delivery.sqlite");
    let [right, wrong] = [1, 2].map(at_rest_keys);
    let id = right.ids().next().unwrap();
    drop(SqliteStore::open(&path, &right).unwrap());
    let refused = SqliteStore::open(&path, &wrong).err();
    assert_eq!(refused, Some(StoreError::KeyMissing(id)));
    drop(SqliteStore::open(&path, &wrong.with_first(&right)).unwrap());

    let text = right.to_text();
    assert_eq!(text.len(), 65);
    assert!(AtRestKeys::read(&text).unwrap().ids().eq([id]));
    let commented = format!(
        "# ours\n\n  {}\n{}",
        text.trim_end(),
        wrong.to_text().as_str()
    );
    let read = AtRestKeys::read(&commented).unwrap();
    assert!(read.ids().eq(right.ids().chain(wrong.ids())));
    for bad in [
        "",
        "# none",
        "00",
        &text[1..],
        &format!("{}x\n", &text[..63]),
    ] {
        assert!(AtRestKeys::read(bad).is_err(), "{bad}");
    }
    assert!(!format!("{right:?}").contains(&text[..8]));
}

#[test]
fn a_new_key_takes_over_while_the_service_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("delivery.sqlite");
    let [old, new] = [1, 2].map(at_rest_keys);
    let both = old.with_first(&new);
    let mut world = World::new(std::sync::Arc::new(SqliteStore::open(&path, &old).unwrap()));
    let mut group = world.group();
    for number in 0..40u8 {
        world.message(&mut group, &[number]);
    }
    scripted_use(&mut world);

    // The new key alone does not do yet, and nothing changes by asking for it.
    let missing = world.service.rekey(&new);
    assert_eq!(
        missing,
        Err(StoreError::KeyMissing(old.ids().next().unwrap()))
    );
    world.message(&mut group, b"under the old one");
    world.service.rekey(&both).unwrap();
    world.message(&mut group, b"under the new one");

    // Step by step, each time after a crash; what was there is read, and what comes is written.
    drop(world);
    let records = {
        let mut records = 0;
        let store = SqliteStore::open(&path, &both).unwrap();
        store.visit_all(&mut |_, _, _, _| records += 1).unwrap();
        records
    };
    let (mut looked, mut steps) = (0, 0);
    loop {
        let store = SqliteStore::open(&path, &both).unwrap();
        match store.reencrypt(7).unwrap() {
            0 => break,
            more => looked += more,
        }
        steps += 1;
        assert!(
            SqliteStore::open(&path, &old).is_err(),
            "the new one has written"
        );
        if looked + 7 < records {
            assert!(
                SqliteStore::open(&path, &new).is_err(),
                "the old one is needed"
            );
        }
        let mut world = World::new(store);
        world.rng = rand_chacha::rand_core::SeedableRng::from_seed([steps as u8; 32]);
        assert_eq!(
            world.read(&group, 0, 0).sequences.len() as u64,
            group.sequence
        );
        world.message(&mut group, &[0xff, steps as u8]);
    }
    // It went on where it was: what was written meanwhile is at most three records each time.
    assert!(
        (records..=records + 3 * steps).contains(&looked),
        "{looked} of {records}"
    );
    assert!(steps > 5);
    let mut world = World::new(SqliteStore::open(&path, &new).unwrap());
    assert_eq!(
        world.read(&group, 0, 0).sequences.len() as u64,
        group.sequence
    );
    assert!(
        SqliteStore::open(&path, &old).is_err(),
        "nothing is left under it"
    );
}

#[test]
fn what_is_not_ours_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("delivery.sqlite");
    let store = sqlite(&path);
    let envelope = |number: u64| Put {
        table: Table::Envelopes,
        key: number.to_be_bytes().to_vec(),
        value: vec![7; 40],
        expires: None,
    };
    let mailbox = Partition([1; 32]);
    let change = |puts| Change {
        partition: mailbox,
        requires: Vec::new(),
        deletes: Vec::new(),
        puts,
    };
    let put = change(vec![envelope(1), envelope(2), envelope(3)]);
    assert_eq!(store.write(|transaction| transaction.apply(&put)), Ok(true));
    drop(store);
    let database = rusqlite::Connection::open(&path).unwrap();
    // One takes the place of another, one loses a bit; the third is as it was.
    database
        .execute_batch(
            "UPDATE envelopes SET value = (SELECT value FROM envelopes ORDER BY key LIMIT 1)
                 WHERE key = (SELECT key FROM envelopes ORDER BY key LIMIT 1 OFFSET 1);
             UPDATE envelopes SET value = CAST(x'00' || substr(value, 2) AS BLOB)
                 WHERE key = (SELECT key FROM envelopes ORDER BY key LIMIT 1)",
        )
        .unwrap();
    drop(database);
    let store = sqlite(&path);
    let get =
        |number: u64| store.read(|view| view.get(Table::Envelopes, mailbox, &number.to_be_bytes()));
    assert_eq!(get(1), Err(StoreError::Corrupt(Table::Envelopes)));
    assert_eq!(get(2), Err(StoreError::Corrupt(Table::Envelopes)));
    assert_eq!(get(3), Ok(Some(vec![7; 40])));

    // And a key that the table cannot have is this program's mistake.
    let mut wrong = envelope(4);
    wrong.key.push(0);
    let refused = store.write(|transaction| transaction.apply(&change(vec![wrong])));
    assert_eq!(refused, Err(StoreError::Key(Table::Envelopes)));
}
