//! What all members together say, kept up to date leaf by leaf, so that the checks of RFC 9420,
//! section 7.3, that concern every member cost as much as what a commit changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::OrdMap;

use crate::code_point::{ProtocolVersion, WireFormat};
use crate::component::{
    AppComponents, AppDataDictionary, ComponentID, SafeAadComponents, SupportedWireFormats,
    unreadable_in_leaf,
};
use crate::credential::CredentialType;
use crate::crypto::CipherSuite;
use crate::extension::ExtensionType;
use crate::leaf_node::LeafNode;
use crate::proposal::ProposalType;

/// One thing that a leaf node can list in its capabilities (RFC 9420, section 7.2), or in the
/// extensions that go on with them (draft-ietf-mls-extensions, section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capability {
    /// In `capabilities.versions`.
    Version(ProtocolVersion),
    /// In `capabilities.cipher_suites`.
    CipherSuite(CipherSuite),
    /// In `capabilities.extensions`, or a default type that nobody lists.
    Extension(ExtensionType),
    /// In `capabilities.proposals`, or a default type that nobody lists.
    Proposal(ProposalType),
    /// In `capabilities.credentials`.
    Credential(CredentialType),
    /// In `supported_wire_formats`.
    WireFormat(WireFormat),
    /// In the component `app_components`.
    Component(ComponentID),
    /// In the component `safe_aad`.
    SafeAad(ComponentID),
}

impl Capability {
    /// Whether every client has it without listing it.
    #[must_use]
    pub fn is_default(self) -> bool {
        match self {
            Self::Extension(extension) => extension.is_default(),
            Self::Proposal(proposal) => proposal.is_default(),
            Self::WireFormat(format) => format.is_default(),
            _ => false,
        }
    }

    /// Whether the client of `leaf_node` has it.
    #[must_use]
    pub fn is_in(self, leaf_node: &LeafNode) -> bool {
        self.is_default() || Self::all(leaf_node).contains(&self)
    }

    /// Everything that a leaf node lists, once.
    pub(super) fn all(leaf_node: &LeafNode) -> BTreeSet<Self> {
        let capabilities = &leaf_node.capabilities;
        let versions = capabilities.versions.iter().copied().map(Self::Version);
        let suites = capabilities
            .cipher_suites
            .iter()
            .copied()
            .map(Self::CipherSuite);
        // Whoever cannot write it does not know it, should the group come to need it.
        let unreadable: Vec<_> = unreadable_in_leaf(&leaf_node.extensions).collect();
        let extensions = capabilities.extensions.iter().copied();
        let extensions = extensions
            .filter(|kind| !unreadable.contains(kind))
            .map(Self::Extension);
        let proposals = capabilities.proposals.iter().copied().map(Self::Proposal);
        let credentials = capabilities
            .credentials
            .iter()
            .copied()
            .map(Self::Credential);
        versions
            .chain(suites)
            .chain(extensions)
            .chain(proposals)
            .chain(credentials)
            .chain(Self::in_extensions(leaf_node))
            .collect()
    }

    /// What a leaf node lists in its extensions. Malformed ones list nothing.
    fn in_extensions(leaf_node: &LeafNode) -> impl Iterator<Item = Self> {
        let extensions = &leaf_node.extensions;
        let formats: Option<SupportedWireFormats> = extensions.get().ok().flatten();
        let formats = formats.unwrap_or_default().wire_formats;
        let dictionary: Option<AppDataDictionary> = extensions.get().ok().flatten();
        let dictionary = dictionary.unwrap_or_default();
        let components: Option<AppComponents> = dictionary.get().ok().flatten();
        let components = components.unwrap_or_default().component_ids;
        let safe_aad: Option<SafeAadComponents> = dictionary.get().ok().flatten();
        let safe_aad = safe_aad.unwrap_or_default().component_ids;
        let formats = formats.into_iter().map(Self::WireFormat);
        let components = components.into_iter().map(Self::Component);
        formats
            .chain(components)
            .chain(safe_aad.into_iter().map(Self::SafeAad))
    }
}

/// How many members list what, and which credential types are in use. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Counters {
    members: u32,
    listed: OrdMap<Capability, u32>,
    credentials_in_use: OrdMap<CredentialType, u32>,
}

impl Counters {
    pub(super) fn add(&mut self, leaf_node: &LeafNode) {
        self.members += 1;
        for capability in Capability::all(leaf_node) {
            *self.listed.entry(capability).or_insert(0) += 1;
        }
        let credential = leaf_node.credential.credential_type();
        *self.credentials_in_use.entry(credential).or_insert(0) += 1;
    }

    pub(super) fn remove(&mut self, leaf_node: &LeafNode) {
        self.members -= 1;
        for capability in Capability::all(leaf_node) {
            decrement(&mut self.listed, capability);
        }
        decrement(
            &mut self.credentials_in_use,
            leaf_node.credential.credential_type(),
        );
    }

    /// Whether every member has the capability.
    pub(super) fn everybody_has(&self, capability: Capability) -> bool {
        capability.is_default()
            || self.listed.get(&capability).copied().unwrap_or(0) == self.members
    }

    /// A credential type that some member uses and some member does not support.
    pub(super) fn unsupported_credential(&self) -> Option<CredentialType> {
        self.credentials_in_use
            .keys()
            .copied()
            .find(|credential| !self.everybody_has(Capability::Credential(*credential)))
    }
}

fn decrement<K: Ord + Clone>(counts: &mut OrdMap<K, u32>, key: K) {
    match counts.get_mut(&key) {
        Some(count) if *count > 1 => *count -= 1,
        _ => {
            counts.remove(&key);
        }
    }
}

/// Which place holds a key. Cheap to clone.
#[derive(Clone)]
pub(super) struct KeyIndex<P>(OrdMap<Arc<[u8]>, P>);

impl<P> Default for KeyIndex<P> {
    fn default() -> Self {
        Self(OrdMap::new())
    }
}

impl<P: Copy + PartialEq> KeyIndex<P> {
    pub(super) fn get(&self, key: &[u8]) -> Option<P> {
        self.0.get(key).copied()
    }

    /// Remembers the key. False if another place has it.
    #[must_use]
    pub(super) fn insert(&mut self, key: &[u8], place: P) -> bool {
        self.0
            .insert(key.into(), place)
            .is_none_or(|before| before == place)
    }

    pub(super) fn remove(&mut self, key: &[u8]) {
        self.0.remove(key);
    }
}
