//! Where the service keeps things (DESIGN, "Stores").
//!
//! A store is a few ordered tables of records. Every record belongs to a [`Partition`], which is a
//! log's, a mailbox's or a sealed KeyPackage's id, or a token's hash; a [`Change`] touches one partition only, so a
//! store may spread partitions over any number of nodes. Many changes can share one durable
//! transaction, which is how a store of one file becomes fast.
//!
//! Logic never writes: it hands out [`Change`]s whose preconditions say on what they rest.

mod at_rest;
mod at_rest_keys;
mod memory;
mod record;
mod sqlite;
mod sqlite_keys;
mod sqlite_schema;
mod sqlite_sweep;

use std::ops::ControlFlow;

use folkmoot_protocol::ids::{BlobId, LogId, MailboxId, PackageId};

pub use at_rest_keys::{AtRestKeys, BadKeys, KeyId};
pub use memory::{Crash, MemoryStore};
pub(crate) use record::{Record, VERSION as RECORD_VERSION, get, has, record, scan};
pub use sqlite::{SqliteStore, VisitAll};

/// Why a store could not do its work: its operator is to blame, or nobody. Carries no ids.
#[derive(Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// SQLite failed.
    #[error("the database failed: {0}")]
    Sqlite(#[source] rusqlite::Error),
    /// There is no room on the disk, or the database is as large as it may be. What is there is
    /// read on; what was to be written was not.
    #[error(
        "the database cannot grow: there is no room on its disk, or it is as large as it may be. \
         Nothing new is taken until there is room; nothing that was taken is lost"
    )]
    Full,
    /// The database is encrypted under a key that was not given.
    #[error("the database is encrypted under the key {0}, which was not given")]
    KeyMissing(KeyId),
    /// This program asked for a record at a key that the table cannot have.
    #[error("no record of table {} has such a key", .0.name())]
    Key(Table),
    /// A stored record is not what this program writes there.
    #[error("a record in table {} is damaged", .0.name())]
    Corrupt(Table),
    /// What the database notes about itself is not what this program writes there.
    #[error("the database's notes about itself are damaged")]
    Damaged,
    /// The file belongs to something else, or was made by a newer version of this program.
    #[error("the database has schema {found}, this program knows {known} only")]
    Schema {
        /// In the file.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// The transaction that this change was a part of failed.
    #[error("the transaction failed")]
    Uncommitted,
    /// The folder or bucket of blobs failed.
    #[error("the store of blobs failed: {0}")]
    Blobs(String),
    /// The store has crashed and was not restarted.
    #[error("the store is down")]
    Down,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::Full,
            _ => Self::Sqlite(error),
        }
    }
}

/// A part of a record's key inside its partition: what of it a database may show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPart {
    /// 32 bytes that name or hash something. A database holds a keyed hash of it.
    Id,
    /// Eight bytes, a number in big-endian: a count, never a time. A database holds it as it is, in
    /// its order.
    Number,
    /// All the rest of the key, of any length. A database holds a keyed hash of it, so it has no
    /// order there: a scan whose bounds differ here, or in an [`Id`](Self::Id), reads all records
    /// that agree in the parts before and sorts them. For keys with times, in small partitions.
    Hidden,
}

/// Declares the tables: name in a database, whether values may be larger than a small fraction of a
/// database page, and what the key inside a partition consists of ([`KeyPart`]). A store refuses
/// other keys.
macro_rules! tables {
    ($($(#[$meta:meta])* $table:ident = $name:literal, $layout:ident, [$($part:ident),*];)*) => {
        /// The tables. The order of keys inside a partition is the order of their bytes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Table {
            $($(#[$meta])* $table,)*
        }

        impl Table {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$table,)*];

            /// The name in a database.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$table => $name,)* }
            }

            /// Whether values may be larger than a small fraction of a database page.
            #[must_use]
            pub fn has_large_values(self) -> bool {
                match self { $(Self::$table => tables!(@large $layout),)* }
            }

            /// What a key inside a partition consists of.
            #[must_use]
            pub fn key(self) -> &'static [KeyPart] {
                match self { $(Self::$table => &[$(KeyPart::$part),*],)* }
            }
        }
    };
    (@large large) => { true };
    (@large small) => { false };
}

