//! DHKEM over any group (RFC 9180, sections 4.1 and 7.1).

use std::sync::Arc;

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::hpke::{labeled_expand, labeled_extract};
use super::parts::Kem;
use super::{
    CryptoError, HpkeKeyPair, HpkePublicKey, Kdf, Secret, SignatureKeyPair, SignaturePublicKey,
};

/// A group for Diffie-Hellman.
pub(super) trait Group: Send + Sync + 'static {
    /// A private key, read. Clears itself when dropped.
    type PrivateKey: Send + Sync + 'static;

    /// Of which kind it is.
    fn kind(&self) -> Kind;

    /// Reads a private key.
    ///
    /// # Errors
    /// [`CryptoError::InvalidPrivateKey`].
    fn private_key(&self, bytes: &[u8]) -> Result<Self::PrivateKey, CryptoError>;

    /// Its public key.
    fn public_key(&self, private_key: &Self::PrivateKey) -> HpkePublicKey;

    /// The shared secret: the coordinate. It has checked the point, and refuses a result of all zeros
    /// (RFC 9180, section 7.1.4).
    ///
    /// # Errors
    /// [`CryptoError::InvalidPublicKey`].
    fn dh(&self, private_key: &Self::PrivateKey, public_key: &[u8]) -> Result<Secret, CryptoError>;

    /// Whether `dh` accepts this public key, whatever the private key.
    ///
    /// # Errors
    /// [`CryptoError::InvalidPublicKey`].
    fn check_public_key(&self, public_key: &[u8]) -> Result<(), CryptoError> {
        match self.kind() {
            Kind::X25519 => check_x25519(public_key),
            // Any private key tells.
            kind => {
                let private_key = self.private_key(&vec![1; kind.private_key_length()])?;
                self.dh(&private_key, public_key).map(|_| ())
            }
        }
    }
}

/// The groups that are defined for HPKE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    P256,
    P384,
    P521,
    X25519,
    #[cfg_attr(
        not(feature = "rust-crypto"),
        allow(dead_code, reason = "not in aws-lc")
    )]
    X448,
}

impl Kind {
    /// RFC 9180, section 7.1.
    const fn kem_id(self) -> u16 {
        match self {
            Self::P256 => 0x0010,
            Self::P384 => 0x0011,
            Self::P521 => 0x0012,
            Self::X25519 => 0x0020,
            Self::X448 => 0x0021,
        }
    }

    /// `Nsk`.
    pub(super) const fn private_key_length(self) -> usize {
        match self {
            Self::P256 | Self::X25519 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
            Self::X448 => 56,
        }
    }

    /// Whether the bytes can be a public key by their form. MLS has one encoding per point of the
    /// NIST curves, the uncompressed one, although libraries read others (RFC 9180, section 7.1.1;
    /// RFC 8446, section 4.2.8.2).
    ///
    /// # Errors
    /// [`CryptoError::InvalidPublicKey`].
    pub(super) fn check_encoding(self, public_key: &[u8]) -> Result<(), CryptoError> {
        let length = self.private_key_length();
        let valid = match self {
            Self::X25519 | Self::X448 => public_key.len() == length,
            _ => public_key.len() == 1 + 2 * length && public_key[0] == 4,
        };
        if valid {
            Ok(())
        } else {
            Err(CryptoError::InvalidPublicKey)
        }
    }
}

/// A private key as the library has it. Libraries have one type for several groups.
struct Prepared<G: Group> {
    kind: Kind,
    key: G::PrivateKey,
}

/// DHKEM with a group and the KDF of the suites that use it.
#[derive(Clone, Copy)]
pub(super) struct DhKem<G, K> {
    pub(super) group: G,
    pub(super) kdf: K,
}

impl<G: Group, K: Kdf> DhKem<G, K> {
    fn suite_id(&self) -> [u8; 5] {
        let [high, low] = self.group.kind().kem_id().to_be_bytes();
        [b'K', b'E', b'M', high, low]
    }

    /// A private key of the group from `dkp_prk`, with its parsed form.
    pub(super) fn private_key_from_prk(&self, dkp_prk: &[u8]) -> (Secret, G::PrivateKey) {
        let length = self.group.kind().private_key_length();
        let candidate = |label: &[u8], info: &[&[u8]], bitmask: u8| {
            let id = self.suite_id();
            let mut bytes =
                labeled_expand(&self.kdf, &id, dkp_prk, label, info, length).into_zeroizing();
            bytes[0] &= bitmask;
            let key = self.group.private_key(&bytes).ok()?;
            Some((Secret::from(bytes), key))
        };
        let bitmask = match self.group.kind() {
            Kind::X25519 | Kind::X448 => {
                return candidate(b"sk", &[], 0xff).expect("any bytes of the length are a key");
            }
            Kind::P256 | Kind::P384 => 0xff,
            Kind::P521 => 0x01,
        };
        // A candidate fails if it is 0 or not below the group's order: at most one in 2^32.
        (0..=u8::MAX)
            .find_map(|i| candidate(b"candidate", &[&[i]], bitmask))
            .expect("256 candidates fail once in 2^8192 inputs")
    }

    /// The private key, read once for each pair.
    fn prepare(&self, key_pair: &HpkeKeyPair) -> Result<Arc<Prepared<G>>, CryptoError> {
        let kind = self.group.kind();
        let read = || {
            let key = self.group.private_key(key_pair.private_key())?;
            Ok(Prepared { kind, key })
        };
        let prepared = key_pair.prepared(|_| read())?;
        if prepared.kind == kind {
            Ok(prepared)
        } else {
            read().map(Arc::new)
        }
    }

