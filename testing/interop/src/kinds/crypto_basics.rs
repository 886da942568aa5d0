//! `crypto-basics`: the labelled functions.

use folkmoot_mls::codec::Bytes;
use folkmoot_mls::commit::HpkeCiphertext;
use folkmoot_mls::crypto::{HpkeKeyPair, SignatureKeyPair, Suite};
use rand_core::CryptoRng;
use serde::Deserialize;

use super::private_key;
use crate::check::{Failure, Hex, check};

/// One case.
#[derive(Debug, Deserialize)]
pub struct Case {
    /// The suite.
    pub cipher_suite: u16,
    ref_hash: RefHash,
    expand_with_label: ExpandWithLabel,
    derive_secret: DeriveSecret,
    derive_tree_secret: DeriveTreeSecret,
    sign_with_label: SignWithLabel,
    encrypt_with_label: EncryptWithLabel,
}

#[derive(Debug, Deserialize)]
struct RefHash {
    label: String,
    value: Hex,
    out: Hex,
}

#[derive(Debug, Deserialize)]
struct ExpandWithLabel {
    secret: Hex,
    label: String,
    context: Hex,
    length: u16,
    out: Hex,
}

#[derive(Debug, Deserialize)]
struct DeriveSecret {
    secret: Hex,
    label: String,
    out: Hex,
}

#[derive(Debug, Deserialize)]
struct DeriveTreeSecret {
    secret: Hex,
    label: String,
    generation: u32,
    length: u16,
    out: Hex,
}

#[derive(Debug, Deserialize)]
struct SignWithLabel {
    #[serde(rename = "priv")]
    private_key: Hex,
    #[serde(rename = "pub")]
    public_key: Hex,
    content: Hex,
    label: String,
    signature: Hex,
}

#[derive(Debug, Deserialize)]
struct EncryptWithLabel {
    #[serde(rename = "priv")]
    private_key: Hex,
    #[serde(rename = "pub")]
    public_key: Hex,
    label: String,
    context: Hex,
    plaintext: Hex,
    kem_output: Hex,
    ciphertext: Hex,
}

impl Case {
    /// Computes each function.
    ///
    /// # Errors
    /// [`Failure`], the engine's.
    pub fn verify(&self, suite: &dyn Suite, rng: &mut dyn CryptoRng) -> Result<(), Failure> {
        let RefHash { label, value, out } = &self.ref_hash;
        check(
            *suite.ref_hash(label.as_bytes(), value) == **out,
            "ref_hash",
        )?;

        let case = &self.expand_with_label;
        let length = case.length.into();
        let expanded = suite.expand_with_label(&case.secret, &case.label, &case.context, length);
        check(*expanded == *case.out, "expand_with_label")?;

        let DeriveSecret { secret, label, out } = &self.derive_secret;
        check(
            *suite.derive_secret(secret, label) == **out,
            "derive_secret",
        )?;

        let case = &self.derive_tree_secret;
        let length = case.length.into();
        let derived = suite.derive_tree_secret(&case.secret, &case.label, case.generation, length);
        check(*derived == *case.out, "derive_tree_secret")?;

        self.sign_with_label.verify(suite)?;
        self.encrypt_with_label.verify(suite, rng)
    }
}

impl SignWithLabel {
    fn verify(&self, suite: &dyn Suite) -> Result<(), Failure> {
        let Self { label, content, .. } = self;
        suite.verify_with_label(&self.public_key, label, content, &self.signature)?;
        let key_pair = SignatureKeyPair::new(
            private_key(suite, &self.private_key),
            Bytes::from(&self.public_key).into(),
        );
        let signature = suite.sign_with_label(&key_pair, label, content)?;
        suite.verify_with_label(&self.public_key, label, content, &signature)?;
        let public_key = suite.signature_public_key(&private_key(suite, &self.private_key))?;
        check(*public_key == *self.public_key, "sign_with_label.pub")
    }
}

impl EncryptWithLabel {
    fn verify(&self, suite: &dyn Suite, rng: &mut dyn CryptoRng) -> Result<(), Failure> {
        let Self { label, context, .. } = self;
        let key_pair = HpkeKeyPair::new(
            private_key(suite, &self.private_key),
            Bytes::from(&self.public_key).into(),
        );
        let open = |ciphertext: &HpkeCiphertext| {
            let opened = suite.decrypt_with_label(&key_pair, label, context, ciphertext)?;
            check(*opened == *self.plaintext, "encrypt_with_label.plaintext")
        };
        open(&HpkeCiphertext {
            kem_output: Bytes::from(&self.kem_output),
            ciphertext: Bytes::from(&self.ciphertext),
        })?;
        let sealed =
            suite.encrypt_with_label(&self.public_key, label, context, &self.plaintext, rng)?;
        open(&sealed)?;
        let public_key = suite.kem_public_key(&private_key(suite, &self.private_key))?;
        check(*public_key == *self.public_key, "encrypt_with_label.pub")
    }
}
