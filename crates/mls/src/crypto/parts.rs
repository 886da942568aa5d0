//! A suite put together: what a library has to bring for each algorithm, and the one table that says
//! which suite consists of which (RFC 9420, section 17.1; draft-ietf-mls-pq-ciphersuites).

use rand_core::CryptoRng;

use super::sha2::Sha2;
use super::{
    CipherSuite, CryptoError, Hash, HpkeKeyPair, HpkePublicKey, Kdf, Secret, SignatureKeyPair,
    SignaturePublicKey, SignedData, Suite,
};
use crate::codec::Bytes;

/// An AEAD. All have nonces of 12 bytes and tags of 16.
pub(super) trait Aead: Send + Sync {
    /// Its number in HPKE (RFC 9180, section 7.3).
    fn id(&self) -> u16;
    fn key_length(&self) -> usize;
    /// See [`Suite::aead_seal`].
    fn seal(&self, key: &[u8], nonce: &[u8], aad: &[u8], plaintext: &[u8]) -> Vec<u8>;
    /// See [`Suite::aead_open`].
    fn open(
        &self,
        key: &[u8],
        nonce: &[u8],
        aad: &[u8],
        ciphertext: &[u8],
    ) -> Result<Secret, CryptoError>;
}

/// A KEM of HPKE. The methods are those of [`Suite`] that begin with `kem_`.
pub(super) trait Kem: Send + Sync {
    /// Its number in HPKE (RFC 9180, section 7.1).
    fn id(&self) -> u16;
    fn private_key_length(&self) -> usize;
    fn derive_key_pair(&self, ikm: &[u8]) -> HpkeKeyPair;
    fn encap(
        &self,
        public_key: &[u8],
        rng: &mut dyn CryptoRng,
    ) -> Result<(Secret, Vec<u8>), CryptoError>;
    fn decap(&self, key_pair: &HpkeKeyPair, kem_output: &[u8]) -> Result<Secret, CryptoError>;
    fn check_public_key(&self, public_key: &[u8]) -> Result<(), CryptoError>;
    fn public_key(&self, private_key: &[u8]) -> Result<HpkePublicKey, CryptoError>;
    fn check_key_pair(&self, key_pair: &HpkeKeyPair) -> Result<(), CryptoError> {
        if self.public_key(key_pair.private_key())? == *key_pair.public_key() {
            Ok(())
        } else {
            Err(CryptoError::InvalidPrivateKey)
        }
    }
}

/// A signature scheme. The methods are those of [`Suite`].
pub(super) trait SignatureScheme: Send + Sync {
    fn key_pair(&self, rng: &mut dyn CryptoRng) -> SignatureKeyPair;
    fn public_key(&self, private_key: &[u8]) -> Result<SignaturePublicKey, CryptoError>;
    fn sign(&self, key_pair: &SignatureKeyPair, data: &[u8]) -> Result<Bytes, CryptoError>;
    fn verify(&self, public_key: &[u8], data: &[u8], signature: &[u8]) -> Result<(), CryptoError>;
    /// Whether all are valid, by an equation that is faster than one after the other, if there is
    /// one. If not, the caller looks for the one to blame.
    fn verify_together(&self, _: &[SignedData<'_>], _: &mut dyn CryptoRng) -> bool {
        false
    }
}

/// The algorithms as one library implements them.
pub(super) trait Library {
    const AES_128_GCM: &'static dyn Aead;
    const AES_256_GCM: &'static dyn Aead;
    const CHACHA20_POLY1305: &'static dyn Aead;

    const DHKEM_X25519: &'static dyn Kem;
    const DHKEM_P256: &'static dyn Kem;
    const DHKEM_P384: &'static dyn Kem;
    const DHKEM_P521: &'static dyn Kem;
    const DHKEM_X448: Option<&'static dyn Kem>;
    const X_WING: Option<&'static dyn Kem>;
    const ML_KEM_768_X25519: Option<&'static dyn Kem>;