tables! {
    /// log, nothing: what opened it.
    Logs = "logs", small, [];
    /// log, branch: where the branch stands.
    Branches = "branches", small, [Id];
    /// log, branch and sequence: the entry.
    Entries = "entries", large, [Id, Number];
    /// log, append id: the position that the entry got, for receipts.
    Positions = "positions", small, [Id];
    /// log, branch and epoch: the epoch's fence key and start.
    Epochs = "epochs", small, [Id, Number];
    /// log, parent: how many commits beside the first follow it.
    Contests = "contests", small, [Id];
    /// log, parent and number: a commit beside the first one after the parent.
    Candidates = "candidates", small, [Id, Number];
    /// log, commit: the committer keys that it named.
    Committers = "committers", small, [Id];
    /// log, branch and epoch of the commit: a cut.
    Cuts = "cuts", small, [Id, Number];
    /// log, branch and sequence: a proposal of the current epoch.
    Proposals = "proposals", small, [Id, Number];
    /// log, address: one joiner's part of a Welcome.
    Pickups = "pickups", large, [Id];
    /// log, commit: the shared part of its Welcomes.
    SharedParts = "shared_parts", large, [Id];
    /// log, stage: what a large append goes up in, and which of it is there.
    Stages = "stages", small, [Id];
    /// log, stage and number: a chunk of a stage.
    Chunks = "chunks", large, [Id, Number];
    /// log, address: a tree page.
    Pages = "pages", large, [Id];
    /// mailbox, nothing: its owner and how full it is.
    Mailboxes = "mailboxes", small, [];
    /// mailbox, number: an envelope.
    Envelopes = "envelopes", large, [Number];
    /// mailbox, hash of the ticket: a drop ticket.
    Tickets = "tickets", small, [Id];
    /// mailbox, nothing: that it is a door, its standing ticket's hash, whether it is closed.
    Doors = "doors", small, [];
    /// mailbox, then lane, last resort, expiry, package: what is on the shelf, in the order in
    /// which it is handed out.
    Shelves = "shelves", small, [Hidden];
    /// mailbox, package: the sealed KeyPackage, or that it was taken.
    Packages = "packages", large, [Id];
    /// mailbox, hash of the request id: what a take got.
    Takes = "takes", large, [Id];
    /// package, nothing: the shelf that it belongs to.
    Claims = "claims", small, [];
    /// hash of a token's nonce, nothing: what the token was spent on.
    Spent = "spent", small, [];
    /// blob, nothing: what is known of it. Its bytes are elsewhere.
    Blobs = "blobs", small, [];
}

/// The id that a record belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub [u8; 32]);

/// Shows nothing: ids stay out of logs.
impl std::fmt::Debug for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Partition(..)")
    }
}

impl From<LogId> for Partition {
    fn from(log: LogId) -> Self {
        Self(log.0)
    }
}

impl From<MailboxId> for Partition {
    fn from(mailbox: MailboxId) -> Self {
        Self(mailbox.0)
    }
}

impl From<BlobId> for Partition {
    fn from(blob: BlobId) -> Self {
        Self(blob.0)
    }
}

impl From<PackageId> for Partition {
    fn from(package: PackageId) -> Self {
        Self(package.0)
    }
}

/// A record to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// The table.
    pub table: Table,
    /// The key inside the partition.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// Milliseconds since 1970 from which on the record may be deleted. A sweep deletes it then, or
    /// up to an hour later.
    pub expires: Option<u64>,
}

/// What must be so for a change to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Precondition {
    /// The table.
    pub table: Table,
    /// The key inside the partition.
    pub key: Vec<u8>,
    /// The value there; `None`: there is none.
    pub value: Option<Vec<u8>>,
}

