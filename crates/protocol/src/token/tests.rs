//! RFC 9578's vectors, and what a token does not say.

use std::convert::Infallible;
use std::sync::OnceLock;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_core::{TryCryptoRng, TryRng};
use serde::Deserialize;

use super::*;

/// Randomness that somebody has written down. It may not be asked for more.
pub(super) struct Given(pub Vec<u8>);

impl TryRng for Given {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        let rest = self.0.split_off(out.len());
        out.copy_from_slice(&self.0);
        self.0 = rest;
        Ok(())
    }
}

impl TryCryptoRng for Given {}

pub(super) fn hex(digits: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

pub(super) fn rng(seed: u8) -> ChaCha20Rng {
    ChaCha20Rng::from_seed([seed; 32])
}

/// One key for all tests, since making one takes time.
pub(super) fn issuer() -> &'static IssuerSecret {
    static KEY: OnceLock<IssuerSecret> = OnceLock::new();
    KEY.get_or_init(|| IssuerSecret::generate(&mut rng(9)).unwrap())
}

#[derive(Deserialize)]
struct Vectors {
    #[serde(rename = "skS")]
    secret: String,
    #[serde(rename = "pkS")]
    public: String,
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    token_challenge: String,
    nonce: String,
    blind: String,
    salt: String,
    token_request: String,
    token_response: String,
    token: String,
}

/// The DER inside a PEM structure.
fn pem(text: &[u8]) -> Vec<u8> {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let text = std::str::from_utf8(text).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('-'));
    let (mut out, mut bits, mut held) = (Vec::new(), 0u32, 0u32);
    for digit in lines.flat_map(str::chars).filter(|digit| *digit != '=') {
        bits = bits << 6 | DIGITS.find(digit).unwrap() as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    out
}

/// RFC 9578, appendix B.2.
#[test]
fn the_rfcs_vectors_pass() {
    let vectors = include_str!("../../tests/tokens/rfc9578.json");
    let vectors: Vectors = serde_json::from_str(vectors).unwrap();
    let secret = IssuerSecret::from_pkcs8(&pem(&hex(&vectors.secret))).unwrap();
    let key = secret.public().unwrap();
    assert_eq!(key.spki(), hex(&vectors.public));
    assert_eq!(IssuerKey::from_spki(key.spki()), Ok(key.clone()));
    assert_eq!(vectors.vectors.len(), 5);
    for vector in vectors.vectors {
        let bytes = hex(&vector.token_challenge);
        let challenge = TokenChallenge::from_bytes(&bytes).unwrap();
        assert_eq!(challenge.to_bytes(), bytes);
        let mut blind = hex(&vector.blind);
        blind.reverse();
        let drawn = [hex(&vector.nonce), hex(&vector.salt), blind].concat();
        let (request, blinded) = key.blind(&challenge, &mut Given(drawn)).unwrap();
        assert_eq!(request.to_bytes(), hex(&vector.token_request));
        let response = secret.issue(&request, &mut rng(1)).unwrap();
        assert_eq!(response.to_bytes(), hex(&vector.token_response));
        // What waits for the issuer is kept as bytes.
        let blinded = Blinded::from_bytes(&blinded.to_bytes()).unwrap();
        let token = blinded.finalize(&key, &response).unwrap();
        assert_eq!(token.to_bytes(), hex(&vector.token));
        assert_eq!(token.challenge_digest, challenge.digest());
        assert_eq!(key.verify(&token), Ok(()));
        assert_eq!(token.to_bytes().len(), TOKEN);
    }
}

