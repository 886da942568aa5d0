//! Why an operation was refused. The variant says who is to blame.

use crate::code_point::{ProtocolVersion, WireFormat};
use crate::codec::DecodeError;
use crate::component::ComponentID;
use crate::context::CredentialError;
use crate::crypto::{CipherSuite, CryptoError};
use crate::framing::ContentType;
use crate::group::{CommitError, JoinError, ProposalError};
use crate::proposal::ProposalType;
use crate::records::{DamagedRecord, RecordVersion};
use crate::tree_math::LeafIndex;
use crate::tree_pages::PageError;

/// Any failure of the engine. A failed call changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Malformed bytes: the sender's fault.
    #[error("malformed: {0}")]
    Decode(#[from] DecodeError),
    /// A primitive refused; see the variant for whose fault it is.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// A credential is not accepted: its owner's fault.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// A stored record cannot be read: our own storage is damaged.
    #[error(transparent)]
    DamagedRecord(#[from] DamagedRecord),
    /// A stored record is of another version of this crate, which this one does not read: nobody's fault.
    #[error(transparent)]
    RecordVersion(#[from] RecordVersion),
    /// The message is an invalid one: the sender's fault.
    #[error("the sender misbehaved: {0}")]
    InvalidMessage(#[from] InvalidMessage),
    /// The proposals cannot be committed: the committer's fault, but for [`ProposalError::UnknownPsk`],
    /// [`ProposalError::UnknownResumptionPsk`] and [`ProposalError::UnknownReference`], which may be ours.
    #[error(transparent)]
    Proposal(#[from] ProposalError),
    /// The commit is not valid: the committer's fault, but for
    /// [`PathError::NoKey`](crate::tree::path::PathError::NoKey), which may be ours.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The group cannot be joined: the inviter's fault, unless the variant says otherwise.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The pages of a tree are refused; see the variant for whose fault it is.
    #[error(transparent)]
    TreePages(#[from] PageError),

    /// The signature key is not the one in our leaf: the caller's fault.
    #[error("the signature key is not the one in our leaf")]
    WrongSigner,
    /// The group ended by a ReInit, and nothing is sent in it any more: the caller's fault.
    #[error("the group was reinitialized, and nothing is sent in it any more")]
    GroupSuspended,
    /// We do not implement the suite: nobody's fault.
    #[error("cipher suite {0} is not implemented")]
    UnsupportedCipherSuite(CipherSuite),
    /// We do not implement the protocol version: nobody's fault.
    #[error("protocol version {0} is not implemented")]
    UnsupportedVersion(ProtocolVersion),
    /// The message is of another kind than this call takes: the caller's fault.
    #[error("a message of kind {0} cannot be processed here")]
    UnexpectedWireFormat(WireFormat),
    /// The message holds something else than this call takes: the caller's fault.
    #[error("a message with content {0:?} cannot be processed here")]
    UnexpectedContent(ContentType),
    /// The message, or the message keys, are for another group, or for an epoch of this one that a lost
    /// race never let come to be: the caller's fault.
    #[error("the message is for another group")]
    WrongGroup,
    /// The message is for another epoch: it came too early or too late.
    #[error("the message is for epoch {message}, not {current}")]
    WrongEpoch {
        /// The message's epoch.
        message: u64,
        /// The epoch that it was offered to.
        current: u64,
    },
    /// The message is one of our own; nothing was used up.
    #[error("the message is our own")]
    OwnMessage,
    /// The message's key was used before, or given up: a repeated or very late message.
    #[error("the key of message {generation} of leaf {sender} is gone")]
    KeyGone {
        /// Who wrote it.
        sender: LeafIndex,
        /// Its number in the sender's ratchet.
        generation: u32,
    },
    /// The secret of a component was exported before in this epoch: the caller's fault.
    #[error("the secret of component {0} was exported before in this epoch")]
    AlreadyExported(ComponentID),
    /// We do not have the key that is asked for: the caller's fault.
    #[error("there is no such key, or it is not ours")]
    NoKey,
    /// As many proposals wait as may in one epoch: 1,024 of one member, or of all outside the group
    /// together, and 65,536 in all. Somebody has to commit first.
    #[error("no more proposals can wait in this epoch")]
    TooManyProposals,
    /// A sender ratchet is at its end (2^32 - 1 messages in one epoch): the caller has to commit.
    #[error("no more messages can be sent in this epoch")]
    RatchetExhausted,
}

/// What is wrong with a message that could be read. The sender is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidMessage {
    /// The padding is not all zeros (RFC 9420, section 6.3.1).
    #[error("the padding is not zero")]
    NonZeroPadding,
    /// The sender's leaf is blank or outside of the tree.
    #[error("the sender is no member")]
    UnknownSender,
    /// The group's list of external senders has no such place (RFC 9420, section 12.1.8.1).
    #[error("the group has no external sender {0}")]
    UnknownExternalSender(u32),
    /// The message is further ahead in its sender's ratchet than is followed.
    #[error("message {generation} is too far ahead")]
    TooFarAhead {
        /// Its number in the sender's ratchet.
        generation: u32,
    },
    /// Application data outside of a PrivateMessage (RFC 9420, section 6).
    #[error("application data is not encrypted")]
    UnencryptedApplicationData,
    /// A PublicMessage by a member has no membership tag, or one by another sender has one.
    #[error("the membership tag does not fit the sender")]
    MembershipTag,
    /// A sender of this type cannot send this content (RFC 9420, section 6.1).
    #[error("this sender cannot send this content")]
    SenderType,
    /// The authenticated data is no SafeAAD, which the group uses (draft-ietf-mls-extensions,
    /// section 4.9).
    #[error("the authenticated data is not shared as the group asks: {0}")]
    SafeAad(DecodeError),
    /// A sender from outside the group cannot make a proposal of this type (RFC 9420, section 12.1.8).
    #[error("this sender cannot make a proposal of type {0}")]
    SenderProposal(ProposalType),
    /// A SelfRemove is encrypted, so that those who join by external commits cannot read it
    /// (draft-ietf-mls-extensions, section 6.3).
    #[error("a SelfRemove is encrypted")]
    EncryptedSelfRemove,
    /// The group ended by a ReInit, and nobody may send in it any more (RFC 9420, section 12.4.2).
    #[error("the group was reinitialized, and nothing is sent in it any more")]
    GroupSuspended,
    /// More than 1,024 proposals of one member, or of all outside the group together, in one epoch.
    #[error("too many proposals of one sender in one epoch")]
    TooManyProposals,
    /// A commit carries no confirmation tag.
    #[error("the commit has no confirmation tag")]
    MissingConfirmationTag,
}
