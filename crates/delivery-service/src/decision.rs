//! Load, decide, commit: how every change of the service comes about.
//!
//! A [`Request`] that may change something says what it needs to see ([`Request::load`]) and,
//! without any store, clock or randomness of its own, what follows ([`Request::decide`]). The
//! [committer](crate::committer) runs whatever requests are waiting in one durable transaction, a
//! later one seeing the earlier; nobody gets an answer before that transaction is durable.

use folkmoot_protocol::keys::SigningKey;
use folkmoot_protocol::log::{Head, SignedHead};
use folkmoot_protocol::{Conflict, Refusal};

use crate::store::{Change, StoreError, View};

/// What a request comes to.
pub(crate) struct Decision<T> {
    /// What it changes, if anything.
    pub(crate) change: Option<Change>,
    /// What is answered when the change is durable.
    pub(crate) outcome: T,
}

impl<T> Decision<T> {
    /// Changes nothing.
    pub(crate) fn unchanged(outcome: T) -> Self {
        Self {
            change: None,
            outcome,
        }
    }
}

/// A refusal, before anything is signed.
#[derive(Debug, PartialEq)]
pub(crate) enum Denial {
    /// As it stands.
    Refusal(Refusal),
    /// A conflict, with the head that the request's key may see.
    Conflict(Conflict, Box<Head>),
    /// What the request rests on is damaged. The others in its transaction do not suffer for it.
    Damaged(StoreError),
}

impl Denial {
    /// The answer to give, signed where it has to be.
    pub(crate) fn sign(self, key: &SigningKey) -> Refusal {
        match self {
            Self::Refusal(refusal) => refusal,
            Self::Conflict(kind, head) => {
                Refusal::Conflict(kind, Box::new(SignedHead::sign(*head, key)))
            }
            Self::Damaged(_) => Refusal::Internal,
        }
    }
}

impl From<Refusal> for Denial {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

/// A request that may change one partition.
pub(crate) trait Request: Send + 'static {
    /// What it needs to see.
    type View;
    /// What is answered.
    type Outcome: Send + 'static;

    /// Loads what the decision rests on.
    fn load(&self, records: &dyn View) -> Result<Self::View, StoreError>;

    /// Decides; `now` in milliseconds since 1970.
    fn decide(&self, view: Self::View, now: u64) -> Result<Decision<Self::Outcome>, Denial>;
}
