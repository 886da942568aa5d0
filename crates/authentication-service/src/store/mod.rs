//! Where accounts and issuer keys are kept. All backends pass one conformance suite.

mod memory;
mod sqlite;

use folkmoot_credential::Name;

use crate::transparency::{LogStore, Pending};

pub use memory::MemoryStore;
pub use sqlite::SqliteStore;

/// Why a store failed: its operator, or the machine, is to blame. Carries no names.
#[derive(Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// SQLite failed.
    #[error("the database failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A record is not what this program writes.
    #[error("a record in the database is damaged")]
    Damaged,
    /// The transparency log's tree could not be read or written.
    #[error("the transparency log failed")]
    Log,
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

/// A record as a store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// How often it was saved.
    pub revision: u64,
    /// What was saved last.
    pub value: Vec<u8>,
}

/// What a record is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// An account.
    Account(&'a Name),
    /// Which of the names that look alike is taken, by their skeleton.
    Skeleton(&'a str),
    /// What an account has drawn of tokens.
    Allowance(&'a Name),
    /// The issuer keys, secret ones among them.
    Issuers,
    /// The secret key that says where in the transparency log a name is.
    VrfKey,
}

impl<'a> From<&'a Name> for Place<'a> {
    fn from(name: &'a Name) -> Self {
        Self::Account(name)
    }
}

impl Place<'_> {
    /// The tables.
    const TABLES: [&'static str; 5] =
        ["accounts", "skeletons", "allowances", "issuers", "vrf_keys"];

    /// The table and the key in it.
    fn key(&self) -> (&'static str, &str) {
        let [accounts, skeletons, allowances, issuers, vrf_keys] = Self::TABLES;
        match self {
            Self::Account(name) => (accounts, name.as_str()),
            Self::Skeleton(skeleton) => (skeletons, skeleton),
            Self::Allowance(name) => (allowances, name.as_str()),
            Self::Issuers => (issuers, ""),
            Self::VrfKey => (vrf_keys, ""),
        }
    }
}

/// Records by place.
pub trait Store: Send + Sync + 'static {
    /// The transparency log, kept beside the accounts.
    type Log: LogStore;

    /// The transparency log.
    fn log(&self) -> Self::Log;

    /// The record at a place, if there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    fn load<'a>(&self, place: impl Into<Place<'a>>) -> Result<Option<Stored>, StoreError>;

    /// Saves a record whose revision is `known` (`None`: there is none yet), which gives it the
    /// next one. Returns when that is durable; `false`, and nothing was changed, if the revision is
    /// another.
    ///
    /// # Errors
    /// [`StoreError`]; then whether it was saved is not known.
    fn save<'a>(
        &self,
        place: impl Into<Place<'a>>,
        known: Option<u64>,
        value: Vec<u8>,
    ) -> Result<bool, StoreError> {
        self.save_logged(place, known, value, None)
    }

    /// The same; with it, or not at all, a change begins to wait for the log's next epoch.
    ///
    /// # Errors
    /// As [`Store::save`].
    fn save_logged<'a>(
        &self,
        place: impl Into<Place<'a>>,
        known: Option<u64>,
        value: Vec<u8>,
        logged: Option<&Pending>,
    ) -> Result<bool, StoreError>;
}

/// The one place through which every stored value passes. Accounts are no ciphertext, and issuer
/// keys are secret: they are to be encrypted under a key that is not in the database, and that
/// belongs here.
mod at_rest {
    use super::Place;

    pub(super) fn seal(_place: Place<'_>, value: Vec<u8>) -> Vec<u8> {
        value
    }

    pub(super) fn open(_place: Place<'_>, stored: Vec<u8>) -> Vec<u8> {
        stored
    }
}
