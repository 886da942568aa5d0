//! The floor: primitives that no implementation can do without, at the best cost that was measured for
//! each in the same run, times how often an operation needs them.

use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use aws_lc_rs::digest;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac as hmac_aws_lc;
use aws_lc_rs::signature::{self, Ed25519KeyPair, KeyPair};
use ed25519_zebra::{Signature, SigningKey, VerificationKeyBytes, batch};
use folkmoot_mls::codec::Encode;
use hmac::{Hmac, KeyInit, Mac};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::cell::Row;
use crate::clock::{cpu_time, median};
use crate::contestant::credentials::{Basic, Own};
use crate::contestant::ours::{self, suite};
use crate::member::{CredentialKind, Failure};

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
    /// The verification of one among 1,024, of 200 bytes each, by as many keys.
    pub verify_batched: f64,
    /// The verification of a further one by a key that is in the batch already.
    pub verify_same_key: f64,
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
    /// Signatures that are verified together with others, each the first by its key.
    pub batched: f64,
    /// Further ones by these keys.
    pub same_key: f64,
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
#[derive(Clone, Copy, Debug)]
pub struct Lengths {
    /// How many signatures by keys of their own a credential has beside the leaf's.
    user_signatures: f64,
    /// How many by the Authentication Service, whose key they share.
    service_signatures: f64,
    /// A KeyPackage.
    key_package: f64,
    /// A LeafNode.
    leaf: f64,
}

/// An empty optional node in the encoding of the tree.
const BLANK: f64 = 1.0;

/// What a commit holds for each node that a path secret is encrypted to: a KEM output, a ciphertext.
const CIPHERTEXT: f64 = 33.0 + 49.0;

/// A public key in a path, and the length of its ciphertexts.
const PATH_KEY: f64 = 35.0;

/// What is hashed of a parent that is blank: two hashes, and that it is.
const BLANK_PARENT: f64 = 68.0;

/// What is hashed of a parent that is not.
const PARENT: f64 = 135.0;

/// The GroupContext and what HPKE puts around it.
const INFO: f64 = 200.0;

impl Lengths {
    /// Those of a member with this credential.
    ///
    /// # Errors
    /// None that the engine's own tests do not find first.
    pub fn of(credential: CredentialKind) -> Result<Self, Failure> {
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let signer = suite().signature_key_pair(&mut rng);
        let name = "member 00000";
        let (bundle, signatures) = match credential {
            CredentialKind::Basic => (ours::key_package::<Basic>(name, &signer, &mut rng)?, 0.0),
            CredentialKind::Own => (ours::key_package::<Own>(name, &signer, &mut rng)?, 1.0),
        };
        Ok(Self {
            user_signatures: signatures,
            service_signatures: signatures,
            key_package: bundle.key_package.to_bytes().len() as f64,
            leaf: bundle.key_package.leaf_node.to_bytes().len() as f64,
        })
    }

    /// A leaf's hash input.
    fn hashed_leaf(&self) -> f64 {
        self.leaf + 6.0
    }

    /// The encoding of a tree that is blank above its leaves.
    fn tree(&self, members: f64) -> f64 {
        members * (self.leaf + 2.0) + (members - 1.0) * BLANK
    }

    /// A commit with a path.
    fn commit(&self, ciphertexts: f64, levels: f64) -> f64 {
        self.leaf + ciphertexts * CIPHERTEXT + levels * PATH_KEY
    }
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
    pub fn of(row: Row, members: u32, lengths: &Lengths) -> Option<Self> {
        let n = f64::from(members);
        let levels = f64::from(members.next_power_of_two().trailing_zeros());
        let inside = lengths.tree(n);
        Some(match row {
            Row::CreateInside => Self::create(n, inside, lengths),
            Row::CreateApart => Self::create(n, 0.0, lengths),
            Row::JoinInside => Self::join(n, inside, lengths),
            Row::JoinApart => Self::join(n, 0.0, lengths),
            Row::BlankCreate => Self::commit(n - 1.0, levels, lengths),
            Row::BlankProcess => Self::process(n - 1.0, levels, lengths),
            Row::FilledCreate => Self::commit(levels, levels, lengths),
            Row::FilledProcess => Self::process(levels, levels, lengths),
            Row::Encrypt => Self {
                signs: 1.0,
                ..Self::message()
            },
            Row::Decrypt => Self {
                verifications: 1.0,
                ..Self::message()
            },
            _ => return None,
        })
    }

