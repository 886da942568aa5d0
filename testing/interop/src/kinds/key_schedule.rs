//! `key-schedule`: all secrets of some epochs in a row.

use folkmoot_mls::code_point::ProtocolVersion;
use folkmoot_mls::codec::{Bytes, Encode};
use folkmoot_mls::crypto::{CipherSuite, Secret, Suite};
use folkmoot_mls::extension::Extensions;
use folkmoot_mls::group_context::GroupContext;
use folkmoot_mls::key_schedule::{
    EpochSecrets, exporter, external_key_pair, joiner_secret, member_secret, welcome_secret,
};
use serde::Deserialize;

use crate::check::{Failure, Hex, check};

/// One case.
#[derive(Debug, Deserialize)]
pub struct Case {
    /// The suite.
    pub cipher_suite: u16,
    group_id: Hex,
    initial_init_secret: Hex,
    epochs: Vec<Epoch>,
}

#[derive(Debug, Deserialize)]
struct Epoch {
    tree_hash: Hex,
    commit_secret: Hex,
    psk_secret: Hex,
    confirmed_transcript_hash: Hex,
    group_context: Hex,
    joiner_secret: Hex,
    welcome_secret: Hex,
    init_secret: Hex,
    sender_data_secret: Hex,
    encryption_secret: Hex,
    exporter_secret: Hex,
    epoch_authenticator: Hex,
    external_secret: Hex,
    confirmation_key: Hex,
    membership_key: Hex,
    resumption_psk: Hex,
    external_pub: Hex,
    exporter: Exporter,
}

#[derive(Debug, Deserialize)]
struct Exporter {
    label: String,
    context: Hex,
    length: usize,
    secret: Hex,
}

impl Case {
    /// Derives each epoch from the one before.
    ///
    /// # Errors
    /// [`Failure`], the engine's.
    pub fn verify(&self, suite: &dyn Suite) -> Result<(), Failure> {
        let mut init_secret = Secret::from(&*self.initial_init_secret);
        for (number, epoch) in (0..).zip(&self.epochs) {
            let context = GroupContext {
                version: ProtocolVersion::MLS10,
                cipher_suite: CipherSuite(self.cipher_suite),
                group_id: Bytes::from(&self.group_id),
                epoch: number,
                tree_hash: Bytes::from(&epoch.tree_hash),
                confirmed_transcript_hash: Bytes::from(&epoch.confirmed_transcript_hash),
                extensions: Extensions::default(),
            };
            init_secret = epoch.verify(suite, &init_secret, &context)?;
        }
        Ok(())
    }
}

impl Epoch {
    fn verify(
        &self,
        suite: &dyn Suite,
        init_secret: &Secret,
        context: &GroupContext,
    ) -> Result<Secret, Failure> {
        check(context.to_bytes() == *self.group_context, "group_context")?;
        let commit_secret = Secret::from(&*self.commit_secret);
        let joiner = joiner_secret(suite, init_secret, &commit_secret, context);
        check(*joiner == *self.joiner_secret, "joiner_secret")?;
        let member = member_secret(suite, &joiner, &Secret::from(&*self.psk_secret));
        let welcome = welcome_secret(suite, &member);
        check(*welcome == *self.welcome_secret, "welcome_secret")?;

        let epoch = EpochSecrets::derive(suite, &member, context);
        let secrets = [
            (
                &epoch.sender_data_secret,
                &self.sender_data_secret,
                "sender_data_secret",
            ),
            (
                &epoch.encryption_secret,
                &self.encryption_secret,
                "encryption_secret",
            ),
            (
                &epoch.exporter_secret,
                &self.exporter_secret,
                "exporter_secret",
            ),
            (
                &epoch.external_secret,
                &self.external_secret,
                "external_secret",
            ),
            (
                &epoch.confirmation_key,
                &self.confirmation_key,
                "confirmation_key",
            ),
            (
                &epoch.membership_key,
                &self.membership_key,
                "membership_key",
            ),
            (
                &epoch.resumption_psk,
                &self.resumption_psk,
                "resumption_psk",
            ),
            (
                &epoch.epoch_authenticator,
                &self.epoch_authenticator,
                "epoch_authenticator",
            ),
            (&epoch.init_secret, &self.init_secret, "init_secret"),
        ];
        for (computed, expected, name) in secrets {
            check(**computed == **expected, name)?;
        }

        let external = external_key_pair(suite, &epoch.external_secret);
        check(
            **external.public_key() == *self.external_pub,
            "external_pub",
        )?;
        let Exporter {
            label,
            context,
            length,
            secret,
        } = &self.exporter;
        let exported = exporter(suite, &epoch.exporter_secret, label, context, *length)?;
        check(*exported == **secret, "exporter.secret")?;
        Ok(epoch.init_secret)
    }
}
