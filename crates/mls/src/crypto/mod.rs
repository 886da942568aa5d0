//! The primitives of the cipher suites (RFC 9420, section 5.1), as traits.
//!
//! A [`CryptoProvider`] knows some cipher suites; a [`Suite`] is the primitives of one. What the
//! RFC builds from them, and nothing more, is here too: the labelled functions of sections 5 and 8
//! (in [`labels`]) and HPKE (in [`hpke`]), both as methods of `dyn Suite`.
//!
//! # Providers
//!
//! | Module and feature | What it is | Suites |
//! | --- | --- | --- |
//! | `aws_lc`, `aws-lc` | `aws-lc-rs`, the fastest | 1, 2, 3, 5, 7 |
//! | `rust_crypto`, `rust-crypto` | RustCrypto and dalek, pure Rust: builds for wasm32 | all |
//!
//! With both features, which is the default, the first one takes from the second what it lacks and has
//! all suites too. [`PROVIDER`] is the first one if it is there, else the second. Both pass the
//! same tests, and what one signs or seals, the other verifies or opens.
//!
//! | Suites | What they are made of |
//! | --- | --- |
//! | 1 to 7 | RFC 9420, section 17.1 |
//! | 0x004d, 0x004e, 0x004f | X-Wing (ML-KEM-768 with X25519), Ed25519: `draft-ietf-mls-pq-ciphersuites` at the values that OpenMLS uses |
//! | 65100 | ML-KEM-768 with X25519 as mls-rs combines them, which is not X-Wing; Ed25519 |
//!
//! Suites 4 and 6 stand on pre-releases that nobody has audited (`x448`, `ed448-goldilocks`).
//!
//! # Preference
//!
//! [`CryptoProvider::suites`] is in the order of preference. Both providers have the same, and whoever
//! wants another one writes it (see [`Preference`](crate::negotiation::Preference)):
//!
//! 1. 7, then 5: those of RFC 9420 with 256-bit keys. P-384 is the faster one, and more have it.
//! 2. 1, 3, 2: those with 128-bit security. 1 is the one that everybody must implement.
//! 3. 0x004e, 0x004d, 0x004f: post-quantum, but by a draft that may still change, at values that nobody
//!    has registered.
//! 4. 4, 6: on pre-releases. 65100: without a specification.
//!
//! So what is not standard or not settled is chosen only by who asks for it, or between clients who
//! have nothing else in common.
//!
//! Randomness is an argument. Where a provider cannot take it, its documentation says so.

#[cfg(feature = "aws-lc")]
pub mod aws_lc;
#[cfg(any(feature = "aws-lc", feature = "rust-crypto"))]
mod dhkem;
#[cfg(any(feature = "aws-lc", feature = "rust-crypto"))]
mod ed25519;
mod hash;
pub mod hpke;
mod key_pair;
pub mod labels;
#[cfg(any(feature = "aws-lc", feature = "rust-crypto"))]
mod parts;
#[cfg(feature = "rust-crypto")]
pub mod rust_crypto;
mod secret;
#[cfg(any(feature = "aws-lc", feature = "rust-crypto"))]
mod sha2;

pub use hash::Hash;
pub use key_pair::{HpkeKeyPair, KeyPair, SignatureKeyPair};
pub use secret::Secret;

#[cfg(feature = "aws-lc")]
pub use aws_lc::PROVIDER;
#[cfg(all(feature = "rust-crypto", not(feature = "aws-lc")))]
pub use rust_crypto::PROVIDER;

use std::borrow::Cow;

use rand_core::CryptoRng;

use crate::code_point::{ProtocolVersion, code_points};
use crate::codec::{Bytes, Decode, DecodeError, Encode, Reader};

