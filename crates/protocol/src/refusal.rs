//! Why a service did not do what was asked.

use folkmoot_mls::codec::{Decode, Encode};
use prost::Message;

use crate::log::{Head, SignedHead};
use crate::refusal_v1::{self, Code};

/// Why an append lost. Final for its bytes: read on, then rebuild.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// Another commit follows the parent that this one names.
    TipMoved,
    /// A proposal of this epoch, old enough to have been seen, was not.
    UnseenProposals,
    /// The message belongs to an epoch that is over.
    EpochOver,
}

/// What is wrong with a payment: whoever sent it is to blame, but where somebody else had the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PaymentFault {
    /// There are fewer tokens than it costs, or more.
    #[error("it costs tokens, and none were given, or another number")]
    Missing,
    /// What was given is no token.
    #[error("what was given is no token")]
    Malformed,
    /// The service trusts no issuer that has the token's key.
    #[error("the service does not know the token's issuer")]
    UnknownIssuer,
    /// The time of the token's key is over.
    #[error("the token is too old")]
    ExpiredKey,
    /// The token is for another purpose.
    #[error("the token is for something else")]
    WrongPurpose,
    /// The token is for another service.
    #[error("the token is for another service")]
    WrongService,
    /// The issuer did not sign the token.
    #[error("the token is forged")]
    Forged,
    /// The token has paid for another request.
    #[error("the token is spent")]
    Spent,
}

/// A service's refusal. The first group blames the request, `Conflict` blames nobody, the last
/// group asks to send the same bytes again later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The request is not of the form that the protocol asks for; what is wrong is named.
    #[error("the service says that the request is malformed: {0}")]
    Malformed(String),
    /// Something is larger than its limit.
    #[error("the request is larger than the service allows")]
    TooLarge,
    /// The MLS message's own header says something else than the append declares.
    #[error("the message's header differs from what is declared")]
    HeaderMismatch,
    /// A signature does not verify.
    #[error("the proof of the right to do this does not verify")]
    BadProof,
    /// The nonce is too old or not this service's: fetch another.
    #[error("the nonce has expired")]
    StaleNonce,
    /// No such thing, or no right to it: the service tells no difference.
    #[error("there is no such thing at the service, or no right to it")]
    NotFound,
    /// The cursor lies before what the service still keeps.
    #[error("the log no longer reaches back that far")]
    Gap,
    /// The id is in use for something else.
    #[error("the id is already in use")]
    Taken,
    /// The mailbox holds as much as it may.
    #[error("the mailbox is full")]
    MailboxFull,
    /// The log holds as much as it may: what is old has to go first. Commits still fit.
    #[error("the group's history at the service is full; what is older than its retention goes")]
    LogFull,
    /// The service holds as many bytes of blobs as it may.
    #[error("the service has no room for more attachments at this time")]
    NoRoom,
    /// The request did not come fast enough: nobody may hold a place for long.
    #[error("the request came too slowly")]
    TooSlow,
    /// The payment is not good.
    #[error("the service refuses the payment: {0}")]
    Payment(PaymentFault),
    /// The append lost a race.
    #[error("the log has moved on ({0:?})")]
    Conflict(Conflict, Box<SignedHead>),
    /// There are as many commits after the parent as are taken.
    #[error("no more commits are taken after the one that this one follows")]
    ContestsClosed,
    /// Too much to do at this moment.
    #[error("the service is busy, try again in {0} ms")]
    Busy(u64),
    /// Too many requests.
    #[error("too many requests, try again in {0} ms")]
    Rate(u64),
    /// The log's commit interval has not passed.
    #[error("the group commits too often, try again in {0} ms")]
    CommitInterval(u64),
    /// The service failed: its operator is to blame.
    #[error("the service failed inside; its operator's log says why")]
    Internal,
    /// The name, or one that looks like it, belongs to another identity key.
    #[error("the name is taken, or looks like one that is")]
    NameTaken,
    /// The name is not of the form that the service registers.
    #[error(
        "the name cannot be registered: use 1 to 32 letters of one script, digits, '-', '_', '.'"
    )]
    NameInvalid,
    /// No user has that name.
    #[error("there is no such user")]
    UnknownUser,
}

