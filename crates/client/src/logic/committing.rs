//! Commits, from the outbox to an entry that can be offered.

use std::collections::{HashMap, HashSet};

use folkmoot_credential::{AcceptedKeys, Committers, DeviceCredential, UserId, Version};
use folkmoot_mls::codec::Encode;
use folkmoot_mls::error::Error as EngineError;
use folkmoot_mls::extension::Extensions;
use folkmoot_mls::group::{CommitBuilder, Group, IncludeProposals};
use folkmoot_mls::key_package::KeyPackage;
use folkmoot_mls::proposal::Proposal;
use folkmoot_mls::tree_math::LeafIndex;
use folkmoot_mls::tree_pages::{self, TreePages};
use folkmoot_protocol::VERSION;
use folkmoot_protocol::ids::{PageAddress, PickupAddress};
use folkmoot_protocol::invitation::SealedWelcome;
use folkmoot_protocol::keys::PublicKey;
use folkmoot_protocol::limits;
use folkmoot_protocol::log::{Append, CommitDeclaration, Pickup, part_hash};

use super::groups::{Next, context, derive_fence, members};
use super::leaving_out::{Faults, read_package};
use super::offering::Parts;
use super::outbox::Built;
use super::proposals::{Due, due, is_at};
use super::rows::{
    AddWish, CommitAttempt, Contested, ConversationRow, Key, OutboxRow, RemoveWish, Replaces, Seed,
    Target, TargetDevice, Wish,
};
use super::{COMMIT, Step};
use crate::error::{BadPackage, Error};
use crate::sabotage::{Guard, stands};
use crate::store::{StoreError, Table};

/// One in so many commits that remove nobody is a cut, so that a cut does not tell a removal.
const CUT_IN: u32 = 4;

/// What a commit is to do, as far as it has to be known until the commit is built.
#[derive(Default)]
pub(super) struct Plan {
    removed: Vec<LeafIndex>,
    packages: Vec<KeyPackage>,
    /// Where each one's part of the Welcome will be, and what opens it.
    devices: Vec<(PickupAddress, Key)>,
    /// The group's extensions after the commit, if they change.
    extensions: Option<Extensions>,
    /// Who may commit after it, if that changes.
    committers: Option<Vec<PublicKey>>,
}

/// How a plan ends before it is one.
pub(super) enum Over {
    Done,
    Failed(Error),
    /// It has been told already.
    Settled,
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
            Wish::Add(wish) => self.plan_add(&held.group, next, wish)?,
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
        let mut plan = match planned {
            Ok(planned) => planned,
            Err(over) => {
                self.keep(&mut row, held)?;
                return Ok(match over {
                    Over::Done => Built::Done,
                    Over::Failed(error) => Built::Failed(error),
                    Over::Settled => Built::Closed,
                });
            }
        };
        if !self.plan_committers(&row, &held.group, &due, &mut plan)? {
            let title = row.title.0.clone();
            self.keep(&mut row, held)?;
            return Ok(Built::Failed(Error::NotCommitter(title)));
        }
        let share = self.link_share(&held.group, row.log, plan.removes(&held.group, &due))?;
        let builder = plan.builder(&held.group, due).tree_pages(&held.pages);
        let builder = builder.group_info_extensions(Extensions::default().with(&share));
        let mut ctx = context(self.now / 1000, self.rng);
        let pending = match builder.build(&mut held.keys, &account.signer(), &mut ctx) {
            Ok(pending) => pending,
            Err(error @ (EngineError::DamagedRecord(_) | EngineError::RecordVersion(_))) => {
                return Err(error.into());
            }
            Err(error) => {
                // One package that is not for this group does not spoil it for the others.
                let again = match wish {
                    Wish::Add(wish) => {
                        let extensions = plan.extensions.as_ref();
                        let extensions = extensions.unwrap_or_else(|| held.group.extensions());
                        self.sort_out(&held.group, extensions, (next, wish))?
                    }
                    _ => None,
                };
                self.keep(&mut row, held)?;
                return match again {
                    Some(true) => self.build_commit(row, next, wish),
                    Some(false) => Ok(Built::Closed),
                    None => Ok(Built::Failed(error.into())),
                };
            }
        };
        self.apply(row.log, &pending.sent)?;
        let (mut changes, mut next_keys) = (pending.changes, pending.keys);
        let (next_fence, exported) = derive_fence(&mut next_keys)?;
        changes.append(exported);

