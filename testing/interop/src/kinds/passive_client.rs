//! `passive-client-welcome`, `passive-client-handling-commit` and `passive-client-random`: a client
//! is added to a group and follows it through its epochs.

use folkmoot_mls::codec::Decode;
use folkmoot_mls::component::NoComponents;
use folkmoot_mls::context::{AuthenticationService, Context, CredentialError, OneThread, PskStore};
use folkmoot_mls::credential::Credential;
use folkmoot_mls::crypto::{CryptoProvider, Secret, Suite};
use folkmoot_mls::extension::Extensions;
use folkmoot_mls::group::{Group, Joined, Processed};
use folkmoot_mls::key_package::KeyPackageBundle;
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::psk::{PreSharedKeyID, PskType};
use rand_core::CryptoRng;
use serde::Deserialize;

use super::private_key;
use crate::check::{Failure, Hex, check};

/// One case.
#[derive(Debug, Deserialize)]
pub struct Case {
    /// The suite.
    pub cipher_suite: u16,
    external_psks: Vec<ExternalPsk>,
    key_package: Hex,
    signature_priv: Hex,
    encryption_priv: Hex,
    init_priv: Hex,
    welcome: Hex,
    ratchet_tree: Option<Hex>,
    initial_epoch_authenticator: Hex,
    epochs: Vec<Epoch>,
}

#[derive(Debug, Deserialize)]
struct ExternalPsk {
    psk_id: Hex,
    psk: Hex,
}

#[derive(Debug, Deserialize)]
struct Epoch {
    proposals: Vec<Hex>,
    commit: Hex,
    epoch_authenticator: Hex,
}

impl Case {
    /// Joins and follows.
    ///
    /// # Errors
    /// [`Failure`], the engine's.
    pub fn verify(
        &self,
        provider: &dyn CryptoProvider,
        suite: &dyn Suite,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), Failure> {
        let MlsMessage::KeyPackage(key_package) = MlsMessage::from_bytes(&self.key_package)? else {
            return Err(Failure::Mismatch("key_package"));
        };
        let MlsMessage::Welcome(welcome) = MlsMessage::from_bytes(&self.welcome)? else {
            return Err(Failure::Mismatch("welcome"));
        };
        let signer = suite.signature_public_key(&private_key(suite, &self.signature_priv))?;
        check(
            signer == key_package.leaf_node.signature_key,
            "signature_priv",
        )?;
        let bundle = KeyPackageBundle {
            key_package: *key_package,
            init_private_key: private_key(suite, &self.init_priv),
            encryption_private_key: private_key(suite, &self.encryption_priv),
        };
        let mut psks = Psks {
            external: &self.external_psks,
            resumption: Vec::new(),
        };
        let tree = self.ratchet_tree.as_deref();
        let Joined {
            mut group,
            mut keys,
            ..
        } = Group::join(&mut context(provider, &psks, rng), &welcome, &bundle, tree)?;
        let authenticator = &self.initial_epoch_authenticator;
        check(
            **group.epoch_authenticator() == **authenticator,
            "initial_epoch_authenticator",
        )?;
        for epoch in &self.epochs {
            psks.resumption
                .push((group.epoch(), group.resumption_psk().clone()));
            for proposal in &epoch.proposals {
                let proposal = MlsMessage::from_bytes(proposal)?;
                match group.process(&mut keys, &proposal, &mut context(provider, &psks, rng))? {
                    Processed::Proposal { group: next, .. } => group = next,
                    _ => return Err(Failure::Mismatch("proposals")),
                }
            }
            let commit = MlsMessage::from_bytes(&epoch.commit)?;
            match group.process(&mut keys, &commit, &mut context(provider, &psks, rng))? {
                Processed::Commit {
                    group: next,
                    keys: next_keys,
                    ..
                } => {
                    (group, keys) = (next, next_keys);
                }
                _ => return Err(Failure::Mismatch("commit")),
            }
            let authenticator = &epoch.epoch_authenticator;
            check(
                **group.epoch_authenticator() == **authenticator,
                "epoch_authenticator",
            )?;
        }
        Ok(())
    }
}

fn context<'a>(
    provider: &'a dyn CryptoProvider,
    psks: &'a Psks<'_>,
    rng: &'a mut dyn CryptoRng,
) -> Context<'a> {
    Context {
        provider,
        authentication_service: &Anybody,
        psks,
        components: &NoComponents,
        now: None,
        workers: &OneThread,
        rng,
    }
}

/// The vectors say nothing of who may be whom.
struct Anybody;

impl AuthenticationService for Anybody {
    fn validate(
        &self,
        _: &Credential,
        _: &[u8],
        _: &Extensions,
        _: Option<u64>,
    ) -> Result<(), CredentialError> {
        Ok(())
    }

    fn is_successor(&self, _: &Credential, _: &Credential) -> bool {
        true
    }
}

struct Psks<'a> {
    external: &'a [ExternalPsk],
    /// By the epoch of the group.
    resumption: Vec<(u64, Secret)>,
}

impl PskStore for Psks<'_> {
    fn psk(&self, id: &PreSharedKeyID) -> Option<Secret> {
        match &id.psktype {
            PskType::External(id) => self
                .external
                .iter()
                .find(|known| *known.psk_id == *id.psk_id)
                .map(|known| Secret::from(known.psk.0.clone())),
            PskType::Resumption(id) => self
                .resumption
                .iter()
                .find(|(epoch, _)| *epoch == id.psk_epoch)
                .map(|(_, psk)| psk.clone()),
            PskType::Application(_) => None,
        }
    }
}
