//! From one epoch's secrets to the next one's (RFC 9420, section 8).
//!
//! ```text
//! init_secret, commit_secret --> joiner_secret --> member_secret --> welcome key
//!                                (psk_secret) -----^     |
//!                                                        +--> EpochSecrets
//! ```
//! The RFC gives no name to what both the welcome secret and the epoch secret are derived from; here
//! it is the member secret.

use rand_core::CryptoRng;

use crate::codec::{Bytes, Encode};
use crate::crypto::{CryptoError, HpkeKeyPair, HpkePublicKey, Secret, Suite};
use crate::group_context::GroupContext;

/// What an epoch's secrets start from, besides the PSKs: the secret that a Welcome carries.
/// `init_secret` is the last epoch's, `commit_secret` comes from the commit's path (all zeros without
/// one), `context` is the new epoch's.
#[must_use]
pub fn joiner_secret(
    suite: &dyn Suite,
    init_secret: &Secret,
    commit_secret: &Secret,
    context: &GroupContext,
) -> Secret {
    let extracted = suite.extract(init_secret, commit_secret);
    suite.expand_with_label(
        &extracted,
        "joiner",
        &context.to_bytes(),
        suite.hash_length(),
    )
}

/// Mixes the PSKs in. `psk_secret` comes from [`psk_secret`](crate::psk::psk_secret).
#[must_use]
pub fn member_secret(suite: &dyn Suite, joiner_secret: &Secret, psk_secret: &Secret) -> Secret {
    suite.extract(joiner_secret, psk_secret)
}

/// `welcome_secret`.
#[must_use]
pub fn welcome_secret(suite: &dyn Suite, member_secret: &Secret) -> Secret {
    suite.derive_secret(member_secret, "welcome")
}

/// What encrypts the GroupInfo in a Welcome (section 12.4.3.1).
#[derive(Clone, Debug, PartialEq)]
pub struct WelcomeKey {
    /// The AEAD's key.
    pub key: Secret,
    /// The AEAD's nonce.
    pub nonce: Secret,
}

impl WelcomeKey {
    /// Derives it from `welcome_secret`.
    #[must_use]
    pub fn derive(suite: &dyn Suite, member_secret: &Secret) -> Self {
        let secret = welcome_secret(suite, member_secret);
        let expand = |label, length| suite.expand_with_label(&secret, label, &[], length);
        Self {
            key: expand("key", suite.aead_key_length()),
            nonce: expand("nonce", suite.aead_nonce_length()),
        }
    }

    /// Encrypts an encoded GroupInfo. One key encrypts one GroupInfo.
    #[must_use]
    pub fn seal(&self, suite: &dyn Suite, group_info: &[u8]) -> Vec<u8> {
        suite.aead_seal(&self.key, &self.nonce, &[], group_info)
    }

    /// Decrypts a GroupInfo.
    ///
    /// # Errors
    /// [`CryptoError::DecryptionFailed`], the inviter's.
    pub fn open(&self, suite: &dyn Suite, ciphertext: &[u8]) -> Result<Secret, CryptoError> {
        suite.aead_open(&self.key, &self.nonce, &[], ciphertext)
    }
}

/// All secrets that an epoch starts with. Each goes to its user and is deleted there once used up;
/// the `epoch_secret` itself is gone when this is made.
#[derive(Clone, Debug, PartialEq)]
pub struct EpochSecrets {
    /// Encrypts who sends a PrivateMessage.
    pub sender_data_secret: Secret,
    /// The root of the secret tree.
    pub encryption_secret: Secret,
    /// See [`exporter`].
    pub exporter_secret: Secret,
    /// See [`external_key_pair`].
    pub external_secret: Secret,
    /// The key of the confirmation tag.
    pub confirmation_key: Secret,
    /// The key of membership tags.
    pub membership_key: Secret,
    /// The PSK that stands for membership in this epoch.
    pub resumption_psk: Secret,
    /// What members compare out of band.
    pub epoch_authenticator: Secret,
    /// The root of the exporter tree (draft-ietf-mls-extensions, section 4.4).
    pub application_export_secret: Secret,
    /// What the next epoch starts from.
    pub init_secret: Secret,
}

