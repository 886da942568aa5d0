//! Leaf nodes (RFC 9420, section 7.2).

use rand_core::CryptoRng;

use crate::capabilities::Capabilities;
use crate::codec::{Bytes, Encode};
use crate::component::{AppComponents, AppDataDictionary, ComponentID};
use crate::credential::Credential;
use crate::crypto::{CryptoError, HpkePublicKey, SignatureKeyPair, SignaturePublicKey, Suite};
use crate::extension::{ExtensionType, Extensions};
use crate::tree_math::LeafIndex;

/// Label of a leaf's signature.
pub const LEAF_NODE_TBS: &str = "LeafNodeTBS";

crate::tls_struct! {
    /// When a leaf that came in a KeyPackage is valid. Seconds since 1970, both ends included.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Lifetime {
        /// The first second.
        pub not_before: u64,
        /// The last second.
        pub not_after: u64,
    }
}

impl Lifetime {
    /// Whether `now` (seconds since 1970) lies in it.
    #[must_use]
    pub fn contains(&self, now: u64) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }
}

crate::tls_enum! {
    /// Where a leaf comes from, with what that kind carries.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum LeafNodeSource: u8 {
        /// A KeyPackage, with its lifetime.
        KeyPackage(Lifetime) = 1,
        /// An Update proposal.
        Update = 2,
        /// A Commit's path, with the parent hash.
        Commit(Bytes) = 3,
    }
}

crate::tls_struct! {
    /// A member's leaf.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct LeafNode {
        /// The key that path secrets are encrypted to.
        pub encryption_key: HpkePublicKey,
        /// The key that verifies the member's messages.
        pub signature_key: SignaturePublicKey,
        /// Who it is.
        pub credential: Credential,
        /// What it can do.
        pub capabilities: Capabilities,
        /// Where the leaf comes from.
        pub leaf_node_source: LeafNodeSource,
        /// Further content.
        pub extensions: Extensions,
        /// By `signature_key`, over all of the above and, but for KeyPackages, the place.
        pub signature: Bytes,
    }
}

/// What the owner of a leaf chooses about it. The keys and the source come from the operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafParameters {
    /// Who it is.
    pub credential: Credential,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Further content.
    pub extensions: Extensions,
}

impl LeafParameters {
    /// The same with data of components in the leaf's `app_data_dictionary`, and the extension in the
    /// capabilities. The list of supported components is put in if it is not there, since who supports the
    /// extension has to have one (draft-ietf-mls-extensions, section 4.6).
    #[must_use]
    pub fn with_components(mut self, mut dictionary: AppDataDictionary) -> Self {
        if dictionary.data(ComponentID::APP_COMPONENTS).is_none() {
            dictionary.set(&AppComponents {
                component_ids: vec![ComponentID::APP_COMPONENTS, ComponentID::SAFE_AAD],
            });
        }
        self.extensions.set(&dictionary);
        let kind = ExtensionType::APP_DATA_DICTIONARY;
        if !self.capabilities.supports_extension(kind) {
            self.capabilities.extensions.push(kind);
        }
        self
    }
}

impl LeafParameters {
    /// The same with values that mean nothing, at random, among the capabilities and the extensions
    /// (section 13.5), and among the components that are listed, if there are such lists
    /// (draft-ietf-mls-extensions, section 5.1).
    #[must_use]
    pub fn with_grease(mut self, rng: &mut dyn CryptoRng) -> Self {
        self.extensions = self.extensions.with_grease(rng);
        if let Ok(Some(dictionary)) = self.extensions.get::<AppDataDictionary>() {
            self.extensions.set(&dictionary.with_grease_in_lists(rng));
        }
        self.capabilities = self.capabilities.with_grease(rng);
        let listed = &mut self.capabilities.extensions;
        for kind in self.extensions.types().filter(|kind| kind.is_grease()) {
            if !listed.contains(&kind) {
                listed.push(kind);
            }
        }
        self
    }
}

/// A leaf's place in a group, which the signature covers but for KeyPackages.
#[derive(Clone, Copy, Debug)]
pub struct LeafPosition<'a> {
    /// The group.
    pub group_id: &'a [u8],
    /// The leaf.
    pub leaf_index: LeafIndex,
}

