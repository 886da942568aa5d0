//! Anonymous tokens: Privacy Pass, publicly verifiable (RFC 9577, RFC 9578 section 6, token type 2).
//!
//! The AS, as *issuer*, signs blinded messages for its accounts; the DS, as *origin*, checks the
//! unblinded signatures. Who sees both cannot tell which of the signatures was made for whom, since
//! any of them could have been (RFC 9474, section 7). What is needed of RSA is in [`blind_rsa`]
//! and nowhere else.
//!
//! A token is good for what its [`TokenChallenge`] names: one DS and one [`TokenPurpose`]. The
//! challenge is the same for everybody and always, so tokens can be drawn long before they are
//! used; the issuer does not see it.
//!
//! - here: the structures of the RFCs, and one token's way from [`IssuerKey::blind`] over
//!   [`IssuerSecret::issue`] and [`Blinded::finalize`] to [`IssuerKey::verify`];
//! - [`draw`]: how an account asks its AS for a batch, and which keys an AS has;
//! - [`price`]: what a call costs, and the hash of what is paid for.

mod blind_rsa;
pub mod draw;
pub mod price;

use folkmoot_mls::codec::{Decode, DecodeError, Encode, Reader};
use folkmoot_mls::{tls_enum, tls_struct};
use rand_core::CryptoRng;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::keys::{PublicKey, hash};

/// Blind RSA with keys of 2048 bits (RFC 9578, section 8.2.2).
pub const TOKEN_TYPE: u16 = 0x0002;

/// The bytes of a signature, RFC 9578's `Nk`.
pub const SIGNATURE: usize = 256;

/// The bytes of a token.
pub const TOKEN: usize = 2 + 32 + 32 + 32 + SIGNATURE;

/// What is wrong with a token, a key or an answer of the issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It does not have the form that the RFCs ask for: whoever sent it is to blame.
    #[error("the token, or a part of it, does not have the right form")]
    Malformed,
    /// The key is not one for RSABSSA-SHA384-PSS of 2048 bits: whoever published it is to blame.
    #[error("the issuer's key is not one of RSASSA-PSS with SHA-384 and 2048 bits")]
    Key,
    /// It belongs to another issuer key.
    #[error("the token belongs to another issuer key")]
    OtherKey,
    /// The signature does not verify: whoever sent it is to blame.
    #[error("the issuer's signature does not verify")]
    Forged,
}

tls_enum! {
    /// What a token pays for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum TokenPurpose: u8 {
        /// Opening a log.
        OpenLog = 1,
        /// Taking KeyPackages: one token for each 64 mailboxes.
        TakePackages = 2,
        /// Contesting a commit.
        Contest = 3,
        /// A blob.
        Blob = 4,
        /// Making a mailbox.
        CreateMailbox = 5,
    }
}

impl TokenPurpose {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::OpenLog,
        Self::TakePackages,
        Self::Contest,
        Self::Blob,
        Self::CreateMailbox,
    ];
}

/// What a token is for (RFC 9577, section 2.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenChallenge {
    /// [`TOKEN_TYPE`].
    pub token_type: u16,
    /// Who issues: the domain of the AS.
    pub issuer_name: Vec<u8>,
    /// Nothing or 32 bytes; for us the purpose.
    pub redemption_context: Vec<u8>,
    /// Where it is spent: the DS's key, 64 hexadecimal digits.
    pub origin_info: Vec<u8>,
}

impl TokenChallenge {
    /// The challenge of one DS for one purpose, to be met by a token of the issuer named.
    #[must_use]
    pub fn of(issuer_name: &str, delivery_service: &PublicKey, purpose: TokenPurpose) -> Self {
        let key = delivery_service.0.iter();
        let origin: String = key.map(|byte| format!("{byte:02x}")).collect();
        Self {
            token_type: TOKEN_TYPE,
            issuer_name: issuer_name.as_bytes().to_vec(),
            redemption_context: hash("token purpose", &purpose).to_vec(),
            origin_info: origin.into_bytes(),
        }
    }

    /// SHA-256 of the encoding: what a token carries of it.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.to_bytes()).into()
    }
}

/// The lengths are the RFC's, of one and two bytes, not MLS's. What is longer than they can say is
/// cut off: our own challenges are short, and what was read fits.
impl Encode for TokenChallenge {
    fn encode(&self, out: &mut Vec<u8>) {
        let long = |bytes: &[u8], out: &mut Vec<u8>| {
            let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
            length.encode(out);
            out.extend_from_slice(&bytes[..length.into()]);
        };
        self.token_type.encode(out);
        long(&self.issuer_name, out);
        let length = u8::try_from(self.redemption_context.len()).unwrap_or(u8::MAX);
        length.encode(out);
        out.extend_from_slice(&self.redemption_context[..length.into()]);
        long(&self.origin_info, out);
    }
}

