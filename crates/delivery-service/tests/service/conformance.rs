//! What every store must do, whatever it is made of. A new backend adds itself at the end.

use std::ops::ControlFlow;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use folkmoot_delivery_service::MemoryStore;
use folkmoot_delivery_service::store::{
    Change, KeyPart, Partition, Precondition, Put, Store, StoreError, Table, View,
};

use crate::world::{Deadline, HOUR};

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
                super::$scenario(&$crate::world::sqlite(&path));
            })*
        }
    };
}

conformance! {
    what_is_put_is_there;
    tables_and_partitions_are_apart;
    scans_go_in_the_order_of_keys;
    scans_keep_to_what_agrees;
    scans_see_what_the_transaction_changed;
    a_failed_precondition_changes_nothing;
    later_changes_see_earlier_ones;
    a_failed_transaction_changes_nothing;
    deletes_come_before_puts;
    values_may_be_large_or_empty;
    sweeps_delete_what_is_over;
    what_is_over_longest_goes_first;
    readers_do_not_see_unfinished_work;
    readers_see_one_moment;
    of_many_who_compare_and_set_one_wins;
    of_many_who_claim_one_gets_it;
    sweeps_and_writers_do_not_disturb_each_other;
}

/// A key that the table can have, by number, in the order of the numbers where there is one.
fn key(table: Table, number: u8) -> Vec<u8> {
    let part = |part: &KeyPart| match part {
        KeyPart::Id => vec![number; 32],
        KeyPart::Number => u64::from(number).to_be_bytes().to_vec(),
        KeyPart::Hidden => vec![number; 5],
    };
    table.key().iter().flat_map(part).collect()
}

