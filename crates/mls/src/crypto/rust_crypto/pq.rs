//! The post-quantum KEMs: ML-KEM-768 (FIPS 203) together with X25519, so that whoever wants the shared
//! secret has to break both.

use ml_kem::kem::{Decapsulate, Decapsulator, Encapsulate, KeyExport, TryKeyInit};
use ml_kem::ml_kem_768;
use rand_core::CryptoRng;
use sha3::{Digest, Sha3_256};
use shake::{ExtendableOutput, Shake128, Shake256, Update, XofReader};
use zeroize::Zeroizing;

use super::montgomery::X25519;
use crate::crypto::dhkem::{DhKem, Group};
use crate::crypto::hpke::labeled_extract;
use crate::crypto::parts::Kem;
use crate::crypto::sha2::Sha2;
use crate::crypto::{CryptoError, HpkeKeyPair, HpkePublicKey, Secret};

/// X-Wing (draft-connolly-cfrg-xwing-kem). A private key is its seed of 32 bytes.
///
/// The draft leaves open whether an X25519 of all zeros is refused, and so far it is not: the secret
/// then rests on ML-KEM alone, which whoever chose such a key did to itself.
pub(super) struct XWing;

fn x_wing_key(private_key: &[u8]) -> Result<x_wing::DecapsulationKey, CryptoError> {
    super::key_bytes::<32>(private_key).map(|seed| x_wing::DecapsulationKey::from(**seed))
}

fn x_wing_public_key(public_key: &[u8]) -> Result<x_wing::EncapsulationKey, CryptoError> {
    x_wing::EncapsulationKey::new_from_slice(public_key).map_err(|_| CryptoError::InvalidPublicKey)
}

impl Kem for XWing {
    fn id(&self) -> u16 {
        0x647a
    }

    fn private_key_length(&self) -> usize {
        32
    }

    /// The seed is SHAKE256 of the input (draft-ietf-hpke-pq).
    fn derive_key_pair(&self, ikm: &[u8]) -> HpkeKeyPair {
        let seed = shake::<Shake256>(ikm, 32);
        let public_key = self.public_key(&seed).expect("32 bytes are a seed");
        HpkeKeyPair::new(Secret::from(seed), public_key)
    }

    fn encap(
        &self,
        public_key: &[u8],
        rng: &mut dyn CryptoRng,
    ) -> Result<(Secret, Vec<u8>), CryptoError> {
        let (ciphertext, secret) = x_wing_public_key(public_key)?.encapsulate_with_rng(rng);
        let secret = Zeroizing::new(secret);
        Ok((Secret::from(secret.as_slice()), ciphertext.to_vec()))
    }

    fn decap(&self, key_pair: &HpkeKeyPair, kem_output: &[u8]) -> Result<Secret, CryptoError> {
        let ciphertext =
            x_wing::Ciphertext::try_from(kem_output).map_err(|_| CryptoError::InvalidPublicKey)?;
        let secret = Zeroizing::new(x_wing_key(key_pair.private_key())?.decapsulate(&ciphertext));
        Ok(Secret::from(secret.as_slice()))
    }

    fn check_public_key(&self, public_key: &[u8]) -> Result<(), CryptoError> {
        x_wing_public_key(public_key).map(|_| ())
    }

    fn public_key(&self, private_key: &[u8]) -> Result<HpkePublicKey, CryptoError> {
        let key = x_wing_key(private_key)?;
        Ok(HpkePublicKey::from(
            key.encapsulation_key().to_bytes().as_slice(),
        ))
    }
}

/// The KEM of mls-rs's suite 65100. It resembles the first draft of X-Wing, but its X25519 is DHKEM's, and
/// the label of its combiner has a line feed in it. A private key is the seed of ML-KEM (64 bytes), then
/// the scalar of X25519.
pub(super) struct MlKem768X25519(pub(super) DhKem<X25519, Sha2>);

impl MlKem768X25519 {
    const SEED: usize = 64;
    const PUBLIC_KEY: usize = 1184;
    const CIPHERTEXT: usize = 1088;

