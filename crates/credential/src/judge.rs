//! The questions that the MLS engine asks an Authentication Service, answered for
//! [`DeviceCredential`]s (RFC 9420, section 5.3.1).

use folkmoot_mls::context::{AuthenticationService, CredentialClaim, CredentialError};
use folkmoot_mls::credential::Credential;
use folkmoot_mls::extension::Extensions;

use rand_core::CryptoRng;

use crate::keys::{AtOnce, Together, Verifier};
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
        let claim = CredentialClaim {
            credential,
            signature_key,
        };
        judge(&mut AtOnce, claim, &accepted(group)?, now)
    }

    /// The signatures of all credentials are verified by one equation; if it does not hold, one by one.
    fn validate_all(
        &self,
        claims: &[CredentialClaim<'_>],
        group: &Extensions,
        now: Option<u64>,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), (usize, CredentialError)> {
        if claims.is_empty() {
            return Ok(());
        }
        let accepted = accepted(group).map_err(|error| (0, error))?;
        let mut together = Together::default();
        if judge_all(&mut together, claims, &accepted, now).is_ok() && together.finish(rng) {
            return Ok(());
        }
        judge_all(&mut AtOnce, claims, &accepted, now)
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

fn accepted(group: &Extensions) -> Result<AcceptedKeys, CredentialError> {
    let accepted: Option<AcceptedKeys> = group.get().ok().flatten();
    accepted
        .filter(|accepted| accepted.keys.len() <= AcceptedKeys::MAX)
        .ok_or(CredentialError::UntrustedIssuer)
}

fn judge(
    verifier: &mut impl Verifier,
    claim: CredentialClaim<'_>,
    accepted: &AcceptedKeys,
    now: Option<u64>,
) -> Result<(), CredentialError> {
    DeviceCredential::read(claim.credential)
        .and_then(|device| device.verify_by(verifier, claim.signature_key, accepted.iter(), now))
        .map_err(CredentialError::from)
}

fn judge_all(
    verifier: &mut impl Verifier,
    claims: &[CredentialClaim<'_>],
    accepted: &AcceptedKeys,
    now: Option<u64>,
) -> Result<(), (usize, CredentialError)> {
    claims.iter().enumerate().try_for_each(|(place, claim)| {
        judge(verifier, *claim, accepted, now).map_err(|error| (place, error))
    })
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
            | IdentityError::BadRegistration
            | IdentityError::Log(_) => Self::NotAuthentic,
        }
    }
}
