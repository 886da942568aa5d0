//! What components do with the group's keys (draft-ietf-mls-extensions, sections 4.2 and 4.3). What is
//! made here is of use for the same component and label only, and for nothing of MLS itself.

use rand_core::CryptoRng;

use super::Group;
use crate::codec::Bytes;
use crate::commit::HpkeCiphertext;
use crate::component::ComponentID;
use crate::crypto::{HpkeKeyPair, Secret, SignatureKeyPair};
use crate::error::Error;
use crate::key_schedule;
use crate::tree_math::{LeafIndex, NodeIndex};

/// An HPKE key of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupKey {
    /// That of a node of the ratchet tree, which the members below it have for as long as it does not
    /// change: of a leaf for its member alone. Not to be used for the root, for which `External` is.
    Node(NodeIndex),
    /// The external key, which all members have in this epoch only.
    External,
}

impl GroupKey {
    /// The key of one member; none if there is no such leaf in any tree.
    #[must_use]
    pub fn member(leaf: LeafIndex) -> Option<Self> {
        leaf.node().map(Self::Node)
    }
}

impl Group {
    /// `SafeSignWithLabel` with the key in our leaf. `component_id` is that of the component that asks.
    ///
    /// # Errors
    /// [`Error::WrongSigner`] or
    /// [`CryptoError::InvalidPrivateKey`](crate::crypto::CryptoError::InvalidPrivateKey), the caller's.
    pub fn safe_sign_with_label(
        &self,
        signer: &SignatureKeyPair,
        component_id: ComponentID,
        label: &[u8],
        content: &[u8],
    ) -> Result<Bytes, Error> {
        self.check_signer(signer)?;
        let suite = self.suite();
        Ok(suite.safe_sign_with_label(signer, component_id, label, content)?)
    }

    /// `SafeVerifyWithLabel` with the key in a member's leaf.
    ///
    /// # Errors
    /// [`Error::NoKey`] if there is no such member;
    /// [`CryptoError::InvalidSignature`](crate::crypto::CryptoError::InvalidSignature), the signer's.
    pub fn safe_verify_with_label(
        &self,
        signer: LeafIndex,
        component_id: ComponentID,
        label: &[u8],
        content: &[u8],
        signature: &[u8],
    ) -> Result<(), Error> {
        let leaf = self.tree().leaf(signer).ok_or(Error::NoKey)?;
        let (suite, key) = (self.suite(), leaf.signature_key());
        Ok(suite.safe_verify_with_label(key, component_id, label, content, signature)?)
    }

    /// `SafeEncryptWithLabel` to one of the group's keys. `component_id` is that of the component that
    /// is to decrypt.
    ///
    /// # Errors
    /// The caller's: [`Error::NoKey`] if the node is blank; [`Error::GroupSuspended`] after a ReInit,
    /// when no member has its private keys any more.
    pub fn safe_encrypt_with_label(
        &self,
        key: GroupKey,
        component_id: ComponentID,
        label: &[u8],
        context: &[u8],
        plaintext: &[u8],
        rng: &mut dyn CryptoRng,
    ) -> Result<HpkeCiphertext, Error> {
        self.check_active()?;
        let external;
        let public_key: &[u8] = match key {
            GroupKey::Node(node) => self.tree().node(node).ok_or(Error::NoKey)?.encryption_key(),
            GroupKey::External => {
                external = self.external_key_pair()?;
                external.public_key()
            }
        };
        Ok(self.suite().safe_encrypt_with_label(
            public_key,
            component_id,
            label,
            context,
            plaintext,
            rng,
        )?)
    }

    /// `SafeDecryptWithLabel` with one of our private keys. `component_id` is that of the component that
    /// asks.
    ///
    /// # Errors
    /// [`Error::NoKey`] if we do not have the key, [`Error::GroupSuspended`] after a ReInit, which has
    /// ended them all: the caller's;
    /// [`CryptoError::DecryptionFailed`](crate::crypto::CryptoError::DecryptionFailed), the sender's.
    pub fn safe_decrypt_with_label(
        &self,
        key: GroupKey,
        component_id: ComponentID,
        label: &[u8],
        context: &[u8],
        ciphertext: &HpkeCiphertext,
    ) -> Result<Secret, Error> {
        self.check_active()?;
        let external;
        let pair = match key {
            GroupKey::Node(node) => self.state().own_keys.get(node).ok_or(Error::NoKey)?,
            GroupKey::External => {
                external = self.external_key_pair()?;
                &external
            }
        };
        let suite = self.suite();
        Ok(suite.safe_decrypt_with_label(pair, component_id, label, context, ciphertext)?)
    }

    fn external_key_pair(&self) -> Result<HpkeKeyPair, Error> {
        let secret = &self.active_secrets()?.external_secret;
        Ok(key_schedule::external_key_pair(self.suite(), secret))
    }
}
