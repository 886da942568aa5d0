//! Doors: those to which the links of our groups lead, and those at which we wait for an answer to a
//! knock of ours.
//!
//! A group's door follows from the epoch in which its link was made, or in which somebody was removed
//! last. Every member has its keys, makes it if nobody else has, looks at what came in, and closes the
//! one before it: who was removed has those keys too, but they open nothing any more. Newcomers are told
//! the keys in their Welcome.

use folkmoot_credential::{DeliveryAddress, LinkPolicy, LinkShare, UserId, Version};
use folkmoot_mls::extension::{ExtensionContent, Extensions};
use folkmoot_mls::group::{CommitEffects, Group};
use folkmoot_mls::message_keys::MessageKeys;
use folkmoot_mls::proposal::Proposal;
use folkmoot_mls::records::Changes;
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::delivery::{
    AcknowledgeRequest, CloseDoorRequest, CollectRequest, CollectResponse, CreateDoorRequest,
    DropRequest, NonceRequest, Owner,
};
use folkmoot_protocol::door::{self, DoorKeys, door_seed, ticket_hash};
use folkmoot_protocol::ids::{LogId, MailboxId};
use folkmoot_protocol::invitation::Invitation;
use folkmoot_protocol::keys::hash;
use folkmoot_protocol::mailbox::OwnerContent;
use folkmoot_protocol::proof::{MailboxProof, Method};
use folkmoot_protocol::sealed::suite;
use folkmoot_protocol::{Refusal, VERSION};

use super::committing::{Over, Plan};
use super::groups::Held;
use super::rows::{
    self, BarredRow, ConversationRow, DoorRow, DoorStage, Key, KnockRow, Knocking, LinkWish,
};
use super::session::{Asked, Task};
use super::{Ask, Event, Step, address};
use crate::error::{BadService, Error};
use crate::store::{StoreError, Table};

/// What is to be done next at a door.
enum Errand {
    Create,
    Close,
    Acknowledge(u64),
    Collect,
}

