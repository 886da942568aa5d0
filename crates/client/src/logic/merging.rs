//! Commits, as they are read: ours are merged, those of others followed, and the group moves on.

use std::collections::BTreeSet;

use folkmoot_credential::{
    AcceptedKeys, Committer, Committers, DeviceCredential, EXTENSION_TYPES, Policy, UserId,
};
use folkmoot_mls::error::Error as EngineError;
use folkmoot_mls::extension::{ExtensionType, Extensions};
use folkmoot_mls::framing::Sender;
use folkmoot_mls::group::{CommitEffects, Group, Processed};
use folkmoot_mls::leaf_node::LeafNode;
use folkmoot_mls::proposal::Proposal;
use folkmoot_mls::tree_math::LeafIndex;
use folkmoot_mls::tree_pages::PageUpdate;
use folkmoot_protocol::limits;
use folkmoot_protocol::log::{Append, CommitDeclaration};

use super::chain::Place;
use super::committers::still_offered;
use super::committing::{declared, interval_after};
use super::contests::{Verdict, signer};
use super::groups::{Held, context, derive_fence, member};
use super::proposals::still_leaving;
use super::reading::{Fault, Reader, group_message, restored};
use super::rows::{self, AttemptRow, CommitAttempt, ConversationRow, Leaver};
use super::session::Task;
use super::{Standing, Step};
use crate::error::Error;
use crate::history::{Change, Epoch, Update, What};
use crate::sabotage::{Guard, stands};
use crate::store::Table;

