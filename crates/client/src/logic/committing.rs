//! Commits, from the outbox to an entry that can be offered.

use folkmoot_credential::{AcceptedKeys, Committers, DeviceCredential, Version};
use folkmoot_mls::codec::{Decode, Encode};
use folkmoot_mls::error::Error as EngineError;
use folkmoot_mls::extension::Extensions;
use folkmoot_mls::group::{CommitBuilder, Group, IncludeProposals};
use folkmoot_mls::key_package::KeyPackage;
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::proposal::Proposal;
use folkmoot_mls::tree_math::LeafIndex;
use folkmoot_protocol::VERSION;
use folkmoot_protocol::invitation::SealedWelcome;
use folkmoot_protocol::keys::PublicKey;
use folkmoot_protocol::limits;
use folkmoot_protocol::log::{Append, CommitDeclaration, Pickup, part_hash};
use folkmoot_protocol::sealed::suite;

use super::groups::{context, derive_fence, members};
use super::outbox::Built;
use super::proposals::{Due, due, is_at};
use super::rows::{
    self, AddWish, AttemptRow, CommitAttempt, Contested, ConversationRow, OutboxRow, RemoveWish,
    Replaces, Seed, Target, TargetDevice, Wish,
};
use super::{COMMIT, Step};
use crate::error::{BadPackage, Error};
use crate::sabotage::{Guard, stands};
use crate::store::{StoreError, Table};

/// One in so many commits that remove nobody is a cut, so that a cut does not tell a removal.
const CUT_IN: u32 = 4;

/// What a commit is to do, as far as it has to be known until the commit is built.
#[derive(Default)]
pub(super) struct Plan<'a> {
    removed: Vec<LeafIndex>,
    packages: Vec<KeyPackage>,
    devices: Vec<&'a TargetDevice>,
    /// The group's extensions after the commit, if they change.
    extensions: Option<Extensions>,
    /// Who may commit after it, if that changes.
    committers: Option<Vec<PublicKey>>,
}

/// How a plan ends before it is one.
pub(super) enum Over {
    Done,
    Failed(Error),
}

