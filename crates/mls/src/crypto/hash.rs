//! A hash without an allocation.

use zeroize::Zeroize;

use crate::codec::{Bytes, Encode, encode_bytes};

/// The output of a suite's hash or MAC: 32, 48 or 64 bytes, on the stack.
#[derive(Clone, Copy)]
pub struct Hash {
    bytes: [u8; 64],
    length: u8,
}

impl Hash {
    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// A hash from its bytes, or `None` if there are more than 64.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let length = u8::try_from(bytes.len())
            .ok()
            .filter(|length| *length <= 64)?;
        let mut hash = Self {
            bytes: [0; 64],
            length,
        };
        hash.bytes[..bytes.len()].copy_from_slice(bytes);
        Some(hash)
    }

    /// Overwrites the bytes, for outputs that served as keys.
    pub(super) fn wipe(&mut self) {
        self.bytes.zeroize();
    }
}

impl std::ops::Deref for Hash {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl AsRef<[u8]> for Hash {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl PartialEq for Hash {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Hash {}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_slice()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl From<Hash> for Bytes {
    fn from(hash: Hash) -> Self {
        Self::from(hash.as_slice())
    }
}

/// As `opaque hash<V>`.
impl Encode for Hash {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_bytes(self.as_slice(), out);
    }
}
