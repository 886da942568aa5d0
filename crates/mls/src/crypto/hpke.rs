//! HPKE in base mode, one message per encapsulation (RFC 9180, sections 4, 5.1 and 6.1).
//!
//! The key schedule's context depends on `info` alone, so [`HpkeInfo`] is hashed once for any
//! number of recipients.

use rand_core::CryptoRng;

use super::{CryptoError, HpkeKeyPair, Kdf, Secret, Suite};
use crate::codec::Bytes;
use crate::commit::HpkeCiphertext;

/// `mode_base`.
const MODE_BASE: u8 = 0;
const VERSION: &[u8] = b"HPKE-v1";

/// The key schedule's context for one `info` under one suite.
#[derive(Clone, Debug)]
pub struct HpkeInfo {
    key_schedule_context: Vec<u8>,
}

impl dyn Suite + '_ {
    /// Hashes `info`, given in parts.
    #[must_use]
    pub fn hpke_info(&self, info: &[&[u8]]) -> HpkeInfo {
        let id = hpke_suite_id(self);
        let psk_id_hash = labeled_extract(self, &id, &[], b"psk_id_hash", &[]);
        let info_hash = labeled_extract(self, &id, &[], b"info_hash", info);
        let mut key_schedule_context = vec![MODE_BASE];
        key_schedule_context.extend_from_slice(&psk_id_hash);
        key_schedule_context.extend_from_slice(&info_hash);
        HpkeInfo {
            key_schedule_context,
        }
    }

    /// `SealBase`.
    ///
    /// # Errors
    /// [`CryptoError::InvalidPublicKey`], its publisher's.
    pub fn hpke_seal(
        &self,
        public_key: &[u8],
        info: &HpkeInfo,
        aad: &[u8],
        plaintext: &[u8],
        rng: &mut dyn CryptoRng,
    ) -> Result<HpkeCiphertext, CryptoError> {
        let (shared_secret, kem_output) = self.kem_encap(public_key, rng)?;
        let keys = key_schedule(self, &shared_secret, info);
        let ciphertext = self.aead_seal(&keys.key, &keys.base_nonce, aad, plaintext);
        Ok(HpkeCiphertext {
            kem_output: kem_output.into(),
            ciphertext: ciphertext.into(),
        })
    }

    /// `OpenBase`.
    ///
    /// # Errors
    /// [`CryptoError::DecryptionFailed`] or [`CryptoError::InvalidPublicKey`], the sender's;
    /// [`CryptoError::InvalidPrivateKey`], ours.
    pub fn hpke_open(
        &self,
        key_pair: &HpkeKeyPair,
        info: &HpkeInfo,
        aad: &[u8],
        ciphertext: &HpkeCiphertext,
    ) -> Result<Secret, CryptoError> {
        let shared_secret = self.kem_decap(key_pair, &ciphertext.kem_output)?;
        let keys = key_schedule(self, &shared_secret, info);
        self.aead_open(&keys.key, &keys.base_nonce, aad, &ciphertext.ciphertext)
    }

    /// `SetupBaseS` and one export: the encapsulation and a secret of `length` bytes (RFC 9420,
    /// section 8.3).
    ///
    /// # Errors
    /// [`CryptoError::InvalidPublicKey`], its publisher's; [`CryptoError::OutputTooLong`] above 255 times
    /// the hash length, the caller's.
    pub fn hpke_export_sender(
        &self,
        public_key: &[u8],
        info: &HpkeInfo,
        exporter_context: &[u8],
        length: usize,
        rng: &mut dyn CryptoRng,
    ) -> Result<(Bytes, Secret), CryptoError> {
        let (shared_secret, kem_output) = self.kem_encap(public_key, rng)?;
        let exported = export(self, &shared_secret, info, exporter_context, length)?;
        Ok((kem_output.into(), exported))
    }

    /// `SetupBaseR` and one export.
    ///
    /// # Errors
    /// [`CryptoError::InvalidPublicKey`], the sender's; [`CryptoError::InvalidPrivateKey`], ours;
    /// [`CryptoError::OutputTooLong`] above 255 times the hash length, the caller's.
    pub fn hpke_export_receiver(
        &self,
        key_pair: &HpkeKeyPair,
        kem_output: &[u8],
        info: &HpkeInfo,
        exporter_context: &[u8],
        length: usize,
    ) -> Result<Secret, CryptoError> {
        let shared_secret = self.kem_decap(key_pair, kem_output)?;
        export(self, &shared_secret, info, exporter_context, length)
    }

    /// A fresh key pair of the KEM.
    pub fn kem_key_pair(&self, rng: &mut dyn CryptoRng) -> HpkeKeyPair {
        let mut ikm = zeroize::Zeroizing::new(vec![0; self.kem_private_key_length()]);
        rng.fill_bytes(&mut ikm);
        self.kem_derive_key_pair(&ikm)
    }
}

