//! A crypto provider that counts what is asked of it.

use std::cell::Cell;
use std::sync::LazyLock;

use folkmoot_mls::codec::Bytes;
use folkmoot_mls::crypto::{
    CipherSuite, CryptoError, CryptoProvider, Hash, HpkeKeyPair, HpkePublicKey, Kdf, PROVIDER,
    Secret, SignatureKeyPair, SignaturePublicKey, SignedData, Suite,
};
use folkmoot_mls::tree::copied_chunks;
use rand_core::CryptoRng;

use crate::group_harness::SUITE;

/// What an operation asked of the primitives, and what it copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Hashes.
    pub hashes: u64,
    /// Bytes that went into them.
    pub hashed: u64,
    /// HMACs: MACs, and each step of a key derivation.
    pub macs: u64,
    /// Bytes that went into them, keys apart.
    pub maced: u64,
    /// Signatures made.
    pub signed: u64,
    /// Signatures verified alone.
    pub verified: u64,
    /// Signatures verified with others.
    pub batched: u64,
    /// How many batches those made.
    pub batches: u64,
    /// Key pairs of the KEM made.
    pub key_pairs: u64,
    /// Public keys of the KEM looked at.
    pub key_checks: u64,
    /// Public keys derived from private ones that were there.
    pub public_keys: u64,
    /// Encapsulations.
    pub encaps: u64,
    /// Decapsulations.
    pub decaps: u64,
    /// AEAD encryptions.
    pub seals: u64,
    /// AEAD decryptions.
    pub opens: u64,
    /// Chunks of the tree, 15 nodes each, that were copied.
    pub copies: u64,
    /// Chunks of the tree that are to be stored.
    pub chunks: u64,
}

thread_local! {
    static COUNTS: Cell<Counts> = Cell::default();
}

/// What an operation on this thread costs.
pub fn counted<T>(operation: impl FnOnce() -> T) -> (T, Counts) {
    COUNTS.take();
    let copied = copied_chunks();
    let result = operation();
    let mut counts = COUNTS.take();
    counts.copies = copied_chunks() - copied;
    (result, counts)
}

fn count(change: impl FnOnce(&mut Counts)) {
    let mut counts = COUNTS.get();
    change(&mut counts);
    COUNTS.set(counts);
}

fn length(parts: &[&[u8]]) -> u64 {
    parts.iter().map(|part| part.len() as u64).sum()
}

/// The provider.
pub struct Counting;

impl CryptoProvider for Counting {
    fn suites(&self) -> &'static [CipherSuite] {
        &[SUITE]
    }

    fn suite(&self, cipher_suite: CipherSuite) -> Option<&'static dyn Suite> {
        (cipher_suite == SUITE).then_some(&*COUNTED)
    }
}

static COUNTED: LazyLock<Counted> =
    LazyLock::new(|| Counted(PROVIDER.suite(SUITE).expect("suite 1 is always there")));

struct Counted(&'static dyn Suite);

impl Kdf for Counted {
    fn kdf_id(&self) -> u16 {
        self.0.kdf_id()
    }

    fn hash_length(&self) -> usize {
        self.0.hash_length()
    }

    fn hash_parts(&self, parts: &[&[u8]]) -> Hash {
        count(|counts| {
            counts.hashes += 1;
            counts.hashed += length(parts);
        });
        self.0.hash_parts(parts)
    }

    fn hmac_parts(&self, key: &[u8], parts: &[&[u8]]) -> Hash {
        count(|counts| {
            counts.macs += 1;
            counts.maced += length(parts);
        });
        self.0.hmac_parts(key, parts)
    }
}

impl Suite for Counted {
    fn id(&self) -> CipherSuite {
        self.0.id()
    }

    fn hpke_ids(&self) -> [u16; 3] {
        self.0.hpke_ids()
    }

    fn aead_key_length(&self) -> usize {
        self.0.aead_key_length()
    }

    fn aead_nonce_length(&self) -> usize {
        self.0.aead_nonce_length()
    }

    fn aead_tag_length(&self) -> usize {
        self.0.aead_tag_length()
    }

    fn aead_seal(&self, key: &[u8], nonce: &[u8], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
        count(|counts| counts.seals += 1);
        self.0.aead_seal(key, nonce, aad, plaintext)
    }

    fn aead_open(
        &self,
        key: &[u8],
        nonce: &[u8],
        aad: &[u8],
        ciphertext: &[u8],
    ) -> Result<Secret, CryptoError> {
        count(|counts| counts.opens += 1);
        self.0.aead_open(key, nonce, aad, ciphertext)
    }

    fn kem_private_key_length(&self) -> usize {
        self.0.kem_private_key_length()
    }

    fn kem_derive_key_pair(&self, ikm: &[u8]) -> HpkeKeyPair {
        count(|counts| counts.key_pairs += 1);
        self.0.kem_derive_key_pair(ikm)
    }

    fn kem_encap(
        &self,
        public_key: &[u8],
        rng: &mut dyn CryptoRng,
    ) -> Result<(Secret, Vec<u8>), CryptoError> {
        count(|counts| counts.encaps += 1);
        self.0.kem_encap(public_key, rng)
    }

    fn kem_decap(&self, key_pair: &HpkeKeyPair, kem_output: &[u8]) -> Result<Secret, CryptoError> {
        count(|counts| counts.decaps += 1);
        self.0.kem_decap(key_pair, kem_output)
    }

    fn kem_check_public_key(&self, public_key: &[u8]) -> Result<(), CryptoError> {
        count(|counts| counts.key_checks += 1);
        self.0.kem_check_public_key(public_key)
    }

    fn kem_public_key(&self, private_key: &[u8]) -> Result<HpkePublicKey, CryptoError> {
        count(|counts| counts.public_keys += 1);
        self.0.kem_public_key(private_key)
    }

    fn kem_check_key_pair(&self, key_pair: &HpkeKeyPair) -> Result<(), CryptoError> {
        count(|counts| counts.public_keys += 1);
        self.0.kem_check_key_pair(key_pair)
    }

    fn signature_key_pair(&self, rng: &mut dyn CryptoRng) -> SignatureKeyPair {
        self.0.signature_key_pair(rng)
    }

    fn signature_public_key(&self, private_key: &[u8]) -> Result<SignaturePublicKey, CryptoError> {
        self.0.signature_public_key(private_key)
    }

    fn sign(&self, key_pair: &SignatureKeyPair, data: &[u8]) -> Result<Bytes, CryptoError> {
        count(|counts| counts.signed += 1);
        self.0.sign(key_pair, data)
    }

    fn verify(&self, public_key: &[u8], data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        count(|counts| counts.verified += 1);
        self.0.verify(public_key, data, signature)
    }

    fn verify_batch(
        &self,
        items: &[SignedData<'_>],
        rng: &mut dyn CryptoRng,
    ) -> Result<(), (usize, CryptoError)> {
        count(|counts| {
            counts.batched += items.len() as u64;
            counts.batches += 1;
        });
        self.0.verify_batch(items, rng)
    }
}
