//! SHA-2, HMAC and HKDF over it (RFC 2104, RFC 5869), by RustCrypto in every provider: what MLS hashes
//! is short, and these keep their state on the stack, while AWS-LC allocates a context for each.

use hmac::digest::typenum::Unsigned;
use hmac::digest::{KeyInit, OutputSizeUser};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

use super::{Hash, Kdf, Secret};

/// One of its hashes.
#[derive(Clone, Copy)]
pub(super) enum Sha2 {
    Sha256,
    Sha384,
    Sha512,
}

impl Kdf for Sha2 {
    fn kdf_id(&self) -> u16 {
        match self {
            Self::Sha256 => 1,
            Self::Sha384 => 2,
            Self::Sha512 => 3,
        }
    }

    fn hash_length(&self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    fn hash_parts(&self, parts: &[&[u8]]) -> Hash {
        match self {
            Self::Sha256 => hash::<Sha256>(parts),
            Self::Sha384 => hash::<Sha384>(parts),
            Self::Sha512 => hash::<Sha512>(parts),
        }
    }

    fn hmac_parts(&self, key: &[u8], parts: &[&[u8]]) -> Hash {
        match self {
            Self::Sha256 => mac::<Hmac<Sha256>>(key, parts),
            Self::Sha384 => mac::<Hmac<Sha384>>(key, parts),
            Self::Sha512 => mac::<Hmac<Sha512>>(key, parts),
        }
    }

    fn expand(&self, prk: &[u8], info: &[&[u8]], length: usize) -> Secret {
        match self {
            Self::Sha256 => expand::<Hmac<Sha256>>(prk, info, length),
            Self::Sha384 => expand::<Hmac<Sha384>>(prk, info, length),
            Self::Sha512 => expand::<Hmac<Sha512>>(prk, info, length),
        }
    }
}

fn hash<D: Digest>(parts: &[&[u8]]) -> Hash {
    let mut digest = D::new();
    parts.iter().for_each(|part| digest.update(part));
    Hash::from_slice(&digest.finalize()).expect("at most 64 bytes")
}

fn keyed<M: Mac + KeyInit>(key: &[u8]) -> M {
    <M as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length")
}

fn mac<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]]) -> Hash {
    let mut mac = keyed::<M>(key);
    parts.iter().for_each(|part| mac.update(part));
    let output = Zeroizing::new(mac.finalize().into_bytes());
    Hash::from_slice(&output).expect("at most 64 bytes")
}

/// `T(1) | T(2) | ...`, the key schedule of the HMAC done once.
fn expand<M: Mac + KeyInit + Clone>(prk: &[u8], info: &[&[u8]], length: usize) -> Secret {
    let size = <M as OutputSizeUser>::OutputSize::USIZE;
    assert!(length <= 255 * size, "more output than the KDF can give");
    let mut output = Zeroizing::new(vec![0; length]);
    let blocks = length.div_ceil(size);
    let mut keyed = Some(keyed::<M>(prk));
    for number in 0..blocks {
        let (before, rest) = output.split_at_mut(number * size);
        let keyed = if number + 1 < blocks {
            keyed.clone()
        } else {
            keyed.take()
        };
        let mut mac = keyed.expect("taken for the last block");
        mac.update(&before[number.saturating_sub(1) * size..]);
        info.iter().for_each(|part| mac.update(part));
        mac.update(&[number as u8 + 1]);
        let block = Zeroizing::new(mac.finalize().into_bytes());
        let end = rest.len().min(size);
        rest[..end].copy_from_slice(&block[..end]);
    }
    Secret::from(output)
}
