//! What can be wrong with proposals, commits and Welcomes.

use crate::code_point::ProtocolVersion;
use crate::codec::Bytes;
use crate::component::ComponentID;
use crate::context::CredentialError;
use crate::credential::CredentialType;
use crate::crypto::CryptoError;
use crate::extension::ExtensionType;
use crate::proposal::ProposalType;
use crate::psk::ResumptionPSKUsage;
use crate::tree::path::PathError;
use crate::tree::{Capability, LeafNodeError, TreeError};
use crate::tree_math::LeafIndex;

/// Why a KeyPackage is not valid for a group (RFC 9420, section 10.1). Its owner is to blame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyPackageError {
    /// It is for another version of the protocol.
    #[error("the key package is for another protocol version")]
    Version,
    /// It is for another cipher suite.
    #[error("the key package is for another cipher suite")]
    CipherSuite,
    /// Its leaf node is not valid.
    #[error("leaf node of the key package: {0}")]
    LeafNode(#[from] LeafNodeError),
    /// Its signature is not valid.
    #[error("the signature of the key package is not valid: {0}")]
    Signature(CryptoError),
    /// The init key is also the leaf's encryption key.
    #[error("the init key of the key package is also its encryption key")]
    InitKeyReused,
    /// The init key is no key of the suite.
    #[error("the init key of the key package is not valid: {0}")]
    InitKey(CryptoError),
}

/// Why a list of proposals cannot be committed (RFC 9420, sections 12.1 and 12.2). The committer is
/// to blame, who may have been misled by the author of a proposal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposalError {
    /// A reference to a proposal that did not reach us in this epoch.
    #[error("a proposal is referenced that is not known")]
    UnknownReference,
    /// An Update by the committer, who has to use the path.
    #[error("the committer updates itself by a proposal")]
    UpdateOfCommitter,
    /// A Remove of the committer.
    #[error("the committer removes itself")]
    RemoveOfCommitter,
    /// A Remove or Update of a leaf that is blank or outside the tree.
    #[error("leaf {0} has no member")]
    NoSuchMember(LeafIndex),
    /// Two Updates or Removes of one leaf.
    #[error("leaf {0} is updated or removed twice")]
    SameLeafTwice(LeafIndex),
    /// A KeyPackage is not valid for the group.
    #[error(transparent)]
    KeyPackage(#[from] KeyPackageError),
    /// The leaf node of an Update is not valid.
    #[error("update of leaf {leaf}: {error}")]
    Update {
        /// Whose.
        leaf: LeafIndex,
        /// What is wrong.
        error: LeafNodeError,
    },
    /// A key is in the group twice after the changes: for one, a client is added that is a member.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// More than one GroupContextExtensions.
    #[error("the group's extensions are replaced twice")]
    SecondGroupContextExtensions,
    /// A known extension has a content that cannot be read.
    #[error("extension {0} is malformed")]
    MalformedExtension(ExtensionType),
    /// The Authentication Service refuses a new external sender.
    #[error("an external sender's credential is not accepted: {0}")]
    ExternalSender(CredentialError),
    /// Some member lacks what the new extensions need.
    #[error("a member lacks {0:?}, which the new extensions of the group need")]
    MemberLacks(Capability),
    /// Some member does not support a credential type that is in use.
    #[error("not every member supports credentials of type {0}")]
    UnsupportedCredential(CredentialType),
    /// A PSK's nonce is not as long as the suite's hash.
    #[error("the nonce of a PSK has the wrong length")]
    PskNonce,
    /// A resumption PSK for a reinitialization or a branch, outside of one.
    #[error("a PSK's usage does not fit a commit")]
    PskUsage,
    /// One PSK twice.
    #[error("a PSK is used twice")]
    RepeatedPsk,
    /// We do not have the PSK. Nobody is to blame.
    #[error("a PSK is not known")]
    UnknownPsk,
    /// Some member does not support proposals of this kind.
    #[error("not every member supports proposals of type {0}")]
    UnsupportedProposal(ProposalType),
    /// A SelfRemove by value.
    #[error("a SelfRemove is not committed by reference")]
    SelfRemoveByValue,
    /// A second SelfRemove of ours in one epoch. The caller is to blame.
    #[error("we remove ourselves twice")]
    SecondSelfRemove,
    /// A proposal for a component that neither the application nor this crate knows.
    #[error("component {0} is not known")]
    UnknownComponent(ComponentID),
    /// What is proposed for a component of the draft's own does not have the component's form.
    #[error("the data that is proposed for component {0} is malformed")]
    MalformedComponentData(ComponentID),
    /// A component has no data that could be removed.
    #[error("component {0} has no data in the group")]
    NoComponentData(ComponentID),
    /// Data of a component is removed twice, or removed and updated.
    #[error("the data of component {0} is removed and changed at once")]
    ComponentConflict(ComponentID),
    /// The application refuses what is proposed for a component.
    #[error("the application refuses what is proposed for component {0}")]
    ComponentRefuses(ComponentID),
    /// A GroupContextExtensions changes the `app_data_dictionary`, which this group leaves to
    /// AppDataUpdate.
    #[error("the app_data_dictionary is replaced as a whole")]
    DictionaryReplaced,
    /// We do not have the resumption PSK: it is of an epoch that we were not in or did not keep, or of a
    /// group that the store does not know. Nobody is to blame.
    #[error("the resumption PSK of epoch {epoch} is not known")]
    UnknownResumptionPsk {
        /// Of which epoch.
        epoch: u64,
    },
    /// More PSKs than their counter can hold.
    #[error("more PSKs than a commit can carry")]
    TooManyPsks,
    /// A ReInit together with other proposals.
    #[error("a ReInit is not alone")]
    ReInitNotAlone,
    /// A ReInit to an older version of the protocol than the group has.
    #[error("a ReInit to the older version {0}")]
    ReInitVersion(ProtocolVersion),
    /// An ExternalInit by a member.
    #[error("an ExternalInit in a member's commit")]
    ExternalInit,
    /// An Update that is not from a member.
    #[error("an Update that is not from a member")]
    UpdateFromOutside,
    /// An external commit without an ExternalInit.
    #[error("an external commit without an ExternalInit")]
    MissingExternalInit,
    /// More than one ExternalInit.
    #[error("an external commit with two ExternalInits")]
    SecondExternalInit,
    /// An external commit that removes more than one leaf.
    #[error("an external commit with two Removes")]
    SecondRemoveInExternalCommit,
    /// A proposal of another type than an external commit may hold.
    #[error("a proposal of type {0} in an external commit")]
    NotInExternalCommit(ProposalType),
    /// A proposal by reference that is no SelfRemove: who joins cannot judge it.
    #[error("an external commit that refers to a proposal")]
    ReferenceInExternalCommit,
}

