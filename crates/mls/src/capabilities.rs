//! What a client can do (RFC 9420, section 7.2).

use crate::code_point::ProtocolVersion;
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
