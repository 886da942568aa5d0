//! The one place through which everything that a database holds passes, in both directions.
//!
//! A copied database alone tells sizes and counts. So a record's value is encrypted, and with it
//! the partition and the key at which it stands; what the database needs to find a record is a keyed
//! hash of them, but for numbers inside keys, which keep their order ([`KeyPart`]). The time at
//! which a record may be deleted is an hour, and of that again a keyed hash: a sweep asks for one
//! hour after the other.
//!
//! Two kinds of keys. [`AtRestKeys`] are given from outside; the first of them writes, all of them
//! read, so that a new one takes over while the service runs ([`Store::rekey`](super::Store::rekey)).
//! The *index key*, under which places are hashed, is made with the database and stays: a database
//! holds it encrypted under each of the others.
//!
//! Values: XChaCha20-Poly1305 with random nonces, which 192 bits make safe for any number of
//! records. Hashes: HMAC-SHA-256, cut to 16 bytes (8 for hours).

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::at_rest_keys::{AtRestKeys, KEY, KeyId, Master, Prf};
use super::{KeyPart, Partition, StoreError, Table};

/// Of the form in which values are stored.
const VERSION: u8 = 1;
const NONCE: usize = 24;
const TAG: usize = 16;
/// Bytes behind what is encrypted: tag, nonce, and in clear key id and version.
const TRAILER: usize = TAG + NONCE + CLEAR;
const CLEAR: usize = KeyId::SIZE + 1;
/// Bytes of a hashed id.
const HASHED: usize = 16;
/// After all stored keys with the same beginning.
const BEYOND: [u8; 96] = [0xff; 96];

/// Milliseconds: the steps in which a store knows when records are over.
pub(crate) const HOUR: u64 = 60 * 60 * 1000;

/// Where a record stands in a database.
pub(crate) struct Place {
    pub(crate) id: [u8; HASHED],
    pub(crate) key: Vec<u8>,
}

/// The stored keys among which those of a scan are, and perhaps others.
pub(crate) struct Span {
    pub(crate) id: [u8; HASHED],
    pub(crate) from: Vec<u8>,
    pub(crate) through: Vec<u8>,
    /// Whether they stand in the order of the keys that they stand for.
    pub(crate) in_order: bool,
}

/// A record as it was before it was stored.
pub(crate) struct Opened {
    pub(crate) partition: Partition,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

/// The keys of a database, in use.
pub(crate) struct AtRest {
    index_key: Zeroizing<[u8; KEY]>,
    index: Prf,
    /// For what a store notes about itself.
    notes: XChaCha20Poly1305,
    /// The first one encrypts.
    masters: Vec<Master>,
}

impl AtRest {
    /// A new database's.
    pub(crate) fn create(keys: &AtRestKeys) -> Self {
        let mut index_key = Zeroizing::new([0; KEY]);
        rand::fill(index_key.as_mut());
        Self::of(keys, index_key)
    }

    /// That of a database which holds its index key as `wrapped` under `id`; `None` if that key is
    /// not among those given, or did not encrypt this.
    pub(crate) fn unwrap(keys: &AtRestKeys, id: KeyId, wrapped: &[u8]) -> Option<Self> {
        let master = keys.masters().find(|master| master.id == id)?;
        let mut index_key = Zeroizing::new(wrapped.to_vec());
        let size = decrypt(&master.wrapping, &id.0, &mut index_key)?;
        let index_key: [u8; KEY] = index_key[..size].try_into().ok()?;
        Some(Self::of(keys, index_key.into()))
    }

    /// The same database with other keys from outside.
    pub(crate) fn with_keys(&self, keys: &AtRestKeys) -> Self {
        Self::of(keys, self.index_key.clone())
    }

    fn of(keys: &AtRestKeys, index_key: Zeroizing<[u8; KEY]>) -> Self {
        let index = Prf::new(&index_key);
        let notes = Zeroizing::new(index.hash(&[b"notes"]));
        Self {
            notes: XChaCha20Poly1305::new((&*notes).into()),
            index,
            index_key,
            masters: keys.masters().collect(),
        }
    }

    /// The id of the key that encrypts.
    pub(crate) fn writing(&self) -> KeyId {
        self.masters[0].id
    }

    /// Whether the key with this id is there.
    pub(crate) fn has(&self, id: KeyId) -> bool {
        self.masters.iter().any(|master| master.id == id)
    }

