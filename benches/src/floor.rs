//! The floor: primitives that no implementation can do without, at the best cost that was measured for
//! each in the same run, times how often an operation needs them.

use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use aws_lc_rs::digest;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use aws_lc_rs::signature::{self, Ed25519KeyPair, KeyPair};
use ed25519_zebra::{Signature, SigningKey, VerificationKeyBytes, batch};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::cell::Row;
use crate::clock::{cpu_time, median};

/// How long each primitive is repeated.
const BUDGET: Duration = Duration::from_millis(250);

/// Signatures verified together.
const BATCH: usize = 1024;

/// The length of what is signed in a KeyPackage or a leaf, about.
const SIGNED: usize = 200;

/// What primitives cost, in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Primitives {
    /// An X25519 key pair.
    pub key_pair: f64,
    /// An X25519 agreement.
    pub agree: f64,
    /// An Ed25519 signature.
    pub sign: f64,
    /// The verification of one.
    pub verify: f64,
    /// The verification of one among 1,024, of 200 bytes each.
    pub verify_batched: f64,
    /// An HPKE seal of a secret, the info being hashed.
    pub seal: f64,
    /// An HPKE open of a secret, the info being hashed.
    pub open: f64,
    /// A block of 64 bytes of SHA-256.
    pub sha256_block: f64,
    /// A kibibyte of SHA-512, which is within Ed25519.
    pub sha512_kib: f64,
    /// An AES-128-GCM encryption of 64 bytes with a new key.
    pub aead: f64,
    /// A further kibibyte of AES-128-GCM.
    pub aead_kib: f64,
    /// An HMAC-SHA-256 of a short text: a step of HKDF.
    pub hmac: f64,
}

/// How often an operation needs each primitive.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// X25519 key pairs, random or derived.
    pub key_pairs: f64,
    /// Ed25519 signatures.
    pub signs: f64,
    /// Signatures that are verified alone.
    pub verifications: f64,
    /// Signatures that are verified together with others.
    pub batched: f64,
    /// HPKE seals.
    pub seals: f64,
    /// HPKE opens.
    pub opens: f64,
    /// Blocks of SHA-256.
    pub sha256_blocks: f64,
    /// Kibibytes of SHA-512 beyond short texts.
    pub sha512_kib: f64,
    /// AEAD encryptions or decryptions.
    pub aeads: f64,
    /// Their kibibytes beyond short texts.
    pub aead_kib: f64,
    /// HKDF steps.
    pub hmacs: f64,
}

/// The lengths that counts depend on, in bytes.
mod length {
    /// A KeyPackage with a basic credential of 12 bytes in an Add by value.
    pub const ADD: f64 = 318.0;
    /// A KeyPackage.
    pub const KEY_PACKAGE: f64 = 315.0;
    /// A leaf's hash input with a LeafNode of a KeyPackage.
    pub const LEAF_HASH_INPUT: f64 = 195.0;
    /// A parent's hash input: index, no key, two hashes.
    pub const BLANK_PARENT_HASH_INPUT: f64 = 72.0;
    /// The same with a key and a parent hash.
    pub const PARENT_HASH_INPUT: f64 = 140.0;
    /// A leaf in the encoding of the tree.
    pub const TREE_LEAF: f64 = 190.0;
    /// A blank node there.
    pub const TREE_BLANK: f64 = 1.0;
    /// What a commit holds for each node that a path secret is encrypted to.
    pub const PATH_SECRET: f64 = 33.0 + 50.0;
    /// A public key in a path.
    pub const PATH_KEY: f64 = 35.0;
    /// The rest of a commit.
    pub const COMMIT: f64 = 330.0;
}

fn sha256_blocks(bytes: f64) -> f64 {
    // One bit and the length follow.
    ((bytes + 9.0) / 64.0).ceil()
}

fn kib(bytes: f64) -> f64 {
    bytes / 1024.0
}