impl Step<'_> {
    /// Makes the commit that a wish asks for, out of the current state of the group.
    pub(super) fn build_commit(
        &mut self,
        mut row: ConversationRow,
        next: &OutboxRow,
        wish: &Wish,
    ) -> Result<Built, Error> {
        let account = self.account()?;
        let mut held = self.hold(&row)?;
        let due = due(&held.group, &row);
        let planned = match wish {
            Wish::Add(wish) => self.plan_add(&held.group, wish, next.tried)?,
            Wish::Remove(wish) => plan_remove(&held.group, wish, next.tried),
            Wish::Link(wish) => self.plan_link(&held.group, row.log, wish)?,
            Wish::Proposals if row.cause == 0 => Err(Over::Done),
            Wish::Contest => match &row.contested {
                Some(contested) => Ok(plan_contest(&held.group, contested)),
                None => Err(Over::Done),
            },
            // A path renews our own keys, and every commit of ours has one.
            _ => Ok(Plan::default()),
        };
        let plan = match planned {
            Ok(planned) => planned,
            Err(over) => {
                self.keep(&mut row, held)?;
                return Ok(match over {
                    Over::Done => Built::Done,
                    Over::Failed(error) => Built::Failed(error),
                });
            }
        };
        let mut plan = plan;
        if !self.plan_committers(&row, &held.group, &due, &mut plan)? {
            let title = row.title.0.clone();
            self.keep(&mut row, held)?;
            return Ok(Built::Failed(Error::NotCommitter(title)));
        }
        let share = self.link_share(&held.group, row.log, plan.removes(&held.group, &due))?;
        let builder = plan.builder(&held.group, due);
        let builder = builder.group_info_extensions(Extensions::default().with(&share));
        let mut ctx = context(self.now / 1000, self.rng);
        let pending = match builder.build(&mut held.keys, &account.signer(), &mut ctx) {
            Ok(pending) => pending,
            Err(error @ (EngineError::DamagedRecord(_) | EngineError::RecordVersion(_))) => {
                return Err(error.into());
            }
            Err(error) => {
                self.keep(&mut row, held)?;
                return Ok(Built::Failed(error.into()));
            }
        };
        self.apply(row.log, &pending.sent)?;
        let (mut changes, mut next_keys) = (pending.changes, pending.keys);
        let (next_fence, exported) = derive_fence(&mut next_keys)?;
        changes.append(exported);

        let contests = matches!(wish, Wish::Contest);
        let mut declaration = CommitDeclaration {
            next_fence_key: next_fence.public(),
            cut: contests
                || !pending.effects.removed.is_empty()
                || self.rng.next_u32().is_multiple_of(CUT_IN),
            last_seen: row.sequence,
            commit_interval: None,
            contest: contests,
            committers: plan.committers.take(),
            shared_part: None,
            pickups: Vec::new(),
            pages: Vec::new(),
        };
        let mut sealed = SealedWelcome {
            shared_part: Vec::new(),
            own_parts: Vec::new(),
        };
        if let (Some(welcome), Wish::Add(wish)) = (&pending.welcome, wish) {
            let devices: Vec<_> = welcome
                .secrets
                .iter()
                .filter_map(|part| {
                    let is_its = |package: &KeyPackage| {
                        package.reference(suite()).as_slice() == part.new_member.as_slice()
                    };
                    let at = plan.packages.iter().position(is_its)?;
                    plan.devices.get(at).copied()
                })
                .collect();
            let own_keys: Vec<_> = devices.iter().map(|device| *device.own_key.0).collect();
            sealed = SealedWelcome::seal(welcome, &wish.shared_key.0, &own_keys, self.rng);
            declaration.shared_part = Some(part_hash(&sealed.shared_part));
            declaration.pickups = devices
                .iter()
                .zip(&sealed.own_parts)
                .map(|(device, part)| Pickup {
                    address: device.address,
                    own_part: part_hash(part),
                })
                .collect();
        }
        let append = Append {
            version: VERSION,
            log: row.log,
            branch: row.branch,
            parent: row.tip,
            epoch: row.epoch,
            content_type: COMMIT,
            commit: Some(declaration),
            message: pending.message.to_bytes().into(),
        };
        let entry = append.id();
        let attempt = AttemptRow {
            version: Version,
            intent: next.intent,
            parent: row.tip,
            append: append.to_bytes().into(),
            shared_part: sealed.shared_part.into(),
            own_parts: sealed.own_parts.into_iter().map(Into::into).collect(),
            commit: Some(CommitAttempt {
                changes,
                next_fence: Seed(next_fence),
                effects: pending.effects,
            }),
        };
        rows::put(
            self.tx,
            Table::Attempts,
            &rows::attempt_key(row.log, entry),
            &attempt,
        )?;
        self.keep(&mut row, held)?;
        Ok(Built::Attempt(entry))
    }

    /// Adds the devices that are not in the group, and the AS keys that they need.
    fn plan_add<'a>(
        &self,
        group: &Group,
        wish: &'a AddWish,
        tried: bool,
    ) -> Result<Result<Plan<'a>, Over>, Error> {
        let mut plan = Plan::default();
        let present: Vec<_> = members(group).collect();
        let mut accepted: AcceptedKeys =
            group.extensions().get().ok().flatten().unwrap_or_default();
        let mut new_key = false;
        for target in &wish.targets {
            for device in &target.devices {
                let goes = |member: &DeviceCredential| match target.replaces {
                    Replaces::Nothing => false,
                    Replaces::Device => member.device() == Some(device.device),
                    Replaces::User => member.user == target.user,
                };
                let is_it = |member: &DeviceCredential| member.device() == Some(device.device);
                let mut others = present.iter().filter(|(_, member)| !goes(member));
                if others.any(|(_, member)| is_it(member)) {
                    continue;
                }
                let damaged = || StoreError::DamagedRow(Table::Outbox.name());
                let package = match MlsMessage::from_bytes(&device.package) {
                    Ok(MlsMessage::KeyPackage(package)) => *package,
                    _ => return Err(damaged().into()),
                };
                if !super::inviting::has_time_left(&package, self.now / 1000) {
                    let error = Error::BadPackage(target.user.clone(), BadPackage::Lifetime);
                    return Ok(Err(Over::Failed(error)));
                }
                if has_leaf_of(group, &package) {
                    continue;
                }
                let gone = present.iter().filter(|(_, member)| goes(member));
                for (leaf, _) in gone {
                    if *leaf == group.own_index() {
                        return Ok(Err(Over::Failed(Error::Oneself)));
                    }
                    if !plan.removed.contains(leaf) {
                        plan.removed.push(*leaf);
                    }
                }
                let authority = target.authority.ok_or_else(damaged)?;
                new_key |= accepted.insert(target.user.domain.clone(), authority);
                plan.packages.push(package);
                plan.devices.push(device);
            }
        }
        if plan.packages.is_empty() {
            // Somebody else was faster.
            let user = wish.targets.first().map(|target| target.user.clone());
            let knocked = |target: &Target| target.replaces != Replaces::Nothing;
            let tried = tried || wish.targets.iter().any(knocked);
            return Ok(Err(match user {
                Some(user) if !tried => Over::Failed(Error::AlreadyMember(user)),
                _ => Over::Done,
            }));
        }
        if new_key {
            plan.extensions = Some(group.extensions().clone().with(&accepted));
        }
        Ok(Ok(plan))
    }
}

