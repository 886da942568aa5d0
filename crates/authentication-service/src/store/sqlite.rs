//! Records in one SQLite file.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use folkmoot_credential::Name;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use crate::transparency::sqlite::{self as log, Shared};
use crate::transparency::{Pending, SqliteLog};

use super::{Place, Store, StoreError, Stored, at_rest};

/// Marks the file as ours ("fmas").
const APPLICATION_ID: i64 = 0x666d_6173;

/// The schema that this program writes. It reads those before, which had fewer tables, and brings them
/// up to this one.
const SCHEMA: i64 = 4;

/// Makes the tables that are not there. Secrets are among what is deleted and replaced.
fn make_tables(connection: &Connection) -> Result<(), rusqlite::Error> {
    for table in Place::TABLES {
        connection.execute_batch(&format!(
            "CREATE TABLE IF NOT EXISTS {table} (
                 name     TEXT PRIMARY KEY,
                 revision INTEGER NOT NULL,
                 value    BLOB NOT NULL
             ) STRICT, WITHOUT ROWID;"
        ))?;
    }
    connection.execute_batch(log::TABLES)?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", SCHEMA)
}

/// Accounts of an older schema take their names from those that look alike.
fn claim_skeletons(connection: &Connection) -> Result<(), StoreError> {
    let mut accounts = connection.prepare("SELECT name FROM accounts")?;
    let mut claim = connection.prepare(
        "INSERT INTO skeletons (name, revision, value) VALUES (?1, 1, ?2) ON CONFLICT DO NOTHING",
    )?;
    let mut rows = accounts.query([])?;
    while let Some(row) = rows.next()? {
        let name: Name = row
            .get::<_, String>(0)?
            .parse()
            .map_err(|_| StoreError::Damaged)?;
        let skeleton = name.skeleton();
        let value = name.as_str().as_bytes().to_vec();
        let value = at_rest::seal(Place::Skeleton(&skeleton), value);
        claim.execute(params![skeleton, value])?;
    }
    Ok(())
}

/// How long to wait for another process that looks at the file.
const PATIENCE: Duration = Duration::from_secs(5);

/// Records in one SQLite file, durable before a change is answered.
#[derive(Debug)]
pub struct SqliteStore {
    shared: Arc<Shared>,
}

impl SqliteStore {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// [`StoreError`]: the file cannot be opened, is not ours or not of this version.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(PATIENCE)?;
        // What is not ours is seen before anything is written to it.
        is_current(&connection)?;
        connection.pragma_update(None, "secure_delete", "ON")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if !is_current(&transaction)? {
            make_tables(&transaction)?;
            claim_skeletons(&transaction)?;
        }
        transaction.commit()?;
        Ok(Self {
            shared: Arc::new(Shared {
                path: path.to_owned(),
                patience: PATIENCE,
                writer: Mutex::new(connection),
                readers: Mutex::default(),
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.shared.writer()
    }
}

/// Whether the file has this program's schema. If not, it must be empty, or ours and older.
fn is_current(connection: &Connection) -> Result<bool, StoreError> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get(0));
    let tables = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0));
    let (owner, schema): (i64, i64) = (number("application_id")?, number("user_version")?);
    match (owner, schema, tables?) {
        (0, 0, 0i64) | (APPLICATION_ID, 1..SCHEMA, _) => Ok(false),
        (APPLICATION_ID, SCHEMA, _) => Ok(true),
        (APPLICATION_ID, found, _) => Err(StoreError::Schema {
            found,
            known: SCHEMA,
        }),
        _ => Err(StoreError::Foreign),
    }
}

impl Store for SqliteStore {
    type Log = SqliteLog;

    fn log(&self) -> SqliteLog {
        SqliteLog(self.shared.clone())
    }

    fn load<'a>(&self, place: impl Into<Place<'a>>) -> Result<Option<Stored>, StoreError> {
        let place = place.into();
        let (table, key) = place.key();
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&format!(
            "SELECT revision, value FROM {table} WHERE name = ?1"
        ))?;
        let row: Option<(i64, Vec<u8>)> = statement
            .query_row([key], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        row.map(|(revision, value)| {
            Ok(Stored {
                revision: revision.try_into().map_err(|_| StoreError::Damaged)?,
                value: at_rest::open(place, value),
            })
        })
        .transpose()
    }

    fn save_logged<'a>(
        &self,
        place: impl Into<Place<'a>>,
        known: Option<u64>,
        value: Vec<u8>,
        logged: Option<&Pending>,
    ) -> Result<bool, StoreError> {
        let place = place.into();
        let (table, key) = place.key();
        let value = at_rest::seal(place, value);
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let changed = match known {
            None => transaction
                .prepare_cached(&format!(
                    "INSERT INTO {table} (name, revision, value) VALUES (?1, 1, ?2)
                     ON CONFLICT DO NOTHING",
                ))?
                .execute(params![key, value])?,
            Some(known) => {
                let Ok(known) = i64::try_from(known) else {
                    return Ok(false);
                };
                transaction
                    .prepare_cached(&format!(
                        "UPDATE {table} SET revision = revision + 1, value = ?3
                         WHERE name = ?1 AND revision = ?2",
                    ))?
                    .execute(params![key, known, value])?
            }
        };
        if changed != 1 {
            return Ok(false);
        }
        if let Some(logged) = logged {
            log::enqueue(&transaction, logged)?;
        }
        // It is durable when this returns.
        transaction.commit()?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_synced_when_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("authentication.sqlite")).unwrap();
        let connection = store.lock();
        let mode = connection.pragma_query_value(None, "journal_mode", |row| row.get(0));
        assert_eq!(mode, Ok("wal".to_owned()));
        let synchronous = connection.pragma_query_value(None, "synchronous", |row| row.get(0));
        // 2 is FULL.
        assert_eq!(synchronous, Ok(2i64));
    }
}
