//! A store in one SQLite file: one connection writes, a few others read beside it (WAL).

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};

use super::{
    Change, Partition, Store, StoreError, Table, Transaction, View, Visit, at_rest,
    sqlite_schema as schema,
};

/// Connections for reading that are kept open; more are opened while more are needed.
const IDLE_READERS: usize = 8;

/// Records in a file. The file belongs to one process at a time.
pub struct SqliteStore {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
}

impl SqliteStore {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`] if the file cannot be opened or is damaged, [`StoreError::Schema`]
    /// if it is another program's or a newer version's.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut writer = Connection::open(path)?;
        schema::set_up_reader(&writer)?;
        // What is not ours is seen before anything is written to it.
        schema::is_new(&writer)?;
        schema::set_up(&writer)?;
        schema::prepare(&mut writer)?;
        Ok(Self {
            path: path.to_owned(),
            writer: Mutex::new(writer),
            readers: Mutex::new(Vec::new()),
        })
    }

    fn reader(&self) -> Result<Connection, StoreError> {
        if let Some(reader) = lock(&self.readers).pop() {
            return Ok(reader);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let reader = Connection::open_with_flags(&self.path, flags)?;
        schema::set_up_reader(&reader)?;
        Ok(reader)
    }
}

/// A panic elsewhere leaves no half-done work: its transaction was rolled back.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store for SqliteStore {
    fn read<T>(
        &self,
        work: impl FnOnce(&dyn View) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut reader = self.reader()?;
        let transaction = reader.transaction()?;
        let outcome = work(&Records(&transaction));
        transaction.finish()?;
        let mut idle = lock(&self.readers);
        if idle.len() < IDLE_READERS {
            idle.push(reader);
        }
        outcome
    }

    fn write<T>(
        &self,
        work: impl FnOnce(&mut dyn Transaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut writer = lock(&self.writer);
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let outcome = work(&mut Records(&transaction))?;
        transaction.commit()?;
        Ok(outcome)
    }

    fn sweep(&self, now: u64, limit: usize) -> Result<usize, StoreError> {
        let mut writer = lock(&self.writer);
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut swept = 0;
        for &table in Table::ALL {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            swept += transaction
                .prepare_cached(&schema::sweep(table))?
                .execute(params![milliseconds(now), limit])?;
        }
        transaction.commit()?;
        Ok(swept)
    }
}

/// Inside a transaction of SQLite's.
struct Records<'a>(&'a Connection);

impl View for Records<'_> {
    fn get(
        &self,
        table: Table,
        partition: Partition,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let stored = self
            .0
            .prepare_cached(&schema::get(table))?
            .query_row(params![partition.0, key], |row| row.get(0))
            .optional()?;
        Ok(stored.map(|stored| at_rest::open(table, partition, key, stored)))
    }

    fn scan(
        &self,
        table: Table,
        partition: Partition,
        from: &[u8],
        through: &[u8],
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        let mut statement = self.0.prepare_cached(&schema::scan(table))?;
        let mut rows = statement.query(params![partition.0, from, through])?;
        while let Some(row) = rows.next()? {
            let key: Vec<u8> = row.get(0)?;
            let value = at_rest::open(table, partition, &key, row.get(1)?);
            if let ControlFlow::Break(()) = visit(&key, value) {
                break;
            }
        }
        Ok(())
    }
}

impl Transaction for Records<'_> {
    fn apply(&mut self, change: &Change) -> Result<bool, StoreError> {
        let id = change.partition.0;
        for required in &change.requires {
            if self.get(required.table, change.partition, &required.key)? != required.value {
                return Ok(false);
            }
        }
        for (table, key) in &change.deletes {
            self.0
                .prepare_cached(&schema::delete(*table))?
                .execute(params![id, key])?;
        }
        for put in &change.puts {
            let value = at_rest::seal(put.table, change.partition, &put.key, put.value.clone());
            self.0
                .prepare_cached(&schema::put(put.table))?
                .execute(params![id, put.key, value, put.expires.map(milliseconds)])?;
        }
        Ok(true)
    }
}

fn milliseconds(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_synced_when_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("delivery.sqlite")).unwrap();
        let writer = lock(&store.writer);
        let pragma = |name| writer.pragma_query_value(None, name, |row| row.get::<_, String>(0));
        assert_eq!(pragma("journal_mode").unwrap(), "wal");
        let synchronous = writer.pragma_query_value(None, "synchronous", |row| row.get(0));
        // 2 is FULL.
        assert_eq!(synchronous, Ok(2i64));
    }
}