struct Keys {
    key: Secret,
    base_nonce: Secret,
}

/// `KeySchedule` of RFC 9180, as far as one message needs it.
fn key_schedule(suite: &dyn Suite, shared_secret: &[u8], info: &HpkeInfo) -> Keys {
    let id = hpke_suite_id(suite);
    let secret = labeled_extract(suite, &id, shared_secret, b"secret", &[]);
    let context = &info.key_schedule_context;
    let expand = |label, length| labeled_expand(suite, &id, &secret, label, &[context], length);
    Keys {
        key: expand(b"key", suite.aead_key_length()),
        base_nonce: expand(b"base_nonce", suite.aead_nonce_length()),
    }
}

fn export(
    suite: &dyn Suite,
    shared_secret: &[u8],
    info: &HpkeInfo,
    exporter_context: &[u8],
    length: usize,
) -> Result<Secret, CryptoError> {
    if length > 255 * suite.hash_length() {
        return Err(CryptoError::OutputTooLong);
    }
    let id = hpke_suite_id(suite);
    let secret = labeled_extract(suite, &id, shared_secret, b"secret", &[]);
    let context = &info.key_schedule_context;
    let exporter_secret =
        labeled_expand(suite, &id, &secret, b"exp", &[context], suite.hash_length());
    let context = [exporter_context];
    let exported = labeled_expand(suite, &id, &exporter_secret, b"sec", &context, length);
    Ok(exported)
}

/// `suite_id` of HPKE itself.
fn hpke_suite_id(suite: &dyn Suite) -> [u8; 10] {
    let mut id = *b"HPKE\0\0\0\0\0\0";
    for (place, number) in id[4..].chunks_exact_mut(2).zip(suite.hpke_ids()) {
        place.copy_from_slice(&number.to_be_bytes());
    }
    id
}

/// `LabeledExtract`.
pub fn labeled_extract<K: Kdf + ?Sized>(
    kdf: &K,
    suite_id: &[u8],
    salt: &[u8],
    label: &[u8],
    ikm: &[&[u8]],
) -> Secret {
    let mut parts = vec![VERSION, suite_id, label];
    parts.extend_from_slice(ikm);
    Secret::from(kdf.hmac_parts(salt, &parts))
}

/// `LabeledExpand`.
///
/// # Panics
/// As [`Kdf::expand`]: if `length` exceeds 255 times the hash length.
pub fn labeled_expand<K: Kdf + ?Sized>(
    kdf: &K,
    suite_id: &[u8],
    prk: &[u8],
    label: &[u8],
    info: &[&[u8]],
    length: usize,
) -> Secret {
    let length_bytes = (length as u16).to_be_bytes();
    match info {
        [] => kdf.expand(prk, &[&length_bytes, VERSION, suite_id, label], length),
        [info] => kdf.expand(
            prk,
            &[&length_bytes, VERSION, suite_id, label, info],
            length,
        ),
        more => labeled_expand(kdf, suite_id, prk, label, &[&more.concat()], length),
    }
}