impl EpochSecrets {
    /// Derives them for the epoch of `context`.
    #[must_use]
    pub fn derive(suite: &dyn Suite, member_secret: &Secret, context: &GroupContext) -> Self {
        let context = context.to_bytes();
        let epoch_secret =
            suite.expand_with_label(member_secret, "epoch", &context, suite.hash_length());
        Self::from_epoch_secret(suite, &epoch_secret)
    }

    /// Derives them from the `epoch_secret`, which a group's creator draws at random (section 11).
    #[must_use]
    pub fn from_epoch_secret(suite: &dyn Suite, epoch_secret: &Secret) -> Self {
        let derive = |label| suite.derive_secret(epoch_secret, label);
        Self {
            sender_data_secret: derive("sender data"),
            encryption_secret: derive("encryption"),
            exporter_secret: derive("exporter"),
            external_secret: derive("external"),
            confirmation_key: derive("confirm"),
            membership_key: derive("membership"),
            resumption_psk: derive("resumption"),
            epoch_authenticator: derive("authentication"),
            application_export_secret: derive("application_export"),
            init_secret: derive("init"),
        }
    }
}

/// Label of the init secret of an external commit.
const EXTERNAL_INIT: &str = "MLS 1.0 external init secret";

/// The init secret of an external commit, and its encapsulation for the group's members (section 8.3).
/// The first is the `kem_output`.
///
/// # Errors
/// [`CryptoError::InvalidPublicKey`], to the blame of who published `external_pub`.
pub fn external_init(
    suite: &dyn Suite,
    external_pub: &HpkePublicKey,
    rng: &mut dyn CryptoRng,
) -> Result<(Bytes, Secret), CryptoError> {
    let (info, context) = (suite.hpke_info(&[]), EXTERNAL_INIT.as_bytes());
    suite.hpke_export_sender(external_pub, &info, context, suite.hash_length(), rng)
}

/// The init secret of an external commit from its `kem_output`, for members (section 8.3).
///
/// # Errors
/// [`CryptoError::InvalidPublicKey`] if `kem_output` is none, to the blame of the joiner.
pub fn external_init_secret(
    suite: &dyn Suite,
    external_secret: &Secret,
    kem_output: &[u8],
) -> Result<Secret, CryptoError> {
    let key_pair = external_key_pair(suite, external_secret);
    let (info, context) = (suite.hpke_info(&[]), EXTERNAL_INIT.as_bytes());
    suite.hpke_export_receiver(&key_pair, kem_output, &info, context, suite.hash_length())
}

/// The key pair for external commits (section 8).
#[must_use]
pub fn external_key_pair(suite: &dyn Suite, external_secret: &Secret) -> HpkeKeyPair {
    suite.kem_derive_key_pair(external_secret)
}

/// `MLS-Exporter` (section 8.5): `length` bytes for the application's purpose. The same arguments give
/// the same bytes all through the epoch; see
/// [`MessageKeys::safe_export`](crate::message_keys::MessageKeys::safe_export) for secrets that are
/// gone once exported.
///
/// # Errors
/// [`CryptoError::OutputTooLong`] above 255 times the hash length, the caller's.
pub fn exporter(
    suite: &dyn Suite,
    exporter_secret: &Secret,
    label: &str,
    context: &[u8],
    length: usize,
) -> Result<Secret, CryptoError> {
    if length > 255 * suite.hash_length() {
        return Err(CryptoError::OutputTooLong);
    }
    let secret = suite.derive_secret(exporter_secret, label);
    Ok(suite.expand_with_label(&secret, "exported", &suite.hash(context), length))
}
