//! A client of two versions of the protocol, of which the second is made up.

use folkmoot_mls::capabilities::Capabilities;
use folkmoot_mls::code_point::ProtocolVersion;
use folkmoot_mls::codec::{Bytes, Decode, Encode};
use folkmoot_mls::component::NoComponents;
use folkmoot_mls::context::{BasicCredentials, Context, NoPsks, OneThread};
use folkmoot_mls::credential::{Credential, CredentialType};
use folkmoot_mls::crypto::{CipherSuite, CryptoProvider, PROVIDER, SignatureKeyPair, Suite};
use folkmoot_mls::error::Error;
use folkmoot_mls::extension::Extensions;
use folkmoot_mls::group::{Group, GroupParameters, PendingCommit, Processed};
use folkmoot_mls::key_package::{KEY_PACKAGE_TBS, KeyPackage, KeyPackageBundle};
use folkmoot_mls::leaf_node::{LeafParameters, Lifetime};
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::message_keys::MessageKeys;
use folkmoot_mls::negotiation::{Choice, Preference};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

pub const OLD: ProtocolVersion = ProtocolVersion::MLS10;
pub const NEW: ProtocolVersion = ProtocolVersion(0xf002);

pub const X25519: CipherSuite = CipherSuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_ED25519;
pub const P256: CipherSuite = CipherSuite::MLS_128_DHKEMP256_AES128GCM_SHA256_P256;
pub const CHACHA: CipherSuite = CipherSuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_ED25519;

/// What a client can do, the best first.
#[derive(Clone, Copy)]
pub struct Provider {
    pub versions: &'static [ProtocolVersion],
    pub suites: &'static [CipherSuite],
}

impl CryptoProvider for Provider {
    fn versions(&self) -> &'static [ProtocolVersion] {
        self.versions
    }

    fn suites(&self) -> &'static [CipherSuite] {
        self.suites
    }

    fn suite(&self, cipher_suite: CipherSuite) -> Option<&'static dyn Suite> {
        let known = self.suites.contains(&cipher_suite);
        known.then(|| suite(cipher_suite))
    }
}

/// A client of both versions, and one of the first.
pub const BOTH: Provider = Provider {
    versions: &[NEW, OLD],
    suites: &[P256, CHACHA, X25519],
};
pub const FIRST: Provider = Provider {
    versions: &[OLD],
    suites: &[P256, CHACHA, X25519],
};

pub fn suite(cipher_suite: CipherSuite) -> &'static dyn Suite {
    PROVIDER.suite(cipher_suite).unwrap()
}

pub struct Client {
    pub provider: Provider,
    pub name: &'static str,
    pub rng: ChaCha20Rng,
    pub signer: Option<SignatureKeyPair>,
    pub group: Option<(Group, MessageKeys)>,
}

/// Why a client does not read what came.
#[derive(Debug, PartialEq)]
pub enum Refused {
    /// The version in front is not the group's: the client's own check.
    Header(ProtocolVersion),
    Engine(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

impl Client {
    pub fn new(name: &'static str, provider: Provider) -> Self {
        let seed = name
            .bytes()
            .fold(7, |seed: u64, byte| seed * 31 + u64::from(byte));
        Self {
            provider,
            name,
            rng: ChaCha20Rng::seed_from_u64(seed),
            signer: None,
            group: None,
        }
    }

    pub fn context(&mut self) -> Context<'_> {
        Context {
            provider: &self.provider,
            authentication_service: &BasicCredentials,
            psks: &NoPsks,
            components: &NoComponents,
            now: None,
            workers: &OneThread,
            rng: &mut self.rng,
        }
    }

    pub fn preference(&self) -> Preference<'_> {
        Preference {
            versions: self.provider.versions,
            cipher_suites: self.provider.suites,
        }
    }

    pub fn leaf(&self) -> LeafParameters {
        LeafParameters {
            credential: Credential::basic(self.name.as_bytes()),
            capabilities: Capabilities {
                versions: self.provider.versions.to_vec(),
                cipher_suites: self.provider.suites.to_vec(),
                credentials: vec![CredentialType::BASIC],
                ..Capabilities::default()
            },
            extensions: Extensions::default(),
        }
    }

    pub fn signer(&mut self, cipher_suite: CipherSuite) -> SignatureKeyPair {
        let key = suite(cipher_suite).signature_key_pair(&mut self.rng);
        self.signer = Some(key.clone());
        key
    }

