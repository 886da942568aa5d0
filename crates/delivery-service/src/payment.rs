//! Payment by anonymous tokens (DESIGN, "Mailboxes, shelves, blobs, tokens"; RFC 9577, section 2.2).
//!
//! A token is good here if a trusted issuer signed it for this service and for what it is to pay
//! for. It is spent by recording, under the hash of its nonce, which request it paid for: the same
//! request again is fine, another is refused. The record is a partition of its own, so a token is
//! spent in a change before that of the request; if the service stops in between, the same request
//! again goes through.
//!
//! Without trusted issuers nothing has to be paid; the rate per address, which stands in any case,
//! is then all that limits.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use folkmoot_protocol::delivery::Payment;
use folkmoot_protocol::keys::{PublicKey, hash};
use folkmoot_protocol::rate::{Limiter, Rate};
use folkmoot_protocol::token::draw::IssuerEntry;
use folkmoot_protocol::token::price::Price;
use folkmoot_protocol::token::{IssuerKey, Token, TokenChallenge, TokenError, TokenPurpose};
use folkmoot_protocol::{PaymentFault, Refusal};

use crate::decision::{Decision, Denial, Request};
use crate::store::{Change, Partition, RECORD_VERSION, StoreError, View, get, record};

/// An issuer whose tokens are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedIssuer {
    /// Its name: the domain of the AS.
    pub name: String,
    /// Its keys. One whose time is over may stay in the list for a while: then those who come too
    /// late are told so.
    pub keys: Vec<IssuerEntry>,
    /// How many of its tokens may be spent.
    pub rate: Rate,
}

record! {
    /// A spent token, for as long as its issuer's key lives.
    SpentRecord in Spent {
        /// The hash of the request that it paid for.
        request: [u8; 32],
    }
}

/// The issuers that are trusted, ready for use.
#[derive(Default)]
pub(crate) struct Trust {
    /// By id.
    keys: HashMap<[u8; 32], TrustedKey>,
}

struct TrustedKey {
    key: IssuerKey,
    /// Seconds since 1970.
    not_after: u64,
    issuer: Arc<Issuer>,
}

struct Issuer {
    name: String,
    rate: Rate,
    limiter: Limiter,
    /// Of the challenges that its tokens have to meet here.
    digests: [(TokenPurpose, [u8; 32]); TokenPurpose::ALL.len()],
}

impl Trust {
    /// Trusts issuers at the service with this key. Those that were trusted before at the same rate
    /// go on with what they have spent of it.
    ///
    /// # Errors
    /// [`TokenError::Key`].
    pub(crate) fn new(
        issuers: &[TrustedIssuer],
        delivery_service: &PublicKey,
        before: &Self,
    ) -> Result<Self, TokenError> {
        let mut keys = HashMap::new();
        for TrustedIssuer {
            name,
            keys: entries,
            rate,
        } in issuers
        {
            let mut known = before.keys.values().map(|key| &key.issuer);
            let issuer = known
                .find(|issuer| issuer.name == *name && issuer.rate == *rate)
                .cloned();
            let issuer = issuer.unwrap_or_else(|| {
                let digest = |purpose| {
                    let challenge = TokenChallenge::of(name, delivery_service, purpose);
                    (purpose, challenge.digest())
                };
                Arc::new(Issuer {
                    name: name.clone(),
                    rate: *rate,
                    limiter: Limiter::new(*rate),
                    digests: TokenPurpose::ALL.map(digest),
                })
            });
            for entry in entries {
                let key = entry.key()?;
                let trusted = TrustedKey {
                    not_after: entry.not_after,
                    issuer: issuer.clone(),
                    key: key.clone(),
                };
                // A key belongs to whoever is named first.
                keys.entry(*key.id()).or_insert(trusted);
            }
        }
        Ok(Self { keys })
    }

