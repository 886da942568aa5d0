//! Which Ed25519 signatures are valid, for all providers: those of ZIP 215, judged by `ed25519-zebra`
//! with the one equation that gives the same answer for one signature and for a batch. Members who
//! disagreed on a signature would fork their group.
//!
//! # A faster library that is stricter may accept
//!
//! A provider may ask another library first and take its word if it *accepts*; a refusal of it says
//! nothing, and [`verify`] decides. That is right for a library which accepts `(A, R || S)` only if S is
//! below the order, A decodes to a point, and R is the encoding that it computes itself of
//! `R' = [S]B - [k]A`, with `k` the hash of the bytes R, A and the data as they came. For then [`verify`]
//! accepts too:
//!
//! - **S.** Both take only the one encoding below the order, and 32 bytes of it.
//! - **A.** A decoder finds x from y modulo p and the sign bit. There are at most two square roots, x and
//!   -x, which the bit tells apart unless x = 0, and then they are the same point. So two decoders that
//!   both give a point give the same one. They differ only in what they refuse: y that is not reduced,
//!   and the sign bit with x = 0. [`verify`] refuses neither.
//! - **k** is the hash of the same bytes, and those of A and R are not normalized before.
//! - **R** encodes R', so decoding it gives R' (again by the point above). Then `R - R'` is zero, and eight
//!   times that is zero, which is the equation of ZIP 215.
//!
//! AWS-LC is such a library (RFC 8032, section 5.1.7, without the cofactor): of its two implementations
//! the one in assembly refuses both odd forms of A, the portable one takes both. What it refuses and
//! ZIP 215 accepts are those forms, the odd encodings of R, and what holds only times eight.

use ed25519_zebra::{Signature, VerificationKey, VerificationKeyBytes, batch};
use rand_core::CryptoRng;

use super::{CryptoError, SignedData};

/// Below this, a batch costs more than it saves.
const SMALLEST_BATCH: usize = 3;

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
