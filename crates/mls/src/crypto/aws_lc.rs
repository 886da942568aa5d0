//! The default provider: `aws-lc-rs` for everything but the verification of Ed25519, which is
//! `ed25519-zebra`'s, since one signature and a batch must be judged by the same equation (ZIP 215).
//!
//! Randomness is the caller's, with one exception: signing with ECDSA (suite 2) draws its nonce
//! from the library's own generator. Suites 1 and 3 are deterministic given the caller's.

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    UnparsedPublicKey as UnparsedSignatureKey,
};
use aws_lc_rs::{digest, hmac};
use ed25519_zebra::{Signature, VerificationKey, VerificationKeyBytes, batch};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::hpke::{extract_and_expand, kem_suite_id, labeled_expand, labeled_extract};
use super::{
    CipherSuite, CryptoError, CryptoProvider, Hash, HpkeKeyPair, HpkePublicKey, Secret,
    SignatureKeyPair, SignaturePublicKey, SignedData, Suite, verify_each,
};
use crate::codec::Bytes;

/// The provider, for suites 1, 2 and 3.
pub static PROVIDER: AwsLc = AwsLc;

/// See [`PROVIDER`].
#[derive(Clone, Copy, Debug)]
pub struct AwsLc;

impl CryptoProvider for AwsLc {
    fn suites(&self) -> &'static [CipherSuite] {
        &[
            CipherSuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_ED25519,
            CipherSuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_ED25519,
            CipherSuite::MLS_128_DHKEMP256_AES128GCM_SHA256_P256,
        ]
    }

    fn suite(&self, cipher_suite: CipherSuite) -> Option<&'static dyn Suite> {
        SUITES
            .iter()
            .find(|suite| suite.id == cipher_suite)
            .map(|suite| suite as &dyn Suite)
    }
}

static SUITES: [AwsLcSuite; 3] = [
    AwsLcSuite {
        id: CipherSuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_ED25519,
        curve: Curve::Edwards25519,
        aead: Aead::Aes128Gcm,
    },
    AwsLcSuite {
        id: CipherSuite::MLS_128_DHKEMP256_AES128GCM_SHA256_P256,
        curve: Curve::P256,
        aead: Aead::Aes128Gcm,
    },
    AwsLcSuite {
        id: CipherSuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_ED25519,
        curve: Curve::Edwards25519,
        aead: Aead::ChaCha20Poly1305,
    },
];

#[derive(Clone, Copy)]
enum Curve {
    Edwards25519,
    P256,
}

#[derive(Clone, Copy)]
enum Aead {
    Aes128Gcm,
    ChaCha20Poly1305,
}

struct AwsLcSuite {
    id: CipherSuite,
    curve: Curve,
    aead: Aead,
}