    /// Whether nobody is trusted, so that nothing has to be paid.
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The tokens of a payment, each to be spent on the request that it is for. `now` in
    /// milliseconds since 1970.
    ///
    /// # Errors
    /// `Payment`: who pays is to blame.
    pub(crate) fn check(
        &self,
        payment: Option<&Payment>,
        price: &Price,
        now: u64,
    ) -> Result<Vec<Spend>, Refusal> {
        let tokens = payment.map_or(&[][..], |payment| &payment.tokens);
        if tokens.len() != price.tokens {
            return Err(Refusal::Payment(PaymentFault::Missing));
        }
        let spend = |bytes: &Vec<u8>| self.check_token(bytes, price, now);
        let spends: Vec<_> = tokens
            .iter()
            .map(spend)
            .collect::<Result<_, _>>()
            .map_err(Refusal::Payment)?;
        let places: BTreeSet<_> = spends.iter().map(|spend| spend.place).collect();
        if places.len() != spends.len() {
            return Err(Refusal::Payment(PaymentFault::Missing));
        }
        Ok(spends)
    }

    fn check_token(&self, bytes: &[u8], price: &Price, now: u64) -> Result<Spend, PaymentFault> {
        let token = Token::read(bytes).map_err(|_| PaymentFault::Malformed)?;
        let trusted = self.keys.get(&token.token_key_id);
        let trusted = trusted.ok_or(PaymentFault::UnknownIssuer)?;
        if trusted.not_after <= now / 1000 {
            return Err(PaymentFault::ExpiredKey);
        }
        let mut digests = trusted.issuer.digests.iter();
        match digests.find(|(_, digest)| *digest == token.challenge_digest) {
            None => return Err(PaymentFault::WrongService),
            Some((purpose, _)) if *purpose != price.purpose => {
                return Err(PaymentFault::WrongPurpose);
            }
            Some(_) => {}
        }
        let verified = trusted.key.verify(&token);
        verified.map_err(|_| PaymentFault::Forged)?;
        Ok(Spend {
            place: Partition(hash("spent token", &(token.token_key_id, token.nonce))),
            request: price.request,
            until: trusted.not_after.saturating_mul(1000),
            issuer: trusted.issuer.clone(),
        })
    }
}

/// A good token that is to be spent.
pub(crate) struct Spend {
    /// Where it is recorded: the hash of its nonce.
    place: Partition,
    request: [u8; 32],
    /// Milliseconds since 1970 until which it is remembered.
    until: u64,
    issuer: Arc<Issuer>,
}

impl Spend {
    /// Whether it is spent already, on the same request.
    ///
    /// # Errors
    /// `Payment` if it was spent on another.
    pub(crate) fn is_known(&self, record: Option<&SpentRecord>) -> Result<bool, Refusal> {
        match record {
            None => Ok(false),
            Some(record) if record.request == self.request => Ok(true),
            Some(_) => Err(Refusal::Payment(PaymentFault::Spent)),
        }
    }

    /// Counts it against its issuer's rate.
    ///
    /// # Errors
    /// `Rate`.
    pub(crate) fn count(&self, now: u64) -> Result<(), Refusal> {
        self.issuer.limiter.spend(None, 1, now)
    }
}

impl Request for Spend {
    type View = Option<SpentRecord>;
    type Outcome = ();

    fn load(&self, records: &dyn View) -> Result<Self::View, StoreError> {
        get(records, self.place, &[])
    }

    fn decide(&self, view: Self::View, _now: u64) -> Result<Decision<()>, Denial> {
        if self.is_known(view.as_ref())? {
            return Ok(Decision::unchanged(()));
        }
        let mut change = Change::of(self.place);
        change.require::<SpentRecord>(&[], None);
        let record = SpentRecord {
            version: RECORD_VERSION,
            request: self.request,
        };
        change.put_until(&[], &record, Some(self.until));
        Ok(Decision {
            change: Some(change),
            outcome: (),
        })
    }
}
