//! The log in SQLite, in tables of its own beside the accounts.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use akd::errors::StorageError;
use akd::storage::types::{
    DbRecord, KeyData, StorageType, ValueState, ValueStateKey, ValueStateRetrievalFlag,
};
use akd::storage::{Database, DbSetState, Storable};
use akd::{AkdLabel, AkdValue};
use async_trait::async_trait;
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};

use super::nodes::{
    Commit, LogStore, Pending, decode_azks, decode_node, decode_value, encode, storage,
};
use crate::store::StoreError;

/// The tables. What is in the tree is found by the library's own keys.
pub(crate) const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS log_nodes (
        id    BLOB PRIMARY KEY,
        value BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS log_values (
        label BLOB NOT NULL,
        epoch INTEGER NOT NULL,
        value BLOB NOT NULL,
        PRIMARY KEY (label, epoch)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS log_heads (
        epoch INTEGER PRIMARY KEY,
        head  BLOB NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS log_pending (
        label    BLOB NOT NULL,
        revision INTEGER NOT NULL,
        value    BLOB NOT NULL,
        PRIMARY KEY (label, revision)
    ) STRICT, WITHOUT ROWID;";

/// Readers that are kept open.
const READERS: usize = 8;

/// One file: one connection that writes, and others that read what was there when they began.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) path: PathBuf,
    pub(crate) patience: Duration,
    pub(crate) writer: Mutex<Connection>,
    pub(crate) readers: Mutex<Vec<Connection>>,
}

impl Shared {
    pub(crate) fn writer(&self) -> MutexGuard<'_, Connection> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reader(&self) -> Result<Connection, StoreError> {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reader) = readers.pop() {
            return Ok(reader);
        }
        drop(readers);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(self.patience)?;
        Ok(connection)
    }
}

/// The log in SQLite. Clones are the same.
#[derive(Clone, Debug)]
pub struct SqliteLog(pub(crate) Arc<Shared>);

/// The tree, through a connection of its own.
pub struct SqliteNodes {
    shared: Arc<Shared>,
    connection: Option<Mutex<Connection>>,
    still: bool,
}

impl Drop for SqliteNodes {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        let connection = connection
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        if self.still && connection.execute_batch("ROLLBACK").is_err() {
            return;
        }
        let readers = self.shared.readers.lock();
        let mut readers = readers.unwrap_or_else(PoisonError::into_inner);
        if readers.len() < READERS {
            readers.push(connection);
        }
    }
}

impl LogStore for SqliteLog {
    type Nodes = SqliteNodes;

    fn nodes(&self, still: bool) -> Result<SqliteNodes, StoreError> {
        let connection = self.0.reader()?;
        if still {
            connection.execute_batch("BEGIN")?;
        }
        Ok(SqliteNodes {
            shared: self.0.clone(),
            connection: Some(Mutex::new(connection)),
            still,
        })
    }

    fn pending(&self, most: usize) -> Result<Vec<Pending>, StoreError> {
        let connection = self.0.writer();
        let mut statement = connection.prepare_cached(
            "SELECT label, revision, value FROM log_pending ORDER BY label, revision LIMIT ?1",
        )?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = statement.query_map([most], |row| {
            Ok((
                row.get::<_, Vec<u8>>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, Vec<u8>>(2)?,
            ))
        })?;
        rows.map(|row| {
            let (label, revision, value) = row?;
            Ok(Pending {
                label,
                revision: revision.try_into().map_err(|_| StoreError::Damaged)?,
                value: value.try_into().map_err(|_| StoreError::Damaged)?,
            })
        })
        .collect()
    }

    fn enqueue(&self, pending: &Pending) -> Result<(), StoreError> {
        enqueue(&self.0.writer(), pending)
    }

    fn settle(&self, done: &[Pending]) -> Result<(), StoreError> {
        let mut connection = self.0.writer();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        settle(&transaction, done)?;
        Ok(transaction.commit()?)
    }

