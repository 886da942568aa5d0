//! The questions that the MLS engine asks an Authentication Service, answered for
//! [`DeviceCredential`]s (RFC 9420, section 5.3.1).

use folkmoot_mls::context::{AuthenticationService, CredentialError};
use folkmoot_mls::credential::Credential;
use folkmoot_mls::extension::Extensions;

use crate::{AcceptedKeys, DeviceCredential, IdentityError};

/// The longest lifetime of a KeyPackage that members accept: 90 days.
pub const LONGEST_LIFETIME: u64 = 90 * 24 * 3600;

/// Judges [`DeviceCredential`]s by the group's [`AcceptedKeys`], the key of the leaf and the time:
/// by nothing else, so that all members of a group judge alike.
#[derive(Clone, Copy, Debug, Default)]
pub struct Judge;

impl AuthenticationService for Judge {
    fn validate(
        &self,
        credential: &Credential,
        signature_key: &[u8],
        group: &Extensions,
        now: Option<u64>,
    ) -> Result<(), CredentialError> {
        let accepted: AcceptedKeys = group
            .get()
            .ok()
            .flatten()
            .ok_or(CredentialError::UntrustedIssuer)?;
        DeviceCredential::read(credential)
            .and_then(|device| device.verify(signature_key, accepted.iter(), now))
            .map_err(CredentialError::from)
    }

    /// The user, as `name@domain`.
    fn presents(&self, credential: &Credential, reference_identifier: &[u8]) -> bool {
        DeviceCredential::read(credential)
            .is_ok_and(|device| device.user.to_string().as_bytes() == reference_identifier)
    }

    /// The same device of the same user.
    fn is_same_client(&self, one: &Credential, other: &Credential) -> bool {
        self.is_successor(one, other)
    }

    /// The same device of the same user: its leaf key and its certificates may have been renewed.
    fn is_successor(&self, old: &Credential, new: &Credential) -> bool {
        match (DeviceCredential::read(old), DeviceCredential::read(new)) {
            (Ok(old), Ok(new)) => new.is_same_device(&old),
            _ => false,
        }
    }

    fn longest_lifetime(&self) -> Option<u64> {
        Some(LONGEST_LIFETIME)
    }
}

/// As the engine names it.
impl From<IdentityError> for CredentialError {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Malformed(_) => Self::Malformed,
            IdentityError::WrongKind => Self::UnsupportedType,
            IdentityError::BadBinding => Self::UntrustedIssuer,
            IdentityError::NotYetValid | IdentityError::Expired => Self::Expired,
            IdentityError::WrongUser
            | IdentityError::BadCertificate
            | IdentityError::BadChain
            | IdentityError::BadRecord
            | IdentityError::BadRegistration => Self::NotAuthentic,
        }
    }
}
