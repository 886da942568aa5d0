//! The provider on `aws-lc-rs`, the fastest. Whether an Ed25519 signature is valid is for
//! `ed25519-zebra` to say, as in every provider, unless the library accepts it. What the library lacks, which is Curve448 (suites 4 and 6) and ML-KEM from a seed (the
//! post-quantum suites), comes from the parts of [`rust_crypto`](super::rust_crypto) if that feature is
//! on too; without it, the provider does not have these suites.
//!
//! Randomness is the caller's, with one exception: signing with ECDSA (suites 2, 5 and 7) draws its
//! nonce from the library's own generator.

use aws_lc_rs::aead;
use aws_lc_rs::agreement::{self, UnparsedPublicKey};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self, ED25519, EcdsaKeyPair, EcdsaSigningAlgorithm, EcdsaVerificationAlgorithm, Ed25519KeyPair,
    KeyPair, UnparsedPublicKey as UnparsedSignatureKey,
};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::dhkem::{DhKem, Group, Kind};
use super::parts::{self, Composed, Kem, Library, SignatureScheme};
#[cfg(feature = "rust-crypto")]
use super::rust_crypto::RustCrypto;
use super::sha2::Sha2;
use super::{
    CipherSuite, CryptoError, CryptoProvider, HpkePublicKey, Secret, SignatureKeyPair,
    SignaturePublicKey, SignedData, Suite, ed25519,
};
use crate::codec::Bytes;

/// The provider.
pub static PROVIDER: AwsLc = AwsLc;

/// See [`PROVIDER`].
#[derive(Clone, Copy, Debug)]
pub struct AwsLc;

impl CryptoProvider for AwsLc {
    fn suites(&self) -> &'static [CipherSuite] {
        if cfg!(feature = "rust-crypto") {
            &parts::ALL
        } else {
            &parts::ALL[..parts::COMMON]
        }
    }

    fn suite(&self, cipher_suite: CipherSuite) -> Option<&'static dyn Suite> {
        parts::find(&SUITES, cipher_suite)
    }
}

static SUITES: [Option<Composed>; 11] = parts::suites::<AwsLc>();

impl Library for AwsLc {
    const AES_128_GCM: &'static dyn parts::Aead = &Aead::Aes128Gcm;
    const AES_256_GCM: &'static dyn parts::Aead = &Aead::Aes256Gcm;
    const CHACHA20_POLY1305: &'static dyn parts::Aead = &Aead::ChaCha20Poly1305;

    const DHKEM_X25519: &'static dyn Kem = &dhkem(Kind::X25519, Sha2::Sha256);
    const DHKEM_P256: &'static dyn Kem = &P256;
    const DHKEM_P384: &'static dyn Kem = &P384;
    const DHKEM_P521: &'static dyn Kem = &P521;

    const ED25519: &'static dyn SignatureScheme = &Ed25519;
    const ECDSA_P256: &'static dyn SignatureScheme = &Ecdsa(P256);
    const ECDSA_P384: &'static dyn SignatureScheme = &Ecdsa(P384);
    const ECDSA_P521: &'static dyn SignatureScheme = &Ecdsa(P521);

    #[cfg(feature = "rust-crypto")]
    const DHKEM_X448: Option<&'static dyn Kem> = RustCrypto::DHKEM_X448;
    #[cfg(feature = "rust-crypto")]
    const X_WING: Option<&'static dyn Kem> = RustCrypto::X_WING;
    #[cfg(feature = "rust-crypto")]
    const ML_KEM_768_X25519: Option<&'static dyn Kem> = RustCrypto::ML_KEM_768_X25519;
    #[cfg(feature = "rust-crypto")]
    const ED448: Option<&'static dyn SignatureScheme> = RustCrypto::ED448;

    #[cfg(not(feature = "rust-crypto"))]
    const DHKEM_X448: Option<&'static dyn Kem> = None;
    #[cfg(not(feature = "rust-crypto"))]
    const X_WING: Option<&'static dyn Kem> = None;
    #[cfg(not(feature = "rust-crypto"))]
    const ML_KEM_768_X25519: Option<&'static dyn Kem> = None;
    #[cfg(not(feature = "rust-crypto"))]
    const ED448: Option<&'static dyn SignatureScheme> = None;
}

const P256: DhKem<Curve, Sha2> = dhkem(Kind::P256, Sha2::Sha256);
const P384: DhKem<Curve, Sha2> = dhkem(Kind::P384, Sha2::Sha384);
const P521: DhKem<Curve, Sha2> = dhkem(Kind::P521, Sha2::Sha512);

const fn dhkem(kind: Kind, kdf: Sha2) -> DhKem<Curve, Sha2> {
    DhKem {
        group: Curve(kind),
        kdf,
    }
}

#[derive(Clone, Copy)]
enum Aead {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
}

