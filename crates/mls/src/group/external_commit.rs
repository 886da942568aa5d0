//! Joining without being asked (RFC 9420, section 12.4.3.2).
//!
//! Whoever has a GroupInfo with an `external_pub` can make a commit that adds itself, and can remove an
//! earlier leaf of its own with it. The members read it as they read any commit.

use std::collections::BTreeMap;

use super::commit::PendingCommit;
use super::epoch::{Past, PublicState, Transition};
use super::error::{CommitError, JoinError};
use super::join::joined_tree;
use super::process::CommitEffects;
use super::proposals::Sourced;
use super::resumption::psk_secrets;
use super::{Group, GroupInfoOptions};
use crate::code_point::WireFormat;
use crate::codec::{Bytes, Encode};
use crate::commit::Commit;
use crate::component::safe_aad;
use crate::context::{AuthenticationService, Context};
use crate::crypto::SignatureKeyPair;
use crate::error::Error;
use crate::extension::{ExtensionType, ExternalPub};
use crate::framing::{AuthenticatedContent, Content, FramedContent, PublicMessage, Sender};
use crate::group_info::GroupInfo;
use crate::key_schedule::external_init;
use crate::leaf_node::LeafParameters;
use crate::message::MlsMessage;
use crate::proposal::{ExternalInit, Proposal, ProposalOrRef, ProposalRef};
use crate::psk::PreSharedKeyID;
use crate::records::Changes;
use crate::transcript::confirmation_tag;
use crate::tree::Tree;
use crate::tree_math::LeafIndex;

/// An external commit in the making. Its methods say what it is to do; [`build`](Self::build) makes it.
#[derive(Clone, Debug)]
#[must_use]
pub struct ExternalCommitBuilder {
    group_info: GroupInfo,
    leaf: LeafParameters,
    tree: Option<Bytes>,
    former: Former,
    psks: Vec<PreSharedKeyID>,
    self_removes: Vec<MlsMessage>,
    proposals: Vec<Proposal>,
    authenticated_data: Bytes,
    group_info_options: GroupInfoOptions,
}

/// An earlier leaf of the joiner.
#[derive(Clone, Copy, Debug)]
enum Former {
    None,
    At(LeafIndex),
    Find,
}

impl Group {
    /// Begins to join a group by what a member published about it, see
    /// [`group_info`](Self::group_info). That we are not in the group already is the caller's to check.
    pub fn join_external(group_info: GroupInfo, leaf: LeafParameters) -> ExternalCommitBuilder {
        ExternalCommitBuilder {
            group_info,
            leaf,
            tree: None,
            former: Former::None,
            psks: Vec::new(),
            self_removes: Vec::new(),
            proposals: Vec::new(),
            authenticated_data: Bytes::default(),
            group_info_options: GroupInfoOptions::default(),
        }
    }
}

impl ExternalCommitBuilder {
    /// The encoded `ratchet_tree`, where the GroupInfo does not hold it.
    pub fn tree(mut self, tree: impl Into<Bytes>) -> Self {
        self.tree = Some(tree.into());
        self
    }

    /// Joins again: removes our earlier leaf.
    pub fn resync(mut self, former: LeafIndex) -> Self {
        self.former = Former::At(former);
        self
    }

    /// Joins again: removes the leaf with our signature key, else the first one that the Authentication
    /// Service says is of our client.
    pub fn resync_own(mut self) -> Self {
        self.former = Former::Find;
        self
    }

    /// Brings a pre-shared key in, which `ctx.psks` must have when the commit is built.
    pub fn psk(mut self, psk: PreSharedKeyID) -> Self {
        self.psks.push(psk);
        self
    }

    /// Takes in the SelfRemove of a member, a message that the delivery service gives out with the
    /// GroupInfo (draft-ietf-mls-extensions, section 6.3). Of one member only the first is taken in. Where
    /// our own earlier leaf removes itself, no Remove of it is made.
    pub fn self_remove(mut self, message: MlsMessage) -> Self {
        self.self_removes.push(message);
        self
    }

    /// Takes in an AppDataUpdate or AppEphemeral by value; others cannot be in an external commit.
    pub fn proposal(mut self, proposal: Proposal) -> Self {
        self.proposals.push(proposal);
        self
    }

    /// Data in clear that the commit's signature covers; in a group that uses it, an encoded
    /// [`SafeAAD`](crate::component::SafeAAD).
    pub fn authenticated_data(mut self, data: impl Into<Bytes>) -> Self {
        self.authenticated_data = data.into();
        self
    }

    /// What the new epoch's GroupInfo holds.
    pub fn group_info(mut self, options: GroupInfoOptions) -> Self {
        self.group_info_options = options;
        self
    }

