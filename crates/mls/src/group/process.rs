//! Reading what others sent (RFC 9420, sections 6, 12.1 and 12.4.2).

use super::epoch::Transition;
use super::error::CommitError;
use super::proposals::{Applied, Sourced};
use super::{Group, PendingProposal};
use crate::codec::{Bytes, Encode};
use crate::commit::{Commit, UpdatePath};
use crate::context::Context;
use crate::crypto::Secret;
use crate::error::{Error, InvalidMessage};
use crate::framing::{
    AuthenticatedContent, Content, ContentType, PrivateMessage, PublicMessage, Sender,
};
use crate::leaf_node::{LeafNode, LeafPosition};
use crate::message::MlsMessage;
use crate::message_keys::{MessageKeys, Opened};
use crate::proposal::{Proposal, ProposalRef};
use crate::records::Changes;
use crate::transcript::verify_confirmation_tag;
use crate::tree::OwnKeys;
use crate::tree::leaf_validation::Standing;
use crate::tree::{LeafNodeError, Tree};
use crate::tree_math::LeafIndex;

/// What a message turned out to be.
#[derive(Debug)]
#[non_exhaustive]
#[allow(clippy::large_enum_variant)] // One value for each message, taken apart at once.
pub enum Processed {
    /// Application data.
    Application {
        /// Who sent it.
        sender: LeafIndex,
        /// What it says in clear.
        authenticated_data: Bytes,
        /// What it says.
        data: Bytes,
        /// What to store: the key is used up.
        changes: Changes,
    },
    /// A proposal. It is judged when it is committed.
    Proposal {
        /// Who proposes.
        sender: LeafIndex,
        /// What.
        proposal: Proposal,
        /// What a commit names it by.
        reference: ProposalRef,
        /// What it says in clear.
        authenticated_data: Bytes,
        /// The group that knows the proposal.
        group: Group,
        /// What to store.
        changes: Changes,
    },
    /// A commit: the group is in a new epoch.
    Commit {
        /// What the commit did.
        effects: CommitEffects,
        /// What it says in clear.
        authenticated_data: Bytes,
        /// The group in the new epoch.
        group: Group,
        /// The message keys of the new epoch.
        keys: MessageKeys,
        /// What to store: from the old epoch's records to the new one's.
        changes: Changes,
    },
    /// A commit that removes us. Its framing, signature and proposals were checked; the rest cannot be
    /// checked by who is removed.
    Removed {
        /// Who committed.
        by: LeafIndex,
    },
}

crate::tls_struct! {
    /// What a commit did. The encoding is for a client that stores its attempt.
    #[derive(Clone, Debug, PartialEq)]
    pub struct CommitEffects {
        /// Who committed.
        pub committer: LeafIndex,
        /// The committer's new leaf node, if it renewed its keys.
        pub path: Option<LeafNode>,
        /// The proposals, each with who made it, in the order of the commit.
        pub proposals: Vec<(LeafIndex, Proposal)>,
        /// Where new members are, in the order of their Adds.
        pub added: Vec<LeafIndex>,
        /// Who was removed, with the leaf nodes that they had.
        pub removed: Vec<(LeafIndex, LeafNode)>,
        /// Whose leaves were replaced by Updates.
        pub updated: Vec<LeafIndex>,
    }
}

impl CommitEffects {
    pub(super) fn new(
        committer: LeafIndex,
        path: Option<LeafNode>,
        proposals: Vec<Sourced>,
        applied: Applied,
    ) -> Self {
        Self {
            committer,
            path,
            proposals: proposals
                .into_iter()
                .map(|item| (item.sender, item.proposal))
                .collect(),
            added: applied.added.into_iter().map(|(leaf, _)| leaf).collect(),
            removed: applied.removed,
            updated: applied.updated,
        }
    }
}

