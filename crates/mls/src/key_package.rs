//! Key packages: what somebody needs to add a client that is offline (RFC 9420, section 10).

use rand_core::CryptoRng;

use crate::code_point::ProtocolVersion;
use crate::codec::{Bytes, Encode};
use crate::crypto::{
    CipherSuite, CryptoError, Hash, HpkePublicKey, Secret, SignatureKeyPair, Suite,
};
use crate::extension::Extensions;
use crate::leaf_node::{LeafNode, LeafNodeSource, LeafParameters, Lifetime};

/// Label of a KeyPackage's signature.
pub const KEY_PACKAGE_TBS: &str = "KeyPackageTBS";

/// Label of a KeyPackage's reference.
pub const KEY_PACKAGE_REFERENCE: &str = "MLS 1.0 KeyPackage Reference";

/// `HashReference KeyPackageRef`.
pub type KeyPackageRef = Bytes;

crate::tls_struct! {
    /// A client's offer to be added.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct KeyPackage {
        /// The protocol's version.
        pub version: ProtocolVersion,
        /// The algorithms of the keys.
        pub cipher_suite: CipherSuite,
        /// The key that a Welcome is encrypted to, used once.
        pub init_key: HpkePublicKey,
        /// The leaf that goes into the tree.
        pub leaf_node: LeafNode,
        /// Further content.
        pub extensions: Extensions,
        /// By the leaf's signature key.
        pub signature: Bytes,
    }
}

crate::tls_struct! {
    /// A KeyPackage with the private keys behind it, for the owner's storage. The init key is deleted
    /// once a Welcome was processed with it.
    #[derive(Clone, Debug, PartialEq)]
    pub struct KeyPackageBundle {
        /// The public part.
        pub key_package: KeyPackage,
        /// The private key of `init_key`.
        pub init_private_key: Secret,
        /// The private key of the leaf's `encryption_key`.
        pub encryption_private_key: Secret,
    }
}

impl KeyPackage {
    /// Makes and signs a KeyPackage with fresh keys.
    ///
    /// # Errors
    /// [`CryptoError::InvalidPrivateKey`], the caller's.
    pub fn create(
        suite: &dyn Suite,
        signer: &SignatureKeyPair,
        leaf: LeafParameters,
        lifetime: Lifetime,
        extensions: Extensions,
        rng: &mut dyn CryptoRng,
    ) -> Result<KeyPackageBundle, CryptoError> {
        let (init_private_key, init_key) = suite.kem_key_pair(rng).into_halves();
        let (encryption_private_key, encryption_key) = suite.kem_key_pair(rng).into_halves();
        let leaf_node = LeafNode::sign(
            suite,
            signer,
            leaf,
            encryption_key,
            LeafNodeSource::KeyPackage(lifetime),
            None,
        )?;
        let mut key_package = Self {
            version: ProtocolVersion::MLS10,
            cipher_suite: suite.id(),
            init_key,
            leaf_node,
            extensions,
            signature: Bytes::default(),
        };
        key_package.signature =
            suite.sign_with_label(signer, KEY_PACKAGE_TBS, &key_package.tbs())?;
        Ok(KeyPackageBundle {
            key_package,
            init_private_key,
            encryption_private_key,
        })
    }

    /// Verifies the KeyPackage's own signature. The leaf's is another matter.
    ///
    /// # Errors
    /// [`CryptoError::InvalidSignature`] or [`CryptoError::InvalidPublicKey`], the owner's.
    pub fn verify_signature(&self, suite: &dyn Suite) -> Result<(), CryptoError> {
        let key = &self.leaf_node.signature_key;
        suite.verify_with_label(key, KEY_PACKAGE_TBS, &self.tbs(), &self.signature)
    }

    /// `MakeKeyPackageRef` (section 5.2).
    #[must_use]
    pub fn reference(&self, suite: &dyn Suite) -> Hash {
        suite.ref_hash(KEY_PACKAGE_REFERENCE.as_bytes(), &self.to_bytes())
    }

    /// `KeyPackageTBS`.
    #[must_use]
    pub fn tbs(&self) -> Vec<u8> {
        let mut tbs = Vec::new();
        self.version.encode(&mut tbs);
        self.cipher_suite.encode(&mut tbs);
        self.init_key.encode(&mut tbs);
        self.leaf_node.encode(&mut tbs);
        self.extensions.encode(&mut tbs);
        tbs
    }
}
