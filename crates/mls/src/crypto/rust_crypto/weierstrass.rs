//! The NIST curves: ECDH, and ECDSA with signatures in DER (RFC 9420, section 5.1).

use p256::elliptic_curve::sec1::ToSec1Point;
use rand_core::CryptoRng;

use crate::codec::Bytes;
use crate::crypto::dhkem::{DhKem, Group, Kind};
use crate::crypto::parts::{Kem, SignatureScheme};
use crate::crypto::sha2::Sha2;
use crate::crypto::{CryptoError, HpkePublicKey, Secret, SignatureKeyPair, SignaturePublicKey};

/// ECDSA with the hash of the curve's suite. Its key pairs are those of ECDH.
pub(super) struct Ecdsa<G>(pub(super) DhKem<G, Sha2>);

macro_rules! curve {
    ($curve:ident, $library:ident) => {
        #[derive(Clone, Copy)]
        pub(super) struct $curve;

        impl Group for $curve {
            type PrivateKey = $library::SecretKey;

            fn kind(&self) -> Kind {
                Kind::$curve
            }

            fn private_key(&self, bytes: &[u8]) -> Result<$library::SecretKey, CryptoError> {
                // The library would fill up a shorter key with zeros.
                Some(bytes)
                    .filter(|bytes| bytes.len() == self.kind().private_key_length())
                    .and_then(|bytes| $library::SecretKey::from_slice(bytes).ok())
                    .ok_or(CryptoError::InvalidPrivateKey)
            }

            fn public_key(&self, private_key: &$library::SecretKey) -> HpkePublicKey {
                HpkePublicKey::from(private_key.public_key().to_sec1_point(false).as_bytes())
            }

            fn dh(
                &self,
                private_key: &$library::SecretKey,
                public_key: &[u8],
            ) -> Result<Secret, CryptoError> {
                self.kind().check_encoding(public_key)?;
                let public_key = $library::PublicKey::from_sec1_bytes(public_key)
                    .map_err(|_| CryptoError::InvalidPublicKey)?;
                let dh = private_key.diffie_hellman(&public_key);
                Ok(Secret::from(dh.raw_secret_bytes().as_slice()))
            }
        }

        impl SignatureScheme for Ecdsa<$curve> {
            fn key_pair(&self, rng: &mut dyn CryptoRng) -> SignatureKeyPair {
                self.0.signature_key_pair(rng)
            }

            fn public_key(&self, private_key: &[u8]) -> Result<SignaturePublicKey, CryptoError> {
                Kem::public_key(&self.0, private_key).map(|key| SignaturePublicKey(key.0))
            }

            fn sign(&self, key_pair: &SignatureKeyPair, data: &[u8]) -> Result<Bytes, CryptoError> {
                use $library::ecdsa::{DerSignature, SigningKey, signature::Signer};
                let key = key_pair.prepared(|pair| {
                    let private_key = self.0.group.private_key(pair.private_key())?;
                    Ok(SigningKey::from(private_key))
                })?;
                let signature: DerSignature = key.sign(data);
                Ok(Bytes::from(signature.as_bytes()))
            }

            fn verify(
                &self,
                public_key: &[u8],
                data: &[u8],
                signature: &[u8],
            ) -> Result<(), CryptoError> {
                use $library::ecdsa::{DerSignature, VerifyingKey, signature::Verifier};
                self.0.group.kind().check_encoding(public_key)?;
                let public_key = VerifyingKey::from_sec1_bytes(public_key)
                    .map_err(|_| CryptoError::InvalidPublicKey)?;
                DerSignature::from_bytes(signature)
                    .and_then(|signature| public_key.verify(data, &signature))
                    .map_err(|_| CryptoError::InvalidSignature)
            }
        }
    };
}

curve!(P256, p256);
curve!(P384, p384);
curve!(P521, p521);
