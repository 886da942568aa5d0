//! A group's state, signed by a member for somebody outside (RFC 9420, section 12.4.3).

use crate::codec::{Bytes, Encode};
use crate::crypto::{CryptoError, SignatureKeyPair, Suite};
use crate::extension::Extensions;
use crate::group_context::GroupContext;
use crate::tree_math::LeafIndex;

/// Label of a GroupInfo's signature.
pub const GROUP_INFO_TBS: &str = "GroupInfoTBS";

crate::tls_struct! {
    /// A signed summary of a group.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct GroupInfo {
        /// The group's state.
        pub group_context: GroupContext,
        /// Further content, the ratchet tree for one.
        pub extensions: Extensions,
        /// The MAC by the epoch's confirmation key.
        pub confirmation_tag: Bytes,
        /// Who signed.
        pub signer: LeafIndex,
        /// The signature.
        pub signature: Bytes,
    }
}

impl GroupInfo {
    /// Makes and signs a GroupInfo.
    ///
    /// # Errors
    /// [`CryptoError::InvalidPrivateKey`], the caller's.
    pub fn sign(
        suite: &dyn Suite,
        key_pair: &SignatureKeyPair,
        group_context: GroupContext,
        extensions: Extensions,
        confirmation_tag: Bytes,
        signer: LeafIndex,
    ) -> Result<Self, CryptoError> {
        let signature = Bytes::default();
        let mut info = Self {
            group_context,
            extensions,
            confirmation_tag,
            signer,
            signature,
        };
        info.signature = suite.sign_with_label(key_pair, GROUP_INFO_TBS, &info.tbs())?;
        Ok(info)
    }

    /// Verifies the signature by the signer's key, which the caller takes from the tree.
    ///
    /// # Errors
    /// [`CryptoError::InvalidSignature`] or [`CryptoError::InvalidPublicKey`], the signer's.
    pub fn verify_signature(
        &self,
        suite: &dyn Suite,
        public_key: &[u8],
    ) -> Result<(), CryptoError> {
        suite.verify_with_label(public_key, GROUP_INFO_TBS, &self.tbs(), &self.signature)
    }

    /// `GroupInfoTBS`.
    #[must_use]
    pub fn tbs(&self) -> Vec<u8> {
        let mut tbs = Vec::new();
        self.group_context.encode(&mut tbs);
        self.extensions.encode(&mut tbs);
        self.confirmation_tag.encode(&mut tbs);
        self.signer.encode(&mut tbs);
        tbs
    }
}