    fn split_private_key<'a>(
        &self,
        private_key: &'a [u8],
    ) -> Result<(ml_kem_768::DecapsulationKey, &'a [u8]), CryptoError> {
        private_key
            .split_at_checked(Self::SEED)
            .and_then(|(seed, x25519)| {
                let seed = super::key_bytes::<{ Self::SEED }>(seed).ok()?;
                Some((
                    ml_kem_768::DecapsulationKey::from_seed((**seed).into()),
                    x25519,
                ))
            })
            .ok_or(CryptoError::InvalidPrivateKey)
    }

    fn split_public_key<'a>(
        &self,
        public_key: &'a [u8],
    ) -> Result<(ml_kem_768::EncapsulationKey, &'a [u8]), CryptoError> {
        public_key
            .split_at_checked(Self::PUBLIC_KEY)
            .and_then(|(ml_kem, x25519)| {
                let ml_kem = ml_kem_768::EncapsulationKey::new_from_slice(ml_kem).ok()?;
                Some((ml_kem, x25519))
            })
            .ok_or(CryptoError::InvalidPublicKey)
    }

    fn combine(ml_kem: &[u8], x25519: &[u8], kem_output: &[u8], public_key: &[u8]) -> Secret {
        const LABEL: &[u8] = b"\\./\n/^\\";
        let mut hash = Sha3_256::new();
        for part in [LABEL, ml_kem, x25519, kem_output, public_key] {
            Digest::update(&mut hash, part);
        }
        Secret::from(Zeroizing::new(hash.finalize()).as_slice())
    }
}

impl Kem for MlKem768X25519 {
    fn id(&self) -> u16 {
        15
    }

    fn private_key_length(&self) -> usize {
        Self::SEED + 32
    }

    fn derive_key_pair(&self, ikm: &[u8]) -> HpkeKeyPair {
        let suite_id = b"KEM\x00\x0f";
        let dkp_prk = labeled_extract(&self.0.kdf, suite_id, &[], b"dkp_prk", &[ikm]);
        let mut private_key = shake::<Shake128>(&dkp_prk, Self::SEED + 32);
        let (x25519, _) = self.0.private_key_from_prk(&private_key[Self::SEED..]);
        private_key[Self::SEED..].copy_from_slice(&x25519);
        let public_key = self.public_key(&private_key).expect("of the right length");
        HpkeKeyPair::new(Secret::from(private_key), public_key)
    }

    fn encap(
        &self,
        public_key: &[u8],
        rng: &mut dyn CryptoRng,
    ) -> Result<(Secret, Vec<u8>), CryptoError> {
        let (ml_kem, x25519) = self.split_public_key(public_key)?;
        let (ciphertext, secret) = ml_kem.encapsulate_with_rng(rng);
        let secret = Zeroizing::new(secret);
        let (dh_secret, dh_output) = self.0.encap(x25519, rng)?;
        let combined = Self::combine(secret.as_slice(), &dh_secret, &dh_output, x25519);
        Ok((combined, [ciphertext.as_slice(), &dh_output].concat()))
    }

    fn decap(&self, key_pair: &HpkeKeyPair, kem_output: &[u8]) -> Result<Secret, CryptoError> {
        let invalid = CryptoError::InvalidPublicKey;
        let (ml_kem, x25519) = self.split_private_key(key_pair.private_key())?;
        let (ciphertext, dh_output) = kem_output
            .split_at_checked(Self::CIPHERTEXT)
            .ok_or(invalid)?;
        let ciphertext = ml_kem_768::Ciphertext::try_from(ciphertext).map_err(|_| invalid)?;
        let secret = Zeroizing::new(ml_kem.decapsulate(&ciphertext));
        let x25519 = HpkeKeyPair::new(x25519.into(), Kem::public_key(&self.0, x25519)?);
        let dh_secret = self.0.decap(&x25519, dh_output)?;
        let public_key = x25519.public_key();
        Ok(Self::combine(
            secret.as_slice(),
            &dh_secret,
            dh_output,
            public_key,
        ))
    }

    fn check_public_key(&self, public_key: &[u8]) -> Result<(), CryptoError> {
        let (_, x25519) = self.split_public_key(public_key)?;
        self.0.group.check_public_key(x25519)
    }

    fn public_key(&self, private_key: &[u8]) -> Result<HpkePublicKey, CryptoError> {
        let (ml_kem, x25519) = self.split_private_key(private_key)?;
        let x25519 = Kem::public_key(&self.0, x25519)?;
        let ml_kem = ml_kem.encapsulation_key().to_bytes();
        Ok(HpkePublicKey::from([ml_kem.as_slice(), &x25519].concat()))
    }
}

fn shake<X: Default + Update + ExtendableOutput>(
    input: &[u8],
    length: usize,
) -> Zeroizing<Vec<u8>> {
    let mut hash = X::default();
    hash.update(input);
    let mut output = Zeroizing::new(vec![0; length]);
    hash.finalize_xof().read(&mut output);
    output
}
