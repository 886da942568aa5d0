//! Bytes that nobody else may see.

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use super::Hash;
use crate::codec::{Decode, DecodeError, Encode, Reader, encode_bytes};

/// A secret: wiped when dropped, never printed, compared in constant time.
#[derive(Clone, Default)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// The bytes. What copies them has to wipe its copy.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// As many zero bytes: the RFC's `0` where it stands for a secret that is absent.
    #[must_use]
    pub fn zero(length: usize) -> Self {
        Self(Zeroizing::new(vec![0; length]))
    }

    /// Gives the bytes up to a caller who takes over wiping them.
    #[must_use]
    pub fn into_zeroizing(self) -> Zeroizing<Vec<u8>> {
        self.0
    }
}

impl std::ops::Deref for Secret {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Secret {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Secret {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl From<Zeroizing<Vec<u8>>> for Secret {
    fn from(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }
}

impl From<&[u8]> for Secret {
    fn from(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }
}

/// Takes the MAC's output as a key; the array it came in is wiped.
impl From<Hash> for Secret {
    fn from(mut hash: Hash) -> Self {
        let secret = Self::from(hash.as_slice());
        hash.wipe();
        secret
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_slice().ct_eq(other.0.as_slice()).into()
    }
}

impl Eq for Secret {}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Zeroize for Secret {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

/// As `opaque secret<V>`. The caller wipes what it was written into.
impl Encode for Secret {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_bytes(&self.0, out);
    }
}

impl Decode for Secret {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.prefixed().map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_prints_nothing_of_itself() {
        let secret = Secret::from(vec![0xab; 4]);
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        assert_eq!(secret, Secret::from(&[0xab; 4][..]));
        assert_ne!(secret, Secret::from(&[0xab; 3][..]));
    }
}
