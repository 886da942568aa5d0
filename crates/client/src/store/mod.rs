//! What the client keeps on disk: ordered rows in named tables, one write transaction at a time.
//!
//! Protocol state, cursor, plaintext and outbox move together or not at all, so there is nothing here
//! but transactions. Two backends pass one suite ([`conformance`]): [`Sqlite`], an encrypted file, and
//! [`MemoryStore`], which can forget what was not synced.

pub mod conformance;
mod memory;
#[cfg(feature = "sqlite")]
mod sqlite;

pub use memory::MemoryStore;
#[cfg(feature = "sqlite")]
pub use sqlite::Sqlite;

use zeroize::Zeroizing;

macro_rules! tables {
    ($($(#[$meta:meta])* $name:ident = $text:literal, $secret:literal;)*) => {
        /// The tables. Keys are bytes in lexicographic order; what they are made of is said at each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Table {
            $($(#[$meta])* $name,)*
        }

        impl Table {
            /// All tables.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name in the database.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Whether rows hold keys. When such a row is deleted or replaced, the backend leaves no
            /// copy of it behind: forward secrecy holds on disk too.
            #[must_use]
            pub fn holds_secrets(self) -> bool {
                match self { $(Self::$name => $secret,)* }
            }
        }
    };
}

tables! {
    /// The account and counters, by name.
    Account = "account", true;
    /// Our KeyPackages with their private keys, by reference.
    Packages = "packages", true;
    /// Anonymous tokens that are not known to be spent, by what they are for.
    Tokens = "tokens", true;
    /// One row for each conversation, by log id.
    Conversations = "conversations", false;
    /// The engine's records: log id, then the record's key.
    Records = "records", true;
    /// Fence keys: log id, then epoch.
    Fences = "fences", true;
    /// Our keys as a committer: log id.
    CommitterKeys = "committer_keys", true;
    /// Intents until they are settled, by number.
    Outbox = "outbox", true;
    /// Whom an intent adds: log id, intent, then a number.
    Targets = "targets", true;
    /// What was offered to a log: log id, then entry id.
    Attempts = "attempts", true;
    /// What a commit that was offered makes of the group: log id, then entry id.
    Commits = "commits", true;
    /// Chunks of what is offered to a log and is too large for one call: log id, entry id, then a number.
    Chunks = "chunks", false;
    /// Invitations until they are used, by pickup address.
    Invitations = "invitations", true;
    /// Doors: those of our groups' links, and those at which we wait for an answer, by mailbox.
    Doors = "doors", true;
    /// Who knocked at our groups' doors: log id, then hash of the KeyPackage.
    Knocks = "knocks", true;
    /// Who was removed, and is not let in again unasked: log id, then hash of the user.
    Barred = "barred", false;
    /// What was said and what happened: log id, then sequence number, then a number within the entry.
    History = "history", false;
    /// Hashes of the log: log id, then sequence number.
    Chain = "chain", false;
    /// Ids of messages seen: log id, hash of the user, message id.
    Seen = "seen", false;
    /// Who made a commit that was followed, and who could not open it: log id, then the epoch that it made.
    Followed = "followed", false;
    /// Proof of others' misbehaviour: log id, then sequence number.
    Evidence = "evidence", false;
    /// Why intents were given up that another process had begun, by number: until it has looked.
    Outcomes = "outcomes", false;
}

/// Why the store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The key is wrong, or the file is damaged: SQLCipher tells no difference.
    #[error(
        "the state file {0} does not open: the passphrase or key is another's, or the file is damaged; \
         nothing was changed"
    )]
    WrongKeyOrDamaged(String),
    /// A row cannot be read: the file is damaged, or was written by a newer version.
    #[error(
        "a row of '{0}' in the state file is damaged, or of a newer version; nothing was changed"
    )]
    DamagedRow(&'static str),
    /// The file was made by a version that this one does not know.
    #[error(
        "the state file has format {found}; this program knows format {known}: use a newer one"
    )]
    UnknownFormat {
        /// What the file says.
        found: u32,
        /// What this program writes.
        known: u32,
    },
    /// Another process holds the file for longer than we wait.
    #[error("another process is using the state file; try again when it has finished")]
    Busy,
    /// The disk or file system failed.
    #[error("the state file cannot be used: {0}")]
    Io(String),
    /// A test asked for this: the process ends before the transaction is durable.
    #[error("the store was told to fail")]
    Crash,
}

/// One row's key and value.
pub type Row = (Vec<u8>, Zeroizing<Vec<u8>>);

/// Reads and writes inside one immediate write transaction. Reads see the writes before them.
pub trait Transaction {
    /// The value under a key.
    ///
    /// # Errors
    /// [`StoreError`], as all methods.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError>;

    /// Writes a row, replacing the one that was there.
    ///
    /// # Errors
    /// [`StoreError`].
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError>;

    /// Deletes a row, if there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError>;

    /// Rows whose key begins with `prefix` and is greater than `after`, if given, in order, at most
    /// `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError>;

    /// The last row whose key begins with `prefix`.
    ///
    /// # Errors
    /// [`StoreError`].
    fn last(&self, table: Table, prefix: &[u8]) -> Result<Option<Row>, StoreError>;

    /// Deletes every row whose key begins with `prefix`.
    ///
    /// # Errors
    /// [`StoreError`].
    fn delete_prefix(&mut self, table: Table, prefix: &[u8]) -> Result<(), StoreError>;
}

/// A store of rows.
pub trait Store: Send {
    /// Runs `body` in one immediate write transaction. If it returns `Ok`, everything it wrote is
    /// durable when this returns; if `Err`, nothing was changed.
    ///
    /// # Errors
    /// What `body` returns, or [`StoreError`].
    fn transaction<R, E: From<StoreError>>(
        &mut self,
        body: impl FnOnce(&mut dyn Transaction) -> Result<R, E>,
    ) -> Result<R, E>;
}

/// The first key that is greater than every key with this prefix; `None` if there is none.
fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_where_the_next_begins() {
        assert_eq!(prefix_end(&[1, 2]), Some(vec![1, 3]));
        assert_eq!(prefix_end(&[1, 255]), Some(vec![2]));
        assert_eq!(prefix_end(&[255, 255]), None);
        assert_eq!(prefix_end(&[]), None);
    }

    #[test]
    fn tables_have_names_of_their_own() {
        let names: std::collections::BTreeSet<_> = Table::ALL.iter().map(|t| t.name()).collect();
        assert_eq!(names.len(), Table::ALL.len());
    }
}