impl LeafNode {
    /// Makes and signs a leaf. `position` is needed unless the source is a KeyPackage.
    ///
    /// # Errors
    /// [`CryptoError::InvalidPrivateKey`], the caller's.
    pub fn sign(
        suite: &dyn Suite,
        signer: &SignatureKeyPair,
        parameters: LeafParameters,
        encryption_key: HpkePublicKey,
        leaf_node_source: LeafNodeSource,
        position: Option<LeafPosition<'_>>,
    ) -> Result<Self, CryptoError> {
        let mut leaf = Self {
            encryption_key,
            signature_key: signer.public_key().clone(),
            credential: parameters.credential,
            capabilities: parameters.capabilities,
            leaf_node_source,
            extensions: parameters.extensions,
            signature: Bytes::default(),
        };
        let tbs = leaf.tbs(&leaf.to_bytes(), position);
        leaf.signature = suite.sign_with_label(signer, LEAF_NODE_TBS, &tbs)?;
        Ok(leaf)
    }

    /// Verifies the signature by the leaf's own key. Never encodes the leaf again: `encoded` is its
    /// encoding as it was received or kept.
    ///
    /// # Errors
    /// [`CryptoError::InvalidSignature`] or [`CryptoError::InvalidPublicKey`], the leaf's owner's.
    pub fn verify_signature(
        &self,
        suite: &dyn Suite,
        encoded: &[u8],
        position: Option<LeafPosition<'_>>,
    ) -> Result<(), CryptoError> {
        let tbs = self.tbs(encoded, position);
        suite.verify_with_label(&self.signature_key, LEAF_NODE_TBS, &tbs, &self.signature)
    }

    /// `LeafNodeTBS`, cut from the leaf's encoding. `position` is left out for KeyPackage leaves.
    #[must_use]
    pub fn tbs(&self, encoded: &[u8], position: Option<LeafPosition<'_>>) -> Vec<u8> {
        // The signature, with its length, is the last field of the encoding.
        let signature_length = self.signature.to_bytes().len();
        let mut tbs = encoded[..encoded.len().saturating_sub(signature_length)].to_vec();
        if !matches!(self.leaf_node_source, LeafNodeSource::KeyPackage(_))
            && let Some(position) = position
        {
            crate::codec::encode_bytes(position.group_id, &mut tbs);
            position.leaf_index.encode(&mut tbs);
        }
        tbs
    }

    /// The parts that the leaf's owner chose, to make the next one like it.
    #[must_use]
    pub fn parameters(&self) -> LeafParameters {
        LeafParameters {
            credential: self.credential.clone(),
            capabilities: self.capabilities.clone(),
            extensions: self.extensions.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::capabilities::Capabilities;
    use crate::codec::{Decode, Reader};
    use crate::credential::{Certificate, Credential};
    use crate::crypto::CipherSuite;
    use crate::extension::ApplicationId;

    fn leaf_nodes() -> Vec<Vec<u8>> {
        let certificates = vec![
            Certificate {
                cert_data: [7; 3].into()
            };
            2
        ];
        let application_id = [1, 2].into();
        let sources = [
            LeafNodeSource::KeyPackage(Lifetime {
                not_before: 1,
                not_after: 2,
            }),
            LeafNodeSource::Update,
            LeafNodeSource::Commit([9; 32].into()),
        ];
        let of_source = |leaf_node_source| LeafNode {
            encryption_key: [1; 32].into(),
            signature_key: [2; 32].into(),
            credential: match leaf_node_source {
                LeafNodeSource::Update => Credential::basic([5; 70]),
                _ => Credential::X509 {
                    certificates: certificates.clone(),
                },
            },
            capabilities: Capabilities {
                cipher_suites: vec![CipherSuite(1); 3],
                ..Capabilities::default()
            },
            extensions: match leaf_node_source {
                LeafNodeSource::Update => Extensions::default(),
                _ => Extensions::default().with(&ApplicationId {
                    application_id: Bytes::clone(&application_id),
                }),
            },
            leaf_node_source,
            signature: [3; 64].into(),
        };
        sources
            .map(of_source)
            .map(|leaf_node| leaf_node.to_bytes())
            .into()
    }

    proptest! {
        /// Bytes are passed over exactly when they can be decoded, and as many of them.
        #[test]
        fn skipping_is_decoding(
            which in 0..3_usize,
            cut in 0..300_usize,
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        ) {
            let mut bytes = leaf_nodes().swap_remove(which);
            for (place, value) in changes {
                let place = place.index(bytes.len());
                bytes[place] = value;
            }
            bytes.truncate(cut);
            let (mut decoded, mut skipped) = (Reader::new(&bytes), Reader::new(&bytes));
            let decoding = LeafNode::decode(&mut decoded).map(drop);
            prop_assert_eq!(LeafNode::skip(&mut skipped), decoding);
            if decoding.is_ok() {
                prop_assert_eq!(skipped.rest(), decoded.rest());
            }
        }
    }
}
