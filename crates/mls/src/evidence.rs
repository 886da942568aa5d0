//! Evidence that one member sent one message, for somebody outside of the group: a moderator to whom a
//! member reports it.
//!
//! A member's signature covers its content and the epoch's GroupContext (RFC 9420, section 6.1), and so,
//! through the tree hash, its own leaf with its credential. [`Evidence`] is these, with the hashes that
//! lead from the leaf to the tree hash. Whoever has it can check it with nothing else than a judge of
//! credentials.
//!
//! # What it proves
//!
//! The holder of the leaf's signature key signed this content, as the member of that leaf, for this group
//! and epoch; and the credential was in that leaf. Who reports can change none of it: not a byte of the
//! content, and not whose it is.
//!
//! # What it does not prove
//!
//! - That the message was delivered, or when, or to whom. All of the GroupContext is the signer's word.
//! - That the group is real: a signer can invent one. It cannot be invented in another's name.
//! - More about a person than the judge says about the credential. A basic credential names whom its
//!   signer likes, and in a group with throw-away keys the evidence proves nothing about anybody.
//! - What was said before and after. Who reports chooses.
//!
//! # What it gives away
//!
//! The content, the GroupContext with the group's extensions, the sender's leaf, and public keys of
//! nodes above it. No secret, no other member, no other message.
//!
//! # Making it
//!
//! [`Group::evidence`] takes a message before or instead of [`Group::process`], and uses nothing up. Who may
//! want to report a message later keeps its [`Opened::content`], which
//! [`MessageKeys::open`] gives before [`MessageKeys::consume`], and the group of that epoch (a group is a
//! value), and calls [`Group::evidence_of`].
//!
//! [`Opened::content`]: crate::message_keys::Opened

use crate::code_point::ProtocolVersion;
use crate::codec::Bytes;
use crate::context::{AuthenticationService, CredentialError};
use crate::credential::Credential;
use crate::crypto::{CipherSuite, CryptoError, CryptoProvider, SignaturePublicKey};
use crate::error::{Error, InvalidMessage};
use crate::framing::{AuthenticatedContent, Content, Sender};
use crate::group::Group;
use crate::group_context::GroupContext;
use crate::leaf_node::{LeafNode, LeafPosition};
use crate::message::MlsMessage;
use crate::message_keys::MessageKeys;
use crate::tree::LeafProof;
use crate::tree_math::LeafIndex;

crate::tls_enum! {
    /// The form of [`Evidence`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum EvidenceVersion: u16 {
        /// This one.
        One = 1,
    }
}

crate::tls_struct! {
    /// All that is needed to check that a member sent a message.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Evidence {
        /// 1.
        pub version: EvidenceVersion,
        /// Of the message's epoch.
        pub group_context: GroupContext,
        /// The sender's.
        pub leaf_node: LeafNode,
        /// That the leaf is in the tree of the context.
        pub leaf_proof: LeafProof,
        /// The message, decrypted, with its signature. A commit's confirmation tag is empty, since nobody
        /// without the new epoch's secrets can check it.
        pub content: AuthenticatedContent,
    }
}

/// What evidence proves. Borrows from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Proven<'a> {
    /// In which group.
    pub group_id: &'a [u8],
    /// In which epoch.
    pub epoch: u64,
    /// Whose leaf.
    pub sender: LeafIndex,
    /// Who it is, as the judge took it.
    pub credential: &'a Credential,
    /// The key that signed.
    pub signature_key: &'a SignaturePublicKey,
    /// What was said in clear.
    pub authenticated_data: &'a [u8],
    /// What was said.
    pub content: &'a Content,
}

/// Why evidence proves nothing. Whoever gave it is to blame, but for what is not supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// We do not implement the protocol version: nobody's fault.
    #[error("protocol version {0} is not implemented")]
    UnsupportedVersion(ProtocolVersion),
    /// We do not implement the suite: nobody's fault.
    #[error("cipher suite {0} is not implemented")]
    UnsupportedCipherSuite(CipherSuite),
    /// The content is for another group or epoch than the context.
    #[error("the content is not for this group and epoch")]
    OtherGroup,
    /// The content is from outside of the group.
    #[error("the sender is no member")]
    NotByMember,
    /// The leaf is not in the tree of the context.
    #[error("the leaf is not in the group's tree")]
    NotInTree,
    /// The leaf's key is a point of small order, under which anybody can sign anything.
    #[error("the signature key of the leaf is of small order")]
    SmallOrderKey,
    /// The content comes with a confirmation tag, which the signature does not cover.
    #[error("the content has a confirmation tag, which proves nothing")]
    ConfirmationTag,
    /// The leaf was not signed by its own key.
    #[error("the signature of the leaf is not valid: {0}")]
    LeafSignature(CryptoError),
    /// The content was not signed by the leaf's key, or not in this context.
    #[error("the signature of the content is not valid: {0}")]
    Signature(CryptoError),
    /// The judge refuses the credential.
    #[error("the credential is not accepted: {0}")]
    Credential(CredentialError),
}

