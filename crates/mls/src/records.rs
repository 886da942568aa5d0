//! What a client stores: records by key, and the changes that an operation makes to them.
//!
//! The engine writes nothing itself. Each operation hands out [`Changes`]; the client applies them in
//! the transaction that also stores what the operation was about. Every record begins with a version.

use std::collections::BTreeSet;

use zeroize::Zeroizing;

use crate::codec::{Bytes, Decode, DecodeError, Encode, Reader, encode_bytes, encode_prefixed};
use crate::error::Error;

/// What a record is. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RecordKind {
    /// The group's state of the current epoch.
    Group = 1,
    /// A chunk of the ratchet tree.
    TreeChunk = 2,
    /// Private keys of nodes.
    PrivateKeys = 3,
    /// A proposal that was not committed yet.
    Proposal = 4,
    /// Where pages of the tree are, and what opens them.
    TreePages = 6,
    /// What the message keys of an epoch have in common.
    MessageKeys = 16,
    /// A node of an epoch's secret tree.
    SecretTreeNode = 17,
    /// A sender's ratchet in an epoch.
    Ratchet = 18,
    /// What is left of an epoch's exporter tree.
    Exporter = 19,
}

/// Names a record within one group: its kind, then numbers. The client puts the group in front.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey(Bytes);

impl RecordKey {
    /// A key from its kind and the encoding of what tells it from others of the kind.
    #[must_use]
    pub fn new(kind: RecordKind, rest: &impl Encode) -> Self {
        let mut bytes = Vec::with_capacity(16);
        bytes.push(kind as u8);
        rest.encode(&mut bytes);
        Self(bytes.into())
    }

    /// The key's bytes, at most 64.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for RecordKey {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Encode for RecordKey {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

impl Decode for RecordKey {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Bytes::decode(reader).map(Self)
    }
}

/// Records as the client stored them. The store has to keep them secret and unchanged: they hold keys, and
/// the hashes of chunks of the tree are taken from them as they are.
pub trait Records {
    /// The value under this key. A client's storage error is the client's to keep and report; here it
    /// is a missing record.
    fn get(&self, key: &RecordKey) -> Option<Zeroizing<Vec<u8>>>;

    /// Passes all records of a kind to `visit`, by the bytes of their keys, in any order. A large group
    /// has thousands of one kind, which most stores read faster at once than one by one. One that does
    /// not do this, or fails half-way, answers false: then they are asked for by [`get`](Self::get).
    fn each(&self, kind: RecordKind, visit: &mut dyn FnMut(&[u8], &[u8])) -> bool {
        let _ = (kind, visit);
        false
    }
}

/// A record is missing or cannot be read: our own storage is damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored record {0:?} is missing or damaged")]
pub struct DamagedRecord(pub RecordKey);

/// A record was written by a version of this crate with another layout.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored record {key:?} is of version {version}, which cannot be read")]
pub struct RecordVersion {
    /// Which record.
    pub key: RecordKey,
    /// Its version.
    pub version: u8,
}

/// The version of the layout of all records but the tree's.
const VERSION: u8 = 3;

/// A record: the version and the structure. It is written into one allocation of `capacity` bytes and
/// must fit, so that no copy of a secret is left behind by growing.
pub(crate) fn versioned(value: &impl Encode, capacity: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(capacity);
    VERSION.encode(&mut out);
    value.encode(&mut out);
    debug_assert!(out.len() <= capacity, "{} of {capacity} bytes", out.len());
    out
}

/// Reads what [`versioned`] wrote, if it is there.
pub(crate) fn find<T: Decode>(records: &dyn Records, key: &RecordKey) -> Result<Option<T>, Error> {
    let Some(bytes) = records.get(key) else {
        return Ok(None);
    };
    match bytes.split_first() {
        Some((&VERSION, value)) => match T::from_bytes(value) {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(DamagedRecord(key.clone()).into()),
        },
        Some((&version, _)) => Err(RecordVersion {
            key: key.clone(),
            version,
        }
        .into()),
        None => Err(DamagedRecord(key.clone()).into()),
    }
}

/// The same for a record that has to be there.
pub(crate) fn load<T: Decode>(records: &dyn Records, key: RecordKey) -> Result<T, Error> {
    match find(records, &key)? {
        Some(value) => Ok(value),
        None => Err(DamagedRecord(key).into()),
    }
}

/// What an operation changes in the stored records. Deletions come first, then the puts.
#[derive(Clone, Default, PartialEq)]
pub struct Changes {
    /// Records to write, replacing what was there.
    pub put: Vec<(RecordKey, Zeroizing<Vec<u8>>)>,
    /// Records to delete. Secrets are among them: the store has to forget them for good.
    pub delete: Vec<RecordKey>,
}

