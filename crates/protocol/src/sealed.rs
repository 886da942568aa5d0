//! What clients seal for each other, so that the services hold nothing readable: KeyPackages on a
//! shelf, the parts of a Welcome at a pickup, invitations in a mailbox.
//!
//! All of it uses the primitives of MLS cipher suite 1: HPKE with X25519, HKDF with SHA-256,
//! AES-128-GCM. Every sealed thing begins with a version, and its key with a label of its own.

use folkmoot_mls::codec::{Bytes, Decode, DecodeError, Encode};
use folkmoot_mls::commit::HpkeCiphertext;
use folkmoot_mls::crypto::hpke::HpkeInfo;
use folkmoot_mls::crypto::{
    CipherSuite, CryptoError, CryptoProvider, HpkeKeyPair, HpkePublicKey, PROVIDER, Secret, Suite,
};
use folkmoot_mls::tls_struct;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::VERSION;

const SHELF: &str = "shelf";
const SHELF_NONCE: &str = "shelf nonce";
const SHARED_PART: &str = "welcome, shared part";
const OWN_PART: &str = "welcome, own part";
const INVITATION: &[u8] = b"Folkmoot 1.0 invitation";
const KNOCK: &[u8] = b"Folkmoot 1.0 knock";

/// An envelope's plaintext is padded to a multiple of this, so that all invitations look alike.
const ENVELOPE_STEP: usize = 1024;

/// Something sealed does not open. Whoever sealed it is to blame, or the service that kept it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The bytes are not what they should be.
    #[error("a sealed thing is malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// It is sealed by other rules, under another version of the key, or another key.
    #[error("a sealed thing does not open: {0}")]
    Crypto(#[from] CryptoError),
    /// It is of a version, or for a version of our key, that we do not have.
    #[error("a sealed thing is of version {0}, which is not known here")]
    Version(u16),
    /// A package's nonce is not the one that belongs to it, so that it has a second id.
    #[error("a package is not sealed by the rules")]
    Nonce,
}

tls_struct! {
    struct Sealed {
        version: u16,
        /// Counts the keys of whoever it is for; 0 where a key is used once.
        key_version: u16,
        nonce: [u8; 12],
        ciphertext: Bytes,
    }
}

tls_struct! {
    struct SealedEnvelope {
        version: u16,
        key_version: u16,
        ciphertext: HpkeCiphertext,
    }
}

/// The primitives.
#[must_use]
pub fn suite() -> &'static dyn Suite {
    PROVIDER
        .suite(CipherSuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_ED25519)
        .expect("the provider implements the suite that everybody must")
}

/// Seals a KeyPackage for the shelf whose key has this version. The same package gives the same
/// bytes, so that a repeated upload is the same thing to the service.
#[must_use]
pub fn seal_package(key_version: u16, shelf_key: &[u8; 32], key_package: &[u8]) -> Vec<u8> {
    let nonce = package_nonce(shelf_key, key_package);
    seal(SHELF, key_version, shelf_key, nonce, key_package)
}

/// Opens what [`seal_package`] sealed.
///
/// # Errors
/// [`SealError`]: the shelf's owner is to blame, or the service.
pub fn open_package(
    key_version: u16,
    shelf_key: &[u8; 32],
    sealed: &[u8],
) -> Result<Vec<u8>, SealError> {
    let (nonce, key_package) = open(SHELF, key_version, shelf_key, sealed)?;
    if nonce == package_nonce(shelf_key, &key_package) {
        Ok(key_package.as_slice().to_vec())
    } else {
        Err(SealError::Nonce)
    }
}

/// Seals the part of a Welcome that all joiners of a commit share. A rebuilt commit uses the key
/// again, with another nonce.
pub fn seal_shared_part(key: &[u8; 32], part: &[u8], rng: &mut dyn CryptoRng) -> Vec<u8> {
    seal(SHARED_PART, 0, key, random_nonce(rng), part)
}

/// Opens what [`seal_shared_part`] sealed.
///
/// # Errors
/// [`SealError`]: the adder is to blame, or the service.
pub fn open_shared_part(key: &[u8; 32], sealed: &[u8]) -> Result<Secret, SealError> {
    open(SHARED_PART, 0, key, sealed).map(|(_, part)| part)
}

/// Seals one joiner's own part of a Welcome.
pub fn seal_own_part(key: &[u8; 32], part: &[u8], rng: &mut dyn CryptoRng) -> Vec<u8> {
    seal(OWN_PART, 0, key, random_nonce(rng), part)
}