    const ED25519: &'static dyn SignatureScheme;
    const ECDSA_P256: &'static dyn SignatureScheme;
    const ECDSA_P384: &'static dyn SignatureScheme;
    const ECDSA_P521: &'static dyn SignatureScheme;
    const ED448: Option<&'static dyn SignatureScheme>;
}

/// All suites, in the order of [`suites`]: that of preference, as the providers' documentation gives it.
/// The first [`COMMON`] need nothing that a library may lack.
pub(super) const ALL: [CipherSuite; 11] = [
    CipherSuite::MLS_256_DHKEMP384_AES256GCM_SHA384_P384,
    CipherSuite::MLS_256_DHKEMP521_AES256GCM_SHA512_P521,
    CipherSuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_ED25519,
    CipherSuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_ED25519,
    CipherSuite::MLS_128_DHKEMP256_AES128GCM_SHA256_P256,
    CipherSuite::MLS_128_MLKEM768X25519_AES256GCM_SHA384_ED25519,
    CipherSuite::MLS_256_XWING_CHACHA20POLY1305_SHA256_ED25519,
    CipherSuite::MLS_128_MLKEM768X25519_AES128GCM_SHA256_ED25519,
    CipherSuite::MLS_256_DHKEMX448_AES256GCM_SHA512_ED448,
    CipherSuite::MLS_256_DHKEMX448_CHACHA20POLY1305_SHA512_ED448,
    CipherSuite::ML_KEM_768_X25519,
];

/// How many suites each library has.
#[cfg(feature = "aws-lc")]
pub(super) const COMMON: usize = 5;

/// The suites of a library, `None` where it lacks an algorithm.
pub(super) const fn suites<L: Library>() -> [Option<Composed>; 11] {
    let x25519 = Some(L::DHKEM_X25519);
    let (p256, p384, p521) = (L::DHKEM_P256, L::DHKEM_P384, L::DHKEM_P521);
    let ed25519 = Some(L::ED25519);
    let (aes_128, aes_256, chacha) = (L::AES_128_GCM, L::AES_256_GCM, L::CHACHA20_POLY1305);
    [
        compose(
            ALL[0],
            Some(p384),
            &Sha2::Sha384,
            aes_256,
            Some(L::ECDSA_P384),
        ),
        compose(
            ALL[1],
            Some(p521),
            &Sha2::Sha512,
            aes_256,
            Some(L::ECDSA_P521),
        ),
        compose(ALL[2], x25519, &Sha2::Sha256, aes_128, ed25519),
        compose(ALL[3], x25519, &Sha2::Sha256, chacha, ed25519),
        compose(
            ALL[4],
            Some(p256),
            &Sha2::Sha256,
            aes_128,
            Some(L::ECDSA_P256),
        ),
        compose(ALL[5], L::X_WING, &Sha2::Sha384, aes_256, ed25519),
        compose(ALL[6], L::X_WING, &Sha2::Sha256, chacha, ed25519),
        compose(ALL[7], L::X_WING, &Sha2::Sha256, aes_128, ed25519),
        compose(ALL[8], L::DHKEM_X448, &Sha2::Sha512, aes_256, L::ED448),
        compose(ALL[9], L::DHKEM_X448, &Sha2::Sha512, chacha, L::ED448),
        compose(
            ALL[10],
            L::ML_KEM_768_X25519,
            &Sha2::Sha256,
            aes_128,
            ed25519,
        ),
    ]
}

const fn compose(
    id: CipherSuite,
    kem: Option<&'static dyn Kem>,
    kdf: &'static dyn Kdf,
    aead: &'static dyn Aead,
    signature: Option<&'static dyn SignatureScheme>,
) -> Option<Composed> {
    match (kem, signature) {
        (Some(kem), Some(signature)) => Some(Composed {
            id,
            kem,
            kdf,
            aead,
            signature,
        }),
        _ => None,
    }
}

/// The suite with this number among a library's.
pub(super) fn find(
    suites: &'static [Option<Composed>],
    cipher_suite: CipherSuite,
) -> Option<&'static dyn Suite> {
    let mut suites = suites.iter().flatten();
    suites
        .find(|suite| suite.id == cipher_suite)
        .map(|suite| suite as &dyn Suite)
}

