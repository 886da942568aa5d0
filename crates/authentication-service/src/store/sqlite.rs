//! Accounts in one SQLite file.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use folkmoot_credential::Name;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::{Store, StoreError, Stored, at_rest};

/// Marks the file as ours ("fmas").
const APPLICATION_ID: i64 = 0x666d_6173;

/// The schema that this program reads and writes.
const SCHEMA: i64 = 1;

const TABLES: &str = "
    CREATE TABLE accounts (
        name     TEXT PRIMARY KEY,
        revision INTEGER NOT NULL,
        value    BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
";

/// How long to wait for another process that looks at the file.
const PATIENCE: Duration = Duration::from_secs(5);

/// Accounts in one SQLite file, durable before a change is answered.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Mutex<Connection>,
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
        is_new(&connection)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if is_new(&transaction)? {
            transaction.execute_batch(TABLES)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", SCHEMA)?;
        }
        transaction.commit()?;
        Ok(Self {
            connection: Mutex::new(connection),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the file is empty. If it is not, it must be ours.
fn is_new(connection: &Connection) -> Result<bool, StoreError> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get(0));
    let tables = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0));
    let (owner, schema): (i64, i64) = (number("application_id")?, number("user_version")?);
    match (owner, schema, tables?) {
        (0, 0, 0i64) => Ok(true),
        (APPLICATION_ID, SCHEMA, _) => Ok(false),
        (APPLICATION_ID, found, _) => Err(StoreError::Schema {
            found,
            known: SCHEMA,
        }),
        _ => Err(StoreError::Foreign),
    }
}

impl Store for SqliteStore {
    fn load(&self, name: &Name) -> Result<Option<Stored>, StoreError> {
        let connection = self.lock();
        let mut statement =
            connection.prepare_cached("SELECT revision, value FROM accounts WHERE name = ?1")?;
        let row: Option<(i64, Vec<u8>)> = statement
            .query_row([name.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        row.map(|(revision, value)| {
            Ok(Stored {
                revision: revision.try_into().map_err(|_| StoreError::Damaged)?,
                value: at_rest::open(name, value),
            })
        })
        .transpose()
    }

    fn save(&self, name: &Name, known: Option<u64>, value: Vec<u8>) -> Result<bool, StoreError> {
        let value = at_rest::seal(name, value);
        let connection = self.lock();
        // One statement is one transaction: it is durable when it returns.
        let changed = match known {
            None => connection
                .prepare_cached(
                    "INSERT INTO accounts (name, revision, value) VALUES (?1, 1, ?2)
                     ON CONFLICT DO NOTHING",
                )?
                .execute(params![name.as_str(), value])?,
            Some(known) => {
                let Ok(known) = i64::try_from(known) else {
                    return Ok(false);
                };
                connection
                    .prepare_cached(
                        "UPDATE accounts SET revision = revision + 1, value = ?3
                         WHERE name = ?1 AND revision = ?2",
                    )?
                    .execute(params![name.as_str(), known, value])?
            }
        };
        Ok(changed == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_synced_when_it_ends() {
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