    fn head(&self, epoch: Option<u64>) -> Result<Option<Vec<u8>>, StoreError> {
        let connection = self.0.writer();
        let head = match epoch {
            Some(epoch) => connection
                .prepare_cached("SELECT head FROM log_heads WHERE epoch = ?1")?
                .query_row([i64::try_from(epoch).unwrap_or(-1)], |row| row.get(0)),
            None => connection
                .prepare_cached("SELECT head FROM log_heads ORDER BY epoch DESC LIMIT 1")?
                .query_row([], |row| row.get(0)),
        };
        Ok(head.optional()?)
    }

    fn commit(&self, commit: Commit<'_>) -> Result<(), StoreError> {
        let mut connection = self.0.writer();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for record in &commit.records {
            put(&transaction, record)?;
        }
        let epoch = i64::try_from(commit.epoch).map_err(|_| StoreError::Damaged)?;
        transaction
            .prepare_cached("INSERT INTO log_heads (epoch, head) VALUES (?1, ?2)")?
            .execute(params![epoch, commit.head])?;
        settle(&transaction, commit.done)?;
        Ok(transaction.commit()?)
    }
}

/// Has a change wait.
pub(crate) fn enqueue(connection: &Connection, pending: &Pending) -> Result<(), StoreError> {
    let Pending {
        label,
        revision,
        value,
    } = pending;
    let revision = i64::try_from(*revision).map_err(|_| StoreError::Damaged)?;
    connection
        .prepare_cached(
            "INSERT INTO log_pending (label, revision, value) VALUES (?1, ?2, ?3)
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![label, revision, value])?;
    Ok(())
}

fn settle(connection: &Connection, done: &[Pending]) -> Result<(), StoreError> {
    let mut statement =
        connection.prepare_cached("DELETE FROM log_pending WHERE label = ?1 AND revision = ?2")?;
    for Pending {
        label, revision, ..
    } in done
    {
        let revision = i64::try_from(*revision).map_err(|_| StoreError::Damaged)?;
        statement.execute(params![label, revision])?;
    }
    Ok(())
}

fn put(connection: &Connection, record: &DbRecord) -> Result<(), StoreError> {
    let value = encode(record);
    if let DbRecord::ValueState(state) = record {
        let epoch = i64::try_from(state.epoch).map_err(|_| StoreError::Damaged)?;
        connection
            .prepare_cached("INSERT INTO log_values (label, epoch, value) VALUES (?1, ?2, ?3)")?
            .execute(params![state.username.0, epoch, value])?;
    } else {
        connection
            .prepare_cached(
                "INSERT INTO log_nodes (id, value) VALUES (?1, ?2)
                 ON CONFLICT DO UPDATE SET value = excluded.value",
            )?
            .execute(params![record.get_full_binary_id(), value])?;
    }
    Ok(())
}

