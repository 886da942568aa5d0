//! What comes before the commit that adds somebody: looking up, taking a KeyPackage of each device,
//! dropping the invitations. All of it is kept in the outbox row, and a commit that has to be rebuilt
//! uses it again.

use folkmoot_credential::{DeviceCredential, LONGEST_LIFETIME, UserId};
use folkmoot_mls::code_point::ProtocolVersion;
use folkmoot_mls::codec::{Bytes, Decode, Encode};
use folkmoot_mls::key_package::KeyPackage;
use folkmoot_mls::leaf_node::LeafNodeSource;
use folkmoot_mls::message::MlsMessage;
use folkmoot_protocol::authentication::{LookUpRequest, LookUpResponse};
use folkmoot_protocol::call::Call;
use folkmoot_protocol::delivery::{DropRequest, Package, TakeRequest, TakeResponse};
use folkmoot_protocol::directory::DirectoryEntry;
use folkmoot_protocol::ids::{LogId, MailboxId, PickupAddress};
use folkmoot_protocol::invitation::Invitation;
use folkmoot_protocol::keys::hash;
use folkmoot_protocol::sealed::{open_package, suite};
use folkmoot_protocol::{Refusal, VERSION};

use super::groups::{load_group, members};
use super::rows::{
    self, AddWish, ConversationRow, Key, OutboxRow, Replaces, Target, TargetDevice, Wish,
};
use super::session::{Asked, Task};
use super::shelf::{DAY, SUITE, lane};
use super::{Ask, IntentId, Standing, Step, address};
use crate::error::{BadPackage, BadService, Error};
use crate::store::Table;

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
    fn add_wish(
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

    fn put_wish(&mut self, mut row: OutboxRow, wish: AddWish) -> Result<(), Error> {
        row.wish = Wish::Add(wish);
        self.put_outbox(&row)?;
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
        let waits = wish.targets.iter().find(|target| !target.looked_up);
        if let Some(target) = waits {
            // Who is a member is known once the log is read; nothing is taken in vain.
            if conversation.standing != Standing::Member || !self.session.reading(log).at_head {
                self.session.reading(log).wanted = true;
                self.wake.push(Task::Conversation(log));
                return Ok(None);
            }
            let group = load_group(self.tx, log)?;
            if members(&group).any(|(_, member)| member.user == target.user) {
                let error = Error::AlreadyMember(target.user.clone());
                self.settle(log, intent, Err(error))?;
                return Ok(None);
            }
            let request = LookUpRequest {
                name: target.user.name.to_string(),
                ..Default::default()
            };
            return Ok(Some(Ask {
                to: address(&account.authentication),
                call: Call::LookUp(request),
                asked: Asked::LookUp(target.user.clone()),
            }));
        }
        if let Some(ask) = ask_take(&wish) {
            return Ok(Some(ask));
        }
        if self.seal_invitations(&conversation, &account.user, &mut wish)? {
            self.put_wish(row, wish.clone())?;
        }
        let mut devices = wish.targets.iter().flat_map(|target| &target.devices);
        if let Some(device) = devices.find(|device| !device.dropped) {
            let request = DropRequest {
                mailbox: device.mailbox.into(),
                ticket: device.ticket.to_vec(),
                envelope: device.envelope.to_vec(),
            };
            return Ok(Some(Ask {
                to: address(&device.delivery),
                call: Call::Drop(request),
                asked: Asked::Drop(device.address),
            }));
        }
        self.wake.push(Task::Conversation(log));
        Ok(None)
    }

    /// Seals the invitations that are not sealed yet.
    fn seal_invitations(
        &mut self,
        conversation: &ConversationRow,
        inviter: &UserId,
        wish: &mut AddWish,
    ) -> Result<bool, Error> {
        let mut sealed = false;
        let shared_key = *wish.shared_key.0;
        let devices = wish
            .targets
            .iter_mut()
            .flat_map(|target| &mut target.devices);
        for device in devices.filter(|device| device.envelope.is_empty()) {
            let invitation = Invitation {
                version: VERSION,
                log: conversation.log,
                delivery_url: conversation.delivery.url.clone(),
                delivery_key: conversation.delivery.key,
                delivery_pin: conversation.delivery.pin.clone(),
                address: device.address,
                shared_key,
                own_key: *device.own_key.0,
                inviter: inviter.to_field(),
            };
            let version = device.mailbox_key_version;
            let envelope = invitation
                .seal(version, &device.mailbox_key, self.rng)
                .map_err(folkmoot_mls::error::Error::from)?;
            device.envelope = envelope.into();
            sealed = true;
        }
        Ok(sealed)
    }

    pub(super) fn looked_up(
        &mut self,
        log: LogId,
        intent: IntentId,
        user: &UserId,
        answer: &LookUpResponse,
    ) -> Result<(), Error> {
        let Some((row, mut wish)) = self.add_wish(log, intent)? else {
            return Ok(());
        };
        let account = self.account()?;
        let authority = account.authentication.key;
        let entry = match DirectoryEntry::read(answer, user, &authority, self.now / 1000) {
            Ok(entry) => entry,
            Err(error) => {
                return self.settle(log, intent, Err(Error::BadDirectory(user.clone(), error)));
            }
        };
        if entry.devices.is_empty() {
            return self.settle(log, intent, Err(Error::NoPackage(user.clone())));
        }
        let mut devices = Vec::new();
        for record in entry.devices {
            let mut address = PickupAddress([0; 32]);
            self.rng.fill_bytes(&mut address.0);
            devices.push(TargetDevice {
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
        // Another process may have asked too, and have gone on with what it heard.
        let mut targets = wish.targets.iter_mut();
        if let Some(target) = targets.find(|target| target.user == *user && !target.looked_up) {
            target.looked_up = true;
            target.authority = Some(authority);
            target.devices = devices;
        }
        self.put_wish(row, wish)
    }

    pub(super) fn taken(
        &mut self,
        log: LogId,
        intent: IntentId,
        answer: &TakeResponse,
    ) -> Result<(), Error> {
        let Some((row, mut wish)) = self.add_wish(log, intent)? else {
            return Ok(());
        };
        let now = self.now / 1000;
        let mut failed = None;
        for target in &mut wish.targets {
            let Target {
                user,
                authority,
                devices,
                ..
            } = target;
            devices.retain_mut(|device| {
                let taken = answer
                    .taken
                    .iter()
                    .find(|taken| taken.mailbox == device.mailbox.0);
                let Some(taken) = taken.filter(|_| device.package.is_empty()) else {
                    return true;
                };
                // A device without a package cannot be added; others of the user can.
                let Some(package) = &taken.package else {
                    return false;
                };
                match check_package(package, user, device, *authority, now) {
                    Ok(plain) => {
                        device.package = plain.into();
                        device.ticket = taken.ticket.as_slice().into();
                    }
                    Err(fault) => {
                        failed.get_or_insert(Error::BadPackage(user.clone(), fault));
                    }
                }
                true
            });
            if devices.is_empty() {
                failed.get_or_insert(Error::NoPackage(user.clone()));
            }
        }
        let progress = wish
            .targets
            .iter()
            .flat_map(|target| &target.devices)
            .any(|device| {
                answer
                    .taken
                    .iter()
                    .any(|taken| taken.mailbox == device.mailbox.0)
            });
        if let Some(error) = failed {
            return self.settle(log, intent, Err(error));
        }
        if !progress {
            // An answer about other mailboxes than were asked for.
            self.block(
                Task::Invite(log, intent),
                Error::BadService(BadService::Answer),
            );
            return Ok(());
        }
        self.put_wish(row, wish)
    }

    pub(super) fn dropped(
        &mut self,
        log: LogId,
        intent: IntentId,
        address: PickupAddress,
    ) -> Result<(), Error> {
        let Some((row, mut wish)) = self.add_wish(log, intent)? else {
            return Ok(());
        };
        let mut devices = wish
            .targets
            .iter_mut()
            .flat_map(|target| &mut target.devices);
        if let Some(device) = devices.find(|device| device.address == address) {
            device.dropped = true;
        }
        self.put_wish(row, wish)
    }

    pub(super) fn invite_refused(
        &mut self,
        log: LogId,
        intent: IntentId,
        refusal: Refusal,
    ) -> Result<(), Error> {
        let Some((_, wish)) = self.add_wish(log, intent)? else {
            return Ok(());
        };
        let knocked = |target: &&Target| target.replaces != Replaces::Nothing;
        if let (Refusal::NotFound, Some(target)) = (&refusal, wish.targets.iter().find(knocked)) {
            return self.waits_no_longer(log, intent, target.user.clone());
        }
        let waiting = wish.targets.iter().find(|target| !target.looked_up);
        let error = match (refusal, waiting) {
            (Refusal::UnknownUser | Refusal::NameInvalid, Some(target)) => {
                Error::UnknownUser(target.user.clone())
            }
            (refusal, _) => refusal.into(),
        };
        self.settle(log, intent, Err(error))
    }
}

/// Takes the packages that are missing, from one DS at a time.
fn ask_take(wish: &AddWish) -> Option<Ask> {
    let missing = || {
        let devices = wish.targets.iter().flat_map(|target| &target.devices);
        devices.filter(|device| device.package.is_empty())
    };
    let delivery = missing().next()?.delivery.clone();
    let mailboxes: Vec<Vec<u8>> = missing()
        .filter(|device| device.delivery == delivery)
        .take(folkmoot_protocol::limits::MAILBOXES_PER_TAKE)
        .map(|device| device.mailbox.into())
        .collect();
    // The same question has the same name; another DS, or the next thousand, is another question.
    let subject = (wish.take, (delivery.key, Bytes::from(mailboxes.concat())));
    let request = TakeRequest {
        request_id: hash("take", &subject).to_vec(),
        lane: Some(lane()),
        mailboxes,
        payment: None,
    };
    Some(Ask {
        to: address(&delivery),
        call: Call::Take(request),
        asked: Asked::Take,
    })
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
