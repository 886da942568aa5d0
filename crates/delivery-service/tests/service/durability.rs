//! What was receipted is there after a crash; what was not may be sent again.

use folkmoot_delivery_service::store::{Crash, Store, StoreError};
use folkmoot_delivery_service::{DeliveryService, MemoryStore, SqliteStore};
use folkmoot_protocol::Refusal;
use folkmoot_protocol::ids::PickupAddress;

use crate::shelves::{package, stock, take};
use crate::world::{World, at_rest_keys, service_key, sqlite};

/// The service, started again on the same disk.
fn restart<S: Store>(world: World<S>, store: S) -> World<S> {
    let World {
        now,
        mut rng,
        service,
    } = world;
    drop(service);
    World {
        service: DeliveryService::new(store, service_key(), &mut rng),
        now,
        rng,
    }
}

#[test]
fn a_file_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("delivery.sqlite");
    let mut world = World::new(sqlite(&path));
    let mut group = world.group();
    let message = group.sign(&group.append(1, b"hello"));
    let receipt = world.append(message.clone()).unwrap();
    group.sequence = 1;
    world.commit(&mut group, true);
    let owner = world.owner();
    let packages = vec![
        package(&world, b"one", false),
        package(&world, b"two", true),
    ];
    stock(&mut world, &owner, packages).unwrap();
    let first = take(&mut world, &owner);
    let old_nonce = world.nonce();

    let mut world = restart(world, sqlite(&path));
    world.now += 10_000;
    assert_eq!(world.append(message), Ok(receipt));
    assert_eq!(world.read(&group, 0, 0).sequences, [1, 2]);
    world.message(&mut group, b"go on");
    let second = take(&mut world, &owner);
    assert!(!first.package.unwrap().last_resort);
    assert!(second.package.unwrap().last_resort);
    // A ticket from before is still good; a nonce is not.
    let drop = folkmoot_protocol::delivery::DropRequest {
        mailbox: first.mailbox,
        ticket: first.ticket,
        envelope: b"invitation".to_vec(),
    };
    assert!(world.ask(folkmoot_protocol::call::Call::Drop(drop)).is_ok());
    let read = folkmoot_protocol::delivery::ReadRequest {
        logs: vec![group.read(1, 0, old_nonce)],
        follow: false,
    };
    let refused = world.ask(folkmoot_protocol::call::Call::Read(read));
    assert_eq!(refused, Err(Refusal::StaleNonce));
}

#[test]
fn another_programs_file_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.sqlite");
    let other = rusqlite::Connection::open(&path).unwrap();
    other.pragma_update(None, "user_version", 7).unwrap();
    drop(other);
    let refused = SqliteStore::open(&path, &at_rest_keys(1)).err();
    assert_eq!(refused, Some(StoreError::Schema { found: 7, known: 2 }));
    let unmarked = folder.path().join("unmarked.sqlite");
    let other = rusqlite::Connection::open(&unmarked).unwrap();
    other.execute_batch("CREATE TABLE theirs (a)").unwrap();
    drop(other);
    let before = std::fs::read(&unmarked).unwrap();
    let refused = SqliteStore::open(&unmarked, &at_rest_keys(1)).err();
    assert_eq!(refused, Some(StoreError::Schema { found: 0, known: 2 }));
    assert_eq!(std::fs::read(&unmarked).unwrap(), before);
    std::fs::write(&path, [0x55; 8192]).unwrap();
    assert!(matches!(
        SqliteStore::open(&path, &at_rest_keys(1)).err(),
        Some(StoreError::Sqlite(_))
    ));
}

/// A world whose failures are expected.
fn quiet(store: &MemoryStore) -> World<MemoryStore> {
    let mut world = World::new(store.clone());
    world.service = world.service.on_failure(|error| {
        assert_eq!(*error, StoreError::Down);
    });
    world
}

#[test]
fn what_was_not_synced_is_forgotten_and_sent_again() {
    let store = MemoryStore::new();
    let mut world = quiet(&store);
    let mut group = world.group();
    let address = PickupAddress(world.bytes());
    let next = world.key();
    let joiners = [(address, b"own".to_vec())];
    let (append, request) = group.commit_with_welcome(&next.public(), b"shared", &joiners);

    store.crash_at_next_write(Crash::BeforeSync);
    assert_eq!(world.append(request.clone()), Err(Refusal::Internal));
    // The service is down until it is started again.
    assert_eq!(world.append(request.clone()), Err(Refusal::Internal));
    store.restart();
    let mut world = restart(world, store);
    // Neither commit nor Welcome is there; the same bytes go through.
    let read = world.read(&group, 0, 0);
    assert_eq!(read.head.unwrap().sequence, 0);
    let pick_up =
        folkmoot_protocol::call::Call::PickUp(folkmoot_protocol::delivery::PickUpRequest {
            log: group.log.into(),
            address: address.into(),
        });
    assert_eq!(world.ask(pick_up.clone()), Err(Refusal::NotFound));
    let head = world.append(request).unwrap();
    assert_eq!(head.sequence, 1);
    group.follow(&append, next, &head);
    assert!(world.ask(pick_up).is_ok());
    world.message(&mut group, b"go on");
}

#[test]
fn a_lost_answer_is_settled_by_the_receipt() {
    let store = MemoryStore::new();
    let mut world = quiet(&store);
    let mut group = world.group();
    let next = world.key();
    let append = group.commit(&next.public(), true, 0);
    store.crash_at_next_write(Crash::AfterSync);
    let lost = world.append(group.sign(&append));
    assert_eq!(lost, Err(Refusal::Internal));
    store.restart();
    let then = world.now;
    let mut world = restart(world, store);
    world.now += 5_000;
    let head = world.append(group.sign(&append)).unwrap();
    assert_eq!((head.sequence, head.entry_time), (1, then));
    group.follow(&append, next, &head);
    assert_eq!(world.message(&mut group, b"go on").sequence, 2);
}

#[test]
fn a_crash_while_stocking_loses_no_package() {
    for crash in [Crash::BeforeSync, Crash::AfterSync] {
        let store = MemoryStore::new();
        let mut world = quiet(&store);
        let owner = world.owner();
        let one = package(&world, b"one", false);
        // Between the claim and the shelf.
        store.crash_at_next_write(crash);
        let lost = stock(&mut world, &owner, vec![one.clone()]);
        assert_eq!(lost, Err(Refusal::Internal));
        store.restart();
        let mut world = restart(world, store);
        stock(&mut world, &owner, vec![one.clone()]).unwrap();
        assert_eq!(take(&mut world, &owner).package, Some(one));
        assert_eq!(take(&mut world, &owner).package, None);
    }
}
