//! Lists of proposals: the rules that need no cryptography (RFC 9420, section 12.2).

use std::collections::BTreeSet;

use super::error::ProposalError;
use super::proposals::{Sourced, member};
use crate::codec::{Bytes, Encode};
use crate::crypto::{HpkeKeyPair, Suite};
use crate::extension::Extensions;
use crate::framing::Sender;
use crate::group_context::GroupContext;
use crate::key_package::KeyPackage;
use crate::leaf_node::LeafNode;
use crate::proposal::{Proposal, ReInit};
use crate::psk::{PreSharedKeyID, PskType, ResumptionPSKUsage};
use crate::tree::Tree;
use crate::tree_math::LeafIndex;

/// Refuses PSKs that cannot be part of a commit or Welcome (RFC 9420, section 12.1.4). `link` is how the
/// group follows from another one, in its first epoch.
pub(super) fn check_psks(
    ids: &[PreSharedKeyID],
    suite: &dyn Suite,
    link: Option<ResumptionPSKUsage>,
) -> Result<(), ProposalError> {
    let mut seen = BTreeSet::new();
    for id in ids {
        if id.psk_nonce.len() != suite.hash_length() {
            return Err(ProposalError::PskNonce);
        }
        if let PskType::Resumption(psk) = &id.psktype
            && psk.usage != ResumptionPSKUsage::Application
            && Some(psk.usage) != link
        {
            return Err(ProposalError::PskUsage);
        }
        if !seen.insert(id.to_bytes()) {
            return Err(ProposalError::RepeatedPsk);
        }
    }
    Ok(())
}

/// A list in the order of application.
pub(super) struct List<'a> {
    pub extensions: Option<&'a Extensions>,
    pub updates: Vec<(LeafIndex, &'a LeafNode)>,
    pub removals: Vec<LeafIndex>,
    pub additions: Vec<&'a KeyPackage>,
    pub psks: Vec<PreSharedKeyID>,
    pub own_leaf_key: Option<HpkeKeyPair>,
    /// The `kem_output` of an external commit.
    pub external_init: Option<Bytes>,
    pub reinit: Option<&'a ReInit>,
    pub path_required: bool,
}

impl<'a> List<'a> {
    /// The rules of section 12.2 that need no cryptography.
    pub fn sort(
        proposals: &'a [Sourced],
        tree: &Tree,
        committer: Sender,
    ) -> Result<Self, ProposalError> {
        let mut list = Self {
            extensions: None,
            updates: Vec::new(),
            removals: Vec::new(),
            additions: Vec::new(),
            psks: Vec::new(),
            own_leaf_key: None,
            external_init: None,
            reinit: None,
            path_required: proposals.is_empty(),
        };
        let external = committer == Sender::NewMemberCommit;
        let mut touched = BTreeSet::new();
        let mut removes = 0;
        for Sourced {
            sender,
            proposal,
            own_leaf_key,
        } in proposals
        {
            match proposal {
                Proposal::Add(_)
                | Proposal::Update(_)
                | Proposal::ReInit(_)
                | Proposal::GroupContextExtensions(_)
                    if external =>
                {
                    return Err(ProposalError::NotInExternalCommit(proposal.proposal_type()));
                }
                Proposal::Add(add) => list.additions.push(&add.key_package),
                Proposal::Update(_) if *sender == committer => {
                    return Err(ProposalError::UpdateOfCommitter);
                }
                Proposal::Update(update) => {
                    let Sender::Member(leaf) = *sender else {
                        return Err(ProposalError::UpdateFromOutside);
                    };
                    member(tree, leaf)?;
                    if !touched.insert(leaf) {
                        return Err(ProposalError::SameLeafTwice(leaf));
                    }
                    list.updates.push((leaf, &update.leaf_node));
                    if own_leaf_key.is_some() {
                        list.own_leaf_key.clone_from(own_leaf_key);
                    }
                    list.path_required = true;
                }
                Proposal::Remove(remove) if Sender::Member(remove.removed) == committer => {
                    return Err(ProposalError::RemoveOfCommitter);
                }
                Proposal::Remove(_) if external && removes > 0 => {
                    return Err(ProposalError::SecondRemoveInExternalCommit);
                }
                Proposal::Remove(remove) => {
                    removes += 1;
                    member(tree, remove.removed)?;
                    if !touched.insert(remove.removed) {
                        return Err(ProposalError::SameLeafTwice(remove.removed));
                    }
                    list.removals.push(remove.removed);
                    list.path_required = true;
                }
                Proposal::SelfRemove if *sender == committer => {
                    return Err(ProposalError::RemoveOfCommitter);
                }
                Proposal::SelfRemove => {
                    let Sender::Member(leaf) = *sender else {
                        return Err(ProposalError::SelfRemoveByValue);
                    };
                    member(tree, leaf)?;
                    if !touched.insert(leaf) {
                        return Err(ProposalError::SameLeafTwice(leaf));
                    }
                    list.removals.push(leaf);
                    list.path_required = true;
                }
                // The components judge these.
                Proposal::AppDataUpdate(_) | Proposal::AppEphemeral(_) => {}
                Proposal::PreSharedKey(psk) => list.psks.push(psk.psk.clone()),
                Proposal::ReInit(_) if proposals.len() > 1 => {
                    return Err(ProposalError::ReInitNotAlone);
                }
                Proposal::ReInit(reinit) => list.reinit = Some(reinit),
                Proposal::ExternalInit(init) if external => {
                    if list
                        .external_init
                        .replace(init.kem_output.clone())
                        .is_some()
                    {
                        return Err(ProposalError::SecondExternalInit);
                    }
                    list.path_required = true;
                }
                Proposal::ExternalInit(_) => return Err(ProposalError::ExternalInit),
                Proposal::GroupContextExtensions(new) => {
                    if list.extensions.replace(&new.extensions).is_some() {
                        return Err(ProposalError::SecondGroupContextExtensions);
                    }
                    list.path_required = true;
                }
            }
        }
        if external && list.external_init.is_none() {
            return Err(ProposalError::MissingExternalInit);
        }
        Ok(list)
    }
}

/// Refuses a ReInit that leads back to an older version (RFC 9420, section 12.1.5).
pub(super) fn check_reinit(reinit: &ReInit, context: &GroupContext) -> Result<(), ProposalError> {
    if reinit.version < context.version {
        Err(ProposalError::ReInitVersion(reinit.version))
    } else {
        Ok(())
    }
}