/// Removes those who made what is not valid.
fn plan_contest<'a>(group: &Group, contested: &Contested) -> Plan<'a> {
    let mut plan = Plan::default();
    let known = contested
        .authors
        .iter()
        .filter(|author| is_at(group, author) && stands(Guard::Removes));
    plan.removed.extend(known.map(|author| author.leaf));
    plan
}

/// Removes every device that the users have at this time.
fn plan_remove<'a>(group: &Group, wish: &RemoveWish, tried: bool) -> Result<Plan<'a>, Over> {
    let mut plan = Plan::default();
    let present: Vec<(_, DeviceCredential)> = members(group).collect();
    for user in &wish.users {
        let leaves = present.iter().filter(|(_, member)| member.user == *user);
        let before = plan.removed.len();
        plan.removed.extend(leaves.map(|(leaf, _)| *leaf));
        if plan.removed.len() == before && !tried {
            return Err(Over::Failed(Error::NotMember(user.clone())));
        }
    }
    if plan.removed.is_empty() {
        Err(Over::Done)
    } else {
        Ok(plan)
    }
}

impl Step<'_> {
    /// Names who may commit after the plan: not who goes, but who offers to; in a large group ourselves, if
    /// nobody else is named. Returns whether we may commit at all.
    fn plan_committers(
        &mut self,
        row: &ConversationRow,
        group: &Group,
        due: &Due,
        plan: &mut Plan<'_>,
    ) -> Result<bool, Error> {
        let before: Committers = group.extensions().get().ok().flatten().unwrap_or_default();
        let mut next = before.clone();
        let gone = due.removed(group, &plan.removed);
        let stays = |leaf: u32| !gone.contains(&LeafIndex(leaf));
        next.committers.retain(|committer| stays(committer.leaf));
        let leaves = group.member_count() as usize - gone.len() + plan.packages.len();
        if before.committers.is_empty() {
            if leaves > limits::LEAVES_WITHOUT_COMMITTERS {
                next.committers.push(self.own_committer(row, group)?);
            }
        } else if !self.may_commit(row, group)? {
            return Ok(false);
        } else {
            for offer in row.offers.iter().filter(|offer| stays(offer.leaf)) {
                super::committers::take_in(&mut next, offer);
            }
        }
        if next != before {
            plan.committers = Some(next.keys());
            let extensions = plan.extensions.take();
            let extensions = extensions.unwrap_or_else(|| group.extensions().clone());
            plan.extensions = Some(extensions.with(&next));
        }
        Ok(true)
    }
}

/// Whether a KeyPackage was used for a member already, that has not renewed its leaf since.
pub(super) fn has_leaf_of(group: &Group, package: &KeyPackage) -> bool {
    let key = &package.leaf_node.encryption_key;
    group.members().any(|(_, node)| node.encryption_key == *key)
}

impl Plan<'_> {
    /// To change the group's extensions.
    pub(super) fn of(extensions: Extensions) -> Self {
        Self {
            extensions: Some(extensions),
            ..Self::default()
        }
    }

    /// Whether the commit removes anybody.
    fn removes(&self, group: &Group, due: &Due) -> bool {
        let pending = group.pending_proposals();
        let mut by_reference = pending
            .iter()
            .filter(|(reference, _)| due.references.contains(reference));
        let is_remove = |proposal: &Proposal| matches!(proposal, Proposal::Remove(_));
        !self.removed.is_empty()
            || !due.leaves.is_empty()
            || by_reference.any(|(_, pending)| is_remove(&pending.proposal))
    }

    /// The commit that does all of it, and what others have proposed.
    fn builder(&self, group: &Group, due: Due) -> CommitBuilder {
        let include = IncludeProposals::AllOf(due.references);
        let mut builder = group.commit().include_proposals(include);
        let leaves = due
            .leaves
            .iter()
            .filter(|leaf| !self.removed.contains(leaf));
        for leaf in self.removed.iter().chain(leaves) {
            builder = builder.remove(*leaf);
        }
        for package in &self.packages {
            builder = builder.add(package.clone());
        }
        if let Some(extensions) = &self.extensions {
            builder = builder.group_context_extensions(extensions.clone());
        }
        builder
    }
}
