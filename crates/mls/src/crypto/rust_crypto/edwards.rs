//! Ed25519 and Ed448 (RFC 8032).

use ed448_goldilocks::{Signature, SigningKey as SigningKey448, VerifyingKey as VerifyingKey448};
use ed25519_dalek::{Signer, SigningKey};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::codec::Bytes;
use crate::crypto::parts::SignatureScheme;
use crate::crypto::{
    CryptoError, Secret, SignatureKeyPair, SignaturePublicKey, SignedData, ed25519,
};

pub(super) struct Ed25519;

fn signing_key(seed: &[u8]) -> Result<SigningKey, CryptoError> {
    SigningKey::try_from(seed).map_err(|_| CryptoError::InvalidPrivateKey)
}

impl SignatureScheme for Ed25519 {
    fn key_pair(&self, rng: &mut dyn CryptoRng) -> SignatureKeyPair {
        key_pair(self, 32, rng)
    }

    fn public_key(&self, private_key: &[u8]) -> Result<SignaturePublicKey, CryptoError> {
        signing_key(private_key)
            .map(|key| SignaturePublicKey::from(key.verifying_key().as_bytes().as_slice()))
    }

    fn sign(&self, key_pair: &SignatureKeyPair, data: &[u8]) -> Result<Bytes, CryptoError> {
        let key = key_pair.prepared(|pair| signing_key(pair.private_key()))?;
        Ok(Bytes::from(key.sign(data).to_bytes()))
    }

    fn verify(&self, public_key: &[u8], data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        ed25519::verify(public_key, data, signature)
    }

    fn verify_together(&self, items: &[SignedData<'_>], rng: &mut dyn CryptoRng) -> bool {
        ed25519::verify_together(items, rng)
    }
}

/// Stands on a pre-release. Without a context, as MLS uses it.
pub(super) struct Ed448;

fn signing_key_448(seed: &[u8]) -> Result<SigningKey448, CryptoError> {
    SigningKey448::try_from(seed).map_err(|_| CryptoError::InvalidPrivateKey)
}

impl SignatureScheme for Ed448 {
    fn key_pair(&self, rng: &mut dyn CryptoRng) -> SignatureKeyPair {
        key_pair(self, 57, rng)
    }

    fn public_key(&self, private_key: &[u8]) -> Result<SignaturePublicKey, CryptoError> {
        signing_key_448(private_key)
            .map(|key| SignaturePublicKey::from(key.verifying_key().to_bytes().as_slice()))
    }

    fn sign(&self, key_pair: &SignatureKeyPair, data: &[u8]) -> Result<Bytes, CryptoError> {
        let key = key_pair.prepared(|pair| signing_key_448(pair.private_key()))?;
        Ok(Bytes::from(key.sign_raw(data).to_bytes()))
    }

    fn verify(&self, public_key: &[u8], data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let public_key =
            <&[u8; 57]>::try_from(public_key).map_err(|_| CryptoError::InvalidPublicKey)?;
        let public_key =
            VerifyingKey448::from_bytes(public_key).map_err(|_| CryptoError::InvalidPublicKey)?;
        Signature::try_from(signature)
            .ok()
            .filter(|signature| public_key.verify_raw(signature, data).is_ok())
            .map(|_| ())
            .ok_or(CryptoError::InvalidSignature)
    }
}

/// A key pair from a random seed, of which any of the right length is one.
fn key_pair(
    scheme: &dyn SignatureScheme,
    length: usize,
    rng: &mut dyn CryptoRng,
) -> SignatureKeyPair {
    let mut seed = Zeroizing::new(vec![0; length]);
    rng.fill_bytes(&mut seed);
    let public_key = scheme
        .public_key(&seed)
        .expect("any bytes of the length are a seed");
    SignatureKeyPair::new(Secret::from(seed), public_key)
}
