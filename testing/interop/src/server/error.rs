//! Why a call was refused, and how that reads as a gRPC status.

use folkmoot_mls::code_point::WireFormat;
use folkmoot_mls::codec::DecodeError;
use folkmoot_mls::crypto::CryptoError;
use folkmoot_mls::error::Error;
use folkmoot_mls::group::ProposalError;
use tonic::{Code, Status};

/// Why a call was refused. The runner is to blame, or a client whose messages it carries.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nothing was ever kept under this id, or it was freed or pushed out by newer ones.
    #[error("there is nothing under id {0}")]
    UnknownId(u32),
    /// The id stands for something else.
    #[error("id {id} is no {expected}")]
    WrongKind {
        /// The id.
        id: u32,
        /// What the call needs.
        expected: &'static str,
    },
    /// All ids were given out.
    #[error("no id is left")]
    NoIds,
    /// More PSKs than one member may keep.
    #[error("this member keeps no more pre-shared keys")]
    TooManyPsks,
    /// A number does not fit its field in MLS.
    #[error("{field} {value} is no 16-bit number")]
    NumberTooLarge {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: u32,
    },
    /// Bytes cannot be read.
    #[error("{field} is malformed: {error}")]
    Malformed {
        /// The field.
        field: &'static str,
        /// What is wrong.
        error: DecodeError,
    },
    /// A message is of another kind than its field is for.
    #[error("{field} holds a message of kind {wire_format}")]
    WrongMessage {
        /// The field.
        field: &'static str,
        /// What it holds.
        wire_format: WireFormat,
    },
    /// A list of extensions has one kind twice.
    #[error("an extension comes twice")]
    RepeatedExtension,
    /// No member has this identity.
    #[error("no member has the identity {0:?}")]
    UnknownMember(String),
    /// No such kind of proposal, or not in this call.
    #[error("{0:?} is no type of proposal here")]
    ProposalType(String),
    /// A field is missing that the call needs.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// What should be a proposal is something else.
    #[error("a message among the proposals is none")]
    NotAProposal,
    /// What should be a commit is something else.
    #[error("the message is no commit")]
    NotACommit,
    /// The commit does not fit the call: one with a ReInit is for the calls that say so.
    #[error("the commit {0}")]
    WrongCommit(&'static str),
    /// There is no commit of our own that waits.
    #[error("no commit of this member is pending")]
    NoPendingCommit,
    /// The commit removes the member.
    #[error("the commit removes this member")]
    Removed,
    /// Message keys of this epoch are not kept.
    #[error("the keys of epoch {0} are not there")]
    NoKeys(u64),
    /// The engine refuses.
    #[error(transparent)]
    Engine(#[from] Error),
}

impl From<CryptoError> for ClientError {
    fn from(error: CryptoError) -> Self {
        Self::Engine(error.into())
    }
}

impl From<ProposalError> for ClientError {
    fn from(error: ProposalError) -> Self {
        Self::Engine(error.into())
    }
}

impl From<ClientError> for Status {
    fn from(error: ClientError) -> Self {
        let code = match &error {
            ClientError::UnknownId(_) => Code::NotFound,
            ClientError::NoIds | ClientError::TooManyPsks => Code::ResourceExhausted,
            ClientError::NoPendingCommit
            | ClientError::Removed
            | ClientError::NoKeys(_)
            | ClientError::Engine(_) => Code::FailedPrecondition,
            _ => Code::InvalidArgument,
        };
        Self::new(code, error.to_string())
    }
}
