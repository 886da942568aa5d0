//! Key pairs, and what a provider made of them to work faster.

use std::any::Any;
use std::sync::{Arc, OnceLock};

use super::{CryptoError, HpkePublicKey, Secret, SignaturePublicKey};
use crate::codec::{Decode, DecodeError, Encode, Reader};

/// A key pair. The encoding is for our own storage.
///
/// Reading a private key can cost as much as a signature: many schemes derive the public key again. So the
/// provider's own form of the key is kept beside the bytes once it was used, see [`Self::prepared`]; clones
/// share it. Neither half can be changed, so it never goes stale.
#[derive(Clone)]
pub struct KeyPair<P> {
    private_key: Secret,
    public_key: P,
    prepared: OnceLock<Arc<dyn Any + Send + Sync>>,
}

/// A signature key pair. The private key is the seed for Ed25519 (32 bytes) and Ed448 (57), the big-endian
/// scalar for ECDSA.
pub type SignatureKeyPair = KeyPair<SignaturePublicKey>;

/// An HPKE key pair. The private key is as RFC 9180's `SerializePrivateKey` writes it; the seed for X-Wing.
pub type HpkeKeyPair = KeyPair<HpkePublicKey>;

impl<P> KeyPair<P> {
    /// A key pair from its halves. Whether they belong together shows when they are used.
    #[must_use]
    pub fn new(private_key: Secret, public_key: P) -> Self {
        Self {
            private_key,
            public_key,
            prepared: OnceLock::new(),
        }
    }

    /// The private key.
    #[must_use]
    pub fn private_key(&self) -> &Secret {
        &self.private_key
    }

    /// The public key.
    #[must_use]
    pub fn public_key(&self) -> &P {
        &self.public_key
    }

    /// Both halves.
    #[must_use]
    pub fn into_halves(self) -> (Secret, P) {
        (self.private_key, self.public_key)
    }

    /// The key as a provider uses it, for those who implement [`Suite`](super::Suite). The first call makes it, and the key pair keeps it for the later ones. A type stands for one
    /// scheme of one provider: what another type was kept for is made each time. It has to wipe itself
    /// when dropped.
    ///
    /// # Errors
    /// Those of `prepare`; then nothing is kept.
    pub fn prepared<T: Any + Send + Sync>(
        &self,
        prepare: impl FnOnce(&Self) -> Result<T, CryptoError>,
    ) -> Result<Arc<T>, CryptoError> {
        if let Some(kept) = self.prepared.get() {
            return Arc::clone(kept)
                .downcast()
                .or_else(|_| prepare(self).map(Arc::new));
        }
        let key = Arc::new(prepare(self)?);
        // If another thread was faster, both made the same.
        let _ = self.prepared.set(key.clone());
        Ok(key)
    }
}

impl<P: PartialEq> PartialEq for KeyPair<P> {
    fn eq(&self, other: &Self) -> bool {
        self.private_key == other.private_key && self.public_key == other.public_key
    }
}

impl<P: std::fmt::Debug> std::fmt::Debug for KeyPair<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyPair")
            .field("private_key", &self.private_key)
            .field("public_key", &self.public_key)
            .finish_non_exhaustive()
    }
}

impl<P: Encode> Encode for KeyPair<P> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.private_key.encode(out);
        self.public_key.encode(out);
    }
}

impl<P: Decode> Decode for KeyPair<P> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let private_key = Secret::decode(reader)?;
        let public_key = P::decode(reader)?;
        Ok(Self::new(private_key, public_key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> SignatureKeyPair {
        SignatureKeyPair::new(Secret::from(vec![0xab; 4]), vec![1].into())
    }

    #[test]
    fn what_is_prepared_is_made_once_and_shared_with_clones() {
        let pair = pair();
        assert_eq!(
            pair.prepared::<u8>(|_| Err(CryptoError::InvalidPrivateKey)),
            Err(CryptoError::InvalidPrivateKey)
        );
        assert_eq!(
            pair.prepared(|pair| Ok(pair.private_key()[0])),
            Ok(Arc::new(0xab))
        );
        let again = || -> Result<u8, CryptoError> { panic!("it is kept") };
        assert_eq!(*pair.clone().prepared(|_| again()).unwrap(), 0xab);
    }

    #[test]
    fn one_schemes_key_is_not_anothers() {
        let pair = pair();
        pair.prepared(|_| Ok(1_u8)).unwrap();
        assert_eq!(*pair.prepared(|_| Ok(2_u16)).unwrap(), 2);
        assert_eq!(*pair.prepared(|_| Ok(3_u8)).unwrap(), 1);
    }

    #[test]
    fn what_is_prepared_is_neither_compared_nor_stored_nor_shown() {
        let used = pair();
        used.prepared(|_| Ok(0xab_u8)).unwrap();
        assert_eq!(used, pair());
        assert_eq!(used.to_bytes(), pair().to_bytes());
        assert_eq!(format!("{used:?}"), format!("{:?}", pair()));
        assert!(!format!("{used:?}").contains("171"));
        assert_eq!(SignatureKeyPair::from_bytes(&used.to_bytes()), Ok(used));
    }
}
