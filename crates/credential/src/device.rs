//! What a device shows: certificates by its user's identity key, and the credential of its leaves.

use folkmoot_mls::codec::{Decode, DecodeError, Encode};
use folkmoot_mls::credential::{Credential, CredentialType};
use folkmoot_mls::tls_struct;

use crate::binding::BindingStatement;
use crate::keys::{AtOnce, PublicKey, SigningKey, Verifier};
use crate::{Binding, Domain, IdentityError, UserId, Validity, Version};

/// The kind of a [`DeviceCredential`], from the range for private use (RFC 9420, section 17.5).
pub const CREDENTIAL_TYPE: CredentialType = CredentialType(0xf040);

/// The longest chain from an identity key to a leaf's key.
pub const MAX_CHAIN: usize = 4;

/// How long a device's certificate holds when made: one year.
pub const CERTIFICATE_SECONDS: u64 = 365 * 24 * 3600;

/// The largest encoded credential that is read, in bytes. A longer one cannot be valid.
const MAX_CREDENTIAL: usize = 2048;

const LABEL: &str = "device certificate";

tls_struct! {
    /// Says that the holder of a key, the issuer, has the device of `signature_key` speak for a
    /// user. The issuer and the user are signed but not repeated here: the context names them.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct DeviceCertificate {
        /// 1.
        pub version: Version,
        /// The device's key.
        pub signature_key: PublicKey,
        /// When this holds.
        pub validity: Validity,
        /// By the issuer.
        pub signature: [u8; 64],
    }
}

tls_struct! {
    struct CertificateStatement {
        version: Version,
        user: UserId,
        issuer: PublicKey,
        signature_key: PublicKey,
        validity: Validity,
    }
}

impl DeviceCertificate {
    /// Certifies a device: the part of the user's identity key.
    #[must_use]
    pub fn issue(
        user: UserId,
        signature_key: PublicKey,
        validity: Validity,
        issuer: &SigningKey,
    ) -> Self {
        let statement = CertificateStatement {
            version: Version,
            user,
            issuer: issuer.public(),
            signature_key,
            validity,
        };
        Self {
            version: Version,
            signature_key,
            validity,
            signature: issuer.sign(LABEL, &statement),
        }
    }

    /// Checks that `issuer` certified this device for `user`, and that it holds at `now`; where
    /// `now` is `None` no time is judged.
    ///
    /// # Errors
    /// [`IdentityError::BadCertificate`], [`IdentityError::NotYetValid`] or
    /// [`IdentityError::Expired`].
    pub fn verify(
        &self,
        user: &UserId,
        issuer: &PublicKey,
        now: Option<u64>,
    ) -> Result<(), IdentityError> {
        self.verify_by(&mut AtOnce, user, issuer, now)
    }

    fn verify_by(
        &self,
        verifier: &mut impl Verifier,
        user: &UserId,
        issuer: &PublicKey,
        now: Option<u64>,
    ) -> Result<(), IdentityError> {
        let statement = CertificateStatement {
            version: self.version,
            user: user.clone(),
            issuer: *issuer,
            signature_key: self.signature_key,
            validity: self.validity,
        };
        if !verifier.verify(issuer, LABEL, &statement, &self.signature) {
            return Err(IdentityError::BadCertificate);
        }
        now.map_or(Ok(()), |now| self.validity.check(now))
    }
}

tls_struct! {
    /// The credential of a device's leaves. What [`Binding`] says is here once, without the AS's
    /// key: the group's [`AcceptedKeys`](crate::AcceptedKeys) know it.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct DeviceCredential {
        /// 1.
        pub version: Version,
        /// The user.
        pub user: UserId,
        /// The user's key.
        pub identity_key: PublicKey,
        /// See [`PublicKey::id`]: which of the domain's accepted keys signed the binding, so that those of
        /// a whole group are verified together.
        pub binding_key: [u8; 8],
        /// When the binding holds.
        pub binding_validity: Validity,
        /// The AS's, over the [`Binding`].
        pub binding_signature: [u8; 64],
        /// From the identity key to the leaf's signature key. The first key names the device.
        pub chain: Vec<DeviceCertificate>,
    }
}

impl DeviceCredential {
    /// The credential of a device that `binding`'s user certified.
    #[must_use]
    pub fn new(binding: Binding, chain: Vec<DeviceCertificate>) -> Self {
        let statement = binding.statement;
        Self {
            version: statement.version,
            user: statement.user,
            identity_key: statement.identity_key,
            binding_key: statement.authentication_service.id(),
            binding_validity: statement.validity,
            binding_signature: binding.signature,
            chain,
        }
    }

    /// Reads the credential of a leaf. Nothing is verified.
    ///
    /// # Errors
    /// [`IdentityError::WrongKind`], [`IdentityError::Malformed`] or [`IdentityError::BadChain`]:
    /// whoever made the leaf is to blame.
    pub fn read(credential: &Credential) -> Result<Self, IdentityError> {
        let Credential::Custom {
            credential_type: CREDENTIAL_TYPE,
            data,
        } = credential
        else {
            return Err(IdentityError::WrongKind);
        };
        if data.len() > MAX_CREDENTIAL {
            return Err(DecodeError::InvalidValue("credential").into());
        }
        let credential = Self::from_bytes(data)?;
        if (1..=MAX_CHAIN).contains(&credential.chain.len()) {
            Ok(credential)
        } else {
            Err(IdentityError::BadChain)
        }
    }

