//! The transparency log, from the side of whoever checks it.
//!
//! An Authentication Service (AS) writes down in a log what it says about its users: for each name
//! the hash of its [`Entry`]. The log moves in epochs. Each is one root hash over everything, and
//! the AS signs it: a [`SignedHead`]. To a look-up belongs a [`LookUpProof`] that leads from the
//! entry to the root; a user's own [`HistoryProof`] shows all that was ever said in its name; an
//! [`AppendOnlyProof`] shows that from one epoch to the next nothing went away. What is new and not
//! in the log yet comes with a [`SignedPromise`] instead.
//!
//! The construction is that of the crate `akd` (SEEMless, Parakeet), in the configuration that
//! WhatsApp runs; nobody learns from a proof which other names there are, since places in the tree
//! are outputs of a verifiable random function (VRF). Proofs travel in an encoding of our own,
//! which is bounded, has one form, and leaves out what can be computed.

mod append_only;
mod head;
mod proof;

pub use append_only::{AppendOnlyProof, MAX_EPOCH_PROOF};
pub use head::{LogHead, Promise, SignedHead, SignedPromise};
pub use proof::{
    HistoryProof, LookUpProof, MAX_HISTORY_PROOF, MAX_LOOK_UP_PROOF, MAX_VERSIONS, Published,
};

use akd_core::AkdLabel;
use folkmoot_mls::codec::{DecodeError, Encode};
use folkmoot_mls::tls_struct;

use crate::keys::{PublicKey, hash};
use crate::{DeviceRecord, Name, UserId, Version};

/// The hashes that the log is made of.
type Hashing = akd_core::WhatsAppV1Configuration;

/// The latest epoch that a head may name: one a second for 30,000 years.
const MAX_EPOCH: u64 = 1 << 40;

/// Why the log does not say what somebody claims it does: the AS is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The bytes are not the structure that they should be.
    #[error("a proof of the transparency log is malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// More bytes than any proof has.
    #[error("a proof of the transparency log is too large")]
    TooLarge,
    /// Not signed by the domain's AS, or about another domain.
    #[error("a head of the transparency log is not signed by the authentication service")]
    BadHead,
    /// Not signed by the domain's AS, or about something else, or no longer to be relied on.
    #[error("the promise of a place in the transparency log does not hold")]
    BadPromise,
    /// The proof does not lead to the head's root.
    #[error("a proof of the transparency log does not lead to its head")]
    BadProof,
    /// The log says something else.
    #[error("the transparency log says something else")]
    WrongValue,
    /// There is neither a proof nor a promise.
    #[error("there is no proof of the transparency log")]
    Missing,
}

/// What a place in the log is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogLabel {
    /// A user: the value is the hash of an [`Entry`].
    User(Name),
    /// The keys that issue tokens: the value is the hash of the whole list.
    Issuers,
}

impl LogLabel {
    /// A byte for the kind, then the name.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::User(name) => [&[1], name.as_str().as_bytes()].concat(),
            Self::Issuers => vec![2],
        }
    }

    fn akd(&self) -> AkdLabel {
        AkdLabel(self.to_bytes())
    }
}

tls_struct! {
    /// What the log says about a user. When the binding ends is no part of it: that a binding is
    /// renewed changes nothing about whose the name is.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Entry {
        /// 1.
        pub version: Version,
        /// Who.
        pub user: UserId,
        /// The key that certifies the user's devices.
        pub identity_key: PublicKey,
        /// [`Entry::device`] of each device in the directory, in its order.
        pub devices: Vec<[u8; 32]>,
        /// Devices that are the user's no longer.
        pub revoked: Vec<Revocation>,
    }
}

tls_struct! {
    /// A device that is a user's no longer.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Revocation {
        /// The device's key.
        pub signature_key: PublicKey,
        /// Since when, seconds since 1970.
        pub since: u64,
    }
}

impl Entry {
    /// What stands for a device.
    #[must_use]
    pub fn device(record: &DeviceRecord) -> [u8; 32] {
        hash("log, device record", record)
    }

    /// What stands in the log.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        value_of(self)
    }
}

/// The value that the log has of a statement.
#[must_use]
pub fn value_of(statement: &impl Encode) -> [u8; 32] {
    hash("log entry", statement)
}