impl Aead {
    fn algorithm(self) -> &'static aead::Algorithm {
        match self {
            Self::Aes128Gcm => &aead::AES_128_GCM,
            Self::Aes256Gcm => &aead::AES_256_GCM,
            Self::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        }
    }

    fn key(
        self,
        key: &[u8],
        nonce: &[u8],
    ) -> Result<(aead::LessSafeKey, aead::Nonce), aws_lc_rs::error::Unspecified> {
        let key = aead::UnboundKey::new(self.algorithm(), key)?;
        let nonce = aead::Nonce::try_assume_unique_for_key(nonce)?;
        Ok((aead::LessSafeKey::new(key), nonce))
    }
}

impl parts::Aead for Aead {
    fn id(&self) -> u16 {
        match self {
            Self::Aes128Gcm => 1,
            Self::Aes256Gcm => 2,
            Self::ChaCha20Poly1305 => 3,
        }
    }

    fn key_length(&self) -> usize {
        self.algorithm().key_len()
    }

    fn seal(&self, key: &[u8], nonce: &[u8], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let (key, nonce) = self
            .key(key, nonce)
            .expect("derived with the suite's lengths");
        let mut ciphertext = Vec::with_capacity(plaintext.len() + self.algorithm().tag_len());
        ciphertext.extend_from_slice(plaintext);
        key.seal_in_place_append_tag(nonce, aead::Aad::from(aad), &mut ciphertext)
            .expect("plaintexts are far below the AEAD's limit");
        ciphertext
    }

    fn open(
        &self,
        key: &[u8],
        nonce: &[u8],
        aad: &[u8],
        ciphertext: &[u8],
    ) -> Result<Secret, CryptoError> {
        let failed = |_| CryptoError::DecryptionFailed;
        let (key, nonce) = self.key(key, nonce).map_err(failed)?;
        let mut plaintext = Zeroizing::new(ciphertext.to_vec());
        let length = key
            .open_in_place(nonce, aead::Aad::from(aad), &mut plaintext)
            .map_err(failed)?
            .len();
        plaintext.truncate(length);
        Ok(Secret::from(plaintext))
    }
}

/// A curve of the library; it has no X448.
#[derive(Clone, Copy)]
struct Curve(Kind);

impl Curve {
    fn agreement(self) -> &'static agreement::Algorithm {
        match self.0 {
            Kind::P256 => &agreement::ECDH_P256,
            Kind::P384 => &agreement::ECDH_P384,
            Kind::P521 => &agreement::ECDH_P521,
            Kind::X25519 => &agreement::X25519,
            Kind::X448 => unreachable!("made by the constants above only"),
        }
    }
}

impl Group for Curve {
    type PrivateKey = agreement::PrivateKey;

    fn kind(&self) -> Kind {
        self.0
    }

    fn private_key(&self, bytes: &[u8]) -> Result<Self::PrivateKey, CryptoError> {
        agreement::PrivateKey::from_private_key(self.agreement(), bytes)
            .map_err(|_| CryptoError::InvalidPrivateKey)
    }

    fn public_key(&self, private_key: &Self::PrivateKey) -> HpkePublicKey {
        let public_key = private_key
            .compute_public_key()
            .expect("the private key was parsed");
        HpkePublicKey::from(public_key.as_ref())
    }

    /// The library checks the point and refuses a result of all zeros.
    fn dh(&self, private_key: &Self::PrivateKey, public_key: &[u8]) -> Result<Secret, CryptoError> {
        self.0.check_encoding(public_key)?;
        agreement::agree(
            private_key,
            UnparsedPublicKey::new(self.agreement(), public_key),
            CryptoError::InvalidPublicKey,
            |dh| Ok(Secret::from(dh)),
        )
    }
}

struct Ed25519;

fn ed25519_key_pair(seed: &[u8]) -> Result<Ed25519KeyPair, CryptoError> {
    Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| CryptoError::InvalidPrivateKey)
}

impl SignatureScheme for Ed25519 {
    fn key_pair(&self, rng: &mut dyn CryptoRng) -> SignatureKeyPair {
        let mut seed = Zeroizing::new(vec![0; 32]);
        rng.fill_bytes(&mut seed);
        let public_key = self
            .public_key(&seed)
            .expect("any 32 bytes are an Ed25519 seed");
        SignatureKeyPair::new(Secret::from(seed), public_key)
    }

    fn public_key(&self, private_key: &[u8]) -> Result<SignaturePublicKey, CryptoError> {
        ed25519_key_pair(private_key)
            .map(|pair| SignaturePublicKey::from(pair.public_key().as_ref()))
    }

    fn sign(&self, key_pair: &SignatureKeyPair, data: &[u8]) -> Result<Bytes, CryptoError> {
        key_pair
            .prepared(|pair| ed25519_key_pair(pair.private_key()))?
            .try_sign(data)
            .map(|signature| Bytes::from(signature.as_ref()))
            .map_err(|_| CryptoError::InvalidPrivateKey)
    }