/// Why a commit is refused (RFC 9420, section 12.4). The committer is to blame, or the caller when
/// it is the committer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// No path, where the proposals need one.
    #[error("the commit needs a path and has none")]
    MissingPath,
    /// The leaf node of the path is not valid.
    #[error("leaf node of the path: {0}")]
    LeafNode(#[from] LeafNodeError),
    /// The path does not fit the tree, or does not open.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The committer's new leaf has a credential type that not everybody supports, or does not
    /// support one in use.
    #[error("not every member supports credentials of type {0}")]
    UnsupportedCredential(CredentialType),
    /// The confirmation tag is wrong: the committer has another view of the group.
    #[error("the confirmation tag does not match")]
    ConfirmationTag,
    /// The `kem_output` of an external commit is none of the suite's.
    #[error("the ExternalInit does not open: {0}")]
    ExternalInit(CryptoError),
    /// The group is at its last epoch, 2^64 - 1.
    #[error("the group has no more epochs")]
    LastEpoch,
}

/// Why a group does not follow from another one as it should (RFC 9420, sections 11.2, 11.3 and
/// 12.4.3.1). Its founder is to blame unless noted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SuccessorError {
    /// The Welcome is of a group that follows from another one:
    /// [`Group::join_successor`](super::Group::join_successor) takes both. The caller is to blame.
    #[error("the group follows from another one, in epoch {epoch}, which was not given")]
    NeedsPredecessor {
        /// How it follows.
        usage: ResumptionPSKUsage,
        /// From which group.
        group_id: Bytes,
        /// From which epoch.
        epoch: u64,
    },
    /// The Welcome is of a group that does not follow from another one.
    #[error("the group does not follow from another one")]
    NotLinked,
    /// The Welcome names more than one group that its own follows from.
    #[error("the group follows from two others")]
    SecondLink,
    /// The group follows from another one than was given. The caller is to blame.
    #[error("the group follows from another one than was given")]
    WrongPredecessor,
    /// The group is a branch of one that ended with a ReInit, which leads to one other group only.
    #[error("a branch of a group that was reinitialized")]
    BranchAfterReInit,
    /// A branch has the id of the group that it is a branch of.
    #[error("the branch has the id of the old group")]
    OldGroupId,
    /// The last commit to the old group holds no ReInit.
    #[error("the old group was not reinitialized")]
    NotReinitialized,
    /// The PSK is of another epoch of the old group than its last, to which the ReInit led.
    #[error("the PSK is of epoch {0} of the old group, which is not its last")]
    PskEpoch(u64),
    /// The new group is not in its epoch 1.
    #[error("the new group is in epoch {0}, not in its first")]
    Epoch(u64),
    /// The new group's id is not that of the ReInit.
    #[error("the new group has another id than the ReInit says")]
    GroupId,
    /// The new group's version is not that of the ReInit, or of the old group.
    #[error("the new group has another version")]
    Version,
    /// The new group's suite is not that of the ReInit, or of the old group.
    #[error("the new group has another cipher suite")]
    CipherSuite,
    /// The new group's extensions are not those of the ReInit.
    #[error("the new group has other extensions than the ReInit says")]
    Extensions,
    /// A member of the old group is not in the one that takes its place. The leaf is that of the old
    /// group.
    #[error("leaf {0} of the old group is not in the new one")]
    MissingMember(LeafIndex),
    /// Somebody in the new group is no member of the old one: the member at this place, counted from 0.
    #[error("member {0} of the new group is not in the old one")]
    NotInPredecessor(usize),
}