impl Counts {
    /// What an operation in a group of `members` cannot do without; `None` if the row has no floor.
    #[must_use]
    pub fn of(row: Row, members: u32) -> Option<Self> {
        let n = f64::from(members);
        let tree_hash = n * sha256_blocks(length::LEAF_HASH_INPUT)
            + (n - 1.0) * sha256_blocks(length::BLANK_PARENT_HASH_INPUT);
        let tree = n * length::TREE_LEAF + (n - 1.0) * length::TREE_BLANK;
        let levels = f64::from(members.next_power_of_two().trailing_zeros());
        Some(match row {
            Row::CreateInside | Row::CreateApart => {
                let inside = if row == Row::CreateInside { tree } else { 0.0 };
                let commit = (n - 1.0) * length::ADD;
                Self {
                    batched: 2.0 * (n - 1.0),
                    seals: n - 1.0,
                    // The commit and the GroupInfo.
                    signs: 2.0,
                    sha512_kib: 2.0 * kib(commit + inside),
                    // The references, the tree, the transcript, the info of all seals.
                    sha256_blocks: (n - 1.0) * sha256_blocks(length::KEY_PACKAGE + 40.0)
                        + tree_hash
                        + sha256_blocks(commit)
                        + sha256_blocks(inside),
                    aeads: 3.0,
                    aead_kib: kib(commit + inside),
                    hmacs: KEY_SCHEDULE + MESSAGE_KEY,
                    ..Self::default()
                }
            }
            Row::JoinInside | Row::JoinApart => {
                let inside = if row == Row::JoinInside { tree } else { 0.0 };
                Self {
                    batched: n,
                    verifications: 1.0,
                    opens: 1.0,
                    sha512_kib: kib(inside),
                    sha256_blocks: tree_hash
                        + sha256_blocks(length::KEY_PACKAGE + 40.0)
                        + sha256_blocks(inside),
                    aeads: 1.0,
                    aead_kib: kib(inside),
                    hmacs: KEY_SCHEDULE,
                    ..Self::default()
                }
            }
            Row::BlankCreate => Self::commit(n - 1.0, levels, levels),
            Row::BlankProcess => Self::process(n - 1.0, levels),
            Row::FilledCreate => Self::commit(levels, levels, levels),
            Row::FilledProcess => Self::process(levels, levels),
            Row::Encrypt => Self {
                signs: 1.0,
                aeads: 2.0,
                hmacs: MESSAGE_KEY,
                ..Self::default()
            },
            Row::Decrypt => Self {
                verifications: 1.0,
                aeads: 2.0,
                hmacs: MESSAGE_KEY,
                ..Self::default()
            },
            _ => return None,
        })
    }

    fn commit(seals: f64, levels: f64, keys: f64) -> Self {
        let message = length::COMMIT + seals * length::PATH_SECRET + levels * length::PATH_KEY;
        Self {
            // A random one for the leaf, one derived for each node above.
            key_pairs: keys + 1.0,
            seals,
            // The leaf and the commit.
            signs: 2.0,
            sha512_kib: 2.0 * kib(message),
            sha256_blocks: Self::path_blocks(levels) + sha256_blocks(message),
            aeads: 2.0,
            aead_kib: kib(message),
            // Two derive a node's secrets, one its key.
            hmacs: 3.0 * keys + KEY_SCHEDULE + MESSAGE_KEY,
            ..Self::default()
        }
    }

    /// By a member in the other half of the tree: of the path it learns the root's secret.
    fn process(ciphertexts: f64, levels: f64) -> Self {
        let message =
            length::COMMIT + ciphertexts * length::PATH_SECRET + levels * length::PATH_KEY;
        Self {
            key_pairs: 1.0,
            opens: 1.0,
            verifications: 2.0,
            sha512_kib: kib(message),
            sha256_blocks: Self::path_blocks(levels) + sha256_blocks(message),
            aeads: 2.0,
            aead_kib: kib(message),
            hmacs: 3.0 + KEY_SCHEDULE + MESSAGE_KEY,
            ..Self::default()
        }
    }

    /// Parent hashes and tree hashes of a path, and the GroupContext that is the info of its seals.
    fn path_blocks(levels: f64) -> f64 {
        sha256_blocks(length::LEAF_HASH_INPUT)
            + 2.0 * levels * sha256_blocks(length::PARENT_HASH_INPUT)
            + sha256_blocks(length::PARENT_HASH_INPUT)
    }

