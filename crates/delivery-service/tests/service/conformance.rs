//! What every store must do, whatever it is made of. A new backend adds itself at the end.

use std::ops::ControlFlow;

use folkmoot_delivery_service::store::{
    Change, Partition, Precondition, Put, Store, StoreError, Table, View,
};
use folkmoot_delivery_service::{MemoryStore, SqliteStore};

const ONE: Partition = Partition([1; 32]);
const TWO: Partition = Partition([2; 32]);

macro_rules! conformance {
    ($($scenario:ident;)*) => {
        mod memory {
            $(#[test]
            fn $scenario() {
                super::$scenario(&super::MemoryStore::new());
            })*
        }
        mod sqlite {
            $(#[test]
            fn $scenario() {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("store.sqlite");
                super::$scenario(&super::SqliteStore::open(&path).unwrap());
            })*
        }
    };
}

conformance! {
    what_is_put_is_there;
    tables_and_partitions_are_apart;
    scans_go_in_the_order_of_keys;
    scans_see_what_the_transaction_changed;
    a_failed_precondition_changes_nothing;
    later_changes_see_earlier_ones;
    a_failed_transaction_changes_nothing;
    deletes_come_before_puts;
    values_may_be_large_or_empty;
    sweeps_delete_what_is_over;
    readers_do_not_see_unfinished_work;
}

fn put(table: Table, key: &[u8], value: &[u8]) -> Put {
    Put {
        table,
        key: key.to_vec(),
        value: value.to_vec(),
        expires: None,
    }
}

fn change(partition: Partition, puts: Vec<Put>) -> Change {
    Change {
        partition,
        requires: Vec::new(),
        deletes: Vec::new(),
        puts,
    }
}

fn require(table: Table, key: &[u8], value: Option<&[u8]>) -> Precondition {
    Precondition {
        table,
        key: key.to_vec(),
        value: value.map(<[u8]>::to_vec),
    }
}

fn write(store: &impl Store, change: &Change) -> bool {
    store
        .write(|transaction| transaction.apply(change))
        .unwrap()
}

fn get(store: &impl Store, table: Table, partition: Partition, key: &[u8]) -> Option<Vec<u8>> {
    store.read(|view| view.get(table, partition, key)).unwrap()
}

fn keys(view: &dyn View, from: &[u8], through: &[u8], limit: usize) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    view.scan(Table::Entries, ONE, from, through, &mut |key, value| {
        assert_eq!(value, key);
        keys.push(key.to_vec());
        if keys.len() < limit {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })
    .unwrap();
    keys
}

fn what_is_put_is_there(store: &impl Store) {
    for &table in Table::ALL {
        assert_eq!(get(store, table, ONE, b"key"), None);
        assert!(write(
            store,
            &change(ONE, vec![put(table, b"key", b"value")])
        ));
        assert_eq!(get(store, table, ONE, b"key").unwrap(), b"value");
        assert!(write(
            store,
            &change(ONE, vec![put(table, b"key", b"other")])
        ));
        assert_eq!(get(store, table, ONE, b"key").unwrap(), b"other");
        let mut removal = change(ONE, Vec::new());
        removal.deletes = vec![(table, b"key".to_vec()), (table, b"none".to_vec())];
        assert!(write(store, &removal));
        assert_eq!(get(store, table, ONE, b"key"), None);
    }
}

fn tables_and_partitions_are_apart(store: &impl Store) {
    write(store, &change(ONE, vec![put(Table::Logs, b"", b"one")]));
    write(store, &change(TWO, vec![put(Table::Logs, b"", b"two")]));
    assert_eq!(get(store, Table::Logs, ONE, b"").unwrap(), b"one");
    assert_eq!(get(store, Table::Logs, TWO, b"").unwrap(), b"two");
    assert_eq!(get(store, Table::Branches, ONE, b""), None);
}

fn scans_go_in_the_order_of_keys(store: &impl Store) {
    let all: [&[u8]; 7] = [b"", b"\0", b"\0\x01", b"a", b"ab", b"b", b"\xff\xff"];
    let mut puts: Vec<_> = all
        .iter()
        .map(|key| put(Table::Entries, key, key))
        .collect();
    puts.reverse();
    write(store, &change(ONE, puts));
    write(store, &change(TWO, vec![put(Table::Entries, b"aa", b"")]));
    let scan = |from: &[u8], through: &[u8], limit| {
        store
            .read(|view| Ok(keys(view, from, through, limit)))
            .unwrap()
    };
    assert_eq!(scan(b"", b"\xff\xff", 99), all);
    assert_eq!(scan(b"\0\x01", b"ab", 99), all[2..5]);
    assert_eq!(scan(b"aa", b"ac", 99), all[4..5]);
    assert_eq!(scan(b"", b"b", 3), all[..3]);
    assert_eq!(scan(b"c", b"d", 99), all[..0]);
    assert_eq!(scan(b"b", b"a", 99), all[..0]);
}

fn scans_see_what_the_transaction_changed(store: &impl Store) {
    let entries = |keys: &[&[u8]]| {
        let puts = keys.iter().map(|key| put(Table::Entries, key, key));
        change(ONE, puts.collect())
    };
    write(store, &entries(&[b"b", b"d", b"f"]));
    store
        .write(|transaction| {
            let mut next = entries(&[b"a", b"d", b"e", b"g"]);
            next.deletes = vec![(Table::Entries, b"b".to_vec())];
            transaction.apply(&next)?;
            let seen: [&[u8]; 5] = [b"a", b"d", b"e", b"f", b"g"];
            assert_eq!(keys(transaction, b"", b"z", 99), seen);
            assert_eq!(keys(transaction, b"b", b"e", 99), seen[1..3]);
            assert_eq!(keys(transaction, b"b", b"z", 1), seen[1..2]);
            Ok(())
        })
        .unwrap();
}

