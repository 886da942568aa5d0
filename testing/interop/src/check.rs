//! How a vector's case says that something is not as it should be.

use folkmoot_mls::codec::{Bytes, DecodeError};
use folkmoot_mls::crypto::CryptoError;
use folkmoot_mls::error::Error;
use folkmoot_mls::tree::TreeError;
use folkmoot_mls::tree::path::PathError;
use serde::{Deserialize, Deserializer};

/// Why a case failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A computed value differs from the vector's, or a check did not hold.
    #[error("{0} is not as the vector says")]
    Mismatch(&'static str),
    /// The case is not of the form that its kind has.
    #[error("the case is malformed: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The engine refused something that is valid.
    #[error("the engine refused: {0}")]
    Engine(#[from] Error),
    /// The engine could not read something that is valid.
    #[error("the engine could not decode: {0}")]
    Decode(#[from] DecodeError),
    /// A primitive refused.
    #[error("the engine's cryptography refused: {0}")]
    Crypto(#[from] CryptoError),
    /// The tree refused.
    #[error("the engine's tree refused: {0}")]
    Tree(#[from] TreeError),
    /// TreeKEM refused.
    #[error("the engine's TreeKEM refused: {0}")]
    Path(#[from] PathError),
}

/// Fails unless `holds`; `what` names what was compared.
pub fn check(holds: bool, what: &'static str) -> Result<(), Failure> {
    if holds {
        Ok(())
    } else {
        Err(Failure::Mismatch(what))
    }
}

/// Hex-encoded bytes in a vector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hex(pub Vec<u8>);

impl std::ops::Deref for Hex {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<&Hex> for Bytes {
    fn from(hex: &Hex) -> Self {
        Self::from(hex.0.as_slice())
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        hex::decode(&*text)
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}
