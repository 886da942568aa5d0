//! The SQLite file's form: one table for each [`Table`], one for what the store notes about itself,
//! and the statements on them.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{StoreError, Table};

/// "Folk" in ASCII: says whose file it is.
const APPLICATION_ID: i64 = 0x466f_6c6b;

/// The newest form that this program knows. A new table is made when a file is opened; any other
/// change adds one here, and a step to [`prepare`].
const SCHEMA: i64 = 2;

/// Sets the connection up. A transaction is durable when it has ended: its pages are synced to the
/// write-ahead log first (`synchronous = FULL`). What is deleted is overwritten.
pub(super) fn set_up(connection: &Connection) -> Result<(), StoreError> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "secure_delete", "ON")?;
    set_up_reader(connection)
}

/// Sets a connection up that only reads.
pub(super) fn set_up_reader(connection: &Connection) -> Result<(), StoreError> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(12 * Table::ALL.len());
    Ok(())
}

/// Makes the tables that are not there.
pub(super) fn prepare(transaction: &Transaction<'_>) -> Result<(), StoreError> {
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS at_rest (name TEXT PRIMARY KEY, note BLOB NOT NULL)
             WITHOUT ROWID",
    )?;
    for &table in Table::ALL {
        transaction.execute_batch(&create(table))?;
    }
    transaction.pragma_update(None, "user_version", SCHEMA)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    Ok(())
}

/// Whether the file is empty. If it is not, it must be ours and of a form that we know.
pub(super) fn is_new(connection: &Connection) -> Result<bool, StoreError> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get(0));
    let tables = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0));
    let (found, owner): (i64, i64) = (number("user_version")?, number("application_id")?);
    match (found, owner, tables?) {
        (0, 0, 0i64) => Ok(true),
        (SCHEMA, APPLICATION_ID, _) => Ok(false),
        _ => Err(StoreError::Schema {
            found,
            known: SCHEMA,
        }),
    }
}

/// What the store has noted under a name.
pub(super) fn note(connection: &Connection, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let note = connection
        .prepare_cached("SELECT note FROM at_rest WHERE name = ?1")?
        .query_row([name], |row| row.get(0));
    Ok(note.optional()?)
}

/// Notes something under a name.
pub(super) fn set_note(connection: &Connection, name: &str, note: &[u8]) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO at_rest (name, note) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET note = excluded.note",
        )?
        .execute(params![name, note])?;
    Ok(())
}

/// All names under which something is noted.
pub(super) fn notes(connection: &Connection) -> Result<Vec<String>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT name FROM at_rest ORDER BY name")?;
    let names = statement.query_map([], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

/// Forgets what is noted under a name.
pub(super) fn remove_note(connection: &Connection, name: &str) -> Result<(), StoreError> {
    connection
        .prepare_cached("DELETE FROM at_rest WHERE name = ?1")?
        .execute([name])?;
    Ok(())
}

fn create(table: Table) -> String {
    let name = table.name();
    // Small values sit in the key's own tree; large ones would make that tree deep.
    let layout = if table.has_large_values() {
        ""
    } else {
        "WITHOUT ROWID"
    };
    format!(
        "CREATE TABLE IF NOT EXISTS {name} (
             id BLOB NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, expires BLOB,
             PRIMARY KEY (id, key)
         ) {layout};
         CREATE INDEX IF NOT EXISTS {name}_expires ON {name} (expires)
             WHERE expires IS NOT NULL;"
    )
}

pub(super) fn get(table: Table) -> String {
    format!(
        "SELECT value FROM {} WHERE id = ?1 AND key = ?2",
        table.name()
    )
}

pub(super) fn has(table: Table) -> String {
    format!("SELECT 1 FROM {} WHERE id = ?1 AND key = ?2", table.name())
}

pub(super) fn scan(table: Table) -> String {
    format!(
        "SELECT key, value FROM {} WHERE id = ?1 AND key BETWEEN ?2 AND ?3 ORDER BY key",
        table.name()
    )
}

pub(super) fn put(table: Table) -> String {
    format!(
        "INSERT INTO {} (id, key, value, expires) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (id, key) DO UPDATE SET value = excluded.value, expires = excluded.expires",
        table.name()
    )
}

pub(super) fn delete(table: Table) -> String {
    format!("DELETE FROM {} WHERE id = ?1 AND key = ?2", table.name())
}

/// Records of which `?1` is the hour, with the sizes of their values, at most `?2`.
pub(super) fn over(table: Table) -> String {
    format!(
        "SELECT id, key, length(value) FROM {} WHERE expires = ?1 LIMIT ?2",
        table.name()
    )
}

/// Records after a place, in the order of places, at most `?3`.
pub(super) fn after(table: Table) -> String {
    format!(
        "SELECT id, key, value FROM {} WHERE (id, key) > (?1, ?2) ORDER BY id, key LIMIT ?3",
        table.name()
    )
}

pub(super) fn replace(table: Table) -> String {
    format!(
        "UPDATE {} SET value = ?3 WHERE id = ?1 AND key = ?2",
        table.name()
    )
}
