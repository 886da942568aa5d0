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
        /// The message, decrypted, with its signature.
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
        let leaf = &self.leaf_node;
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
    pub fn evidence_of(&self, content: AuthenticatedContent) -> Result<Evidence, Error> {
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
        Ok(Evidence {
            version: EvidenceVersion::One,
            group_context: context.clone(),
            leaf_node,
            leaf_proof: leaf_proof.ok_or(InvalidMessage::UnknownSender)?,
            content,
        })
    }
}