/// Opens what [`seal_own_part`] sealed.
///
/// # Errors
/// [`SealError`]: the adder is to blame, or the service.
pub fn open_own_part(key: &[u8; 32], sealed: &[u8]) -> Result<Secret, SealError> {
    open(OWN_PART, 0, key, sealed).map(|(_, part)| part)
}

/// Seals an envelope to the mailbox key of this version. Its length tells steps of 1 KiB only.
///
/// # Errors
/// [`CryptoError::InvalidPublicKey`]: the mailbox's owner is to blame.
pub fn seal_envelope(
    key_version: u16,
    mailbox_key: &[u8; 32],
    content: &[u8],
    rng: &mut dyn CryptoRng,
) -> Result<Vec<u8>, CryptoError> {
    seal_for(INVITATION, key_version, mailbox_key, content, rng)
}

/// Seals a knock to the key of a door. Its length tells steps of 1 KiB only.
///
/// # Errors
/// [`CryptoError::InvalidPublicKey`]: whoever made the link is to blame.
pub fn seal_knock(
    door_key: &[u8; 32],
    content: &[u8],
    rng: &mut dyn CryptoRng,
) -> Result<Vec<u8>, CryptoError> {
    seal_for(KNOCK, 0, door_key, content, rng)
}

/// Opens what [`seal_knock`] sealed.
///
/// # Errors
/// [`SealError`]: whoever dropped it is to blame.
pub fn open_knock(door_key: &HpkeKeyPair, envelope: &[u8]) -> Result<Secret, SealError> {
    open_for(KNOCK, 0, door_key, envelope)
}

fn seal_for(
    purpose: &[u8],
    key_version: u16,
    mailbox_key: &[u8; 32],
    content: &[u8],
    rng: &mut dyn CryptoRng,
) -> Result<Vec<u8>, CryptoError> {
    let mut padded = Zeroizing::new(Bytes::from(content).to_bytes());
    let length = padded.len().next_multiple_of(ENVELOPE_STEP);
    padded.resize(length, 0);
    let aad = key_version.to_bytes();
    let ciphertext = suite().hpke_seal(mailbox_key, &envelope_info(purpose), &aad, &padded, rng)?;
    let envelope = SealedEnvelope {
        version: VERSION,
        key_version,
        ciphertext,
    };
    Ok(envelope.to_bytes())
}

/// Opens what [`seal_envelope`] sealed, with the mailbox's private key of this version.
///
/// # Errors
/// [`SealError`]: whoever dropped it is to blame.
pub fn open_envelope(
    key_version: u16,
    mailbox_key: &HpkeKeyPair,
    envelope: &[u8],
) -> Result<Secret, SealError> {
    open_for(INVITATION, key_version, mailbox_key, envelope)
}

fn open_for(
    purpose: &[u8],
    key_version: u16,
    mailbox_key: &HpkeKeyPair,
    envelope: &[u8],
) -> Result<Secret, SealError> {
    let envelope = SealedEnvelope::from_bytes(envelope)?;
    if envelope.version != VERSION {
        return Err(SealError::Version(envelope.version));
    }
    if envelope.key_version != key_version {
        return Err(SealError::Version(envelope.key_version));
    }
    let aad = key_version.to_bytes();
    let padded = suite().hpke_open(
        mailbox_key,
        &envelope_info(purpose),
        &aad,
        &envelope.ciphertext,
    )?;
    let mut reader = folkmoot_mls::codec::Reader::new(&padded);
    let content = Secret::from(reader.prefixed()?);
    if reader.rest().iter().all(|byte| *byte == 0) {
        Ok(content)
    } else {
        Err(DecodeError::InvalidValue("padding").into())
    }
}

/// A fresh mailbox key.
pub fn mailbox_key_pair(rng: &mut dyn CryptoRng) -> HpkeKeyPair {
    suite().kem_key_pair(rng)
}

/// The mailbox key as the directory holds it; `None` if the key is none of the suite's.
#[must_use]
pub fn mailbox_public_key(key: &HpkePublicKey) -> Option<[u8; 32]> {
    key.as_ref().try_into().ok()
}

fn envelope_info(purpose: &[u8]) -> HpkeInfo {
    suite().hpke_info(&[purpose])
}

fn package_nonce(shelf_key: &[u8; 32], key_package: &[u8]) -> [u8; 12] {
    let hash = suite().hash(key_package);
    let nonce = suite().expand_with_label(shelf_key, SHELF_NONCE, &hash, 12);
    let mut array = [0; 12];
    array.copy_from_slice(&nonce);
    array
}

fn random_nonce(rng: &mut dyn CryptoRng) -> [u8; 12] {
    let mut nonce = [0; 12];
    rng.fill_bytes(&mut nonce);
    nonce
}

