//! The Ed25519 keys of services, fences and mailbox owners, and how statements are signed and hashed.
//!
//! A signature covers a label and a statement (`SignContent` of RFC 9420, section 5.1.2, with our
//! own prefix), so a signature made for one purpose is none for another.

use ed25519_zebra::{
    Signature, SigningKey as Ed25519SigningKey, VerificationKey, VerificationKeyBytes, batch,
};
use folkmoot_mls::codec::{Decode, DecodeError, Encode, Reader, encode_bytes};
use folkmoot_mls::crypto::SignatureKeyPair;
use rand_core::CryptoRng;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

const PREFIX: &[u8] = b"Folkmoot 1.0 ";

/// A signature does not verify: whoever made the statement is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

/// A secret signing key, kept as its 32-byte seed.
#[derive(Clone)]
pub struct SigningKey(Zeroizing<[u8; 32]>);

impl SigningKey {
    /// A fresh key.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(seed.as_mut());
        Self(seed)
    }

    /// The key of a seed, which must be a secret of full strength.
    #[must_use]
    pub fn from_seed(seed: Zeroizing<[u8; 32]>) -> Self {
        Self(seed)
    }

    /// The seed, for storing.
    #[must_use]
    pub fn seed(&self) -> &Zeroizing<[u8; 32]> {
        &self.0
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(VerificationKey::from(&*self.expanded()).into())
    }

    /// The same key as the engine takes it, for the leaves of cipher suites that sign with Ed25519.
    #[must_use]
    pub fn signature_key_pair(&self) -> SignatureKeyPair {
        SignatureKeyPair::new(self.0.as_slice().into(), self.public().0.into())
    }

    /// Signs `statement` for the purpose that `label` names. 64 bytes.
    pub fn sign(&self, label: &str, statement: &impl Encode) -> [u8; 64] {
        self.expanded()
            .sign(&signed_bytes(label, statement))
            .to_bytes()
    }

    fn expanded(&self) -> Zeroizing<Ed25519SigningKey> {
        Zeroizing::new(Ed25519SigningKey::from(*self.0))
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

/// A public key, 32 bytes. Whether the bytes are a point is seen when a signature is verified.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// Reads a key from a protobuf field; `None` unless it has 32 bytes.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Its first eight bytes: tells keys apart that were not made to be alike.
    #[must_use]
    pub fn id(&self) -> [u8; 8] {
        std::array::from_fn(|place| self.0[place])
    }

    /// Checks a signature over `statement` for the purpose that `label` names.
    ///
    /// # Errors
    /// [`BadSignature`], also for a key or signature of the wrong form.
    pub fn verify(
        &self,
        label: &str,
        statement: &impl Encode,
        signature: &[u8],
    ) -> Result<(), BadSignature> {
        let signature = Signature::try_from(signature).map_err(|_| BadSignature)?;
        VerificationKey::try_from(self.0)
            .and_then(|key| key.verify(&signature, &signed_bytes(label, statement)))
            .map_err(|_| BadSignature)
    }
}

/// How signed statements are checked: [`AtOnce`], or [`Together`] with others.
pub(crate) trait Verifier {
    /// Whether the signature verifies, as far as is known now.
    fn verify(
        &mut self,
        key: &PublicKey,
        label: &str,
        statement: &impl Encode,
        signature: &[u8; 64],
    ) -> bool;
}

/// Each by itself.
pub(crate) struct AtOnce;

impl Verifier for AtOnce {
    fn verify(
        &mut self,
        key: &PublicKey,
        label: &str,
        statement: &impl Encode,
        signature: &[u8; 64],
    ) -> bool {
        key.verify(label, statement, signature).is_ok()
    }
}

/// All later, by one equation that accepts exactly what [`PublicKey::verify`] accepts of each (ZIP 215).
#[derive(Default)]
pub(crate) struct Together(batch::Verifier);

impl Verifier for Together {
    fn verify(
        &mut self,
        key: &PublicKey,
        label: &str,
        statement: &impl Encode,
        signature: &[u8; 64],
    ) -> bool {
        let message = signed_bytes(label, statement);
        let key = VerificationKeyBytes::from(key.0);
        self.0
            .queue((key, Signature::from(*signature), message.as_slice()));
        true
    }
}

impl Together {
    /// Whether all of them verify.
    pub fn finish(self, rng: &mut dyn CryptoRng) -> bool {
        self.0.verify(rng).is_ok()
    }
}

impl PublicKey {
    /// Whether anybody can sign for this key: it is a point of small order, for which a signature
    /// that was made with no secret at all verifies. Nobody proves possession of such a key.
    #[must_use]
    pub fn is_anybodys(&self) -> bool {
        // The neutral point, and zero.
        let mut signature = [0; 64];
        signature[0] = 1;
        self.verify("anybody", &0u8, &signature).is_ok()
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PublicKey(")?;
        self.0[..8]
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

impl From<PublicKey> for Vec<u8> {
    fn from(key: PublicKey) -> Self {
        key.0.to_vec()
    }
}

impl Encode for PublicKey {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

impl Decode for PublicKey {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array().map(Self)
    }
}

/// SHA-256 of a label and a statement, framed as for a signature.
#[must_use]
pub fn hash(label: &str, statement: &impl Encode) -> [u8; 32] {
    Sha256::digest(signed_bytes(label, statement)).into()
}

fn signed_bytes(label: &str, statement: &impl Encode) -> Vec<u8> {
    let mut out = Vec::new();
    encode_bytes(&[PREFIX, label.as_bytes()].concat(), &mut out);
    encode_bytes(&statement.to_bytes(), &mut out);
    out
}

#[cfg(test)]
mod tests {
    use rand_core::SeedableRng;

    use super::*;

    #[test]
    fn a_key_of_small_order_is_anybodys() {
        let mut neutral = [0; 32];
        neutral[0] = 1;
        // The neutral point, one of order 4, and one that is no key at all.
        for (key, expected) in [(neutral, true), ([0; 32], true), ([2; 32], false)] {
            assert_eq!(PublicKey(key).is_anybodys(), expected);
        }
        for seed in 0..16 {
            let key = SigningKey::from_seed(Zeroizing::new([seed; 32]));
            assert!(!key.public().is_anybodys());
        }
    }

    /// The batch itself has to say yes: the judge would only do the work twice, unseen.
    #[test]
    fn signatures_are_verified_together() {
        let together = |labels: [&str; 8]| {
            let mut together = Together::default();
            for (seed, label) in (0..).zip(labels) {
                let key = SigningKey::from_seed(Zeroizing::new([seed; 32]));
                let signature = key.sign("one", &seed);
                assert!(together.verify(&key.public(), label, &seed, &signature));
            }
            let mut rng = rand_chacha::ChaCha20Rng::from_seed([1; 32]);
            together.finish(&mut rng)
        };
        let mut labels = ["one"; 8];
        assert!(together(labels));
        labels[5] = "two";
        assert!(!together(labels));
    }

    #[test]
    fn a_signature_is_bound_to_label_and_statement() {
        let key = SigningKey::from_seed(Zeroizing::new([7; 32]));
        let signature = key.sign("one", &5u8);
        assert_eq!(key.public().verify("one", &5u8, &signature), Ok(()));
        assert_eq!(
            key.public().verify("two", &5u8, &signature),
            Err(BadSignature)
        );
        assert_eq!(
            key.public().verify("one", &6u8, &signature),
            Err(BadSignature)
        );
        assert_eq!(
            key.public().verify("one", &5u8, &signature[..63]),
            Err(BadSignature)
        );
    }
}