    /// Checks the GroupInfo and its tree as every joiner does, and makes the commit. `signer` is the key
    /// of our new leaf. The result holds no Welcome and has used up nothing. Its confirmation tag can be
    /// checked by the members only: to be told of a state that was never the group's is found out when
    /// they refuse the commit.
    ///
    /// # Errors
    /// - [`Error::UnsupportedCipherSuite`]: nobody's fault.
    /// - [`JoinError::MissingTree`], [`JoinError::NoFormerLeaf`],
    ///   [`ProposalError::UnknownPsk`](super::ProposalError::UnknownPsk): the caller's.
    /// - [`JoinError::SelfRemove`]: a message is no SelfRemove that members of this epoch take, or not its
    ///   sender's.
    /// - [`InvalidMessage::SafeAad`](crate::error::InvalidMessage::SafeAad): the caller's.
    /// - any other [`JoinError`]: the fault of whoever made the GroupInfo.
    /// - [`Error::Commit`], [`Error::Proposal`]: the group does not take our leaf, or what it replaces is
    ///   no leaf of ours.
    pub fn build(
        self,
        signer: &SignatureKeyPair,
        ctx: &mut Context<'_>,
    ) -> Result<PendingCommit, Error> {
        let public = self.public_state(ctx)?;
        let suite = public.suite;
        let external_pub: Option<ExternalPub> = self
            .group_info
            .extensions
            .get()
            .map_err(|_| JoinError::MalformedExtension(ExtensionType::EXTERNAL_PUB))?;
        let external_pub = external_pub
            .ok_or(JoinError::MissingExternalPub)?
            .external_pub;
        let (kem_output, init_secret) =
            external_init(suite, &external_pub, ctx.rng).map_err(JoinError::ExternalPub)?;
        let sender = Sender::NewMemberCommit;
        let leaving = self.self_removes(&public)?;
        let mut sourced = self.proposals(kem_output, signer, &public.tree, &leaving, ctx)?;
        let by_value = sourced.len();
        sourced.extend(leaving.keys().map(|leaf| Sourced {
            sender: Sender::Member(*leaf),
            proposal: Proposal::SelfRemove,
            own_leaf_key: None,
        }));
        let (mut applied, mut tree) = public.apply(sender, &sourced, None, ctx)?;
        let psks = psk_secrets(&applied.psks, &[ctx.psks])?;

        let (nobody, own) = (applied.new_members(), applied.committer);
        let group_id = public.context.group_id.clone();
        let new_path = tree
            .renew_path(suite, own, self.leaf, signer, &group_id, ctx.rng)
            .map_err(CommitError::Path)?;
        public.check_path_leaf(&applied, sender, new_path.leaf_node(), &tree, ctx)?;
        let extensions = std::mem::take(&mut applied.extensions);
        let provisional = public.provisional_context(&mut tree, extensions)?;
        let path = new_path
            .encrypt(
                suite,
                &tree,
                &provisional.to_bytes(),
                &nobody,
                ctx.workers,
                ctx.rng,
            )
            .map_err(CommitError::Path)?;

        let proposals = sourced[..by_value]
            .iter()
            .map(|item| ProposalOrRef::Proposal(Box::new(item.proposal.clone())))
            .chain(leaving.into_values().map(ProposalOrRef::Reference));
        let commit = Commit {
            proposals: proposals.collect(),
            path: Some(path),
        };
        let content = FramedContent {
            group_id,
            epoch: public.context.epoch,
            sender,
            authenticated_data: safe_aad::framed(
                safe_aad::is_used(&public.context.extensions),
                &self.authenticated_data,
            )?,
            content: Content::Commit(Box::new(commit)),
        };
        let wire_format = WireFormat::PUBLIC_MESSAGE;
        let mut commit =
            AuthenticatedContent::sign(suite, signer, wire_format, content, &public.context)?;
        let commit_secret = Some(new_path.commit_secret.clone());
        let Transition {
            context, secrets, ..
        } = public.advance(provisional, &commit, &init_secret, commit_secret, &psks)?;
        let confirmed = &context.confirmed_transcript_hash;
        let tag = confirmation_tag(suite, &secrets.confirmation_key, confirmed);
        commit.auth.confirmation_tag = Some(tag.clone());

        let own_keys = new_path.own_keys.clone();
        let next = PublicState::new(suite, context, tree, tag);
        let (group, keys, mut changes) = Group::enter(next, own_keys, secrets, Past::default());
        group.record_changes(None, &mut changes);
        let group_info = Some(group.group_info(signer, self.group_info_options)?);
        let path = Some(new_path.leaf_node().clone());
        let effects = CommitEffects::new(sender, path, sourced, applied);
        // There is no membership tag: a new member has no key for it yet.
        let message = PublicMessage::protect(suite, &[], &public.context, commit)?;
        Ok(PendingCommit {
            message: MlsMessage::PublicMessage(Box::new(message)),
            welcome: None,
            group_info,
            group,
            keys,
            changes,
            pages: None,
            sent: Changes::default(),
            effects,
        })
    }

