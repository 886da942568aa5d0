//! Who may do what: statements that a fence key or a mailbox owner signs for one DS, one thing and
//! one method, so that no proof is good anywhere else.

use folkmoot_mls::codec::Bytes;
use folkmoot_mls::{tls_enum, tls_struct};

use crate::ids::{EntryId, LogId, MailboxId};
use crate::keys::{BadSignature, PublicKey, SigningKey};

tls_enum! {
    /// What a proof is for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Method: u8 {
        /// `Logs.Open`
        Open = 1,
        /// `Logs.Append`
        Append = 2,
        /// `Logs.Read`
        Read = 3,
        /// `Mailboxes.Create`
        CreateMailbox = 4,
        /// `Mailboxes.Collect`, `Doors.Collect`
        Collect = 5,
        /// `Mailboxes.Acknowledge`, `Doors.Acknowledge`
        Acknowledge = 6,
        /// `Shelves.Stock`
        Stock = 7,
        /// `Shelves.Discard`
        Discard = 8,
        /// `Shelves.Count`
        Count = 9,
        /// `Logs.Candidates`
        Candidates = 10,
        /// `Doors.Create`
        CreateDoor = 20,
        /// `Doors.Close`
        CloseDoor = 21,
    }
}

tls_struct! {
    /// Signed by a fence key. Appends carry no nonce, for their id makes them safe to repeat.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct FenceProof {
        /// [`crate::VERSION`].
        pub version: u16,
        /// The DS that this is for.
        pub delivery_service: PublicKey,
        /// The log.
        pub log: LogId,
        /// Its branch: of an Open, the Open's own id.
        pub branch: EntryId,
        /// The epoch whose fence key signs.
        pub epoch: u64,
        /// [`Method::Open`], [`Method::Append`], [`Method::Read`] or [`Method::Candidates`].
        pub method: Method,
        /// Of an Open or Append, its entry id; of the others, the nonce.
        pub subject: Bytes,
    }
}

impl FenceProof {
    const LABEL: &str = "fence proof";

    /// Signs. 64 bytes.
    #[must_use]
    pub fn sign(&self, fence: &SigningKey) -> [u8; 64] {
        fence.sign(Self::LABEL, self)
    }

    /// Checks.
    ///
    /// # Errors
    /// [`BadSignature`]: the writer or reader is to blame.
    pub fn verify(&self, fence: &PublicKey, signature: &[u8]) -> Result<(), BadSignature> {
        fence.verify(Self::LABEL, self, signature)
    }
}

tls_struct! {
    /// Signed by a committer's key, beside the fence's signature, over a commit.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct CommitterProof {
        /// [`crate::VERSION`].
        pub version: u16,
        /// The DS that this is for.
        pub delivery_service: PublicKey,
        /// The log.
        pub log: LogId,
        /// The commit.
        pub commit: EntryId,
    }
}

impl CommitterProof {
    const LABEL: &str = "committer proof";

    /// Signs. 96 bytes: the key, and the signature by it.
    #[must_use]
    pub fn sign(&self, committer: &SigningKey) -> Vec<u8> {
        let signature = committer.sign(Self::LABEL, self);
        [&committer.public().0[..], &signature].concat()
    }

    /// Checks, and says who signed.
    ///
    /// # Errors
    /// [`BadSignature`]: whoever sent it is to blame.
    pub fn verify(&self, signed: &[u8]) -> Result<PublicKey, BadSignature> {
        let (key, signature) = signed.split_first_chunk::<32>().ok_or(BadSignature)?;
        let key = PublicKey(*key);
        key.verify(Self::LABEL, self, signature)?;
        Ok(key)
    }
}

tls_struct! {
    /// Signed by a mailbox's owner.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct MailboxProof {
        /// [`crate::VERSION`].
        pub version: u16,
        /// The DS that this is for.
        pub delivery_service: PublicKey,
        /// The mailbox.
        pub mailbox: MailboxId,
        /// What it is for.
        pub method: Method,
        /// From the DS, good for 60 seconds.
        pub nonce: Bytes,
        /// What is asked: see [`crate::mailbox`] for each method's content.
        pub content: Bytes,
    }
}

impl MailboxProof {
    const LABEL: &str = "mailbox proof";

    /// Signs. 64 bytes.
    #[must_use]
    pub fn sign(&self, owner: &SigningKey) -> [u8; 64] {
        owner.sign(Self::LABEL, self)
    }

    /// Checks.
    ///
    /// # Errors
    /// [`BadSignature`]: whoever sent the request is to blame.
    pub fn verify(&self, owner: &PublicKey, signature: &[u8]) -> Result<(), BadSignature> {
        owner.verify(Self::LABEL, self, signature)
    }
}
