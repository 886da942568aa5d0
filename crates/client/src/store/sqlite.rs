//! The store on disk: one SQLite file, encrypted by SQLCipher.
//!
//! `synchronous=FULL`: a transaction that has committed survives a power cut. `secure_delete=ON` and a
//! truncated write-ahead log: a key that was deleted is not in the file any more.

use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior, params};
use zeroize::Zeroizing;

use super::{Row, Store, StoreError, Table, Transaction, prefix_end};
use crate::key::StoreKey;

/// The format of the file; kept in SQLite's `user_version`.
const FORMAT: u32 = 2;

/// SQLite lets a second thread in before SQLCipher is ready for the first: so the first connection of
/// the process is opened alone.
static FIRST: Once = Once::new();

/// How long a transaction waits for one of another process.
const BUSY: Duration = Duration::from_secs(30);

/// An encrypted file.
pub struct Sqlite {
    connection: Connection,
    path: PathBuf,
    /// Whether the write-ahead log may hold what was deleted: a process may have been ended before it
    /// could empty the log, or another one was reading from it.
    remembers: bool,
    #[cfg(feature = "sabotage")]
    keeps_log: bool,
}

impl Sqlite {
    /// Opens the file, or makes it if there is none. On Unix a new file is readable by its owner only.
    ///
    /// # Errors
    /// [`StoreError::WrongKeyOrDamaged`], [`StoreError::UnknownFormat`], [`StoreError::Busy`],
    /// [`StoreError::Io`].
    pub fn open(path: &Path, key: &StoreKey) -> Result<Self, StoreError> {
        FIRST.call_once(|| drop(Connection::open_in_memory()));
        create_private(path)?;
        let connection = Connection::open(path).map_err(|error| describe(&error, path))?;
        let mut store = Self {
            connection,
            path: path.to_owned(),
            remembers: true,
            #[cfg(feature = "sabotage")]
            keeps_log: false,
        };
        store.prepare(key).map_err(|error| match error {
            Prepare::Sqlite(error) => describe(&error, path),
            Prepare::Store(error) => error,
        })?;
        Ok(store)
    }

    /// From now on what is deleted is only marked as free.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    #[cfg(feature = "sabotage")]
    pub fn keep_deleted(&mut self) -> Result<(), StoreError> {
        self.connection
            .execute_batch("PRAGMA secure_delete = OFF")
            .map_err(|error| describe(&error, &self.path))
    }

    /// From now on the write-ahead log is not emptied.
    #[cfg(feature = "sabotage")]
    pub fn keep_log(&mut self) {
        self.keeps_log = true;
    }

    fn prepare(&mut self, key: &StoreKey) -> Result<(), Prepare> {
        let connection = &mut self.connection;
        connection.busy_timeout(BUSY)?;
        // A raw key: SQLCipher derives nothing, the key is of full strength already.
        // Its own complaints about a wrong key would go to the terminal.
        connection.execute_batch("PRAGMA cipher_log_level = NONE")?;
        let mut pragma = Zeroizing::new(String::with_capacity(100));
        pragma.push_str("PRAGMA key = \"x'");
        for byte in key.bytes() {
            for digit in [byte >> 4, byte & 15] {
                pragma.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
            }
        }
        pragma.push_str("'\"");
        connection.execute_batch(&pragma)?;
        // The first read of the file: here a wrong key shows.
        let _: i64 =
            connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
        connection.execute_batch(
            "PRAGMA cipher_memory_security = ON;
             PRAGMA secure_delete = ON;
             PRAGMA temp_store = MEMORY;
             PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;",
        )?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let found: u32 =
            transaction.query_row("SELECT user_version FROM pragma_user_version", [], |row| {
                row.get(0)
            })?;
        match found {
            // A table that came later is added to a file that lacks it.
            0 | FORMAT => {
                for table in Table::ALL {
                    transaction.execute_batch(&format!(
                        "CREATE TABLE IF NOT EXISTS {} (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;",
                        table.name()
                    ))?;
                }
                if found == 0 {
                    transaction.pragma_update(None, "user_version", FORMAT)?;
                }
            }
            found => {
                let known = FORMAT;
                return Err(Prepare::Store(StoreError::UnknownFormat { found, known }));
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// Empties the write-ahead log, so that the rows just deleted or replaced are gone from it too.
    /// Returns whether it is empty: another process may be reading from it for longer than we wait.
    fn truncate_log(&self) -> Result<bool, StoreError> {
        #[cfg(feature = "sabotage")]
        if self.keeps_log {
            return Ok(false);
        }
        self.connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
                row.get::<_, i64>(0)
            })
            .map(|busy| busy == 0)
            .map_err(|error| describe(&error, &self.path))
    }
}

impl std::fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sqlite")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

enum Prepare {
    Sqlite(rusqlite::Error),
    Store(StoreError),
}

impl From<rusqlite::Error> for Prepare {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn create_private(path: &Path) -> Result<(), StoreError> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
        .open(path)
        .map(drop)
        .map_err(|error| StoreError::Io(format!("{}: {error}", path.display())))
}

fn describe(error: &rusqlite::Error, path: &Path) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            StoreError::WrongKeyOrDamaged(path.display().to_string())
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy,
        _ => StoreError::Io(format!("{}: {error}", path.display())),
    }
}

