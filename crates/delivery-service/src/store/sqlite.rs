//! A store in one SQLite file: one connection writes, a few others read beside it (WAL). What it
//! holds is encrypted ([`at_rest`](super::at_rest)).

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};

use super::at_rest::{self, AtRest};
use super::{
    AtRestKeys, Change, Partition, Store, StoreError, Table, Transaction, View, Visit, sqlite_keys,
    sqlite_schema as schema, sqlite_sweep,
};

/// Connections for reading that are kept open; more are opened while more are needed.
const IDLE_READERS: usize = 8;

/// Records in a file. The file belongs to one process at a time.
pub struct SqliteStore {
    path: PathBuf,
    writer: Mutex<Writer>,
    readers: Mutex<Vec<Connection>>,
    /// Replaced only by who holds the writer.
    at_rest: RwLock<Arc<AtRest>>,
}

/// What [`SqliteStore::visit_all`] calls for each record: with table, partition, key and value.
pub type VisitAll<'a> = dyn FnMut(Table, Partition, &[u8], &[u8]) + 'a;

struct Writer {
    connection: Connection,
    /// The first hour in which a record may be over.
    first_hour: Option<u64>,
}

impl SqliteStore {
    /// Opens the file, or makes it, encrypted under the first of `keys`.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`] if the file cannot be opened or is damaged, [`StoreError::Schema`]
    /// if it is another program's or a newer version's, [`StoreError::KeyMissing`] if it is
    /// encrypted under a key that is not given.
    pub fn open(path: &Path, keys: &AtRestKeys) -> Result<Self, StoreError> {
        let mut connection = Connection::open(path)?;
        schema::set_up_reader(&connection)?;
        // What is not ours is seen before anything is written to it.
        schema::is_new(&connection)?;
        schema::set_up(&connection)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        schema::prepare(&transaction)?;
        let at_rest = sqlite_keys::open(&transaction, keys)?;
        let first_hour = sqlite_sweep::first(&transaction, &at_rest)?;
        transaction.commit()?;
        Ok(Self {
            path: path.to_owned(),
            writer: Mutex::new(Writer {
                connection,
                first_hour,
            }),
            readers: Mutex::new(Vec::new()),
            at_rest: RwLock::new(Arc::new(at_rest)),
        })
    }

    /// Lets the file grow to this size, in bytes, and no further; what lies in its write-ahead log
    /// meanwhile comes on top, a few megabytes. A file that is larger stays as it is. What does not
    /// fit fails with [`StoreError::Full`].
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn limit_size(&self, bytes: u64) -> Result<(), StoreError> {
        let writer = lock(&self.writer);
        let page: i64 = writer
            .connection
            .pragma_query_value(None, "page_size", |row| row.get(0))?;
        let pages = i64::try_from(bytes).unwrap_or(i64::MAX) / page.max(1);
        // Zero would ask for nothing, and more than this SQLite does not have.
        let pages = pages.clamp(1, 0xffff_fffe);
        let ignore = |_: &rusqlite::Row<'_>| Ok(());
        writer
            .connection
            .pragma_update_and_check(None, "max_page_count", pages, ignore)?;
        Ok(())
    }

    /// Visits all records, decrypted, table by table: for tools that look into a database.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn visit_all(&self, visit: &mut VisitAll<'_>) -> Result<(), StoreError> {
        let (reader, at_rest) = (self.reader()?, self.at_rest());
        for &table in Table::ALL {
            let mut statement = reader.prepare(&schema::after(table))?;
            let mut rows = statement.query(params![[0u8; 0], [0u8; 0], i64::MAX])?;
            while let Some(row) = rows.next()? {
                let (id, key): (Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?);
                let opened = at_rest.open(table, &id, &key, row.get(2)?)?;
                visit(table, opened.partition, &opened.key, &opened.value);
            }
        }
        Ok(())
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

    fn at_rest(&self) -> Arc<AtRest> {
        let current = self.at_rest.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
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
        let at_rest = self.at_rest();
        let outcome = work(&Records::new(&transaction, &at_rest, None));
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
        let first = writer.first_hour;
        let transaction = writer
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let at_rest = self.at_rest();
        let mut records = Records::new(&transaction, &at_rest, first);
        let outcome = work(&mut records)?;
        let first_hour = records.first_hour;
        if let Some(hour) = first_hour.filter(|_| first_hour != first) {
            sqlite_sweep::set_first(&transaction, &at_rest, hour)?;
        }
        transaction.commit()?;
        writer.first_hour = first_hour;
        Ok(outcome)
    }

    fn sweep(&self, now: u64, limit: usize) -> Result<usize, StoreError> {
        loop {
            let mut writer = lock(&self.writer);
            let Some(first) = writer
                .first_hour
                .filter(|first| first * at_rest::HOUR <= now)
            else {
                return Ok(0);
            };
            let transaction = writer
                .connection
                .transaction_with_behavior(TransactionBehavior::Immediate)?;
            let at_rest = self.at_rest();
            let step = sqlite_sweep::step(&transaction, &at_rest, first, now, limit)?;
            if step.first != first {
                sqlite_sweep::set_first(&transaction, &at_rest, step.first)?;
            }
            transaction.commit()?;
            writer.first_hour = Some(step.first);
            // Hours in which there is nothing do not end a sweep.
            if step.deleted > 0 {
                return Ok(step.deleted);
            }
        }
    }