fn aead_key(label: &str, key: &[u8; 32]) -> Secret {
    suite().expand_with_label(key, label, &[], suite().aead_key_length())
}

fn seal(label: &str, key_version: u16, key: &[u8; 32], nonce: [u8; 12], plain: &[u8]) -> Vec<u8> {
    let aad = (VERSION, key_version).to_bytes();
    let ciphertext = suite().aead_seal(&aead_key(label, key), &nonce, &aad, plain);
    let sealed = Sealed {
        version: VERSION,
        key_version,
        nonce,
        ciphertext: ciphertext.into(),
    };
    sealed.to_bytes()
}

fn open(
    label: &str,
    key_version: u16,
    key: &[u8; 32],
    sealed: &[u8],
) -> Result<([u8; 12], Secret), SealError> {
    let sealed = Sealed::from_bytes(sealed)?;
    if sealed.version != VERSION {
        return Err(SealError::Version(sealed.version));
    }
    if sealed.key_version != key_version {
        return Err(SealError::Version(sealed.key_version));
    }
    let aad = (VERSION, key_version).to_bytes();
    let plain = suite().aead_open(
        &aead_key(label, key),
        &sealed.nonce,
        &aad,
        &sealed.ciphertext,
    )?;
    Ok((sealed.nonce, plain))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Numbers that count up: enough where only difference matters.
    pub(crate) struct Counting(pub u8);

    impl rand_core::TryRng for Counting {
        type Error = std::convert::Infallible;
        fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
            self.0 = self.0.wrapping_add(1);
            Ok(u32::from(self.0))
        }
        fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
            self.try_next_u32().map(u64::from)
        }
        fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
            for byte in bytes {
                self.0 = self.0.wrapping_add(1);
                *byte = self.0;
            }
            Ok(())
        }
    }

    impl rand_core::TryCryptoRng for Counting {}

    #[test]
    fn a_package_sealed_twice_is_the_same_package() {
        let sealed = seal_package(3, &[1; 32], b"package");
        assert_eq!(sealed, seal_package(3, &[1; 32], b"package"));
        assert_ne!(sealed, seal_package(3, &[1; 32], b"another"));
        assert_eq!(open_package(3, &[1; 32], &sealed).unwrap(), b"package");
        assert_eq!(
            open_package(4, &[1; 32], &sealed),
            Err(SealError::Version(3))
        );
        let other = open_package(3, &[2; 32], &sealed);
        assert_eq!(other, Err(SealError::Crypto(CryptoError::DecryptionFailed)));
        let second = seal(SHELF, 3, &[1; 32], [9; 12], b"package");
        assert_eq!(open_package(3, &[1; 32], &second), Err(SealError::Nonce));
    }

    #[test]
    fn parts_of_a_welcome_are_told_apart() {
        let mut rng = Counting(0);
        let shared = seal_shared_part(&[5; 32], b"info", &mut rng);
        let own = seal_own_part(&[5; 32], b"secrets", &mut rng);
        assert_eq!(
            open_shared_part(&[5; 32], &shared).unwrap().as_slice(),
            b"info"
        );
        assert_eq!(
            open_own_part(&[5; 32], &own).unwrap().as_slice(),
            b"secrets"
        );
        assert!(open_own_part(&[5; 32], &shared).is_err());
        assert!(open_shared_part(&[5; 32], &own).is_err());
        for length in 0..own.len() {
            assert!(open_own_part(&[5; 32], &own[..length]).is_err());
        }
    }

    #[test]
    fn envelopes_open_for_the_mailbox_alone_and_look_alike() {
        let mut rng = Counting(0);
        let key = mailbox_key_pair(&mut rng);
        let public = mailbox_public_key(key.public_key()).unwrap();
        let short = seal_envelope(1, &public, b"short", &mut rng).unwrap();
        let long = seal_envelope(1, &public, &[7; 900], &mut rng).unwrap();
        assert_eq!(short.len(), long.len());
        assert_eq!(open_envelope(1, &key, &short).unwrap().as_slice(), b"short");
        assert_eq!(open_envelope(1, &key, &long).unwrap().as_slice(), [7; 900]);
        assert_eq!(open_envelope(2, &key, &short), Err(SealError::Version(1)));
        let other = mailbox_key_pair(&mut rng);
        assert!(matches!(
            open_envelope(1, &other, &short),
            Err(SealError::Crypto(_))
        ));
        let mut damaged = short.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert!(matches!(
            open_envelope(1, &key, &damaged),
            Err(SealError::Crypto(_))
        ));
    }
}