impl Step<'_> {
    pub(super) fn door(&self, mailbox: MailboxId) -> Result<Option<DoorRow>, StoreError> {
        rows::get(self.tx, Table::Doors, mailbox.as_ref())
    }

    pub(super) fn set_door(&mut self, mailbox: MailboxId, row: &DoorRow) -> Result<(), StoreError> {
        rows::put(self.tx, Table::Doors, mailbox.as_ref(), row)
    }

    pub(super) fn doors(&self) -> Result<Vec<(MailboxId, DoorRow)>, StoreError> {
        let rows: Vec<(_, DoorRow)> = rows::scan(self.tx, Table::Doors, &[])?;
        let named = |(key, row): (Vec<u8>, _)| Some((MailboxId::read(&key)?, row));
        Ok(rows.into_iter().filter_map(named).collect())
    }

    /// Keeps a new door, to be made by its task unless somebody has.
    pub(super) fn put_door(
        &mut self,
        log: Option<LogId>,
        delivery: DeliveryAddress,
        seed: Key,
        stage: DoorStage,
        knocking: Option<Knocking>,
    ) -> Result<MailboxId, Error> {
        let mailbox = DoorKeys::derive(&seed.0).mailbox();
        let row = DoorRow {
            version: Version,
            stage,
            log,
            delivery,
            seed,
            collected: 0,
            acknowledged: 0,
            knocking,
        };
        self.set_door(mailbox, &row)?;
        // Somebody may have been here before us.
        self.session.collect_doors.insert(mailbox);
        self.wake.push(Task::Door(mailbox));
        Ok(mailbox)
    }

    /// A commit made a new epoch, of which `held` is; `before` are the extensions before it. Replaces the
    /// door if it has to be.
    pub(super) fn door_after(
        &mut self,
        row: &ConversationRow,
        before: &Extensions,
        held: &mut Held,
        effects: &CommitEffects,
    ) -> Result<(), Error> {
        let log = row.log;
        for (_, proposal) in &effects.proposals {
            if let Proposal::Add(add) = proposal {
                self.forget_knock_of(log, &add.key_package)?;
            }
        }
        let policy = link_policy(held.group.extensions());
        let had = link_policy(before);
        if policy != had || !effects.removed.is_empty() {
            for (mailbox, mut door) in self.doors()? {
                if door.log == Some(log) && door.stage != DoorStage::Closing {
                    door.stage = DoorStage::Closing;
                    self.set_door(mailbox, &door)?;
                }
            }
            if policy.is_some() {
                let (seed, changes) = export_seed(&mut held.keys)?;
                self.apply(log, &changes)?;
                let delivery = row.delivery.clone();
                // Whoever committed makes it; the others look first.
                let stage = if effects.committer == held.group.own_index() {
                    DoorStage::Making
                } else {
                    DoorStage::Open
                };
                self.put_door(Some(log), delivery, seed, stage, None)?;
            }
            if policy.is_some() && had.is_some() {
                let title = row.title.0.clone();
                self.tell(Event::NewLink { log, title });
            }
        }
        self.wake_doors(log)
    }

    /// What a newcomer is told. `removes`: whether the commit that adds it removes somebody too.
    pub(super) fn link_share(
        &self,
        group: &Group,
        log: LogId,
        removes: bool,
    ) -> Result<LinkShare, Error> {
        let barred = self
            .tx
            .scan(Table::Barred, log.as_ref(), None, LinkShare::MOST_BARRED)?;
        let hashes = barred.iter();
        let hashes = hashes.filter_map(|(key, _)| key.last_chunk::<32>().copied());
        let mut share = LinkShare {
            barred: hashes.collect(),
            ..LinkShare::default()
        };
        if link_policy(group.extensions()).is_some() {
            share.this_epoch = removes;
            let current = self.current_door(log)?.filter(|_| !removes);
            share.seed = current.map(|(_, door)| *door.seed.0);
        }
        Ok(share)
    }

    /// The door of a group that we join, and what the exporter changes, out of what we are told.
    pub(super) fn shared_door(
        &self,
        group: &Group,
        keys: &mut MessageKeys,
        share: &LinkShare,
    ) -> Result<Option<(Key, Changes)>, Error> {
        if link_policy(group.extensions()).is_none() {
            return Ok(None);
        }
        if share.this_epoch {
            return export_seed(keys).map(Some);
        }
        let seed = share.seed.map(|seed| Key(seed.into()));
        Ok(seed.map(|seed| (seed, Changes::default())))
    }

    /// The door to which a group's link leads now.
    pub(super) fn current_door(
        &self,
        log: LogId,
    ) -> Result<Option<(MailboxId, DoorRow)>, StoreError> {
        let mut doors = self.doors()?.into_iter();
        Ok(doors.find(|(_, door)| door.log == Some(log) && door.stage != DoorStage::Closing))
    }

    /// Changes the group's rules about its link. The commit that does so makes a new one.
    pub(super) fn plan_link(
        &mut self,
        group: &Group,
        log: LogId,
        wish: &LinkWish,
    ) -> Result<Result<Plan, Over>, Error> {
        let present = link_policy(group.extensions());
        let current = self.current_door(log)?;
        let good = current.is_some_and(|(_, door)| door.stage != DoorStage::Dead);
        let mut extensions = group.extensions().clone();
        match (present, wish.mode) {
            (None, None) => return Ok(Err(Over::Done)),
            (Some(policy), Some(mode)) if policy.mode == mode && good => {
                return Ok(Err(Over::Done));
            }
            (_, Some(mode)) => extensions.set(&LinkPolicy {
                version: Version,
                mode,
                number: present.map_or(0, |policy| policy.number).saturating_add(1),
            }),
            (Some(_), None) => extensions.remove(LinkPolicy::EXTENSION_TYPE),
        }
        Ok(Ok(Plan::of(extensions)))
    }

    /// We are no member any more: the doors are for the others to close.
    pub(super) fn forget_doors(&mut self, log: LogId) -> Result<(), Error> {
        for (mailbox, door) in self.doors()? {
            if door.log == Some(log) {
                self.tx.delete(Table::Doors, mailbox.as_ref())?;
            }
        }
        self.tx.delete_prefix(Table::Knocks, log.as_ref())?;
        Ok(())
    }

    /// Looks at a group's doors.
    pub(super) fn wake_doors(&mut self, log: LogId) -> Result<(), Error> {
        for (mailbox, door) in self.doors()? {
            if door.log == Some(log) {
                self.wake.push(Task::Door(mailbox));
            }
        }
        Ok(())
    }

    /// Who was removed is not let in again unasked; who was added is in.
    pub(super) fn bar(
        &mut self,
        log: LogId,
        removed: &[&UserId],
        added: &[UserId],
    ) -> Result<(), Error> {
        let hashes: Vec<_> = removed.iter().map(|user| user_hash(log, user)).collect();
        self.bar_hashes(log, &hashes)?;
        for user in added {
            let key = rows::barred_key(log, &user_hash(log, user));
            self.tx.delete(Table::Barred, &key)?;
        }
        Ok(())
    }

    pub(super) fn bar_hashes(&mut self, log: LogId, hashes: &[[u8; 32]]) -> Result<(), Error> {
        let row = BarredRow { version: Version };
        for hash in hashes.iter().take(LinkShare::MOST_BARRED) {
            rows::put(self.tx, Table::Barred, &rows::barred_key(log, hash), &row)?;
        }
        Ok(())
    }

    pub(super) fn is_barred(&self, log: LogId, user: &UserId) -> Result<bool, Error> {
        let key = rows::barred_key(log, &user_hash(log, user));
        Ok(self.tx.get(Table::Barred, &key)?.is_some())
    }

    pub(super) fn advance_door(&mut self, mailbox: MailboxId) -> Result<Option<Ask>, Error> {
        let Some(mut row) = self.door(mailbox)? else {
            return Ok(None);
        };
        // In a conversation that has stopped, whoever goes on answers; who was cut off would acknowledge its
        // own knock.
        if let Some(log) = row.log.filter(|_| row.stage != DoorStage::Closing) {
            let conversation: Option<ConversationRow> =
                rows::get(self.tx, Table::Conversations, log.as_ref())?;
            if !conversation.is_some_and(|known| known.goes_on()) {
                return Ok(None);
            }
        }
        if let (DoorStage::Open, Some(knocking)) = (row.stage, &row.knocking) {
            if !knocking.dropped {
                let request = DropRequest {
                    mailbox: knocking.to.mailbox.into(),
                    ticket: knocking.to.ticket.to_vec(),
                    envelope: knocking.envelope.to_vec(),
                };
                return Ok(Some(Ask {
                    to: address(&row.delivery),
                    call: Call::Drop(request),
                    asked: Asked::Knock,
                }));
            }
            if self.now >= knocking.ends {
                self.close_own_door(mailbox, &mut row)?;
            }
        }
        let Some(errand) = self.door_errand(mailbox, &row)? else {
            if let (Some(log), DoorStage::Open) = (row.log, row.stage) {
                self.answer_knocks(log, mailbox)?;
            }
            return Ok(None);
        };
        let to = address(&row.delivery);
        let Some(nonce) = self.session.nonce(&Task::Door(mailbox), self.now) else {
            return Ok(Some(Ask {
                to,
                call: Call::DoorNonce(NonceRequest {}),
                asked: Asked::Nonce,
            }));
        };
        let keys = DoorKeys::derive(&row.seed.0);
        let (call, asked) = ask(&errand, &row, &keys, nonce);
        Ok(Some(Ask { to, call, asked }))
    }

    fn door_errand(&self, mailbox: MailboxId, row: &DoorRow) -> Result<Option<Errand>, Error> {
        Ok(match row.stage {
            DoorStage::Making => Some(Errand::Create),
            DoorStage::Closing => Some(Errand::Close),
            DoorStage::Dead => None,
            DoorStage::Open => {
                let through = self.cleared(mailbox, row)?;
                if through > row.acknowledged {
                    Some(Errand::Acknowledge(through))
                } else if self.session.collect_doors.contains(&mailbox) {
                    Some(Errand::Collect)
                } else {
                    None
                }
            }
        })
    }

    /// Up to which envelope everything is done. What waits for an answer stays, for other members to see.
    fn cleared(&self, mailbox: MailboxId, row: &DoorRow) -> Result<u64, Error> {
        let Some(log) = row.log else {
            return Ok(0);
        };
        let knocks: Vec<(_, KnockRow)> = rows::scan(self.tx, Table::Knocks, log.as_ref())?;
        let waits = knocks.iter().filter(|(_, knock)| knock.door == mailbox);
        let first = waits.map(|(_, knock)| knock.number).min();
        Ok(first.map_or(row.collected, |first| first.saturating_sub(1)))
    }

    /// An answer to what was asked at a door.
    pub(super) fn at_door(
        &mut self,
        mailbox: MailboxId,
        asked: Asked,
        answer: &Answer,
    ) -> Result<(), Error> {
        let Some(mut row) = self.door(mailbox)? else {
            return Ok(());
        };
        match (asked, answer) {
            (Asked::CreateDoor, Answer::CreateDoor(_)) => {
                if row.stage == DoorStage::Making {
                    row.stage = DoorStage::Open;
                    self.set_door(mailbox, &row)?;
                }
            }
            (Asked::CollectDoor(after), Answer::CollectDoor(answer)) => {
                self.came_in(mailbox, row, after, answer)?;
            }
            (Asked::AcknowledgeDoor(through), Answer::AcknowledgeDoor(_)) => {
                row.acknowledged = row.acknowledged.max(through);
                self.set_door(mailbox, &row)?;
            }
            (Asked::CloseDoor, Answer::CloseDoor(_)) => {
                self.tx.delete(Table::Doors, mailbox.as_ref())?;
            }
            (Asked::Knock, Answer::Drop(_)) => self.knocked(mailbox, row)?,
            _ => self.block(Task::Door(mailbox), Error::BadService(BadService::Answer)),
        }
        Ok(())
    }

    pub(super) fn door_refused(
        &mut self,
        mailbox: MailboxId,
        asked: &Asked,
        refusal: Refusal,
    ) -> Result<(), Error> {
        let Some(mut row) = self.door(mailbox)? else {
            return Ok(());
        };
        match (asked, refusal) {
            // Another member has closed it: the log tells why, or nobody knows.
            (Asked::CreateDoor, Refusal::Taken) => row.stage = DoorStage::Dead,
            // Nobody has made it yet.
            (Asked::CollectDoor(_) | Asked::AcknowledgeDoor(_), Refusal::NotFound)
                if row.log.is_some() =>
            {
                row.stage = DoorStage::Making;
            }
            (Asked::CloseDoor, Refusal::NotFound) => {
                self.tx.delete(Table::Doors, mailbox.as_ref())?;
                return Ok(());
            }
            (Asked::Knock, full @ Refusal::MailboxFull) => {
                self.wait(Task::Door(mailbox), full);
                return Ok(());
            }
            (Asked::Knock, refusal) => return self.knock_refused(mailbox, row, refusal),
            (_, refusal) => {
                self.block(Task::Door(mailbox), refusal.into());
                return Ok(());
            }
        }
        self.set_door(mailbox, &row)?;
        Ok(())
    }

    /// Looks at what came in at a door.
    fn came_in(
        &mut self,
        mailbox: MailboxId,
        mut row: DoorRow,
        after: u64,
        answer: &CollectResponse,
    ) -> Result<(), Error> {
        if !answer.more || answer.envelopes.is_empty() {
            self.session.collect_doors.remove(&mailbox);
        }
        if row.collected != after || row.stage != DoorStage::Open {
            return Ok(());
        }
        let keys = DoorKeys::derive(&row.seed.0);
        for envelope in &answer.envelopes {
            if envelope.number <= row.collected {
                continue;
            }
            match row.log {
                Some(log) => {
                    if !self.has_room_for_knocks(log)? {
                        // The rest stays where it is until some are answered.
                        self.session.collect_doors.remove(&mailbox);
                        break;
                    }
                    let place = (mailbox, envelope.number);
                    self.hear_knock(log, place, &keys, &envelope.envelope)?;
                }
                None => {
                    let opened = Invitation::open(0, &keys.key, &envelope.envelope);
                    let here = &row.delivery;
                    let is_here = |invitation: &Invitation| {
                        invitation.delivery_key == here.key
                            && invitation.delivery_url == here.url
                            && invitation.delivery_pin == here.pin
                    };
                    if let Some(invitation) = opened.ok().filter(is_here) {
                        self.keep_invitation(invitation)?;
                    }
                }
            }
            row.collected = envelope.number;
        }
        self.set_door(mailbox, &row)?;
        Ok(())
    }
}