#[test]
fn a_token_is_not_what_was_not_signed() {
    let (secret, mut rng) = (issuer(), rng(2));
    let key = secret.public().unwrap();
    let challenge = TokenChallenge::of("example.org", &PublicKey([1; 32]), TokenPurpose::Blob);
    let (request, blinded) = key.blind(&challenge, &mut rng).unwrap();
    let response = secret.issue(&request, &mut rng).unwrap();
    let token = blinded.finalize(&key, &response).unwrap();
    let bytes = token.to_bytes();
    assert_eq!(Token::read(&bytes), Ok(token));
    // Each bit counts; a few of each field.
    for at in [0, 1, 2, 33, 34, 65, 66, 97, 98, 200, TOKEN - 1] {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let outcome = Token::read(&changed).and_then(|token| key.verify(&token));
        assert!(outcome.is_err(), "byte {at}");
    }
    assert_eq!(Token::read(&bytes[1..]), Err(TokenError::Malformed));

    // A wrong answer is seen at once.
    let mut wrong = response.clone();
    wrong.blind_sig[200] ^= 1;
    assert_eq!(blinded.finalize(&key, &wrong), Err(TokenError::Forged));
    // What is no number below the modulus is not signed.
    let mut large = request;
    large.blinded_msg = [0xff; SIGNATURE];
    let refused = secret.issue(&large, &mut rng);
    assert_eq!(refused, Err(TokenError::Malformed));
    large.token_type = 1;
    let refused = secret.issue(&large, &mut rng);
    assert_eq!(refused, Err(TokenError::Malformed));
}

/// What the issuer sees of a token shares no bytes with it, and would fit any other token as well.
#[test]
fn the_issuer_sees_nothing_of_the_token() {
    let (secret, mut rng) = (issuer(), rng(3));
    let key = secret.public().unwrap();
    let challenge = TokenChallenge::of("example.org", &PublicKey([1; 32]), TokenPurpose::OpenLog);
    let mut draw = || {
        let (request, blinded) = key.blind(&challenge, &mut rng).unwrap();
        let response = secret.issue(&request, &mut rng).unwrap();
        (request, response, blinded)
    };
    let (first, second) = (draw(), draw());
    let token = first.2.finalize(&key, &first.1).unwrap();
    let seen = [first.0.to_bytes(), first.1.to_bytes()].concat();
    for part in [
        &token.nonce[..],
        &token.challenge_digest,
        &token.authenticator,
    ] {
        for piece in part.windows(8) {
            assert!(!seen.windows(8).any(|window| window == piece));
        }
    }
    // The blinding is fresh each time: an answer opens with its own secret only.
    assert_ne!(first.0.blinded_msg, second.0.blinded_msg);
    let crossed = second.2.finalize(&key, &first.1);
    assert_eq!(crossed, Err(TokenError::Forged));
}

#[test]
fn each_service_and_purpose_has_its_challenge() {
    let mut digests = std::collections::BTreeSet::new();
    for name in ["example.org", "example.net"] {
        for service in [PublicKey([1; 32]), PublicKey([2; 32])] {
            for purpose in TokenPurpose::ALL {
                let challenge = TokenChallenge::of(name, &service, purpose);
                let bytes = challenge.to_bytes();
                assert_eq!(TokenChallenge::from_bytes(&bytes), Ok(challenge.clone()));
                digests.insert(challenge.digest());
            }
        }
    }
    assert_eq!(digests.len(), 2 * 2 * TokenPurpose::ALL.len());
}

#[test]
fn a_key_has_one_encoding_and_one_size() {
    let key = issuer().public().unwrap();
    for at in [0, 10, 30, 66, key.spki().len() - 1] {
        let mut changed = key.spki().to_vec();
        changed[at] ^= 1;
        let read = IssuerKey::from_spki(&changed);
        assert!(
            read.is_err() || read.as_ref().unwrap().id() != key.id(),
            "byte {at}"
        );
    }
    assert_eq!(IssuerKey::from_spki(&[]), Err(TokenError::Key));
    let stored = issuer().to_pkcs8().unwrap();
    let again = IssuerSecret::from_pkcs8(&stored).unwrap();
    assert_eq!(again.public().unwrap(), key);
    assert_eq!(
        IssuerSecret::from_pkcs8(&stored[1..]).err(),
        Some(TokenError::Key)
    );
}
