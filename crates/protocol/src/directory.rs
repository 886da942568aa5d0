//! The Authentication Service's words, read and verified: what the crate `credential` states, in the
//! envelopes of [`crate::authentication`].

use folkmoot_credential::transparency::{
    Entry, LogError, LogLabel, LookUpProof, Published, SignedHead, SignedPromise,
};
use folkmoot_credential::{Binding, DeviceRecord, IdentityError, Registration, UserId, Version};
use folkmoot_mls::codec::{Decode, DecodeError, Encode};

use crate::authentication::{LookUpResponse, RegisterRequest, RegisterResponse};
use crate::keys::{PublicKey, SigningKey};

/// The most devices that a user may have in the directory.
pub const MAX_DEVICES: usize = 64;

/// Signs a registration with both keys and wraps it up.
#[must_use]
pub fn register_request(
    registration: &Registration,
    identity: &SigningKey,
    device: &SigningKey,
) -> RegisterRequest {
    let (identity_signature, device_signature) = registration.sign(identity, device);
    RegisterRequest {
        registration: registration.to_bytes(),
        identity_signature: identity_signature.to_vec(),
        device_signature: device_signature.to_vec(),
    }
}

/// Reads the answer to one's own registration: the binding of one's name and key, valid at `now`
/// (seconds since 1970).
///
/// # Errors
/// As [`Binding::verify_for`], [`IdentityError::Malformed`], and [`IdentityError::WrongUser`] for
/// another identity key: the AS is to blame.
pub fn read_registered(
    response: &RegisterResponse,
    registration: &Registration,
    now: u64,
) -> Result<Binding, IdentityError> {
    let binding = Binding::from_bytes(&response.binding)?;
    binding.verify_for(
        &registration.user(),
        &registration.authentication_service,
        now,
    )?;
    if binding.statement.identity_key == registration.identity_key {
        Ok(binding)
    } else {
        Err(IdentityError::WrongUser)
    }
}

/// What the directory says about a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// The AS's statement of the user's identity key.
    pub binding: Binding,
    /// The user's devices whose certificates hold.
    pub devices: Vec<DeviceRecord>,
    /// How the transparency log bears that out.
    pub evidence: Evidence,
}

/// Why an answer of the directory can be caught if it is false.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// It is in the log, under this head.
    Published(Published, SignedHead),
    /// The AS has signed that it will be.
    Promised(SignedPromise),
}

/// How far ahead a promise may be due, in milliseconds: an hour, since clocks differ.
const PATIENCE_MS: u64 = 3_600_000;

impl DirectoryEntry {
    /// Reads the answer to a look-up of `user` at the AS that has `authentication_service`, at
    /// `now` (seconds since 1970). Devices whose certificates have expired are left out.
    ///
    /// # Errors
    /// As [`Binding::verify_for`] and [`DeviceRecord::verify`], and [`IdentityError::Malformed`],
    /// also for more than [`MAX_DEVICES`] devices; [`IdentityError::Log`] if it neither proves nor
    /// promises what it says: the AS is to blame.
    pub fn read(
        response: &LookUpResponse,
        user: &UserId,
        authentication_service: &PublicKey,
        now: u64,
    ) -> Result<Self, IdentityError> {
        let binding = Binding::from_bytes(&response.binding)?;
        binding.verify_for(user, authentication_service, now)?;
        if response.devices.len() > MAX_DEVICES {
            return Err(DecodeError::InvalidValue("devices").into());
        }
        let identity_key = binding.statement.identity_key;
        let (mut devices, mut hashes) = (Vec::new(), Vec::new());
        for device in &response.devices {
            let record = DeviceRecord::from_bytes(&device.record)?;
            hashes.push(Entry::device(&record));
            match record.verify(user, &identity_key, &device.signature, now) {
                Ok(()) => devices.push(record),
                Err(IdentityError::Expired) => {}
                Err(error) => return Err(error),
            }
        }
        let entry = Entry {
            version: Version,
            user: user.clone(),
            identity_key,
            devices: hashes,
            revoked: Vec::new(),
        };
        let evidence = evidence(response, &entry, authentication_service, now)?;
        Ok(Self {
            binding,
            devices,
            evidence,
        })
    }
}

fn evidence(
    response: &LookUpResponse,
    entry: &Entry,
    authentication_service: &PublicKey,
    now: u64,
) -> Result<Evidence, LogError> {
    let (domain, label) = (&entry.user.domain, LogLabel::User(entry.user.name.clone()));
    let value = entry.hash();
    if !response.proof.is_empty() {
        let head = SignedHead::read(&response.head, domain, authentication_service)?;
        let proof = LookUpProof::read(&response.proof)?;
        let published = proof.verify(&head.head, &label, &value)?;
        return Ok(Evidence::Published(published, head));
    }
    if response.promise.is_empty() {
        return Err(LogError::Missing);
    }
    SignedPromise::read(
        &response.promise,
        domain,
        authentication_service,
        &label,
        &value,
        now.saturating_mul(1000),
        PATIENCE_MS,
    )
    .map(Evidence::Promised)
}