impl Step<'_> {
    /// Applies a commit.
    pub(super) fn commit(
        &mut self,
        reader: &mut Reader,
        append: &Append,
        place: Place,
    ) -> Result<Result<(), Fault>, Error> {
        let key = rows::attempt_key(reader.row.log, place.id);
        let attempt: Option<AttemptRow> = rows::get(self.tx, Table::Attempts, &key)?;
        let commit: Option<CommitAttempt> = rows::get(self.tx, Table::Commits, &key)?;
        match (attempt, commit) {
            (Some(AttemptRow { intent, .. }), Some(commit)) => {
                let mut adds = commit.effects.proposals.iter();
                let adds = adds.any(|(_, proposal)| matches!(proposal, Proposal::Add(_)));
                let cut = append.commit.as_ref().is_some_and(|commit| commit.cut);
                let merged = self.merge(reader, &commit, place, cut)?;
                if merged.is_ok() {
                    let key = rows::outbox_key(reader.row.log, intent);
                    if self.tx.get(Table::Outbox, &key)?.is_some() {
                        self.settle(reader.row.log, intent, Ok(()))?;
                    }
                    self.epoch_over(reader.row.log)?;
                    // Those whom we add will fetch the pages.
                    if adds
                        && reader
                            .held
                            .as_ref()
                            .is_some_and(|held| held.pages.is_paged())
                    {
                        self.wake.push(Task::Repair(reader.row.log));
                    }
                }
                Ok(merged)
            }
            _ => {
                let followed = self.follow(reader, append, place)?;
                if followed.is_ok() {
                    self.epoch_over(reader.row.log)?;
                }
                Ok(followed)
            }
        }
    }

    /// Our own commit was taken: the group moves to where the attempt left it.
    fn merge(
        &mut self,
        reader: &mut Reader,
        commit: &CommitAttempt,
        place: Place,
        cut: bool,
    ) -> Result<Result<(), Fault>, Error> {
        let Some(held) = reader.held.take() else {
            return Ok(Ok(()));
        };
        // First as a trial: what the others find invalid at the entry's time, we must not merge.
        let mut ctx = context(place.time / 1000, self.rng);
        if let Err(error) = held.group.judge_again(&commit.effects, &mut ctx) {
            reader.held = Some(held);
            let reason = format!("our commit was no longer valid when it was ordered: {error}");
            return Ok(Err(Fault::Invalid(Verdict::all_see(reason, None))));
        }
        let changed = Changed::of(&held.group, &commit.effects, &reader.row.leaving);
        let log = reader.row.log;
        self.apply(log, &held.group.proposals_deletion())?;
        self.apply(log, &commit.changes)?;
        let Held {
            keys, past, group, ..
        } = held;
        let before = group.extensions().clone();
        let mut held = match self.session.pending.remove(&log) {
            Some((entry, next)) if entry == place.id => Held {
                changes: 0,
                group: next.group,
                keys: next.keys,
                past,
                pages: next.pages,
            },
            _ => Held {
                past,
                ..self.load(&reader.row)?
            },
        };
        self.door_after(&reader.row, &before, &mut held, &commit.effects)?;
        self.end_epoch(&mut reader.row, &mut held, keys, place, cut)?;
        self.enter(reader, held, &commit.next_fence.0, place)?;
        if let Some(changed) = changed {
            self.write_changes(&reader.row, place, &changed)?;
        }
        Ok(Ok(()))
    }

    /// Somebody's commit.
    fn follow(
        &mut self,
        reader: &mut Reader,
        append: &Append,
        place: Place,
    ) -> Result<Result<(), Fault>, Error> {
        let Some(mut held) = reader.held.take() else {
            return Ok(Ok(()));
        };
        let declared = append.commit.as_ref();
        // Ours lost, if there is one.
        self.session.pending.remove(&reader.row.log);
        let mut ctx = context(place.time / 1000, self.rng);
        let processed = match group_message(&append.message) {
            Ok(message) => held.group.process(&mut held.keys, &message, &mut ctx),
            Err(error) => Err(error),
        };
        let name = |group: &Group, sender| match sender {
            Sender::Member(leaf) => member(group, leaf).map(|(user, _)| user),
            _ => None,
        };
        let verdict = match processed {
            Ok(Processed::Commit {
                effects,
                group,
                mut keys,
                mut changes,
                ..
            }) => {
                let (fence, exported) = derive_fence(&mut keys)?;
                changes.append(exported);
                let update = held.pages.advance(&held.group, &group);
                let update = update.map_err(EngineError::from)?;
                changes.append(update.changes.clone());
                let judged = check_declared(declared, &effects)
                    .and_then(|declared| {
                        check_fence(declared, &fence.public().0)?;
                        check_interval(declared, &held.group, &group)?;
                        check_pages(declared, &update)
                    })
                    .and_then(|()| check_effects(&effects))
                    .and_then(|()| check_rules(group.extensions()))
                    .and_then(|()| check_committers(declared, held.group.extensions(), &group));
                let changed = judged.and_then(|()| {
                    Changed::of(&held.group, &effects, &reader.row.leaving)
                        .ok_or_else(|| "its author has no name".to_owned())
                });
                let changed = match changed {
                    Ok(changed) => changed,
                    Err(reason) => {
                        let author = author_of(&effects);
                        return give_back(reader, held, Verdict::all_see(reason, author));
                    }
                };
                let log = reader.row.log;
                self.apply(log, &changes)?;
                let mut next = Held {
                    changes: 0,
                    group,
                    keys,
                    past: held.past,
                    pages: update.pages,
                };
                let cut = declared.is_some_and(|declared| declared.cut);
                let before = held.group;
                self.door_after(&reader.row, before.extensions(), &mut next, &effects)?;
                self.end_epoch(&mut reader.row, &mut next, held.keys, place, cut)?;
                self.enter(reader, next, &fence, place)?;
                self.remember_author(&reader.row, &before, effects.committer)?;
                self.write_changes(&reader.row, place, &changed)?;
                return Ok(Ok(()));
            }
            Ok(Processed::Removed {
                by,
                effects,
                extensions,
            }) => {
                // What the others refuse removes nobody.
                let judged = check_declared(declared, &effects)
                    .and_then(|_| check_effects(&effects))
                    .and_then(|()| check_rules(&extensions));
                if let Err(reason) = judged {
                    let author = author_of(&effects);
                    return give_back(reader, held, Verdict::all_see(reason, author));
                }
                let user = self.account()?.user;
                let row = &mut reader.row;
                let wanted = self.check_staying(row).is_err();
                row.standing = if wanted {
                    Standing::Left
                } else {
                    Standing::Removed
                };
                let by = name(&held.group, by).unwrap_or_else(|| user.clone());
                let what = if wanted {
                    What::Left(Update { by: user })
                } else {
                    What::Removed(Change { by, user })
                };
                self.write_history_at(row, place, 0, what)?;
                return Ok(Ok(()));
            }
            Ok(_) => Verdict::all_see("it is no commit".to_owned(), signer(&held, append)),
            Err(EngineError::OwnMessage) if self.is_restored(&held, append)? => {
                reader.held = Some(held);
                return Ok(Err(Fault::Stop(restored())));
            }
            Err(error) => Verdict::of(&held, append, error)?,
        };
        give_back(reader, held, verdict)
    }

    /// The conversation is in a new epoch, whose records are written.
    fn enter(
        &mut self,
        reader: &mut Reader,
        held: Held,
        fence: &folkmoot_protocol::keys::SigningKey,
        place: Place,
    ) -> Result<(), Error> {
        let row = &mut reader.row;
        row.epoch = held.group.epoch();
        row.epoch_authenticator = held.group.epoch_authenticator().as_slice().into();
        row.tip = place.id;
        row.epoch_time = place.time;
        still_leaving(&held.group, &mut row.leaving);
        still_offered(&held.group, &mut row.offers);
        // A leave that was passed over makes the next commit due.
        still_leaving(&held.group, &mut row.expelled);
        let nobody_goes = row.leaving.is_empty() && row.expelled.is_empty();
        row.cause = if nobody_goes && row.offers.is_empty() {
            0
        } else {
            place.time
        };
        if let Ok(Some(title)) = held.group.extensions().get::<folkmoot_credential::Title>() {
            row.title = title.as_str().into();
        }
        self.put_fence(reader.row.log, reader.row.epoch, fence)?;
        reader.held = Some(held);
        Ok(())
    }

    fn write_changes(
        &mut self,
        row: &ConversationRow,
        place: Place,
        changed: &Changed,
    ) -> Result<(), Error> {
        let Changed {
            by,
            added,
            removed,
            left,
        } = changed;
        let change = |user: &UserId| Change {
            by: by.clone(),
            user: user.clone(),
        };
        let is_back = |user: &&UserId| added.contains(user);
        let (back, removed): (Vec<_>, Vec<_>) = removed.iter().partition(is_back);
        self.bar(row.log, &removed, added)?;
        let added = added.iter().filter(|user| !back.contains(user));
        let gone = |user: &UserId| What::Left(Update { by: user.clone() });
        let mut lines: Vec<What> = left.iter().map(gone).collect();
        lines.extend(removed.iter().map(|user| What::Removed(change(user))));
        lines.extend(back.iter().map(|user| What::Replaced(change(user))));
        lines.extend(added.map(|user| What::Added(change(user))));
        if lines.is_empty() {
            lines.push(What::Updated(Update { by: by.clone() }));
        }
        lines.push(What::Epoch(Epoch {
            number: row.epoch,
            authenticator: row.epoch_authenticator.clone(),
        }));
        for (part, what) in (0..).zip(lines) {
            self.write_history_at(row, place, part, what)?;
        }
        Ok(())
    }
}