fn ask(errand: &Errand, row: &DoorRow, keys: &DoorKeys, nonce: Vec<u8>) -> (Call, Asked) {
    match *errand {
        Errand::Create => {
            let mut request = CreateDoorRequest {
                owner_key: keys.owner.public().into(),
                ticket: ticket_hash(&keys.ticket).to_vec(),
                nonce,
                ..Default::default()
            };
            let method = Method::CreateDoor;
            request.proof = owner(row, keys, method, request.nonce.clone(), &request).proof;
            (Call::CreateDoor(request), Asked::CreateDoor)
        }
        Errand::Close => {
            let mut request = CloseDoorRequest::default();
            request.owner = Some(owner(row, keys, Method::CloseDoor, nonce, &request));
            (Call::CloseDoor(request), Asked::CloseDoor)
        }
        Errand::Acknowledge(through) => {
            let mut request = AcknowledgeRequest {
                owner: None,
                through,
            };
            request.owner = Some(owner(row, keys, Method::Acknowledge, nonce, &request));
            let asked = Asked::AcknowledgeDoor(through);
            (Call::AcknowledgeDoor(request), asked)
        }
        Errand::Collect => {
            let after = row.collected;
            let mut request = CollectRequest { owner: None, after };
            request.owner = Some(owner(row, keys, Method::Collect, nonce, &request));
            (Call::CollectDoor(request), Asked::CollectDoor(after))
        }
    }
}

/// The proof that we have a door's keys.
fn owner(
    row: &DoorRow,
    keys: &DoorKeys,
    method: Method,
    nonce: Vec<u8>,
    request: &impl OwnerContent,
) -> Owner {
    let proof = MailboxProof {
        version: VERSION,
        delivery_service: row.delivery.key,
        mailbox: keys.mailbox(),
        method,
        nonce: nonce.as_slice().into(),
        content: request.owner_content(),
    };
    Owner {
        mailbox: keys.mailbox().into(),
        proof: proof.sign(&keys.owner).to_vec(),
        nonce,
    }
}

pub(crate) fn link_policy(extensions: &Extensions) -> Option<LinkPolicy> {
    extensions.get().ok().flatten()
}

/// The seed of the door that the epoch of `keys` makes, with what exporting it changes.
fn export_seed(keys: &mut MessageKeys) -> Result<(Key, Changes), Error> {
    let (exported, changes) = keys.safe_export(door::COMPONENT)?;
    Ok((Key(door_seed(suite(), &exported)), changes))
}

/// How a user is remembered who was removed.
fn user_hash(log: LogId, user: &UserId) -> [u8; 32] {
    hash("barred", &(log, user.to_field()))
}