fn a_failed_precondition_changes_nothing(store: &impl Store) {
    let mut first = change(ONE, vec![put(Table::Logs, b"", b"one")]);
    first.requires = vec![require(Table::Logs, b"", None)];
    assert!(write(store, &first));
    // Absent no longer; not that value; absent elsewhere.
    let mut second = change(ONE, vec![put(Table::Logs, b"", b"two")]);
    second.deletes = vec![(Table::Logs, b"".to_vec())];
    for (key, value) in [
        (&b""[..], None),
        (b"", Some(&b"two"[..])),
        (b"x", Some(b"")),
    ] {
        second.requires = vec![
            require(Table::Logs, b"", Some(b"one")),
            require(Table::Logs, key, value),
        ];
        assert!(!write(store, &second));
        assert_eq!(get(store, Table::Logs, ONE, b"").unwrap(), b"one");
    }
    second.requires.pop();
    assert!(write(store, &second));
    assert_eq!(get(store, Table::Logs, ONE, b"").unwrap(), b"two");
}

fn later_changes_see_earlier_ones(store: &impl Store) {
    let compare_and_set = |from: Option<&[u8]>, to: &[u8]| {
        let mut change = change(ONE, vec![put(Table::Branches, b"", to)]);
        change.requires = vec![require(Table::Branches, b"", from)];
        change
    };
    let won = store
        .write(|transaction| {
            Ok([
                transaction.apply(&compare_and_set(None, b"one"))?,
                transaction.apply(&compare_and_set(None, b"rival"))?,
                transaction.apply(&compare_and_set(Some(b"one"), b"two"))?,
            ])
        })
        .unwrap();
    assert_eq!(won, [true, false, true]);
    assert_eq!(get(store, Table::Branches, ONE, b"").unwrap(), b"two");
}

fn a_failed_transaction_changes_nothing(store: &impl Store) {
    let one = change(ONE, vec![put(Table::Logs, b"", b"one")]);
    let failed: Result<(), _> = store.write(|transaction| {
        assert!(transaction.apply(&one)?);
        Err(StoreError::Uncommitted)
    });
    assert_eq!(failed, Err(StoreError::Uncommitted));
    assert_eq!(get(store, Table::Logs, ONE, b""), None);
    assert!(write(store, &one));
}

fn deletes_come_before_puts(store: &impl Store) {
    let mut both = change(ONE, vec![put(Table::Tickets, b"key", b"new")]);
    both.deletes = vec![(Table::Tickets, b"key".to_vec())];
    write(store, &both);
    assert_eq!(get(store, Table::Tickets, ONE, b"key").unwrap(), b"new");
}

fn values_may_be_large_or_empty(store: &impl Store) {
    let large: Vec<u8> = (0..5_000_000u32).map(|number| number as u8).collect();
    let puts = vec![
        put(Table::Entries, b"large", &large),
        put(Table::Entries, b"empty", b""),
    ];
    write(store, &change(ONE, puts));
    assert_eq!(get(store, Table::Entries, ONE, b"large"), Some(large));
    assert_eq!(get(store, Table::Entries, ONE, b"empty"), Some(Vec::new()));
}

fn sweeps_delete_what_is_over(store: &impl Store) {
    let ticket = |key: u8, expires| Put {
        expires,
        ..put(Table::Tickets, &[key], b"")
    };
    let puts = vec![
        ticket(1, Some(100)),
        ticket(2, Some(101)),
        ticket(3, None),
        ticket(4, Some(99)),
        ticket(5, Some(u64::MAX)),
    ];
    write(store, &change(ONE, puts));
    write(store, &change(TWO, vec![ticket(1, Some(50))]));
    let there = |partition| {
        let there =
            (1..=5u8).filter(|key| get(store, Table::Tickets, partition, &[*key]).is_some());
        there.collect::<Vec<_>>()
    };
    assert_eq!(store.sweep(49, 10).unwrap(), 0);
    assert_eq!(store.sweep(100, 2).unwrap(), 2);
    assert_eq!(store.sweep(100, 2).unwrap(), 1);
    assert_eq!((there(ONE), there(TWO)), (vec![2, 3, 5], vec![]));
    // A record that is put anew has the new time.
    write(store, &change(ONE, vec![ticket(2, None)]));
    assert_eq!(store.sweep(1_000, 10).unwrap(), 0);
    assert_eq!(there(ONE), [2, 3, 5]);
}

fn readers_do_not_see_unfinished_work(store: &impl Store) {
    let (begun, wait_begun) = std::sync::mpsc::channel();
    let (looked, wait_looked) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            store
                .write(|transaction| {
                    transaction.apply(&change(ONE, vec![put(Table::Logs, b"", b"one")]))?;
                    begun.send(()).unwrap();
                    // A store may make readers wait instead: then nobody looks in the meantime.
                    let _ = wait_looked.recv_timeout(std::time::Duration::from_millis(200));
                    Ok(())
                })
                .unwrap();
        });
        wait_begun.recv().unwrap();
        let began = std::time::Instant::now();
        let seen = get(store, Table::Logs, ONE, b"");
        let waited = began.elapsed() > std::time::Duration::from_millis(150);
        assert!(seen.is_none() || waited);
        let _ = looked.send(());
    });
    assert_eq!(get(store, Table::Logs, ONE, b"").unwrap(), b"one");
}
