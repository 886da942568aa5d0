//! What MLS builds from the primitives: a label in every signature, encryption and derivation
//! (RFC 9420, sections 5.1.2, 5.1.3, 5.2, 8 and 9.1). All are methods of `dyn Suite`.

use rand_core::CryptoRng;
use subtle::ConstantTimeEq;

use super::hpke::HpkeInfo;
use super::{CryptoError, Hash, HpkeKeyPair, Secret, SignatureKeyPair, Suite};
use crate::codec::{Bytes, EncodedLength, encode_bytes, encode_length, encode_prefixed_about};
use crate::commit::HpkeCiphertext;

/// In front of every label.
const PREFIX: &str = "MLS 1.0 ";

impl dyn Suite + '_ {
    /// `ExpandWithLabel`: `length` bytes from a secret.
    ///
    /// # Panics
    /// If `length` exceeds 255 times the hash length; all of the protocol's own are far below.
    #[must_use]
    pub fn expand_with_label(
        &self,
        secret: &[u8],
        label: &str,
        context: &[u8],
        length: usize,
    ) -> Secret {
        let label_length = EncodedLength::of(PREFIX.len() + label.len());
        let context_length = EncodedLength::of(context.len());
        let parts: [&[u8]; 6] = [
            &(length as u16).to_be_bytes(),
            label_length.as_slice(),
            PREFIX.as_bytes(),
            label.as_bytes(),
            context_length.as_slice(),
            context,
        ];
        self.expand(secret, &parts, length)
    }

    /// `DeriveSecret`.
    #[must_use]
    pub fn derive_secret(&self, secret: &[u8], label: &str) -> Secret {
        self.expand_with_label(secret, label, &[], self.hash_length())
    }

    /// `DeriveTreeSecret`.
    #[must_use]
    pub fn derive_tree_secret(
        &self,
        secret: &[u8],
        label: &str,
        generation: u32,
        length: usize,
    ) -> Secret {
        self.expand_with_label(secret, label, &generation.to_be_bytes(), length)
    }

    /// `SignWithLabel`.
    ///
    /// # Errors
    /// [`CryptoError::InvalidPrivateKey`], the caller's.
    pub fn sign_with_label(
        &self,
        key_pair: &SignatureKeyPair,
        label: &(impl AsRef<[u8]> + ?Sized),
        content: &[u8],
    ) -> Result<Bytes, CryptoError> {
        self.sign(key_pair, &signed_data(label, content))
    }

    /// `VerifyWithLabel`.
    ///
    /// # Errors
    /// [`CryptoError::InvalidSignature`] or [`CryptoError::InvalidPublicKey`], the signer's.
    pub fn verify_with_label(
        &self,
        public_key: &[u8],
        label: &(impl AsRef<[u8]> + ?Sized),
        content: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        self.verify(public_key, &signed_data(label, content), signature)
    }

    /// `EncryptWithLabel`.
    ///
    /// # Errors
    /// [`CryptoError::InvalidPublicKey`], its publisher's.
    pub fn encrypt_with_label(
        &self,
        public_key: &[u8],
        label: &(impl AsRef<[u8]> + ?Sized),
        context: &[u8],
        plaintext: &[u8],
        rng: &mut dyn CryptoRng,
    ) -> Result<HpkeCiphertext, CryptoError> {
        self.hpke_seal(
            public_key,
            &self.encrypt_info(label, context),
            &[],
            plaintext,
            rng,
        )
    }

    /// `DecryptWithLabel`.
    ///
    /// # Errors
    /// [`CryptoError::DecryptionFailed`] or [`CryptoError::InvalidPublicKey`], the sender's.
    pub fn decrypt_with_label(
        &self,
        key_pair: &HpkeKeyPair,
        label: &(impl AsRef<[u8]> + ?Sized),
        context: &[u8],
        ciphertext: &HpkeCiphertext,
    ) -> Result<Secret, CryptoError> {
        self.hpke_open(
            key_pair,
            &self.encrypt_info(label, context),
            &[],
            ciphertext,
        )
    }

    /// What `EncryptWithLabel` does not need a recipient for. To encrypt the same label and context
    /// to many, make this once and call `hpke_seal` with it.
    #[must_use]
    pub fn encrypt_info(&self, label: &(impl AsRef<[u8]> + ?Sized), context: &[u8]) -> HpkeInfo {
        let mut head = Vec::with_capacity(64);
        encode_label(label, &mut head);
        encode_length(context.len(), &mut head);
        self.hpke_info(&[&head, context])
    }

    /// `RefHash`. The label is complete, prefix included (section 5.2).
    #[must_use]
    pub fn ref_hash(&self, label: &[u8], value: &[u8]) -> Hash {
        let mut head = Vec::with_capacity(label.len() + 8);
        encode_bytes(label, &mut head);
        encode_length(value.len(), &mut head);
        self.hash_parts(&[&head, value])
    }

    /// `MAC`, as `opaque MAC<V>` holds it.
    #[must_use]
    pub fn mac(&self, key: &[u8], data: &[u8]) -> Bytes {
        self.hmac(key, data).into()
    }

    /// Verifies a MAC in constant time.
    ///
    /// # Errors
    /// [`CryptoError::InvalidMac`].
    pub fn verify_mac(&self, key: &[u8], data: &[u8], mac: &[u8]) -> Result<(), CryptoError> {
        let equal = self.hmac(key, data).as_slice().ct_eq(mac);
        if bool::from(equal) {
            Ok(())
        } else {
            Err(CryptoError::InvalidMac)
        }
    }
}

/// `SignContent`: what is really signed.
#[must_use]
pub fn signed_data(label: &(impl AsRef<[u8]> + ?Sized), content: &[u8]) -> Vec<u8> {
    signed_data_of(label, content.len(), |out| out.extend_from_slice(content))
}

/// `SignContent` of what `content` writes, about `capacity` bytes.
#[must_use]
pub fn signed_data_of(
    label: &(impl AsRef<[u8]> + ?Sized),
    capacity: usize,
    content: impl FnOnce(&mut Vec<u8>),
) -> Vec<u8> {
    let mut data = Vec::with_capacity(capacity + label.as_ref().len() + 16);
    encode_label(label, &mut data);
    encode_prefixed_about(capacity, &mut data, content);
    data
}

/// `opaque label<V>` with the prefix.
fn encode_label(label: &(impl AsRef<[u8]> + ?Sized), out: &mut Vec<u8>) {
    let label = label.as_ref();
    encode_length(PREFIX.len() + label.len(), out);
    out.extend_from_slice(PREFIX.as_bytes());
    out.extend_from_slice(label);
}