impl Decode for TokenChallenge {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let token_type = u16::decode(reader)?;
        let length = u16::decode(reader)?;
        if length == 0 {
            return Err(DecodeError::InvalidValue("issuer_name"));
        }
        let issuer_name = reader.take(length.into())?.to_vec();
        let length = u8::decode(reader)?;
        if length != 0 && length != 32 {
            return Err(DecodeError::InvalidValue("redemption_context"));
        }
        let redemption_context = reader.take(length.into())?.to_vec();
        let length = u16::decode(reader)?;
        let origin_info = reader.take(length.into())?.to_vec();
        Ok(Self {
            token_type,
            issuer_name,
            redemption_context,
            origin_info,
        })
    }
}

tls_struct! {
    /// One blinded message for the issuer (RFC 9578, section 6.1).
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct TokenRequest {
        /// [`TOKEN_TYPE`].
        pub token_type: u16,
        /// The last byte of the issuer key's id.
        pub truncated_token_key_id: u8,
        /// Looks random to whoever does not know the [`Blinded`] that belongs to it.
        pub blinded_msg: [u8; SIGNATURE],
    }
}

tls_struct! {
    /// The issuer's answer to a [`TokenRequest`] (RFC 9578, section 6.2).
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct TokenResponse {
        /// The signature of the blinded message.
        pub blind_sig: [u8; SIGNATURE],
    }
}

tls_struct! {
    /// A token (RFC 9577, section 2.2): whoever has it can spend it, once.
    #[derive(Clone, PartialEq, Eq)]
    pub struct Token {
        /// [`TOKEN_TYPE`].
        pub token_type: u16,
        /// What tells it from other tokens. The issuer never sees it.
        pub nonce: [u8; 32],
        /// Of the [`TokenChallenge`] that it meets.
        pub challenge_digest: [u8; 32],
        /// Of the issuer key.
        pub token_key_id: [u8; 32],
        /// The signature of all the fields before it.
        pub authenticator: [u8; SIGNATURE],
    }
}

/// Shows nothing: whoever knows a token can spend it.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// Reads a token of type 2.
    ///
    /// # Errors
    /// [`TokenError::Malformed`], also for another type.
    pub fn read(bytes: &[u8]) -> Result<Self, TokenError> {
        match Self::from_bytes(bytes) {
            Ok(token) if token.token_type == TOKEN_TYPE => Ok(token),
            _ => Err(TokenError::Malformed),
        }
    }

    fn input(&self) -> TokenInput {
        TokenInput {
            token_type: self.token_type,
            nonce: self.nonce,
            challenge_digest: self.challenge_digest,
            token_key_id: self.token_key_id,
        }
    }
}

tls_struct! {
    /// What is signed: `token_input` of RFC 9578, section 6.1.
    struct TokenInput {
        token_type: u16,
        nonce: [u8; 32],
        challenge_digest: [u8; 32],
        token_key_id: [u8; 32],
    }
}

/// An issuer's public key.
#[derive(Clone)]
pub struct IssuerKey {
    key: blind_rsa::Public,
    spki: Vec<u8>,
    id: [u8; 32],
}

impl IssuerKey {
    /// Reads a SubjectPublicKeyInfo with the parameters of RSASSA-PSS (RFC 9578, section 6.5).
    ///
    /// # Errors
    /// [`TokenError::Key`], also for another encoding of a key that would do.
    pub fn from_spki(spki: &[u8]) -> Result<Self, TokenError> {
        let key = blind_rsa::Public::from_spki(spki)?;
        if key.size() != SIGNATURE {
            return Err(TokenError::Key);
        }
        Self::of(key)
    }

    fn of(key: blind_rsa::Public) -> Result<Self, TokenError> {
        let spki = key.to_spki()?;
        let id = Sha256::digest(&spki).into();
        Ok(Self { key, spki, id })
    }

    /// The SubjectPublicKeyInfo.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The key's id: SHA-256 of its SubjectPublicKeyInfo.
    #[must_use]
    pub fn id(&self) -> &[u8; 32] {
        &self.id
    }

    /// Makes a nonce and blinds it, with the challenge that the token is to meet. The request is
    /// for the issuer; what else comes back is kept until it has answered.
    ///
    /// # Errors
    /// [`TokenError::Key`] for a key with which nothing can be blinded.
    pub fn blind(
        &self,
        challenge: &TokenChallenge,
        rng: &mut dyn CryptoRng,
    ) -> Result<(TokenRequest, Blinded), TokenError> {
        let mut nonce = [0; 32];
        rng.fill_bytes(&mut nonce);
        let challenge_digest = challenge.digest();
        let input = TokenInput {
            token_type: TOKEN_TYPE,
            nonce,
            challenge_digest,
            token_key_id: self.id,
        };
        let (blinded, inverse) = self.key.blind(&input.to_bytes(), rng)?;
        let sized = |bytes: &[u8]| bytes.try_into().map_err(|_| TokenError::Key);
        let request = TokenRequest {
            token_type: TOKEN_TYPE,
            truncated_token_key_id: self.id[31],
            blinded_msg: sized(&blinded)?,
        };
        let blinded = Blinded {
            nonce,
            challenge_digest,
            inverse: Zeroizing::new(sized(&inverse)?),
        };
        Ok((request, blinded))
    }

