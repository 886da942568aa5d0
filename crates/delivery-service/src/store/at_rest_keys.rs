//! The keys that come from outside, and what follows from each.

use std::fmt;
use std::sync::Arc;

use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::KeyInit;
use hmac::{Hmac, Mac};
use rand_core::CryptoRng;
use sha2::Sha256;
use zeroize::Zeroizing;

/// Bytes of a key.
pub(super) const KEY: usize = 32;

/// Names a key without telling it: four bytes, shown in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub(super) [u8; Self::SIZE]);

impl KeyId {
    pub(super) const SIZE: usize = 4;

    /// Reads the form in which it is shown.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let number = u32::from_str_radix(text, 16).ok()?;
        (text.len() == 2 * Self::SIZE).then(|| Self(number.to_be_bytes()))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// The keys under which a database is encrypted: the first encrypts, all decrypt. They are kept
/// apart from the database; who loses them has lost it.
#[derive(Clone)]
pub struct AtRestKeys(Vec<Arc<Zeroizing<[u8; KEY]>>>);

/// Shows nothing of the keys but their ids.
impl fmt::Debug for AtRestKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

/// A text holds no keys: whoever gave it is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a line that is neither a key of 64 hexadecimal digits nor a comment (#), or no key at all"
)]
pub struct BadKeys;

impl AtRestKeys {
    /// One new key.
    #[must_use]
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut key = Zeroizing::new([0; KEY]);
        rng.fill_bytes(key.as_mut());
        Self(vec![Arc::new(key)])
    }

    /// Reads keys from a text, one on each line in 64 hexadecimal digits, the one that encrypts
    /// first. Empty lines and those that begin with `#` are passed over.
    ///
    /// # Errors
    /// [`BadKeys`].
    pub fn read(text: &str) -> Result<Self, BadKeys> {
        let lines = text.lines().map(str::trim);
        let keys = lines
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| read_key(line).map(Arc::new).ok_or(BadKeys))
            .collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err(BadKeys);
        }
        Ok(Self(keys))
    }

    /// The text that [`read`](Self::read) reads.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let size = self.0.len() * (2 * KEY + 1);
        let mut text = Zeroizing::new(String::with_capacity(size));
        for key in &self.0 {
            for byte in key.iter() {
                for digit in [byte >> 4, byte & 15] {
                    text.extend(char::from_digit(digit.into(), 16));
                }
            }
            text.push('\n');
        }
        text
    }

    /// These keys, but `first` encrypts; the others still decrypt.
    #[must_use]
    pub fn with_first(&self, first: &Self) -> Self {
        Self(first.0.iter().chain(&self.0).cloned().collect())
    }

    /// Their ids, that of the one that encrypts first.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.masters().map(|master| master.id)
    }

    pub(super) fn masters(&self) -> impl Iterator<Item = Master> {
        self.0.iter().map(|key| Master::of(key))
    }
}

fn read_key(line: &str) -> Option<Zeroizing<[u8; KEY]>> {
    let mut key = Zeroizing::new([0; KEY]);
    if line.len() != 2 * KEY {
        return None;
    }
    for (byte, digits) in key.iter_mut().zip(line.as_bytes().chunks(2)) {
        let digit = |at: usize| char::from(digits[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(key)
}

/// What follows from one key of [`AtRestKeys`].
#[derive(Clone)]
pub(super) struct Master {
    pub(super) id: KeyId,
    pub(super) values: XChaCha20Poly1305,
    /// For the index key.
    pub(super) wrapping: XChaCha20Poly1305,
}

impl Master {
    fn of(key: &[u8; KEY]) -> Self {
        let prf = Prf::new(key);
        let cipher = |label: &[u8]| {
            let key = Zeroizing::new(prf.hash(&[label]));
            XChaCha20Poly1305::new((&*key).into())
        };
        let mut id = [0; KeyId::SIZE];
        id.copy_from_slice(&prf.hash(&[b"id"])[..KeyId::SIZE]);
        Self {
            id: KeyId(id),
            values: cipher(b"values"),
            wrapping: cipher(b"index key"),
        }
    }
}

/// A keyed hash.
#[derive(Clone)]
pub(super) struct Prf(Hmac<Sha256>);

impl Prf {
    pub(super) fn new(key: &[u8; KEY]) -> Self {
        Self(<Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length"))
    }

    /// The parts are hashed one after another; where they may differ in length, the caller says
    /// how long they are.
    pub(super) fn hash(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.0.clone();
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    }
}
