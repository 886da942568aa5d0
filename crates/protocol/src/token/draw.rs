//! Drawing tokens: an account asks its AS for a batch.
//!
//! A batch has always the same number of tokens, for the AS must not learn from numbers what they
//! are for; and the AS's keys are asked for over a connection that names no account, so that it
//! cannot give somebody a key of their own, by which their tokens could be told.

use folkmoot_credential::{Domain, Name};
use folkmoot_mls::codec::{Bytes, Decode};
use folkmoot_mls::tls_struct;

use super::{IssuerKey, TokenError, TokenPurpose, TokenRequest, TokenResponse};
use crate::authentication::{DrawTokensRequest, DrawTokensResponse, IssuersResponse};
use crate::keys::{BadSignature, PublicKey, SigningKey};
use crate::{Refusal, VERSION};
use folkmoot_mls::codec::Encode;

/// The tokens of a batch.
pub const BATCH: usize = 32;

/// What a client draws a batch for, together [`BATCH`]. The AS sees nothing of it.
pub const PLAN: [(TokenPurpose, usize); 5] = [
    (TokenPurpose::OpenLog, 8),
    (TokenPurpose::TakePackages, 10),
    (TokenPurpose::Contest, 4),
    (TokenPurpose::Blob, 6),
    (TokenPurpose::CreateMailbox, 4),
];

/// The most keys that an AS lists: the one in use, the next, and those whose tokens are still good.
pub const MAX_KEYS: usize = 8;

/// Seconds after which an account may draw another batch, in the long run.
pub const PERIOD: u64 = 6 * 3600;

/// Batches that an account may draw at once: one for each of a few devices.
pub const AT_ONCE: u64 = 4;

/// Seconds between the batches that a device draws.
pub const INTERVAL: u64 = 24 * 3600;

tls_struct! {
    /// An issuer key and its times, seconds since 1970.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct IssuerEntry {
        /// The SubjectPublicKeyInfo (RFC 9578, section 6.5).
        pub token_key: Bytes,
        /// Tokens are issued from then on.
        pub not_before: u64,
        /// Tokens are issued no longer.
        pub issues_until: u64,
        /// Its tokens are good no longer, and those that were spent can be forgotten.
        pub not_after: u64,
    }
}

impl IssuerEntry {
    /// The key.
    ///
    /// # Errors
    /// [`TokenError::Key`]: who published it is to blame.
    pub fn key(&self) -> Result<IssuerKey, TokenError> {
        IssuerKey::from_spki(&self.token_key)
    }
}

tls_struct! {
    /// An AS's issuer keys, signed with its own key.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct IssuerList {
        /// [`VERSION`].
        pub version: u16,
        /// The issuer's name in a [`TokenChallenge`](super::TokenChallenge).
        pub domain: Domain,
        /// The AS's key.
        pub authentication_service: PublicKey,
        /// The keys whose tokens are good or will be, in the order in which they come into use.
        /// None: this AS issues no tokens.
        pub keys: Vec<IssuerEntry>,
    }
}

impl IssuerList {
    const LABEL: &str = "issuer keys";

    /// Signs and wraps up.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> IssuersResponse {
        IssuersResponse {
            list: self.to_bytes(),
            signature: key.sign(Self::LABEL, self).to_vec(),
        }
    }

    /// Reads the list of a domain's AS.
    ///
    /// # Errors
    /// [`TokenError::Malformed`], also for another's list, too many keys or a bad signature: the
    /// AS is to blame.
    pub fn read(
        response: &IssuersResponse,
        domain: &Domain,
        authentication_service: &PublicKey,
    ) -> Result<Self, TokenError> {
        let list = Self::from_bytes(&response.list).map_err(|_| TokenError::Malformed)?;
        let is_its = list.version == VERSION
            && list.domain == *domain
            && list.authentication_service == *authentication_service
            && list.keys.len() <= MAX_KEYS;
        authentication_service
            .verify(Self::LABEL, &list, &response.signature)
            .map_err(|BadSignature| TokenError::Malformed)?;
        if is_its {
            Ok(list)
        } else {
            Err(TokenError::Malformed)
        }
    }

    /// The key that issues at `now`, seconds since 1970: the newest, where two do.
    #[must_use]
    pub fn current(&self, now: u64) -> Option<&IssuerEntry> {
        let issues = |entry: &&IssuerEntry| entry.not_before <= now && now < entry.issues_until;
        let issuing = self.keys.iter().filter(issues);
        issuing.max_by_key(|entry| entry.not_before)
    }
}

tls_struct! {
    /// An account's request for a batch.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Draw {
        /// [`VERSION`].
        pub version: u16,
        /// The AS that this is for.
        pub authentication_service: PublicKey,
        /// The account.
        pub name: Name,
        /// The device of the account whose key signs.
        pub device: PublicKey,
        /// Larger than in all draws of the account before: its device's time, in milliseconds since 1970.
        /// So an old draw is none, and the same draw again gets the same answer.
        pub number: u64,
        /// The id of the key that is to issue.
        pub token_key_id: [u8; 32],
        /// [`BATCH`] of them.
        pub requests: Vec<TokenRequest>,
    }
}

impl Draw {
    const LABEL: &str = "token draw";

    /// Signs with the device's key and wraps up.
    #[must_use]
    pub fn sign(&self, device: &SigningKey) -> DrawTokensRequest {
        DrawTokensRequest {
            draw: self.to_bytes(),
            signature: device.sign(Self::LABEL, self).to_vec(),
        }
    }