    /// An offer for one version and suite.
    pub fn offer(&mut self, choice: Choice) -> KeyPackageBundle {
        let signer = self.signer(choice.cipher_suite);
        let always = Lifetime {
            not_before: 0,
            not_after: u64::MAX,
        };
        let suite = suite(choice.cipher_suite);
        let (leaf, none) = (self.leaf(), Extensions::default());
        let mut bundle =
            KeyPackage::create(suite, &signer, leaf, always, none, &mut self.rng).unwrap();
        bundle.key_package.version = choice.version;
        bundle.key_package = signed(suite, &signer, bundle.key_package);
        bundle
    }

    pub fn create(&mut self, choice: Choice) -> Result<(), Error> {
        let signer = self.signer(choice.cipher_suite);
        let leaf = self.leaf();
        let parameters = GroupParameters {
            version: choice.version,
            cipher_suite: choice.cipher_suite,
            group_id: Bytes::from(*b"group"),
            extensions: Extensions::default(),
        };
        let created = Group::create(&mut self.context(), parameters, &signer, leaf)?;
        self.group = Some((created.group, created.keys));
        Ok(())
    }

    pub fn group(&self) -> &Group {
        &self.group.as_ref().unwrap().0
    }

    pub fn commit(&mut self, added: &[KeyPackage]) -> Result<PendingCommit, Error> {
        let (group, mut keys) = self.group.take().unwrap();
        let signer = self.signer.clone().unwrap();
        let commit = added
            .iter()
            .cloned()
            .fold(group.commit(), |c, kp| c.add(kp));
        let pending = commit.build(&mut keys, &signer, &mut self.context());
        self.group = Some((group, keys));
        pending
    }

    pub fn merge(&mut self, pending: PendingCommit) {
        self.group = Some((pending.group, pending.keys));
    }

    pub fn join(
        &mut self,
        pending: &PendingCommit,
        bundle: &KeyPackageBundle,
    ) -> Result<(), Error> {
        let welcome = pending.welcome.clone().unwrap();
        let joined = Group::join(&mut self.context(), &welcome, bundle, None)?;
        self.group = Some((joined.group, joined.keys));
        Ok(())
    }

    pub fn send(&mut self, data: &[u8]) -> Vec<u8> {
        let signer = self.signer.clone().unwrap();
        let (_, keys) = self.group.as_mut().unwrap();
        let (message, _) = keys.encrypt(&signer, b"", data, 0, &mut self.rng).unwrap();
        let version = self.group().group_context().version;
        framed(version, &MlsMessage::PrivateMessage(message))
    }

    /// Reads a message as it travels, and follows it if it is a commit.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>, Refused> {
        let version = self.group().group_context().version;
        let message = unframed(version, bytes)?;
        let (group, mut keys) = self.group.take().unwrap();
        let processed = group.process(&mut keys, &message, &mut self.context());
        self.group = Some((group, keys));
        match processed? {
            Processed::Application { data, .. } => Ok(Some(data.into_vec())),
            Processed::Commit { group, keys, .. } => {
                self.group = Some((group, keys));
                Ok(None)
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A message with its group's version in front.
pub fn framed(version: ProtocolVersion, message: &MlsMessage) -> Vec<u8> {
    let mut bytes = message.to_bytes();
    bytes[..2].copy_from_slice(&version.to_bytes());
    bytes
}

/// Section 6: a message is of its group's version.
pub fn unframed(version: ProtocolVersion, bytes: &[u8]) -> Result<MlsMessage, Refused> {
    let found = ProtocolVersion::from_bytes(&bytes[..2]).map_err(Error::from)?;
    if found != version {
        return Err(Refused::Header(found));
    }
    let bytes = [&OLD.to_bytes(), &bytes[2..]].concat();
    Ok(MlsMessage::from_bytes(&bytes).map_err(Error::from)?)
}

pub fn signed(suite: &dyn Suite, signer: &SignatureKeyPair, mut package: KeyPackage) -> KeyPackage {
    let tbs = package.tbs();
    package.signature = suite
        .sign_with_label(signer, KEY_PACKAGE_TBS, &tbs)
        .unwrap();
    package
}

pub fn choice(version: ProtocolVersion, cipher_suite: CipherSuite) -> Choice {
    Choice {
        version,
        cipher_suite,
    }
}