impl Group {
    /// Reads a message of this epoch. `keys` are the epoch's message keys; if this fails, they are
    /// unchanged.
    ///
    /// Application messages of past epochs are for [`MessageKeys::decrypt`] of their epoch.
    ///
    /// # Errors
    /// - [`Error::OwnMessage`]: we sent it ourselves.
    /// - [`Error::WrongGroup`], [`Error::WrongEpoch`]: it is for another group or epoch, or `keys`
    ///   are.
    /// - [`Error::KeyGone`]: it came before, or too late.
    /// - [`Error::UnexpectedWireFormat`]: it is no message to a group.
    /// - [`Error::UnsupportedSender`]: it is from outside the group, which is not acted on yet.
    /// - [`Error::Decode`], [`Error::Crypto`], [`Error::InvalidMessage`]: the sender's fault.
    /// - [`Error::Proposal`], [`Error::Commit`]: the committer's fault.
    pub fn process(
        &self,
        keys: &mut MessageKeys,
        message: &MlsMessage,
        ctx: &mut Context<'_>,
    ) -> Result<Processed, Error> {
        self.check_suite(ctx)?;
        self.check_keys(keys)?;
        match message {
            MlsMessage::PublicMessage(message) => {
                let content = self.open_public(message)?;
                self.process_content(&content, None, keys, ctx)
            }
            MlsMessage::PrivateMessage(message) => self.process_private(message, keys, ctx),
            other => Err(Error::UnexpectedWireFormat(other.wire_format())),
        }
    }

    fn process_private(
        &self,
        message: &PrivateMessage,
        keys: &mut MessageKeys,
        ctx: &mut Context<'_>,
    ) -> Result<Processed, Error> {
        if message.content_type == ContentType::Application {
            let (decrypted, changes) = keys.decrypt(message)?;
            return Ok(Processed::Application {
                sender: decrypted.sender,
                authenticated_data: decrypted.authenticated_data,
                data: decrypted.data,
                changes,
            });
        }
        let opened = keys.open(message)?;
        self.process_content(&opened.content, Some(&opened), keys, ctx)
    }

    /// Checks a PublicMessage up to its signature.
    fn open_public(&self, message: &PublicMessage) -> Result<AuthenticatedContent, Error> {
        let (suite, context) = (self.suite(), self.group_context());
        if message.content.group_id != context.group_id {
            return Err(Error::WrongGroup);
        }
        if message.content.epoch != context.epoch {
            let (message, current) = (message.content.epoch, context.epoch);
            return Err(Error::WrongEpoch { message, current });
        }
        let Sender::Member(sender) = message.content.sender else {
            return Err(Error::UnsupportedSender(message.content.sender));
        };
        let content = message.unprotect(suite, &self.state().secrets.membership_key, context)?;
        let leaf = self
            .tree()
            .leaf(sender)
            .ok_or(InvalidMessage::UnknownSender)?;
        content.verify(suite, leaf.signature_key(), context)?;
        if sender == self.own_index() {
            return Err(Error::OwnMessage);
        }
        Ok(content)
    }

    /// Acts on a proposal or commit whose signature is valid. If it came encrypted, `opened` holds
    /// the key, to be used up once all is well.
    fn process_content(
        &self,
        content: &AuthenticatedContent,
        opened: Option<&Opened>,
        keys: &mut MessageKeys,
        ctx: &mut Context<'_>,
    ) -> Result<Processed, Error> {
        let Sender::Member(sender) = content.content.sender else {
            return Err(Error::UnsupportedSender(content.content.sender));
        };
        let mut consume = || opened.map_or_else(|| Ok(Changes::default()), |o| keys.consume(o));
        let authenticated_data = content.content.authenticated_data.clone();
        match &content.content.content {
            Content::Application(_) => Err(InvalidMessage::UnencryptedApplicationData.into()),
            Content::Proposal(proposal) => {
                let proposal = (**proposal).clone();
                let reference = ProposalRef::from(content.proposal_ref(self.suite()));
                let group = self.with_proposal(
                    reference.clone(),
                    PendingProposal {
                        number: self.next_number(),
                        sender,
                        proposal: proposal.clone(),
                        own_leaf_key: None,
                    },
                );
                let mut changes = consume()?;
                group.record_changes(Some(self), &mut changes);
                Ok(Processed::Proposal {
                    sender,
                    proposal,
                    reference,
                    authenticated_data,
                    group,
                    changes,
                })
            }
            Content::Commit(commit) => {
                let Some((effects, group, next_keys, next_changes)) =
                    self.process_commit(sender, content, commit, ctx)?
                else {
                    return Ok(Processed::Removed { by: sender });
                };
                let mut changes = consume()?;
                changes.append(next_changes);
                Ok(Processed::Commit {
                    effects,
                    authenticated_data,
                    group,
                    keys: next_keys,
                    changes,
                })
            }
        }
    }