impl AwsLcSuite {
    fn aead_algorithm(&self) -> &'static aead::Algorithm {
        match self.aead {
            Aead::Aes128Gcm => &aead::AES_128_GCM,
            Aead::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        }
    }

    fn aead_key(&self, key: &[u8], nonce: &[u8]) -> Result<(LessSafeKey, Nonce), CryptoError> {
        let key = UnboundKey::new(self.aead_algorithm(), key)
            .map_err(|_| CryptoError::DecryptionFailed)?;
        let nonce =
            Nonce::try_assume_unique_for_key(nonce).map_err(|_| CryptoError::DecryptionFailed)?;
        Ok((LessSafeKey::new(key), nonce))
    }

    fn agreement(&self) -> &'static agreement::Algorithm {
        match self.curve {
            Curve::Edwards25519 => &agreement::X25519,
            Curve::P256 => &agreement::ECDH_P256,
        }
    }

    fn kem_private_key(&self, private_key: &[u8]) -> Result<PrivateKey, CryptoError> {
        PrivateKey::from_private_key(self.agreement(), private_key)
            .map_err(|_| CryptoError::InvalidPrivateKey)
    }

    /// The group's Diffie-Hellman. A result of all zeros, from a point of small order, is refused by
    /// the library, as RFC 9180, section 7.1.4 demands.
    fn dh(&self, private_key: &PrivateKey, public_key: &[u8]) -> Result<Secret, CryptoError> {
        self.check_point_encoding(public_key)?;
        agreement::agree(
            private_key,
            UnparsedPublicKey::new(self.agreement(), public_key),
            CryptoError::InvalidPublicKey,
            |dh| Ok(Secret::from(dh)),
        )
    }

    /// The library also reads compressed points; MLS has one encoding per point (RFC 9180, section
    /// 7.1.1; RFC 8446, section 4.2.8.2).
    fn check_point_encoding(&self, public_key: &[u8]) -> Result<(), CryptoError> {
        let valid = match self.curve {
            Curve::Edwards25519 => public_key.len() == 32,
            Curve::P256 => public_key.len() == 65 && public_key[0] == 4,
        };
        if valid {
            Ok(())
        } else {
            Err(CryptoError::InvalidPublicKey)
        }
    }

    /// A private key of the KEM that `DeriveKeyPair` gives for `ikm`, with its parsed form.
    fn derive_private_key(&self, ikm: &[u8]) -> (Secret, PrivateKey) {
        let id = kem_suite_id(self);
        let prk = labeled_extract(self, &id, &[], b"dkp_prk", &[ikm]);
        let candidate = |label: &[u8], info: &[&[u8]]| {
            let bytes = labeled_expand(self, &id, &prk, label, info, 32);
            self.kem_private_key(&bytes).ok().map(|key| (bytes, key))
        };
        let found = match self.curve {
            Curve::Edwards25519 => candidate(b"sk", &[]),
            // A candidate fails if it is 0 or not below the group's order: one in 2^32.
            Curve::P256 => (0..=u8::MAX).find_map(|i| candidate(b"candidate", &[&[i]])),
        };
        found.expect("any 32 bytes are an X25519 key; 256 candidates fail once in 2^8192 inputs")
    }
}

/// Whether X25519 gives zero for this point whatever the scalar. All 32 bytes are a point of the
/// curve or its twist; those of small order have these encodings, with the highest bit ignored (RFC
/// 7748, section 5). A joiner asks this of every leaf, so it is no Diffie-Hellman.
fn has_small_order(public_key: &[u8]) -> bool {
    const fn near_p(lowest: u8) -> [u8; 32] {
        let mut bytes = [0xff; 32];
        bytes[0] = lowest;
        bytes[31] = 0x7f;
        bytes
    }
    const fn small(lowest: u8) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[0] = lowest;
        bytes
    }
    const SMALL_ORDER: [[u8; 32]; 7] = [
        small(0),
        small(1),
        [
            0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f,
            0xc4, 0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16,
            0x5f, 0x49, 0xb8, 0x00,
        ],
        [
            0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83,
            0xef, 0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd,
            0xd0, 0x9f, 0x11, 0x57,
        ],
        near_p(0xec),
        near_p(0xed),
        near_p(0xee),
    ];
    SMALL_ORDER
        .iter()
        .any(|point| public_key[..31] == point[..31] && public_key[31] & 0x7f == point[31])
}

fn public_key_of(private_key: &PrivateKey) -> HpkePublicKey {
    let public_key = private_key
        .compute_public_key()
        .expect("the private key was parsed");
    HpkePublicKey::from(public_key.as_ref())
}

impl Suite for AwsLcSuite {
    fn id(&self) -> CipherSuite {
        self.id
    }

    fn hash_length(&self) -> usize {
        32
    }

    fn aead_key_length(&self) -> usize {
        self.aead_algorithm().key_len()
    }

    fn aead_nonce_length(&self) -> usize {
        self.aead_algorithm().nonce_len()
    }

    fn aead_tag_length(&self) -> usize {
        self.aead_algorithm().tag_len()
    }

    fn hpke_ids(&self) -> [u16; 3] {
        let kem = match self.curve {
            Curve::Edwards25519 => 0x0020,
            Curve::P256 => 0x0010,
        };
        let aead = match self.aead {
            Aead::Aes128Gcm => 0x0001,
            Aead::ChaCha20Poly1305 => 0x0003,
        };
        [kem, 0x0001, aead]
    }

    fn hash_parts(&self, parts: &[&[u8]]) -> Hash {
        let digest = match parts {
            [data] => digest::digest(&digest::SHA256, data),
            parts => {
                let mut context = digest::Context::new(&digest::SHA256);
                parts.iter().for_each(|part| context.update(part));
                context.finish()
            }
        };
        Hash::from_slice(digest.as_ref()).expect("32 bytes fit")
    }

