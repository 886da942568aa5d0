//! One suite of tests for every crypto provider. A provider joins by a line in `PROVIDERS`.

#![cfg(any(feature = "aws-lc", feature = "rust-crypto"))]

mod across;
mod ed25519;
#[cfg(feature = "aws-lc")]
mod ed25519_stricter;
mod ed448;
mod hpke;
#[cfg(feature = "rust-crypto")]
mod post_quantum;
mod primitives;

use std::convert::Infallible;

#[cfg(feature = "aws-lc")]
use folkmoot_mls::crypto::aws_lc;
#[cfg(feature = "rust-crypto")]
use folkmoot_mls::crypto::rust_crypto;
use folkmoot_mls::crypto::{CipherSuite, CryptoProvider, Suite};
use rand_chacha::ChaCha20Rng;
use rand_core::{SeedableRng, TryCryptoRng, TryRng};

/// All providers under test.
const PROVIDERS: &[&dyn CryptoProvider] = &[
    #[cfg(feature = "aws-lc")]
    &aws_lc::PROVIDER,
    #[cfg(feature = "rust-crypto")]
    &rust_crypto::PROVIDER,
];

/// Every suite of every provider.
fn suites() -> impl Iterator<Item = &'static dyn Suite> {
    let suites = |provider: &'static &dyn CryptoProvider| {
        provider
            .suites()
            .iter()
            .map(|suite| provider.suite(*suite).expect("listed"))
    };
    PROVIDERS.iter().flat_map(suites)
}

/// The same suite of every provider that has it.
fn suite(cipher_suite: CipherSuite) -> impl Iterator<Item = &'static dyn Suite> {
    suites().filter(move |suite| suite.id() == cipher_suite)
}

fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text).expect("hex in a test")
}

/// Gives bytes that were chosen beforehand, and fails the test when they are used up.
struct Given(Vec<u8>);

impl TryRng for Given {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        assert!(bytes.len() <= self.0.len(), "more randomness than expected");
        let rest = self.0.split_off(bytes.len());
        bytes.copy_from_slice(&self.0);
        self.0 = rest;
        Ok(())
    }
}

impl TryCryptoRng for Given {}