impl Store for Sqlite {
    fn transaction<R, E: From<StoreError>>(
        &mut self,
        body: impl FnOnce(&mut dyn Transaction) -> Result<R, E>,
    ) -> Result<R, E> {
        let path = &self.path;
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| describe(&error, path))?;
        let mut open = SqliteTransaction {
            transaction,
            path,
            forgets: false,
        };
        let result = body(&mut open)?;
        let forgets = open.commit()?;
        if forgets || self.remembers {
            self.remembers = !self.truncate_log()?;
        }
        Ok(result)
    }
}

struct SqliteTransaction<'a> {
    transaction: rusqlite::Transaction<'a>,
    path: &'a Path,
    /// Whether a row that held a secret was deleted or replaced.
    forgets: bool,
}

impl SqliteTransaction<'_> {
    fn commit(self) -> Result<bool, StoreError> {
        let Self {
            transaction,
            path,
            forgets,
        } = self;
        transaction
            .commit()
            .map_err(|error| describe(&error, path))?;
        Ok(forgets)
    }

    fn error(&self, error: &rusqlite::Error) -> StoreError {
        describe(error, self.path)
    }

    fn execute(&self, sql: &str, params: impl rusqlite::Params) -> Result<usize, StoreError> {
        self.transaction
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute(params))
            .map_err(|error| self.error(&error))
    }

    fn rows(&self, sql: &str, params: impl rusqlite::Params) -> Result<Vec<Row>, StoreError> {
        let read = || {
            let mut statement = self.transaction.prepare_cached(sql)?;
            let rows = statement
                .query_map(params, |row| Ok((row.get(0)?, Zeroizing::new(row.get(1)?))))?;
            rows.collect::<Result<Vec<Row>, _>>()
        };
        read().map_err(|error| self.error(&error))
    }
}

/// Greater than any key in use: keys are at most some hundred bytes long.
fn key_after(prefix: &[u8]) -> Vec<u8> {
    prefix_end(prefix).unwrap_or_else(|| vec![u8::MAX; 1024])
}