impl Evidence {
    /// Checks everything, and says what is proven. `judge` judges the credential in the group's
    /// extensions, at the time `now` (seconds since 1970) if that is given: the evidence itself knows no
    /// time.
    ///
    /// # Errors
    /// [`EvidenceError`].
    pub fn verify(
        &self,
        provider: &dyn CryptoProvider,
        judge: &dyn AuthenticationService,
        now: Option<u64>,
    ) -> Result<Proven<'_>, EvidenceError> {
        let context = &self.group_context;
        if !provider.versions().contains(&context.version) {
            return Err(EvidenceError::UnsupportedVersion(context.version));
        }
        let suite = provider.suite(context.cipher_suite);
        let suite = suite.ok_or(EvidenceError::UnsupportedCipherSuite(context.cipher_suite))?;
        let content = &self.content.content;
        if content.group_id != context.group_id || content.epoch != context.epoch {
            return Err(EvidenceError::OtherGroup);
        }
        let Sender::Member(sender) = content.sender else {
            return Err(EvidenceError::NotByMember);
        };
        if self.content.auth.confirmation_tag != cleared_tag(&content.content) {
            return Err(EvidenceError::ConfirmationTag);
        }
        let leaf = &self.leaf_node;
        if has_small_order(&leaf.signature_key) {
            return Err(EvidenceError::SmallOrderKey);
        }
        let tree_hash = self.leaf_proof.tree_hash(sender, leaf, suite);
        if tree_hash.is_none_or(|hash| *hash != *context.tree_hash) {
            return Err(EvidenceError::NotInTree);
        }
        let position = LeafPosition {
            group_id: &context.group_id,
            leaf_index: sender,
        };
        let encoded = crate::codec::Encode::to_bytes(leaf);
        leaf.verify_signature(suite, &encoded, Some(position))
            .map_err(EvidenceError::LeafSignature)?;
        self.content
            .verify(suite, &leaf.signature_key, context)
            .map_err(EvidenceError::Signature)?;
        let (credential, key) = (&leaf.credential, &leaf.signature_key);
        judge
            .validate(credential, key, &context.extensions, now)
            .map_err(EvidenceError::Credential)?;
        Ok(Proven {
            group_id: &context.group_id,
            epoch: context.epoch,
            sender,
            credential,
            signature_key: key,
            authenticated_data: &content.authenticated_data,
            content: &content.content,
        })
    }
}

/// The one confirmation tag that evidence has, so that one message has one evidence.
fn cleared_tag(content: &Content) -> Option<Bytes> {
    matches!(content, Content::Commit(_)).then(Bytes::default)
}

/// Whether a key is a point of small order on the curve of Ed25519 or Ed448, whose keys are told by their
/// length. Members may have such keys, but a signature under one proves nothing to others.
fn has_small_order(key: &[u8]) -> bool {
    // The sign of x is the highest bit, and of no matter: these are all values of y, among them those
    // that are not reduced.
    match key {
        [y @ .., last] if y.len() == 31 => {
            let last = last & 0x7f;
            let is_end = |low: &[u8], middle: u8| {
                low.contains(&y[0]) && y[1..].iter().all(|byte| *byte == middle)
            };
            (last == 0 && is_end(&[0, 1], 0))
                || (last == 0x7f && is_end(&[0xec, 0xed, 0xee], 0xff))
                || ORDER_8
                    .iter()
                    .any(|(start, end)| *start == y && *end == last)
        }
        [y @ .., last] if y.len() == 56 && last & 0x7f == 0 => {
            let (low, high) = y.split_at(28);
            let is = |part: &[u8], first: u8, rest: u8| {
                part[0] == first && part[1..].iter().all(|byte| *byte == rest)
            };
            ((is(low, 0, 0) || is(low, 1, 0)) && is(high, 0, 0))
                || ((is(low, 0xfe, 0xff) || is(low, 0xff, 0xff)) && is(high, 0xfe, 0xff))
                || (is(low, 0, 0) && is(high, 0xff, 0xff))
        }
        _ => false,
    }
}

/// The y of the points of order 8 of edwards25519, as all but the last byte and the last.
const ORDER_8: [([u8; 31], u8); 2] = [
    (
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef,
            0x98, 0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88,
            0x6d, 0x53, 0xfc,
        ],
        0x05,
    ),
    (
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10,
            0x67, 0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77,
            0x92, 0xac, 0x03,
        ],
        0x7a,
    ),
];

impl Group {
    /// Evidence that a message of this epoch is its sender's: application data, a proposal or a commit.
    /// `keys` are the epoch's message keys, of which none is used up; so it is made before the message is
    /// processed.
    ///
    /// # Errors
    /// Those with which [`process`](Self::process) refuses the message before it acts on it, and
    /// [`InvalidMessage::SenderType`] for a message from outside of the group.
    pub fn evidence(&self, keys: &MessageKeys, message: &MlsMessage) -> Result<Evidence, Error> {
        self.evidence_of(self.open(keys, message)?)
    }

    /// Evidence of a content of this epoch that was kept with its signature.
    ///
    /// # Errors
    /// The caller's: [`Error::WrongGroup`], [`Error::WrongEpoch`], [`InvalidMessage::SenderType`] for a
    /// content from outside of the group, [`InvalidMessage::UnknownSender`].
    pub fn evidence_of(&self, mut content: AuthenticatedContent) -> Result<Evidence, Error> {
        let context = self.group_context();
        if content.content.group_id != context.group_id {
            return Err(Error::WrongGroup);
        }
        if content.content.epoch != context.epoch {
            let (message, current) = (content.content.epoch, context.epoch);
            return Err(Error::WrongEpoch { message, current });
        }
        let Sender::Member(sender) = content.content.sender else {
            return Err(InvalidMessage::SenderType.into());
        };
        let leaf_node = self.member(sender).ok_or(InvalidMessage::UnknownSender)?;
        let leaf_proof = self.prove_leaf(sender);
        content.auth.confirmation_tag = cleared_tag(&content.content.content);
        Ok(Evidence {
            version: EvidenceVersion::One,
            group_context: context.clone(),
            leaf_node,
            leaf_proof: leaf_proof.ok_or(InvalidMessage::UnknownSender)?,
            content,
        })
    }
}