/// Why a Welcome is refused (RFC 9420, section 12.4.3.1). The committer is to blame unless noted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The Welcome has no part for this KeyPackage. The caller is to blame, or who delivered it.
    #[error("the Welcome is not for this key package")]
    NotForUs,
    /// The suites of Welcome and KeyPackage differ.
    #[error("the Welcome's cipher suite is not that of the key package")]
    CipherSuite,
    /// The suites of GroupInfo and KeyPackage differ.
    #[error("the group's cipher suite is not that of the key package")]
    GroupInfoCipherSuite,
    /// The group is of another version of the protocol than the KeyPackage, or of one that we do not
    /// implement.
    #[error("the group's protocol version is not that of the key package")]
    Version,
    /// A PSK cannot be used.
    #[error(transparent)]
    Psk(#[from] ProposalError),
    /// The group does not follow from another one as it should.
    #[error(transparent)]
    Successor(#[from] SuccessorError),
    /// Our part of the Welcome does not open.
    #[error("the Welcome cannot be decrypted: {0}")]
    Decryption(CryptoError),
    /// The GroupInfo in the Welcome does not open.
    #[error("the GroupInfo of the Welcome cannot be decrypted: {0}")]
    GroupInfoDecryption(CryptoError),
    /// There is no tree, neither in the Welcome nor from the caller.
    #[error("the ratchet tree is missing")]
    MissingTree,
    /// The tree is not valid, or not the group's.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A known extension of the group has a content that cannot be read.
    #[error("extension {0} is malformed")]
    MalformedExtension(ExtensionType),
    /// The GroupInfo's signer is no member.
    #[error("leaf {0}, which signed the GroupInfo, has no member")]
    NoSigner(LeafIndex),
    /// The GroupInfo's signature is not valid.
    #[error("the signature of the GroupInfo is not valid: {0}")]
    Signature(CryptoError),
    /// A message is no SelfRemove of this group and epoch, or not of the member that it names. The
    /// caller is to blame, or who delivered it.
    #[error("a message is no SelfRemove of this epoch")]
    SelfRemove,
    /// Our leaf is not in the tree.
    #[error("our leaf is not in the tree")]
    NoLeaf,
    /// The GroupInfo has no key for external commits.
    #[error("the GroupInfo has no external_pub")]
    MissingExternalPub,
    /// The key for external commits is no key of the suite.
    #[error("the external_pub is not valid: {0}")]
    ExternalPub(CryptoError),
    /// No leaf is of the client that joins again. The caller is to blame.
    #[error("no leaf is of the client that joins again")]
    NoFormerLeaf,
    /// The path secret does not fit the tree.
    #[error("the path secret does not fit the tree: {0}")]
    Path(#[from] PathError),
    /// The confirmation tag is wrong.
    #[error("the confirmation tag does not match")]
    ConfirmationTag,
    /// The private keys are not those of the KeyPackage. The caller is to blame.
    #[error("the private keys are not those of the key package")]
    PrivateKeys,
}