/// A suite of four parts.
pub(super) struct Composed {
    id: CipherSuite,
    kem: &'static dyn Kem,
    kdf: &'static dyn Kdf,
    aead: &'static dyn Aead,
    signature: &'static dyn SignatureScheme,
}

impl Kdf for Composed {
    fn kdf_id(&self) -> u16 {
        self.kdf.kdf_id()
    }

    fn hash_length(&self) -> usize {
        self.kdf.hash_length()
    }

    fn hash_parts(&self, parts: &[&[u8]]) -> Hash {
        self.kdf.hash_parts(parts)
    }

    fn hmac_parts(&self, key: &[u8], parts: &[&[u8]]) -> Hash {
        self.kdf.hmac_parts(key, parts)
    }

    fn expand(&self, prk: &[u8], info: &[&[u8]], length: usize) -> Secret {
        self.kdf.expand(prk, info, length)
    }
}

impl Suite for Composed {
    fn id(&self) -> CipherSuite {
        self.id
    }

    fn hpke_ids(&self) -> [u16; 3] {
        [self.kem.id(), self.kdf.kdf_id(), self.aead.id()]
    }

    fn aead_key_length(&self) -> usize {
        self.aead.key_length()
    }

    fn aead_nonce_length(&self) -> usize {
        12
    }

    fn aead_tag_length(&self) -> usize {
        16
    }

    fn aead_seal(&self, key: &[u8], nonce: &[u8], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
        self.aead.seal(key, nonce, aad, plaintext)
    }

    fn aead_open(
        &self,
        key: &[u8],
        nonce: &[u8],
        aad: &[u8],
        ciphertext: &[u8],
    ) -> Result<Secret, CryptoError> {
        self.aead.open(key, nonce, aad, ciphertext)
    }

    fn kem_private_key_length(&self) -> usize {
        self.kem.private_key_length()
    }

    fn kem_derive_key_pair(&self, ikm: &[u8]) -> HpkeKeyPair {
        self.kem.derive_key_pair(ikm)
    }

    fn kem_encap(
        &self,
        public_key: &[u8],
        rng: &mut dyn CryptoRng,
    ) -> Result<(Secret, Vec<u8>), CryptoError> {
        self.kem.encap(public_key, rng)
    }

    fn kem_decap(&self, key_pair: &HpkeKeyPair, kem_output: &[u8]) -> Result<Secret, CryptoError> {
        self.kem.decap(key_pair, kem_output)
    }

    fn kem_check_public_key(&self, public_key: &[u8]) -> Result<(), CryptoError> {
        self.kem.check_public_key(public_key)
    }

    fn kem_public_key(&self, private_key: &[u8]) -> Result<HpkePublicKey, CryptoError> {
        self.kem.public_key(private_key)
    }

    fn kem_check_key_pair(&self, key_pair: &HpkeKeyPair) -> Result<(), CryptoError> {
        self.kem.check_key_pair(key_pair)
    }

    fn signature_key_pair(&self, rng: &mut dyn CryptoRng) -> SignatureKeyPair {
        self.signature.key_pair(rng)
    }

    fn signature_public_key(&self, private_key: &[u8]) -> Result<SignaturePublicKey, CryptoError> {
        self.signature.public_key(private_key)
    }

    fn sign(&self, key_pair: &SignatureKeyPair, data: &[u8]) -> Result<Bytes, CryptoError> {
        self.signature.sign(key_pair, data)
    }

    fn verify(&self, public_key: &[u8], data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        self.signature.verify(public_key, data, signature)
    }

    fn verify_batch(
        &self,
        items: &[SignedData<'_>],
        rng: &mut dyn CryptoRng,
    ) -> Result<(), (usize, CryptoError)> {
        if self.signature.verify_together(items, rng) {
            return Ok(());
        }
        super::verify_each(self, items)
    }
}