        let contests = matches!(wish, Wish::Contest);
        let update = pending
            .pages
            .unwrap_or_else(|| TreePages::begin(&pending.group));
        let mut declaration = CommitDeclaration {
            next_fence_key: next_fence.public(),
            cut: contests
                || !pending.effects.removed.is_empty()
                || self.rng.next_u32().is_multiple_of(CUT_IN),
            last_seen: row.sequence,
            commit_interval: match contests {
                true => None,
                false => interval_after(&held.group, &pending.group),
            },
            contest: contests,
            committers: plan.committers.take(),
            shared_part: None,
            pickups: Vec::new(),
            pages: declared(update.written.iter().map(|page| &page.address)),
            replaced: declared(&update.replaced),
        };
        let mut parts = Parts {
            pages: update.written.into_iter().map(|page| page.bytes).collect(),
            commit: Some(CommitAttempt {
                version: Version,
                changes,
                next_fence: Seed(next_fence),
                effects: pending.effects,
            }),
            ..Parts::default()
        };
        if let (Some(welcome), Wish::Add(wish)) = (pending.welcome, wish) {
            // The Welcome's parts are in the order of the additions.
            let own_keys = plan
                .devices
                .iter()
                .map(|(_, key)| *key.0)
                .collect::<Vec<_>>();
            let sealed = SealedWelcome::seal(welcome, &wish.shared_key.0, &own_keys, self.rng);
            declaration.shared_part = Some(part_hash(&sealed.shared_part));
            declaration.pickups = plan
                .devices
                .iter()
                .zip(&sealed.own_parts)
                .map(|((address, _), part)| Pickup {
                    address: *address,
                    own_part: part_hash(part),
                })
                .collect();
            (parts.shared_part, parts.own_parts) = (sealed.shared_part, sealed.own_parts);
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
        let entry = match self.offer(&row, next.intent, &append, parts) {
            Ok(entry) => entry,
            Err(error @ Error::Refused(_)) => {
                self.keep(&mut row, held)?;
                return Ok(Built::Failed(error));
            }
            Err(error) => return Err(error),
        };
        let merged = Next {
            group: pending.group,
            keys: next_keys,
            pages: update.pages,
        };
        self.session.pending.insert(row.log, (entry, merged));
        self.keep(&mut row, held)?;
        Ok(Built::Attempt(entry))
    }

    /// Adds the devices that are not in the group, and the AS keys that they need.
    fn plan_add(
        &mut self,
        group: &Group,
        next: &OutboxRow,
        wish: &AddWish,
    ) -> Result<Result<Plan, Over>, Error> {
        let mut plan = Plan::default();
        let mut accepted: AcceptedKeys =
            group.extensions().get().ok().flatten().unwrap_or_default();
        let present = Present::of(group);
        let (mut new_key, mut first, mut knocked) = (false, None, false);
        let (mut used, mut failed, mut left) = (HashSet::new(), None, wish.clone());
        for number in 0..wish.targets {
            let mut target = self.target(next.log, next.intent, number)?;
            first.get_or_insert_with(|| target.user.clone());
            knocked |= target.replaces != Replaces::Nothing;
            let mut faults = Faults::new();
            for device in &target.devices {
                let Some(gone) = present.replaced_by(&target, &device.device) else {
                    continue;
                };
                let damaged = || StoreError::DamagedRow(Table::Targets.name());
                let package = read_package(device).ok_or_else(damaged)?;
                if !super::inviting::has_time_left(&package, self.now / 1000) {
                    let error = Error::BadPackage(target.user.clone(), BadPackage::Lifetime);
                    faults.push((device.device, error));
                    continue;
                }
                if present.has_leaf_of(&package) {
                    continue;
                }
                let leaf = &package.leaf_node;
                let (public, secret) = (&leaf.signature_key, &leaf.encryption_key);
                let keys: [&[u8]; 3] = [public, secret, &package.init_key];
                if keys.iter().any(|key| used.contains(*key)) {
                    let error = Error::BadPackage(target.user.clone(), BadPackage::Unfit);
                    faults.push((device.device, error));
                    continue;
                }
                used.extend(keys.map(<[u8]>::to_vec));
                for leaf in gone {
                    if leaf == group.own_index() {
                        return Ok(Err(Over::Failed(Error::Oneself)));
                    }
                    if !plan.removed.contains(&leaf) {
                        plan.removed.push(leaf);
                    }
                }
                let authority = target.authority.ok_or_else(damaged)?;
                new_key |= accepted.insert(target.user.domain.clone(), authority);
                plan.packages.push(package);
                plan.devices.push((device.address, device.own_key.clone()));
            }
            if let Some((_, error)) = faults.first() {
                failed = Some(error.clone());
                let faulty = |it: &TargetDevice| faults.iter().any(|(of, _)| *of == it.device);
                target.devices.retain(|it| !faulty(it));
                let place = (next.log, next.intent, number);
                if !self.without(place, &mut left, target, faults)? {
                    return Ok(Err(Over::Settled));
                }
            }
        }
        if plan.packages.is_empty() {
            // Somebody else was faster.
            let tried = next.tried || knocked;
            return Ok(Err(match (failed, first) {
                (Some(error), _) => Over::Failed(error),
                (None, Some(user)) if !tried => Over::Failed(Error::AlreadyMember(user)),
                _ => Over::Done,
            }));
        }
        if new_key {
            plan.extensions = Some(group.extensions().clone().with(&accepted));
        }
        Ok(Ok(plan))
    }
}

