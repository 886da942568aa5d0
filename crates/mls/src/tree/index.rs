//! What all members together say, kept up to date leaf by leaf, so that the checks of RFC 9420,
//! section 7.3, that concern every member cost as much as what a commit changes.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use imbl::OrdMap;

use super::TreeError;
use super::key_index::{Entry, KeyIndex};
use super::node::{Leaf, Node};
use super::trie::Trie;
use crate::code_point::{ProtocolVersion, WireFormat};
use crate::codec::{Decode, Encode};
use crate::component::{
    AppComponents, AppDataDictionary, ComponentID, SafeAadComponents, SupportedWireFormats,
    unreadable_in_leaf,
};
use crate::credential::CredentialType;
use crate::crypto::CipherSuite;
use crate::extension::{ExtensionType, Extensions};
use crate::leaf_node::LeafNode;
use crate::proposal::ProposalType;
use crate::tree_math::{LeafIndex, NodeIndex};

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
            .chain(Self::in_extensions(&leaf_node.extensions))
            .collect()
    }

    /// What a leaf node lists in its extensions. Malformed ones list nothing.
    fn in_extensions(extensions: &Extensions) -> impl Iterator<Item = Self> {
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

/// What is known of all members together. Made of the nodes alone. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Index {
    /// Keys the hashes of both sets.
    hasher: RandomState,
    encryption_keys: KeyIndex,
    signature_keys: KeyIndex,
    profiles: Profiles,
}

impl Index {
    /// The index of a whole tree, and the first node with a key that a node before it has.
    pub(super) fn of(trie: &Trie) -> (Self, Option<TreeError>) {
        let hasher = RandomState::new();
        let hash = |key: &[u8]| hasher.hash_one(key) as u32;
        let mut encryption = Vec::new();
        let mut signature = Vec::with_capacity(trie.len() as usize);
        let mut profiles = Profiles::default();
        trie.nodes(&mut |place, node| {
            encryption.push(Entry::new(hash(node.encryption_key()), place.0));
            if let Some(leaf) = node.leaf() {
                signature.push(Entry::new(hash(leaf.signature_key()), place.0));
                profiles.add(leaf);
            }
        });
        encryption.sort_unstable();
        signature.sort_unstable();
        let of_encryption = repeated(&encryption, |place| Some(trie.get(place)?.encryption_key()));
        let of_signature = repeated(&signature, |place| {
            trie.get(place)?.leaf().map(Leaf::signature_key)
        });
        let duplicate = match (of_encryption, of_signature) {
            (Some(place), other) if other.is_none_or(|other| place <= other) => {
                Some(TreeError::DuplicateEncryptionKey(place))
            }
            (_, Some(place)) => place.leaf().map(TreeError::DuplicateSignatureKey),
            (_, None) => None,
        };
        let index = Self {
            hasher,
            encryption_keys: KeyIndex::of(&encryption),
            signature_keys: KeyIndex::of(&signature),
            profiles,
        };
        (index, duplicate)
    }

    fn entry(&self, key: &[u8], place: NodeIndex) -> Entry {
        Entry::new(self.hash(key), place.0)
    }

    fn hash(&self, key: &[u8]) -> u32 {
        self.hasher.hash_one(key) as u32
    }

    /// The node with an encryption key.
    pub(super) fn find_encryption_key(&self, key: &[u8], trie: &Trie) -> Option<NodeIndex> {
        let mut places = self.encryption_keys.places(self.hash(key)).map(NodeIndex);
        places.find(|place| trie.get(*place).map(Node::encryption_key) == Some(key))
    }

    /// The member with a signature key.
    pub(super) fn find_signature_key(&self, key: &[u8], trie: &Trie) -> Option<LeafIndex> {
        let mut places = self.signature_keys.places(self.hash(key)).map(NodeIndex);
        let leaf = |place: &NodeIndex| trie.get(*place)?.leaf();
        let place = places.find(|place| leaf(place).map(Leaf::signature_key) == Some(key))?;
        place.leaf()
    }

    /// Forgets a node of `trie` that is about to go.
    pub(super) fn remove(&mut self, place: NodeIndex, node: &Node) {
        let entry = self.entry(node.encryption_key(), place);
        self.encryption_keys.remove(entry);
        if let Some(leaf) = node.leaf() {
            let entry = self.entry(leaf.signature_key(), place);
            self.signature_keys.remove(entry);
            self.profiles.remove(leaf);
        }
    }

