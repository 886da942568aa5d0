//! The AS's statement that a name belongs to an identity key.

use folkmoot_mls::tls_struct;

use crate::keys::{AtOnce, PublicKey, SigningKey, Verifier};
use crate::{IdentityError, UserId, Validity, Version};

/// How long a binding holds when made: 90 days.
pub const BINDING_SECONDS: u64 = 90 * 24 * 3600;

const LABEL: &str = "binding";

tls_struct! {
    /// What an AS states: `user` has `identity_key`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct BindingStatement {
        /// 1.
        pub version: Version,
        /// The user.
        pub user: UserId,
        /// The user's key, which certifies its devices.
        pub identity_key: PublicKey,
        /// When this holds.
        pub validity: Validity,
        /// The key of the AS that states it.
        pub authentication_service: PublicKey,
    }
}

tls_struct! {
    /// A signed [`BindingStatement`].
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Binding {
        /// What is stated.
        pub statement: BindingStatement,
        /// By [`BindingStatement::authentication_service`].
        pub signature: [u8; 64],
    }
}

impl Binding {
    /// Makes the statement: the AS's part.
    #[must_use]
    pub fn issue(
        user: UserId,
        identity_key: PublicKey,
        validity: Validity,
        authentication_service: &SigningKey,
    ) -> Self {
        let statement = BindingStatement {
            version: Version,
            user,
            identity_key,
            validity,
            authentication_service: authentication_service.public(),
        };
        let signature = authentication_service.sign(LABEL, &statement);
        Self {
            statement,
            signature,
        }
    }

    /// Checks the signature. The caller has its own reason to believe in
    /// [`BindingStatement::authentication_service`].
    ///
    /// # Errors
    /// [`IdentityError::BadBinding`]: the AS is to blame.
    pub fn verify(&self) -> Result<(), IdentityError> {
        if self.verify_by(&mut AtOnce) {
            Ok(())
        } else {
            Err(IdentityError::BadBinding)
        }
    }

    /// Whether the signature is good, as far as `verifier` says.
    pub(crate) fn verify_by(&self, verifier: &mut impl Verifier) -> bool {
        let statement = &self.statement;
        let key = &statement.authentication_service;
        verifier.verify(key, LABEL, statement, &self.signature)
    }

    /// Checks an AS's answer about `user`: made by `authentication_service`, valid at `now`.
    ///
    /// # Errors
    /// [`IdentityError::WrongUser`], [`IdentityError::BadBinding`], [`IdentityError::NotYetValid`]
    /// or [`IdentityError::Expired`]: the AS is to blame.
    pub fn verify_for(
        &self,
        user: &UserId,
        authentication_service: &PublicKey,
        now: u64,
    ) -> Result<(), IdentityError> {
        if self.statement.user != *user {
            return Err(IdentityError::WrongUser);
        }
        if self.statement.authentication_service != *authentication_service {
            return Err(IdentityError::BadBinding);
        }
        self.verify()?;
        self.statement.validity.check(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed([seed; 32].into())
    }

    #[test]
    fn an_answer_is_checked_for_user_service_time_and_signature() {
        let user: UserId = "alice@example.org".parse().unwrap();
        let other: UserId = "bob@example.org".parse().unwrap();
        let validity = Validity::starting(NOW, BINDING_SECONDS);
        let binding = Binding::issue(user.clone(), key(1).public(), validity, &key(2));
        let service = key(2).public();
        assert_eq!(binding.verify_for(&user, &service, NOW), Ok(()));
        assert_eq!(
            binding.verify_for(&other, &service, NOW),
            Err(IdentityError::WrongUser)
        );
        assert_eq!(
            binding.verify_for(&user, &key(3).public(), NOW),
            Err(IdentityError::BadBinding)
        );
        assert_eq!(
            binding.verify_for(&user, &service, NOW + BINDING_SECONDS + 1),
            Err(IdentityError::Expired)
        );
        assert_eq!(
            binding.verify_for(&user, &service, NOW - BINDING_SECONDS),
            Err(IdentityError::NotYetValid)
        );
        let mut longer = binding.clone();
        longer.statement.validity.not_after += 1;
        assert_eq!(
            longer.verify_for(&user, &service, NOW),
            Err(IdentityError::BadBinding)
        );
    }
}