/// Who is in a group, to be looked up.
struct Present {
    devices: HashMap<[u8; 32], Vec<(LeafIndex, UserId)>>,
    encryption_keys: HashSet<Vec<u8>>,
}

impl Present {
    fn of(group: &Group) -> Self {
        let mut devices: HashMap<_, Vec<_>> = HashMap::new();
        for (leaf, member) in members(group) {
            if let Some(device) = member.device() {
                let at = devices.entry(device.0).or_default();
                at.push((leaf, member.user));
            }
        }
        let keys = group.members();
        Self {
            devices,
            encryption_keys: keys.map(|(_, node)| node.encryption_key.to_vec()).collect(),
        }
    }

    /// The leaves that go when a device of the target is added; `None` if the device is in already.
    fn replaced_by(&self, target: &Target, device: &PublicKey) -> Option<Vec<LeafIndex>> {
        let same = self.devices.get(&device.0).into_iter().flatten();
        let leaf = |(leaf, _): &(LeafIndex, UserId)| *leaf;
        match target.replaces {
            Replaces::Nothing => (same.count() == 0).then(Vec::new),
            Replaces::Device => Some(same.map(leaf).collect()),
            Replaces::User => {
                let is_its = |(_, user): &&(LeafIndex, UserId)| *user == target.user;
                let all = self.devices.values().flatten();
                same.clone()
                    .all(|at| is_its(&at))
                    .then(|| all.filter(is_its).map(leaf).collect())
            }
        }
    }

    /// As [`has_leaf_of`].
    fn has_leaf_of(&self, package: &KeyPackage) -> bool {
        let key: &[u8] = &package.leaf_node.encryption_key;
        self.encryption_keys.contains(key)
    }
}

/// Removes those who made what is not valid.
fn plan_contest(group: &Group, contested: &Contested) -> Plan {
    let mut plan = Plan::default();
    let known = contested
        .authors
        .iter()
        .filter(|author| is_at(group, author) && stands(Guard::Removes));
    plan.removed.extend(known.map(|author| author.leaf));
    plan
}

/// The pause between commits that a commit has to ask for: when the group has become large, or is no
/// longer.
pub(super) fn interval_after(before: &Group, after: &Group) -> Option<u32> {
    let is_large = |group: &Group| group.member_count() as usize > limits::MEMBERS_WITHOUT_INTERVAL;
    match (is_large(before), is_large(after)) {
        (false, true) => Some(limits::LARGE_INTERVAL_SECONDS),
        (true, false) => Some(0),
        _ => None,
    }
}

/// Addresses of pages as a commit declares them. In our suite all have 32 bytes.
pub(super) fn declared<'a>(
    addresses: impl IntoIterator<Item = &'a tree_pages::PageAddress>,
) -> Vec<PageAddress> {
    let addresses = addresses.into_iter();
    addresses
        .filter_map(|address| PageAddress::read(&address.0))
        .collect()
}

/// Removes every device that the users have at this time.
fn plan_remove(group: &Group, wish: &RemoveWish, tried: bool) -> Result<Plan, Over> {
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
        plan: &mut Plan,
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

impl Plan {
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

    /// The commit that does all of it, and what others have proposed. It takes the packages.
    fn builder(&mut self, group: &Group, due: Due) -> CommitBuilder {
        let include = IncludeProposals::AllOf(due.references);
        let mut builder = group.commit().include_proposals(include);
        let leaves = due
            .leaves
            .iter()
            .filter(|leaf| !self.removed.contains(leaf));
        for leaf in self.removed.iter().chain(leaves) {
            builder = builder.remove(*leaf);
        }
        for package in std::mem::take(&mut self.packages) {
            builder = builder.add(package);
        }
        if let Some(extensions) = &self.extensions {
            builder = builder.group_context_extensions(extensions.clone());
        }
        builder
    }
}