    fn hmac_parts(&self, key: &[u8], parts: &[&[u8]]) -> Hash {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
        parts.iter().for_each(|part| context.update(part));
        Hash::from_slice(context.sign().as_ref()).expect("32 bytes fit")
    }

    fn aead_seal(&self, key: &[u8], nonce: &[u8], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let (key, nonce) = self
            .aead_key(key, nonce)
            .expect("derived with the suite's lengths");
        let mut ciphertext = Vec::with_capacity(plaintext.len() + self.aead_tag_length());
        ciphertext.extend_from_slice(plaintext);
        key.seal_in_place_append_tag(nonce, Aad::from(aad), &mut ciphertext)
            .expect("plaintexts are far below the AEAD's limit");
        ciphertext
    }

    fn aead_open(
        &self,
        key: &[u8],
        nonce: &[u8],
        aad: &[u8],
        ciphertext: &[u8],
    ) -> Result<Secret, CryptoError> {
        let (key, nonce) = self.aead_key(key, nonce)?;
        let mut plaintext = Zeroizing::new(ciphertext.to_vec());
        let length = key
            .open_in_place(nonce, Aad::from(aad), &mut plaintext)
            .map_err(|_| CryptoError::DecryptionFailed)?
            .len();
        plaintext.truncate(length);
        Ok(Secret::from(plaintext))
    }

    fn kem_derive_key_pair(&self, ikm: &[u8]) -> HpkeKeyPair {
        let (private_key, parsed) = self.derive_private_key(ikm);
        HpkeKeyPair {
            private_key,
            public_key: public_key_of(&parsed),
        }
    }

