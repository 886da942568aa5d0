//! What is kept of a user, and how a registration changes it.

use folkmoot_credential::keys::{PublicKey, SigningKey};
use folkmoot_credential::transparency::Entry;
use folkmoot_credential::{
    BINDING_SECONDS, Binding, DeviceRecord, Registration, Validity, Version,
};
use folkmoot_mls::codec::Encode;
use folkmoot_mls::tls_struct;
use folkmoot_protocol::Refusal;
use folkmoot_protocol::authentication::{self, LookUpResponse};

tls_struct! {
    /// A user, as stored.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Account {
        pub(crate) version: Version,
        pub(crate) binding: Binding,
        pub(crate) devices: Vec<Device>,
    }
}

tls_struct! {
    /// A device's entry and its signature.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Device {
        pub(crate) record: DeviceRecord,
        pub(crate) signature: [u8; 64],
    }
}

impl Account {
    /// The account after `registration`, whose proofs were verified. The same registration again
    /// changes nothing, until half of the binding's time is over: then it renews the binding. A
    /// later record of the same device takes the place of the earlier one.
    ///
    /// `now` is in seconds since 1970.
    ///
    /// # Errors
    /// [`Refusal::NameTaken`] if the name has another identity key. [`Refusal::Taken`] if the
    /// registration is for another device, or not newer than what is known of this one.
    pub(crate) fn register(
        known: Option<&Self>,
        registration: Registration,
        key: &SigningKey,
        now: u64,
    ) -> Result<Self, Refusal> {
        let identity_key = registration.identity_key;
        let issue = |user| {
            let validity = Validity::starting(now, BINDING_SECONDS);
            Binding::issue(user, identity_key, validity, key)
        };
        let user = registration.user();
        let device = Device {
            record: registration.device,
            signature: registration.device_signature,
        };
        let Some(known) = known else {
            return Ok(Self {
                version: Version,
                binding: issue(user),
                devices: vec![device],
            });
        };
        if known.binding.statement.identity_key != identity_key {
            return Err(Refusal::NameTaken);
        }
        let mut account = known.clone();
        let same = account
            .devices
            .iter_mut()
            .find(|known| known.key() == device.key())
            .ok_or(Refusal::Taken)?;
        if same.record != device.record {
            if same.record.issued >= device.record.issued {
                return Err(Refusal::Taken);
            }
            *same = device;
        }
        if account.is_due(&key.public(), now) {
            account.binding = issue(user);
        }
        Ok(account)
    }

    /// Whether the binding should be renewed: half of its time is over, or the AS's key is new.
    fn is_due(&self, key: &PublicKey, now: u64) -> bool {
        let statement = &self.binding.statement;
        statement.authentication_service != *key
            || statement.validity.not_after < now.saturating_add(BINDING_SECONDS / 2)
    }

    /// Whether this is the key of one of the account's devices, whose certificate is valid at `now`,
    /// seconds since 1970.
    pub(crate) fn has_device(&self, key: &PublicKey, now: u64) -> bool {
        let mut devices = self.devices.iter().filter(|device| device.key() == *key);
        devices.any(|device| device.record.certificate.validity.check(now).is_ok())
    }

    /// What the transparency log says.
    pub(crate) fn entry(&self) -> Entry {
        let records = self.devices.iter().map(|device| &device.record);
        Entry {
            version: Version,
            user: self.binding.statement.user.clone(),
            identity_key: self.binding.statement.identity_key,
            devices: records.map(Entry::device).collect(),
            revoked: Vec::new(),
        }
    }

    /// What the directory says; the proof is for the log to add.
    pub(crate) fn look_up(&self) -> LookUpResponse {
        let devices = self.devices.iter().map(|device| authentication::Device {
            record: device.record.to_bytes(),
            signature: device.signature.to_vec(),
        });
        LookUpResponse {
            binding: self.binding.to_bytes(),
            devices: devices.collect(),
            ..LookUpResponse::default()
        }
    }
}

impl Device {
    fn key(&self) -> PublicKey {
        self.record.certificate.signature_key
    }
}
