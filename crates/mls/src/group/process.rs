//! Reading what others sent (RFC 9420, sections 6, 12.1 and 12.4.2).

use super::Group;
use super::epoch::{Past, PublicState, Transition};
use super::error::CommitError;
use super::pending::Full;
use super::proposals::{Applied, Sourced};
use super::resumption::{PastPsks, psk_secrets};
use crate::code_point::WireFormat;
use crate::codec::{Bytes, Decode, DecodeError, Encode, Reader};
use crate::commit::Commit;
use crate::component::safe_aad;
use crate::context::Context;
use crate::crypto::{Secret, SignaturePublicKey};
use crate::error::{Error, InvalidMessage};
use crate::extension::{ExtensionType, Extensions, ExternalSender};
use crate::framing::{
    AuthenticatedContent, Content, ContentType, FramedContent, PrivateMessage, PublicMessage,
    Sender,
};
use crate::key_schedule::external_init_secret;
use crate::leaf_node::LeafNode;
use crate::message::MlsMessage;
use crate::message_keys::{HeldKey, MessageKeys, Opened};
use crate::proposal::{Proposal, ProposalRef};
use crate::records::Changes;
use crate::transcript::verify_confirmation_tag;
use crate::tree::OwnKeys;
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
    /// A proposal. It is judged when it is committed, by the protocol's rules only: whether this sender
    /// may propose this, the caller judges, and has its commits leave out what may not be (see
    /// [`IncludeProposals`](super::IncludeProposals)).
    Proposal {
        /// Who proposes: a member or, in clear, somebody outside the group.
        sender: Sender,
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
    /// A commit that removes us. Its framing, signature, proposals and public keys were checked; the
    /// rest cannot be checked by who is removed.
    Removed {
        /// Who committed.
        by: Sender,
        /// What the commit did.
        effects: CommitEffects,
        /// The GroupContext's extensions after it.
        extensions: Extensions,
    },
}

crate::tls_struct! {
    /// What a commit did. The encoding is for a client that stores its attempt.
    #[derive(Clone, Debug, PartialEq)]
    pub struct CommitEffects {
        /// Who committed: a member or, by an external commit, a new one.
        pub sender: Sender,
        /// The committer's leaf in the new epoch.
        pub committer: LeafIndex,
        /// The committer's new leaf node, if it renewed its keys.
        pub path: Option<LeafNode>,
        /// The proposals, each with who made it, in the order of the commit.
        pub proposals: Vec<(Sender, Proposal)>,
        /// Where new members are, in the order of their Adds. Who joined by an external commit is the
        /// committer.
        pub added: Vec<LeafIndex>,
        /// Who was removed, with the leaf nodes that they had.
        pub removed: Vec<(LeafIndex, LeafNode)>,
        /// Whose leaves were replaced by Updates.
        pub updated: Vec<LeafIndex>,
    }
}