    /// The milliseconds that they cost.
    #[must_use]
    pub fn cost(&self, primitives: &Primitives) -> f64 {
        let p = primitives;
        (self.key_pairs * p.key_pair
            + self.signs * p.sign
            + self.verifications * p.verify
            + self.batched * p.verify_batched
            + self.seals * p.seal
            + self.opens * p.open
            + self.sha256_blocks * p.sha256_block
            + self.sha512_kib * p.sha512_kib
            + self.aeads * p.aead
            + self.aead_kib * p.aead_kib
            + self.hmacs * p.hmac)
            / 1e3
    }
}

/// Steps of HKDF from one epoch's secrets to the next one's, the confirmation tag with them.
const KEY_SCHEDULE: f64 = 16.0;

/// Steps of HKDF for a message: key, nonce and next secret of the ratchet, key and nonce of the sender data.
const MESSAGE_KEY: f64 = 5.0;

/// Measures them.
///
/// # Errors
/// None that AWS-LC's own tests do not find first.
pub fn measure() -> Result<Primitives, Unspecified> {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let mut text = vec![0; 64 << 10];
    rng.fill_bytes(&mut text);
    let mut primitives = Primitives {
        sha256_block: each(text.len() / 64, || {
            Ok(digest::digest(&digest::SHA256, &text))
        })?,
        sha512_kib: each(64, || Ok(digest::digest(&digest::SHA512, &text)))?,
        ..Primitives::default()
    };
    measure_signatures(&mut primitives, &text, &mut rng)?;
    let key = [7; 16];
    primitives.aead = each(1, || encrypt(&key, &mut text[..64].to_vec()))?;
    let mut long = text.clone();
    primitives.aead_kib = each(64, || {
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key)?);
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        key.seal_in_place_separate_tag(nonce, Aad::empty(), &mut long)
    })?;
    primitives.hmac = each(1, || Ok(step(&text[..32], &[&text[..40], &[1]])))?;
    let receiver = PrivateKey::generate(&X25519)?;
    let public = receiver.compute_public_key()?;
    primitives.key_pair = each(1, || {
        let key = PrivateKey::generate(&X25519)?;
        key.compute_public_key()
    })?;
    primitives.agree = each(1, || agree(&receiver, public.as_ref()))?;
    primitives.seal = each(1, || seal(public.as_ref(), &text[..48]))?;
    primitives.open = {
        let (enc, mut sealed) = seal(public.as_ref(), &text[..48])?;
        sealed.truncate(48);
        each(1, || {
            let shared = agree(&receiver, &enc)?;
            encrypt(
                &hpke_key(&shared, &enc, public.as_ref()),
                &mut sealed.clone(),
            )
        })?
    };
    Ok(primitives)
}

fn measure_signatures(
    primitives: &mut Primitives,
    text: &[u8],
    rng: &mut ChaCha20Rng,
) -> Result<(), Unspecified> {
    let text = &text[..SIGNED];
    let key = Ed25519KeyPair::generate()?;
    primitives.sign = each(1, || Ok(key.sign(text)))?;
    let signed = key.sign(text);
    let public = signature::UnparsedPublicKey::new(&signature::ED25519, key.public_key());
    let of_aws_lc = each(1, || public.verify(text, signed.as_ref()))?;
    let items: Vec<(VerificationKeyBytes, Signature)> = (0..BATCH)
        .map(|_| {
            let mut seed = [0; 32];
            rng.fill_bytes(&mut seed);
            let key = SigningKey::from(seed);
            (VerificationKeyBytes::from(&key), key.sign(text))
        })
        .collect();
    let (first, signature) = items[0];
    let of_zebra = each(1, || {
        let key = ed25519_zebra::VerificationKey::try_from(first).map_err(|_| Unspecified)?;
        key.verify(&signature, text).map_err(|_| Unspecified)
    })?;
    primitives.verify = of_aws_lc.min(of_zebra);
    primitives.verify_batched = each(BATCH, || {
        let mut verifier = batch::Verifier::new();
        for (key, signature) in &items {
            verifier.queue((*key, *signature, text));
        }
        verifier.verify(&mut *rng).map_err(|_| Unspecified)
    })?;
    Ok(())
}

