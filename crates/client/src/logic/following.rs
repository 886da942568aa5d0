//! Commits as they are read: our own is merged, somebody else's followed, an invalid one followed by
//! nobody.

use folkmoot_credential::{AcceptedKeys, Policy, UserId};
use folkmoot_mls::codec::Decode;
use folkmoot_mls::group::{Group, Processed};
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::tree_math::LeafIndex;
use folkmoot_protocol::ids::LogId;
use folkmoot_protocol::log::{Append, CommitDeclaration};

use super::chain::Place;
use super::groups::{Held, context, derive_fence, member};
use super::reading::{Fault, Reader, blame};
use super::rows::{self, AttemptRow, CommitAttempt, ConversationRow};
use super::{Standing, Step};
use crate::error::Error;
use crate::history::{Change, Epoch, Update, What};
use crate::store::Table;

impl Step<'_> {
    pub(super) fn commit(
        &mut self,
        reader: &mut Reader,
        append: &Append,
        place: Place,
    ) -> Result<Result<(), Fault>, Error> {
        let key = rows::attempt_key(reader.row.log, place.id);
        let attempt: Option<AttemptRow> = rows::get(self.tx, Table::Attempts, &key)?;
        match attempt {
            Some(AttemptRow {
                commit: Some(commit),
                intent,
                ..
            }) => {
                let merged = self.merge(reader, commit, place)?;
                if merged.is_ok() {
                    let key = rows::outbox_key(reader.row.log, intent);
                    if self.tx.get(Table::Outbox, &key)?.is_some() {
                        self.settle(reader.row.log, intent, Ok(()))?;
                    }
                    self.epoch_over(reader.row.log)?;
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
        commit: CommitAttempt,
        place: Place,
    ) -> Result<Result<(), Fault>, Error> {
        let Some(held) = reader.held.take() else {
            return Ok(Ok(()));
        };
        let by = self.account()?.user;
        // First as a trial: what the others find invalid at the entry's time, we must not merge.
        let ctx = context(place.time / 1000, self.rng);
        if let Err(error) = held.group.judge_again(&commit.effects, &ctx) {
            reader.held = Some(held);
            return Ok(Err(Fault::Stop(blame(error)?)));
        }
        let log = reader.row.log;
        self.apply(log, &held.group.proposals_deletion())?;
        self.apply(log, &commit.changes)?;
        self.apply(log, &held.keys.deletion())?;
        drop(held);
        let held = self.load(&reader.row)?;
        self.enter(reader, held, &commit.next_fence.0, place)?;
        self.write_changes(&reader.row, place, &by, &commit.added, &commit.removed)?;
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
        let mut ctx = context(place.time / 1000, self.rng);
        let processed = match MlsMessage::from_bytes(&append.message) {
            Ok(message) => held.group.process(&mut held.keys, &message, &mut ctx),
            Err(error) => Err(error.into()),
        };
        let name = |group: &Group, leaf: LeafIndex| member(group, leaf).map(|(user, _)| user);
        let result = match processed {
            Ok(Processed::Commit {
                effects,
                group,
                mut keys,
                mut changes,
                ..
            }) => {
                let (fence, exported) = derive_fence(&mut keys)?;
                changes.append(exported);
                let removes = !effects.removed.is_empty();
                match declared.map(|declared| check_declared(declared, &fence.public().0, removes))
                {
                    Some(Ok(())) => {}
                    Some(Err(reason)) => return self.give_back(reader, held, reason),
                    None => return self.give_back(reader, held, "it declares nothing".into()),
                }
                if let Err(reason) = check_rules(&group) {
                    return self.give_back(reader, held, reason);
                }
                let Some(by) = name(&held.group, effects.committer) else {
                    return self.give_back(reader, held, "its author has no name".into());
                };
                let removed = effects
                    .removed
                    .iter()
                    .filter_map(|(leaf, _)| name(&held.group, *leaf));
                let removed = unique(removed);
                let added = unique(effects.added.iter().filter_map(|leaf| name(&group, *leaf)));
                let log = reader.row.log;
                self.apply(log, &changes)?;
                self.apply(log, &held.keys.deletion())?;
                self.enter(
                    reader,
                    Held {
                        changes: 0,
                        group,
                        keys,
                    },
                    &fence,
                    place,
                )?;
                self.write_changes(&reader.row, place, &by, &added, &removed)?;
                Ok(())
            }
            Ok(Processed::Removed { by }) => {
                let user = self.account()?.user;
                if let Some(by) = name(&held.group, by) {
                    let row = &mut reader.row;
                    row.standing = Standing::Removed;
                    self.write_history_at(row, place, 0, What::Removed(Change { by, user }))?;
                }
                Ok(())
            }
            Ok(_) => Err("it is no commit".to_owned()),
            Err(error) => Err(blame(error)?),
        };
        match result {
            Ok(()) => Ok(Ok(())),
            Err(reason) => self.give_back(reader, held, reason),
        }
    }

    /// The commit is invalid: the conversation stays where it was.
    fn give_back(
        &mut self,
        reader: &mut Reader,
        held: Held,
        reason: String,
    ) -> Result<Result<(), Fault>, Error> {
        reader.held = Some(held);
        Ok(Err(Fault::Stop(reason)))
    }

    /// The conversation is in a new epoch, whose records are written. The old fence key goes.
    fn enter(
        &mut self,
        reader: &mut Reader,
        held: Held,
        fence: &folkmoot_protocol::keys::SigningKey,
        place: Place,
    ) -> Result<(), Error> {
        let row = &mut reader.row;
        self.tx
            .delete(Table::Fences, &rows::fence_key(row.log, row.epoch))?;
        row.epoch = held.group.epoch();
        row.epoch_authenticator = held.group.epoch_authenticator().as_slice().into();
        row.tip = place.id;
        if let Ok(Some(title)) = held.group.extensions().get::<folkmoot_credential::Title>() {
            row.title = title.as_str().into();
        }
        self.put_fence(reader.row.log, reader.row.epoch, fence)?;
        reader.held = Some(held);
        Ok(())
    }

    /// Everything that was offered after the old tip has lost, and is made again.
    fn epoch_over(&mut self, log: LogId) -> Result<(), Error> {
        self.tx.delete_prefix(Table::Attempts, log.as_ref())?;
        for mut row in self.outbox(log)? {
            if row.attempt.is_some() || row.receipt.is_some() {
                (row.attempt, row.receipt) = (None, None);
                self.put_outbox(&row)?;
            }
        }
        Ok(())
    }

    fn write_changes(
        &mut self,
        row: &ConversationRow,
        place: Place,
        by: &UserId,
        added: &[UserId],
        removed: &[UserId],
    ) -> Result<(), Error> {
        let change = |user: &UserId| Change {
            by: by.clone(),
            user: user.clone(),
        };
        let mut lines: Vec<What> = removed
            .iter()
            .map(|user| What::Removed(change(user)))
            .collect();
        lines.extend(added.iter().map(|user| What::Added(change(user))));
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

fn unique(users: impl Iterator<Item = UserId>) -> Vec<UserId> {
    let mut found = Vec::new();
    for user in users {
        if !found.contains(&user) {
            found.push(user);
        }
    }
    found
}

/// Compares what a commit declares with what follows from it.
fn check_declared(
    declared: &CommitDeclaration,
    fence: &[u8; 32],
    removes: bool,
) -> Result<(), String> {
    if declared.next_fence_key.0 != *fence {
        Err("its declared fence key is not that of its epoch".into())
    } else if removes && !declared.cut {
        Err("it removes somebody and is no cut".into())
    } else if !declared.pages.is_empty() {
        Err("it declares tree pages where there are none".into())
    } else {
        Ok(())
    }
}

/// What every group of ours says about itself: rules that we know, and whom it trusts.
pub(super) fn check_rules(group: &Group) -> Result<(), String> {
    let policy = group.extensions().get::<Policy>();
    let accepted = group.extensions().get::<AcceptedKeys>();
    match (policy, accepted) {
        (Ok(Some(_)), Ok(Some(_))) => Ok(()),
        _ => Err("the group's rules are missing, or of a version that is not known here".into()),
    }
}