impl Refusal {
    /// Whether sending the same bytes again later can succeed.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::Busy(_) | Self::Rate(_) | Self::CommitInterval(_) | Self::Internal
        )
    }

    /// The encoding that travels in a gRPC status.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        refusal_v1::Refusal::from(self).encode_to_vec()
    }

    /// Reads the encoding; `None` if it is none that this version knows.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let wire = refusal_v1::Refusal::decode(bytes).ok()?;
        let conflict = |kind| {
            let head = Head::from_bytes(&wire.head).ok()?;
            let signature = wire.head_signature.clone().into();
            Some(Self::Conflict(
                kind,
                Box::new(SignedHead { head, signature }),
            ))
        };
        Some(match wire.code() {
            Code::Unspecified => return None,
            Code::Malformed => Self::Malformed(wire.field),
            Code::TooLarge => Self::TooLarge,
            Code::HeaderMismatch => Self::HeaderMismatch,
            Code::BadProof => Self::BadProof,
            Code::StaleNonce => Self::StaleNonce,
            Code::NotFound => Self::NotFound,
            Code::Gap => Self::Gap,
            Code::Taken => Self::Taken,
            Code::MailboxFull => Self::MailboxFull,
            Code::LogFull => Self::LogFull,
            Code::TooSlow => Self::TooSlow,
            Code::NoRoom => Self::NoRoom,
            Code::Payment => Self::Payment(fault(wire.payment())?),
            Code::ConflictTipMoved => return conflict(Conflict::TipMoved),
            Code::ConflictUnseenProposals => return conflict(Conflict::UnseenProposals),
            Code::ConflictEpochOver => return conflict(Conflict::EpochOver),
            Code::Busy => Self::Busy(wire.retry_after_ms),
            Code::Rate => Self::Rate(wire.retry_after_ms),
            Code::CommitInterval => Self::CommitInterval(wire.retry_after_ms),
            Code::Internal => Self::Internal,
            Code::NameTaken => Self::NameTaken,
            Code::NameInvalid => Self::NameInvalid,
            Code::ContestsClosed => Self::ContestsClosed,
            Code::UnknownUser => Self::UnknownUser,
        })
    }

    fn code(&self) -> Code {
        match self {
            Self::Malformed(_) => Code::Malformed,
            Self::TooLarge => Code::TooLarge,
            Self::HeaderMismatch => Code::HeaderMismatch,
            Self::BadProof => Code::BadProof,
            Self::StaleNonce => Code::StaleNonce,
            Self::NotFound => Code::NotFound,
            Self::Gap => Code::Gap,
            Self::Taken => Code::Taken,
            Self::MailboxFull => Code::MailboxFull,
            Self::LogFull => Code::LogFull,
            Self::TooSlow => Code::TooSlow,
            Self::NoRoom => Code::NoRoom,
            Self::Payment(_) => Code::Payment,
            Self::Conflict(Conflict::TipMoved, _) => Code::ConflictTipMoved,
            Self::Conflict(Conflict::UnseenProposals, _) => Code::ConflictUnseenProposals,
            Self::Conflict(Conflict::EpochOver, _) => Code::ConflictEpochOver,
            Self::Busy(_) => Code::Busy,
            Self::Rate(_) => Code::Rate,
            Self::CommitInterval(_) => Code::CommitInterval,
            Self::Internal => Code::Internal,
            Self::NameTaken => Code::NameTaken,
            Self::NameInvalid => Code::NameInvalid,
            Self::ContestsClosed => Code::ContestsClosed,
            Self::UnknownUser => Code::UnknownUser,
        }
    }
}

impl From<&Refusal> for refusal_v1::Refusal {
    fn from(refusal: &Refusal) -> Self {
        let mut wire = Self {
            code: refusal.code().into(),
            ..Self::default()
        };
        match refusal {
            Refusal::Malformed(field) => wire.field = field.clone(),
            Refusal::Busy(wait) | Refusal::Rate(wait) | Refusal::CommitInterval(wait) => {
                wire.retry_after_ms = *wait;
            }
            Refusal::Payment(fault) => wire.set_payment((*fault).into()),
            Refusal::Conflict(_, signed) => {
                wire.head = signed.head.to_bytes();
                wire.head_signature = signed.signature.to_vec();
            }
            _ => {}
        }
        wire
    }
}

impl From<PaymentFault> for refusal_v1::PaymentFault {
    fn from(fault: PaymentFault) -> Self {
        match fault {
            PaymentFault::Missing => Self::Missing,
            PaymentFault::Malformed => Self::Malformed,
            PaymentFault::UnknownIssuer => Self::UnknownIssuer,
            PaymentFault::ExpiredKey => Self::ExpiredKey,
            PaymentFault::WrongPurpose => Self::WrongPurpose,
            PaymentFault::WrongService => Self::WrongService,
            PaymentFault::Forged => Self::Forged,
            PaymentFault::Spent => Self::Spent,
        }
    }
}

fn fault(wire: refusal_v1::PaymentFault) -> Option<PaymentFault> {
    use refusal_v1::PaymentFault as Wire;
    Some(match wire {
        Wire::Unspecified => return None,
        Wire::Missing => PaymentFault::Missing,
        Wire::Malformed => PaymentFault::Malformed,
        Wire::UnknownIssuer => PaymentFault::UnknownIssuer,
        Wire::ExpiredKey => PaymentFault::ExpiredKey,
        Wire::WrongPurpose => PaymentFault::WrongPurpose,
        Wire::WrongService => PaymentFault::WrongService,
        Wire::Forged => PaymentFault::Forged,
        Wire::Spent => PaymentFault::Spent,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ChainHash, EntryId, LogId};
    use crate::keys::SigningKey;

    #[test]
    fn a_refusal_survives_the_wire() {
        let head = Head {
            version: crate::VERSION,
            log: LogId([1; 32]),
            branch: EntryId([2; 32]),
            sequence: 3,
            chain: ChainHash([4; 32]),
            entry_time: 5,
            issued: 6,
        };
        let key = SigningKey::from_seed([7; 32].into());
        let signed = SignedHead::sign(head, &key);
        for refusal in [
            Refusal::Malformed("log".into()),
            Refusal::NotFound,
            Refusal::Rate(250),
            Refusal::NameTaken,
            Refusal::Payment(PaymentFault::Missing),
            Refusal::Payment(PaymentFault::Spent),
            Refusal::Conflict(Conflict::TipMoved, Box::new(signed)),
        ] {
            assert_eq!(
                Refusal::from_bytes(&refusal.to_bytes()),
                Some(refusal.clone())
            );
            #[cfg(feature = "grpc")]
            {
                let status = tonic::Status::from(refusal.clone());
                assert_eq!(Refusal::from_bytes(status.details()), Some(refusal));
            }
        }
    }
}
