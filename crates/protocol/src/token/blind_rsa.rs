//! RSABSSA-SHA384-PSS-Deterministic (RFC 9474, section 5), the variant that RFC 9578 asks for, as
//! the crate `blind-rsa-signatures` does it. No other file knows that crate.

use blind_rsa_signatures::{
    BlindSignature, BlindingResult, Deterministic, KeyPair, PSS, PublicKey, SecretKey, Sha384,
    Signature,
};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::TokenError;

/// A public key of 2048 to 4096 bits.
#[derive(Clone)]
pub(super) struct Public(PublicKey<Sha384, PSS, Deterministic>);

impl Public {
    /// Reads a SubjectPublicKeyInfo; the same key in another encoding is refused, since ids are
    /// hashes of the encoding.
    pub(super) fn from_spki(spki: &[u8]) -> Result<Self, TokenError> {
        let key = Self(PublicKey::from_spki(spki).map_err(|_| TokenError::Key)?);
        if key.to_spki()? == spki {
            Ok(key)
        } else {
            Err(TokenError::Key)
        }
    }

    pub(super) fn to_spki(&self) -> Result<Vec<u8>, TokenError> {
        self.0.to_spki().map_err(|_| TokenError::Key)
    }

    /// The modulus's bytes.
    pub(super) fn size(&self) -> usize {
        self.0.components().n().len()
    }

    /// The blinded message and the inverse that takes the blinding off (`Blind`).
    pub(super) fn blind(
        &self,
        message: &[u8],
        rng: &mut dyn CryptoRng,
    ) -> Result<(Vec<u8>, Zeroizing<Vec<u8>>), TokenError> {
        let blinded = self.0.blind(rng, message).map_err(|_| TokenError::Key)?;
        Ok((blinded.blind_message.0, Zeroizing::new(blinded.secret.0)))
    }

    /// The signature of the message (`Finalize`); it is verified.
    pub(super) fn finalize(
        &self,
        message: &[u8],
        blind_sig: &[u8],
        inverse: &[u8],
    ) -> Result<Vec<u8>, TokenError> {
        let mut blinding = BlindingResult {
            // Not looked at.
            blind_message: Vec::new().into(),
            secret: inverse.to_vec().into(),
            msg_randomizer: None,
        };
        let signature = self
            .0
            .finalize(&BlindSignature(blind_sig.to_vec()), &blinding, message);
        drop(Zeroizing::new(std::mem::take(&mut blinding.secret.0)));
        signature
            .map(|signature| signature.0)
            .map_err(|_| TokenError::Forged)
    }

    /// RSASSA-PSS-VERIFY.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), TokenError> {
        self.0
            .verify(&Signature(signature.to_vec()), None, message)
            .map_err(|_| TokenError::Forged)
    }
}

/// A secret key. The library clears it when it is dropped.
#[derive(Clone)]
pub(super) struct Secret(SecretKey<Sha384, PSS, Deterministic>);

impl Secret {
    pub(super) fn generate(bits: usize, rng: &mut dyn CryptoRng) -> Result<Self, TokenError> {
        let pair = KeyPair::generate(rng, bits).map_err(|_| TokenError::Key)?;
        Ok(Self(pair.sk))
    }

    pub(super) fn from_pkcs8(der: &[u8]) -> Result<Self, TokenError> {
        SecretKey::from_der(der)
            .map(Self)
            .map_err(|_| TokenError::Key)
    }

    pub(super) fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        let der = self.0.to_der().map_err(|_| TokenError::Key)?;
        Ok(Zeroizing::new(der))
    }

    pub(super) fn public(&self) -> Result<Public, TokenError> {
        self.0.public_key().map(Public).map_err(|_| TokenError::Key)
    }

    /// `BlindSign`. The randomness blinds the computation against those who watch its time; the
    /// signature does not depend on it.
    pub(super) fn blind_sign(
        &self,
        blinded: &[u8],
        rng: &mut dyn CryptoRng,
    ) -> Result<Vec<u8>, TokenError> {
        self.0
            .blind_sign_with_rng(rng, blinded)
            .map(|signature| signature.0)
            .map_err(|_| TokenError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Given, hex};
    use super::*;
    use blind_rsa_signatures::reexports::rsa::{BoxedUint, RsaPrivateKey};
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Vector {
        p: String,
        q: String,
        n: String,
        e: String,
        d: String,
        msg: String,
        salt: String,
        inv: String,
        blinded_msg: String,
        blind_sig: String,
        sig: String,
    }

    fn number(hex: &str) -> BoxedUint {
        BoxedUint::from_str_radix_vartime(hex, 16).unwrap()
    }

    /// RFC 9474, appendix A.3.
    #[test]
    fn the_rfcs_vector_passes() {
        let vector = include_str!("../../tests/tokens/rfc9474.json");
        let vector: Vector = serde_json::from_str(vector).unwrap();
        let primes = vec![number(&vector.p), number(&vector.q)];
        let [n, e, d] = [&vector.n, &vector.e, &vector.d].map(|hex| number(hex));
        let key = RsaPrivateKey::from_components(n, e, d, primes).unwrap();
        let secret = Secret(SecretKey::new(key));
        let public = secret.public().unwrap();
        let size = public.size();

        // The RFC gives the inverse of the number that blinds; the library draws the number itself,
        // least significant byte first.
        let modulus = number(&vector.n);
        let modulus =
            blind_rsa_signatures::reexports::crypto_bigint::NonZero::new(modulus).unwrap();
        let blind = number(&vector.inv).invert_mod(&modulus).unwrap();
        let mut blind = blind.to_be_bytes().to_vec();
        blind.reverse();
        blind.truncate(size);
        let (msg, inv) = (hex(&vector.msg), hex(&vector.inv));
        let mut rng = Given([hex(&vector.salt), blind].concat());
        let (blinded, inverse) = public.blind(&msg, &mut rng).unwrap();
        assert_eq!(blinded, hex(&vector.blinded_msg));
        assert_eq!(inverse[size - inv.len()..], inv);

        let mut rng = super::super::tests::rng(1);
        let blind_sig = secret.blind_sign(&blinded, &mut rng).unwrap();
        assert_eq!(blind_sig, hex(&vector.blind_sig));
        let signature = public.finalize(&msg, &blind_sig, &inverse).unwrap();
        assert_eq!(signature, hex(&vector.sig));
        assert_eq!(public.verify(&msg, &signature), Ok(()));
        assert_eq!(
            public.verify(b"another", &signature),
            Err(TokenError::Forged)
        );
    }
}
