//! Which proposals a commit takes in, and what they do together (RFC 9420, sections 12.2 and 12.4.1).

use std::collections::BTreeSet;

use super::PendingProposal;
use super::commit::CommitBuilder;
use super::list::check_reinit;
use super::proposals::{Applied, Sourced};
use crate::context::{Context, PskStore};
use crate::error::Error;
use crate::framing::Sender;
use crate::proposal::{
    AppDataUpdate, AppDataUpdateOperation, Proposal, ProposalOrRef, ProposalRef,
};
use crate::tree::Tree;
use crate::tree_math::LeafIndex;

/// Which of the pending proposals a commit takes in.
///
/// All that are valid wait, whoever made them: those from outside the group, and a ReInit, which ends it,
/// among them. A caller with rules of its own about who may propose what looks at each by
/// [`Group::pending_proposals`](super::Group::pending_proposals) and names those that it lets pass with `AllOf` or `Only`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum IncludeProposals {
    /// All that can be committed together, from members and from outside. Where two exclude each
    /// other: a SelfRemove before a Remove, even one by value, a Remove before an Update, a later Update before an earlier one, else the one
    /// that came first.
    #[default]
    All,
    /// None.
    None,
    /// Of these, all that can be committed together; as `All`, but for the choice.
    AllOf(Vec<ProposalRef>),
    /// These, each of which must be known and valid.
    Only(Vec<ProposalRef>),
}
/// A list of proposals that can be committed.
pub(super) struct Gathered {
    /// As in the message.
    pub proposals: Vec<ProposalOrRef>,
    /// With their authors.
    pub sourced: Vec<Sourced>,
    /// What they do.
    pub applied: Applied,
    /// The tree after them.
    pub tree: Tree,
}
impl CommitBuilder {
    /// The proposals of the commit: those by reference, then those by value.
    pub(super) fn gather(&mut self, ctx: &mut Context<'_>) -> Result<Gathered, Error> {
        let by_value = std::mem::take(&mut self.proposals);
        let candidates = match std::mem::take(&mut self.include) {
            IncludeProposals::None => Vec::new(),
            IncludeProposals::Only(references) => references,
            include => {
                let candidates = self.compatible(&include, &by_value, ctx);
                match self.judge(&candidates, &by_value, ctx) {
                    Err(_) if !candidates.is_empty() => self.valid(candidates, &by_value, ctx),
                    gathered => return gathered,
                }
            }
        };
        self.judge(&candidates, &by_value, ctx)
    }

    fn judge(
        &self,
        references: &[ProposalRef],
        by_value: &[Proposal],
        ctx: &mut Context<'_>,
    ) -> Result<Gathered, Error> {
        let leaving = self.leaving(references);
        let references = references.iter().cloned().map(ProposalOrRef::Reference);
        // Beside a SelfRemove, a Remove of the same leaf is not valid
        // (draft-ietf-mls-extensions, section 6.3).
        let is_left_out = |proposal: &&Proposal| matches!(proposal, Proposal::Remove(remove) if leaving.contains(&remove.removed));
        let by_value = by_value
            .iter()
            .filter(|proposal| !is_left_out(proposal))
            .map(|proposal| ProposalOrRef::Proposal(Box::new(proposal.clone())));
        let proposals: Vec<_> = references.chain(by_value).collect();
        let own = Sender::Member(self.group.own_index());
        let sourced = self.group.resolve(own, &proposals)?;
        let link = self.link.as_ref().map(|link| link.usage);
        let (applied, tree) = self.group.public().apply(own, &sourced, link, ctx)?;
        Ok(Gathered {
            proposals,
            sourced,
            applied,
            tree,
        })
    }

    /// Who removes itself by one of these.
    fn leaving(&self, references: &[ProposalRef]) -> BTreeSet<LeafIndex> {
        let known = &self.group.state().proposals;
        let pending = references.iter().filter_map(|one| known.get(one));
        pending
            .filter_map(|pending| match (pending.sender, &pending.proposal) {
                (Sender::Member(leaf), Proposal::SelfRemove) => Some(leaf),
                _ => None,
            })
            .collect()
    }

