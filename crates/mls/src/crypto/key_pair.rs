//! A signature key pair, and what a provider made of it to sign faster.

use std::any::Any;
use std::sync::{Arc, OnceLock};

use super::{CryptoError, Secret, SignaturePublicKey};
use crate::codec::{Decode, DecodeError, Encode, Reader};

/// A signature key pair. The encoding is for our own storage.
///
/// Reading a private key can cost as much as a signature: Ed25519 and ECDSA derive the public key again.
/// So the provider's own form of the key is kept beside the bytes once it has signed, see
/// [`Self::prepared`]; clones share it. Neither half can be changed, so it never goes stale.
#[derive(Clone)]
pub struct SignatureKeyPair {
    private_key: Secret,
    public_key: SignaturePublicKey,
    prepared: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl SignatureKeyPair {
    /// A key pair from its halves. Whether they belong together shows when they are used.
    #[must_use]
    pub fn new(private_key: Secret, public_key: SignaturePublicKey) -> Self {
        Self {
            private_key,
            public_key,
            prepared: OnceLock::new(),
        }
    }

    /// The private key: the seed for Ed25519 (32 bytes) and Ed448 (57), the big-endian scalar for ECDSA.
    #[must_use]
    pub fn private_key(&self) -> &Secret {
        &self.private_key
    }

    /// The public key.
    #[must_use]
    pub fn public_key(&self) -> &SignaturePublicKey {
        &self.public_key
    }

    /// The key as a provider signs with it, for those who implement [`Suite::sign`](super::Suite::sign).
    /// The first call makes it, and the key pair keeps it for the later ones. A type stands for one
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

impl PartialEq for SignatureKeyPair {
    fn eq(&self, other: &Self) -> bool {
        self.private_key == other.private_key && self.public_key == other.public_key
    }
}

impl std::fmt::Debug for SignatureKeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignatureKeyPair")
            .field("private_key", &self.private_key)
            .field("public_key", &self.public_key)
            .finish_non_exhaustive()
    }
}

impl Encode for SignatureKeyPair {
    fn encode(&self, out: &mut Vec<u8>) {
        self.private_key.encode(out);
        self.public_key.encode(out);
    }
}

impl Decode for SignatureKeyPair {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let private_key = Secret::decode(reader)?;
        let public_key = SignaturePublicKey::decode(reader)?;
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