/// Who made a commit that the engine could read.
fn author_of(effects: &CommitEffects) -> Option<LeafIndex> {
    match effects.sender {
        Sender::Member(leaf) => Some(leaf),
        _ => None,
    }
}

/// The commit is not followed: the conversation stays where it was.
fn give_back(
    reader: &mut Reader,
    held: Held,
    verdict: Verdict,
) -> Result<Result<(), Fault>, Error> {
    reader.held = Some(held);
    Ok(Err(Fault::Invalid(verdict)))
}

/// What every group of ours says about itself, and nothing else: rules that we know, and whom it trusts.
pub(super) fn check_rules(extensions: &Extensions) -> Result<(), String> {
    let policy = extensions.get::<Policy>();
    let accepted = extensions.get::<AcceptedKeys>();
    let known = |kind: ExtensionType| {
        kind == ExtensionType::REQUIRED_CAPABILITIES || EXTENSION_TYPES.contains(&kind)
    };
    if !matches!((policy, accepted), (Ok(Some(_)), Ok(Some(_)))) {
        Err("the group's rules are missing, or of a version that is not known here".into())
    } else if let Some(unknown) = extensions.types().find(|kind| !known(*kind)) {
        Err(format!("extension {unknown} has no place in this group"))
    } else {
        Ok(())
    }
}

/// What a commit did, by people.
struct Changed {
    by: UserId,
    added: Vec<UserId>,
    removed: Vec<UserId>,
    /// Of those removed, who wanted it.
    left: Vec<UserId>,
}

impl Changed {
    /// `group` and `leaving` are those before the commit. `None` if its author has no name.
    fn of(group: &Group, effects: &CommitEffects, leaving: &[Leaver]) -> Option<Self> {
        let user = |node: &LeafNode| Some(DeviceCredential::read(&node.credential).ok()?.user);
        let own = effects
            .proposals
            .iter()
            .filter_map(|(sender, proposal)| match proposal {
                Proposal::Remove(remove) if *sender == Sender::Member(remove.removed) => {
                    Some(remove.removed)
                }
                _ => None,
            });
        let leavers = leaving.iter().map(|leaver| leaver.leaf);
        let wanted: std::collections::BTreeSet<LeafIndex> = own.chain(leavers).collect();
        let wanted = |leaf: LeafIndex| wanted.contains(&leaf);
        let gone = |left: bool| {
            let gone = effects.removed.iter();
            gone.filter(move |(leaf, _)| wanted(*leaf) == left)
                .filter_map(move |(_, node)| user(node))
        };
        let added = effects.proposals.iter().filter_map(|(_, proposal)| {
            if let Proposal::Add(add) = proposal {
                user(&add.key_package.leaf_node)
            } else {
                None
            }
        });
        Some(Self {
            by: member(group, effects.committer)?.0,
            added: unique(added),
            removed: unique(gone(false)),
            left: unique(gone(true)),
        })
    }
}

