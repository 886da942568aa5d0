//! What tests of several modules share.

use std::convert::Infallible;

use rand_core::{CryptoRng, TryCryptoRng, TryRng};

use crate::code_point::ProtocolVersion;
use crate::codec::Bytes;
use crate::context::{AuthenticationService, CredentialClaim, CredentialError};
use crate::credential::Credential;
use crate::crypto::CipherSuite;
use crate::extension::Extensions;
use crate::group_context::GroupContext;

/// Numbers that repeat from run to run (SplitMix64). For tests only.
#[derive(Clone, Debug)]
pub struct StepRng(pub u64);

impl TryRng for StepRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|number| (number >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Ok(z ^ (z >> 31))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            let number = self.try_next_u64()?.to_le_bytes();
            chunk.copy_from_slice(&number[..chunk.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for StepRng {}

/// Some group in some epoch, suite 1.
pub fn group_context() -> GroupContext {
    GroupContext {
        version: ProtocolVersion::MLS10,
        cipher_suite: CipherSuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_ED25519,
        group_id: Bytes::from([7; 32]),
        epoch: 5,
        tree_hash: Bytes::from([1; 32]),
        confirmed_transcript_hash: Bytes::from([2; 32]),
        extensions: Extensions::default(),
    }
}

/// A judge of credentials who refuses all and, of many, names one that was not in question.
pub struct OutOfRange;

impl AuthenticationService for OutOfRange {
    fn validate(
        &self,
        _: &Credential,
        _: &[u8],
        _: &Extensions,
        _: Option<u64>,
    ) -> Result<(), CredentialError> {
        Err(CredentialError::Expired)
    }

    fn validate_all(
        &self,
        claims: &[CredentialClaim<'_>],
        _: &Extensions,
        _: Option<u64>,
        _: &mut dyn CryptoRng,
    ) -> Result<(), (usize, CredentialError)> {
        Err((claims.len(), CredentialError::Expired))
    }

    fn is_successor(&self, _: &Credential, _: &Credential) -> bool {
        false
    }
}