    fn rekey(&self, keys: &AtRestKeys) -> Result<(), StoreError> {
        let mut writer = lock(&self.writer);
        let at_rest = self.at_rest().with_keys(keys);
        let transaction = writer
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        sqlite_keys::change(&transaction, &at_rest)?;
        transaction.commit()?;
        let mut current = self.at_rest.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(at_rest);
        Ok(())
    }

    fn reencrypt(&self, limit: usize) -> Result<usize, StoreError> {
        let mut writer = lock(&self.writer);
        let transaction = writer
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let looked = sqlite_keys::reencrypt(&transaction, &self.at_rest(), limit)?;
        transaction.commit()?;
        Ok(looked)
    }
}

/// Inside a transaction of SQLite's.
struct Records<'a> {
    connection: &'a Connection,
    at_rest: &'a AtRest,
    /// The first hour in which a record may be over.
    first_hour: Option<u64>,
}

impl<'a> Records<'a> {
    fn new(connection: &'a Connection, at_rest: &'a AtRest, first_hour: Option<u64>) -> Self {
        Self {
            connection,
            at_rest,
            first_hour,
        }
    }
}

impl View for Records<'_> {
    fn get(
        &self,
        table: Table,
        partition: Partition,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let place = self.at_rest.place(table, partition, key)?;
        let stored = self
            .connection
            .prepare_cached(&schema::get(table))?
            .query_row(params![place.id, place.key], |row| row.get(0))
            .optional()?;
        let Some(stored) = stored else {
            return Ok(None);
        };
        let opened = self.at_rest.open(table, &place.id, &place.key, stored)?;
        if (opened.partition, opened.key.as_slice()) != (partition, key) {
            return Err(StoreError::Corrupt(table));
        }
        Ok(Some(opened.value))
    }

    fn has(&self, table: Table, partition: Partition, key: &[u8]) -> Result<bool, StoreError> {
        let place = self.at_rest.place(table, partition, key)?;
        let mut statement = self.connection.prepare_cached(&schema::has(table))?;
        Ok(statement.exists(params![place.id, place.key])?)
    }

    fn scan(
        &self,
        table: Table,
        partition: Partition,
        from: &[u8],
        through: &[u8],
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        let span = self.at_rest.span(table, partition, from, through);
        let mut statement = self.connection.prepare_cached(&schema::scan(table))?;
        let mut rows = statement.query(params![span.id, span.from, span.through])?;
        let mut gathered = Vec::new();
        while let Some(row) = rows.next()? {
            let stored_key: Vec<u8> = row.get(0)?;
            let opened = self
                .at_rest
                .open(table, &span.id, &stored_key, row.get(1)?)?;
            if opened.partition != partition {
                return Err(StoreError::Corrupt(table));
            }
            let (key, value) = (opened.key, opened.value);
            if key.as_slice() < from || key.as_slice() > through {
                continue;
            }
            if !span.in_order {
                gathered.push((key, value));
            } else if let ControlFlow::Break(()) = visit(&key, value) {
                return Ok(());
            }
        }
        gathered.sort_unstable();
        for (key, value) in gathered {
            if let ControlFlow::Break(()) = visit(&key, value) {
                break;
            }
        }
        Ok(())
    }
}

impl Transaction for Records<'_> {
    fn apply(&mut self, change: &Change) -> Result<bool, StoreError> {
        let partition = change.partition;
        for required in &change.requires {
            if self.get(required.table, partition, &required.key)? != required.value {
                return Ok(false);
            }
        }
        for (table, key) in &change.deletes {
            let place = self.at_rest.place(*table, partition, key)?;
            self.connection
                .prepare_cached(&schema::delete(*table))?
                .execute(params![place.id, place.key])?;
        }
        for put in &change.puts {
            let (table, place) = (
                put.table,
                self.at_rest.place(put.table, partition, &put.key)?,
            );
            let value = self
                .at_rest
                .seal(table, &place, partition, &put.key, &put.value)?;
            let hour = put.expires.map(sqlite_sweep::hour);
            if let Some(hour) = hour {
                self.first_hour = Some(self.first_hour.map_or(hour, |first| first.min(hour)));
            }
            let expires = hour.map(|hour| self.at_rest.hour(table, hour));
            self.connection
                .prepare_cached(&schema::put(table))?
                .execute(params![place.id, place.key, value, expires])?;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_synced_when_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let keys = AtRestKeys::generate(&mut rand::rng());
        let store = SqliteStore::open(&folder.path().join("delivery.sqlite"), &keys).unwrap();
        let writer = &lock(&store.writer).connection;
        let pragma = |name| writer.pragma_query_value(None, name, |row| row.get::<_, String>(0));
        assert_eq!(pragma("journal_mode").unwrap(), "wal");
        let synchronous = writer.pragma_query_value(None, "synchronous", |row| row.get(0));
        // 2 is FULL.
        assert_eq!(synchronous, Ok(2i64));
    }
}