impl Transaction for SqliteTransaction<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let sql = format!("SELECT value FROM {} WHERE key = ?1", table.name());
        self.transaction
            .prepare_cached(&sql)
            .and_then(|mut statement| statement.query_row([key], |row| row.get(0)).optional())
            .map(|value: Option<Vec<u8>>| value.map(Zeroizing::new))
            .map_err(|error| self.error(&error))
    }

    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        if table.holds_secrets() && !self.forgets {
            self.forgets = self.get(table, key)?.is_some();
        }
        let sql = format!(
            "INSERT OR REPLACE INTO {} (key, value) VALUES (?1, ?2)",
            table.name()
        );
        self.execute(&sql, params![key, value]).map(drop)
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        let sql = format!("DELETE FROM {} WHERE key = ?1", table.name());
        let deleted = self.execute(&sql, [key])?;
        self.forgets |= deleted > 0 && table.holds_secrets();
        Ok(())
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let (start, comparison) = match after {
            Some(after) if after >= prefix => (after, ">"),
            _ => (prefix, ">="),
        };
        let sql = format!(
            "SELECT key, value FROM {} WHERE key {comparison} ?1 AND key < ?2 ORDER BY key LIMIT ?3",
            table.name()
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.rows(&sql, params![start, key_after(prefix), limit])
    }

    fn last(&self, table: Table, prefix: &[u8]) -> Result<Option<Row>, StoreError> {
        let sql = format!(
            "SELECT key, value FROM {} WHERE key >= ?1 AND key < ?2 ORDER BY key DESC LIMIT 1",
            table.name()
        );
        Ok(self.rows(&sql, params![prefix, key_after(prefix)])?.pop())
    }

    fn delete_prefix(&mut self, table: Table, prefix: &[u8]) -> Result<(), StoreError> {
        let sql = format!("DELETE FROM {} WHERE key >= ?1 AND key < ?2", table.name());
        let deleted = self.execute(&sql, params![prefix, key_after(prefix)])?;
        self.forgets |= deleted > 0 && table.holds_secrets();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &tempfile::TempDir) -> Sqlite {
        Sqlite::open(
            &folder.path().join("store"),
            &StoreKey::from_bytes([7; 32].into()),
        )
        .unwrap()
    }

    #[test]
    fn conforms() {
        let mut folders = Vec::new();
        super::super::conformance::run(|| {
            let folder = tempfile::tempdir().unwrap();
            let store = open(&folder);
            folders.push(folder);
            store
        });
    }

    #[test]
    fn what_has_committed_survives_a_power_cut_and_what_was_deleted_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        let read = |pragma| {
            let connection = &store.connection;
            connection.pragma_query_value(None, pragma, |row| row.get(0))
        };
        const FULL: i64 = 2;
        assert_eq!(read("synchronous"), Ok(FULL));
        assert_eq!(read("secure_delete"), Ok(1));
    }

    #[test]
    fn a_log_that_nobody_emptied_is_emptied_by_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        // A process that commits, and is ended before it empties the log.
        let ended = open(&folder);
        let insert = "INSERT INTO account VALUES (x'01', x'02'); DELETE FROM account;";
        ended.connection.execute_batch(insert).unwrap();
        let log = folder.path().join("store-wal");
        assert!(std::fs::metadata(&log).unwrap().len() > 0);
        let nothing: Result<(), StoreError> = open(&folder).transaction(|_| Ok(()));
        nothing.unwrap();
        let length = std::fs::metadata(&log).map_or(0, |metadata| metadata.len());
        assert_eq!(length, 0);
    }

    #[test]
    fn rows_survive_closing() {
        let folder = tempfile::tempdir().unwrap();
        let done: Result<(), StoreError> =
            open(&folder).transaction(|tx| tx.put(Table::History, b"a", b"b"));
        done.unwrap();
        let value = open(&folder)
            .transaction(|tx| tx.get(Table::History, b"a"))
            .unwrap();
        assert_eq!(value.unwrap().as_slice(), b"b");
    }

    #[test]
    fn a_wrong_key_and_a_damaged_file_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        drop(open(&folder));
        let before = std::fs::read(&path).unwrap();
        let wrong = Sqlite::open(&path, &StoreKey::from_bytes([8; 32].into()));
        assert!(matches!(wrong, Err(StoreError::WrongKeyOrDamaged(_))));
        assert_eq!(std::fs::read(&path).unwrap(), before);

        let mut damaged = before;
        damaged.iter_mut().take(200).for_each(|byte| *byte ^= 0x55);
        std::fs::write(&path, damaged).unwrap();
        let damaged = Sqlite::open(&path, &StoreKey::from_bytes([7; 32].into()));
        assert!(matches!(damaged, Err(StoreError::WrongKeyOrDamaged(_))));
    }

    #[test]
    fn the_log_is_empty_after_a_secret_was_replaced_or_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(&folder);
        let log = folder.path().join("store-wal");
        let length = || std::fs::metadata(&log).map_or(0, |file| file.len());
        // The first transaction of a process empties the log whatever it does.
        store.transaction(|_| Ok::<_, StoreError>(())).unwrap();
        store
            .transaction(|tx| tx.put(Table::Records, b"a", b"first"))
            .unwrap();
        assert!(length() > 0);
        store
            .transaction(|tx| tx.put(Table::Records, b"a", b"second"))
            .unwrap();
        assert_eq!(length(), 0);
        store
            .transaction(|tx| tx.put(Table::History, b"a", b"open"))
            .unwrap();
        store
            .transaction(|tx| tx.delete_prefix(Table::Records, b""))
            .unwrap();
        assert_eq!(length(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn the_file_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        drop(open(&folder));
        let mode = std::fs::metadata(folder.path().join("store"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