    /// Checks a token's signature. What it is for and whether it was spent is the caller's to
    /// check.
    ///
    /// # Errors
    /// [`TokenError::OtherKey`], [`TokenError::Forged`]: who sent the token is to blame.
    pub fn verify(&self, token: &Token) -> Result<(), TokenError> {
        if token.token_key_id != self.id {
            return Err(TokenError::OtherKey);
        }
        let input = token.input().to_bytes();
        self.key.verify(&input, &token.authenticator)
    }
}

impl std::fmt::Debug for IssuerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [first, second, third, ..] = self.id;
        write!(f, "IssuerKey({first:02x}{second:02x}{third:02x}..)")
    }
}

impl PartialEq for IssuerKey {
    fn eq(&self, other: &Self) -> bool {
        self.spki == other.spki
    }
}

impl Eq for IssuerKey {}

/// What belongs to a [`TokenRequest`] that the issuer has not answered. With it the request can be
/// linked to its token: a secret.
#[derive(Clone)]
pub struct Blinded {
    nonce: [u8; 32],
    challenge_digest: [u8; 32],
    inverse: Zeroizing<[u8; SIGNATURE]>,
}

impl Blinded {
    /// Takes the blinding off the issuer's answer.
    ///
    /// # Errors
    /// [`TokenError::Forged`] if that gives no valid token of this key: the issuer is to blame.
    pub fn finalize(&self, key: &IssuerKey, response: &TokenResponse) -> Result<Token, TokenError> {
        let mut token = Token {
            token_type: TOKEN_TYPE,
            nonce: self.nonce,
            challenge_digest: self.challenge_digest,
            token_key_id: key.id,
            authenticator: [0; SIGNATURE],
        };
        let input = token.input().to_bytes();
        let signature = key
            .key
            .finalize(&input, &response.blind_sig, &*self.inverse)?;
        token.authenticator = signature.try_into().map_err(|_| TokenError::Forged)?;
        Ok(token)
    }
}

impl Encode for Blinded {
    fn encode(&self, out: &mut Vec<u8>) {
        self.nonce.encode(out);
        self.challenge_digest.encode(out);
        self.inverse.encode(out);
    }
}

impl Decode for Blinded {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            nonce: reader.array()?,
            challenge_digest: reader.array()?,
            inverse: Zeroizing::new(reader.array()?),
        })
    }
}

impl std::fmt::Debug for Blinded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Blinded(..)")
    }
}

/// An issuer's secret key.
#[derive(Clone)]
pub struct IssuerSecret(blind_rsa::Secret);

impl IssuerSecret {
    /// A fresh key of 2048 bits. That takes up to seconds.
    ///
    /// # Errors
    /// [`TokenError::Key`] if none was found, which does not happen with a working source of
    /// randomness.
    pub fn generate(rng: &mut dyn CryptoRng) -> Result<Self, TokenError> {
        blind_rsa::Secret::generate(SIGNATURE * 8, rng).map(Self)
    }

    /// Reads a PKCS #8 structure.
    ///
    /// # Errors
    /// [`TokenError::Key`].
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, TokenError> {
        let secret = blind_rsa::Secret::from_pkcs8(der)?;
        if secret.public()?.size() == SIGNATURE {
            Ok(Self(secret))
        } else {
            Err(TokenError::Key)
        }
    }

    /// The PKCS #8 structure, for storing.
    ///
    /// # Errors
    /// [`TokenError::Key`], which does not happen for a key that was generated or read.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        self.0.to_pkcs8()
    }

    /// The public half.
    ///
    /// # Errors
    /// [`TokenError::Key`], which does not happen for a key that was generated or read.
    pub fn public(&self) -> Result<IssuerKey, TokenError> {
        IssuerKey::of(self.0.public()?)
    }

    /// Signs what is in a request, whatever it is. The same request gets the same answer.
    ///
    /// # Errors
    /// [`TokenError::Malformed`] for a request of another type or that is no number below the
    /// modulus: who asks is to blame. Whether it is for this key is the caller's to check.
    pub fn issue(
        &self,
        request: &TokenRequest,
        rng: &mut dyn CryptoRng,
    ) -> Result<TokenResponse, TokenError> {
        if request.token_type != TOKEN_TYPE {
            return Err(TokenError::Malformed);
        }
        let signature = self.0.blind_sign(&request.blinded_msg, rng)?;
        let blind_sig = signature.try_into().map_err(|_| TokenError::Malformed)?;
        Ok(TokenResponse { blind_sig })
    }
}

impl std::fmt::Debug for IssuerSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IssuerSecret(..)")
    }
}

#[cfg(test)]
mod tests;