    /// The group as the GroupInfo tells it, once that is found valid.
    fn public_state(&self, ctx: &mut Context<'_>) -> Result<PublicState, Error> {
        let context = &self.group_info.group_context;
        if ctx.check_version(context.version).is_err() {
            return Err(JoinError::Version.into());
        }
        let suite = ctx.suite(context.cipher_suite)?;
        let in_group_info = self.group_info.extensions.data(ExtensionType::RATCHET_TREE);
        let tree = self.tree.as_ref().or(in_group_info);
        let tree = tree.ok_or(JoinError::MissingTree)?;
        let tree = joined_tree(suite, tree, &self.group_info, ctx)?;
        let tag = self.group_info.confirmation_tag.clone();
        Ok(PublicState::new(suite, context.clone(), tree, tag))
    }

    /// What the commit holds by value: ExternalInit, the Remove of our earlier leaf unless it is
    /// `leaving`, the PSKs.
    fn proposals(
        &self,
        kem_output: Bytes,
        signer: &SignatureKeyPair,
        tree: &Tree,
        leaving: &BTreeMap<LeafIndex, ProposalRef>,
        ctx: &Context<'_>,
    ) -> Result<Vec<Sourced>, Error> {
        let former = match self.former {
            Former::None => None,
            Former::At(leaf) => Some(leaf),
            Former::Find => {
                let found = self.find_former(signer, tree, ctx.authentication_service);
                Some(found.ok_or(JoinError::NoFormerLeaf)?)
            }
        };
        // Beside a SelfRemove, a Remove of the same leaf is not valid.
        let former = former.filter(|leaf| !leaving.contains_key(leaf));
        let init = Proposal::ExternalInit(ExternalInit { kem_output });
        let psks = self.psks.iter().cloned().map(Proposal::psk);
        let proposals = std::iter::once(init)
            .chain(former.map(Proposal::remove))
            .chain(psks)
            .chain(self.proposals.iter().cloned());
        Ok(proposals
            .map(|proposal| Sourced {
                sender: Sender::NewMemberCommit,
                proposal,
                own_leaf_key: None,
            })
            .collect())
    }

    /// Who removes itself, by what. Each message is checked but for its membership tag, for which a joiner
    /// has no key yet.
    fn self_removes(
        &self,
        public: &PublicState,
    ) -> Result<BTreeMap<LeafIndex, ProposalRef>, JoinError> {
        let safe_aad = safe_aad::is_used(&public.context.extensions);
        let mut leaving = BTreeMap::new();
        for message in &self.self_removes {
            let MlsMessage::PublicMessage(message) = message else {
                return Err(JoinError::SelfRemove);
            };
            let content = AuthenticatedContent {
                wire_format: WireFormat::PUBLIC_MESSAGE,
                content: message.content.clone(),
                auth: message.auth.clone(),
            };
            let context = &public.context;
            let FramedContent {
                group_id,
                epoch,
                sender: Sender::Member(leaf),
                authenticated_data,
                content: Content::Proposal(proposal),
            } = &content.content
            else {
                return Err(JoinError::SelfRemove);
            };
            let ours = *group_id == context.group_id && *epoch == context.epoch;
            let sender = public.tree.leaf(*leaf);
            let signed = sender.is_some_and(|sender| {
                let key = sender.signature_key();
                content.verify(public.suite, key, context).is_ok()
            });
            let taken = safe_aad::check(safe_aad, authenticated_data).is_ok();
            if !ours || !signed || !taken || **proposal != Proposal::SelfRemove {
                return Err(JoinError::SelfRemove);
            }
            leaving
                .entry(*leaf)
                .or_insert_with(|| content.proposal_ref(public.suite).into());
        }
        Ok(leaving)
    }

    fn find_former(
        &self,
        signer: &SignatureKeyPair,
        tree: &Tree,
        service: &dyn AuthenticationService,
    ) -> Option<LeafIndex> {
        let new = &self.leaf.credential;
        tree.find_signature_key(signer.public_key()).or_else(|| {
            tree.leaves()
                .find(|(_, leaf)| {
                    let old = leaf.leaf_node().credential;
                    old == *new || service.is_successor(&old, new)
                })
                .map(|(index, _)| index)
        })
    }
}
