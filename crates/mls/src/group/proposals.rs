//! What a list of proposals does, and whether it may (RFC 9420, sections 12.1 and 12.3). Committer and members call the same function, so that they agree.

use std::collections::BTreeSet;

use super::components;
use super::epoch::PublicState;
use super::error::{CommitError, KeyPackageError, ProposalError};
use super::list::{List, check_psks, check_reinit};
use super::process::CommitEffects;
use super::signatures::Signatures;
use super::{Group, PendingProposal};
use crate::code_point::ProtocolVersion;
use crate::codec::{Bytes, Encode};
use crate::component;
use crate::context::{AuthenticationService, Context, CredentialError};
use crate::crypto::{HpkeKeyPair, Suite};
use crate::error::Error;
use crate::extension::{ExtensionContent, ExtensionType};
use crate::extension::{Extensions, ExternalSenders, RequiredCapabilities};
use crate::framing::Sender;
use crate::key_package::KeyPackage;
use crate::leaf_node::{LeafNode, LeafPosition};
use crate::proposal::{Proposal, ProposalOrRef, ReInit};
use crate::psk::{PreSharedKeyID, ResumptionPSKUsage};
use crate::tree::leaf_validation::{Standing, needed};
use crate::tree::{Capability, Leaf, LeafNodeError, LeafRules, Tree};
use crate::tree_math::LeafIndex;

/// A proposal of a commit, with its author.
#[derive(Clone, Debug)]
pub(super) struct Sourced {
    pub sender: Sender,
    pub proposal: Proposal,
    /// The key pair of our own Update.
    pub own_leaf_key: Option<HpkeKeyPair>,
}

impl From<&PendingProposal> for Sourced {
    fn from(pending: &PendingProposal) -> Self {
        Self {
            sender: pending.sender,
            proposal: pending.proposal.clone(),
            own_leaf_key: pending.own_leaf_key.clone(),
        }
    }
}

/// What a list of proposals makes of the group, before any path and beside the tree.
pub(super) struct Applied {
    pub version: ProtocolVersion,
    /// The committer's leaf. Blank if it joins by this commit.
    pub committer: LeafIndex,
    pub extensions: Extensions,
    pub required: Option<RequiredCapabilities>,
    pub added: Vec<(LeafIndex, KeyPackage)>,
    pub removed: Vec<(LeafIndex, LeafNode)>,
    /// The earlier leaf of who joins by this commit.
    pub former: Option<LeafNode>,
    pub updated: Vec<LeafIndex>,
    /// The key pair of our own Update, if it is among the updates.
    pub own_leaf_key: Option<HpkeKeyPair>,
    pub psks: Vec<PreSharedKeyID>,
    /// The `kem_output` of an external commit.
    pub external_init: Option<Bytes>,
    pub reinit: Option<ReInit>,
    pub path_required: bool,
}

impl Applied {
    /// The rules for leaf nodes after the commit.
    pub fn rules<'a>(
        &'a self,
        suite: &'a dyn Suite,
        authentication_service: &'a dyn AuthenticationService,
        now: Option<u64>,
    ) -> LeafRules<'a> {
        let (extensions, required) = (&self.extensions, self.required.as_ref());
        LeafRules {
            version: self.version,
            suite,
            extensions,
            required,
            authentication_service,
            now,
        }
    }

    pub fn new_members(&self) -> BTreeSet<LeafIndex> {
        self.added.iter().map(|(leaf, _)| *leaf).collect()
    }
}