impl SqliteNodes {
    fn connection(&self) -> Result<MutexGuard<'_, Connection>, StorageError> {
        let closed = || StorageError::Connection("closed".into());
        let connection = self.connection.as_ref().ok_or_else(closed)?;
        Ok(connection.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn sqlite(error: rusqlite::Error) -> StorageError {
    storage(error.into())
}

fn damaged<E>(_: E) -> StorageError {
    storage(StoreError::Damaged)
}

/// Carries no name: errors are reported.
fn not_found() -> StorageError {
    StorageError::NotFound(String::new())
}

fn find<St: Storable>(
    connection: &Connection,
    id: &St::StorageKey,
) -> Result<Option<DbRecord>, StorageError> {
    let id = St::get_full_binary_key_id(id);
    if St::data_type() == StorageType::ValueState {
        let ValueStateKey(label, epoch) = ValueState::key_from_full_binary(&id).map_err(damaged)?;
        let flag = ValueStateRetrievalFlag::SpecificEpoch(epoch);
        return Ok(state(connection, &label, flag)?.map(DbRecord::ValueState));
    }
    let value: Option<Vec<u8>> = connection
        .prepare_cached("SELECT value FROM log_nodes WHERE id = ?1")
        .map_err(sqlite)?
        .query_row([id], |row| row.get(0))
        .optional()
        .map_err(sqlite)?;
    let decode = match St::data_type() {
        StorageType::Azks => decode_azks,
        _ => decode_node,
    };
    value
        .map(|value| decode(&value).map_err(damaged))
        .transpose()
}

/// The value that a label has, or had.
fn state(
    connection: &Connection,
    label: &[u8],
    flag: ValueStateRetrievalFlag,
) -> Result<Option<ValueState>, StorageError> {
    let (condition, order, number) = match flag {
        ValueStateRetrievalFlag::SpecificEpoch(epoch) => ("epoch = ?2", "DESC", epoch),
        ValueStateRetrievalFlag::LeqEpoch(epoch) => ("epoch <= ?2", "DESC", epoch),
        ValueStateRetrievalFlag::MaxEpoch => ("epoch <= ?2", "DESC", u64::MAX),
        ValueStateRetrievalFlag::MinEpoch => ("epoch <= ?2", "ASC", u64::MAX),
        ValueStateRetrievalFlag::SpecificVersion(version) => {
            let states = states(connection, label)?;
            return Ok(states.into_iter().find(|state| state.version == version));
        }
    };
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    let row: Option<(i64, Vec<u8>)> = connection
        .prepare_cached(&format!(
            "SELECT epoch, value FROM log_values
             WHERE label = ?1 AND {condition} ORDER BY epoch {order} LIMIT 1"
        ))
        .map_err(sqlite)?
        .query_row(params![label, number], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
        .map_err(sqlite)?;
    row.map(|(epoch, value)| {
        let epoch = epoch.try_into().map_err(damaged)?;
        decode_value(label.to_vec(), epoch, &value).map_err(damaged)
    })
    .transpose()
}

/// All values that a label ever had, the first one first.
fn states(connection: &Connection, label: &[u8]) -> Result<Vec<ValueState>, StorageError> {
    let mut statement = connection
        .prepare_cached("SELECT epoch, value FROM log_values WHERE label = ?1 ORDER BY epoch")
        .map_err(sqlite)?;
    let rows = statement
        .query_map([label], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))
        })
        .map_err(sqlite)?;
    rows.map(|row| {
        let (epoch, value) = row.map_err(sqlite)?;
        let epoch = epoch.try_into().map_err(damaged)?;
        decode_value(label.to_vec(), epoch, &value).map_err(damaged)
    })
    .collect()
}

#[async_trait]
impl Database for SqliteNodes {
    async fn set(&self, record: DbRecord) -> Result<(), StorageError> {
        put(&self.shared.writer(), &record).map_err(storage)
    }

    async fn batch_set(&self, records: Vec<DbRecord>, _: DbSetState) -> Result<(), StorageError> {
        let mut connection = self.shared.writer();
        let transaction = connection.transaction().map_err(sqlite)?;
        for record in &records {
            put(&transaction, record).map_err(storage)?;
        }
        transaction.commit().map_err(sqlite)
    }

    async fn get<St: Storable>(&self, id: &St::StorageKey) -> Result<DbRecord, StorageError> {
        find::<St>(&*self.connection()?, id)?.ok_or_else(not_found)
    }

    async fn batch_get<St: Storable>(
        &self,
        ids: &[St::StorageKey],
    ) -> Result<Vec<DbRecord>, StorageError> {
        let connection = self.connection()?;
        let found = ids.iter().map(|id| find::<St>(&connection, id));
        found.filter_map(Result::transpose).collect()
    }

    async fn get_user_data(&self, username: &AkdLabel) -> Result<KeyData, StorageError> {
        let states = states(&*self.connection()?, username)?;
        if states.is_empty() {
            return Err(not_found());
        }
        Ok(KeyData { states })
    }

    async fn get_user_state(
        &self,
        username: &AkdLabel,
        flag: ValueStateRetrievalFlag,
    ) -> Result<ValueState, StorageError> {
        state(&*self.connection()?, username, flag)?.ok_or_else(not_found)
    }

    async fn get_user_state_versions(
        &self,
        usernames: &[AkdLabel],
        flag: ValueStateRetrievalFlag,
    ) -> Result<HashMap<AkdLabel, (u64, AkdValue)>, StorageError> {
        let connection = self.connection()?;
        let mut found = HashMap::new();
        for username in usernames {
            if let Some(state) = state(&connection, username, flag)? {
                found.insert(state.username, (state.version, state.value));
            }
        }
        Ok(found)
    }
}
