//! Where accounts are kept. All backends pass one conformance suite.

mod memory;
mod sqlite;

use folkmoot_credential::Name;

pub use memory::MemoryStore;
pub use sqlite::SqliteStore;

/// Why a store failed: its operator, or the machine, is to blame. Carries no names.
#[derive(Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// SQLite failed.
    #[error("the database failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// An account is not what this program writes.
    #[error("an account in the database is damaged")]
    Damaged,
    /// The file was made by a newer version of this program, or is another program's.
    #[error("the database has schema {found}, this program knows {known}")]
    Schema {
        /// In the file.
        found: i64,
        /// The one that this program knows.
        known: i64,
    },
    /// The file is the database of another program.
    #[error("the file is not a folkmoot authentication database")]
    Foreign,
}

/// An account as a store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// How often it was saved.
    pub revision: u64,
    /// What was saved last.
    pub value: Vec<u8>,
}

/// Accounts by name.
pub trait Store: Send + Sync + 'static {
    /// The account of a name, if there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    fn load(&self, name: &Name) -> Result<Option<Stored>, StoreError>;

    /// Saves an account whose revision is `known` (`None`: there is no account yet), which gives it
    /// the next one. Returns when that is durable; `false`, and nothing was changed, if the revision
    /// is another.
    ///
    /// # Errors
    /// [`StoreError`]; then whether it was saved is not known.
    fn save(&self, name: &Name, known: Option<u64>, value: Vec<u8>) -> Result<bool, StoreError>;
}

/// The one place through which every stored value passes. Accounts are no ciphertext: they are to be
/// encrypted under a key that is not in the database, and that belongs here.
mod at_rest {
    use folkmoot_credential::Name;

    pub(super) fn seal(_name: &Name, value: Vec<u8>) -> Vec<u8> {
        value
    }

    pub(super) fn open(_name: &Name, stored: Vec<u8>) -> Vec<u8> {
        stored
    }
}
