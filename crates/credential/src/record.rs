//! What the AS's directory says about a device, and how a user comes into it.

use std::fmt;

use folkmoot_mls::codec::Bytes;
use folkmoot_mls::tls_struct;

use crate::keys::{PublicKey, SigningKey};
use crate::{DeviceCertificate, Domain, IdentityError, Name, UserId, Version};

const RECORD_LABEL: &str = "device record";
const IDENTITY_LABEL: &str = "registration, identity key";
const DEVICE_LABEL: &str = "registration, device key";

/// The longest URL of a Delivery Service, in bytes.
const MAX_URL: usize = 1024;

tls_struct! {
    /// Where a Delivery Service (DS) is, and how it is known again.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct DeliveryAddress {
        /// `https://host:port`, UTF-8.
        pub url: Bytes,
        /// The DS's signing key.
        pub key: PublicKey,
        /// How its TLS certificate is known: empty for the web's roots, else SHA-256 of the
        /// public key to pin.
        pub pin: Bytes,
    }
}

tls_struct! {
    /// Invitations to a device are sealed to this key.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct MailboxKey {
        /// Counts the device's keys, from 1.
        pub version: u16,
        /// HPKE, of cipher suite 1: X25519.
        pub key: [u8; 32],
    }
}

tls_struct! {
    /// The KeyPackages on a device's shelf are sealed under this key: whoever looks the device up
    /// can open them, the DS cannot.
    #[derive(Clone, PartialEq, Eq)]
    pub struct ShelfKey {
        /// Counts the device's keys, from 1.
        pub version: u16,
        /// A symmetric key.
        pub key: [u8; 32],
    }
}

impl fmt::Debug for ShelfKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShelfKey({}, ..)", self.version)
    }
}

tls_struct! {
    /// Where a device is reached: its entry in the directory, signed by the device.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct DeviceRecord {
        /// 1.
        pub version: Version,
        /// Whose device it is.
        pub user: UserId,
        /// By the user's identity key.
        pub certificate: DeviceCertificate,
        /// When this was written, seconds since 1970. A later record replaces an earlier one.
        pub issued: u64,
        /// The DS of the mailbox and shelf.
        pub delivery: DeliveryAddress,
        /// The mailbox, and the shelf that belongs to it.
        pub mailbox: [u8; 32],
        /// For what is dropped into the mailbox.
        pub mailbox_key: MailboxKey,
        /// For what lies on the shelf.
        pub shelf_key: ShelfKey,
    }
}

impl DeviceRecord {
    /// Signs: the device's part.
    #[must_use]
    pub fn sign(&self, device: &SigningKey) -> [u8; 64] {
        device.sign(RECORD_LABEL, self)
    }

    /// Checks that this is the record of a device of `user`, certified by `identity_key` at `now`,
    /// and signed by the device.
    ///
    /// # Errors
    /// [`IdentityError::WrongUser`], [`IdentityError::BadCertificate`],
    /// [`IdentityError::NotYetValid`], [`IdentityError::Expired`], [`IdentityError::BadRecord`].
    pub fn verify(
        &self,
        user: &UserId,
        identity_key: &PublicKey,
        signature: &[u8],
        now: u64,
    ) -> Result<(), IdentityError> {
        if self.user != *user {
            return Err(IdentityError::WrongUser);
        }
        self.certificate.verify(user, identity_key, Some(now))?;
        self.certificate
            .signature_key
            .verify(RECORD_LABEL, self, signature)
            .map_err(|_| IdentityError::BadRecord)?;
        let url = std::str::from_utf8(&self.delivery.url).map_err(|_| IdentityError::BadRecord)?;
        let fits = url.len() <= MAX_URL && matches!(self.delivery.pin.len(), 0 | 32);
        if fits {
            Ok(())
        } else {
            Err(IdentityError::BadRecord)
        }
    }
}

tls_struct! {
    /// A new user's word to the AS. Identity key and device key both sign it, so nobody registers
    /// a key that it does not have; domain and AS key are in it, so it is good at one AS only.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Registration {
        /// 1.
        pub version: Version,
        /// The AS's domain.
        pub domain: Domain,
        /// The AS's key.
        pub authentication_service: PublicKey,
        /// The name that is asked for.
        pub name: Name,
        /// The user's key.
        pub identity_key: PublicKey,
        /// The first device.
        pub device: DeviceRecord,
        /// By the first device, over its record.
        pub device_signature: [u8; 64],
    }
}

impl Registration {
    /// The user that it makes.
    #[must_use]
    pub fn user(&self) -> UserId {
        UserId {
            name: self.name.clone(),
            domain: self.domain.clone(),
        }
    }

    /// Signs with both keys, the identity's first.
    #[must_use]
    pub fn sign(&self, identity: &SigningKey, device: &SigningKey) -> ([u8; 64], [u8; 64]) {
        (
            identity.sign(IDENTITY_LABEL, self),
            device.sign(DEVICE_LABEL, self),
        )
    }

    /// Checks both proofs of possession and the device's record. A key for which anybody can sign is
    /// nobody's possession. That domain and AS key are the
    /// right ones is the AS's to see.
    ///
    /// # Errors
    /// [`IdentityError::BadRegistration`], and as [`DeviceRecord::verify`].
    pub fn verify(
        &self,
        identity_signature: &[u8],
        device_signature: &[u8],
        now: u64,
    ) -> Result<(), IdentityError> {
        let keys = [&self.identity_key, &self.device.certificate.signature_key];
        if keys.into_iter().any(PublicKey::is_anybodys) {
            return Err(IdentityError::BadRegistration);
        }
        self.identity_key
            .verify(IDENTITY_LABEL, self, identity_signature)
            .map_err(|_| IdentityError::BadRegistration)?;
        self.device
            .certificate
            .signature_key
            .verify(DEVICE_LABEL, self, device_signature)
            .map_err(|_| IdentityError::BadRegistration)?;
        self.device.verify(
            &self.user(),
            &self.identity_key,
            &self.device_signature,
            now,
        )
    }
}