fn unique(users: impl Iterator<Item = UserId>) -> Vec<UserId> {
    let mut seen = std::collections::BTreeSet::new();
    users.filter(|user| seen.insert(user.to_string())).collect()
}

/// Compares what a commit declares with what it does.
fn check_declared<'d>(
    declared: Option<&'d CommitDeclaration>,
    effects: &CommitEffects,
) -> Result<&'d CommitDeclaration, String> {
    let Some(declared) = declared else {
        return Err("it declares nothing".into());
    };
    if !effects.removed.is_empty() && !declared.cut && stands(Guard::Declared) {
        Err("it removes somebody and is no cut".into())
    } else if declared.contest && !effects.added.is_empty() {
        Err("it adds somebody beside another commit".into())
    } else {
        Ok(declared)
    }
}

/// Who may commit, after a commit: the log is told when that changes; each is a member, and offered it; a large
/// group has somebody.
fn check_committers(
    declared: Option<&CommitDeclaration>,
    before: &Extensions,
    after: &Group,
) -> Result<(), String> {
    let read = |extensions: &Extensions| extensions.get::<Committers>();
    let (Ok(before), Ok(now)) = (read(before), read(after.extensions())) else {
        return Err("its committers cannot be read".into());
    };
    let (before, now) = (before.unwrap_or_default(), now.unwrap_or_default());
    let (keys, told) = (now.keys(), declared.and_then(|it| it.committers.as_ref()));
    let right = match told {
        Some(told) => *told == keys && keys != before.keys(),
        None => keys == before.keys(),
    };
    if !right && stands(Guard::Committers) {
        return Err("the committers that it declares are not those of the group".into());
    }
    if keys.is_empty() && after.member_count() as usize > limits::LEAVES_WITHOUT_COMMITTERS {
        return Err("it makes a large group without committers".into());
    }
    let place = |committer: &Committer| (committer.leaf, committer.device.0);
    let places: BTreeSet<_> = now.committers.iter().map(place).collect();
    let each_once: BTreeSet<_> = keys.iter().map(|key| key.0).collect();
    let is_right = |committer: &Committer| {
        let there = member(after, LeafIndex(committer.leaf));
        there.is_some_and(|(_, device)| device == committer.device)
            && (before.committers.contains(committer) || committer.verify(after.group_id()).is_ok())
    };
    if places.len() == keys.len()
        && each_once.len() == keys.len()
        && keys.len() <= limits::COMMITTERS
        && now.committers.iter().all(is_right)
    {
        Ok(())
    } else {
        Err("somebody is named as a committer who is no member or did not offer it".into())
    }
}

/// Whether a commit asks for the pause between commits that the group's size calls for. A contest leaves
/// it as it is.
fn check_interval(
    declared: &CommitDeclaration,
    before: &Group,
    after: &Group,
) -> Result<(), String> {
    let due = match declared.contest {
        true => None,
        false => interval_after(before, after),
    };
    if declared.commit_interval == due {
        Ok(())
    } else {
        Err("it asks for another pause between commits than the group's size".into())
    }
}

/// Compares the tree pages that a commit declares with those that every member computes. Who is removed
/// cannot.
fn check_pages(declaration: &CommitDeclaration, update: &PageUpdate) -> Result<(), String> {
    let written = declared(update.written.iter().map(|page| &page.address));
    let replaced = declared(&update.replaced);
    if (&declaration.pages, &declaration.replaced) == (&written, &replaced) {
        Ok(())
    } else {
        Err("its declared tree pages are not those of its tree".into())
    }
}

/// Compares the fence that a commit declares with that of its epoch, which who is removed cannot know.
fn check_fence(declared: &CommitDeclaration, fence: &[u8; 32]) -> Result<(), String> {
    if declared.next_fence_key.0 == *fence || !stands(Guard::Declared) {
        Ok(())
    } else {
        Err("its declared fence key is not that of its epoch".into())
    }
}

/// What a commit in a group of ours may do. Above all it names no pre-shared key: of an epoch that some
/// members never knew, only the others could follow. It does not end the group in favour of another one,
/// and is not from outside.
fn check_effects(effects: &CommitEffects) -> Result<(), String> {
    let allowed = |proposal: &Proposal| {
        matches!(
            proposal,
            Proposal::Add(_)
                | Proposal::Update(_)
                | Proposal::Remove(_)
                | Proposal::GroupContextExtensions(_)
        )
    };
    let from_members = |sender: &Sender| matches!(sender, Sender::Member(_));
    if from_members(&effects.sender)
        && effects
            .proposals
            .iter()
            .all(|(sender, proposal)| from_members(sender) && allowed(proposal))
    {
        Ok(())
    } else {
        Err("it does what no commit in this group may".into())
    }
}