/// The key of an entry.
fn entry(branch: u8, sequence: u64) -> Vec<u8> {
    [&[branch; 32][..], &sequence.to_be_bytes()].concat()
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

fn keys(view: &dyn View, table: Table, from: &[u8], through: &[u8], limit: usize) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    view.scan(table, ONE, from, through, &mut |key, value| {
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
        let (key, none) = (key(table, 1), key(table, 2));
        assert_eq!(get(store, table, ONE, &key), None);
        assert!(write(store, &change(ONE, vec![put(table, &key, b"value")])));
        assert_eq!(get(store, table, ONE, &key).unwrap(), b"value");
        assert!(write(store, &change(ONE, vec![put(table, &key, b"other")])));
        assert_eq!(get(store, table, ONE, &key).unwrap(), b"other");
        let mut removal = change(ONE, Vec::new());
        removal.deletes = vec![(table, key.clone()), (table, none)];
        assert!(write(store, &removal));
        assert_eq!(get(store, table, ONE, &key), None);
    }
}

fn tables_and_partitions_are_apart(store: &impl Store) {
    write(store, &change(ONE, vec![put(Table::Logs, b"", b"one")]));
    write(store, &change(TWO, vec![put(Table::Logs, b"", b"two")]));
    assert_eq!(get(store, Table::Logs, ONE, b"").unwrap(), b"one");
    assert_eq!(get(store, Table::Logs, TWO, b"").unwrap(), b"two");
    assert_eq!(get(store, Table::Mailboxes, ONE, b""), None);
}

fn scans_go_in_the_order_of_keys(store: &impl Store) {
    let all: [&[u8]; 7] = [b"", b"\0", b"\0\x01", b"a", b"ab", b"b", b"\xff\xff"];
    let mut puts: Vec<_> = all
        .iter()
        .map(|key| put(Table::Shelves, key, key))
        .collect();
    puts.reverse();
    write(store, &change(ONE, puts));
    write(store, &change(TWO, vec![put(Table::Shelves, b"aa", b"")]));
    let scan = |from: &[u8], through: &[u8], limit| {
        let scan = |view: &dyn View| Ok(keys(view, Table::Shelves, from, through, limit));
        store.read(scan).unwrap()
    };
    assert_eq!(scan(b"", b"\xff\xff", 99), all);
    assert_eq!(scan(b"\0\x01", b"ab", 99), all[2..5]);
    assert_eq!(scan(b"aa", b"ac", 99), all[4..5]);
    assert_eq!(scan(b"", b"b", 3), all[..3]);
    assert_eq!(scan(b"c", b"d", 99), all[..0]);
    assert_eq!(scan(b"b", b"a", 99), all[..0]);
}

fn scans_keep_to_what_agrees(store: &impl Store) {
    let all: Vec<_> = (1..=3)
        .flat_map(|branch| [0, 1, 2, 255, 256, u64::MAX].map(|number| entry(branch, number)))
        .collect();
    let puts = all.iter().rev().map(|key| put(Table::Entries, key, key));
    write(store, &change(ONE, puts.collect()));
    write(
        store,
        &change(TWO, vec![put(Table::Entries, &entry(2, 3), b"")]),
    );
    let scan = |from: &[u8], through: &[u8], limit| {
        let scan = |view: &dyn View| Ok(keys(view, Table::Entries, from, through, limit));
        store.read(scan).unwrap()
    };
    // One branch, by number; as far as asked.
    assert_eq!(scan(&entry(2, 0), &entry(2, u64::MAX), 99), all[6..12]);
    assert_eq!(scan(&entry(2, 1), &entry(2, 255), 99), all[7..10]);
    assert_eq!(scan(&entry(2, 2), &entry(2, u64::MAX), 2), all[8..10]);
    assert_eq!(scan(&entry(2, 255), &entry(2, 255), 99), all[9..10]);
    assert_eq!(scan(&entry(2, 3), &entry(2, 254), 99), all[..0]);
    assert_eq!(scan(&entry(2, 9), &entry(2, 8), 99), all[..0]);
    assert_eq!(scan(&entry(4, 0), &entry(4, 9), 99), all[..0]);
    // Bounds that are no keys; bounds in several branches.
    assert_eq!(
        scan(&[2; 32], &[&entry(2, 1)[..], &[7]].concat(), 99),
        all[6..8]
    );
    assert_eq!(scan(&entry(1, 256), &entry(3, 1), 99), all[4..14]);
    assert_eq!(scan(&[], &[0xff; 99], 99), all);
    assert_eq!(scan(&[], &[0xff; 99], 7), all[..7]);
    assert_eq!(scan(&entry(3, 0), &entry(1, 9), 99), all[..0]);
}

fn scans_see_what_the_transaction_changed(store: &impl Store) {
    let entries = |keys: &[&[u8]]| {
        let puts = keys.iter().map(|key| put(Table::Shelves, key, key));
        change(ONE, puts.collect())
    };
    let keys = |view: &dyn View, from: &[u8], through: &[u8], limit| {
        keys(view, Table::Shelves, from, through, limit)
    };
    write(store, &entries(&[b"b", b"d", b"f"]));
    store
        .write(|transaction| {
            let mut next = entries(&[b"a", b"d", b"e", b"g"]);
            next.deletes = vec![(Table::Shelves, b"b".to_vec())];
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
    let elsewhere = key(Table::Branches, 1);
    for other in [
        require(Table::Logs, b"", None),
        require(Table::Logs, b"", Some(b"two")),
        require(Table::Branches, &elsewhere, Some(b"")),
    ] {
        second.requires = vec![require(Table::Logs, b"", Some(b"one")), other];
        assert!(!write(store, &second));
        assert_eq!(get(store, Table::Logs, ONE, b"").unwrap(), b"one");
    }
    second.requires.pop();
    assert!(write(store, &second));
    assert_eq!(get(store, Table::Logs, ONE, b"").unwrap(), b"two");
}

fn later_changes_see_earlier_ones(store: &impl Store) {
    let key = key(Table::Branches, 1);
    let compare_and_set = |from: Option<&[u8]>, to: &[u8]| compare_and_set(&key, from, to);
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
    assert_eq!(get(store, Table::Branches, ONE, &key).unwrap(), b"two");
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
    let key = key(Table::Tickets, 1);
    let mut both = change(ONE, vec![put(Table::Tickets, &key, b"new")]);
    both.deletes = vec![(Table::Tickets, key.clone())];
    write(store, &both);
    assert_eq!(get(store, Table::Tickets, ONE, &key).unwrap(), b"new");
}

fn values_may_be_large_or_empty(store: &impl Store) {
    let large: Vec<u8> = (0..5_000_000u32).map(|number| number as u8).collect();
    let puts = vec![
        put(Table::Entries, &entry(1, 1), &large),
        put(Table::Entries, &entry(1, 2), b""),
    ];
    write(store, &change(ONE, puts));
    assert_eq!(get(store, Table::Entries, ONE, &entry(1, 1)), Some(large));
    let empty = get(store, Table::Entries, ONE, &entry(1, 2));
    assert_eq!(empty, Some(Vec::new()));
}

fn ticket(number: u8, expires: Option<u64>) -> Put {
    Put {
        expires,
        ..put(Table::Tickets, &key(Table::Tickets, number), b"")
    }
}

/// A ticket that is over at an hour.
fn at_hour(number: u8, hour: u64) -> Put {
    ticket(number, Some(hour * HOUR))
}

/// The tickets that are there.
fn tickets(store: &impl Store, partition: Partition) -> Vec<u8> {
    let there = |number: &u8| {
        let key = key(Table::Tickets, *number);
        get(store, Table::Tickets, partition, &key).is_some()
    };
    (1..=9).filter(there).collect()
}

fn sweeps_delete_what_is_over(store: &impl Store) {
    let puts = vec![
        at_hour(1, 100),
        at_hour(2, 101),
        ticket(3, None),
        at_hour(4, 99),
        ticket(5, Some(u64::MAX)),
        // Some time in the last hour of these.
        ticket(6, Some(100 * HOUR + 1)),
    ];
    write(store, &change(ONE, puts));
    write(store, &change(TWO, vec![at_hour(1, 50)]));
    assert_eq!(store.sweep(50 * HOUR - 1, 10).unwrap(), 0);
    assert_eq!(store.sweep(100 * HOUR, 2).unwrap(), 2);
    assert_eq!(
        (tickets(store, ONE), tickets(store, TWO)),
        (vec![1, 2, 3, 5, 6], vec![])
    );
    assert_eq!(store.sweep(100 * HOUR, 2).unwrap(), 1);
    assert_eq!(store.sweep(100 * HOUR, 2).unwrap(), 0);
    assert_eq!(tickets(store, ONE), [2, 3, 5, 6]);
    // A record that is put anew has the new time.
    write(store, &change(ONE, vec![ticket(2, None)]));
    assert_eq!(store.sweep(1_000 * HOUR, 10).unwrap(), 1);
    assert_eq!(tickets(store, ONE), [2, 3, 5]);
    // Also one that is over when it is written.
    write(store, &change(ONE, vec![at_hour(7, 30)]));
    assert_eq!(store.sweep(1_000 * HOUR, 10).unwrap(), 1);
    assert_eq!(store.sweep(1_000 * HOUR, 10).unwrap(), 0);
    assert_eq!(tickets(store, ONE), [2, 3, 5]);
}

fn what_is_over_longest_goes_first(store: &impl Store) {
    let puts = [(1, 40), (2, 10), (3, 30), (4, 20)];
    let puts = puts.map(|(number, hour)| at_hour(number, hour)).to_vec();
    write(store, &change(ONE, puts));
    // In another table and partition, between them.
    let mut envelope = put(Table::Envelopes, &key(Table::Envelopes, 1), b"");
    envelope.expires = Some(25 * HOUR);
    write(store, &change(TWO, vec![envelope]));
    let mut left = Vec::new();
    while store.sweep(100 * HOUR, 1).unwrap() > 0 {
        let key = key(Table::Envelopes, 1);
        let envelope = get(store, Table::Envelopes, TWO, &key).is_some();
        left.push((tickets(store, ONE), envelope));
    }
    let expected = [
        (vec![1, 3, 4], true),
        (vec![1, 3], true),
        (vec![1, 3], false),
        (vec![1], false),
        (vec![], false),
    ];
    assert_eq!(left, expected);
}

fn readers_do_not_see_unfinished_work(store: &impl Store) {
    let (begun, wait_begun) = std::sync::mpsc::channel();
    let (looked, wait_looked) = std::sync::mpsc::channel::<()>();
    let _deadline = Deadline::start();
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

fn compare_and_set(key: &[u8], from: Option<&[u8]>, to: &[u8]) -> Change {
    let mut change = change(ONE, vec![put(Table::Branches, key, to)]);
    change.requires = vec![require(Table::Branches, key, from)];
    change
}

const THREADS: usize = 8;

/// Runs something on so many threads that begin at the same moment; what they return, in order.
fn at_once<T: Send>(work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let _deadline = Deadline::start();
    let barrier = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        let run = |thread| {
            let (barrier, work) = (&barrier, &work);
            scope.spawn(move || {
                barrier.wait();
                work(thread)
            })
        };
        let threads: Vec<_> = (0..THREADS).map(run).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, T>| thread.join().unwrap();
        threads.into_iter().map(join).collect()
    })
}

/// Writers move two records together; readers never find them apart.
fn readers_see_one_moment(store: &impl Store) {
    const ROUNDS: u64 = 50;
    let both = |number: u64| {
        let value = number.to_be_bytes();
        let branch = key(Table::Branches, 1);
        let branch = put(Table::Branches, &branch, &value);
        change(ONE, vec![branch, put(Table::Logs, b"", &value)])
    };
    write(store, &both(0));
    let done = AtomicBool::new(false);
    let looked = AtomicUsize::new(0);
    at_once(|thread| {
        if thread == 0 {
            (1..=ROUNDS).for_each(|number| assert!(write(store, &both(number))));
            done.store(true, Ordering::Relaxed);
        }
        while !done.load(Ordering::Relaxed) {
            let look = |view: &dyn View| {
                let log = view.get(Table::Logs, ONE, b"")?;
                std::thread::yield_now();
                Ok((
                    log,
                    view.get(Table::Branches, ONE, &key(Table::Branches, 1))?,
                ))
            };
            let (log, branch) = store.read(look).unwrap();
            assert_eq!(log, branch);
            looked.fetch_add(1, Ordering::Relaxed);
        }
    });
    assert!(looked.into_inner() > 0);
}

/// One commit after each parent: of those who set from the same value, one is told that it did.
fn of_many_who_compare_and_set_one_wins(store: &impl Store) {
    const ROUNDS: u8 = 25;
    let key = key(Table::Branches, 1);
    let mut tip: Option<Vec<u8>> = None;
    for round in 0..ROUNDS {
        let won = at_once(|thread| {
            let to = [round, thread as u8];
            write(store, &compare_and_set(&key, tip.as_deref(), &to))
        });
        let winners: Vec<_> = (0..THREADS).filter(|thread| won[*thread]).collect();
        assert_eq!(winners.len(), 1, "{won:?}");
        let now = get(store, Table::Branches, ONE, &key).unwrap();
        assert_eq!(
            now,
            [round, winners[0] as u8],
            "what was told is what is there"
        );
        tip = Some(now);
    }
}

/// A token is spent once, a package claimed once: of those who put what must not be there yet, one
/// does.
fn of_many_who_claim_one_gets_it(store: &impl Store) {
    let claims: Vec<_> = (1..=25u8)
        .map(|number| key(Table::Tickets, number))
        .collect();
    let got = at_once(|thread| {
        let claim = |key: &Vec<u8>| {
            let mut claim = change(ONE, vec![put(Table::Tickets, key, &[thread as u8])]);
            claim.requires = vec![require(Table::Tickets, key, None)];
            write(store, &claim)
        };
        claims.iter().map(claim).collect::<Vec<_>>()
    });
    for (at, key) in claims.iter().enumerate() {
        let winners: Vec<_> = (0..THREADS).filter(|thread| got[*thread][at]).collect();
        assert_eq!(winners.len(), 1);
        let there = get(store, Table::Tickets, ONE, key).unwrap();
        assert_eq!(there, [winners[0] as u8]);
    }
}

fn sweeps_and_writers_do_not_disturb_each_other(store: &impl Store) {
    const EACH: u64 = 40;
    // By thread and number; every other one is over.
    let place = |thread: usize, number: u64| {
        let mut key = key(Table::Tickets, 0);
        key[..16].copy_from_slice(&[(thread as u64).to_be_bytes(), number.to_be_bytes()].concat());
        key
    };
    let swept = at_once(|thread| {
        let mut swept = 0;
        for number in 0..EACH {
            let mut ticket = put(Table::Tickets, &place(thread, number), b"here");
            ticket.expires = Some(if number % 2 == 0 { 10 } else { 30 } * HOUR);
            assert!(write(store, &change(ONE, vec![ticket])));
            if thread == 0 {
                swept += store.sweep(20 * HOUR, 7).unwrap();
            }
        }
        swept
    });
    let mut swept: usize = swept.iter().sum();
    loop {
        match store.sweep(20 * HOUR, 7).unwrap() {
            0 => break,
            more => swept += more,
        }
    }
    assert_eq!(swept, THREADS * EACH as usize / 2);
    for thread in 0..THREADS {
        for number in 0..EACH {
            let there = get(store, Table::Tickets, ONE, &place(thread, number)).is_some();
            assert_eq!(there, number % 2 == 1);
        }
    }
}
