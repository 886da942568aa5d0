//! What a client can do (RFC 9420, section 7.2).

use rand_core::CryptoRng;

use crate::code_point::{ProtocolVersion, random_grease};
use crate::credential::CredentialType;
use crate::crypto::CipherSuite;
use crate::extension::{ExtensionType, RequiredCapabilities};
use crate::proposal::ProposalType;

crate::tls_struct! {
    /// The protocol features that a client supports. Those that RFC 9420 defines itself are not
    /// listed among extensions and proposals.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Capabilities {
        /// Protocol versions.
        pub versions: Vec<ProtocolVersion>,
        /// Cipher suites.
        pub cipher_suites: Vec<CipherSuite>,
        /// Extensions beyond the default ones.
        pub extensions: Vec<ExtensionType>,
        /// Proposals beyond the default ones.
        pub proposals: Vec<ProposalType>,
        /// Kinds of credentials.
        pub credentials: Vec<CredentialType>,
    }
}

impl Capabilities {
    /// The same with one value more, at random, in each list where the RFC asks for it: of those that
    /// mean nothing and keep others from refusing what they do not know (section 13.5). For the lists
    /// that are sent; what a client can do itself is written without.
    #[must_use]
    pub fn with_grease(mut self, rng: &mut dyn CryptoRng) -> Self {
        insert(
            &mut self.cipher_suites,
            CipherSuite(random_grease(rng)),
            rng,
        );
        insert(&mut self.extensions, ExtensionType(random_grease(rng)), rng);
        insert(&mut self.proposals, ProposalType(random_grease(rng)), rng);
        insert(
            &mut self.credentials,
            CredentialType(random_grease(rng)),
            rng,
        );
        self
    }

    /// The same without such values.
    #[must_use]
    pub fn without_grease(mut self) -> Self {
        self.cipher_suites.retain(|suite| !suite.is_grease());
        self.extensions.retain(|kind| !kind.is_grease());
        self.proposals.retain(|kind| !kind.is_grease());
        self.credentials.retain(|kind| !kind.is_grease());
        self
    }

    /// Whether an extension of this kind is understood.
    #[must_use]
    pub fn supports_extension(&self, extension_type: ExtensionType) -> bool {
        extension_type.is_default() || self.extensions.contains(&extension_type)
    }

    /// Whether a proposal of this kind is understood.
    #[must_use]
    pub fn supports_proposal(&self, proposal_type: ProposalType) -> bool {
        proposal_type.is_default() || self.proposals.contains(&proposal_type)
    }

    /// Whether a credential of this kind is understood.
    #[must_use]
    pub fn supports_credential(&self, credential_type: CredentialType) -> bool {
        self.credentials.contains(&credential_type)
    }

    /// Whether all that a group requires is understood (section 11.1).
    #[must_use]
    pub fn satisfies(&self, required: &RequiredCapabilities) -> bool {
        required
            .extension_types
            .iter()
            .all(|kind| self.supports_extension(*kind))
            && required
                .proposal_types
                .iter()
                .all(|kind| self.supports_proposal(*kind))
            && required
                .credential_types
                .iter()
                .all(|kind| self.supports_credential(*kind))
    }
}

/// Puts a value somewhere into a list, unless it is there.
pub(crate) fn insert<T: PartialEq>(list: &mut Vec<T>, value: T, rng: &mut dyn CryptoRng) {
    if !list.contains(&value) {
        let mut random = [0];
        rng.fill_bytes(&mut random);
        let place = usize::from(random[0]) % (list.len() + 1);
        list.insert(place, value);
    }
}
