//! Reading a log: entries in order, each applied once, on the chain. Only this moves a group on.

use folkmoot_credential::{AcceptedKeys, DeviceCredential, Policy, UserId, Version};
use folkmoot_mls::codec::Decode;
use folkmoot_mls::error::Error as EngineError;
use folkmoot_mls::framing::Sender;
use folkmoot_mls::group::{CommitEffects, Group, Processed};
use folkmoot_mls::leaf_node::LeafNode;
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::proposal::Proposal;
use folkmoot_mls::tree_math::LeafIndex;
use folkmoot_protocol::delivery::ReadResponses;
use folkmoot_protocol::delivery::read_response::End;
use folkmoot_protocol::ids::LogId;
use folkmoot_protocol::keys::hash;
use folkmoot_protocol::log::{Append, CommitDeclaration};
use folkmoot_protocol::plaintext::{MessageId, Plaintext, Position};

use super::chain::Place;
use super::groups::{Held, context, derive_fence, member};
use super::outbox::stopped;
use super::proposals::{concerns, still_leaving};
use super::rows::{self, AttemptRow, CommitAttempt, ConversationRow, Leaver, OutboxRow, Wish};
use super::session::{Cursor, Task};
use super::{APPLICATION, Event, PROPOSAL, Standing, Step};
use crate::error::{BadService, Error};
use crate::history::{
    Change, Contradiction, Epoch, HistoryEntry, HistoryPosition, Message, Unreadable, Update, What,
};
use crate::store::Table;

/// What an entry led to, beside the next one.
enum Fault {
    /// The DS broke the protocol: nothing of the entry is applied.
    Service(BadService),
    /// The entry is one that no member may follow: the conversation stops before it.
    Stop(String),
}

/// A conversation while its entries are applied.
struct Reader {
    row: ConversationRow,
    /// `None` once we are no member.
    held: Option<Held>,
}

