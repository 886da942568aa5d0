//! Knocks: ours at the doors of groups, and those of others at the doors of ours.
//!
//! What somebody said at a door stays there until it is done with, so that any member can answer: it is
//! kept as a row by each member that has looked. A row goes when a commit has let its device in, when the
//! answer failed, when the KeyPackage is too old, or when a person here has declined.

use folkmoot_credential::{AcceptedKeys, DeviceCredential, LinkMode, UserId, Version};
use folkmoot_mls::codec::{Bytes, Decode, Encode};
use folkmoot_mls::key_package::KeyPackage;
use folkmoot_mls::message::MlsMessage;
use folkmoot_protocol::door::{DoorKeys, Knock, Link};
use folkmoot_protocol::ids::{LogId, MailboxId, PickupAddress};
use folkmoot_protocol::keys::PublicKey;
use folkmoot_protocol::{Refusal, VERSION};

use super::committing::has_leaf_of;
use super::doors::link_policy;
use super::groups::{load_group, members};
use super::inviting::{check_key_package, has_time_left};
use super::proposals::{LAST_TURN_MS, TURN_MS, rank};
use super::rows::{
    self, DoorRow, DoorStage, Key, KnockRow, Knocking, Replaces, Target, TargetDevice,
};
use super::session::{State, Task};
use super::shelf::{LIFETIME, encode_package};
use super::{Event, IntentId, Output, Pause, Standing, Step};
use crate::error::Error;
use crate::store::Table;

/// Knocks that are kept for a conversation at most; the rest waits at the door.
const MOST_KNOCKS: usize = 100;