    fn create(n: f64, inside: f64, lengths: &Lengths) -> Self {
        let commit = (n - 1.0) * (lengths.key_package + 3.0);
        Self {
            // The leaf's, and the user's of the credential.
            batched: (1.0 + lengths.user_signatures) * (n - 1.0),
            // The KeyPackage's, which is by the leaf's key, and the service's.
            same_key: (1.0 + lengths.service_signatures) * (n - 1.0),
            seals: n - 1.0,
            // The commit and the GroupInfo, whose texts Ed25519 hashes twice.
            signs: 2.0,
            sha512_kib: 2.0 * kib(commit + inside),
            // The references, the tree, the transcript, the info of all seals.
            sha256_blocks: (n - 1.0) * sha256_blocks(lengths.key_package + 34.0)
                + Self::tree_blocks(n, lengths)
                + sha256_blocks(commit)
                + sha256_blocks(INFO + inside),
            // The commit, its sender data, the GroupInfo.
            aeads: 3.0,
            aead_kib: kib(commit + inside),
            hmacs: KEY_SCHEDULE + MESSAGE_KEY,
            ..Self::default()
        }
    }

    fn join(n: f64, inside: f64, lengths: &Lengths) -> Self {
        Self {
            batched: (1.0 + lengths.user_signatures) * n,
            same_key: lengths.service_signatures * n,
            // The GroupInfo's.
            verifications: 1.0,
            opens: 1.0,
            sha512_kib: kib(inside),
            sha256_blocks: Self::tree_blocks(n, lengths)
                + sha256_blocks(lengths.key_package + 34.0)
                + sha256_blocks(INFO + inside),
            aeads: 1.0,
            aead_kib: kib(inside),
            hmacs: KEY_SCHEDULE,
            ..Self::default()
        }
    }

    fn commit(seals: f64, levels: f64, lengths: &Lengths) -> Self {
        let commit = lengths.commit(seals, levels);
        Self {
            // A random one for the leaf, one derived for each node above.
            key_pairs: 1.0 + levels,
            seals,
            // The leaf and the commit, whose texts Ed25519 hashes twice.
            signs: 2.0,
            sha512_kib: 2.0 * kib(commit),
            sha256_blocks: Self::path_blocks(levels, lengths) + sha256_blocks(commit),
            aeads: 2.0,
            aead_kib: kib(commit),
            // For each node: its secret, the next one's, two for the key pair.
            hmacs: 4.0 * levels + KEY_SCHEDULE + MESSAGE_KEY,
            ..Self::default()
        }
    }

    /// By a member in the other half of the tree: of the path it learns the root's secret.
    fn process(ciphertexts: f64, levels: f64, lengths: &Lengths) -> Self {
        let commit = lengths.commit(ciphertexts, levels);
        Self {
            key_pairs: 1.0,
            opens: 1.0,
            // The leaf and the commit.
            verifications: 2.0,
            sha512_kib: kib(commit),
            sha256_blocks: Self::path_blocks(levels, lengths) + sha256_blocks(commit),
            aeads: 2.0,
            aead_kib: kib(commit),
            hmacs: 4.0 + KEY_SCHEDULE + MESSAGE_KEY,
            ..Self::default()
        }
    }

    fn message() -> Self {
        Self {
            // The message and its sender data.
            aeads: 2.0,
            hmacs: MESSAGE_KEY,
            ..Self::default()
        }
    }