impl Step<'_> {
    /// Takes what a read brought. `task` asked for it, from `cursor` on.
    pub(super) fn read(
        &mut self,
        task: Task,
        log: LogId,
        cursor: Cursor,
        answer: &ReadResponses,
    ) -> Result<(), Error> {
        let mut row = rows::conversation(self.tx, log)?;
        if row.standing != Standing::Member {
            self.hang_up(Task::Follow(log));
            return Ok(());
        }
        let before = row.sequence;
        let verified = match self.verify(&mut row, task, cursor, answer)? {
            Ok(verified) => verified,
            Err(fault) => {
                self.unheard(task, fault);
                return Ok(());
            }
        };
        let held = self.hold(&row)?;
        let mut reader = Reader {
            row,
            held: Some(held),
        };
        let mut fault = None;
        for (entry, append, place) in verified.entries {
            if let Err(found) = self.entry(&mut reader, &append, place)? {
                if matches!(found, Fault::Stop(_)) {
                    self.put_evidence(log, Some(entry), None, None, entry.sequence)?;
                }
                fault = Some(found);
                break;
            }
            if reader.held.is_none() {
                break;
            }
        }
        let Reader { mut row, held } = reader;
        let Some(held) = held else {
            self.put_conversation(&mut row)?;
            return self.over(&row);
        };
        let fault = match fault {
            Some(Fault::Stop(reason)) => {
                self.session.held.remove(&log);
                return self.stop(row, reason);
            }
            Some(Fault::Service(fault)) => {
                // The entry may have used keys of the group in memory: it is loaded again.
                drop(held);
                self.put_conversation(&mut row)?;
                Some(fault)
            }
            None => {
                let mut held = held;
                if verified.end == End::Head {
                    self.head_at(&mut row, &mut held, verified.issued)?;
                }
                self.keep(&mut row, held)?;
                if row.sequence != before {
                    self.session.reading(log).lost_at = None;
                }
                self.end(task, &row, verified.end, cursor)?
            }
        };
        if let Some(fault) = fault {
            self.unheard(task, fault);
        }
        Ok(())
    }

    /// The DS broke the protocol: what it says to this task is not listened to any more.
    fn unheard(&mut self, task: Task, fault: BadService) {
        if let Task::Follow(_) = task {
            self.hang_up(task);
        }
        self.block(task, Error::BadService(fault));
    }

    /// What the end of a read says, or is wrong with it.
    fn end(
        &mut self,
        task: Task,
        row: &ConversationRow,
        end: End,
        cursor: Cursor,
    ) -> Result<Option<BadService>, Error> {
        let log = row.log;
        let follows = matches!(task, Task::Follow(_));
        match end {
            End::Head => {
                let reading = self.session.reading(log);
                reading.at_head = true;
                reading.wanted = false;
                self.wake_invites(log)?;
            }
            // A newer key opens what comes after; the old one must not be all that we have.
            End::Cut if row.epoch != cursor.epoch => self.read_on(log, follows),
            End::Cut => return Ok(Some(BadService::Contradiction(log))),
            End::Blind => return Ok(Some(BadService::Denied(log))),
            End::Gap => return Ok(Some(BadService::Gap(log))),
            // A long read is cut off by whoever carries it, and goes on where it stopped.
            End::Unspecified if row.sequence > cursor.after => self.read_on(log, follows),
            End::Unspecified => return Ok(Some(BadService::Answer)),
        }
        Ok(None)
    }

    /// There is more. A stream brings it by itself, or begins again.
    fn read_on(&mut self, log: LogId, follows: bool) {
        let reading = self.session.reading(log);
        reading.at_head = false;
        reading.wanted |= !follows;
    }

    /// Applies one entry.
    fn entry(
        &mut self,
        reader: &mut Reader,
        append: &Append,
        place: Place,
    ) -> Result<Result<(), Fault>, Error> {
        if let Some(held) = &mut reader.held {
            self.entry_at(&mut reader.row, held, place.time)?;
        }
        let made = (append.epoch, append.parent);
        let here = made == (reader.row.epoch, reader.row.tip);
        let mut past = reader.row.past.iter();
        let applied = if past.any(|past| made == (past.epoch, past.commit))
            && append.content_type == APPLICATION
        {
            let late = Some(append.epoch);
            self.message(reader, append, Place { late, ..place })?
        } else if append.epoch < reader.row.epoch {
            // Written before we joined, or too late to be read.
            Ok(())
        } else if !here {
            Err(Fault::Service(BadService::Order(reader.row.log)))
        } else if append.commit.is_some() {
            self.commit(reader, append, place)?
        } else {
            self.message(reader, append, place)?
        };
        if applied.is_ok() {
            let row = &mut reader.row;
            row.sequence = place.sequence;
            row.chain = place.chain;
            row.time = place.time;
            row.promises
                .retain(|promise| promise.head.sequence > place.sequence);
            self.put_chain(&reader.row)?;
        }
        Ok(applied)
    }

    // ---- commits

    fn commit(
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
                let cut = append.commit.as_ref().is_some_and(|commit| commit.cut);
                let merged = self.merge(reader, &commit, place, cut)?;
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
        commit: &CommitAttempt,
        place: Place,
        cut: bool,
    ) -> Result<Result<(), Fault>, Error> {
        let Some(held) = reader.held.take() else {
            return Ok(Ok(()));
        };
        // First as a trial: what the others find invalid at the entry's time, we must not merge.
        let ctx = context(place.time / 1000, self.rng);
        if let Err(error) = held.group.judge_again(&commit.effects, &ctx) {
            reader.held = Some(held);
            let reason = format!("our commit was no longer valid when it was ordered: {error}");
            return Ok(Err(Fault::Stop(reason)));
        }
        let changed = Changed::of(&held.group, &commit.effects, &reader.row.leaving);
        let log = reader.row.log;
        self.apply(log, &held.group.proposals_deletion())?;
        self.apply(log, &commit.changes)?;
        let Held { keys, past, .. } = held;
        let mut held = self.load(&reader.row)?;
        held.past = past;
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
        let mut ctx = context(place.time / 1000, self.rng);
        let processed = match group_message(&append.message) {
            Ok(message) => held.group.process(&mut held.keys, &message, &mut ctx),
            Err(error) => Err(error.into()),
        };
        let name = |group: &Group, sender| match sender {
            Sender::Member(leaf) => member(group, leaf).map(|(user, _)| user),
            _ => None,
        };
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
                if let Err(reason) = check_effects(&effects).and_then(|()| check_rules(&group)) {
                    return self.give_back(reader, held, reason);
                }
                let changed = Changed::of(&held.group, &effects, &reader.row.leaving);
                let Some(changed) = changed else {
                    return self.give_back(reader, held, "its author has no name".into());
                };
                let log = reader.row.log;
                self.apply(log, &changes)?;
                let mut next = Held {
                    changes: 0,
                    group,
                    keys,
                    past: held.past,
                };
                let cut = declared.is_some_and(|declared| declared.cut);
                self.end_epoch(&mut reader.row, &mut next, held.keys, place, cut)?;
                self.enter(reader, next, &fence, place)?;
                self.write_changes(&reader.row, place, &changed)?;
                return Ok(Ok(()));
            }
            Ok(Processed::Removed { by }) => {
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
        still_leaving(&held.group, &mut row.leaving);
        // A leave that was passed over makes the next commit due.
        row.cause = if row.leaving.is_empty() {
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
        let gone = |user: &UserId| What::Left(Update { by: user.clone() });
        let mut lines: Vec<What> = left.iter().map(gone).collect();
        lines.extend(removed.iter().map(|user| What::Removed(change(user))));
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

    // ---- messages and proposals

    fn message(
        &mut self,
        reader: &mut Reader,
        append: &Append,
        place: Place,
    ) -> Result<Result<(), Fault>, Error> {
        let log = reader.row.log;
        let key = rows::attempt_key(log, place.id);
        if let Some(attempt) = rows::get::<AttemptRow>(self.tx, Table::Attempts, &key)? {
            self.tx.delete(Table::Attempts, &key)?;
            let key = rows::outbox_key(log, attempt.intent);
            let row: Option<OutboxRow> = rows::get(self.tx, Table::Outbox, &key)?;
            if let Some(OutboxRow {
                intent,
                wish: Wish::Send(wish),
                ..
            }) = row.clone()
            {
                let account = self.account()?;
                let message = Message {
                    sender: account.user.clone(),
                    device: account.device.0.public(),
                    own: true,
                    id: wish.id,
                    media_type: wish.media_type,
                    content: wish.content,
                };
                self.is_new(log, &account.user, wish.id)?;
                self.write_history_at(&reader.row, place, 0, What::Message(message))?;
                self.settle(log, intent, Ok(()))?;
            } else if let (Some(row), Some(held)) = (row, &reader.held) {
                self.left(&mut reader.row, &held.group, row)?;
            }
            return Ok(Ok(()));
        }
        let Some(held) = &mut reader.held else {
            return Ok(Ok(()));
        };
        if let Some(epoch) = place.late {
            self.hold_past(log, held, epoch)?;
        }
        let past = place.late.and_then(|epoch| held.past.get_mut(&epoch));
        let mut ctx = context(place.time / 1000, self.rng);
        let processed = match (group_message(&append.message), past) {
            (Ok(MlsMessage::PrivateMessage(message)), Some(keys)) => {
                keys.decrypt(&message)
                    .map(|(decrypted, changes)| Processed::Application {
                        sender: decrypted.sender,
                        authenticated_data: decrypted.authenticated_data,
                        data: decrypted.data,
                        changes,
                    })
            }
            (Ok(message), _) => held.group.process(&mut held.keys, &message, &mut ctx),
            (Err(error), _) => Err(error.into()),
        };
        match processed {
            Ok(Processed::Application {
                sender,
                data,
                changes,
                ..
            }) if append.content_type == APPLICATION => {
                let sender = member(&held.group, sender);
                self.apply(log, &changes)?;
                self.said(&reader.row, place, sender, &data)?;
            }
            Ok(Processed::Proposal {
                sender,
                proposal,
                group,
                changes,
                ..
            }) if append.content_type == PROPOSAL => {
                let row = &mut reader.row;
                if row.cause == 0 && concerns(&group, &proposal) {
                    row.cause = place.time;
                }
                if matches!(&proposal, Proposal::Remove(remove)
                    if sender == Sender::Member(remove.removed))
                    && let Sender::Member(leaf) = sender
                {
                    wants_to_leave(&group, &mut row.leaving, leaf);
                }
                held.group = group;
                self.apply(log, &changes)?;
            }
            // The DS compared the header with what is declared.
            Ok(_) => return Ok(Err(Fault::Service(BadService::Order(log)))),
            Err(EngineError::OwnMessage) => return Ok(Err(Fault::Stop(restored()))),
            Err(error) => {
                let reason = blame(error)?.into();
                self.write_history_at(
                    &reader.row,
                    place,
                    0,
                    What::Unreadable(Unreadable { reason }),
                )?;
            }
        }
        Ok(Ok(()))
    }

    /// Our own leave is in the log. That is what was asked for; the wish stays until it is done.
    fn left(
        &mut self,
        row: &mut ConversationRow,
        group: &Group,
        mut wish: OutboxRow,
    ) -> Result<(), Error> {
        let Wish::Leave(leave) = &mut wish.wish else {
            return Ok(());
        };
        leave.proposed = true;
        (wish.attempt, wish.receipt) = (None, None);
        self.put_outbox(&wish)?;
        wants_to_leave(group, &mut row.leaving, group.own_index());
        self.tell(Event::Done {
            intent: wish.intent,
        });
        Ok(())
    }

    /// Somebody said something.
    fn said(
        &mut self,
        row: &ConversationRow,
        place: Place,
        sender: Option<(UserId, folkmoot_protocol::keys::PublicKey)>,
        data: &[u8],
    ) -> Result<(), Error> {
        let (Ok(plaintext), Some((sender, device))) = (Plaintext::from_padded(data), sender) else {
            let reason = "its content is malformed".into();
            return self.write_history_at(row, place, 0, What::Unreadable(Unreadable { reason }));
        };
        if !self.is_new(row.log, &sender, plaintext.id)? {
            return Ok(());
        }
        let agrees = self.agrees(row, &plaintext.position)?;
        let message = Message {
            sender: sender.clone(),
            device,
            own: false,
            id: plaintext.id,
            media_type: plaintext.media_type.into(),
            content: plaintext.content,
        };
        self.write_history_at(row, place, 0, What::Message(message))?;
        if !agrees {
            let sequence = plaintext.position.sequence;
            let what = What::Contradiction(Contradiction {
                with: sender,
                sequence,
            });
            self.write_history_at(row, place, 1, what)?;
        }
        Ok(())
    }

    /// Whether the user has not sent this id before; remembers it.
    fn is_new(&mut self, log: LogId, user: &UserId, id: MessageId) -> Result<bool, Error> {
        let key = [log.0, hash("user", user)].concat();
        let key = [&key[..], &id.0].concat();
        let new = self.tx.get(Table::Seen, &key)?.is_none();
        self.tx.put(Table::Seen, &key, &[])?;
        Ok(new)
    }

    /// Whether the sender saw the same log as we did. Where we have no hash we cannot tell.
    fn agrees(&self, row: &ConversationRow, position: &Position) -> Result<bool, Error> {
        if position.sequence > row.sequence {
            return Ok(false);
        }
        let ours = self.chain_at(row, position.sequence)?;
        Ok(ours.is_none_or(|ours| ours == position.chain))
    }

    // ---- ends

    /// We are no member any more: keys and wishes go, what was said stays.
    pub(super) fn over(&mut self, row: &ConversationRow) -> Result<(), Error> {
        let log = row.log;
        self.hang_up(Task::Follow(log));
        self.session.held.remove(&log);
        for table in [Table::Records, Table::Fences, Table::Attempts] {
            self.tx.delete_prefix(table, log.as_ref())?;
        }
        for waiting in self.outbox(log)? {
            let title = row.title.0.clone();
            let result = match (&waiting.wish, row.standing) {
                (Wish::Leave(_), _) => Ok(()),
                (_, Standing::Left) => Err(Error::Left(title)),
                _ => Err(Error::NoLongerMember(title)),
            };
            self.settle(log, waiting.intent, result)?;
        }
        // Perhaps somebody has added us again.
        let invitations: Vec<(_, rows::InvitationRow)> =
            rows::scan(self.tx, Table::Invitations, &[])?;
        for (_, invitation) in invitations {
            self.wake.push(Task::Join(invitation.invitation.address));
        }
        Ok(())
    }

    /// Nobody may follow: the conversation stays at the last good entry, with the evidence.
    fn stop(&mut self, mut row: ConversationRow, reason: String) -> Result<(), Error> {
        self.hang_up(Task::Follow(row.log));
        row.standing = Standing::Stopped;
        row.stopped = Some(reason.clone().into());
        self.put_conversation(&mut row)?;
        for waiting in self.outbox(row.log)? {
            self.settle(row.log, waiting.intent, Err(stopped(&row)))?;
        }
        self.tell(Event::Stopped {
            log: row.log,
            title: row.title.0,
            reason,
        });
        Ok(())
    }

    // ---- history

    /// Writes a line at the row's own place.
    pub(super) fn write_history(
        &mut self,
        row: &ConversationRow,
        part: u32,
        what: What,
    ) -> Result<(), Error> {
        let place = Place {
            sequence: row.sequence,
            chain: row.chain,
            time: row.time,
            id: row.tip,
            late: None,
        };
        self.write_history_at(row, place, part, what)
    }

    fn write_history_at(
        &mut self,
        row: &ConversationRow,
        place: Place,
        part: u32,
        what: What,
    ) -> Result<(), Error> {
        let sequence = place.sequence;
        let (time, epoch) = (place.time, place.late.unwrap_or(row.epoch));
        let entry = HistoryEntry {
            version: Version,
            sequence,
            part,
            time,
            epoch,
            what,
        };
        let key = rows::history_key(row.log, HistoryPosition { sequence, part });
        rows::put(self.tx, Table::History, &key, &entry)?;
        self.tell(Event::News {
            log: row.log,
            title: row.title.0.clone(),
            entry,
        });
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
        let wanted = |leaf: LeafIndex| {
            leaving.iter().any(|leaver| leaver.leaf == leaf)
                || effects.proposals.iter().any(|(sender, proposal)| {
                    matches!(proposal, Proposal::Remove(remove)
                        if *sender == Sender::Member(leaf) && remove.removed == leaf)
                })
        };
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

/// Remembers that a member wants to leave.
fn wants_to_leave(group: &Group, leaving: &mut Vec<Leaver>, leaf: LeafIndex) {
    let Some(node) = group.member(leaf) else {
        return;
    };
    let signature_key = node.signature_key.to_vec().into();
    let leaver = Leaver {
        leaf,
        signature_key,
    };
    if !leaving.contains(&leaver) {
        leaving.push(leaver);
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

fn restored() -> String {
    "this home was put back from an older copy, whose keys must not be used again: ask another \
     member to remove you and add you again"
        .into()
}

/// Why a member's message is refused; an error of our own storage is passed on.
fn blame(error: EngineError) -> Result<String, Error> {
    match error {
        EngineError::DamagedRecord(_) | EngineError::UnsupportedCipherSuite(_) => Err(error.into()),
        EngineError::OwnMessage => Ok(restored()),
        error => Ok(error.to_string()),
    }
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

/// A message to a group. In a log all of them are encrypted, so that nobody from outside is heard.
fn group_message(bytes: &[u8]) -> Result<MlsMessage, EngineError> {
    match MlsMessage::from_bytes(bytes)? {
        message @ MlsMessage::PrivateMessage(_) => Ok(message),
        other => Err(EngineError::UnexpectedWireFormat(other.wire_format())),
    }
}

/// What no commit in a group of ours does: end it in favour of another one, or be from outside.
fn check_effects(effects: &CommitEffects) -> Result<(), String> {
    let ends = effects
        .proposals
        .iter()
        .any(|(_, proposal)| matches!(proposal, Proposal::ReInit(_) | Proposal::ExternalInit(_)));
    if ends || !matches!(effects.sender, Sender::Member(_)) {
        Err("it does what no commit in this group may".into())
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
