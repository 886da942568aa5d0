//! Commits, from the outbox to an entry that can be offered.

use std::collections::HashSet;

use folkmoot_credential::{AcceptedKeys, DeviceCredential, Version};
use folkmoot_mls::codec::{Decode, Encode};
use folkmoot_mls::error::Error as EngineError;
use folkmoot_mls::extension::Extensions;
use folkmoot_mls::group::{CommitBuilder, Group, IncludeProposals};
use folkmoot_mls::key_package::KeyPackage;
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::tree_math::LeafIndex;
use folkmoot_mls::tree_pages::{self, TreePages};
use folkmoot_protocol::VERSION;
use folkmoot_protocol::ids::{PageAddress, PickupAddress};
use folkmoot_protocol::invitation::SealedWelcome;
use folkmoot_protocol::log::{Append, CommitDeclaration, Pickup, part_hash};

use super::groups::{Next, context, derive_fence, members};
use super::offering::Parts;
use super::outbox::Built;
use super::proposals::{Due, due};
use super::rows::{
    AddWish, CommitAttempt, ConversationRow, Key, OutboxRow, RemoveWish, Seed, Wish,
};
use super::{COMMIT, Step};
use crate::error::{BadPackage, Error};
use crate::store::{StoreError, Table};

/// One in so many commits that remove nobody is a cut, so that a cut does not tell a removal.
const CUT_IN: u32 = 4;

/// What a commit is to do, as far as it has to be known until the commit is built.
#[derive(Default)]
struct Plan {
    removed: Vec<LeafIndex>,
    packages: Vec<KeyPackage>,
    /// Where each one's part of the Welcome will be, and what opens it.
    devices: Vec<(PickupAddress, Key)>,
    /// The group's extensions after the commit, if they change.
    extensions: Option<Extensions>,
}

/// How a plan ends before it is one.
enum Over {
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
            Wish::Add(wish) => self.plan_add(&held.group, next, wish)?,
            Wish::Remove(wish) => plan_remove(&held.group, wish, next.tried),
            Wish::Proposals if row.cause == 0 => Err(Over::Done),
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
                });
            }
        };
        let builder = plan.builder(&held.group, due).tree_pages(&held.pages);
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

        let update = pending
            .pages
            .unwrap_or_else(|| TreePages::begin(&pending.group));
        let mut declaration = CommitDeclaration {
            next_fence_key: next_fence.public(),
            cut: !pending.effects.removed.is_empty() || self.rng.next_u32().is_multiple_of(CUT_IN),
            last_seen: row.sequence,
            commit_interval: None,
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
        &self,
        group: &Group,
        next: &OutboxRow,
        wish: &AddWish,
    ) -> Result<Result<Plan, Over>, Error> {
        let mut plan = Plan::default();
        let mut accepted: AcceptedKeys =
            group.extensions().get().ok().flatten().unwrap_or_default();
        let present: HashSet<_> = members(group)
            .filter_map(|(_, member)| member.device().map(|device| device.0))
            .collect();
        let (mut new_key, mut first) = (false, None);
        for number in 0..wish.targets {
            let target = self.target(next.log, next.intent, number)?;
            first.get_or_insert_with(|| target.user.clone());
            for device in target.devices {
                if present.contains(&device.device.0) {
                    continue;
                }
                let damaged = || StoreError::DamagedRow(Table::Targets.name());
                let package = match MlsMessage::from_bytes(&device.package) {
                    Ok(MlsMessage::KeyPackage(package)) => *package,
                    _ => return Err(damaged().into()),
                };
                if !super::inviting::has_time_left(&package, self.now / 1000) {
                    let error = Error::BadPackage(target.user, BadPackage::Lifetime);
                    return Ok(Err(Over::Failed(error)));
                }
                let authority = target.authority.ok_or_else(damaged)?;
                new_key |= accepted.insert(target.user.domain.clone(), authority);
                plan.packages.push(package);
                plan.devices.push((device.address, device.own_key));
            }
        }
        if plan.packages.is_empty() {
            // Somebody else was faster.
            return Ok(Err(match first {
                Some(user) if !next.tried => Over::Failed(Error::AlreadyMember(user)),
                _ => Over::Done,
            }));
        }
        if new_key {
            plan.extensions = Some(group.extensions().clone().with(&accepted));
        }
        Ok(Ok(plan))
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

impl Plan {
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
