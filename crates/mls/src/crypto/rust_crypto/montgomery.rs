//! X25519 and X448 (RFC 7748).

use subtle::ConstantTimeEq;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::crypto::dhkem::{Group, Kind};
use crate::crypto::{CryptoError, HpkePublicKey, Secret};

#[derive(Clone, Copy)]
pub(super) struct X25519;

impl Group for X25519 {
    type PrivateKey = StaticSecret;

    fn kind(&self) -> Kind {
        Kind::X25519
    }

    fn private_key(&self, bytes: &[u8]) -> Result<StaticSecret, CryptoError> {
        super::key_bytes::<32>(bytes).map(|bytes| StaticSecret::from(**bytes))
    }

    fn public_key(&self, private_key: &StaticSecret) -> HpkePublicKey {
        HpkePublicKey::from(PublicKey::from(private_key).as_bytes().as_slice())
    }

    fn dh(&self, private_key: &StaticSecret, public_key: &[u8]) -> Result<Secret, CryptoError> {
        let public_key =
            <[u8; 32]>::try_from(public_key).map_err(|_| CryptoError::InvalidPublicKey)?;
        let dh = private_key.diffie_hellman(&PublicKey::from(public_key));
        if dh.was_contributory() {
            Ok(Secret::from(dh.as_bytes().as_slice()))
        } else {
            Err(CryptoError::InvalidPublicKey)
        }
    }
}

/// Stands on a pre-release.
#[derive(Clone, Copy)]
pub(super) struct X448;

impl Group for X448 {
    type PrivateKey = Box<Zeroizing<[u8; 56]>>;

    fn kind(&self) -> Kind {
        Kind::X448
    }

    fn private_key(&self, bytes: &[u8]) -> Result<Self::PrivateKey, CryptoError> {
        super::key_bytes(bytes)
    }

    fn public_key(&self, private_key: &Self::PrivateKey) -> HpkePublicKey {
        let public_key = x448::x448_unchecked(***private_key, x448::X448_BASEPOINT_BYTES);
        HpkePublicKey::from(public_key.as_slice())
    }

    fn dh(&self, private_key: &Self::PrivateKey, public_key: &[u8]) -> Result<Secret, CryptoError> {
        let public_key =
            <[u8; 56]>::try_from(public_key).map_err(|_| CryptoError::InvalidPublicKey)?;
        // The library's own check of the point knows the canonical encodings only; the result tells.
        let dh = Zeroizing::new(x448::x448_unchecked(***private_key, public_key));
        if dh.ct_eq(&[0; 56]).into() {
            Err(CryptoError::InvalidPublicKey)
        } else {
            Ok(Secret::from(dh.as_slice()))
        }
    }
}
