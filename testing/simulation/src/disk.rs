//! What a device keeps: in memory, which can forget what was not synced, or in the file that is
//! shipped. And a tap on what is written to it.

use std::convert::Infallible;
use std::path::PathBuf;

use folkmoot_client::key::StoreKey;
use folkmoot_client::store::{MemoryStore, Row, Sqlite, Store, StoreError, Table, Transaction};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, TryCryptoRng, TryRng};
use zeroize::Zeroizing;

/// A device's store.
#[derive(Debug)]
pub enum Disk {
    /// In memory.
    Memory(MemoryStore),
    /// An encrypted file.
    File(File),
}

/// An encrypted file, which can be opened again.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    key: [u8; 32],
    opened: fn(&mut Sqlite),
    store: Sqlite,
}

impl Disk {
    /// Rows in memory, which are synced by hand.
    #[must_use]
    pub fn memory() -> Self {
        let mut store = MemoryStore::default();
        store.sync_by_hand();
        Self::Memory(store)
    }

    /// The file at a path, encrypted with a key. `opened` is done to it whenever it is opened.
    ///
    /// # Errors
    /// As [`Sqlite::open`].
    pub fn file(path: PathBuf, key: [u8; 32], opened: fn(&mut Sqlite)) -> Result<Self, StoreError> {
        let mut store = Sqlite::open(&path, &StoreKey::from_bytes(key.into()))?;
        opened(&mut store);
        Ok(Self::File(File {
            path,
            key,
            opened,
            store,
        }))
    }

    /// A copy, as a backup is; `None` of a file.
    #[must_use]
    pub fn copy(&self) -> Option<MemoryStore> {
        match self {
            Self::Memory(store) => Some(store.clone()),
            Self::File(_) => None,
        }
    }

    /// Makes everything committed so far durable. A file does so by itself.
    pub fn sync(&mut self) {
        if let Self::Memory(store) = self {
            store.sync();
        }
    }

    /// The process is gone, and what was not synced. A file is opened by the next one while the last
    /// one's hold on it still stands, as after `kill -9`.
    ///
    /// # Panics
    /// If the file does not open.
    pub fn forget_unsynced(&mut self) {
        match self {
            Self::Memory(store) => store.forget_unsynced(),
            Self::File(file) => {
                let key = StoreKey::from_bytes(file.key.into());
                let mut store = Sqlite::open(&file.path, &key).expect("it was open before");
                (file.opened)(&mut store);
                file.store = store;
            }
        }
    }

    /// See [`MemoryStore::split_transactions`].
    pub(crate) fn split_transactions(&mut self) {
        if let Self::Memory(store) = self {
            store.split_transactions();
        }
    }

    /// How many rows a table has.
    ///
    /// # Panics
    /// If the file cannot be read.
    #[must_use]
    pub fn count(&mut self, table: Table) -> usize {
        self.rows(table).expect("the store works").len()
    }

    /// All rows of a table.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn rows(&mut self, table: Table) -> Result<Vec<Row>, StoreError> {
        self.transaction(|tx| tx.scan(table, &[], None, usize::MAX))
    }
}

impl Store for Disk {
    fn transaction<R, E: From<StoreError>>(
        &mut self,
        body: impl FnOnce(&mut dyn Transaction) -> Result<R, E>,
    ) -> Result<R, E> {
        match self {
            Self::Memory(store) => store.transaction(body),
            Self::File(file) => file.store.transaction(body),
        }
    }
}

/// A row that was written.
#[derive(Clone, Debug)]
pub struct Written {
    /// Where.
    pub table: Table,
    /// Its key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Zeroizing<Vec<u8>>,
}

/// Sees what a device writes.
#[derive(Default)]
pub struct Tap {
    /// Rows of tables that hold secrets, in the order in which they were written.
    pub written: Vec<Written>,
    /// Which deletions do not reach the store: the device forgets to make them.
    pub forgotten: Option<fn(Table, &[u8]) -> bool>,
}

/// A transaction through a tap.
pub(crate) struct Tapped<'a> {
    pub tx: &'a mut dyn Transaction,
    pub tap: &'a mut Tap,
}

impl Transaction for Tapped<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        self.tx.get(table, key)
    }

    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        if table.holds_secrets() {
            let value = Zeroizing::new(value.to_vec());
            let key = key.to_vec();
            self.tap.written.push(Written { table, key, value });
        }
        self.tx.put(table, key, value)
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        match self.tap.forgotten {
            Some(forgotten) if forgotten(table, key) => Ok(()),
            _ => self.tx.delete(table, key),
        }
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.tx.scan(table, prefix, after, limit)
    }

    fn last(&self, table: Table, prefix: &[u8]) -> Result<Option<Row>, StoreError> {
        self.tx.last(table, prefix)
    }

    fn delete_prefix(&mut self, table: Table, prefix: &[u8]) -> Result<(), StoreError> {
        self.tx.delete_prefix(table, prefix)
    }
}

/// Randomness that is remembered.
pub(crate) struct Drawn<'a> {
    pub rng: &'a mut ChaCha20Rng,
    pub drawn: Option<&'a mut Vec<[u8; 32]>>,
}

impl TryRng for Drawn<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.rng.next_u32())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.rng.next_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.rng.fill_bytes(bytes);
        if let (Some(drawn), Ok(bytes)) = (&mut self.drawn, <[u8; 32]>::try_from(&*bytes)) {
            drawn.push(bytes);
        }
        Ok(())
    }
}

impl TryCryptoRng for Drawn<'_> {}
