//! Operations with the group's keys on behalf of a component (draft-ietf-mls-extensions, sections 4.1
//! to 4.3). All are methods of `dyn Suite`.

use rand_core::CryptoRng;

use super::ComponentID;
use crate::codec::{Bytes, Encode};
use crate::commit::HpkeCiphertext;
use crate::crypto::{CryptoError, HpkeKeyPair, Secret, SignatureKeyPair, Suite};

/// In every [`ComponentOperationLabel`].
pub const BASE_LABEL: &[u8] = b"MLS Component";

crate::tls_struct! {
    /// What an operation is labelled with: it serves no other component and no other purpose, and
    /// never MLS itself.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ComponentOperationLabel {
        /// [`BASE_LABEL`].
        pub base_label: Bytes,
        /// The component that does it.
        pub component_id: ComponentID,
        /// The component's own name for it.
        pub label: Bytes,
    }
}

impl ComponentOperationLabel {
    /// The label of a component's operation.
    #[must_use]
    pub fn new(component_id: ComponentID, label: &[u8]) -> Self {
        Self {
            base_label: BASE_LABEL.into(),
            component_id,
            label: label.into(),
        }
    }
}

impl dyn Suite + '_ {
    /// `SafeSignWithLabel`. `component_id` is that of the component that signs.
    ///
    /// # Errors
    /// [`CryptoError::InvalidPrivateKey`], the caller's.
    pub fn safe_sign_with_label(
        &self,
        key_pair: &SignatureKeyPair,
        component_id: ComponentID,
        label: &[u8],
        content: &[u8],
    ) -> Result<Bytes, CryptoError> {
        let label = ComponentOperationLabel::new(component_id, label).to_bytes();
        self.sign_with_label(key_pair, &label, content)
    }

    /// `SafeVerifyWithLabel`. `component_id` is that of the component that signed.
    ///
    /// # Errors
    /// [`CryptoError::InvalidSignature`] or [`CryptoError::InvalidPublicKey`], the signer's.
    pub fn safe_verify_with_label(
        &self,
        public_key: &[u8],
        component_id: ComponentID,
        label: &[u8],
        content: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        let label = ComponentOperationLabel::new(component_id, label).to_bytes();
        self.verify_with_label(public_key, &label, content, signature)
    }

    /// `SafeEncryptWithLabel`. `component_id` is that of the component that is to decrypt.
    ///
    /// # Errors
    /// [`CryptoError::InvalidPublicKey`], its publisher's.
    pub fn safe_encrypt_with_label(
        &self,
        public_key: &[u8],
        component_id: ComponentID,
        label: &[u8],
        context: &[u8],
        plaintext: &[u8],
        rng: &mut dyn CryptoRng,
    ) -> Result<HpkeCiphertext, CryptoError> {
        let label = ComponentOperationLabel::new(component_id, label).to_bytes();
        self.encrypt_with_label(public_key, &label, context, plaintext, rng)
    }

    /// `SafeDecryptWithLabel`. `component_id` is that of the component that decrypts.
    ///
    /// # Errors
    /// [`CryptoError::DecryptionFailed`] or [`CryptoError::InvalidPublicKey`], the sender's.
    pub fn safe_decrypt_with_label(
        &self,
        key_pair: &HpkeKeyPair,
        component_id: ComponentID,
        label: &[u8],
        context: &[u8],
        ciphertext: &HpkeCiphertext,
    ) -> Result<Secret, CryptoError> {
        let label = ComponentOperationLabel::new(component_id, label).to_bytes();
        self.decrypt_with_label(key_pair, &label, context, ciphertext)
    }
}

#[cfg(all(test, feature = "aws-lc"))]
mod tests {
    use super::*;
    use crate::crypto::{CryptoProvider, aws_lc::PROVIDER};
    use crate::testing::StepRng;

    const ONE: ComponentID = ComponentID(0x8001);
    const OTHER: ComponentID = ComponentID(0x8002);

    #[test]
    fn a_label_is_encoded_as_the_draft_says() {
        let label = ComponentOperationLabel::new(ONE, b"x");
        assert_eq!(label.to_bytes(), b"\x0dMLS Component\x80\x01\x01x");
    }

    #[test]
    fn what_one_component_signs_and_is_sent_is_of_no_use_to_another() {
        let mut rng = StepRng(3);
        for suite in PROVIDER.suites() {
            let suite = PROVIDER.suite(*suite).unwrap();
            let signer = suite.signature_key_pair(&mut rng);
            let key = signer.public_key();
            let signature = suite.safe_sign_with_label(&signer, ONE, b"label", b"content");
            let signature = signature.unwrap();
            let verify = |component, label: &[u8], content: &[u8]| {
                suite.safe_verify_with_label(key, component, label, content, &signature)
            };
            assert_eq!(verify(ONE, b"label", b"content"), Ok(()));
            let invalid = Err(CryptoError::InvalidSignature);
            assert_eq!(verify(OTHER, b"label", b"content"), invalid);
            assert_eq!(verify(ONE, b"other", b"content"), invalid);
            assert_eq!(verify(ONE, b"label", b"another"), invalid);
            assert_eq!(
                suite.verify_with_label(key, b"label", b"content", &signature),
                invalid,
                "it is none of MLS itself"
            );

            let pair = suite.kem_key_pair(&mut rng);
            let sealed = suite
                .safe_encrypt_with_label(pair.public_key(), ONE, b"l", b"c", b"secret", &mut rng)
                .unwrap();
            let open = |component, label: &[u8], context: &[u8]| {
                suite.safe_decrypt_with_label(&pair, component, label, context, &sealed)
            };
            assert_eq!(open(ONE, b"l", b"c").unwrap().as_slice(), b"secret");
            let failed = Err(CryptoError::DecryptionFailed);
            assert_eq!(open(OTHER, b"l", b"c"), failed);
            assert_eq!(open(ONE, b"m", b"c"), failed);
            assert_eq!(open(ONE, b"l", b"d"), failed);
            assert_eq!(suite.decrypt_with_label(&pair, b"l", b"c", &sealed), failed);
        }
    }
}