    fn verify(&self, public_key: &[u8], data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        // Faster, and accepts nothing that the other does not: see there. A key of another length could
        // be one in X.509's form.
        let accepted = public_key.len() == 32
            && UnparsedSignatureKey::new(&ED25519, public_key)
                .verify(data, signature)
                .is_ok();
        if accepted {
            return Ok(());
        }
        ed25519::verify(public_key, data, signature)
    }

    fn verify_together(&self, items: &[SignedData<'_>], rng: &mut dyn CryptoRng) -> bool {
        ed25519::verify_together(items, rng)
    }
}

/// ECDSA with the hash of the curve's suite. Its key pairs are those of ECDH.
struct Ecdsa(DhKem<Curve, Sha2>);

impl Ecdsa {
    fn algorithms(
        &self,
    ) -> (
        &'static EcdsaSigningAlgorithm,
        &'static EcdsaVerificationAlgorithm,
    ) {
        match self.0.group.0 {
            Kind::P384 => (
                &signature::ECDSA_P384_SHA384_ASN1_SIGNING,
                &signature::ECDSA_P384_SHA384_ASN1,
            ),
            Kind::P521 => (
                &signature::ECDSA_P521_SHA512_ASN1_SIGNING,
                &signature::ECDSA_P521_SHA512_ASN1,
            ),
            _ => (
                &signature::ECDSA_P256_SHA256_ASN1_SIGNING,
                &signature::ECDSA_P256_SHA256_ASN1,
            ),
        }
    }
}

impl SignatureScheme for Ecdsa {
    fn key_pair(&self, rng: &mut dyn CryptoRng) -> SignatureKeyPair {
        self.0.signature_key_pair(rng)
    }

    fn public_key(&self, private_key: &[u8]) -> Result<SignaturePublicKey, CryptoError> {
        Kem::public_key(&self.0, private_key).map(|key| SignaturePublicKey(key.0))
    }

    fn sign(&self, key_pair: &SignatureKeyPair, data: &[u8]) -> Result<Bytes, CryptoError> {
        // The library would fill up a shorter key with zeros; and a prepared key has the same type for
        // all curves, which the length tells apart.
        if key_pair.private_key().len() != self.0.private_key_length() {
            return Err(CryptoError::InvalidPrivateKey);
        }
        let prepare = |pair: &SignatureKeyPair| {
            EcdsaKeyPair::from_private_key_and_public_key(
                self.algorithms().0,
                pair.private_key(),
                pair.public_key(),
            )
            .map_err(|_| CryptoError::InvalidPrivateKey)
        };
        key_pair
            .prepared(prepare)?
            .sign(&SystemRandom::new(), data)
            .map(|signature| Bytes::from(signature.as_ref()))
            .map_err(|_| CryptoError::InvalidPrivateKey)
    }

    fn verify(&self, public_key: &[u8], data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        self.0.group.0.check_encoding(public_key)?;
        UnparsedSignatureKey::new(self.algorithms().1, public_key)
            .verify(data, signature)
            .map_err(|_| CryptoError::InvalidSignature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told from the bytes is what the Diffie-Hellman itself refuses.
    #[test]
    fn points_of_small_order_are_those_that_give_zero() {
        let group = Curve(Kind::X25519);
        let scalar = group.private_key(&[1; 32]).unwrap();
        let mut refused = 0;
        let mut candidates = vec![
            *b"\xe0\xeb\x7a\x7c\x3b\x41\xb8\xae\x16\x56\xe3\xfa\xf1\x9f\xc4\x6a\
               \xda\x09\x8d\xeb\x9c\x32\xb1\xfd\x86\x62\x05\x16\x5f\x49\xb8\x00",
            *b"\x5f\x9c\x95\xbc\xa3\x50\x8c\x24\xb1\xd0\xb1\x55\x9c\x83\xef\x5b\
               \x04\x44\x5c\xc4\x58\x1c\x8e\x86\xd8\x22\x4e\xdd\xd0\x9f\x11\x57",
        ];
        for lowest in 0..=u8::MAX {
            for (middle, highest) in [(0, 0), (0xff, 0x7f), (0xff, 0x7e), (7, 0x55)] {
                let mut point = [middle; 32];
                (point[0], point[31]) = (lowest, highest);
                candidates.push(point);
            }
        }
        for mut point in candidates {
            for highest_bit in [0, 0x80] {
                point[31] = point[31] & 0x7f | highest_bit;
                let by_bytes = group.check_public_key(&point);
                assert_eq!(
                    by_bytes,
                    group.dh(&scalar, &point).map(|_| ()),
                    "{point:x?}"
                );
                refused += usize::from(by_bytes.is_err());
            }
        }
        assert_eq!(refused, 14);
        assert!(group.check_public_key(&[9; 31]).is_err());
    }
}
