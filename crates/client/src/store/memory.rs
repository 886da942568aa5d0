//! A store in memory, for tests in virtual time. It can lose power.

use std::collections::BTreeMap;
use std::ops::Bound;

use zeroize::Zeroizing;

use super::{Row, Store, StoreError, Table, Transaction, prefix_end};

type Rows = BTreeMap<(Table, Vec<u8>), Zeroizing<Vec<u8>>>;

/// How a row was before it was written.
#[derive(Clone)]
struct Undo {
    key: (Table, Vec<u8>),
    before: Option<Zeroizing<Vec<u8>>>,
}

/// Rows in memory. Transactions are synced as they commit, unless [`MemoryStore::sync_by_hand`] was
/// called. A clone is a copy of the disk, as a backup is.
#[derive(Clone, Default)]
pub struct MemoryStore {
    rows: Rows,
    unsynced: Vec<Undo>,
    by_hand: bool,
    fail_next: bool,
    #[cfg(feature = "sabotage")]
    split: bool,
}

impl MemoryStore {
    /// From now on, what commits stays unsynced until [`MemoryStore::sync`].
    pub fn sync_by_hand(&mut self) {
        self.by_hand = true;
    }

    /// Makes everything committed so far durable.
    pub fn sync(&mut self) {
        self.unsynced.clear();
    }

    /// From now on a conversation's place in its log is synced after everything else: power can go
    /// in between.
    #[cfg(feature = "sabotage")]
    pub fn split_transactions(&mut self) {
        self.split = true;
    }

    /// Power is lost: what was not synced is gone.
    pub fn forget_unsynced(&mut self) {
        #[cfg(feature = "sabotage")]
        if self.split {
            self.unsynced
                .retain(|undo| undo.key.0 == Table::Conversations);
        }
        undo(&mut self.rows, std::mem::take(&mut self.unsynced));
    }

    /// The next transaction fails with [`StoreError::Crash`] after its body has run.
    pub fn fail_next(&mut self) {
        self.fail_next = true;
    }

    /// How many rows a table has.
    #[must_use]
    pub fn count(&self, table: Table) -> usize {
        self.rows.keys().filter(|(of, _)| *of == table).count()
    }
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore")
            .field("rows", &self.rows.len())
            .field("unsynced", &self.unsynced.len())
            .finish_non_exhaustive()
    }
}

impl Store for MemoryStore {
    fn transaction<R, E: From<StoreError>>(
        &mut self,
        body: impl FnOnce(&mut dyn Transaction) -> Result<R, E>,
    ) -> Result<R, E> {
        let mut transaction = MemoryTransaction {
            rows: &mut self.rows,
            undo: Vec::new(),
        };
        let result = body(&mut transaction);
        let written = transaction.undo;
        let result = match result {
            Ok(_) if std::mem::take(&mut self.fail_next) => Err(StoreError::Crash.into()),
            other => other,
        };
        if result.is_err() {
            undo(&mut self.rows, written);
        } else if self.by_hand {
            self.unsynced.extend(written);
        }
        result
    }
}

fn undo(rows: &mut Rows, written: Vec<Undo>) {
    for Undo { key, before } in written.into_iter().rev() {
        match before {
            Some(value) => rows.insert(key, value),
            None => rows.remove(&key),
        };
    }
}

struct MemoryTransaction<'a> {
    rows: &'a mut Rows,
    undo: Vec<Undo>,
}

impl MemoryTransaction<'_> {
    fn range(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
    ) -> impl DoubleEndedIterator<Item = (&(Table, Vec<u8>), &Zeroizing<Vec<u8>>)> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded((table, after.to_vec())),
            _ => Bound::Included((table, prefix.to_vec())),
        };
        let prefix = prefix.to_vec();
        let end = prefix_end(&prefix).map_or(Bound::Unbounded, |end| Bound::Excluded((table, end)));
        // A range whose start lies behind its end panics; there is nothing in it.
        let empty = match (&start, &end) {
            (Bound::Excluded(start) | Bound::Included(start), Bound::Excluded(end)) => start >= end,
            _ => false,
        };
        let end = if empty { start.clone() } else { end };
        let start = if empty { unexclude(start) } else { start };
        self.rows
            .range((start, end))
            .filter(move |((of, key), _)| *of == table && key.starts_with(&prefix) && !empty)
    }
}

fn unexclude<T>(bound: Bound<T>) -> Bound<T> {
    match bound {
        Bound::Excluded(value) => Bound::Included(value),
        other => other,
    }
}

impl Transaction for MemoryTransaction<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        Ok(self.rows.get(&(table, key.to_vec())).cloned())
    }

    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let key = (table, key.to_vec());
        let before = self
            .rows
            .insert(key.clone(), Zeroizing::new(value.to_vec()));
        self.undo.push(Undo { key, before });
        Ok(())
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        let key = (table, key.to_vec());
        if let Some(before) = self.rows.remove(&key) {
            let before = Some(before);
            self.undo.push(Undo { key, before });
        }
        Ok(())
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let rows = self.range(table, prefix, after).take(limit);
        Ok(rows
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect())
    }

    fn last(&self, table: Table, prefix: &[u8]) -> Result<Option<Row>, StoreError> {
        let last = self.range(table, prefix, None).next_back();
        Ok(last.map(|((_, key), value)| (key.clone(), value.clone())))
    }

    fn delete_prefix(&mut self, table: Table, prefix: &[u8]) -> Result<(), StoreError> {
        for (key, _) in self.scan(table, prefix, None, usize::MAX)? {
            self.delete(table, &key)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conforms() {
        super::super::conformance::run(MemoryStore::default);
    }

    fn put(store: &mut MemoryStore, value: u8) -> Result<(), StoreError> {
        store.transaction(|tx| tx.put(Table::Account, b"key", &[value]))
    }

    fn get(store: &mut MemoryStore) -> Option<u8> {
        let value = store
            .transaction(|tx| tx.get(Table::Account, b"key"))
            .unwrap();
        value.map(|value| value[0])
    }

    #[test]
    fn what_was_not_synced_is_forgotten() {
        let mut store = MemoryStore::default();
        store.sync_by_hand();
        put(&mut store, 1).unwrap();
        store.sync();
        put(&mut store, 2).unwrap();
        put(&mut store, 3).unwrap();
        store.forget_unsynced();
        assert_eq!(get(&mut store), Some(1));
    }

    #[test]
    fn a_failing_commit_changes_nothing() {
        let mut store = MemoryStore::default();
        put(&mut store, 1).unwrap();
        store.fail_next();
        assert_eq!(put(&mut store, 2), Err(StoreError::Crash));
        assert_eq!(get(&mut store), Some(1));
        put(&mut store, 3).unwrap();
        assert_eq!(get(&mut store), Some(3));
    }
}