impl Changes {
    /// The version of the encoding.
    const VERSION: u8 = 1;

    /// Adds a record to write.
    pub fn put(&mut self, key: RecordKey, value: Vec<u8>) {
        self.put.push((key, Zeroizing::new(value)));
    }

    /// Adds a record to delete.
    pub fn delete(&mut self, key: RecordKey) {
        self.delete.push(key);
    }

    /// Puts the changes of a later operation behind these.
    pub fn append(&mut self, later: Self) {
        let put = later.put.iter().map(|(key, _)| key);
        let changed: BTreeSet<_> = later.delete.iter().chain(put).collect();
        self.put.retain(|(key, _)| !changed.contains(key));
        self.delete.extend(later.delete);
        self.put.extend(later.put);
    }

    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.put.is_empty() && self.delete.is_empty()
    }
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let put: Vec<_> = self
            .put
            .iter()
            .map(|(key, value)| (key, value.len()))
            .collect();
        f.debug_struct("Changes")
            .field("put", &put)
            .field("delete", &self.delete)
            .finish()
    }
}

/// For a client's attempts, which are stored until they are merged or dropped.
impl Encode for Changes {
    fn encode(&self, out: &mut Vec<u8>) {
        Self::VERSION.encode(out);
        encode_prefixed(out, |out| {
            for (key, value) in &self.put {
                key.encode(out);
                encode_bytes(value, out);
            }
        });
        self.delete.encode(out);
    }
}

impl Decode for Changes {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if u8::decode(reader)? != Self::VERSION {
            return Err(DecodeError::InvalidValue("version of Changes"));
        }
        let mut body = Reader::new(reader.prefixed()?);
        let mut put = Vec::new();
        while !body.is_empty() {
            put.push((
                RecordKey::decode(&mut body)?,
                Zeroizing::new(body.prefixed()?.to_vec()),
            ));
        }
        Ok(Self {
            put,
            delete: Vec::decode(reader)?,
        })
    }
}

/// Records in memory, for tests and for groups that are not stored.
#[derive(Clone, Default)]
pub struct MemoryRecords(std::collections::BTreeMap<RecordKey, Zeroizing<Vec<u8>>>);

impl MemoryRecords {
    /// Applies the changes of one operation.
    pub fn apply(&mut self, changes: &Changes) {
        for key in &changes.delete {
            self.0.remove(key);
        }
        for (key, value) in &changes.put {
            self.0.insert(key.clone(), value.clone());
        }
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All records, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&RecordKey, &[u8])> {
        self.0.iter().map(|(key, value)| (key, value.as_slice()))
    }
}

/// Secrets are among the values, so only their lengths are shown.
impl std::fmt::Debug for MemoryRecords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lengths = self.0.iter().map(|(key, value)| (key, value.len()));
        f.debug_map().entries(lengths).finish()
    }
}

impl Records for MemoryRecords {
    fn get(&self, key: &RecordKey) -> Option<Zeroizing<Vec<u8>>> {
        self.0.get(key).cloned()
    }

    fn each(&self, kind: RecordKind, visit: &mut dyn FnMut(&[u8], &[u8])) -> bool {
        let records = self.0.iter().map(|(key, value)| (key.as_slice(), value));
        records
            .filter(|(key, _)| key.first() == Some(&(kind as u8)))
            .for_each(|(key, value)| visit(key, value));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> RecordKey {
        RecordKey::new(RecordKind::Ratchet, &number)
    }

    #[test]
    fn values_are_not_shown() {
        let mut changes = Changes::default();
        changes.put(key(1), vec![231; 3]);
        let mut records = MemoryRecords::default();
        records.apply(&changes);
        for shown in [format!("{changes:?}"), format!("{records:?}")] {
            assert!(!shown.contains("231"), "{shown}");
        }
    }

    #[test]
    fn later_changes_win() {
        let mut changes = Changes::default();
        changes.put(key(1), vec![1]);
        changes.put(key(2), vec![2]);
        let mut later = Changes::default();
        later.delete(key(1));
        later.put(key(2), vec![3]);
        changes.append(later);
        let mut records = MemoryRecords::default();
        records.apply(&changes);
        assert_eq!(records.len(), 1);
        assert_eq!(records.get(&key(2)).unwrap().as_slice(), [3]);
        assert_eq!(Changes::from_bytes(&changes.to_bytes()), Ok(changes));
    }
}