impl Group {
    /// Finds what a commit refers to.
    pub(super) fn resolve(
        &self,
        committer: Sender,
        proposals: &[ProposalOrRef],
    ) -> Result<Vec<Sourced>, ProposalError> {
        proposals
            .iter()
            .map(|proposal| match proposal {
                ProposalOrRef::Proposal(proposal) if **proposal == Proposal::SelfRemove => {
                    Err(ProposalError::SelfRemoveByValue)
                }
                ProposalOrRef::Proposal(proposal) => Ok(Sourced {
                    sender: committer,
                    proposal: (**proposal).clone(),
                    own_leaf_key: None,
                }),
                ProposalOrRef::Reference(reference) => {
                    let pending = self.state().proposals.get(reference);
                    // An unknown one may be a SelfRemove that did not reach us.
                    let pending = pending.ok_or(ProposalError::UnknownReference)?;
                    let is_self_remove = pending.proposal == Proposal::SelfRemove;
                    if committer == Sender::NewMemberCommit && !is_self_remove {
                        return Err(ProposalError::ReferenceInExternalCommit);
                    }
                    Ok(Sourced::from(pending))
                }
            })
            .collect()
    }

    /// Judges a commit on this group again, at the time of `ctx`, by all that other members judge by
    /// the time: for its author, who made it before it was ordered and must not merge what the
    /// others refuse. Signatures are not verified again.
    ///
    /// # Errors
    /// The same [`Error::Proposal`] or [`Error::Commit`] with which the others refuse it.
    pub fn judge_again(&self, effects: &CommitEffects, ctx: &mut Context<'_>) -> Result<(), Error> {
        let new_extensions = effects
            .proposals
            .iter()
            .find_map(|(_, proposal)| match proposal {
                Proposal::GroupContextExtensions(new) => Some(&new.extensions),
                _ => None,
            });
        let mut extensions = new_extensions.unwrap_or(self.extensions()).clone();
        if new_extensions.is_some() {
            check_external_senders(Some(self.extensions()), &extensions, ctx)?;
        }
        let proposals = effects.proposals.iter();
        let proposals = proposals.map(|(sender, proposal)| (*sender, proposal));
        components::apply(&mut extensions, effects.sender, proposals, ctx.components)?;
        let extensions = &extensions;
        let required: Option<RequiredCapabilities> =
            known(extensions).map_err(ProposalError::MalformedExtension)?;
        let rules = LeafRules {
            version: self.group_context().version,
            suite: self.suite(),
            extensions,
            required: required.as_ref(),
            authentication_service: ctx.authentication_service,
            now: ctx.now,
        };
        let mut credentials = Signatures::default();
        for (sender, proposal) in &effects.proposals {
            match proposal {
                Proposal::Add(add) => {
                    let claim = rules
                        .check_unjudged(&add.key_package.leaf_node, Standing::KeyPackage)
                        .map_err(|error| ProposalError::KeyPackage(error.into()))?;
                    credentials.credential(claim, blame_key_package);
                }
                Proposal::Update(update) => {
                    let Sender::Member(leaf) = *sender else {
                        continue;
                    };
                    let old = member(self.tree(), leaf)?.leaf_node();
                    let claim = rules
                        .check_unjudged(&update.leaf_node, Standing::Update { old: &old })
                        .map_err(|error| ProposalError::Update { leaf, error })?;
                    credentials.credential(claim, blame_update(leaf));
                }
                _ => {}
            }
        }
        credentials.judge(extensions, ctx)?;
        if let Some(path) = &effects.path {
            let old = match effects.sender {
                Sender::Member(leaf) => Some(member(self.tree(), leaf)?.leaf_node()),
                _ => former_leaf(effects.proposals.iter().map(|(_, p)| p), &effects.removed),
            };
            let old = old.as_ref();
            rules
                .check_new(path, Standing::Commit { old })
                .map_err(CommitError::LeafNode)?;
        }
        Ok(())
    }

    /// Checks extensions that are proposed as [`apply`](Self::apply) does, for the members as they are.
    pub(super) fn check_extensions(
        &self,
        extensions: &Extensions,
        ctx: &Context<'_>,
    ) -> Result<(), Error> {
        let required = known(extensions).map_err(ProposalError::MalformedExtension)?;
        check_external_senders(Some(self.extensions()), extensions, ctx)?;
        components::check_replaced(self.extensions(), extensions)?;
        Ok(check_needed(extensions, required.as_ref(), self.tree())?)
    }
}

