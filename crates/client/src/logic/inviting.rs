//! What comes before the commit that adds somebody: looking up, taking a KeyPackage of each device,
//! dropping the invitations. Whom to add are rows of their own, worked off in batches, and the outbox row
//! tells how far; so it goes on where it stopped, and no step costs more for there being many. A commit
//! that has to be rebuilt uses all of it again.
//!
//! Who cannot be added is left out (`leaving_out`): neither a user nor a service can spoil it for the others.

use std::collections::{HashMap, HashSet};

use folkmoot_credential::{DeviceCredential, LONGEST_LIFETIME, UserId};
use folkmoot_mls::code_point::ProtocolVersion;
use folkmoot_mls::codec::{Bytes, Decode, Encode};
use folkmoot_mls::key_package::KeyPackage;
use folkmoot_mls::leaf_node::LeafNodeSource;
use folkmoot_mls::message::MlsMessage;
use folkmoot_protocol::authentication::{LookUpRequest, LookUpResponse};
use folkmoot_protocol::call::Call;
use folkmoot_protocol::delivery::{
    DropAllRequest, DropAllResponse, DropRequest, Package, TakeRequest, TakeResponse, Taken,
};
use folkmoot_protocol::directory::DirectoryEntry;
use folkmoot_protocol::ids::{LogId, MailboxId, PickupAddress};
use folkmoot_protocol::invitation::Invitation;
use folkmoot_protocol::keys::hash;
use folkmoot_protocol::sealed::{open_package, suite};
use folkmoot_protocol::token::TokenPurpose;
use folkmoot_protocol::token::price::MAILBOXES_PER_TOKEN;
use folkmoot_protocol::{Refusal, VERSION, limits};

use super::groups::members;
use super::leaving_out::{Faults, PATIENCE, Part};
use super::rows::{
    self, AddWish, ConversationRow, Key, OutboxRow, Replaces, Target, TargetDevice, Wish,
};
use super::session::{Asked, Task};
use super::shelf::{DAY, SUITE, lane};
use super::{Ask, Doing, IntentId, Standing, Step, address};
use crate::error::{BadPackage, BadService, Error};
use crate::store::{StoreError, Table};

/// Whether a package has a day left, so that it is still valid when its commit is ordered.
pub(super) fn has_time_left(package: &KeyPackage, now: u64) -> bool {
    match package.leaf_node.leaf_node_source {
        LeafNodeSource::KeyPackage(lifetime) => {
            lifetime.contains(now) && lifetime.not_after >= now.saturating_add(DAY)
        }
        _ => false,
    }
}