    /// The hashes of all nodes of a tree that is blank above its leaves.
    fn tree_blocks(n: f64, lengths: &Lengths) -> f64 {
        n * sha256_blocks(lengths.hashed_leaf()) + (n - 1.0) * sha256_blocks(BLANK_PARENT)
    }

    /// Parent hashes and tree hashes of a path, and the GroupContext that is the info of its seals.
    fn path_blocks(levels: f64, lengths: &Lengths) -> f64 {
        sha256_blocks(lengths.hashed_leaf())
            + 2.0 * levels * sha256_blocks(PARENT)
            + sha256_blocks(INFO)
    }

    /// The milliseconds that they cost.
    #[must_use]
    pub fn cost(&self, primitives: &Primitives) -> f64 {
        let p = primitives;
        (self.key_pairs * p.key_pair
            + self.signs * p.sign
            + self.verifications * p.verify
            + self.batched * p.verify_batched
            + self.same_key * p.verify_same_key
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
    let blocks = text.len() / 64;
    let of_aws_lc = each(blocks, || Ok(digest::digest(&digest::SHA256, &text)))?;
    let of_rust_crypto = each(blocks, || Ok(Sha256::digest(&text)))?;
    let mut primitives = Primitives {
        sha256_block: of_aws_lc.min(of_rust_crypto),
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
    let of_rust_crypto = each(1, || Ok(step(&text[..32], &[&text[..40], &[1]])))?;
    let of_aws_lc = each(1, || Ok(step_by_aws_lc(&text[..32], &text[..41])))?;
    primitives.hmac = of_rust_crypto.min(of_aws_lc);
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
    // One signature by each key, then another.
    let mut items: Vec<(VerificationKeyBytes, Signature)> = Vec::new();
    let mut again = Vec::new();
    for _ in 0..BATCH {
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let key = SigningKey::from(seed);
        items.push((VerificationKeyBytes::from(&key), key.sign(text)));
        again.push((VerificationKeyBytes::from(&key), key.sign(&text[1..])));
    }
    let (first, signature) = items[0];
    let of_zebra = each(1, || {
        let key = ed25519_zebra::VerificationKey::try_from(first).map_err(|_| Unspecified)?;
        key.verify(&signature, text).map_err(|_| Unspecified)
    })?;
    primitives.verify = of_aws_lc.min(of_zebra);
    let mut together = |items: &[(VerificationKeyBytes, Signature)], again: &[_]| {
        each(1, || {
            let mut verifier = batch::Verifier::new();
            for (key, signature) in items {
                verifier.queue((*key, *signature, text));
            }
            for (key, signature) in again {
                verifier.queue((*key, *signature, &text[1..]));
            }
            verifier.verify(&mut *rng).map_err(|_| Unspecified)
        })
    };
    primitives.verify_batched = together(&items, &[])? / BATCH as f64;
    let half = BATCH / 2;
    let pairs = together(&items[..half], &again[..half])? / half as f64;
    primitives.verify_same_key = pairs - primitives.verify_batched;
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

/// A step of HKDF: an HMAC. RustCrypto's is the quickest on short texts.
fn step(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes any key");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// The same by AWS-LC.
fn step_by_aws_lc(key: &[u8], text: &[u8]) -> hmac_aws_lc::Tag {
    let key = hmac_aws_lc::Key::new(hmac_aws_lc::HMAC_SHA256, key);
    hmac_aws_lc::sign(&key, text)
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
        let lengths = Lengths::of(CredentialKind::Basic).unwrap();
        let count = |row, members| Counts::of(row, members, &lengths);
        let cost = |row, members| count(row, members).unwrap().cost(&primitives);
        let growth = cost(Row::CreateApart, 10_000) / cost(Row::CreateApart, 1_000);
        assert!((9.9..10.1).contains(&growth), "{growth}");
        let growth = cost(Row::FilledCreate, 1 << 16) / cost(Row::FilledCreate, 1 << 10);
        assert!((1.5..1.7).contains(&growth), "{growth}");
        assert_eq!(count(Row::Resident, 2), None);
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