    /// Remembers a node that is about to come into `trie`, at a place that is blank or was
    /// [removed](Self::remove).
    ///
    /// # Errors
    /// [`TreeError::DuplicateEncryptionKey`], [`TreeError::DuplicateSignatureKey`]: another node has the
    /// key.
    pub(super) fn insert(
        &mut self,
        place: NodeIndex,
        node: &Node,
        trie: &Trie,
    ) -> Result<(), TreeError> {
        let key = node.encryption_key();
        if self.find_encryption_key(key, trie).is_some() {
            return Err(TreeError::DuplicateEncryptionKey(place));
        }
        let entry = self.entry(key, place);
        self.encryption_keys.insert(entry);
        if let (Some(leaf), Some(index)) = (node.leaf(), place.leaf()) {
            let key = leaf.signature_key();
            if self.find_signature_key(key, trie).is_some() {
                return Err(TreeError::DuplicateSignatureKey(index));
            }
            let entry = self.entry(key, place);
            self.signature_keys.insert(entry);
            self.profiles.add(leaf);
        }
        Ok(())
    }

    /// Whether every member has the capability.
    pub(super) fn everybody_has(&self, capability: Capability) -> bool {
        self.profiles.all_have(capability)
    }

    /// A credential type that some member uses and some member does not support.
    pub(super) fn unsupported_credential(&self) -> Option<CredentialType> {
        let mut used = self.profiles.credentials.keys().copied();
        used.find(|used| !self.profiles.all_have(Capability::Credential(*used)))
    }
}

/// Of all places whose key a place before them has, the first.
fn repeated<'a>(
    sorted: &[Entry],
    key: impl Fn(NodeIndex) -> Option<&'a [u8]>,
) -> Option<NodeIndex> {
    let of_one_hash = sorted.chunk_by(|a, b| a.hash() == b.hash());
    let places = of_one_hash.filter(|entries| entries.len() > 1);
    let repeats = places.filter_map(|entries| {
        let mut seen = BTreeSet::new();
        let mut places = entries.iter().map(|entry| NodeIndex(entry.place()));
        places.find(|place| key(*place).is_some_and(|key| !seen.insert(key)))
    });
    repeats.min()
}

/// What members can do and which credentials they use. Nearly all say the same, so what is counted are
/// the members who say it, and who has a capability is asked of the few different ones.
#[derive(Clone, Default)]
struct Profiles {
    members: OrdMap<Arc<[u8]>, u32>,
    /// How many profiles list it.
    listed: OrdMap<Capability, u32>,
    /// How many profiles use it.
    credentials: OrdMap<CredentialType, u32>,
}

impl Profiles {
    fn add(&mut self, leaf: &Leaf) {
        let profile = profile(leaf);
        if let Some(members) = self.members.get_mut(&profile[..]) {
            *members += 1;
            return;
        }
        self.members.insert(profile.into(), 1);
        let leaf_node = leaf.leaf_node();
        for capability in Capability::all(&leaf_node) {
            *self.listed.entry(capability).or_insert(0) += 1;
        }
        let credential = leaf_node.credential.credential_type();
        *self.credentials.entry(credential).or_insert(0) += 1;
    }

    fn remove(&mut self, leaf: &Leaf) {
        let profile = profile(leaf);
        if let Some(members) = self.members.get_mut(&profile[..])
            && *members > 1
        {
            *members -= 1;
            return;
        }
        self.members.remove(&profile[..]);
        let leaf_node = leaf.leaf_node();
        for capability in Capability::all(&leaf_node) {
            decrement(&mut self.listed, capability);
        }
        let credential = leaf_node.credential.credential_type();
        decrement(&mut self.credentials, credential);
    }

    fn all_have(&self, capability: Capability) -> bool {
        let listed = || self.listed.get(&capability).copied().unwrap_or(0);
        capability.is_default() || listed() as usize == self.members.len()
    }
}