impl PublicState {
    /// Judges a list of proposals and applies it to the tree, which is the second part of the result,
    /// and to the extensions. `link` is how the group follows from another one, for the first commit of
    /// one that does.
    pub fn apply(
        &self,
        committer: Sender,
        proposals: &[Sourced],
        link: Option<ResumptionPSKUsage>,
        ctx: &mut Context<'_>,
    ) -> Result<(Applied, Tree), Error> {
        let list = List::sort(proposals, &self.tree, committer)?;
        check_psks(&list.psks, self.suite, link)?;
        if let Some(reinit) = list.reinit {
            check_reinit(reinit, &self.context)?;
        }
        let old_extensions = &self.context.extensions;
        let mut extensions = match list.extensions {
            Some(new) => {
                // As it was proposed: AppDataUpdates of the same commit change the dictionary after it.
                components::check_replaced(old_extensions, new)?;
                new.clone()
            }
            None => old_extensions.clone(),
        };
        self.check_proposal_types(proposals, &list.removals)?;
        let sourced = proposals.iter().map(|item| (item.sender, &item.proposal));
        let dictionary_changed =
            components::apply(&mut extensions, committer, sourced.clone(), ctx.components)?;
        let required: Option<RequiredCapabilities> =
            known(&extensions).map_err(ProposalError::MalformedExtension)?;
        if list.extensions.is_some() {
            check_external_senders(Some(old_extensions), &extensions, ctx)?;
        }
        let mut applied = Applied {
            version: self.context.version,
            committer: LeafIndex(0),
            extensions,
            required,
            added: Vec::new(),
            removed: Vec::with_capacity(list.removals.len()),
            former: None,
            updated: list.updates.iter().map(|(leaf, _)| *leaf).collect(),
            own_leaf_key: list.own_leaf_key,
            psks: list.psks,
            external_init: list.external_init,
            reinit: list.reinit.cloned(),
            path_required: list.path_required,
        };
        self.check_leaves(&applied, &list.updates, &list.additions, ctx)?;
        for leaf in &list.removals {
            let old = member(&self.tree, *leaf)?;
            applied.removed.push((*leaf, old.leaf_node()));
        }
        let updates: Vec<_> = list
            .updates
            .iter()
            .map(|(leaf, new)| (*leaf, Leaf::from(*new)))
            .collect();
        let additions: Vec<_> = list
            .additions
            .iter()
            .map(|new| Leaf::from(&new.leaf_node))
            .collect();
        let mut tree = self.tree.clone();
        let places = tree
            .apply(&updates, &list.removals, &additions)
            .map_err(ProposalError::Tree)?;
        applied.added = places
            .into_iter()
            .zip(list.additions.into_iter().cloned())
            .collect();
        applied.committer = match committer {
            Sender::Member(leaf) => leaf,
            _ => tree.reserve_leaf().map_err(ProposalError::Tree)?,
        };
        if committer == Sender::NewMemberCommit {
            let proposals = sourced.map(|(_, proposal)| proposal);
            applied.former = former_leaf(proposals, &applied.removed);
        }
        let new_extensions = list.extensions.is_some() || dictionary_changed;
        check_everybody(&applied, &tree, new_extensions)?;
        Ok((applied, tree))
    }

    /// RFC 9420, section 12.2: every member who processes the commit supports each kind of proposal in
    /// it. Those who are removed do not matter.
    fn check_proposal_types(
        &self,
        proposals: &[Sourced],
        removals: &[LeafIndex],
    ) -> Result<(), ProposalError> {
        let types: BTreeSet<_> = proposals
            .iter()
            .map(|item| item.proposal.proposal_type())
            .collect();
        for proposal_type in types {
            let capability = Capability::Proposal(proposal_type);
            if self.tree.everybody_has(capability) {
                continue;
            }
            let mut lacking = self
                .tree
                .leaves()
                .filter(|(_, leaf)| !capability.is_in(&leaf.leaf_node()));
            if lacking.any(|(index, _)| !removals.contains(&index)) {
                return Err(ProposalError::UnsupportedProposal(proposal_type));
            }
        }
        Ok(())
    }

