//! The provider in pure Rust, for all suites: RustCrypto, and dalek for Curve25519. It builds for wasm32.
//! Ed25519 is verified by `ed25519-zebra`, as in every provider.
//!
//! Randomness is the caller's. ECDSA draws none: its nonces follow from key and message (RFC 6979).

mod edwards;
mod montgomery;
mod pq;
mod symmetric;
mod weierstrass;

use super::dhkem::DhKem;
use super::parts::{self, Aead, Composed, Kem, Library, SignatureScheme};
use super::sha2::Sha2;
use super::{CipherSuite, CryptoError, CryptoProvider, Suite};
use edwards::{Ed448, Ed25519};
use montgomery::{X448, X25519};
use pq::{MlKem768X25519, XWing};
use symmetric::Cipher;
use weierstrass::{Ecdsa, P256, P384, P521};
use zeroize::Zeroizing;

/// The provider.
pub static PROVIDER: RustCrypto = RustCrypto;

/// See [`PROVIDER`].
#[derive(Clone, Copy, Debug)]
pub struct RustCrypto;

impl CryptoProvider for RustCrypto {
    fn suites(&self) -> &'static [CipherSuite] {
        &parts::ALL
    }

    fn suite(&self, cipher_suite: CipherSuite) -> Option<&'static dyn Suite> {
        parts::find(&SUITES, cipher_suite)
    }
}

static SUITES: [Option<Composed>; 11] = parts::suites::<RustCrypto>();

impl Library for RustCrypto {
    const AES_128_GCM: &'static dyn Aead = &Cipher::Aes128Gcm;
    const AES_256_GCM: &'static dyn Aead = &Cipher::Aes256Gcm;
    const CHACHA20_POLY1305: &'static dyn Aead = &Cipher::ChaCha20Poly1305;

    const DHKEM_X25519: &'static dyn Kem = &dhkem(X25519, Sha2::Sha256);
    const DHKEM_P256: &'static dyn Kem = &dhkem(P256, Sha2::Sha256);
    const DHKEM_P384: &'static dyn Kem = &dhkem(P384, Sha2::Sha384);
    const DHKEM_P521: &'static dyn Kem = &dhkem(P521, Sha2::Sha512);
    const DHKEM_X448: Option<&'static dyn Kem> = Some(&dhkem(X448, Sha2::Sha512));
    const X_WING: Option<&'static dyn Kem> = Some(&XWing);
    const ML_KEM_768_X25519: Option<&'static dyn Kem> =
        Some(&MlKem768X25519(dhkem(X25519, Sha2::Sha256)));

    const ED25519: &'static dyn SignatureScheme = &Ed25519;
    const ECDSA_P256: &'static dyn SignatureScheme = &Ecdsa(dhkem(P256, Sha2::Sha256));
    const ECDSA_P384: &'static dyn SignatureScheme = &Ecdsa(dhkem(P384, Sha2::Sha384));
    const ECDSA_P521: &'static dyn SignatureScheme = &Ecdsa(dhkem(P521, Sha2::Sha512));
    const ED448: Option<&'static dyn SignatureScheme> = Some(&Ed448);
}

const fn dhkem<G: Copy>(group: G, kdf: Sha2) -> DhKem<G, Sha2> {
    DhKem { group, kdf }
}

/// The bytes of a private key as an array. It stands on the heap, so that moving it leaves no copies of the
/// key on the stack. The libraries take their argument by value: that copy is theirs.
fn key_bytes<const N: usize>(bytes: &[u8]) -> Result<Box<Zeroizing<[u8; N]>>, CryptoError> {
    if bytes.len() != N {
        return Err(CryptoError::InvalidPrivateKey);
    }
    let mut array = Box::new(Zeroizing::new([0; N]));
    array.copy_from_slice(bytes);
    Ok(array)
}