    /// What a database keeps to be opened with the key that encrypts: [`unwrap`](Self::unwrap).
    pub(crate) fn wrapped(&self) -> Vec<u8> {
        let master = &self.masters[0];
        let mut wrapped = self.index_key.to_vec();
        encrypt(&master.wrapping, &master.id.0, &mut wrapped);
        wrapped
    }

    /// What a store notes about itself, encrypted.
    pub(crate) fn seal_note(&self, name: &str, mut note: Vec<u8>) -> Vec<u8> {
        encrypt(&self.notes, name.as_bytes(), &mut note);
        note
    }

    /// What it has noted; `None` if it is damaged.
    pub(crate) fn open_note(&self, name: &str, mut stored: Vec<u8>) -> Option<Vec<u8>> {
        let size = decrypt(&self.notes, name.as_bytes(), &mut stored)?;
        stored.truncate(size);
        Some(stored)
    }

    /// Where a record stands.
    ///
    /// # Errors
    /// [`StoreError::Key`] if the table has no such keys.
    pub(crate) fn place(
        &self,
        table: Table,
        partition: Partition,
        key: &[u8],
    ) -> Result<Place, StoreError> {
        let mut stored = Vec::with_capacity(key.len());
        let mut rest = key;
        for (at, part) in table.key().iter().enumerate() {
            let (this, others) = split(*part, rest).ok_or(StoreError::Key(table))?;
            self.push(table, partition, at, this, &mut stored);
            rest = others;
        }
        if !rest.is_empty() {
            return Err(StoreError::Key(table));
        }
        Ok(Place {
            id: self.id(partition),
            key: stored,
        })
    }

    /// Where the records from key to key stand. The bounds need not be keys.
    pub(crate) fn span(
        &self,
        table: Table,
        partition: Partition,
        from: &[u8],
        through: &[u8],
    ) -> Span {
        let mut span = Span {
            id: self.id(partition),
            from: Vec::new(),
            through: Vec::new(),
            in_order: true,
        };
        let (mut low, mut high) = (from, through);
        for (at, part) in table.key().iter().enumerate() {
            let (lows, highs) = (split(*part, low), split(*part, high));
            match (lows, highs) {
                (Some((a, rest_low)), Some((b, rest_high))) if a == b => {
                    self.push(table, partition, at, a, &mut span.from);
                    (low, high) = (rest_low, rest_high);
                }
                (lows, highs) => {
                    span.through = span.from.clone();
                    if *part == KeyPart::Number {
                        span.from.extend(lows.iter().flat_map(|(low, _)| *low));
                        span.through
                            .extend(highs.iter().flat_map(|(high, _)| *high));
                    }
                    span.through.extend(BEYOND);
                    let ordered = |part: &KeyPart| *part == KeyPart::Number;
                    span.in_order = table.key()[at..].iter().all(ordered);
                    return span;
                }
            }
        }
        span.through = span.from.clone();
        span
    }

    /// What stands for the hour, since 1970, from which on a record may be deleted.
    pub(crate) fn hour(&self, table: Table, hour: u64) -> [u8; 8] {
        let hash = self
            .index
            .hash(&[b"hour", &tag(table), &hour.to_be_bytes()]);
        let mut cut = [0; 8];
        cut.copy_from_slice(&hash[..8]);
        cut
    }

    /// What is stored for a value.
    ///
    /// # Errors
    /// [`StoreError::Key`] for a key of more than 64 KiB.
    pub(crate) fn seal(
        &self,
        table: Table,
        place: &Place,
        partition: Partition,
        key: &[u8],
        value: &[u8],
    ) -> Result<Vec<u8>, StoreError> {
        let length = u16::try_from(key.len()).map_err(|_| StoreError::Key(table))?;
        let master = &self.masters[0];
        let size = value.len() + key.len() + 34 + TRAILER;
        let mut stored = Vec::with_capacity(size);
        stored.extend_from_slice(value);
        stored.extend_from_slice(&partition.0);
        stored.extend_from_slice(key);
        stored.extend_from_slice(&length.to_be_bytes());
        let associated = associated(table, &place.id, &place.key, master.id);
        encrypt(&master.values, &associated, &mut stored);
        stored.extend_from_slice(&master.id.0);
        stored.push(VERSION);
        Ok(stored)
    }

