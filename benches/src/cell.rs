//! What is measured: contestants, tasks, the rows that they fill, sizes.

use std::fmt;

macro_rules! names {
    (
        $(#[$meta:meta])* $type:ident {
            $($(#[$item:meta])* $name:ident = $id:literal, $title:literal;)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $type {
            $($(#[$item])* $name,)*
        }

        impl $type {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name on the command line and between processes.
            #[must_use]
            pub fn id(self) -> &'static str {
                match self { $(Self::$name => $id),* }
            }

            /// The name for people.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title),* }
            }

            /// The one with this id.
            #[must_use]
            pub fn of_id(id: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|item| item.id() == id)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.title())
            }
        }
    };
}

names! {
    /// Who is measured.
    Contestant {
        /// Our engine on AWS-LC.
        Ours = "ours", "Folkmoot";
        /// The same with our own credential, which has two signatures for the leaf's one.
        OwnCredential = "own-credential", "Folkmoot, own credential";
        /// OpenMLS on libcrux.
        OpenMlsLibcrux = "openmls-libcrux", "OpenMLS, libcrux";
        /// OpenMLS on RustCrypto.
        OpenMlsRustCrypto = "openmls-rustcrypto", "OpenMLS, RustCrypto";
        /// OpenMLS on RustCrypto, stored in a compact encoding, which its documentation allows and nowhere
        /// shows.
        OpenMlsCompact = "openmls-compact", "OpenMLS, RustCrypto, stored compactly";
        /// mls-rs on AWS-LC.
        MlsRs = "mls-rs", "mls-rs, AWS-LC";
    }
}

names! {
    /// What a child process does.
    Task {
        /// Adds all by one commit; the Welcome holds the tree.
        CreateInside = "create-inside", "create, tree inside";
        /// The same, the tree travels apart.
        CreateApart = "create-apart", "create, tree apart";
        /// Joins by a Welcome that holds the tree.
        JoinInside = "join-inside", "join, tree inside";
        /// Joins with the tree from elsewhere.
        JoinApart = "join-apart", "join, tree apart";
        /// The first commit in a tree that is blank above its leaves.
        Blank = "blank", "commit, blank tree";
        /// Commits where every member has committed once.
        Filled = "filled", "commit, filled tree";
        /// Application messages.
        Messages = "messages", "messages";
        /// Commits in a filled tree, stored.
        StoredCommits = "stored-commits", "commit, filled tree, stored";
        /// Application messages, stored.
        StoredMessages = "stored-messages", "messages, stored";
        /// A stored group after a restart.
        Open = "open", "open a stored group";
        /// Memory after joining.
        Resident = "resident", "memory";
        /// What our engine's values weigh.
        Values = "values", "clone, Welcome";
        /// One thread and two, on the clock.
        Threads = "threads", "two threads";
    }
}

names! {
    /// What is measured: a row of a table.
    Row {
        /// See [`Task::CreateInside`].
        CreateInside = "create-inside", "Create: check all key packages, one commit, a Welcome that holds the tree";
        /// See [`Task::CreateApart`].
        CreateApart = "create-apart", "Create, the tree out of band";
        /// See [`Task::JoinInside`].
        JoinInside = "join-inside", "Join by a Welcome that holds the tree";
        /// See [`Task::JoinApart`].
        JoinApart = "join-apart", "Join, the tree out of band";
        /// Renewing one's keys in a blank tree.
        BlankCreate = "blank-create", "Create a commit, blank tree";
        /// Following that.
        BlankProcess = "blank-process", "Process a commit, blank tree";
        /// Renewing one's keys in a filled tree.
        FilledCreate = "filled-create", "Create a commit, filled tree";
        /// Following that.
        FilledProcess = "filled-process", "Process a commit, filled tree";
        /// Encrypting 100 bytes.
        Encrypt = "encrypt", "Encrypt 100 bytes";
        /// Decrypting them.
        Decrypt = "decrypt", "Decrypt 100 bytes";
        /// Creating a commit, merging it, storing it.
        FilledCreateStored = "filled-create-stored", "Create and merge a commit, filled tree, stored";
        /// Processing a commit, storing the next epoch.
        FilledProcessStored = "filled-process-stored", "Process a commit, filled tree, stored";
        /// Encrypting, the ratchet stored.
        EncryptStored = "encrypt-stored", "Encrypt 100 bytes, stored";
        /// Decrypting, the ratchet stored.
        DecryptStored = "decrypt-stored", "Decrypt 100 bytes, stored";
        /// From the file to the first message.
        Open = "open", "Open a stored group and encrypt a message";
        /// The first commit after a restart, for which indexes may have to be made.
        OpenProcess = "open-process", "Open a stored group and process a commit, filled tree";
        /// Bytes of keys and values written for an application message.
        MessageBytes = "message-bytes", "Bytes stored for an application message sent";
        /// Bytes of keys and values written for a commit.
        CommitBytes = "commit-bytes", "Bytes stored for a commit processed, filled tree";
        /// The same for one's own.
        OwnCommitBytes = "own-commit-bytes", "Bytes stored for a commit created, filled tree";
        /// Bytes in memory.
        Resident = "resident", "Bytes of memory that a member takes after joining";
        /// Copying a group.
        Clone = "clone", "Clone a group";
        /// The encoding of the tree.
        TreeBytes = "tree-bytes", "Bytes of the encoded tree, blank above the leaves";
        /// What all joiners of a Welcome share.
        WelcomeShared = "welcome-shared", "Welcome without the tree: bytes that all joiners share";
        /// What each has for itself.
        WelcomeOwn = "welcome-own", "Welcome: bytes of each joiner's own";
        /// Creating on the clock.
        CreateOneThread = "create-one-thread", "Create, the tree out of band: time on the clock, one thread";
        /// Creating on the clock with two threads.
        CreateTwoThreads = "create-two-threads", "Create, the tree out of band: time on the clock, two threads";
        /// Joining on the clock.
        JoinOneThread = "join-one-thread", "Join, the tree out of band: time on the clock, one thread";
        /// Joining on the clock with two threads.
        JoinTwoThreads = "join-two-threads", "Join, the tree out of band: time on the clock, two threads";
    }
}

