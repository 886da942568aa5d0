//! Who someone is: user ids, keys, bindings, device credentials, directory entries.
//!
//! A **user** is [`name@domain`](UserId) with an *identity key* that its first device made. The
//! domain's Authentication Service (AS) states which identity key belongs to which name: a
//! [`Binding`]. The identity key certifies the signature key of each **device**: a
//! [`DeviceCertificate`]. Both together, in under 300 bytes, are what a leaf of an MLS group says
//! about its owner: a [`DeviceCredential`]. So the AS alone cannot add a device to a user, and a
//! device alone cannot take a name.
//!
//! ```text
//!   AS key ──signs──▶ Binding (name, identity key) ──▶ DeviceCertificate (device key) ──▶ the leaf
//! ```
//!
//! Which AS keys count is the group's own decision, written in its GroupContext
//! ([`AcceptedKeys`]); a [`Judge`] answers from the credential, the group's extensions and the
//! time alone, so that all members answer alike.
//!
//! Organisations with a PKI use certificates instead: `x509`, with the feature `aws-lc`.
//! [`ByCredentialType`] lets a group have both.
//!
//! [`ByCredentialType`]: folkmoot_mls::context::ByCredentialType
//!
//! [`DeviceRecord`] is where a device is reached, [`Registration`] what a new user sends to the AS.
//!
//! Times are seconds since 1970. Every structure begins with a version.

mod binding;
mod device;
mod extensions;
mod judge;
pub mod keys;
mod record;
pub mod transparency;
mod user;
mod validity;
mod version;
#[cfg(feature = "aws-lc")]
pub mod x509;

pub use binding::{BINDING_SECONDS, Binding, BindingStatement};
pub use device::{
    CERTIFICATE_SECONDS, CREDENTIAL_TYPE, DeviceCertificate, DeviceCredential, MAX_CHAIN,
};
pub use extensions::{
    AcceptedKey, AcceptedKeys, Committer, CommitterStatement, Committers, EXTENSION_TYPES,
    LinkMode, LinkPolicy, LinkShare, Policy, Title,
};
pub use judge::{Judge, LONGEST_LIFETIME};
pub use record::{DeliveryAddress, DeviceRecord, MailboxKey, Registration, ShelfKey};
pub use user::{Domain, InvalidUserId, Name, UserId};
pub use validity::{BACKDATE_SECONDS, Validity};
pub use version::Version;

use folkmoot_mls::codec::DecodeError;

/// Why somebody is not who they say. Unless said otherwise, whoever made the statement is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The bytes are not the structure that they should be.
    #[error("a credential is malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// It is a credential of another kind.
    #[error("the credential is of a kind that this group does not accept")]
    WrongKind,
    /// The statement is about another user or identity key.
    #[error("the statement is about somebody else")]
    WrongUser,
    /// No key that counts has signed that the name belongs to the identity key.
    #[error("no accepted authentication service vouches for the name")]
    BadBinding,
    /// The identity key, or a key of the chain, did not sign the next one.
    #[error("the device is not certified by its user")]
    BadCertificate,
    /// The chain of certificates is empty, too long, or ends at another key.
    #[error("the chain of certificates does not lead to the device's key")]
    BadChain,
    /// The device did not sign the record of where it is reached.
    #[error("the device's directory entry is not signed by the device")]
    BadRecord,
    /// The identity key or the device key did not sign the registration.
    #[error("the registration does not prove possession of its keys")]
    BadRegistration,
    /// The transparency log does not bear out what is said.
    #[error("{0}")]
    Log(#[from] transparency::LogError),
    /// A statement is not valid yet at the given time. Perhaps a clock is to blame.
    #[error("the credential is not valid yet")]
    NotYetValid,
    /// A statement is no longer valid at the given time.
    #[error("the credential has expired")]
    Expired,
}