impl Step<'_> {
    pub(super) fn add_wish(
        &self,
        log: LogId,
        intent: IntentId,
    ) -> Result<Option<(OutboxRow, AddWish)>, Error> {
        let row: Option<OutboxRow> =
            rows::get(self.tx, Table::Outbox, &rows::outbox_key(log, intent))?;
        Ok(row.and_then(|row| match row.wish.clone() {
            Wish::Add(wish) => Some((row, wish)),
            _ => None,
        }))
    }

    pub(super) fn put_wish(&mut self, row: &OutboxRow, wish: &AddWish) -> Result<(), Error> {
        let mut row = row.clone();
        row.wish = Wish::Add(wish.clone());
        self.put_outbox(&row)?;
        Ok(())
    }

    /// One of those whom an intent adds.
    pub(super) fn target(
        &self,
        log: LogId,
        intent: IntentId,
        number: u32,
    ) -> Result<Target, Error> {
        let key = rows::target_key(log, intent, number);
        let target = rows::get(self.tx, Table::Targets, &key)?;
        Ok(target.ok_or(StoreError::DamagedRow(Table::Targets.name()))?)
    }

    pub(super) fn put_target(
        &mut self,
        log: LogId,
        intent: IntentId,
        number: u32,
        target: &Target,
    ) -> Result<(), Error> {
        let key = rows::target_key(log, intent, number);
        rows::put(self.tx, Table::Targets, &key, target)?;
        Ok(())
    }

    pub(super) fn advance_invite(
        &mut self,
        log: LogId,
        intent: IntentId,
    ) -> Result<Option<Ask>, Error> {
        let Some((row, mut wish)) = self.add_wish(log, intent)? else {
            return Ok(None);
        };
        // A leaver invites nobody any more.
        if self.outbox(log)?.iter().any(OutboxRow::has_left_log) {
            return Ok(None);
        }
        let account = self.account()?;
        let conversation = rows::conversation(self.tx, log)?;
        let all = wish.targets as usize;
        if wish.looked_up < wish.targets {
            // Who is a member is known once the log is read; nothing is taken in vain.
            if conversation.standing != Standing::Member || !self.session.reading(log).at_head {
                self.session.reading(log).wanted = true;
                self.wake.push(Task::Conversation(log));
                return Ok(None);
            }
            if !wish.checked {
                if !self.check_members(&conversation, intent, &mut wish)? {
                    return Ok(None);
                }
                wish.checked = true;
                self.put_wish(&row, &wish)?;
            }
        }
        self.pass_by(&row, &mut wish)?;
        if wish.looked_up < wish.targets {
            let number = wish.looked_up;
            self.progress(intent, Doing::LookingUp, number as usize, all);
            let target = self.target(log, intent, number)?;
            let request = LookUpRequest {
                name: target.user.name.to_string(),
                ..Default::default()
            };
            return Ok(Some(Ask {
                to: address(&account.authentication),
                call: Call::LookUp(request),
                asked: Asked::LookUp(number),
            }));
        }
        if wish.taken < wish.targets {
            self.progress(intent, Doing::Taking, wish.taken as usize, all);
            return self.ask_take(&row, &mut wish).map(Some);
        }
        if wish.invited < wish.targets {
            self.progress(intent, Doing::Inviting, wish.invited as usize, all);
            return self.ask_drop(&conversation, &row, &account.user, &mut wish);
        }
        self.wake.push(Task::Conversation(log));
        Ok(None)
    }

    /// Leaves out who is a member already. Returns whether anybody is left, and we may add them.
    fn check_members(
        &mut self,
        row: &ConversationRow,
        intent: IntentId,
        wish: &mut AddWish,
    ) -> Result<bool, Error> {
        let held = self.hold(row)?;
        let may = self.may_commit(row, &held.group)?;
        let users: HashSet<String> = members(&held.group)
            .map(|(_, member)| member.user.to_string())
            .collect();
        self.session.held.insert(row.log, held);
        if !may {
            let error = Error::NotCommitter(row.title.0.clone());
            self.settle(row.log, intent, Err(error))?;
            return Ok(false);
        }
        for number in 0..wish.targets {
            let target = self.target(row.log, intent, number)?;
            if users.contains(&target.user.to_string()) {
                let error = Error::AlreadyMember(target.user.clone());
                let place = (row.log, intent, number);
                if !self.leave_out(place, wish, target, error)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The next targets whose devices fit into one call to one DS, from a number on, with what each of
    /// their devices adds to it. At least one target, whatever it adds.
    fn batch(
        &self,
        log: LogId,
        intent: IntentId,
        (from, end): (u32, u32),
        most: usize,
    ) -> Result<Vec<Target>, Error> {
        let mut batch: Vec<Target> = Vec::new();
        let mut devices = 0;
        for number in from..end {
            let target = self.target(log, intent, number)?;
            let known = batch.iter().flat_map(|target| &target.devices).next();
            let known = known
                .or(target.devices.first())
                .map(|device| device.delivery.clone());
            let mut deliveries = target.devices.iter().map(|device| Some(&device.delivery));
            let elsewhere = deliveries.any(|delivery| delivery != known.as_ref());
            devices += target.devices.len();
            if !batch.is_empty() && (elsewhere || devices > most) {
                break;
            }
            batch.push(target);
        }
        Ok(batch)
    }

    /// Takes a package of each device of the next targets.
    fn ask_take(&mut self, row: &OutboxRow, wish: &mut AddWish) -> Result<Ask, Error> {
        let (log, intent) = (row.log, row.intent);
        let range = (wish.taken, wish.targets);
        let batch = self.batch(log, intent, range, limits::MAILBOXES_PER_TAKE)?;
        let missing = batch
            .iter()
            .flat_map(|target| &target.devices)
            .filter(|device| device.package.is_empty());
        let missing: Vec<&TargetDevice> = missing.collect();
        // Who was looked up has a device, and who lacks a package is not passed by.
        let delivery = missing.first().map(|device| device.delivery.clone());
        let delivery = delivery.ok_or(StoreError::DamagedRow(Table::Targets.name()))?;
        // As many as there are tokens for: the rest waits for the next batch of tokens. Once asked, it is
        // the same question until it is answered, since tokens are bound to it.
        let tokens = self.unspent(&delivery.key, TokenPurpose::TakePackages)?;
        let most = match (wish.taking, tokens) {
            (0, 0) => limits::MAILBOXES_PER_TAKE,
            (0, tokens) => (tokens * MAILBOXES_PER_TOKEN).min(limits::MAILBOXES_PER_TAKE),
            (taking, _) => taking as usize,
        };
        // One user's devices may be at several services: one service at a time.
        let mailboxes = missing.iter().filter(|device| device.delivery == delivery);
        // Who claims another's mailbox does not make the question one that is refused.
        let mut known = HashSet::new();
        let mailboxes: Vec<Vec<u8>> = mailboxes
            .filter(|device| known.insert(device.mailbox))
            .take(most)
            .map(|device| device.mailbox.into())
            .collect();
        if wish.taking == 0 && tokens > 0 {
            wish.taking = u32::try_from(mailboxes.len()).unwrap_or(u32::MAX);
            self.put_wish(row, wish)?;
        }
        // The same question has the same name; another DS, or the next thousand, is another question.
        let subject = (wish.take, (delivery.key, Bytes::from(mailboxes.concat())));
        let request = TakeRequest {
            request_id: hash("take", &subject).to_vec(),
            lane: Some(lane()),
            mailboxes,
            payment: None,
        };
        Ok(Ask {
            to: address(&delivery),
            call: Call::Take(request),
            asked: Asked::Take(wish.taken, batch.len() as u32),
        })
    }

    /// Invites the next targets; what is dropped is stored first, so that a repeat drops the same.
    fn ask_drop(
        &mut self,
        conversation: &ConversationRow,
        row: &OutboxRow,
        inviter: &UserId,
        wish: &mut AddWish,
    ) -> Result<Option<Ask>, Error> {
        let (log, intent) = (row.log, row.intent);
        let range = (wish.invited, wish.targets);
        let mut batch = self.batch(log, intent, range, limits::DROPS_PER_CALL)?;
        let mut drops = Vec::new();
        let mut delivery = None;
        for (number, target) in (wish.invited..).zip(&mut batch) {
            let (sealed, faults) = self.seal_invitations(conversation, inviter, wish, target);
            if !faults.is_empty() {
                // Whose key is none is not invited; and then once more.
                self.wake.push(Task::Invite(log, intent));
                let place = (log, intent, number);
                if self.without(place, wish, target.clone(), faults)? {
                    self.put_wish(row, wish)?;
                }
                return Ok(None);
            }
            if sealed {
                self.put_target(log, intent, number, target)?;
            }
            for device in target.devices.iter().filter(|device| !device.dropped) {
                let to = delivery.get_or_insert_with(|| device.delivery.clone());
                if *to == device.delivery && drops.len() < limits::DROPS_PER_CALL {
                    drops.push(DropRequest {
                        mailbox: device.mailbox.into(),
                        ticket: device.ticket.to_vec(),
                        envelope: device.envelope.to_vec(),
                    });
                }
            }
        }
        let delivery = delivery.ok_or(StoreError::DamagedRow(Table::Targets.name()))?;
        Ok(Some(Ask {
            to: address(&delivery),
            call: Call::DropAll(DropAllRequest { drops }),
            asked: Asked::Drop(wish.invited, batch.len() as u32),
        }))
    }

    /// Seals the invitations that are not sealed yet. Returns whether there were any, and the devices
    /// for which it cannot be done.
    fn seal_invitations(
        &mut self,
        conversation: &ConversationRow,
        inviter: &UserId,
        wish: &AddWish,
        target: &mut Target,
    ) -> (bool, Faults) {
        let (mut sealed, mut faults) = (false, Faults::new());
        let devices = target.devices.iter_mut();
        for device in devices.filter(|device| device.envelope.is_empty()) {
            let invitation = Invitation {
                version: VERSION,
                log: conversation.log,
                delivery_url: conversation.delivery.url.clone(),
                delivery_key: conversation.delivery.key,
                delivery_pin: conversation.delivery.pin.clone(),
                address: device.address,
                shared_key: *wish.shared_key.0,
                own_key: *device.own_key.0,
                inviter: inviter.to_field(),
            };
            let version = device.mailbox_key_version;
            match invitation.seal(version, &device.mailbox_key, self.rng) {
                Ok(envelope) => {
                    device.envelope = envelope.into();
                    sealed = true;
                }
                Err(_) => {
                    faults.push((device.device, Error::BadMailbox(target.user.clone())));
                }
            }
        }
        let faulty = |device: &TargetDevice| faults.iter().any(|(of, _)| *of == device.device);
        target.devices.retain(|device| !faulty(device));
        (sealed, faults)
    }

    pub(super) fn looked_up(
        &mut self,
        log: LogId,
        intent: IntentId,
        number: u32,
        answer: &LookUpResponse,
    ) -> Result<(), Error> {
        let Some((row, mut wish)) = self.add_wish(log, intent)? else {
            return Ok(());
        };
        // Another process may have asked too, and have gone on with what it heard.
        if wish.looked_up != number {
            return Ok(());
        }
        let mut target = self.target(log, intent, number)?;
        let user = &target.user;
        let account = self.account()?;
        let authority = account.authentication.key;
        let entry = match DirectoryEntry::read(answer, user, &authority, self.now / 1000) {
            Ok(entry) => entry,
            Err(error) => {
                let error = Error::BadDirectory(user.clone(), error);
                return self.not_found(&row, wish, number, error);
            }
        };
        if entry.devices.is_empty() {
            let error = Error::NoPackage(user.clone());
            return self.not_found(&row, wish, number, error);
        }
        for record in entry.devices {
            let mut address = PickupAddress([0; 32]);
            self.rng.fill_bytes(&mut address.0);
            target.devices.push(TargetDevice {
                device: record.certificate.signature_key,
                delivery: record.delivery,
                mailbox: MailboxId(record.mailbox),
                mailbox_key_version: record.mailbox_key.version,
                mailbox_key: record.mailbox_key.key,
                shelf_key_version: record.shelf_key.version,
                shelf_key: Key(record.shelf_key.key.into()),
                package: Bytes::default(),
                ticket: Bytes::default(),
                address,
                own_key: Key::generate(self.rng),
                envelope: Bytes::default(),
                dropped: false,
            });
        }
        target.authority = Some(authority);
        self.put_target(log, intent, number, &target)?;
        wish.looked_up += 1;
        self.put_wish(&row, &wish)
    }

    /// A user about whom the directory says nothing that helps.
    fn not_found(
        &mut self,
        row: &OutboxRow,
        mut wish: AddWish,
        number: u32,
        error: Error,
    ) -> Result<(), Error> {
        let place = (row.log, row.intent, number);
        let target = self.target(row.log, row.intent, number)?;
        wish.looked_up += 1;
        if self.leave_out(place, &mut wish, target, error)? {
            self.put_wish(row, &wish)?;
        }
        Ok(())
    }

    /// Packages of the targets from a number on, so many.
    pub(super) fn taken(
        &mut self,
        log: LogId,
        intent: IntentId,
        (from, count): (u32, u32),
        answer: TakeResponse,
    ) -> Result<(), Error> {
        let Some((row, mut wish)) = self.add_wish(log, intent)? else {
            return Ok(());
        };
        if wish.taken != from {
            return Ok(());
        }
        wish.taking = 0;
        let taken = answer.taken.into_iter();
        let taken: HashMap<Vec<u8>, Taken> =
            taken.map(|taken| (taken.mailbox.clone(), taken)).collect();
        let now = self.now / 1000;
        let (mut progress, mut whole) = (false, true);
        for number in from..from.saturating_add(count).min(wish.targets) {
            let mut target = self.target(log, intent, number)?;
            let (user, authority) = (target.user.clone(), target.authority);
            let mut faults = Faults::new();
            target.devices.retain_mut(|device| {
                let taken = taken.get(device.mailbox.0.as_slice());
                let Some(taken) = taken.filter(|_| device.package.is_empty()) else {
                    return true;
                };
                progress = true;
                let package = taken.package.as_ref();
                let checked = package.map(|it| check_package(it, &user, device, authority, now));
                let error = match checked {
                    Some(Ok(plain)) => {
                        device.package = plain.into();
                        device.ticket = taken.ticket.as_slice().into();
                        return true;
                    }
                    Some(Err(fault)) => Error::BadPackage(user.clone(), fault),
                    None => Error::NoPackage(user.clone()),
                };
                faults.push((device.device, error));
                false
            });
            let mut devices = target.devices.iter();
            whole &= devices.all(|device| !device.package.is_empty());
            if !self.without((log, intent, number), &mut wish, target, faults)? {
                return Ok(());
            }
            if whole {
                wish.taken = number + 1;
            }
        }
        if progress {
            self.session.fruitless.remove(&Task::Invite(log, intent));
            return self.put_wish(&row, &wish);
        }
        // An answer about other mailboxes than were asked for.
        let fault = Error::BadService(BadService::Answer);
        self.nothing_came(log, intent, (from, count), Part::Take, fault)
    }

    /// The targets from a number on, so many, were invited, or not.
    pub(super) fn dropped(
        &mut self,
        log: LogId,
        intent: IntentId,
        (from, count): (u32, u32),
        answer: &DropAllResponse,
    ) -> Result<(), Error> {
        let Some((row, mut wish)) = self.add_wish(log, intent)? else {
            return Ok(());
        };
        if wish.invited != from {
            return Ok(());
        }
        let (mut refusals, mut whole) = (answer.refusals.iter(), true);
        let (mut later, mut delivery, mut progress) = (None, None, false);
        for number in from..from.saturating_add(count).min(wish.targets) {
            let mut target = self.target(log, intent, number)?;
            let (user, replaces) = (target.user.clone(), target.replaces);
            let (mut faults, mut gone) = (Faults::new(), false);
            target.devices.retain_mut(|device| {
                if device.dropped {
                    return true;
                }
                // As they were asked for: those at one service.
                let to = delivery.get_or_insert_with(|| device.delivery.clone());
                if *to != device.delivery {
                    return true;
                }
                let Some(refusal) = refusals.next() else {
                    return true;
                };
                let error = match Refusal::from_bytes(refusal) {
                    _ if refusal.is_empty() => {
                        (device.dropped, progress) = (true, true);
                        return true;
                    }
                    Some(refusal) if refusal.is_temporary() => {
                        later.get_or_insert(refusal);
                        return true;
                    }
                    Some(Refusal::NotFound) if replaces != Replaces::Nothing => {
                        gone = true;
                        return true;
                    }
                    Some(Refusal::NotFound) => Error::BadMailbox(user.clone()),
                    Some(refusal) => refusal.into(),
                    None => Error::BadService(BadService::Answer),
                };
                progress = true;
                faults.push((device.device, error));
                false
            });
            if gone {
                return self.waits_no_longer(log, intent, user);
            }
            whole &= target.devices.iter().all(|device| device.dropped);
            if !self.without((log, intent, number), &mut wish, target, faults)? {
                return Ok(());
            }
            if whole {
                wish.invited = number + 1;
            }
        }
        let task = Task::Invite(log, intent);
        if progress {
            self.session.fruitless.remove(&task);
        }
        self.put_wish(&row, &wish)?;
        match later {
            // Others may go on; those who are always told to come later do not hold them up for ever.
            Some(refusal) if !progress => {
                let error = refusal.clone().into();
                let tries = self.session.fruitless.get(&task).copied().unwrap_or(0);
                self.session.tries.insert(task, tries);
                if tries < PATIENCE {
                    self.session.fruitless.insert(task, tries + 1);
                    self.refused(task, Asked::Drop(from, count), refusal)
                } else if self.service_failed(log, intent, (from, count), Part::Drop, &error)? {
                    Ok(())
                } else {
                    self.refused(task, Asked::Drop(from, count), refusal)
                }
            }
            Some(refusal) => self.refused(task, Asked::Drop(from, count), refusal),
            None if !progress => {
                let fault = Error::BadService(BadService::Answer);
                self.nothing_came(log, intent, (from, count), Part::Drop, fault)
            }
            None => Ok(()),
        }
    }

    pub(super) fn look_up_refused(
        &mut self,
        log: LogId,
        intent: IntentId,
        number: u32,
        refusal: Refusal,
    ) -> Result<(), Error> {
        let Some((row, wish)) = self.add_wish(log, intent)? else {
            return Ok(());
        };
        if wish.looked_up != number {
            return Ok(());
        }
        let error = match refusal {
            Refusal::UnknownUser | Refusal::NameInvalid => {
                Error::UnknownUser(self.target(log, intent, number)?.user)
            }
            refusal => refusal.into(),
        };
        self.not_found(&row, wish, number, error)
    }
}

/// Opens and checks a KeyPackage: seal, signatures, what the shelf declares, whose it is. Returns it as
/// an encoded MLSMessage.
fn check_package(
    package: &Package,
    user: &UserId,
    device: &TargetDevice,
    authority: Option<folkmoot_protocol::keys::PublicKey>,
    now: u64,
) -> Result<Vec<u8>, BadPackage> {
    let plain = open_package(
        device.shelf_key_version,
        &device.shelf_key.0,
        &package.sealed,
    )?;
    let Ok(MlsMessage::KeyPackage(key_package)) = MlsMessage::from_bytes(&plain) else {
        return Err(BadPackage::Malformed);
    };
    let leaf = &key_package.leaf_node;
    let LeafNodeSource::KeyPackage(lifetime) = leaf.leaf_node_source else {
        return Err(BadPackage::Malformed);
    };
    let declared = package.lane == Some(lane())
        && key_package.version == ProtocolVersion::MLS10
        && key_package.cipher_suite == SUITE
        && package.expires == lifetime.not_after
        && package.last_resort == key_package.is_last_resort();
    if !declared {
        return Err(BadPackage::Undeclared);
    }
    check_key_package(&key_package, now)?;
    let credential =
        DeviceCredential::read(&leaf.credential).map_err(|_| BadPackage::OtherDevice)?;
    let accepted = authority.as_ref().map(|key| (&user.domain, key));
    let is_its = credential.user == *user && credential.device() == Some(device.device);
    if is_its
        && credential
            .verify(&leaf.signature_key, accepted, Some(now))
            .is_ok()
    {
        Ok(plain)
    } else {
        Err(BadPackage::OtherDevice)
    }
}

/// Checks what a KeyPackage says of itself: version and suite, lifetime, signatures.
pub(super) fn check_key_package(key_package: &KeyPackage, now: u64) -> Result<(), BadPackage> {
    let leaf = &key_package.leaf_node;
    let LeafNodeSource::KeyPackage(lifetime) = leaf.leaf_node_source else {
        return Err(BadPackage::Malformed);
    };
    if key_package.version != ProtocolVersion::MLS10 || key_package.cipher_suite != SUITE {
        return Err(BadPackage::Undeclared);
    }
    let span = lifetime.not_after.saturating_sub(lifetime.not_before);
    if span > LONGEST_LIFETIME || !has_time_left(key_package, now) {
        return Err(BadPackage::Lifetime);
    }
    key_package
        .verify_signature(suite())
        .and_then(|()| leaf.verify_signature(suite(), &leaf.to_bytes(), None))
        .map_err(|_| BadPackage::Signature)
}