    /// Checks new leaf nodes and KeyPackages, all their signatures in one batch.
    fn check_leaves(
        &self,
        applied: &Applied,
        updates: &[(LeafIndex, &LeafNode)],
        additions: &[&KeyPackage],
        ctx: &mut Context<'_>,
    ) -> Result<(), Error> {
        let suite = self.suite;
        let rules = applied.rules(suite, ctx.authentication_service, ctx.now);
        let mut signatures = Signatures::default();
        for (leaf, new) in updates {
            let leaf = *leaf;
            let old = member(&self.tree, leaf)?.leaf_node();
            let claim = rules
                .check_unjudged(new, Standing::Update { old: &old })
                .map_err(|error| ProposalError::Update { leaf, error })?;
            signatures.credential(claim, blame_update(leaf));
            let position = LeafPosition {
                group_id: &self.context.group_id,
                leaf_index: leaf,
            };
            signatures.leaf_node(new, Some(position), move |error| ProposalError::Update {
                leaf,
                error: LeafNodeError::Signature(error),
            });
        }
        for key_package in additions {
            check_key_package(key_package, &rules, &mut signatures)
                .map_err(ProposalError::KeyPackage)?;
        }
        Ok(signatures.verify(suite, &applied.extensions, ctx)?)
    }

    /// Checks the signature of a path's leaf node, which covers its place.
    pub fn check_path_signature(
        &self,
        applied: &Applied,
        leaf_node: &LeafNode,
    ) -> Result<(), CommitError> {
        let position = LeafPosition {
            group_id: &self.context.group_id,
            leaf_index: applied.committer,
        };
        let encoded = leaf_node.to_bytes();
        leaf_node
            .verify_signature(self.suite, &encoded, Some(position))
            .map_err(|error| LeafNodeError::Signature(error).into())
    }

    /// Checks the leaf node of a path, but for its signature and its parent hash. `tree` has it.
    pub fn check_path_leaf(
        &self,
        applied: &Applied,
        committer: Sender,
        leaf_node: &LeafNode,
        tree: &Tree,
        ctx: &Context<'_>,
    ) -> Result<(), CommitError> {
        let old = match committer {
            Sender::Member(leaf) => self.tree.leaf(leaf).map(Leaf::leaf_node),
            _ => applied.former.clone(),
        };
        applied
            .rules(self.suite, ctx.authentication_service, ctx.now)
            .check_new(leaf_node, Standing::Commit { old: old.as_ref() })?;
        match tree.unsupported_credential() {
            Some(credential) => Err(CommitError::UnsupportedCredential(credential)),
            None => Ok(()),
        }
    }
}

/// What an external commit removes by a Remove: an earlier leaf of the joiner. Others remove themselves.
fn former_leaf<'a>(
    mut proposals: impl Iterator<Item = &'a Proposal>,
    removed: &[(LeafIndex, LeafNode)],
) -> Option<LeafNode> {
    let former = proposals.find_map(|proposal| match proposal {
        Proposal::Remove(remove) => Some(remove.removed),
        _ => None,
    })?;
    let mut removed = removed.iter().filter(|(leaf, _)| *leaf == former);
    removed.next().map(|(_, old)| old.clone())
}

/// What depends on all members after the changes.
fn check_everybody(
    applied: &Applied,
    tree: &Tree,
    new_extensions: bool,
) -> Result<(), ProposalError> {
    if new_extensions {
        check_needed(&applied.extensions, applied.required.as_ref(), tree)?;
    }
    // Every credential type in use has to be supported by everybody.
    match tree.unsupported_credential() {
        Some(credential) => Err(ProposalError::UnsupportedCredential(credential)),
        None => Ok(()),
    }
}

