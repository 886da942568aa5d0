//! The SQLite file's form: one table for each [`Table`], and the statements on it.

use rusqlite::Connection;

use super::{StoreError, Table};

/// "Folk" in ASCII: says whose file it is.
const APPLICATION_ID: i64 = 0x466f_6c6b;

/// The newest form that this program knows. A change of tables adds one and a step to [`prepare`].
const SCHEMA: i64 = 1;

/// Sets the connection up. A transaction is durable when it has ended: its pages are synced to the
/// write-ahead log first (`synchronous = FULL`).
pub(super) fn set_up(connection: &Connection) -> Result<(), StoreError> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    set_up_reader(connection)
}

/// Sets a connection up that only reads.
pub(super) fn set_up_reader(connection: &Connection) -> Result<(), StoreError> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(8 * Table::ALL.len());
    Ok(())
}

/// Makes the tables of a new file, or checks that this program knows the file's form.
pub(super) fn prepare(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    if is_new(&transaction)? {
        for &table in Table::ALL {
            transaction.execute_batch(&create(table))?;
        }
        transaction.pragma_update(None, "user_version", SCHEMA)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.commit()?;
    }
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

fn create(table: Table) -> String {
    let name = table.name();
    // Small values sit in the key's own tree; large ones would make that tree deep.
    let layout = if table.has_large_values() {
        ""
    } else {
        "WITHOUT ROWID"
    };
    format!(
        "CREATE TABLE {name} (
             id BLOB NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, expires INTEGER,
             PRIMARY KEY (id, key)
         ) {layout};
         CREATE INDEX {name}_expires ON {name} (expires) WHERE expires IS NOT NULL;"
    )
}

pub(super) fn get(table: Table) -> String {
    format!(
        "SELECT value FROM {} WHERE id = ?1 AND key = ?2",
        table.name()
    )
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

pub(super) fn sweep(table: Table) -> String {
    let name = table.name();
    format!(
        "DELETE FROM {name} WHERE (id, key) IN
             (SELECT id, key FROM {name} WHERE expires <= ?1 ORDER BY expires LIMIT ?2)"
    )
}