/// What tells a leaf from those with other [capabilities](Capability::all) or another credential type.
fn profile(leaf: &Leaf) -> Vec<u8> {
    let parts = leaf.parts();
    let mut profile = parts.credential_type.to_bytes();
    profile.extend_from_slice(parts.capabilities);
    // An empty list is the common case.
    if let Ok(extensions) = Extensions::from_bytes(parts.extensions)
        && extensions.types().next().is_some()
    {
        let unreadable: Vec<_> = unreadable_in_leaf(&extensions).collect();
        unreadable.encode(&mut profile);
        let listed: BTreeSet<_> = Capability::in_extensions(&extensions).collect();
        for capability in listed {
            let (list, value) = match capability {
                Capability::WireFormat(format) => (0_u8, format.0),
                Capability::Component(component) => (1, component.0),
                Capability::SafeAad(component) => (2, component.0),
                _ => continue,
            };
            (list, value).encode(&mut profile);
        }
    }
    profile
}

fn decrement<K: Ord + Clone>(counts: &mut OrdMap<K, u32>, key: K) {
    match counts.get_mut(&key) {
        Some(count) if *count > 1 => *count -= 1,
        _ => {
            counts.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::capabilities::Capabilities;
    use crate::codec::Bytes;
    use crate::credential::Credential;
    use crate::leaf_node::LeafNodeSource;

    /// Leaves that differ in one thing or another, malformed extensions among them.
    fn leaf_node() -> impl Strategy<Value = LeafNode> {
        let dictionaries = [
            None,
            Some(AppDataDictionary::default().to_bytes()),
            Some(with_components(1).to_bytes()),
            Some(
                with_components(2)
                    .with_data(ComponentID(0x8000), [1])
                    .to_bytes(),
            ),
            Some(vec![9]),
        ];
        let types = prop::collection::vec(1..4_u16, 0..3);
        let extension = prop::sample::select(dictionaries.to_vec());
        (types.clone(), types, 1..4_u16, extension).prop_map(
            |(credentials, proposals, used, dictionary)| {
                let mut extensions = Extensions::default();
                if let Some(dictionary) = dictionary {
                    extensions.set_data(ExtensionType::APP_DATA_DICTIONARY, dictionary);
                }
                LeafNode {
                    encryption_key: Bytes::default().into(),
                    signature_key: Bytes::default().into(),
                    credential: Credential::Custom {
                        credential_type: CredentialType(used),
                        data: Bytes::default(),
                    },
                    capabilities: Capabilities {
                        extensions: vec![ExtensionType::APP_DATA_DICTIONARY],
                        proposals: proposals
                            .into_iter()
                            .map(|n| ProposalType(n + 100))
                            .collect(),
                        credentials: credentials.into_iter().map(CredentialType).collect(),
                        ..Capabilities::default()
                    },
                    leaf_node_source: LeafNodeSource::Update,
                    extensions,
                    signature: Bytes::default(),
                }
            },
        )
    }

    fn with_components(number: u16) -> AppDataDictionary {
        AppDataDictionary::default().with(&AppComponents {
            component_ids: (1..=number).map(ComponentID).collect(),
        })
    }

    proptest! {
        #[test]
        fn profiles_answer_as_all_leaves_do(
            mut leaves in prop::collection::vec(leaf_node(), 1..12),
            removed in 0..12_usize,
        ) {
            let mut index = Index::default();
            leaves.iter().for_each(|leaf| index.profiles.add(&Leaf::from(leaf)));
            for leaf in leaves.drain(..removed.min(leaves.len())) {
                index.profiles.remove(&Leaf::from(&leaf));
            }
            let everything = (1..5).flat_map(|n| [
                Capability::Credential(CredentialType(n)),
                Capability::Proposal(ProposalType(n + 100)),
                Capability::Component(ComponentID(n)),
            ]);
            let dictionary = Capability::Extension(ExtensionType::APP_DATA_DICTIONARY);
            for capability in everything.chain([dictionary]) {
                let expected = leaves.iter().all(|leaf| capability.is_in(leaf));
                prop_assert_eq!(index.everybody_has(capability), expected);
            }
            let used: BTreeSet<_> = leaves.iter().map(|l| l.credential.credential_type()).collect();
            let lacking = used.into_iter().find(|used| {
                leaves.iter().any(|leaf| !leaf.capabilities.supports_credential(*used))
            });
            prop_assert_eq!(index.unsupported_credential(), lacking);
        }
    }
}
