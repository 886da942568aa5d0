//! Deleting what is over, hour by hour.
//!
//! The file does not show which hour a record belongs to, so a sweep asks for one after the other.
//! From which one on there may be records is noted, encrypted, in the transaction that changes it.

use rusqlite::{Connection, params};

use super::at_rest::{AtRest, HOUR};
use super::{StoreError, Table, sqlite_schema as schema};

const NOTE: &str = "sweep";
/// Queries for hours after which a step ends.
const QUERIES: usize = 20_000;
/// Bytes of values after which a step ends.
const BYTES: usize = 4 << 20;

/// The hour of a time, rounded up: none is deleted too early.
pub(super) fn hour(expires: u64) -> u64 {
    expires.div_ceil(HOUR)
}

/// The first hour in which there may be records; none if there are none.
pub(super) fn first(connection: &Connection, at_rest: &AtRest) -> Result<Option<u64>, StoreError> {
    let note = schema::note(connection, NOTE)?;
    let hour = note.map(|note| at_rest.open_note(NOTE, note)?.try_into().ok());
    match hour {
        None => Ok(None),
        Some(Some(hour)) => Ok(Some(u64::from_be_bytes(hour))),
        // Nobody else writes it; from the beginning would be right, and take days.
        Some(None) => Err(StoreError::Damaged),
    }
}

/// Notes it.
pub(super) fn set_first(
    connection: &Connection,
    at_rest: &AtRest,
    hour: u64,
) -> Result<(), StoreError> {
    let note = at_rest.seal_note(NOTE, hour.to_be_bytes().to_vec());
    schema::set_note(connection, NOTE, &note)
}

/// What a step has done.
pub(super) struct Step {
    pub(super) deleted: usize,
    /// The first hour in which there may be records now.
    pub(super) first: u64,
}

/// One step: from the hour `first` on, up to that of `now`.
pub(super) fn step(
    connection: &Connection,
    at_rest: &AtRest,
    mut first: u64,
    now: u64,
    limit: usize,
) -> Result<Step, StoreError> {
    let (mut queries, mut deleted, mut bytes) = (0, 0, 0);
    while first <= now / HOUR && queries < QUERIES {
        for &table in Table::ALL {
            queries += 1;
            let hour = at_rest.hour(table, first);
            for (id, key, size) in over(connection, table, hour, limit - deleted)? {
                connection
                    .prepare_cached(&schema::delete(table))?
                    .execute(params![id, key])?;
                deleted += 1;
                bytes += size;
                if bytes >= BYTES {
                    return Ok(Step { deleted, first });
                }
            }
            if deleted >= limit {
                return Ok(Step { deleted, first });
            }
        }
        first += 1;
    }
    Ok(Step { deleted, first })
}

/// Where a record stands, and the size of its value.
type Over = (Vec<u8>, Vec<u8>, usize);

fn over(
    connection: &Connection,
    table: Table,
    hour: [u8; 8],
    limit: usize,
) -> Result<Vec<Over>, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(&schema::over(table))?;
    let rows = statement.query_map(params![hour, limit], |row| {
        let size: i64 = row.get(2)?;
        Ok((row.get(0)?, row.get(1)?, usize::try_from(size).unwrap_or(0)))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
