//! Which version and cipher suite a new group should have (RFC 9420, sections 10 and 11).
//!
//! A KeyPackage is for one version and one suite, but the capabilities in its leaf list all that the
//! client can do, under its signature. So whoever hands out KeyPackages can withhold the better ones,
//! but cannot hide that there are any: [`Choice::check`] finds the better choice that all support.
//!
//! ```
//! # use folkmoot_mls::capabilities::Capabilities;
//! # use folkmoot_mls::code_point::ProtocolVersion;
//! # use folkmoot_mls::crypto::CipherSuite;
//! # use folkmoot_mls::negotiation::{Choice, NegotiationError, Preference};
//! # fn main() -> Result<(), NegotiationError> {
//! let (x25519, p384) = (
//!     CipherSuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_ED25519,
//!     CipherSuite::MLS_256_DHKEMP384_AES256GCM_SHA384_P384,
//! );
//! let client = |cipher_suites: &[CipherSuite]| Capabilities {
//!     versions: vec![ProtocolVersion::MLS10],
//!     cipher_suites: cipher_suites.to_vec(),
//!     ..Capabilities::default()
//! };
//! let ours = Preference { versions: &[ProtocolVersion::MLS10], cipher_suites: &[p384, x25519] };
//! let (bob, carol) = (client(&[x25519, p384]), client(&[x25519]));
//!
//! assert_eq!(ours.best_for([&bob])?.cipher_suite, p384);
//! assert_eq!(ours.best_for([&bob, &carol])?.cipher_suite, x25519);
//! # Ok(())
//! # }
//! ```

use crate::capabilities::Capabilities;
use crate::code_point::ProtocolVersion;
use crate::crypto::{CipherSuite, CryptoProvider};
use crate::key_package::KeyPackage;

/// What we can do, the best first.
#[derive(Clone, Copy, Debug)]
pub struct Preference<'a> {
    /// Versions of the protocol.
    pub versions: &'a [ProtocolVersion],
    /// Cipher suites.
    pub cipher_suites: &'a [CipherSuite],
}

/// A version and a suite for a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The protocol's version.
    pub version: ProtocolVersion,
    /// The algorithms.
    pub cipher_suite: CipherSuite,
}

/// Why a group should not be made as it was to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NegotiationError {
    /// Some client supports no version that all others support. Nobody is to blame.
    #[error("the clients have no version of the protocol in common")]
    NoCommonVersion,
    /// Some client supports no suite that all others support. Nobody is to blame.
    #[error("the clients have no cipher suite in common")]
    NoCommonCipherSuite,
    /// A KeyPackage is for another version or suite than the group's. Whoever handed it out is to
    /// blame; ask for one of the group's.
    #[error("a key package is for version {} and suite {}", .0.version, .0.cipher_suite)]
    OtherKeyPackage(Choice),
    /// All clients support something better. Whoever handed out these KeyPackages may be holding the
    /// better ones back.
    #[error("all clients support the better version {} and suite {}", .best.version, .best.cipher_suite)]
    Downgrade {
        /// What all of them support.
        best: Choice,
    },
}

impl<'a> From<&'a dyn CryptoProvider> for Preference<'a> {
    fn from(provider: &'a dyn CryptoProvider) -> Self {
        Self {
            versions: provider.versions(),
            cipher_suites: provider.suites(),
        }
    }
}

impl Preference<'_> {
    /// The best that we and all of these clients support: the version counts more than the suite.
    ///
    /// # Errors
    /// [`NegotiationError::NoCommonVersion`], [`NegotiationError::NoCommonCipherSuite`].
    pub fn best_for<'c>(
        &self,
        clients: impl IntoIterator<Item = &'c Capabilities>,
    ) -> Result<Choice, NegotiationError> {
        let (mut versions, mut suites) = (self.versions.to_vec(), self.cipher_suites.to_vec());
        for client in clients {
            versions.retain(|version| client.versions.contains(version));
            suites.retain(|suite| client.cipher_suites.contains(suite));
        }
        Ok(Choice {
            version: *versions.first().ok_or(NegotiationError::NoCommonVersion)?,
            cipher_suite: *suites
                .first()
                .ok_or(NegotiationError::NoCommonCipherSuite)?,
        })
    }
}

impl Choice {
    /// Whether a group of this version and suite may be made of these KeyPackages: each is for it, and
    /// it is the best that their owners all support. The KeyPackages' signatures, by which their
    /// capabilities cannot be stripped, are checked by the commit that adds them.
    ///
    /// # Errors
    /// [`NegotiationError`].
    pub fn check<'k>(
        self,
        ours: &Preference<'_>,
        key_packages: impl IntoIterator<Item = &'k KeyPackage> + Clone,
    ) -> Result<(), NegotiationError> {
        for key_package in key_packages.clone() {
            let it = Self {
                version: key_package.version,
                cipher_suite: key_package.cipher_suite,
            };
            if it != self {
                return Err(NegotiationError::OtherKeyPackage(it));
            }
        }
        let capabilities = key_packages
            .into_iter()
            .map(|key_package| &key_package.leaf_node.capabilities);
        match ours.best_for(capabilities)? {
            best if best == self => Ok(()),
            best => Err(NegotiationError::Downgrade { best }),
        }
    }
}
