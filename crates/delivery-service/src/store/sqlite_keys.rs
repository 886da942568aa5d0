//! The keys of a SQLite file: which it needs, and how a new one takes over.
//!
//! The file holds its index key under each key that may have encrypted something in it. A key that
//! is given anew is added there before it encrypts anything. The pass that encrypts anew goes through
//! the tables in steps, each a transaction that also notes where it was; when it is through, the
//! other keys are taken out, and the file no longer needs them.

use rusqlite::{Connection, params};

use super::at_rest::{AtRest, written_by};
use super::{AtRestKeys, KeyId, StoreError, Table, sqlite_schema as schema};

/// Where the pass is.
const PASS: &str = "pass";
/// What the names of the keys begin with.
const KEY: &str = "key ";
/// Bytes of values after which a step ends.
const STEP: usize = 4 << 20;

/// Opens the file's keys; makes them for a new file.
///
/// # Errors
/// [`StoreError::KeyMissing`] if one that the file needs is not among those given.
pub(super) fn open(connection: &Connection, keys: &AtRestKeys) -> Result<AtRest, StoreError> {
    let needed = needed(connection)?;
    let Some(first) = needed.first() else {
        let at_rest = AtRest::create(keys);
        add(connection, &at_rest)?;
        note_done(connection, &at_rest)?;
        return Ok(at_rest);
    };
    let mut given = keys.ids();
    let known = needed.iter().find(|id| given.any(|given| given == **id));
    let known = *known.ok_or(StoreError::KeyMissing(*first))?;
    let wrapped = schema::note(connection, &name(known))?.unwrap_or_default();
    let at_rest = AtRest::unwrap(keys, known, &wrapped).ok_or(StoreError::KeyMissing(known))?;
    change(connection, &at_rest)?;
    Ok(at_rest)
}

/// Lets the file be encrypted with these keys from now on.
///
/// # Errors
/// [`StoreError::KeyMissing`] if one that the file needs is not among them.
pub(super) fn change(connection: &Connection, at_rest: &AtRest) -> Result<(), StoreError> {
    let needed = needed(connection)?;
    if let Some(missing) = needed.iter().find(|id| !at_rest.has(**id)) {
        return Err(StoreError::KeyMissing(*missing));
    }
    if !needed.contains(&at_rest.writing()) {
        add(connection, at_rest)?;
    }
    Ok(())
}

/// The keys that may have encrypted something in the file.
fn needed(connection: &Connection) -> Result<Vec<KeyId>, StoreError> {
    let names = schema::notes(connection)?;
    let ids = names.iter().filter_map(|name| name.strip_prefix(KEY));
    Ok(ids.filter_map(KeyId::read).collect())
}

fn add(connection: &Connection, at_rest: &AtRest) -> Result<(), StoreError> {
    schema::set_note(connection, &name(at_rest.writing()), &at_rest.wrapped())
}

fn name(id: KeyId) -> String {
    format!("{KEY}{id}")
}

/// Where the pass stands: after this record of this table.
#[derive(Default)]
struct Pass {
    table: usize,
    id: Vec<u8>,
    key: Vec<u8>,
}

/// One step of the pass. Returns at how many records it has looked; none when it is through.
pub(super) fn reencrypt(
    connection: &Connection,
    at_rest: &AtRest,
    limit: usize,
) -> Result<usize, StoreError> {
    let Some(mut pass) = read(connection, at_rest)? else {
        return Ok(0);
    };
    let mut looked = 0;
    let mut size = 0;
    while let Some(&table) = Table::ALL.get(pass.table) {
        let records = next(connection, table, &pass, limit - looked)?;
        if records.is_empty() {
            pass = Pass {
                table: pass.table + 1,
                ..Pass::default()
            };
            continue;
        }
        for (id, key, stored) in records {
            looked += 1;
            size += stored.len();
            if written_by(&stored) != Some(at_rest.writing()) {
                let opened = at_rest.open(table, &id, &key, stored)?;
                let place = at_rest.place(table, opened.partition, &opened.key)?;
                let (partition, value) = (opened.partition, &opened.value);
                let stored = at_rest.seal(table, &place, partition, &opened.key, value)?;
                connection
                    .prepare_cached(&schema::replace(table))?
                    .execute(params![id, key, stored])?;
            }
            (pass.id, pass.key) = (id, key);
            if size >= STEP {
                break;
            }
        }
        if looked >= limit || size >= STEP {
            write(connection, at_rest, &pass)?;
            return Ok(looked);
        }
    }
    // Nothing is left that another key has encrypted, and nothing new can be.
    for id in needed(connection)? {
        if id != at_rest.writing() {
            schema::remove_note(connection, &name(id))?;
        }
    }
    note_done(connection, at_rest)?;
    Ok(looked)
}

type Row = (Vec<u8>, Vec<u8>, Vec<u8>);

/// The records after where the pass is.
fn next(
    connection: &Connection,
    table: Table,
    pass: &Pass,
    limit: usize,
) -> Result<Vec<Row>, StoreError> {
    // Large values come one by one, so that a step holds few of them.
    let limit = if table.has_large_values() { 1 } else { limit };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(&schema::after(table))?;
    let rows = statement.query_map(params![pass.id, pass.key, limit], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// A pass for the key that encrypts now: where it is, from the beginning if it has not begun;
/// `None` if it is through.
fn read(connection: &Connection, at_rest: &AtRest) -> Result<Option<Pass>, StoreError> {
    let note = schema::note(connection, PASS)?.unwrap_or_default();
    let Some(rest) = note.strip_prefix(&at_rest.writing().0[..]) else {
        return Ok(Some(Pass::default()));
    };
    if rest.is_empty() {
        return Ok(None);
    }
    // The table by its name: their order may change from version to version.
    let read = || {
        let (length, rest) = rest.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(*length))?;
        let (id, key) = rest.split_at_checked(16)?;
        let table = Table::ALL
            .iter()
            .position(|table| table.name().as_bytes() == name)?;
        let (id, key) = (id.to_vec(), key.to_vec());
        Some(Pass { table, id, key })
    };
    Ok(Some(read().unwrap_or_default()))
}

fn write(connection: &Connection, at_rest: &AtRest, pass: &Pass) -> Result<(), StoreError> {
    let name = Table::ALL.get(pass.table).map_or("", |table| table.name());
    let mut note = at_rest.writing().0.to_vec();
    note.push(name.len() as u8);
    note.extend_from_slice(name.as_bytes());
    note.extend_from_slice(&pass.id);
    note.extend_from_slice(&pass.key);
    schema::set_note(connection, PASS, &note)
}

fn note_done(connection: &Connection, at_rest: &AtRest) -> Result<(), StoreError> {
    schema::set_note(connection, PASS, &at_rest.writing().0)
}
