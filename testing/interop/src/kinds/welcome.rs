//! `welcome`: opening a Welcome, without the tree of the group.

use folkmoot_mls::codec::{Bytes, Decode};
use folkmoot_mls::crypto::{HpkeKeyPair, Secret, Suite};
use folkmoot_mls::group_info::GroupInfo;
use folkmoot_mls::key_schedule::{EpochSecrets, WelcomeKey, member_secret};
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::transcript::verify_confirmation_tag;
use folkmoot_mls::welcome::{GroupSecrets, WELCOME};
use serde::Deserialize;

use super::private_key;
use crate::check::{Failure, Hex, check};

/// One case.
#[derive(Debug, Deserialize)]
pub struct Case {
    /// The suite.
    pub cipher_suite: u16,
    init_priv: Hex,
    signer_pub: Hex,
    key_package: Hex,
    welcome: Hex,
}

impl Case {
    /// Opens both parts of the Welcome; verifies the GroupInfo's signature and confirmation tag.
    ///
    /// # Errors
    /// [`Failure`], the engine's.
    pub fn verify(&self, suite: &dyn Suite) -> Result<(), Failure> {
        let MlsMessage::KeyPackage(key_package) = MlsMessage::from_bytes(&self.key_package)? else {
            return Err(Failure::Mismatch("key_package"));
        };
        let MlsMessage::Welcome(welcome) = MlsMessage::from_bytes(&self.welcome)? else {
            return Err(Failure::Mismatch("welcome"));
        };
        let private_key = private_key(suite, &self.init_priv);
        let public_key = suite.kem_public_key(&private_key)?;
        check(public_key == key_package.init_key, "init_priv")?;
        let reference = Bytes::from(key_package.reference(suite));
        let ours = welcome
            .secrets
            .iter()
            .find(|part| part.new_member == reference);
        let ours = ours.ok_or(Failure::Mismatch("new_member"))?;
        let secrets = suite.decrypt_with_label(
            &HpkeKeyPair::new(private_key, public_key),
            WELCOME,
            &welcome.encrypted_group_info,
            &ours.encrypted_group_secrets,
        )?;
        let secrets = GroupSecrets::from_bytes(&secrets)?;
        let no_psk = Secret::zero(suite.hash_length());
        let member_secret = member_secret(suite, &secrets.joiner_secret, &no_psk);
        let key = WelcomeKey::derive(suite, &member_secret);
        let info = GroupInfo::from_bytes(&key.open(suite, &welcome.encrypted_group_info)?)?;
        info.verify_signature(suite, &self.signer_pub)?;
        let context = &info.group_context;
        let secrets = EpochSecrets::derive(suite, &member_secret, context);
        let confirmed = &context.confirmed_transcript_hash;
        let key = &secrets.confirmation_key;
        Ok(verify_confirmation_tag(
            suite,
            key,
            confirmed,
            &info.confirmation_tag,
        )?)
    }
}
