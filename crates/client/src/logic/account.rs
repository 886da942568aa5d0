//! Registering: keys, the AS's word, a mailbox, a stocked shelf.

use folkmoot_credential::{
    CERTIFICATE_SECONDS, DeviceCertificate, DeviceCredential, DeviceRecord, Domain, MailboxKey,
    Name, Registration, ShelfKey, UserId, Validity, Version,
};
use folkmoot_mls::crypto::SignatureKeyPair;
use folkmoot_protocol::Refusal;
use folkmoot_protocol::authentication::RegisterResponse;
use folkmoot_protocol::call::Call;
use folkmoot_protocol::directory::{read_registered, register_request};
use folkmoot_protocol::keys::SigningKey;
use folkmoot_protocol::sealed::{mailbox_key_pair, mailbox_public_key};

use super::rows::{self, AccountRow, Key, Seed, Stage, secret_from};
use super::session::{Asked, Task};
use super::{Ask, Event, Step, address, stored_address};
use crate::error::{BadService, Error};
use crate::store::{StoreError, Table};
use crate::transport::ServiceAddress;

impl AccountRow {
    /// What this device signs MLS messages with.
    pub(crate) fn signer(&self) -> SignatureKeyPair {
        SignatureKeyPair::new(
            secret_from(self.device.0.seed().as_ref()),
            self.device.0.public().0.into(),
        )
    }

    /// Who this device says that it is.
    pub(super) fn credential(&self) -> Result<DeviceCredential, Error> {
        let binding = self
            .binding
            .clone()
            .ok_or_else(|| Error::RegistrationUnfinished(self.user.clone()))?;
        Ok(DeviceCredential::new(
            binding,
            vec![self.certificate.clone()],
        ))
    }

    fn registration(&self) -> Option<Registration> {
        let device = DeviceRecord {
            version: Version,
            user: self.user.clone(),
            certificate: self.certificate.clone(),
            issued: self.issued,
            delivery: self.delivery.clone(),
            mailbox: self.mailbox().0,
            mailbox_key: MailboxKey {
                version: self.mailbox_key_version,
                key: mailbox_public_key(self.mailbox_key.public_key())?,
            },
            shelf_key: ShelfKey {
                version: self.shelf_key_version,
                key: *self.shelf_key.0,
            },
        };
        Some(Registration {
            version: Version,
            domain: self.user.domain.clone(),
            authentication_service: self.authentication.key,
            name: self.user.name.clone(),
            identity_key: self.identity.0.public(),
            device_signature: device.sign(&self.device.0),
            device,
        })
    }
}

impl Step<'_> {
    pub(super) fn stored_account(&self) -> Result<Option<AccountRow>, StoreError> {
        rows::get(self.tx, Table::Account, rows::ACCOUNT)
    }

    /// The account, whose registration is finished.
    pub(super) fn account(&self) -> Result<AccountRow, Error> {
        let account = self.stored_account()?.ok_or(Error::NotRegistered)?;
        if account.stage == Stage::Ready {
            Ok(account)
        } else {
            Err(Error::RegistrationUnfinished(account.user))
        }
    }

    pub(super) fn put_account(&mut self, row: &AccountRow) -> Result<(), StoreError> {
        rows::put(self.tx, Table::Account, rows::ACCOUNT, row)
    }

    pub(super) fn register(
        &mut self,
        name: Name,
        domain: Domain,
        authentication: ServiceAddress,
        delivery: ServiceAddress,
    ) -> Result<(), Error> {
        let user = UserId { name, domain };
        let intent = match self.stored_account()? {
            Some(known) if known.stage == Stage::Ready => {
                return Err(Error::AlreadyRegistered(known.user));
            }
            Some(known) if known.user != user => {
                return Err(Error::RegistrationUnfinished(known.user));
            }
            // The same again: go on where it stopped.
            Some(known) => known.intent,
            None => {
                let intent = rows::next_intent(self.tx)?;
                let identity = SigningKey::generate(self.rng);
                let device = SigningKey::generate(self.rng);
                let issued = self.now / 1000;
                let validity = Validity::starting(issued, CERTIFICATE_SECONDS);
                let certificate =
                    DeviceCertificate::issue(user.clone(), device.public(), validity, &identity);
                let account = AccountRow {
                    version: Version,
                    stage: Stage::Registering,
                    intent,
                    user,
                    authentication: stored_address(&authentication),
                    delivery: stored_address(&delivery),
                    identity: Seed(identity),
                    device: Seed(device),
                    owner: Seed(SigningKey::generate(self.rng)),
                    mailbox_key_version: 1,
                    mailbox_key: mailbox_key_pair(self.rng),
                    shelf_key_version: 1,
                    shelf_key: Key::generate(self.rng),
                    certificate,
                    issued,
                    binding: None,
                    collected: 0,
                    acknowledged: 0,
                };
                self.put_account(&account)?;
                intent
            }
        };
        self.tell(Event::Started { intent });
        self.session.unblock();
        self.wake.push(Task::Mailbox);
        Ok(())
    }

    /// The call of a registration that the AS has not answered.
    pub(super) fn ask_register(&mut self, account: &AccountRow) -> Option<Ask> {
        let registration = account.registration()?;
        let request = register_request(&registration, &account.identity.0, &account.device.0);
        Some(Ask {
            to: address(&account.authentication),
            call: Call::Register(request),
            asked: Asked::Register,
        })
    }

    pub(super) fn registered(&mut self, answer: &RegisterResponse) -> Result<(), Error> {
        let Some(mut account) = self.stored_account()? else {
            return Ok(());
        };
        if account.stage != Stage::Registering {
            return Ok(());
        }
        let registration = account.registration();
        let binding = registration
            .ok_or(Error::BadService(BadService::Answer))
            .and_then(|registration| {
                read_registered(answer, &registration, self.now / 1000)
                    .map_err(|error| Error::BadDirectory(account.user.clone(), error))
            });
        match binding {
            Ok(binding) => {
                account.binding = Some(binding);
                account.stage = Stage::MakingMailbox;
                self.put_account(&account)?;
            }
            Err(error) => self.block(Task::Mailbox, error),
        }
        Ok(())
    }

    pub(super) fn register_refused(&mut self, refusal: Refusal) -> Result<(), Error> {
        let Some(account) = self.stored_account()? else {
            return Ok(());
        };
        let is_final = matches!(
            refusal,
            Refusal::NameTaken | Refusal::NameInvalid | Refusal::Taken | Refusal::Malformed(_)
        );
        if is_final && account.stage == Stage::Registering {
            // The keys were never used: the home is free for another name.
            self.tx.delete(Table::Account, rows::ACCOUNT)?;
            let error = Error::Refused(refusal);
            self.tell(Event::Failed {
                intent: account.intent,
                error,
            });
        } else {
            self.block(Task::Mailbox, refusal.into());
        }
        Ok(())
    }

    pub(super) fn mailbox_made(&mut self) -> Result<(), Error> {
        let Some(mut account) = self.stored_account()? else {
            return Ok(());
        };
        if account.stage == Stage::MakingMailbox {
            self.make_packages(&account, super::shelf::STOCK, true)?;
            account.stage = Stage::Stocking;
            self.put_account(&account)?;
        }
        Ok(())
    }

    pub(super) fn finish_registration(&mut self) -> Result<(), Error> {
        let Some(mut account) = self.stored_account()? else {
            return Ok(());
        };
        if account.stage == Stage::Stocking {
            account.stage = Stage::Ready;
            self.put_account(&account)?;
            self.tell(Event::Done {
                intent: account.intent,
            });
        }
        Ok(())
    }
}