    /// Reads a draw. Whether its device is one of the account's is for the AS to look up.
    ///
    /// # Errors
    /// `TooLarge` or `Malformed` for another number of requests; `BadProof`.
    pub fn read(request: &DrawTokensRequest) -> Result<Self, Refusal> {
        const MOST: usize = 1024 + BATCH * (3 + super::SIGNATURE);
        if request.draw.len() > MOST {
            return Err(Refusal::TooLarge);
        }
        let malformed = || Refusal::Malformed("draw".into());
        let draw = Self::from_bytes(&request.draw).map_err(|_| malformed())?;
        if draw.version != VERSION || draw.requests.len() != BATCH {
            return Err(malformed());
        }
        draw.device
            .verify(Self::LABEL, &draw, &request.signature)
            .map_err(|_| Refusal::BadProof)?;
        Ok(draw)
    }
}

impl DrawTokensResponse {
    /// Wraps the answers to a draw's requests up, in their order.
    #[must_use]
    pub fn of(responses: &[TokenResponse]) -> Self {
        let responses = responses.iter().map(Encode::to_bytes);
        Self {
            token_responses: responses.collect(),
        }
    }

    /// Reads the answers to a whole batch.
    ///
    /// # Errors
    /// [`TokenError::Malformed`], also for another number of them: the AS is to blame.
    pub fn read(&self) -> Result<Vec<TokenResponse>, TokenError> {
        if self.token_responses.len() != BATCH {
            return Err(TokenError::Malformed);
        }
        let responses = self.token_responses.iter();
        responses
            .map(|bytes| TokenResponse::from_bytes(bytes).map_err(|_| TokenError::Malformed))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_makes_a_batch() {
        let planned: usize = PLAN.iter().map(|(_, tokens)| tokens).sum();
        assert_eq!(planned, BATCH);
        let purposes: Vec<_> = PLAN.iter().map(|(purpose, _)| *purpose).collect();
        assert_eq!(purposes, TokenPurpose::ALL);
    }

    fn entry(times: [u64; 3]) -> IssuerEntry {
        IssuerEntry {
            token_key: times[0].to_be_bytes().into(),
            not_before: times[0],
            issues_until: times[1],
            not_after: times[2],
        }
    }

    #[test]
    fn a_list_is_its_services() {
        let key = SigningKey::from_seed([1; 32].into());
        let list = IssuerList {
            version: VERSION,
            domain: "example.org".parse().unwrap(),
            authentication_service: key.public(),
            keys: vec![entry([10, 20, 30]), entry([15, 25, 35])],
        };
        let signed = list.sign(&key);
        let read = |signed: &IssuersResponse, domain: &str, key: &PublicKey| {
            IssuerList::read(signed, &domain.parse().unwrap(), key)
        };
        let (its, other) = (key.public(), SigningKey::from_seed([2; 32].into()));
        assert_eq!(read(&signed, "example.org", &its), Ok(list.clone()));
        let wrong = Err(TokenError::Malformed);
        assert_eq!(read(&signed, "example.net", &its), wrong);
        assert_eq!(read(&signed, "example.org", &other.public()), wrong);
        assert_eq!(read(&list.sign(&other), "example.org", &its), wrong);
        // What it says of another, and more keys than there are ever.
        let mut of_another = list.clone();
        of_another.authentication_service = other.public();
        assert_eq!(read(&of_another.sign(&key), "example.org", &its), wrong);
        let mut long = list.clone();
        long.keys = vec![entry([10, 20, 30]); MAX_KEYS];
        assert_eq!(
            read(&long.sign(&key), "example.org", &its),
            Ok(long.clone())
        );
        long.keys.push(entry([15, 25, 35]));
        assert_eq!(read(&long.sign(&key), "example.org", &its), wrong);

        // The newest of those that issue.
        let current = |now| list.current(now).map(|entry| entry.not_before);
        let times = [9, 10, 14, 15, 19, 20, 24, 25];
        let expected = [
            None,
            Some(10),
            Some(10),
            Some(15),
            Some(15),
            Some(15),
            Some(15),
            None,
        ];
        assert_eq!(times.map(current), expected);
    }

    #[test]
    fn a_draw_is_its_devices_and_whole() {
        let device = SigningKey::from_seed([1; 32].into());
        let request = TokenRequest {
            token_type: 2,
            truncated_token_key_id: 3,
            blinded_msg: [4; 256],
        };
        let draw = Draw {
            version: VERSION,
            authentication_service: PublicKey([5; 32]),
            name: "alice".parse().unwrap(),
            device: device.public(),
            number: 6,
            token_key_id: [7; 32],
            requests: vec![request.clone(); BATCH],
        };
        let signed = draw.sign(&device);
        assert_eq!(Draw::read(&signed), Ok(draw.clone()));
        let mut changed = signed.clone();
        changed.draw[60] ^= 1;
        assert!(Draw::read(&changed).is_err());
        let other = SigningKey::from_seed([2; 32].into());
        assert_eq!(Draw::read(&draw.sign(&other)), Err(Refusal::BadProof));
        for (count, refusal) in [
            (BATCH - 1, Refusal::Malformed("draw".into())),
            (BATCH + 1, Refusal::Malformed("draw".into())),
            (1000, Refusal::TooLarge),
        ] {
            let mut draw = draw.clone();
            draw.requests = vec![request.clone(); count];
            assert_eq!(Draw::read(&draw.sign(&device)), Err(refusal));
        }
    }
}
