//! Which Ed25519 signatures are valid, for all providers: those of ZIP 215, judged by `ed25519-zebra`
//! with the one equation that gives the same answer for one signature and for a batch. Members who
//! disagreed on a signature would fork their group.

use ed25519_zebra::{Signature, VerificationKey, VerificationKeyBytes, batch};
use rand_core::CryptoRng;

use super::{CryptoError, SignedData};

/// Below this, a batch costs more than it saves.
const SMALLEST_BATCH: usize = 8;

/// Verifies one signature.
pub(super) fn verify(public_key: &[u8], data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
    let key = VerificationKey::try_from(public_key).map_err(|_| CryptoError::InvalidPublicKey)?;
    key.verify(&read_signature(signature)?, data)
        .map_err(|_| CryptoError::InvalidSignature)
}

/// Whether all are valid, where a batch pays.
pub(super) fn verify_together(items: &[SignedData<'_>], rng: &mut dyn CryptoRng) -> bool {
    if items.len() < SMALLEST_BATCH {
        return false;
    }
    let mut verifier = batch::Verifier::new();
    for item in items {
        let Ok(key) = VerificationKeyBytes::try_from(item.public_key) else {
            return false;
        };
        let Ok(signature) = read_signature(item.signature) else {
            return false;
        };
        verifier.queue((key, signature, &*item.data));
    }
    verifier.verify(rng).is_ok()
}

fn read_signature(signature: &[u8]) -> Result<Signature, CryptoError> {
    <[u8; 64]>::try_from(signature)
        .map(|bytes| Signature::from_bytes(&bytes))
        .map_err(|_| CryptoError::InvalidSignature)
}