    /// As a leaf holds it.
    #[must_use]
    pub fn to_credential(&self) -> Credential {
        Credential::Custom {
            credential_type: CREDENTIAL_TYPE,
            data: self.to_bytes().into(),
        }
    }

    /// The device: the key that the identity key certified. It stays when the leaf's own key or
    /// the certificates are renewed.
    #[must_use]
    pub fn device(&self) -> Option<PublicKey> {
        self.chain.first().map(|first| first.signature_key)
    }

    /// Whether both speak for the same user, with the same identity key.
    #[must_use]
    pub fn is_same_user(&self, other: &Self) -> bool {
        self.user == other.user && self.identity_key == other.identity_key
    }

    /// Whether both are the same device of the same user.
    #[must_use]
    pub fn is_same_device(&self, other: &Self) -> bool {
        self.is_same_user(other) && self.device() == other.device()
    }

    /// Checks everything: one of `accepted` (keys of AS's and the domains that they speak for)
    /// vouches for the user; the chain leads from the identity key to `signature_key`; all of it
    /// holds at `now`, or at no time in particular where `now` is `None`.
    ///
    /// # Errors
    /// [`IdentityError::BadBinding`], [`IdentityError::BadCertificate`],
    /// [`IdentityError::BadChain`], [`IdentityError::NotYetValid`], [`IdentityError::Expired`].
    pub fn verify<'a>(
        &self,
        signature_key: &[u8],
        accepted: impl IntoIterator<Item = (&'a Domain, &'a PublicKey)>,
        now: Option<u64>,
    ) -> Result<(), IdentityError> {
        self.verify_by(&mut AtOnce, signature_key, accepted, now)
    }

    /// As [`verify`](Self::verify); the signatures are as good as `verifier` says.
    pub(crate) fn verify_by<'a>(
        &self,
        verifier: &mut impl Verifier,
        signature_key: &[u8],
        accepted: impl IntoIterator<Item = (&'a Domain, &'a PublicKey)>,
        now: Option<u64>,
    ) -> Result<(), IdentityError> {
        if let Some(now) = now {
            self.binding_validity.check(now)?;
        }
        let mut services = accepted
            .into_iter()
            .filter(|(domain, key)| key.id() == self.binding_key && **domain == self.user.domain)
            .map(|(_, key)| *key);
        let vouched = match (services.next(), services.next()) {
            (None, _) => false,
            (Some(key), None) => self.binding(key).verify_by(verifier),
            // Several of one id are not by chance. Which of them signed is seen by trying.
            (Some(one), Some(two)) => [one, two]
                .into_iter()
                .chain(services)
                .any(|key| self.binding(key).verify().is_ok()),
        };
        if !vouched {
            return Err(IdentityError::BadBinding);
        }
        let mut issuer = self.identity_key;
        for certificate in &self.chain {
            certificate.verify_by(verifier, &self.user, &issuer, now)?;
            issuer = certificate.signature_key;
        }
        if !self.chain.is_empty() && issuer.0 == signature_key {
            Ok(())
        } else {
            Err(IdentityError::BadChain)
        }
    }

    /// The binding inside, as `authentication_service` would have signed it.
    #[must_use]
    pub fn binding(&self, authentication_service: PublicKey) -> Binding {
        Binding {
            statement: BindingStatement {
                version: self.version,
                user: self.user.clone(),
                identity_key: self.identity_key,
                validity: self.binding_validity,
                authentication_service,
            },
            signature: self.binding_signature,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts what it could verify later.
    struct Counting(usize);

    impl Verifier for Counting {
        fn verify(&mut self, _: &PublicKey, _: &str, _: &impl Encode, _: &[u8; 64]) -> bool {
            self.0 += 1;
            true
        }
    }

    #[test]
    fn all_signatures_can_wait_for_others_whatever_other_keys_the_domain_has() {
        let keys = [1, 2, 3].map(|seed| SigningKey::from_seed([seed; 32].into()).public());
        let domain: Domain = "example.org".parse().unwrap();
        let validity = Validity::starting(0, 1);
        let certificate = DeviceCertificate {
            version: Version,
            signature_key: keys[0],
            validity,
            signature: [0; 64],
        };
        let credential = |binding_key| DeviceCredential {
            version: Version,
            user: "alice@example.org".parse().unwrap(),
            identity_key: keys[0],
            binding_key,
            binding_validity: validity,
            binding_signature: [0; 64],
            chain: vec![certificate.clone()],
        };
        let accepted = [(&domain, &keys[1]), (&domain, &keys[2])];
        for signer in &keys[1..] {
            let mut counting = Counting(0);
            let judged =
                credential(signer.id()).verify_by(&mut counting, &keys[0].0, accepted, None);
            assert_eq!((judged, counting.0), (Ok(()), 2));
        }
        let mut counting = Counting(0);
        let judged = credential(keys[0].id()).verify_by(&mut counting, &keys[0].0, accepted, None);
        assert_eq!(judged, Err(IdentityError::BadBinding));
    }
}
