//! The contestants.

pub mod credentials;
pub mod mls_rs;
pub mod openmls;
mod openmls_storage;
pub mod ours;

use std::path::Path;

use rusqlite::Connection;

/// A connection as all contestants have it.
fn sqlite(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")?;
    Ok(connection)
}