    fn private_key_from_ikm(&self, ikm: &[u8]) -> (Secret, G::PrivateKey) {
        let dkp_prk = labeled_extract(&self.kdf, &self.suite_id(), &[], b"dkp_prk", &[ikm]);
        self.private_key_from_prk(&dkp_prk)
    }

    /// `GenerateKeyPair` for one message. Random bytes are a key of X25519 and X448 as they are; of the
    /// other curves one is derived.
    fn ephemeral(&self, rng: &mut dyn CryptoRng) -> G::PrivateKey {
        let mut random = Zeroizing::new([0; 66]);
        let random = &mut random[..self.private_key_length()];
        rng.fill_bytes(random);
        match self.group.kind() {
            Kind::X25519 | Kind::X448 => self
                .group
                .private_key(random)
                .expect("any bytes of the length are a key"),
            _ => self.private_key_from_ikm(random).1,
        }
    }

    /// A key pair for ECDSA, whose key pairs are those of ECDH.
    pub(super) fn signature_key_pair(&self, rng: &mut dyn CryptoRng) -> SignatureKeyPair {
        let mut ikm = Zeroizing::new(vec![0; self.private_key_length()]);
        rng.fill_bytes(&mut ikm);
        let (private_key, public_key) = self.derive_key_pair(&ikm).into_halves();
        SignatureKeyPair::new(private_key, SignaturePublicKey(public_key.0))
    }

    /// `ExtractAndExpand`.
    fn extract_and_expand(&self, dh: &[u8], kem_output: &[u8], public_key: &[u8]) -> Secret {
        let id = self.suite_id();
        let eae_prk = labeled_extract(&self.kdf, &id, &[], b"eae_prk", &[dh]);
        let context = [kem_output, public_key];
        // `Nsecret` is `Nh` of the KDF for all groups.
        let length = self.kdf.hash_length();
        labeled_expand(&self.kdf, &id, &eae_prk, b"shared_secret", &context, length)
    }
}

impl<G: Group, K: Kdf> Kem for DhKem<G, K> {
    fn id(&self) -> u16 {
        self.group.kind().kem_id()
    }

    fn private_key_length(&self) -> usize {
        self.group.kind().private_key_length()
    }

    fn derive_key_pair(&self, ikm: &[u8]) -> HpkeKeyPair {
        let (private_key, parsed) = self.private_key_from_ikm(ikm);
        let key_pair = HpkeKeyPair::new(private_key, self.group.public_key(&parsed));
        let kind = self.group.kind();
        let parsed: Prepared<G> = Prepared { kind, key: parsed };
        // What is there already cannot fail.
        let _ = key_pair.prepared(|_| Ok(parsed));
        key_pair
    }

    fn encap(
        &self,
        public_key: &[u8],
        rng: &mut dyn CryptoRng,
    ) -> Result<(Secret, Vec<u8>), CryptoError> {
        let ephemeral = self.ephemeral(rng);
        let dh = self.group.dh(&ephemeral, public_key)?;
        let kem_output = self.group.public_key(&ephemeral).to_vec();
        let shared_secret = self.extract_and_expand(&dh, &kem_output, public_key);
        Ok((shared_secret, kem_output))
    }

    fn decap(&self, key_pair: &HpkeKeyPair, kem_output: &[u8]) -> Result<Secret, CryptoError> {
        let prepared = self.prepare(key_pair)?;
        let dh = self.group.dh(&prepared.key, kem_output)?;
        Ok(self.extract_and_expand(&dh, kem_output, key_pair.public_key()))
    }

    fn check_public_key(&self, public_key: &[u8]) -> Result<(), CryptoError> {
        self.group.check_public_key(public_key)
    }

    fn check_key_pair(&self, key_pair: &HpkeKeyPair) -> Result<(), CryptoError> {
        let public_key = self.group.public_key(&self.prepare(key_pair)?.key);
        if public_key == *key_pair.public_key() {
            Ok(())
        } else {
            Err(CryptoError::InvalidPrivateKey)
        }
    }

    fn public_key(&self, private_key: &[u8]) -> Result<HpkePublicKey, CryptoError> {
        let private_key = self.group.private_key(private_key)?;
        Ok(self.group.public_key(&private_key))
    }
}

/// [`Group::check_public_key`] of X25519 without a Diffie-Hellman, since a joiner asks it of every
/// leaf. All 32 bytes are a point of the curve or its twist; those of small order, which give zero
/// for any scalar, have seven encodings, with the highest bit ignored (RFC 7748, section 5).
fn check_x25519(public_key: &[u8]) -> Result<(), CryptoError> {
    const fn near_p(lowest: u8) -> [u8; 32] {
        let mut bytes = [0xff; 32];
        bytes[0] = lowest;
        bytes[31] = 0x7f;
        bytes
    }
    const fn small(lowest: u8) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[0] = lowest;
        bytes
    }
    const SMALL_ORDER: [[u8; 32]; 7] = [
        small(0),
        small(1),
        [
            0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f,
            0xc4, 0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16,
            0x5f, 0x49, 0xb8, 0x00,
        ],
        [
            0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83,
            0xef, 0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd,
            0xd0, 0x9f, 0x11, 0x57,
        ],
        near_p(0xec),
        near_p(0xed),
        near_p(0xee),
    ];
    Kind::X25519.check_encoding(public_key)?;
    let is_small = SMALL_ORDER
        .iter()
        .any(|point| public_key[..31] == point[..31] && public_key[31] & 0x7f == point[31]);
    if is_small {
        Err(CryptoError::InvalidPublicKey)
    } else {
        Ok(())
    }
}
