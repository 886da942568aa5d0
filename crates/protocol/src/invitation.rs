//! What members seal for each other: invitations, and the parts of a Welcome at a pickup.
//!
//! An invitation is dropped before the commit that it announces, and holds nothing of the commit,
//! so a commit that has to be rebuilt uses it again.

use folkmoot_mls::codec::{Bytes, Decode, DecodeError, Encode};
use folkmoot_mls::crypto::{CryptoError, HpkeKeyPair};
use folkmoot_mls::tls_struct;
use folkmoot_mls::welcome::{EncryptedGroupSecrets, SharedWelcome, Welcome};
use rand_core::CryptoRng;
use zeroize::{Zeroize, Zeroizing};

use crate::VERSION;
use crate::ids::{LogId, PickupAddress};
use crate::keys::PublicKey;
use crate::sealed::{self, SealError};

tls_struct! {
    /// Tells a device where its Welcome will be, and how to open it. Sealed to the mailbox key.
    #[derive(Clone, PartialEq, Eq)]
    pub struct Invitation {
        /// [`crate::VERSION`].
        pub version: u16,
        /// The log to join.
        pub log: LogId,
        /// The DS that holds it: `https://host:port`, UTF-8.
        pub delivery_url: Bytes,
        /// That DS's signing key.
        pub delivery_key: PublicKey,
        /// How its TLS certificate is known: empty for the web's roots, else SHA-256 of the
        /// public key to pin.
        pub delivery_pin: Bytes,
        /// Where the Welcome will be picked up.
        pub address: PickupAddress,
        /// Opens the shared part.
        pub shared_key: [u8; 32],
        /// Opens this device's own part.
        pub own_key: [u8; 32],
        /// Who invites: `name@domain`, UTF-8. A claim until the Welcome's signer confirms it.
        pub inviter: Bytes,
    }
}

impl Invitation {
    /// Seals it to a mailbox key of this version.
    ///
    /// # Errors
    /// [`CryptoError::InvalidPublicKey`]: the mailbox's owner is to blame.
    pub fn seal(
        &self,
        key_version: u16,
        mailbox_key: &[u8; 32],
        rng: &mut dyn CryptoRng,
    ) -> Result<Vec<u8>, CryptoError> {
        let content = Zeroizing::new(self.to_bytes());
        sealed::seal_envelope(key_version, mailbox_key, &content, rng)
    }

    /// Opens an envelope with the mailbox's private key of this version.
    ///
    /// # Errors
    /// [`SealError`]: whoever dropped it is to blame.
    pub fn open(
        key_version: u16,
        mailbox_key: &HpkeKeyPair,
        envelope: &[u8],
    ) -> Result<Self, SealError> {
        let content = sealed::open_envelope(key_version, mailbox_key, envelope)?;
        let invitation = Self::from_bytes(&content)?;
        if invitation.version != VERSION {
            return Err(SealError::Version(invitation.version));
        }
        if std::str::from_utf8(&invitation.delivery_url).is_err() {
            return Err(DecodeError::InvalidValue("delivery_url").into());
        }
        if !matches!(invitation.delivery_pin.len(), 0 | 32) {
            return Err(DecodeError::InvalidValue("delivery_pin").into());
        }
        Ok(invitation)
    }
}

tls_struct! {
    /// The part of a Welcome that all joiners of a commit share.
    struct SharedPart {
        version: u16,
        welcome: SharedWelcome,
    }
}

tls_struct! {
    /// The part of a Welcome that is one joiner's own.
    struct OwnPart {
        version: u16,
        secrets: EncryptedGroupSecrets,
    }
}

/// A Welcome taken apart and sealed, as an append carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedWelcome {
    /// For all joiners.
    pub shared_part: Vec<u8>,
    /// One for each joiner, in the order of the Welcome.
    pub own_parts: Vec<Vec<u8>>,
}