impl Contestant {
    /// Whether it is another implementation.
    #[must_use]
    pub fn is_peer(self) -> bool {
        !matches!(self, Self::Ours | Self::OwnCredential)
    }

    /// Whether it is another implementation, used as it documents itself.
    #[must_use]
    pub fn is_documented_peer(self) -> bool {
        self.is_peer() && self != Self::OpenMlsCompact
    }
}

impl Row {
    /// Whether it counts bytes; else milliseconds.
    #[must_use]
    pub fn is_bytes(self) -> bool {
        matches!(
            self,
            Self::MessageBytes
                | Self::CommitBytes
                | Self::OwnCommitBytes
                | Self::Resident
                | Self::TreeBytes
                | Self::WelcomeShared
                | Self::WelcomeOwn
        )
    }
}

impl Task {
    /// Whether this contestant is measured in it.
    #[must_use]
    pub fn includes(self, contestant: Contestant) -> bool {
        let stores = matches!(
            self,
            Self::StoredCommits | Self::StoredMessages | Self::Open
        );
        match self {
            _ if contestant == Contestant::OpenMlsCompact => stores,
            Self::Values => !contestant.is_peer(),
            Self::Threads => contestant == Contestant::Ours,
            _ => true,
        }
    }

    /// What it fills.
    #[must_use]
    pub fn rows(self) -> &'static [Row] {
        match self {
            Self::CreateInside => &[Row::CreateInside],
            Self::CreateApart => &[Row::CreateApart],
            Self::JoinInside => &[Row::JoinInside],
            Self::JoinApart => &[Row::JoinApart],
            Self::Blank => &[Row::BlankCreate, Row::BlankProcess],
            Self::Filled => &[Row::FilledCreate, Row::FilledProcess],
            Self::Messages => &[Row::Encrypt, Row::Decrypt],
            Self::StoredCommits => &[
                Row::FilledCreateStored,
                Row::FilledProcessStored,
                Row::CommitBytes,
                Row::OwnCommitBytes,
                Row::OpenProcess,
            ],
            Self::StoredMessages => &[Row::EncryptStored, Row::DecryptStored, Row::MessageBytes],
            Self::Open => &[Row::Open],
            Self::Resident => &[Row::Resident],
            Self::Values => &[
                Row::Clone,
                Row::TreeBytes,
                Row::WelcomeShared,
                Row::WelcomeOwn,
            ],
            Self::Threads => &[
                Row::CreateOneThread,
                Row::CreateTwoThreads,
                Row::JoinOneThread,
                Row::JoinTwoThreads,
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_has_one_task() {
        for row in Row::ALL {
            let tasks = Task::ALL.iter().filter(|task| task.rows().contains(row));
            assert_eq!(tasks.count(), 1, "{row}");
            assert_eq!(Row::of_id(row.id()), Some(*row));
        }
    }
}
