//! Groups to measure. The measurements are in `benches/`: `cargo bench -p folkmoot-benches`.

use folkmoot_mls::capabilities::Capabilities;
use folkmoot_mls::code_point::ProtocolVersion;
use folkmoot_mls::component::NoComponents;
use folkmoot_mls::context::{BasicCredentials, Context, NoPsks, OneThread};
use folkmoot_mls::credential::{Credential, CredentialType};
use folkmoot_mls::crypto::{CipherSuite, CryptoProvider, SignatureKeyPair, Suite, aws_lc};
use folkmoot_mls::error::Error;
use folkmoot_mls::extension::Extensions;
use folkmoot_mls::group::{Group, GroupParameters, PendingCommit, Processed};
use folkmoot_mls::key_package::{KeyPackage, KeyPackageBundle};
use folkmoot_mls::leaf_node::{LeafParameters, Lifetime};
use folkmoot_mls::message_keys::MessageKeys;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

/// The suite that is measured: what clients use.
pub const SUITE: CipherSuite = CipherSuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_ED25519;

/// A member of a group, in memory.
pub struct Member {
    signer: SignatureKeyPair,
    /// The group.
    pub group: Group,
    /// Its message keys.
    pub keys: MessageKeys,
    rng: ChaCha20Rng,
}

fn context(rng: &mut ChaCha20Rng) -> Context<'_> {
    Context {
        provider: &aws_lc::PROVIDER,
        authentication_service: &BasicCredentials,
        psks: &NoPsks,
        components: &NoComponents,
        now: None,
        workers: &OneThread,
        rng,
    }
}

fn suite() -> &'static dyn Suite {
    aws_lc::PROVIDER
        .suite(SUITE)
        .expect("the provider has suite 1")
}

fn leaf(name: &str) -> LeafParameters {
    LeafParameters {
        credential: Credential::basic(name.as_bytes()),
        capabilities: Capabilities {
            versions: vec![ProtocolVersion::MLS10],
            cipher_suites: vec![SUITE],
            extensions: Vec::new(),
            proposals: Vec::new(),
            credentials: vec![CredentialType::BASIC],
        },
        extensions: Extensions::default(),
    }
}

/// A KeyPackage of somebody who is in no group, and its private half.
///
/// # Errors
/// None that the engine's own tests do not find first.
pub fn key_package(index: u64) -> Result<(SignatureKeyPair, KeyPackageBundle), Error> {
    let mut rng = ChaCha20Rng::seed_from_u64(index);
    let signer = suite().signature_key_pair(&mut rng);
    let lifetime = Lifetime {
        not_before: 0,
        not_after: u64::MAX,
    };
    let parameters = leaf(&format!("member {index}"));
    let extensions = Extensions::default();
    let bundle = KeyPackage::create(suite(), &signer, parameters, lifetime, extensions, &mut rng)?;
    Ok((signer, bundle))
}

impl Member {
    /// Starts a group of one.
    ///
    /// # Errors
    /// As [`key_package`].
    pub fn founder() -> Result<Self, Error> {
        let mut rng = ChaCha20Rng::seed_from_u64(u64::MAX);
        let signer = suite().signature_key_pair(&mut rng);
        let extensions = Extensions::default();
        let parameters = GroupParameters {
            version: ProtocolVersion::MLS10,
            cipher_suite: SUITE,
            group_id: (*b"bench").into(),
            extensions,
        };
        let created = Group::create(&mut context(&mut rng), parameters, &signer, leaf("founder"))?;
        Ok(Self {
            signer,
            group: created.group,
            keys: created.keys,
            rng,
        })
    }

    /// A group of `members`, made by one commit, and its last member, who has joined.
    ///
    /// # Errors
    /// As [`key_package`].
    pub fn pair(members: u64) -> Result<(Self, Self), Error> {
        let mut founder = Self::founder()?;
        let mut packages = (1..members)
            .map(key_package)
            .collect::<Result<Vec<_>, _>>()?;
        let pending = founder.add(packages.iter().map(|(_, bundle)| &bundle.key_package))?;
        let (signer, bundle) = packages.pop().expect("a group of at least two");
        let welcome = pending.welcome.as_ref().expect("members were added");
        let mut rng = ChaCha20Rng::seed_from_u64(members);
        let joined = Group::join(&mut context(&mut rng), welcome, &bundle, None)?;
        founder.merge(pending);
        Ok((
            founder,
            Self {
                signer,
                group: joined.group,
                keys: joined.keys,
                rng,
            },
        ))
    }

    /// A commit that adds members.
    ///
    /// # Errors
    /// As [`key_package`].
    pub fn add<'a>(
        &mut self,
        packages: impl Iterator<Item = &'a KeyPackage>,
    ) -> Result<PendingCommit, Error> {
        let commit = packages.fold(self.group.commit(), |commit, package| {
            commit.add(package.clone())
        });
        commit.build(&mut self.keys, &self.signer, &mut context(&mut self.rng))
    }

    /// A commit that renews the member's keys.
    ///
    /// # Errors
    /// As [`key_package`].
    pub fn update(&mut self) -> Result<PendingCommit, Error> {
        self.group
            .commit()
            .build(&mut self.keys, &self.signer, &mut context(&mut self.rng))
    }

    /// Processes a commit or message of another.
    ///
    /// # Errors
    /// As [`key_package`].
    pub fn process(
        &mut self,
        message: &folkmoot_mls::message::MlsMessage,
    ) -> Result<Processed, Error> {
        self.group
            .process(&mut self.keys, message, &mut context(&mut self.rng))
    }

    /// Encrypts a message.
    ///
    /// # Errors
    /// As [`key_package`].
    pub fn encrypt(&mut self, data: &[u8]) -> Result<folkmoot_mls::framing::PrivateMessage, Error> {
        self.keys
            .encrypt(&self.signer, b"", data, 0, &mut self.rng)
            .map(|(message, _)| message)
    }

    /// Takes an own commit as ordered.
    pub fn merge(&mut self, pending: PendingCommit) {
        self.group = pending.group;
        self.keys = pending.keys;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use folkmoot_mls::message::MlsMessage;

    #[test]
    fn what_is_measured_works() {
        let (mut founder, mut last) = Member::pair(9).unwrap();
        let pending = founder.update().unwrap();
        let processed = last.process(&pending.message).unwrap();
        let Processed::Commit { group, keys, .. } = processed else {
            panic!("no commit")
        };
        founder.merge(pending);
        assert!(group.epoch_authenticator() == founder.group.epoch_authenticator());
        (last.group, last.keys) = (group, keys);
        let message = MlsMessage::PrivateMessage(founder.encrypt(b"hello").unwrap());
        let processed = last.process(&message).unwrap();
        assert!(matches!(processed, Processed::Application { data, .. } if *data == *b"hello"));
    }
}
