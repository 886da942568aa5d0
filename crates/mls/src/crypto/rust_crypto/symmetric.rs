//! AEADs.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use chacha20poly1305::ChaCha20Poly1305;
use zeroize::Zeroizing;

use crate::crypto::parts::Aead;
use crate::crypto::{CryptoError, Secret};

#[derive(Clone, Copy)]
pub(super) enum Cipher {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
}

impl Aead for Cipher {
    fn id(&self) -> u16 {
        match self {
            Self::Aes128Gcm => 1,
            Self::Aes256Gcm => 2,
            Self::ChaCha20Poly1305 => 3,
        }
    }

    fn key_length(&self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            Self::Aes256Gcm | Self::ChaCha20Poly1305 => 32,
        }
    }

    fn seal(&self, key: &[u8], nonce: &[u8], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
        match self {
            Self::Aes128Gcm => seal::<Aes128Gcm>(key, nonce, aad, plaintext),
            Self::Aes256Gcm => seal::<Aes256Gcm>(key, nonce, aad, plaintext),
            Self::ChaCha20Poly1305 => seal::<ChaCha20Poly1305>(key, nonce, aad, plaintext),
        }
    }

    fn open(
        &self,
        key: &[u8],
        nonce: &[u8],
        aad: &[u8],
        ciphertext: &[u8],
    ) -> Result<Secret, CryptoError> {
        match self {
            Self::Aes128Gcm => open::<Aes128Gcm>(key, nonce, aad, ciphertext),
            Self::Aes256Gcm => open::<Aes256Gcm>(key, nonce, aad, ciphertext),
            Self::ChaCha20Poly1305 => open::<ChaCha20Poly1305>(key, nonce, aad, ciphertext),
        }
        .ok_or(CryptoError::DecryptionFailed)
    }
}

fn seal<A: AeadInOut + KeyInit>(key: &[u8], nonce: &[u8], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let cipher = A::new_from_slice(key).expect("derived with the suite's lengths");
    let nonce = nonce.try_into().expect("derived with the suite's lengths");
    // Room for the tag, so that the plaintext is not left behind in a smaller allocation.
    let mut ciphertext = Vec::with_capacity(plaintext.len() + 16);
    ciphertext.extend_from_slice(plaintext);
    cipher
        .encrypt_in_place(nonce, aad, &mut ciphertext)
        .expect("plaintexts are far below the AEAD's limit");
    ciphertext
}

fn open<A: AeadInOut + KeyInit>(
    key: &[u8],
    nonce: &[u8],
    aad: &[u8],
    ciphertext: &[u8],
) -> Option<Secret> {
    let cipher = A::new_from_slice(key).ok()?;
    let nonce = nonce.try_into().ok()?;
    let mut plaintext = Zeroizing::new(ciphertext.to_vec());
    cipher.decrypt_in_place(nonce, aad, &mut *plaintext).ok()?;
    Some(Secret::from(plaintext))
}