    /// The pending proposals that do not exclude each other or those by value, in the order in which
    /// they came (RFC 9420, section 12.2).
    fn compatible(
        &self,
        include: &IncludeProposals,
        by_value: &[Proposal],
        ctx: &Context<'_>,
    ) -> Vec<ProposalRef> {
        let own = self.group.own_index();
        let mut pending = self.group.pending_proposals();
        if let IncludeProposals::AllOf(chosen) = include {
            let chosen: BTreeSet<_> = chosen.iter().collect();
            pending.retain(|(reference, _)| chosen.contains(reference));
        }
        let mut touched = BTreeSet::from([own]);
        let mut has_extensions = false;
        let mut chosen = Vec::new();
        // A SelfRemove makes any other change of its leaf invalid, by value too.
        for (reference, pending) in &pending {
            if let (Sender::Member(leaf), Proposal::SelfRemove) =
                (pending.sender, &pending.proposal)
                && touched.insert(leaf)
            {
                chosen.push((pending.number, (*reference).clone()));
            }
        }
        // Components with updates, and with removals.
        let (mut updated, mut cleared) = (BTreeSet::new(), BTreeSet::new());
        for proposal in by_value {
            match proposal {
                // It is alone.
                Proposal::ReInit(_) => return Vec::new(),
                Proposal::Remove(remove) => {
                    touched.insert(remove.removed);
                }
                Proposal::GroupContextExtensions(_) => has_extensions = true,
                Proposal::AppDataUpdate(AppDataUpdate { component_id, op }) => {
                    match op {
                        AppDataUpdateOperation::Update(_) => updated.insert(*component_id),
                        AppDataUpdateOperation::Remove => cleared.insert(*component_id),
                    };
                }
                _ => {}
            }
        }
        for (reference, pending) in &pending {
            let fits = match &pending.proposal {
                Proposal::Remove(remove) => touched.insert(remove.removed),
                Proposal::GroupContextExtensions(_) => {
                    !std::mem::replace(&mut has_extensions, true)
                }
                Proposal::PreSharedKey(psk) => {
                    self.group.psk(&psk.psk).is_some() || ctx.psks.psk(&psk.psk).is_some()
                }
                Proposal::Add(_) | Proposal::AppEphemeral(_) => true,
                Proposal::AppDataUpdate(AppDataUpdate { component_id, op }) => match op {
                    AppDataUpdateOperation::Update(_) if !cleared.contains(component_id) => {
                        updated.insert(*component_id);
                        true
                    }
                    AppDataUpdateOperation::Remove if !updated.contains(component_id) => {
                        cleared.insert(*component_id)
                    }
                    _ => false,
                },
                // Chosen above.
                Proposal::SelfRemove => false,
                // The latest of each member, which is why these have a loop of their own.
                Proposal::Update(_) => false,
                // Only if there is nothing else.
                Proposal::ReInit(_) => false,
                Proposal::ExternalInit(_) => false,
            };
            if fits {
                chosen.push((pending.number, (*reference).clone()));
            }
        }
        for (reference, pending) in pending.iter().rev() {
            let Sender::Member(sender) = pending.sender else {
                continue;
            };
            if matches!(pending.proposal, Proposal::Update(_)) && touched.insert(sender) {
                chosen.push((pending.number, (*reference).clone()));
            }
        }
        if chosen.is_empty() && by_value.is_empty() {
            let is_reinit = |pending: &PendingProposal| {
                matches!(&pending.proposal, Proposal::ReInit(reinit)
                    if check_reinit(reinit, self.group.group_context()).is_ok())
            };
            let mut reinits = pending.iter().filter(|(_, pending)| is_reinit(pending));
            return reinits
                .next()
                .map(|(reference, _)| (*reference).clone())
                .into_iter()
                .collect();
        }
        chosen.sort();
        chosen.into_iter().map(|(_, reference)| reference).collect()
    }

    /// Leaves out what does not hold beside the rest. The slow way, for when some proposal is not
    /// valid: each is tried with those before it.
    fn valid(
        &self,
        candidates: Vec<ProposalRef>,
        by_value: &[Proposal],
        ctx: &mut Context<'_>,
    ) -> Vec<ProposalRef> {
        let mut accepted: Vec<ProposalRef> = Vec::new();
        for candidate in candidates {
            accepted.push(candidate);
            if self.judge(&accepted, by_value, ctx).is_err() {
                accepted.pop();
            }
        }
        accepted
    }
}
