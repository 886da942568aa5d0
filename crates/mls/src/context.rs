//! What varies from call to call, in one argument: the cryptography, who judges credentials, the
//! clock, randomness. Nothing of it is kept.

use rand_core::CryptoRng;

pub use crate::authentication_service::{
    AuthenticationService, BasicCredentials, ByCredentialType, CredentialClaim, CredentialError,
};
use crate::code_point::ProtocolVersion;
use crate::component::ComponentLogic;
use crate::crypto::{CipherSuite, CryptoProvider, Secret, Suite};
use crate::error::Error;
use crate::psk::PreSharedKeyID;
pub use crate::workers::{OneThread, Workers};

/// The world of one call.
pub struct Context<'a> {
    /// The cipher suites.
    pub provider: &'a dyn CryptoProvider,
    /// Who judges credentials.
    pub authentication_service: &'a dyn AuthenticationService,
    /// Pre-shared keys by their id.
    pub psks: &'a dyn PskStore,
    /// What the application's components decide.
    pub components: &'a dyn ComponentLogic,
    /// Seconds since 1970, of the delivery service's clock. Lifetimes are judged only where it is
    /// given.
    pub now: Option<u64>,
    /// Who does what can be split.
    pub workers: &'a dyn Workers,
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

    /// Whether we can be in a group of this version.
    ///
    /// # Errors
    /// [`Error::UnsupportedVersion`]: we and the peer are incompatible.
    pub fn check_version(&self, version: ProtocolVersion) -> Result<(), Error> {
        if self.provider.versions().contains(&version) {
            Ok(())
        } else {
            Err(Error::UnsupportedVersion(version))
        }
    }
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("now", &self.now)
            .finish_non_exhaustive()
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
