//! What every store of accounts must do.

use std::path::Path;

use folkmoot_authentication_service::store::{
    MemoryStore, Place, SqliteStore, Store, StoreError, Stored,
};
use folkmoot_credential::Name;

use crate::people::Deadline;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn stored(revision: u64, value: &[u8]) -> Option<Stored> {
    Some(Stored {
        revision,
        value: value.to_vec(),
    })
}

fn conforms(store: &impl Store) {
    let (alice, bob) = (name("alice"), name("bob"));
    assert_eq!(store.load(&alice), Ok(None));

    // The first save makes the account; a second "first" does nothing.
    assert_eq!(store.save(&alice, None, vec![1]), Ok(true));
    assert_eq!(store.save(&alice, None, vec![2]), Ok(false));
    assert_eq!(store.load(&alice), Ok(stored(1, &[1])));
    assert_eq!(store.load(&bob), Ok(None));

    // Only who has seen the latest revision saves the next.
    assert_eq!(store.save(&alice, Some(1), vec![3]), Ok(true));
    assert_eq!(store.load(&alice), Ok(stored(2, &[3])));
    for stale in [0, 1, 3, u64::MAX] {
        assert_eq!(store.save(&alice, Some(stale), vec![4]), Ok(false));
    }
    assert_eq!(store.load(&alice), Ok(stored(2, &[3])));

    // There is nothing to follow where there is nothing.
    assert_eq!(store.save(&bob, Some(1), vec![5]), Ok(false));
    assert_eq!(store.load(&bob), Ok(None));

    // What else there is of a name, or of nobody, is elsewhere.
    let others = [
        (Place::Allowance(&alice), 8),
        (Place::Skeleton("alice"), 7),
        (Place::Issuers, 9),
        (Place::VrfKey, 10),
    ];
    for (place, value) in others {
        assert_eq!(store.load(place), Ok(None));
        assert_eq!(store.save(place, None, vec![value]), Ok(true));
        assert_eq!(store.load(place), Ok(stored(1, &[value])));
    }
    assert_eq!(store.load(&alice), Ok(stored(2, &[3])));

    let large = vec![7; 100_000];
    assert_eq!(store.save(&bob, None, large.clone()), Ok(true));
    assert_eq!(store.load(&bob), Ok(stored(1, &large)));
}

fn one_racer_wins(store: &impl Store) {
    let carol = name("carol");
    assert_eq!(store.save(&carol, None, vec![]), Ok(true));
    let _deadline = Deadline::start();
    let wins = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..8u8)
            .map(|n| {
                let carol = &carol;
                scope.spawn(move || store.save(carol, Some(1), vec![n]).unwrap())
            })
            .collect();
        let outcomes = racers.into_iter().map(|racer| racer.join().unwrap());
        outcomes.filter(|won| *won).count()
    });
    assert_eq!(wins, 1);
}

#[test]
fn memory_conforms() {
    let store = MemoryStore::default();
    conforms(&store);
    one_racer_wins(&store);
    // Clones share what they hold, as a restart does.
    assert_eq!(store.clone().load(&name("alice")), Ok(stored(2, &[3])));
}

#[test]
fn sqlite_conforms_and_remembers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("authentication.sqlite");
    let store = SqliteStore::open(&path).unwrap();
    conforms(&store);
    one_racer_wins(&store);
    drop(store);
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(store.load(&name("alice")), Ok(stored(2, &[3])));
}

#[test]
fn a_file_of_the_first_schema_is_brought_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("authentication.sqlite");
    execute(
        &path,
        "CREATE TABLE accounts (
             name TEXT PRIMARY KEY, revision INTEGER NOT NULL, value BLOB NOT NULL
         ) STRICT, WITHOUT ROWID;
         INSERT INTO accounts VALUES ('alice', 2, x'03'), ('pa1', 1, x'04');
         PRAGMA application_id = 0x666d6173;
         PRAGMA user_version = 1;",
    );
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(store.load(&name("alice")), Ok(stored(2, &[3])));
    let lookalikes = name("pal").skeleton();
    let claim = store.load(Place::Skeleton(&lookalikes));
    assert_eq!(claim, Ok(stored(1, b"pa1")));
    assert_eq!(store.save(Place::Issuers, None, vec![4]), Ok(true));
    drop(store);
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(store.load(Place::Issuers), Ok(stored(1, &[4])));
}

fn execute(path: &Path, sql: &str) {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.execute_batch(sql).unwrap();
}

#[test]
fn other_files_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("newer.sqlite");
    drop(SqliteStore::open(&path).unwrap());
    execute(&path, "PRAGMA user_version = 9");
    assert_eq!(
        SqliteStore::open(&path).unwrap_err(),
        StoreError::Schema { found: 9, known: 4 }
    );

    let path = folder.path().join("foreign.sqlite");
    execute(&path, "CREATE TABLE accounts (x)");
    assert_eq!(SqliteStore::open(&path).unwrap_err(), StoreError::Foreign);

    let path = folder.path().join("text");
    std::fs::write(&path, "no database".repeat(100)).unwrap();
    assert!(matches!(
        SqliteStore::open(&path),
        Err(StoreError::Sqlite(_))
    ));
    assert!(matches!(
        SqliteStore::open(folder.path()),
        Err(StoreError::Sqlite(_))
    ));
}