impl SealedWelcome {
    /// Takes a Welcome apart. `own_keys` are the joiners' keys in the Welcome's order; if there are
    /// fewer of them, the joiners without one get no part.
    pub fn seal(
        welcome: Welcome,
        shared_key: &[u8; 32],
        own_keys: &[[u8; 32]],
        rng: &mut dyn CryptoRng,
    ) -> Self {
        let (welcome, secrets) = welcome.split();
        let shared = SharedPart {
            version: VERSION,
            welcome,
        };
        let shared_part = sealed::seal_shared_part(shared_key, &shared.to_bytes(), rng);
        let own_parts = secrets.into_iter().zip(own_keys).map(|(secrets, key)| {
            let own = OwnPart {
                version: VERSION,
                secrets,
            };
            sealed::seal_own_part(key, &own.to_bytes(), rng)
        });
        Self {
            own_parts: own_parts.collect(),
            shared_part,
        }
    }
}

impl Invitation {
    /// Puts the Welcome for this invitation's device together from what was picked up.
    ///
    /// # Errors
    /// [`SealError`]: the adder is to blame, or the service.
    pub fn open_welcome(&self, shared_part: &[u8], own_part: &[u8]) -> Result<Welcome, SealError> {
        let shared = sealed::open_shared_part(&self.shared_key, shared_part)?;
        let shared = SharedPart::from_bytes(&shared)?;
        let own = sealed::open_own_part(&self.own_key, own_part)?;
        let own = OwnPart::from_bytes(&own)?;
        if let Some(version) = [shared.version, own.version]
            .into_iter()
            .find(|v| *v != VERSION)
        {
            return Err(SealError::Version(version));
        }
        Ok(shared.welcome.with_part(own.secrets))
    }
}

/// The keys are wiped.
impl Drop for Invitation {
    fn drop(&mut self) {
        self.shared_key.zeroize();
        self.own_key.zeroize();
    }
}

impl std::fmt::Debug for Invitation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invitation")
            .field("log", &self.log)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use folkmoot_mls::commit::HpkeCiphertext;
    use folkmoot_mls::crypto::CipherSuite;

    use super::*;
    use crate::sealed::tests::Counting;

    fn invitation() -> Invitation {
        Invitation {
            version: VERSION,
            log: LogId([1; 32]),
            delivery_url: b"https://localhost:1".as_slice().into(),
            delivery_key: PublicKey([2; 32]),
            delivery_pin: Bytes::from([3; 32]),
            address: PickupAddress([4; 32]),
            shared_key: [5; 32],
            own_key: [6; 32],
            inviter: b"alice@localhost".as_slice().into(),
        }
    }

    #[test]
    fn an_invitation_opens_in_its_mailbox() {
        let mut rng = Counting(0);
        let key = sealed::mailbox_key_pair(&mut rng);
        let public = sealed::mailbox_public_key(key.public_key()).unwrap();
        let envelope = invitation().seal(1, &public, &mut rng).unwrap();
        assert!(envelope.len() <= crate::limits::ENVELOPE);
        assert_eq!(Invitation::open(1, &key, &envelope), Ok(invitation()));
        let mut odd = invitation();
        odd.delivery_pin = Bytes::from([1]);
        let envelope = odd.seal(1, &public, &mut rng).unwrap();
        let expected = DecodeError::InvalidValue("delivery_pin").into();
        assert_eq!(Invitation::open(1, &key, &envelope), Err(expected));
    }

    #[test]
    fn each_joiner_opens_its_own_part() {
        let mut rng = Counting(0);
        let secrets = |byte: u8| EncryptedGroupSecrets {
            new_member: Bytes::from([byte; 32]),
            encrypted_group_secrets: HpkeCiphertext {
                kem_output: Bytes::from([byte; 32]),
                ciphertext: Bytes::from([byte; 48]),
            },
        };
        let welcome = Welcome {
            cipher_suite: CipherSuite(1),
            secrets: vec![secrets(1), secrets(2)],
            encrypted_group_info: Bytes::from([7; 500]),
        };
        let sealed = SealedWelcome::seal(welcome.clone(), &[5; 32], &[[9; 32], [6; 32]], &mut rng);
        assert!(
            sealed
                .own_parts
                .iter()
                .all(|part| part.len() <= crate::limits::OWN_PART)
        );
        let opened = invitation()
            .open_welcome(&sealed.shared_part, &sealed.own_parts[1])
            .unwrap();
        assert_eq!(opened.secrets, [secrets(2)]);
        assert_eq!(opened.encrypted_group_info, welcome.encrypted_group_info);
        assert!(
            invitation()
                .open_welcome(&sealed.shared_part, &sealed.own_parts[0])
                .is_err()
        );
    }
}
