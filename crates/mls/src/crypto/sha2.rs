//! SHA-2, by RustCrypto in every provider, and HMAC over it (RFC 2104): what MLS hashes is short, and
//! these keep their state on the stack, while AWS-LC allocates a context for each.

use sha2::digest::Output;
use sha2::digest::block_api::BlockSizeUser;
use sha2::{Digest, Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

use super::{Hash, Kdf};

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
            Self::Sha256 => hmac::<Sha256>(key, parts),
            Self::Sha384 => hmac::<Sha384>(key, parts),
            Self::Sha512 => hmac::<Sha512>(key, parts),
        }
    }
}

fn hash<D: Digest>(parts: &[&[u8]]) -> Hash {
    let mut digest = D::new();
    parts.iter().for_each(|part| digest.update(part));
    Hash::from_slice(&digest.finalize()).expect("at most 64 bytes")
}

/// RFC 2104, section 2. The padded keys are wiped, which the `hmac` crate leaves to chance.
fn hmac<D: Digest + BlockSizeUser>(key: &[u8], parts: &[&[u8]]) -> Hash {
    const IPAD: u8 = 0x36;
    const OPAD: u8 = 0x5c;
    const LONGEST_BLOCK: usize = 128;
    let mut pad = Zeroizing::new([IPAD; LONGEST_BLOCK]);
    let pad = &mut pad[..D::block_size()];
    let mut output = Zeroizing::new([0; LONGEST]);
    if key.len() <= pad.len() {
        xor(pad, key);
    } else {
        xor(pad, finish(D::new_with_prefix(key), &mut output));
    }
    let mut inner = D::new_with_prefix(&*pad);
    parts.iter().for_each(|part| inner.update(part));
    pad.iter_mut().for_each(|byte| *byte ^= IPAD ^ OPAD);
    let outer = D::new_with_prefix(&*pad).chain_update(finish(inner, &mut output));
    Hash::from_slice(finish(outer, &mut output)).expect("at most 64 bytes")
}

/// The longest hash.
const LONGEST: usize = 64;

fn finish<D: Digest>(digest: D, output: &mut [u8; LONGEST]) -> &[u8] {
    let output = &mut output[..<D as Digest>::output_size()];
    let array: &mut Output<D> = output.try_into().expect("as long as the hash");
    digest.finalize_into(array);
    output
}

fn xor(pad: &mut [u8], key: &[u8]) {
    pad.iter_mut().zip(key).for_each(|(pad, key)| *pad ^= key);
}