/// A change of one partition: all of it or, if a precondition does not hold, nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it changes.
    pub partition: Partition,
    /// What it rests on.
    pub requires: Vec<Precondition>,
    /// Records to delete, before those to put.
    pub deletes: Vec<(Table, Vec<u8>)>,
    /// Records to put, new or in the place of others.
    pub puts: Vec<Put>,
}

/// What a scan calls for each record, with key and value. It says when it has enough.
pub type Visit<'a> = dyn FnMut(&[u8], Vec<u8>) -> ControlFlow<()> + 'a;

/// A consistent view of the records.
pub trait View {
    /// The value at a key.
    ///
    /// # Errors
    /// [`StoreError`].
    fn get(
        &self,
        table: Table,
        partition: Partition,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, StoreError>;

    /// Whether there is a value at a key. The value is not read.
    ///
    /// # Errors
    /// [`StoreError`].
    fn has(&self, table: Table, partition: Partition, key: &[u8]) -> Result<bool, StoreError>;

    /// Visits the records from the key `from` through the key `through`, in order.
    ///
    /// # Errors
    /// [`StoreError`].
    fn scan(
        &self,
        table: Table,
        partition: Partition,
        from: &[u8],
        through: &[u8],
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError>;
}

/// A view that can be written, by one caller at a time.
pub trait Transaction: View {
    /// Makes a change; `false`, and nothing is changed, if a precondition does not hold.
    ///
    /// # Errors
    /// [`StoreError`]; then the whole transaction is lost.
    fn apply(&mut self, change: &Change) -> Result<bool, StoreError>;
}

/// A store. All backends pass one conformance suite.
pub trait Store: Send + Sync + 'static {
    /// Reads what is durable, as it is at one moment.
    ///
    /// # Errors
    /// [`StoreError`], also what `work` returns.
    fn read<T>(
        &self,
        work: impl FnOnce(&dyn View) -> Result<T, StoreError>,
    ) -> Result<T, StoreError>;

    /// Runs `work` while nobody else writes, and returns when all of its changes are durable. If
    /// it fails, none of them was made.
    ///
    /// # Errors
    /// [`StoreError`], also what `work` returns.
    fn write<T>(
        &self,
        work: impl FnOnce(&mut dyn Transaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError>;

    /// Deletes at most `limit` records whose time is over, what is over longest first (by the
    /// hour), and returns how many; none when all are gone. Writers wait for one step only.
    ///
    /// # Errors
    /// [`StoreError`].
    fn sweep(&self, now: u64, limit: usize) -> Result<usize, StoreError>;

    /// Encrypts with the first of these keys from now on. What other keys have encrypted is read
    /// with them until [`reencrypt`](Self::reencrypt) is through with it. A store that keeps
    /// nothing at rest ignores it.
    ///
    /// # Errors
    /// [`StoreError::KeyMissing`] if there is something that none of these keys decrypts; then
    /// nothing has changed. Others as for all.
    fn rekey(&self, _keys: &AtRestKeys) -> Result<(), StoreError> {
        Ok(())
    }

    /// Looks at up to `limit` records, and encrypts with the first key those that another one has
    /// encrypted. Returns at how many it has looked; none when all are done and the other keys are
    /// no longer needed. It goes on where it was after a restart.
    ///
    /// # Errors
    /// [`StoreError`].
    fn reencrypt(&self, _limit: usize) -> Result<usize, StoreError> {
        Ok(0)
    }
}

/// A store that is shared.
impl<S: Store> Store for std::sync::Arc<S> {
    fn read<T>(
        &self,
        work: impl FnOnce(&dyn View) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.as_ref().read(work)
    }

    fn write<T>(
        &self,
        work: impl FnOnce(&mut dyn Transaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.as_ref().write(work)
    }

    fn sweep(&self, now: u64, limit: usize) -> Result<usize, StoreError> {
        self.as_ref().sweep(now, limit)
    }

    fn rekey(&self, keys: &AtRestKeys) -> Result<(), StoreError> {
        self.as_ref().rekey(keys)
    }

    fn reencrypt(&self, limit: usize) -> Result<usize, StoreError> {
        self.as_ref().reencrypt(limit)
    }
}