    fn kem_encap(
        &self,
        public_key: &[u8],
        rng: &mut dyn CryptoRng,
    ) -> Result<(Secret, Vec<u8>), CryptoError> {
        let mut ikm = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *ikm);
        let (_, ephemeral) = self.derive_private_key(&*ikm);
        let dh = self.dh(&ephemeral, public_key)?;
        let kem_output = public_key_of(&ephemeral).to_vec();
        Ok((
            extract_and_expand(self, &dh, &kem_output, public_key),
            kem_output,
        ))
    }

    fn kem_decap(&self, key_pair: &HpkeKeyPair, kem_output: &[u8]) -> Result<Secret, CryptoError> {
        let dh = self.dh(&self.kem_private_key(&key_pair.private_key)?, kem_output)?;
        Ok(extract_and_expand(
            self,
            &dh,
            kem_output,
            &key_pair.public_key,
        ))
    }

    fn kem_check_public_key(&self, public_key: &[u8]) -> Result<(), CryptoError> {
        match self.curve {
            Curve::Edwards25519 => {
                self.check_point_encoding(public_key)?;
                if has_small_order(public_key) {
                    return Err(CryptoError::InvalidPublicKey);
                }
                Ok(())
            }
            // Any private key tells whether the point is on the curve.
            Curve::P256 => {
                let private_key = self.kem_private_key(&[1; 32])?;
                self.dh(&private_key, public_key).map(|_| ())
            }
        }
    }

    fn kem_public_key(&self, private_key: &[u8]) -> Result<HpkePublicKey, CryptoError> {
        self.kem_private_key(private_key)
            .map(|key| public_key_of(&key))
    }

    fn signature_key_pair(&self, rng: &mut dyn CryptoRng) -> SignatureKeyPair {
        match self.curve {
            Curve::Edwards25519 => {
                let mut seed = Zeroizing::new(vec![0; 32]);
                rng.fill_bytes(&mut seed);
                let pair = Ed25519KeyPair::from_seed_unchecked(&seed)
                    .expect("any 32 bytes are an Ed25519 seed");
                let public_key = SignaturePublicKey::from(pair.public_key().as_ref());
                SignatureKeyPair {
                    private_key: Secret::from(seed),
                    public_key,
                }
            }
            // ECDSA's key pairs are those of ECDH.
            Curve::P256 => {
                let mut ikm = Zeroizing::new([0; 32]);
                rng.fill_bytes(&mut *ikm);
                let HpkeKeyPair {
                    private_key,
                    public_key,
                } = self.kem_derive_key_pair(&*ikm);
                SignatureKeyPair {
                    private_key,
                    public_key: SignaturePublicKey(public_key.0),
                }
            }
        }
    }

    fn signature_public_key(&self, private_key: &[u8]) -> Result<SignaturePublicKey, CryptoError> {
        match self.curve {
            Curve::Edwards25519 => ed25519_key_pair(private_key)
                .map(|pair| SignaturePublicKey::from(pair.public_key().as_ref())),
            Curve::P256 => self
                .kem_public_key(private_key)
                .map(|public_key| SignaturePublicKey(public_key.0)),
        }
    }

    fn sign(&self, key_pair: &SignatureKeyPair, data: &[u8]) -> Result<Bytes, CryptoError> {
        match self.curve {
            Curve::Edwards25519 => {
                let pair = ed25519_key_pair(&key_pair.private_key)?;
                pair.try_sign(data)
                    .map(|signature| Bytes::from(signature.as_ref()))
                    .map_err(|_| CryptoError::InvalidPrivateKey)
            }
            Curve::P256 => EcdsaKeyPair::from_private_key_and_public_key(
                &ECDSA_P256_SHA256_ASN1_SIGNING,
                &key_pair.private_key,
                &key_pair.public_key,
            )
            .ok()
            .and_then(|pair| pair.sign(&SystemRandom::new(), data).ok())
            .map(|signature| Bytes::from(signature.as_ref()))
            .ok_or(CryptoError::InvalidPrivateKey),
        }
    }

    fn verify(&self, public_key: &[u8], data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        match self.curve {
            Curve::Edwards25519 => {
                let key = VerificationKey::try_from(public_key)
                    .map_err(|_| CryptoError::InvalidPublicKey)?;
                let signature = ed25519_signature(signature)?;
                key.verify(&signature, data)
                    .map_err(|_| CryptoError::InvalidSignature)
            }
            Curve::P256 => {
                self.check_point_encoding(public_key)?;
                UnparsedSignatureKey::new(&ECDSA_P256_SHA256_ASN1, public_key)
                    .verify(data, signature)
                    .map_err(|_| CryptoError::InvalidSignature)
            }
        }
    }

    fn verify_batch(
        &self,
        items: &[SignedData<'_>],
        rng: &mut dyn CryptoRng,
    ) -> Result<(), (usize, CryptoError)> {
        // Below this, a batch costs more than it saves.
        const SMALLEST_BATCH: usize = 8;
        match self.curve {
            Curve::Edwards25519 if items.len() >= SMALLEST_BATCH => {
                match ed25519_batch(items, rng) {
                    true => Ok(()),
                    false => verify_each(self, items),
                }
            }
            _ => verify_each(self, items),
        }
    }
}

fn ed25519_key_pair(seed: &[u8]) -> Result<Ed25519KeyPair, CryptoError> {
    Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| CryptoError::InvalidPrivateKey)
}

fn ed25519_signature(signature: &[u8]) -> Result<Signature, CryptoError> {
    <[u8; 64]>::try_from(signature)
        .map(|bytes| Signature::from_bytes(&bytes))
        .map_err(|_| CryptoError::InvalidSignature)
}

/// Whether all are valid. If not, the caller looks for the one to blame.
fn ed25519_batch(items: &[SignedData<'_>], rng: &mut dyn CryptoRng) -> bool {
    let mut verifier = batch::Verifier::new();
    for item in items {
        let Ok(key) = VerificationKeyBytes::try_from(item.public_key) else {
            return false;
        };
        let Ok(signature) = ed25519_signature(item.signature) else {
            return false;
        };
        verifier.queue((key, signature, &*item.data));
    }
    verifier.verify(rng).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told from the bytes is what the Diffie-Hellman itself refuses.
    #[test]
    fn points_of_small_order_are_those_that_give_zero() {
        let suite = &SUITES[0];
        let scalar = suite.kem_private_key(&[1; 32]).unwrap();
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
                let by_bytes = suite.kem_check_public_key(&point);
                assert_eq!(
                    by_bytes,
                    suite.dh(&scalar, &point).map(|_| ()),
                    "{point:x?}"
                );
                refused += usize::from(by_bytes.is_err());
            }
        }
        assert_eq!(refused, 14);
        assert!(suite.kem_check_public_key(&[9; 31]).is_err());
    }
}