code_points! {
    /// The algorithms of a group (RFC 9420, sections 5.1 and 17.1).
    pub struct CipherSuite {
        /// Suite 1, which everybody must implement.
        MLS_128_DHKEMX25519_AES128GCM_SHA256_ED25519 = 1
            => "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519",
        /// Suite 2.
        MLS_128_DHKEMP256_AES128GCM_SHA256_P256 = 2 => "MLS_128_DHKEMP256_AES128GCM_SHA256_P256",
        /// Suite 3.
        MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_ED25519 = 3
            => "MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519",
        /// Suite 4.
        MLS_256_DHKEMX448_AES256GCM_SHA512_ED448 = 4 => "MLS_256_DHKEMX448_AES256GCM_SHA512_Ed448",
        /// Suite 5.
        MLS_256_DHKEMP521_AES256GCM_SHA512_P521 = 5 => "MLS_256_DHKEMP521_AES256GCM_SHA512_P521",
        /// Suite 6.
        MLS_256_DHKEMX448_CHACHA20POLY1305_SHA512_ED448 = 6
            => "MLS_256_DHKEMX448_CHACHA20POLY1305_SHA512_Ed448",
        /// Suite 7.
        MLS_256_DHKEMP384_AES256GCM_SHA384_P384 = 7 => "MLS_256_DHKEMP384_AES256GCM_SHA384_P384",
        /// X-Wing with ChaCha20-Poly1305, at the value that OpenMLS uses.
        MLS_256_XWING_CHACHA20POLY1305_SHA256_ED25519 = 0x004d
            => "MLS_256_XWING_CHACHA20POLY1305_SHA256_Ed25519",
        /// X-Wing with AES-256-GCM (draft-ietf-mls-pq-ciphersuites), at the value that OpenMLS uses.
        MLS_128_MLKEM768X25519_AES256GCM_SHA384_ED25519 = 0x004e
            => "MLS_128_MLKEM768X25519_AES256GCM_SHA384_Ed25519",
        /// X-Wing with AES-128-GCM (draft-ietf-mls-pq-ciphersuites), at the value that OpenMLS uses.
        MLS_128_MLKEM768X25519_AES128GCM_SHA256_ED25519 = 0x004f
            => "MLS_128_MLKEM768X25519_AES128GCM_SHA256_Ed25519",
        /// What mls-rs calls so: its own combination of ML-KEM-768 and X25519, AES-128-GCM, SHA-256
        /// and Ed25519, at its value for private use.
        ML_KEM_768_X25519 = 65100 => "ML_KEM_768_X25519",
    }
}

/// Why a primitive refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CryptoError {
    /// A public key is no valid point, or a useless one. Whoever published it is to blame.
    #[error("a public key is not valid")]
    InvalidPublicKey,
    /// A private key is malformed. It came from our own storage or caller.
    #[error("a private key is not valid")]
    InvalidPrivateKey,
    /// A signature does not verify. Whoever signed is to blame.
    #[error("a signature does not verify")]
    InvalidSignature,
    /// A message authentication code differs. The sender is to blame, or the key is another's.
    #[error("a message authentication code does not match")]
    InvalidMac,
    /// A ciphertext does not open. The sender is to blame, or the key is another's.
    #[error("a ciphertext cannot be decrypted")]
    DecryptionFailed,
    /// An export asked for more bytes than the KDF gives (255 times the hash length). Our caller is
    /// to blame.
    #[error("more bytes were asked for than can be derived")]
    OutputTooLong,
}

macro_rules! opaque_keys {
    ($($(#[$meta:meta])* $name:ident),*) => {$(
        $(#[$meta])*
        #[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Bytes);

        impl std::ops::Deref for $name {
            type Target = [u8];
            fn deref(&self) -> &[u8] {
                &self.0
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl<T: Into<Bytes>> From<T> for $name {
            fn from(bytes: T) -> Self {
                Self(bytes.into())
            }
        }

        impl Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                self.0.encode(out);
            }
        }

        impl Decode for $name {
            fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Bytes::decode(reader).map(Self)
            }

            fn skip(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
                Bytes::skip(reader)
            }
        }
    )*};
}

opaque_keys! {
    /// `opaque HPKEPublicKey<V>` (RFC 9420, section 5.1.1), in the KEM's own encoding.
    HpkePublicKey,
    /// `opaque SignaturePublicKey<V>` (RFC 9420, section 5.1.1), in the signature scheme's encoding.
    SignaturePublicKey
}

/// One signature to be checked among many, see [`Suite::verify_batch`].
#[derive(Clone, Debug)]
pub struct SignedData<'a> {
    /// The signer's public key.
    pub public_key: &'a [u8],
    /// What was signed, label included (see `signed_data` in [`labels`]).
    pub data: Cow<'a, [u8]>,
    /// The signature.
    pub signature: &'a [u8],
}