impl CommitEffects {
    pub(super) fn new(
        sender: Sender,
        path: Option<LeafNode>,
        proposals: Vec<Sourced>,
        applied: Applied,
    ) -> Self {
        Self {
            sender,
            committer: applied.committer,
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

/// Where a commit leads.
#[allow(clippy::large_enum_variant)] // One value for each commit, taken apart at once.
enum Followed {
    Next(CommitEffects, Group, MessageKeys, Changes),
    Removed(CommitEffects, Extensions),
}

impl Group {
    /// Reads a message of this epoch. `keys` are the epoch's message keys; if this fails, they are
    /// unchanged.
    ///
    /// Application messages of past epochs are for [`MessageKeys::decrypt`] of their epoch.
    ///
    /// Proposals and commits from outside the group are taken as the RFC allows them; whether this
    /// group lets anybody in by an external commit, the caller judges by the [`Sender`].
    ///
    /// # Errors
    /// - [`Error::OwnMessage`]: we sent it ourselves.
    /// - [`Error::WrongGroup`], [`Error::WrongEpoch`]: it is for another group or epoch, or `keys`
    ///   are.
    /// - [`Error::KeyGone`]: it came before, or too late.
    /// - [`Error::UnexpectedWireFormat`]: it is no message to a group.
    /// - [`Error::TooManyProposals`]: nobody's fault; [`InvalidMessage::TooManyProposals`] is the sender's.
    /// - [`Error::Decode`], [`Error::Crypto`], [`Error::InvalidMessage`]: the sender's fault.
    /// - [`Error::Proposal`], [`Error::Commit`]: the committer's fault, but where we may be the ones who
    ///   lack something: [`UnknownPsk`](super::ProposalError::UnknownPsk) and
    ///   [`UnknownResumptionPsk`](super::ProposalError::UnknownResumptionPsk), a PSK that we never had or
    ///   did not keep; [`UnknownReference`](super::ProposalError::UnknownReference), a proposal that did not
    ///   reach us; [`PathError::NoKey`](crate::tree::path::PathError::NoKey), a private key.
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

    /// The content of a message of this epoch, with its signature verified. Uses nothing up.
    pub(crate) fn open(
        &self,
        keys: &MessageKeys,
        message: &MlsMessage,
    ) -> Result<AuthenticatedContent, Error> {
        self.check_keys(keys)?;
        match message {
            MlsMessage::PublicMessage(message) => self.open_public(message),
            MlsMessage::PrivateMessage(message) => Ok(keys.open(message)?.content),
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
        let Opened { content, key, .. } = keys.open(message)?;
        self.process_content(&content, Some(key), keys, ctx)
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
        let secrets = self.active_secrets();
        let secrets = secrets.map_err(|_| InvalidMessage::GroupSuspended)?;
        let content = message.unprotect(suite, &secrets.membership_key, context)?;
        content.verify(suite, &self.signature_key(&content.content)?, context)?;
        let used = safe_aad::is_used(&context.extensions);
        safe_aad::check(used, &content.content.authenticated_data)?;
        if content.content.sender == Sender::Member(self.own_index()) {
            return Err(Error::OwnMessage);
        }
        Ok(content)
    }

    /// The key that verifies a message in clear (RFC 9420, section 6.1).
    fn signature_key(&self, content: &FramedContent) -> Result<SignaturePublicKey, Error> {
        match (content.sender, &content.content) {
            (Sender::Member(leaf), _) => {
                let leaf = self.tree().leaf(leaf);
                let leaf = leaf.ok_or(InvalidMessage::UnknownSender)?;
                Ok(leaf.signature_key().into())
            }
            (Sender::External(place), _) => {
                let key = external_sender_key(self.extensions(), place);
                Ok(key.ok_or(InvalidMessage::UnknownExternalSender(place))?)
            }
            (Sender::NewMemberProposal, Content::Proposal(proposal)) => match &**proposal {
                Proposal::Add(add) => Ok(add.key_package.leaf_node.signature_key.clone()),
                other => Err(InvalidMessage::SenderProposal(other.proposal_type()).into()),
            },
            (Sender::NewMemberCommit, Content::Commit(commit)) => {
                let path = commit.path.as_ref().ok_or(CommitError::MissingPath)?;
                Ok(path.leaf_node.signature_key.clone())
            }
            _ => Err(InvalidMessage::SenderType.into()),
        }
    }

    /// Acts on a proposal or commit whose signature is valid. If it came encrypted, its `key` is to be used up once all is well.
    fn process_content(
        &self,
        content: &AuthenticatedContent,
        key: Option<HeldKey>,
        keys: &mut MessageKeys,
        ctx: &mut Context<'_>,
    ) -> Result<Processed, Error> {
        let sender = content.content.sender;
        let consume = || key.map_or_else(|| Ok(Changes::default()), |key| keys.consume(key));
        let authenticated_data = content.content.authenticated_data.clone();
        match &content.content.content {
            Content::Application(_) => Err(InvalidMessage::UnencryptedApplicationData.into()),
            Content::Proposal(proposal)
                if **proposal == Proposal::SelfRemove
                    && content.wire_format != WireFormat::PUBLIC_MESSAGE =>
            {
                Err(InvalidMessage::EncryptedSelfRemove.into())
            }
            Content::Proposal(proposal) => {
                let proposal = (**proposal).clone();
                let reference = ProposalRef::from(content.proposal_ref(self.suite()));
                let group = self.with_proposal(reference.clone(), sender, proposal.clone(), None);
                let group = group.map_err(|full| match full {
                    Full::OfSender => InvalidMessage::TooManyProposals.into(),
                    Full::OfAll => Error::TooManyProposals,
                })?;
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
                let followed = self.process_commit(sender, content, commit, ctx)?;
                let (effects, group, next_keys, next_changes) = match followed {
                    Followed::Next(effects, group, keys, changes) => {
                        (effects, group, keys, changes)
                    }
                    Followed::Removed(effects, extensions) => {
                        return Ok(Processed::Removed {
                            by: sender,
                            effects,
                            extensions,
                        });
                    }
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
        committer: Sender,
        content: &AuthenticatedContent,
        commit: &Commit,
        ctx: &mut Context<'_>,
    ) -> Result<Followed, Error> {
        let (suite, public) = (self.suite(), self.public());
        let sourced = self.resolve(committer, &commit.proposals)?;
        let (mut applied, mut tree) = public.apply(committer, &sourced, None, ctx)?;
        if applied.path_required && commit.path.is_none() {
            return Err(CommitError::MissingPath.into());
        }
        let new_members = applied.new_members();
        let mut own_keys: OwnKeys = self.state().own_keys.clone();
        if let Some(leaf_key) = applied.own_leaf_key.take() {
            own_keys.set_leaf_key(leaf_key);
        }
        let steps = match &commit.path {
            Some(path) => {
                public.check_path_signature(&applied, &path.leaf_node)?;
                let steps = tree
                    .merge_path(suite, applied.committer, path, &new_members)
                    .map_err(CommitError::Path)?;
                public.check_path_leaf(&applied, committer, &path.leaf_node, &tree, ctx)?;
                steps
            }
            None => Vec::new(),
        };
        let own = self.own_index();
        if applied.removed.iter().any(|(leaf, _)| *leaf == own) {
            let extensions = std::mem::take(&mut applied.extensions);
            let path = commit.path.as_ref().map(|path| path.leaf_node.clone());
            let effects = CommitEffects::new(committer, path, sourced, applied);
            return Ok(Followed::Removed(effects, extensions));
        }
        own_keys.retain_current(&tree);
        let provisional =
            public.provisional_context(&mut tree, std::mem::take(&mut applied.extensions))?;
        let commit_secret: Option<Secret> = match &commit.path {
            Some(path) => {
                let context = provisional.to_bytes();
                let secret = own_keys.open_path(suite, &tree, &steps, path, &context, &new_members);
                Some(secret.map_err(CommitError::Path)?)
            }
            None => None,
        };
        let own_secrets = self.active_secrets()?;
        let init_secret = match &applied.external_init {
            Some(kem_output) => {
                external_init_secret(suite, &own_secrets.external_secret, kem_output)
                    .map_err(CommitError::ExternalInit)?
            }
            None => own_secrets.init_secret.clone(),
        };
        let psks = psk_secrets(&applied.psks, &[self, ctx.psks])?;
        let Transition {
            context, secrets, ..
        } = public.advance(provisional, content, &init_secret, commit_secret, &psks)?;
        let tag = content
            .auth
            .confirmation_tag
            .clone()
            .ok_or(InvalidMessage::MissingConfirmationTag)?;
        let confirmed = &context.confirmed_transcript_hash;
        verify_confirmation_tag(suite, &secrets.confirmation_key, confirmed, &tag)
            .map_err(|_| CommitError::ConfirmationTag)?;
        let next = PublicState::new(suite, context, tree, tag);
        let past = Past {
            psks: PastPsks::after(self),
            reinit: applied.reinit.take(),
            replaced: next.tree.replaced_signature_keys(self.tree()),
        };
        let (group, keys, mut changes) = Self::enter(next, own_keys, secrets, past);
        group.record_changes(Some(self), &mut changes);
        let path = commit.path.as_ref().map(|path| path.leaf_node.clone());
        let effects = CommitEffects::new(committer, path, sourced, applied);
        Ok(Followed::Next(effects, group, keys, changes))
    }

    pub(super) fn check_keys(&self, keys: &MessageKeys) -> Result<(), Error> {
        let context = keys.group_context();
        if context.group_id != self.group_context().group_id {
            return Err(Error::WrongGroup);
        }
        if keys.epoch() != self.epoch() {
            return Err(Error::WrongEpoch {
                message: keys.epoch(),
                current: self.epoch(),
            });
        }
        // Two commits made in one epoch lead to two of the same number; only one is the group's.
        if context != self.group_context() {
            return Err(Error::WrongGroup);
        }
        Ok(())
    }
}

/// The key of the external sender at a place. Those before it are passed over unread: this comes before
/// the signature, so anybody can ask for it.
fn external_sender_key(extensions: &Extensions, place: u32) -> Option<SignaturePublicKey> {
    let find = |list: &[u8]| -> Result<SignaturePublicKey, DecodeError> {
        let mut list = Reader::new(Reader::new(list).prefixed()?);
        for _ in 0..place {
            list.prefixed()?; // The signature key.
            list.array::<2>()?; // The credential's type, and its content.
            list.prefixed()?;
        }
        Ok(ExternalSender::decode(&mut list)?.signature_key)
    };
    find(extensions.data(ExtensionType::EXTERNAL_SENDERS)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::{Certificate, Credential, CredentialType};
    use crate::extension::ExternalSenders;

    #[test]
    fn external_senders_are_found_by_their_places() {
        let credentials = [
            Credential::basic(*b"one"),
            Credential::X509 {
                certificates: vec![
                    Certificate {
                        cert_data: vec![1; 300].into()
                    };
                    2
                ],
            },
            Credential::Custom {
                credential_type: CredentialType(0xf0f0),
                data: Bytes::from(*b"three"),
            },
        ];
        let keys =
            [[1_u8; 32], [2; 32], [3; 32]].map(|key| SignaturePublicKey::from(key.as_slice()));
        let senders = keys.clone().into_iter().zip(credentials);
        let external_senders = senders.map(|(signature_key, credential)| ExternalSender {
            signature_key,
            credential,
        });
        let extensions = Extensions::default().with(&ExternalSenders {
            external_senders: external_senders.collect(),
        });
        for (place, key) in keys.into_iter().enumerate() {
            assert_eq!(external_sender_key(&extensions, place as u32), Some(key));
        }
        for place in [3, u32::MAX] {
            assert_eq!(external_sender_key(&extensions, place), None);
        }
        assert_eq!(external_sender_key(&Extensions::default(), 0), None);
    }
}