/// The CPU microseconds of one of the `parts` of an operation.
fn each<T>(
    parts: usize,
    mut operation: impl FnMut() -> Result<T, Unspecified>,
) -> Result<f64, Unspecified> {
    black_box(operation()?);
    let (started, mut samples) = (Instant::now(), Vec::new());
    while started.elapsed() < BUDGET || samples.len() < 5 {
        let before = cpu_time();
        // Reading the clock costs about as much as the quickest.
        for _ in 0..16 {
            black_box(operation()?);
        }
        let used = (cpu_time() - before).as_secs_f64() * 1e6;
        samples.push(used / 16.0 / parts as f64);
    }
    median(&samples).ok_or(Unspecified)
}

fn agree(own: &PrivateKey, public: &[u8]) -> Result<[u8; 32], Unspecified> {
    let public = UnparsedPublicKey::new(&X25519, public);
    agreement::agree(own, public, Unspecified, |shared| {
        <[u8; 32]>::try_from(shared).map_err(|_| Unspecified)
    })
}

fn encrypt(key: &[u8; 16], text: &mut [u8]) -> Result<[u8; 16], Unspecified> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, key)?);
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    let tag = key.seal_in_place_separate_tag(nonce, Aad::empty(), text)?;
    <[u8; 16]>::try_from(tag.as_ref()).map_err(|_| Unspecified)
}

/// An HPKE seal as RFC 9180 has it, with all that depends on the info alone left out.
fn seal(public: &[u8], text: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Unspecified> {
    let ephemeral = PrivateKey::generate(&X25519)?;
    let enc = ephemeral.compute_public_key()?;
    let shared = agree(&ephemeral, public)?;
    let mut sealed = text.to_vec();
    let tag = encrypt(&hpke_key(&shared, enc.as_ref(), public), &mut sealed)?;
    sealed.extend_from_slice(&tag);
    Ok((enc.as_ref().to_vec(), sealed))
}

/// The steps of HKDF from a shared secret to the key, the nonce with it.
fn hpke_key(shared: &[u8], enc: &[u8], public: &[u8]) -> [u8; 16] {
    const LABEL: &[u8] = b"HPKE-v1KEM\x00\x20eae_prk";
    const CONTEXT: &[u8; 65] = &[0; 65];
    let extracted = step(&[], &[LABEL, shared]);
    let secret = step(&extracted, &[LABEL, enc, public, &[1]]);
    let scheduled = step(&secret, &[LABEL]);
    let key = step(&scheduled, &[LABEL, CONTEXT, &[1]]);
    black_box(step(&scheduled, &[LABEL, CONTEXT, &[1]]));
    let mut short = [0; 16];
    short.copy_from_slice(&key[..16]);
    short
}

/// A step of HKDF: an HMAC.
fn step(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let key = hmac::Key::new(HMAC_SHA256, key);
    let mut context = hmac::Context::with_key(&key);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.sign().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn creation_is_linear_and_a_filled_tree_logarithmic() {
        let primitives = Primitives {
            seal: 33.0,
            verify_batched: 17.0,
            sha256_block: 0.05,
            ..Primitives::default()
        };
        let cost = |row, members| Counts::of(row, members).unwrap().cost(&primitives);
        let growth = cost(Row::CreateApart, 10_000) / cost(Row::CreateApart, 1_000);
        assert!((9.9..10.1).contains(&growth), "{growth}");
        let growth = cost(Row::FilledCreate, 1 << 16) / cost(Row::FilledCreate, 1 << 10);
        assert!((1.5..1.7).contains(&growth), "{growth}");
        assert_eq!(Counts::of(Row::Resident, 2), None);
    }

    #[test]
    fn what_is_sealed_can_be_opened() {
        let receiver = PrivateKey::generate(&X25519).unwrap();
        let public = receiver.compute_public_key().unwrap();
        let (enc, sealed) = seal(public.as_ref(), b"secret").unwrap();
        let key = hpke_key(&agree(&receiver, &enc).unwrap(), &enc, public.as_ref());
        let mut text = b"secret".to_vec();
        let tag = encrypt(&key, &mut text).unwrap();
        text.extend_from_slice(&tag);
        assert_eq!(text, sealed);
    }
}
