//! What every backend must do alike. A backend's tests call [`run`] with a way to make empty stores.

use super::{Store, StoreError, Table, Transaction};

/// Runs the whole suite.
///
/// # Panics
/// Where the backend does not conform.
pub fn run<S: Store>(mut empty: impl FnMut() -> S) {
    rows_are_written_read_and_deleted(empty());
    reads_see_the_transactions_own_writes(empty());
    an_error_changes_nothing(empty());
    tables_are_apart(empty());
    scans_are_ordered_and_bounded(empty());
    prefixes_are_deleted_whole(empty());
    keys_and_values_may_be_any_bytes(empty());
}

type Done = Result<(), StoreError>;

fn rows_are_written_read_and_deleted<S: Store>(mut store: S) {
    store
        .transaction(|tx| tx.put(Table::Account, b"a", b"1"))
        .unwrap();
    store
        .transaction(|tx| tx.put(Table::Account, b"a", b"2"))
        .unwrap();
    let value = store
        .transaction(|tx| tx.get(Table::Account, b"a"))
        .unwrap();
    assert_eq!(value.unwrap().as_slice(), b"2");
    store
        .transaction(|tx| tx.delete(Table::Account, b"a"))
        .unwrap();
    store
        .transaction(|tx| tx.delete(Table::Account, b"a"))
        .unwrap();
    assert!(
        store
            .transaction(|tx| tx.get(Table::Account, b"a"))
            .unwrap()
            .is_none()
    );
}

fn reads_see_the_transactions_own_writes<S: Store>(mut store: S) {
    let done: Done = store.transaction(|tx| {
        tx.put(Table::Outbox, b"x", b"1")?;
        assert!(tx.get(Table::Outbox, b"x")?.is_some());
        assert_eq!(tx.scan(Table::Outbox, b"", None, 9)?.len(), 1);
        tx.delete(Table::Outbox, b"x")?;
        assert!(tx.get(Table::Outbox, b"x")?.is_none());
        assert!(tx.last(Table::Outbox, b"")?.is_none());
        Ok(())
    });
    done.unwrap();
}

fn an_error_changes_nothing<S: Store>(mut store: S) {
    store
        .transaction(|tx| tx.put(Table::Records, b"kept", b"1"))
        .unwrap();
    let failed: Done = store.transaction(|tx| {
        tx.put(Table::Records, b"new", b"1")?;
        tx.put(Table::Records, b"kept", b"2")?;
        tx.delete_prefix(Table::Records, b"k")?;
        Err(StoreError::Crash)
    });
    assert_eq!(failed, Err(StoreError::Crash));
    let rows = store
        .transaction(|tx| tx.scan(Table::Records, b"", None, 9))
        .unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].1.as_slice(), b"1");
}

fn tables_are_apart<S: Store>(mut store: S) {
    let done: Done = store.transaction(|tx| {
        for table in Table::ALL {
            tx.put(*table, b"key", table.name().as_bytes())?;
        }
        for table in Table::ALL {
            assert_eq!(
                tx.get(*table, b"key")?.unwrap().as_slice(),
                table.name().as_bytes()
            );
            assert_eq!(tx.scan(*table, b"", None, 9)?.len(), 1);
        }
        Ok(())
    });
    done.unwrap();
}

fn keys(tx: &dyn Transaction, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<Vec<u8>> {
    let rows = tx.scan(Table::History, prefix, after, limit).unwrap();
    rows.into_iter().map(|(key, _)| key).collect()
}

fn scans_are_ordered_and_bounded<S: Store>(mut store: S) {
    let done: Done = store.transaction(|tx| {
        for key in [
            &[1, 2][..],
            &[1],
            &[2, 0],
            &[1, 255],
            &[1, 2, 3],
            &[0, 9],
            &[255],
            &[255, 255],
        ] {
            tx.put(Table::History, key, b"")?;
        }
        assert_eq!(
            keys(tx, &[1], None, 9),
            [&[1][..], &[1, 2], &[1, 2, 3], &[1, 255]]
        );
        assert_eq!(keys(tx, &[1], None, 2), [&[1][..], &[1, 2]]);
        assert_eq!(
            keys(tx, &[1], Some(&[1, 2]), 9),
            [&[1, 2, 3][..], &[1, 255]]
        );
        assert_eq!(keys(tx, &[1], Some(&[0]), 1), [&[1][..]]);
        assert_eq!(keys(tx, &[1], Some(&[2]), 9), [] as [&[u8]; 0]);
        assert_eq!(keys(tx, &[1], Some(&[1, 255]), 9), [] as [&[u8]; 0]);
        assert_eq!(keys(tx, &[255], None, 9), [&[255][..], &[255, 255]]);
        assert_eq!(keys(tx, &[], None, 9).len(), 8);
        assert_eq!(tx.last(Table::History, &[1])?.unwrap().0, [1, 255]);
        assert_eq!(tx.last(Table::History, &[])?.unwrap().0, [255, 255]);
        assert!(tx.last(Table::History, &[3])?.is_none());
        Ok(())
    });
    done.unwrap();
}

fn prefixes_are_deleted_whole<S: Store>(mut store: S) {
    let done: Done = store.transaction(|tx| {
        for key in [&[1][..], &[1, 1], &[1, 255], &[2], &[255]] {
            tx.put(Table::History, key, b"")?;
        }
        tx.delete_prefix(Table::History, &[1])?;
        assert_eq!(keys(tx, &[], None, 9), [&[2][..], &[255]]);
        tx.delete_prefix(Table::History, &[255])?;
        assert_eq!(keys(tx, &[], None, 9), [&[2][..]]);
        Ok(())
    });
    done.unwrap();
}

fn keys_and_values_may_be_any_bytes<S: Store>(mut store: S) {
    let value: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let done: Done = store.transaction(|tx| {
        tx.put(Table::Seen, b"", b"")?;
        tx.put(Table::Seen, &[0, 39, 0], &value)
    });
    done.unwrap();
    let done: Done = store.transaction(|tx| {
        assert_eq!(tx.get(Table::Seen, b"")?.unwrap().as_slice(), b"");
        assert_eq!(*tx.get(Table::Seen, &[0, 39, 0])?.unwrap(), value);
        Ok(())
    });
    done.unwrap();
}