    /// Follows a commit, or finds that it removes us.
    fn process_commit(
        &self,
        committer: LeafIndex,
        content: &AuthenticatedContent,
        commit: &Commit,
        ctx: &mut Context<'_>,
    ) -> Result<Option<(CommitEffects, Self, MessageKeys, Changes)>, Error> {
        let suite = self.suite();
        let sourced = self.resolve(committer, &commit.proposals)?;
        let mut applied = self.apply(committer, &sourced, ctx)?;
        if applied.path_required && commit.path.is_none() {
            return Err(CommitError::MissingPath.into());
        }
        let own = self.own_index();
        if applied.removed.iter().any(|(leaf, _)| *leaf == own) {
            return Ok(None);
        }
        let new_members = applied.new_members();
        let mut tree = applied.tree.clone();
        let mut own_keys: OwnKeys = self.state().own_keys.clone();
        if let Some(leaf_key) = applied.own_leaf_key.take() {
            own_keys.set_leaf_key(leaf_key);
        }
        let steps = match &commit.path {
            Some(path) => {
                self.check_path_signature(committer, path)?;
                let steps = tree
                    .merge_path(suite, committer, path, &new_members)
                    .map_err(CommitError::Path)?;
                self.check_path_leaf(&applied, committer, &path.leaf_node, &tree, ctx)?;
                steps
            }
            None => Vec::new(),
        };
        own_keys.retain_current(&tree);
        let provisional =
            self.provisional_context(&mut tree, std::mem::take(&mut applied.extensions))?;
        let commit_secret: Option<Secret> = match &commit.path {
            Some(path) => {
                let context = provisional.to_bytes();
                let secret = own_keys.open_path(suite, &tree, &steps, path, &context, &new_members);
                Some(secret.map_err(CommitError::Path)?)
            }
            None => None,
        };
        let Transition {
            context, secrets, ..
        } = self.advance(provisional, content, commit_secret, &applied.psks, ctx)?;
        let tag = content
            .auth
            .confirmation_tag
            .clone()
            .ok_or(InvalidMessage::MissingConfirmationTag)?;
        let confirmed = &context.confirmed_transcript_hash;
        verify_confirmation_tag(suite, &secrets.confirmation_key, confirmed, &tag)
            .map_err(|_| CommitError::ConfirmationTag)?;
        let (group, keys, mut changes) = Self::enter(suite, context, tree, own_keys, secrets, tag);
        group.record_changes(Some(self), &mut changes);
        let path = commit.path.as_ref().map(|path| path.leaf_node.clone());
        let effects = CommitEffects::new(committer, path, sourced, applied);
        Ok(Some((effects, group, keys, changes)))
    }

    fn check_path_signature(
        &self,
        committer: LeafIndex,
        path: &UpdatePath,
    ) -> Result<(), CommitError> {
        let position = LeafPosition {
            group_id: self.group_id(),
            leaf_index: committer,
        };
        let encoded = path.leaf_node.to_bytes();
        path.leaf_node
            .verify_signature(self.suite(), &encoded, Some(position))
            .map_err(|error| LeafNodeError::Signature(error).into())
    }

    /// Checks the leaf node of a path, but for its signature and its parent hash. `tree` has it.
    pub(super) fn check_path_leaf(
        &self,
        applied: &Applied,
        committer: LeafIndex,
        leaf_node: &LeafNode,
        tree: &Tree,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        let old = self
            .tree()
            .leaf(committer)
            .ok_or(InvalidMessage::UnknownSender)?
            .leaf_node();
        applied
            .rules(self.suite(), ctx.authentication_service, ctx.now)
            .check_new(leaf_node, Standing::Commit { old: &old })
            .map_err(CommitError::LeafNode)?;
        match tree.unsupported_credential() {
            Some(credential) => Err(CommitError::UnsupportedCredential(credential).into()),
            None => Ok(()),
        }
    }

    pub(super) fn check_keys(&self, keys: &MessageKeys) -> Result<(), Error> {
        let context = keys.group_context();
        if context.group_id != self.state().context.group_id {
            return Err(Error::WrongGroup);
        }
        if keys.epoch() != self.epoch() {
            return Err(Error::WrongEpoch {
                message: keys.epoch(),
                current: self.epoch(),
            });
        }
        // Two commits made in one epoch lead to two of the same number; only one is the group's.
        if *context != self.state().context {
            return Err(Error::WrongGroup);
        }
        Ok(())
    }
}