    /// The record that is stored at a place.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if it was written by nobody who has the keys, or for another place;
    /// [`StoreError::KeyMissing`].
    pub(crate) fn open(
        &self,
        table: Table,
        id: &[u8],
        key: &[u8],
        mut stored: Vec<u8>,
    ) -> Result<Opened, StoreError> {
        const CORRUPT: fn(Table) -> StoreError = StoreError::Corrupt;
        let by = written_by(&stored).ok_or(CORRUPT(table))?;
        let known = self.masters.iter().find(|master| master.id == by);
        let master = known.ok_or(StoreError::KeyMissing(by))?;
        stored.truncate(stored.len() - CLEAR);
        let associated = associated(table, id, key, by);
        let size = decrypt(&master.values, &associated, &mut stored).ok_or(CORRUPT(table))?;
        stored.truncate(size);
        // Whoever has the keys writes nothing else; nothing is taken for granted all the same.
        let place = (|| {
            let (rest, length) = stored.split_last_chunk()?;
            let (rest, key) =
                rest.split_at_checked(rest.len().checked_sub(u16::from_be_bytes(*length).into())?)?;
            let (value, partition) = rest.split_last_chunk()?;
            Some((Partition(*partition), key.to_vec(), value.len()))
        })();
        let (partition, key, size) = place.ok_or(CORRUPT(table))?;
        stored.truncate(size);
        Ok(Opened {
            partition,
            key,
            value: stored,
        })
    }

    fn id(&self, partition: Partition) -> [u8; HASHED] {
        cut(&self.index.hash(&[b"partition", &partition.0]))
    }

    /// A part of a key, as it is stored.
    fn push(&self, table: Table, partition: Partition, at: usize, part: &[u8], out: &mut Vec<u8>) {
        if table.key()[at] == KeyPart::Number {
            out.extend_from_slice(part);
        } else {
            let at = u8::try_from(at).unwrap_or(u8::MAX);
            let hash = self
                .index
                .hash(&[b"key", &tag(table), &partition.0, &[at], part]);
            out.extend_from_slice(&cut(&hash));
        }
    }
}

/// The key that encrypted what is stored; `None` if it is nothing that we store.
pub(crate) fn written_by(stored: &[u8]) -> Option<KeyId> {
    let (VERSION, rest) = stored.split_last().map(|(last, rest)| (*last, rest))? else {
        return None;
    };
    rest.split_last_chunk().map(|(_, id)| KeyId(*id))
}

/// A part of a key, and what follows.
fn split(part: KeyPart, key: &[u8]) -> Option<(&[u8], &[u8])> {
    match part {
        KeyPart::Id => key.split_at_checked(32),
        KeyPart::Number => key.split_at_checked(8),
        KeyPart::Hidden => Some((key, &[])),
    }
}

/// A table's name behind its length: what follows is told apart from it.
fn tag(table: Table) -> Vec<u8> {
    let name = table.name().as_bytes();
    [&[name.len() as u8][..], name].concat()
}

/// What a value is bound to, beside its key.
fn associated(table: Table, id: &[u8], key: &[u8], by: KeyId) -> Vec<u8> {
    [&[VERSION], &by.0[..], &tag(table), id, key].concat()
}

fn cut(hash: &[u8; 32]) -> [u8; HASHED] {
    let mut cut = [0; HASHED];
    cut.copy_from_slice(&hash[..HASHED]);
    cut
}

/// Encrypts in place, and puts tag and nonce behind.
fn encrypt(cipher: &XChaCha20Poly1305, associated: &[u8], bytes: &mut Vec<u8>) {
    let mut nonce = [0; NONCE];
    rand::fill(&mut nonce);
    let tag = cipher
        .encrypt_inout_detached(
            &XNonce::from(nonce),
            associated,
            bytes.as_mut_slice().into(),
        )
        .expect("no record has 256 GiB");
    bytes.extend_from_slice(&tag);
    bytes.extend_from_slice(&nonce);
}

/// Decrypts in place; how many bytes there are, or `None` if nobody with the key encrypted this.
fn decrypt(cipher: &XChaCha20Poly1305, associated: &[u8], bytes: &mut [u8]) -> Option<usize> {
    let (rest, nonce) = bytes.split_last_chunk_mut::<NONCE>()?;
    let (text, tag) = rest.split_last_chunk_mut::<TAG>()?;
    let (nonce, tag, size) = (XNonce::from(*nonce), Tag::from(*tag), text.len());
    cipher
        .decrypt_inout_detached(&nonce, associated, text.into(), &tag)
        .ok()?;
    Some(size)
}
