//! What varies from call to call, in one argument: the cryptography, who judges credentials, the
//! clock, randomness. Nothing of it is kept.

use rand_core::CryptoRng;

use crate::credential::Credential;
use crate::crypto::{CipherSuite, CryptoProvider, Secret, Suite};
use crate::error::Error;
use crate::extension::Extensions;
use crate::psk::PreSharedKeyID;

/// The world of one call.
pub struct Context<'a> {
    /// The cipher suites.
    pub provider: &'a dyn CryptoProvider,
    /// Who judges credentials.
    pub authentication_service: &'a dyn AuthenticationService,
    /// Pre-shared keys by their id.
    pub psks: &'a dyn PskStore,
    /// Seconds since 1970, of the delivery service's clock. Lifetimes are judged only where it is
    /// given.
    pub now: Option<u64>,
    /// Randomness.
    pub rng: &'a mut dyn CryptoRng,
}

impl Context<'_> {
    /// The primitives of a suite.
    ///
    /// # Errors
    /// [`Error::UnsupportedCipherSuite`]: we and the peer are incompatible.
    pub fn suite(&self, cipher_suite: CipherSuite) -> Result<&'static dyn Suite, Error> {
        self.provider
            .suite(cipher_suite)
            .ok_or(Error::UnsupportedCipherSuite(cipher_suite))
    }
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

/// Why a credential is not accepted. Its owner is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The service does not know this kind, or the group does not accept it.
    #[error("this kind of credential is not accepted")]
    UnsupportedType,
    /// The credential's content cannot be read.
    #[error("the credential is malformed")]
    Malformed,
    /// Nobody whom the group trusts vouches for it.
    #[error("the issuer of the credential is not trusted")]
    UntrustedIssuer,
    /// A signature in it does not verify, or it is for another key.
    #[error("the credential does not belong to this key")]
    NotAuthentic,
    /// It is not valid at this time.
    #[error("the credential is not valid at this time")]
    Expired,
}

/// The questions that MLS asks an Authentication Service (RFC 9420, section 5.3.1; RFC 9750). Answers
/// depend on the arguments only, never on the network: else members of a group disagree.
pub trait AuthenticationService: Send + Sync {
    /// Whether the credential is valid and belongs to the key, in a group with these extensions, at
    /// this time (seconds since 1970; not judged if `None`).
    ///
    /// # Errors
    /// [`CredentialError`].
    fn validate(
        &self,
        credential: &Credential,
        signature_key: &[u8],
        group: &Extensions,
        now: Option<u64>,
    ) -> Result<(), CredentialError>;

    /// Whether both are of the same client, so that one may take the other's place in a leaf.
    fn is_successor(&self, old: &Credential, new: &Credential) -> bool;

    /// The longest time, in seconds, that a leaf from a KeyPackage may be valid for in all. RFC
    /// 9420, section 7.2, asks every application to set one; without it any is taken.
    fn longest_lifetime(&self) -> Option<u64> {
        None
    }
}

/// Takes every basic credential at its word. For tests, and for groups that compare keys out of
/// band.
#[derive(Clone, Copy, Debug, Default)]
pub struct BasicCredentials;

impl AuthenticationService for BasicCredentials {
    fn validate(
        &self,
        credential: &Credential,
        _signature_key: &[u8],
        _group: &Extensions,
        _now: Option<u64>,
    ) -> Result<(), CredentialError> {
        match credential {
            Credential::Basic { .. } => Ok(()),
            _ => Err(CredentialError::UnsupportedType),
        }
    }

    fn is_successor(&self, old: &Credential, new: &Credential) -> bool {
        old == new
    }
}

/// Pre-shared keys by their id (RFC 9420, section 8.4).
pub trait PskStore: Send + Sync {
    /// The key, if we have it.
    fn psk(&self, id: &PreSharedKeyID) -> Option<Secret>;
}

/// No pre-shared keys.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPsks;

impl PskStore for NoPsks {
    fn psk(&self, _id: &PreSharedKeyID) -> Option<Secret> {
        None
    }
}
