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

#[cfg(test)]
mod tests {
    use ed25519_zebra::SigningKey;

    use super::*;
    use crate::testing::StepRng;

    /// The batch itself has to say yes: who asks would only do the work twice, unseen.
    #[test]
    fn a_batch_accepts_what_each_is_accepted_for() {
        let mut neutral = [0; 32];
        neutral[0] = 1;
        // The same point, its y not reduced.
        let mut odd = [0xff; 32];
        (odd[0], odd[31]) = (0xee, 0x7f);
        let mut signed: Vec<([u8; 32], Vec<u8>, [u8; 64])> = (1..=20)
            .map(|seed| {
                let (key, data) = (SigningKey::from([seed; 32]), vec![seed; 30]);
                let public_key = VerificationKeyBytes::from(&key).into();
                let signature = key.sign(&data).to_bytes();
                (public_key, data, signature)
            })
            .collect();
        for key in [neutral, odd, [0; 32]] {
            for r in [neutral, odd] {
                let mut signature = [0; 64];
                signature[..32].copy_from_slice(&r);
                signed.push((key, b"anything".to_vec(), signature));
            }
        }
        for (key, data, signature) in &signed {
            assert_eq!(verify(key, data, signature), Ok(()));
        }
        let items: Vec<_> = signed
            .iter()
            .map(|(public_key, data, signature)| SignedData {
                public_key,
                data: data.into(),
                signature,
            })
            .collect();
        for start in 0..items.len() {
            for end in start + SMALLEST_BATCH..=items.len() {
                assert!(
                    verify_together(&items[start..end], &mut StepRng(1)),
                    "{start}..{end}"
                );
            }
        }
        let mut wrong = items;
        wrong[9].data = b"other".into();
        assert!(!verify_together(&wrong, &mut StepRng(1)));
    }
}