/// What a client can do: cipher suites by number, and versions of the protocol.
pub trait CryptoProvider: Send + Sync {
    /// The versions of the protocol that groups may have, in the order of preference.
    fn versions(&self) -> &'static [ProtocolVersion] {
        &[ProtocolVersion::MLS10]
    }

    /// The suites that it implements, in the order of preference.
    fn suites(&self) -> &'static [CipherSuite];

    /// The primitives of one suite, or `None` if it does not implement it.
    fn suite(&self, cipher_suite: CipherSuite) -> Option<&'static dyn Suite>;
}

/// A hash, and HMAC and HKDF over it.
///
/// Lengths are in bytes.
pub trait Kdf: Send + Sync {
    /// HPKE's number for HKDF over the hash (RFC 9180, section 7.2).
    fn kdf_id(&self) -> u16;

    /// `KDF.Nh`, the length of the hash and of its MACs.
    fn hash_length(&self) -> usize;

    /// The hash of the parts one after the other, without joining them in memory.
    fn hash_parts(&self, parts: &[&[u8]]) -> Hash;

    /// HMAC over the parts one after the other.
    fn hmac_parts(&self, key: &[u8], parts: &[&[u8]]) -> Hash;

    /// The hash of `data`.
    fn hash(&self, data: &[u8]) -> Hash {
        self.hash_parts(&[data])
    }

    /// HMAC over `data`.
    fn hmac(&self, key: &[u8], data: &[u8]) -> Hash {
        self.hmac_parts(key, &[data])
    }

    /// `KDF.Extract` (RFC 5869, section 2.2).
    fn extract(&self, salt: &[u8], ikm: &[u8]) -> Secret {
        Secret::from(self.hmac(salt, ikm))
    }

    /// `KDF.Expand` (RFC 5869, section 2.3), the info given in parts.
    ///
    /// # Panics
    /// If `length` exceeds 255 times [`Kdf::hash_length`]. Where a caller chooses the length, the
    /// caller of this function checks it first.
    fn expand(&self, prk: &[u8], info: &[&[u8]], length: usize) -> Secret {
        expand(self, prk, info, length)
    }
}

/// As many parts of info stand in a row without a list on the heap.
const EXPAND_PARTS: usize = 6;

/// [`Kdf::expand`] by its definition.
fn expand<K: Kdf + ?Sized>(kdf: &K, prk: &[u8], info: &[&[u8]], length: usize) -> Secret {
    let size = kdf.hash_length();
    assert!(length <= 255 * size, "more output than the KDF can give");
    if info.len() > EXPAND_PARTS {
        return expand(kdf, prk, &[&info.concat()], length);
    }
    let mut output = zeroize::Zeroizing::new(vec![0; length]);
    let mut before: Option<Hash> = None;
    for (number, part) in (1..=u8::MAX).zip(output.chunks_mut(size)) {
        let number = [number];
        // Between the block before and the number.
        let mut parts = [&[][..]; EXPAND_PARTS + 2];
        parts[0] = before.as_ref().map_or(&[], Hash::as_slice);
        parts[1..=info.len()].copy_from_slice(info);
        parts[info.len() + 1] = &number;
        let mut block = kdf.hmac_parts(prk, &parts[..info.len() + 2]);
        part.copy_from_slice(&block[..part.len()]);
        if let Some(mut before) = before.replace(block) {
            before.wipe();
        }
        block.wipe();
    }
    if let Some(mut last) = before {
        last.wipe();
    }
    Secret::from(output)
}

/// The primitives of one cipher suite, its hash among them.
///
/// Lengths are in bytes. Methods that return no `Result` cannot fail.
pub trait Suite: Kdf {
    /// Which suite this is.
    fn id(&self) -> CipherSuite;

    /// HPKE's numbers for KEM, KDF and AEAD (RFC 9180, section 7).
    fn hpke_ids(&self) -> [u16; 3];

    /// `AEAD.Nk`.
    fn aead_key_length(&self) -> usize;

    /// `AEAD.Nn`.
    fn aead_nonce_length(&self) -> usize;

    /// What a ciphertext is longer than its plaintext.
    fn aead_tag_length(&self) -> usize;

    /// Encrypts. `key` and `nonce` have the suite's lengths; they come from its own derivations.
    fn aead_seal(&self, key: &[u8], nonce: &[u8], aad: &[u8], plaintext: &[u8]) -> Vec<u8>;