/// Checks a KeyPackage before it is offered to a group (RFC 9420, section 10.1).
///
/// # Errors
/// [`KeyPackageError`], to the blame of its owner.
pub(super) fn check_key_package<'a>(
    key_package: &'a KeyPackage,
    rules: &LeafRules<'_>,
    signatures: &mut Signatures<'a>,
) -> Result<(), KeyPackageError> {
    let suite = rules.suite;
    if key_package.version != rules.version {
        return Err(KeyPackageError::Version);
    }
    if key_package.cipher_suite != suite.id() {
        return Err(KeyPackageError::CipherSuite);
    }
    let claim = rules.check_unjudged(&key_package.leaf_node, Standing::KeyPackage)?;
    signatures.credential(claim, blame_key_package);
    if key_package.init_key == key_package.leaf_node.encryption_key {
        return Err(KeyPackageError::InitKeyReused);
    }
    suite
        .kem_check_public_key(&key_package.init_key)
        .map_err(KeyPackageError::InitKey)?;
    signatures.leaf_node(&key_package.leaf_node, None, |error| {
        KeyPackageError::from(LeafNodeError::Signature(error)).into()
    });
    signatures.key_package(key_package, |error| {
        KeyPackageError::Signature(error).into()
    });
    Ok(())
}

fn blame_key_package(error: CredentialError) -> ProposalError {
    KeyPackageError::from(LeafNodeError::Credential(error)).into()
}

fn blame_update(leaf: LeafIndex) -> impl Fn(CredentialError) -> ProposalError + Send + Sync {
    move |error| ProposalError::Update {
        leaf,
        error: LeafNodeError::Credential(error),
    }
}

/// RFC 9420, section 5.3.1: external senders that are new are the Authentication Service's to judge.
/// Of those that stay, a credential that expired since is no reason to refuse a commit.
pub(super) fn check_external_senders(
    before: Option<&Extensions>,
    extensions: &Extensions,
    ctx: &Context<'_>,
) -> Result<(), ProposalError> {
    let new: Option<ExternalSenders> =
        known(extensions).map_err(ProposalError::MalformedExtension)?;
    let before: Option<ExternalSenders> = before.and_then(|before| known(before).ok().flatten());
    let before = before.unwrap_or_default().external_senders;
    let new = new.unwrap_or_default().external_senders;
    let before: BTreeSet<_> = before.iter().map(Encode::to_bytes).collect();
    for sender in new
        .iter()
        .filter(|sender| !before.contains(&sender.to_bytes()))
    {
        let (credential, key) = (&sender.credential, &sender.signature_key);
        ctx.authentication_service
            .validate(credential, key, extensions, ctx.now)
            .map_err(ProposalError::ExternalSender)?;
    }
    Ok(())
}

/// Whether every member has what a group's extensions ask for.
fn check_needed(
    extensions: &Extensions,
    required: Option<&RequiredCapabilities>,
    tree: &Tree,
) -> Result<(), ProposalError> {
    match needed(extensions, required).find(|capability| !tree.everybody_has(*capability)) {
        Some(lacking) => Err(ProposalError::MemberLacks(lacking)),
        None => Ok(()),
    }
}

/// The content of a known extension of a GroupContext, or the type of a known one that is malformed.
pub(super) fn known<T: ExtensionContent>(
    extensions: &Extensions,
) -> Result<Option<T>, ExtensionType> {
    component::check_group(extensions)?;
    extensions.get().map_err(|_| T::EXTENSION_TYPE)
}

pub(super) fn member(tree: &Tree, leaf: LeafIndex) -> Result<&Leaf, ProposalError> {
    tree.leaf(leaf).ok_or(ProposalError::NoSuchMember(leaf))
}