impl Step<'_> {
    pub(super) fn want_link(&mut self, log: LogId, mode: Option<LinkMode>) -> Result<(), Error> {
        self.account()?;
        self.check_usable(log)?;
        let wish = rows::Wish::Link(rows::LinkWish { mode });
        self.wish(log, wish).map(drop)
    }

    // ---- ours

    /// Makes a door for the answer, and says at the link's door who we are and where that is.
    pub(super) fn knock(&mut self, link: Link, only_device: bool) -> Result<(), Error> {
        self.account()?;
        for (mailbox, row) in self.doors()? {
            let known = match row.log {
                Some(log) if mailbox == link.door.mailbox => rows::conversation(self.tx, log).ok(),
                _ => None,
            };
            if let Some(known) = known.filter(|known| known.standing == Standing::Member) {
                return Err(Error::OwnLink(known.title.0));
            }
        }
        let intent = self.knock_at(link, only_device)?;
        self.session.own.insert(intent);
        self.tell(Event::Started { intent });
        Ok(())
    }

    /// The same at any door, our own group's too.
    pub(super) fn knock_at(&mut self, link: Link, only_device: bool) -> Result<IntentId, Error> {
        let account = self.account()?;
        for (mailbox, mut row) in self.doors()? {
            let knocking = row.knocking.as_ref();
            if knocking.is_some_and(|knocking| knocking.to.mailbox == link.door.mailbox) {
                // Once more: the answer to the last one is not waited for any longer.
                self.close_own_door(mailbox, &mut row)?;
            }
        }
        let (package, key_package) = self.make_knock_package(&account)?;
        let seed = Key::generate(self.rng);
        let unusable = || {
            folkmoot_mls::error::Error::from(folkmoot_mls::crypto::CryptoError::InvalidPublicKey)
        };
        let answer = DoorKeys::derive(&seed.0).door().ok_or_else(unusable)?;
        let knock = Knock {
            version: VERSION,
            door: link.door.mailbox,
            key_package: encode_package(&key_package).into(),
            only_device,
            answer,
        };
        let envelope = knock
            .seal(&account.device.0, &link.door, self.rng)
            .map_err(folkmoot_mls::error::Error::from)?;
        let intent = rows::next_intent(self.tx)?;
        let knocking = Knocking {
            intent,
            to: link.door.clone(),
            package,
            envelope: envelope.into(),
            dropped: false,
            ends: self.now.saturating_add(LIFETIME.saturating_mul(1000)),
        };
        let delivery = folkmoot_credential::DeliveryAddress {
            url: link.delivery_url.clone(),
            key: link.delivery_key,
            pin: link.delivery_pin.clone(),
        };
        self.put_door(None, delivery, seed, DoorStage::Making, Some(knocking))?;
        Ok(intent)
    }

    /// The knock is at the door. That is what was asked for; the answer is waited for.
    pub(super) fn knocked(&mut self, mailbox: MailboxId, mut row: DoorRow) -> Result<(), Error> {
        if let Some(knocking) = &mut row.knocking {
            let intent = knocking.intent;
            if !std::mem::replace(&mut knocking.dropped, true) {
                self.tell(Event::Done { intent });
            }
        }
        self.set_door(mailbox, &row)?;
        Ok(())
    }

    pub(super) fn knock_refused(
        &mut self,
        mailbox: MailboxId,
        mut row: DoorRow,
        refusal: Refusal,
    ) -> Result<(), Error> {
        let intent = row.knocking.as_ref().map(|knocking| knocking.intent);
        self.close_own_door(mailbox, &mut row)?;
        let error = match refusal {
            Refusal::NotFound => Error::DeadLink,
            refusal => refusal.into(),
        };
        if let Some(intent) = intent {
            self.tell(Event::Failed { intent, error });
        }
        Ok(())
    }

    /// Nothing more is waited for at a door of ours.
    pub(super) fn close_own_door(
        &mut self,
        mailbox: MailboxId,
        row: &mut DoorRow,
    ) -> Result<(), Error> {
        if let Some(knocking) = &row.knocking {
            self.tx.delete(Table::Packages, &knocking.package)?;
        }
        row.stage = DoorStage::Closing;
        self.set_door(mailbox, row)?;
        self.wake.push(Task::Door(mailbox));
        Ok(())
    }

    /// A KeyPackage was used: if it was for a knock, that is answered.
    pub(super) fn knock_answered(&mut self, package: &[u8]) -> Result<(), Error> {
        for (mailbox, mut row) in self.doors()? {
            let knocking = row.knocking.as_ref();
            if knocking.is_some_and(|knocking| *knocking.package == *package) {
                self.close_own_door(mailbox, &mut row)?;
            }
        }
        Ok(())
    }

    // ---- those of others

    pub(super) fn has_room_for_knocks(&self, log: LogId) -> Result<bool, Error> {
        let kept = self
            .tx
            .scan(Table::Knocks, log.as_ref(), None, MOST_KNOCKS)?;
        Ok(kept.len() < MOST_KNOCKS)
    }

    /// Keeps what somebody said at a door, if it is a knock that can be answered.
    pub(super) fn hear_knock(
        &mut self,
        log: LogId,
        (door, number): (MailboxId, u64),
        keys: &DoorKeys,
        envelope: &[u8],
    ) -> Result<(), Error> {
        let Ok((knock, signature)) = Knock::open(keys, envelope) else {
            return Ok(());
        };
        let Ok(MlsMessage::KeyPackage(package)) = MlsMessage::from_bytes(&knock.key_package) else {
            return Ok(());
        };
        let row = rows::conversation(self.tx, log)?;
        let group = load_group(self.tx, log)?;
        let accepted: AcceptedKeys = group.extensions().get().ok().flatten().unwrap_or_default();
        let now = self.now / 1000;
        let Some((credential, device, authority)) = knocker(&package, &accepted, now) else {
            return Ok(());
        };
        let account = self.account()?;
        let signed = PublicKey::read(&package.leaf_node.signature_key)
            .is_some_and(|key| knock.verify(&key, &signature).is_ok());
        let is_own = device == account.device.0.public();
        // Who has the name of a member with another identity is not that member.
        let is_another = members(&group)
            .any(|(_, member)| member.user == credential.user && !member.is_same_user(&credential));
        if !signed || is_own || is_another || has_leaf_of(&group, &package) {
            return Ok(());
        }
        let key = rows::knock_key(log, &knock.key_package);
        if self.tx.get(Table::Knocks, &key)?.is_some() {
            return Ok(());
        }
        let wait = rank(&group, &row).saturating_mul(TURN_MS).min(LAST_TURN_MS);
        let heard = KnockRow {
            version: Version,
            door,
            number,
            user: credential.user,
            device,
            authority,
            only_device: knock.only_device,
            package: knock.key_package.clone(),
            answer: knock.answer.clone(),
            since: self.now,
            turn: self.now.saturating_add(wait),
            answering: None,
            unasked: false,
        };
        rows::put(self.tx, Table::Knocks, &key, &heard)?;
        let asks = link_policy(group.extensions()).is_none_or(|link| link.mode == LinkMode::Ask);
        if asks || self.is_barred(log, &heard.user)? {
            let (title, user) = (row.title.0, heard.user.clone());
            self.tell(Event::Knocked { log, title, user });
        }
        Ok(())
    }

    fn knocks(&self, log: LogId) -> Result<Vec<(Vec<u8>, KnockRow)>, Error> {
        Ok(rows::scan(self.tx, Table::Knocks, log.as_ref())?)
    }

    /// Lets those in who need not be asked about, if it is our turn.
    pub(super) fn answer_knocks(&mut self, log: LogId, door: MailboxId) -> Result<(), Error> {
        let knocks = self.knocks(log)?;
        if knocks.is_empty() {
            return Ok(());
        }
        let group = load_group(self.tx, log)?;
        let policy = link_policy(group.extensions());
        let own = self.account()?.user;
        let mut waits = None;
        for (key, knock) in knocks {
            let package = match MlsMessage::from_bytes(&knock.package) {
                Ok(MlsMessage::KeyPackage(package)) => Some(package),
                _ => None,
            };
            let now = self.now / 1000;
            let package = package
                .filter(|package| has_time_left(package, now) && !has_leaf_of(&group, package));
            if package.is_none() && knock.answering.is_none() {
                self.tx.delete(Table::Knocks, &key)?;
                self.wake.push(Task::Door(door));
                continue;
            }
            let unasked = policy.is_some_and(|policy| policy.mode == LinkMode::Automatic)
                && knock.answering.is_none()
                && !self.is_barred(log, &knock.user)?
                // Whoever is to take our place is let in by others.
                && !(knock.user == own && knock.only_device);
            if !unasked {
                continue;
            }
            if self.now < knock.turn {
                waits = Some(waits.map_or(knock.turn, |until: u64| until.min(knock.turn)));
                continue;
            }
            // Perhaps somebody else was faster.
            let reading = self.session.reading(log);
            if !reading.at_head || reading.at < knock.turn {
                reading.wanted = true;
                self.wake.push(Task::Conversation(log));
                return Ok(());
            }
            self.let_in(log, &key, knock, true)?;
        }
        if let Some(until) = waits {
            self.session.set(Task::Door(door), State::Waiting(until));
            let pause = Pause::Turn;
            self.outputs.push(Output::Wait { until, pause });
        }
        Ok(())
    }

    /// Makes a wish of letting somebody in.
    fn let_in(
        &mut self,
        log: LogId,
        key: &[u8],
        mut knock: KnockRow,
        unasked: bool,
    ) -> Result<(), Error> {
        let conversation = rows::conversation(self.tx, log)?;
        let mut address = PickupAddress([0; 32]);
        self.rng.fill_bytes(&mut address.0);
        let device = TargetDevice {
            device: knock.device,
            delivery: conversation.delivery,
            mailbox: knock.answer.mailbox,
            mailbox_key_version: 0,
            mailbox_key: knock.answer.key,
            shelf_key_version: 0,
            shelf_key: Key([0; 32].into()),
            package: knock.package.clone(),
            ticket: Bytes::from(knock.answer.ticket.as_slice()),
            address,
            own_key: Key::generate(self.rng),
            envelope: Bytes::default(),
            dropped: false,
        };
        let target = Target {
            version: Version,
            user: knock.user.clone(),
            authority: Some(knock.authority),
            replaces: if knock.only_device {
                Replaces::User
            } else {
                Replaces::Device
            },
            left_out: false,
            devices: vec![device],
        };
        let intent = self.put_targets(log, vec![target])?;
        (knock.answering, knock.unasked) = (Some(intent), unasked);
        rows::put(self.tx, Table::Knocks, key, &knock)?;
        Ok(())
    }

    pub(super) fn accept_knock(&mut self, log: LogId, user: &str) -> Result<(), Error> {
        self.check_usable(log)?;
        let mut found = false;
        for (key, knock) in self.knocks_of(log, user)? {
            found = true;
            if knock.answering.is_none() {
                self.let_in(log, &key, knock, false)?;
            }
        }
        self.found(found, user)
    }

    pub(super) fn decline_knock(&mut self, log: LogId, user: &str) -> Result<(), Error> {
        let mut found = false;
        for (key, knock) in self.knocks_of(log, user)? {
            if knock.answering.is_none() {
                found = true;
                self.tx.delete(Table::Knocks, &key)?;
                self.wake.push(Task::Door(knock.door));
            }
        }
        self.found(found, user)
    }

    fn knocks_of(&self, log: LogId, user: &str) -> Result<Vec<(Vec<u8>, KnockRow)>, Error> {
        let user = UserId::parse_in(user, &self.account()?.user.domain)?;
        let mut knocks = self.knocks(log)?;
        knocks.retain(|(_, knock)| knock.user == user);
        Ok(knocks)
    }

    fn found(&self, found: bool, user: &str) -> Result<(), Error> {
        if found {
            return Ok(());
        }
        let user = UserId::parse_in(user, &self.account()?.user.domain)?;
        Err(Error::NoKnock(user))
    }

    /// A commit has added a KeyPackage: whoever knocked with it is in.
    pub(super) fn forget_knock_of(
        &mut self,
        log: LogId,
        package: &KeyPackage,
    ) -> Result<(), Error> {
        let message = MlsMessage::KeyPackage(Box::new(package.clone())).to_bytes();
        self.tx
            .delete(Table::Knocks, &rows::knock_key(log, &message))?;
        Ok(())
    }

    /// Whoever knocked waits no longer where it said: it was let in by another member, or what we heard
    /// was played again. If no person was asked, none has to be told.
    pub(super) fn waits_no_longer(
        &mut self,
        log: LogId,
        intent: IntentId,
        user: UserId,
    ) -> Result<(), Error> {
        let answers = |knock: &KnockRow| knock.answering == Some(intent) && knock.unasked;
        if self.knocks(log)?.iter().any(|(_, knock)| answers(knock)) {
            self.forget_answer(log, intent)?;
            return self.settle(log, intent, Ok(()));
        }
        self.settle(log, intent, Err(Error::NoKnock(user)))
    }

    /// Letting somebody in has failed.
    pub(super) fn forget_answer(&mut self, log: LogId, intent: IntentId) -> Result<(), Error> {
        for (key, knock) in self.knocks(log)? {
            if knock.answering == Some(intent) {
                self.tx.delete(Table::Knocks, &key)?;
                self.wake.push(Task::Door(knock.door));
            }
        }
        Ok(())
    }
}

/// Who knocks with a KeyPackage, if it is valid and an AS that the group accepts vouches for its owner:
/// the credential, the device, and that AS's key.
fn knocker(
    package: &KeyPackage,
    accepted: &AcceptedKeys,
    now: u64,
) -> Option<(DeviceCredential, PublicKey, PublicKey)> {
    if package.is_last_resort() || check_key_package(package, now).is_err() {
        return None;
    }
    let leaf = &package.leaf_node;
    let credential = DeviceCredential::read(&leaf.credential).ok()?;
    let device = credential.device()?;
    let vouches = |key: &(_, _)| {
        credential
            .verify(&leaf.signature_key, [*key], Some(now))
            .is_ok()
    };
    let (_, authority) = accepted.iter().find(vouches)?;
    Some((credential, device, *authority))
}
