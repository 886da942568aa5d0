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
        /// `Mailboxes.Collect`
        Collect = 5,
        /// `Mailboxes.Acknowledge`
        Acknowledge = 6,
        /// `Shelves.Stock`
        Stock = 7,
        /// `Shelves.Discard`
        Discard = 8,
        /// `Shelves.Count`
        Count = 9,
        /// `Logs.Stage`
        Stage = 16,
        /// `Logs.PutPages`
        PutPages = 17,
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
        /// [`Method::Open`], [`Method::Append`], [`Method::Read`], [`Method::Stage`] or
        /// [`Method::PutPages`].
        pub method: Method,
        /// Of an Open or Append, its entry id; of a Read, the nonce; of a Stage, its id; of a
        /// PutPages, [`pages_subject`](crate::log::pages_subject).
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