    /// Decrypts.
    ///
    /// # Errors
    /// [`CryptoError::DecryptionFailed`].
    fn aead_open(
        &self,
        key: &[u8],
        nonce: &[u8],
        aad: &[u8],
        ciphertext: &[u8],
    ) -> Result<Secret, CryptoError>;

    /// `Nsk` of the KEM, also the length of a good seed for [`Suite::kem_derive_key_pair`].
    fn kem_private_key_length(&self) -> usize;

    /// `DeriveKeyPair` of the KEM (RFC 9180, section 7.1.3).
    fn kem_derive_key_pair(&self, ikm: &[u8]) -> HpkeKeyPair;

    /// `Encap` of the KEM: a fresh shared secret, and its encapsulation for `public_key`.
    ///
    /// # Errors
    /// [`CryptoError::InvalidPublicKey`], to the blame of its publisher.
    fn kem_encap(
        &self,
        public_key: &[u8],
        rng: &mut dyn CryptoRng,
    ) -> Result<(Secret, Vec<u8>), CryptoError>;

    /// `Decap` of the KEM.
    ///
    /// # Errors
    /// [`CryptoError::InvalidPublicKey`] if `kem_output` is none, to the blame of the sender;
    /// [`CryptoError::InvalidPrivateKey`].
    fn kem_decap(&self, key_pair: &HpkeKeyPair, kem_output: &[u8]) -> Result<Secret, CryptoError>;

    /// Whether the bytes are a public key of the KEM that can be encrypted to.
    ///
    /// # Errors
    /// [`CryptoError::InvalidPublicKey`], to the blame of its publisher.
    fn kem_check_public_key(&self, public_key: &[u8]) -> Result<(), CryptoError>;

    /// The public key that belongs to a private key of the KEM.
    ///
    /// # Errors
    /// [`CryptoError::InvalidPrivateKey`].
    fn kem_public_key(&self, private_key: &[u8]) -> Result<HpkePublicKey, CryptoError>;

    /// Whether both halves of a key pair of the KEM belong together.
    ///
    /// # Errors
    /// [`CryptoError::InvalidPrivateKey`] if they do not.
    fn kem_check_key_pair(&self, key_pair: &HpkeKeyPair) -> Result<(), CryptoError>;

    /// A new signature key pair.
    fn signature_key_pair(&self, rng: &mut dyn CryptoRng) -> SignatureKeyPair;

    /// The public key that belongs to a private signature key.
    ///
    /// # Errors
    /// [`CryptoError::InvalidPrivateKey`].
    fn signature_public_key(&self, private_key: &[u8]) -> Result<SignaturePublicKey, CryptoError>;

    /// Signs `data` as it is; see `sign_with_label` in [`labels`] for what MLS signs.
    ///
    /// # Errors
    /// [`CryptoError::InvalidPrivateKey`].
    fn sign(&self, key_pair: &SignatureKeyPair, data: &[u8]) -> Result<Bytes, CryptoError>;

    /// Verifies one signature.
    ///
    /// # Errors
    /// [`CryptoError::InvalidPublicKey`] or [`CryptoError::InvalidSignature`].
    fn verify(&self, public_key: &[u8], data: &[u8], signature: &[u8]) -> Result<(), CryptoError>;

    /// Verifies many signatures at once. Accepts exactly what [`Suite::verify`] accepts of each, so
    /// that members who check in batches and members who do not agree.
    ///
    /// # Errors
    /// The index of the first item that [`Suite::verify`] refuses, and its error.
    fn verify_batch(
        &self,
        items: &[SignedData<'_>],
        _rng: &mut dyn CryptoRng,
    ) -> Result<(), (usize, CryptoError)> {
        verify_each(self, items)
    }
}

/// What a batch is without a faster equation, and how the bad one is found.
///
/// # Errors
/// The index of the first item that [`Suite::verify`] refuses, and its error.
pub fn verify_each<S: Suite + ?Sized>(
    suite: &S,
    items: &[SignedData<'_>],
) -> Result<(), (usize, CryptoError)> {
    items.iter().enumerate().try_for_each(|(index, item)| {
        suite
            .verify(item.public_key, &item.data, item.signature)
            .map_err(|error| (index, error))
    })
}
