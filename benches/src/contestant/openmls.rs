//! OpenMLS on either of its crypto providers.

use ::openmls::prelude::tls_codec::Deserialize;
use ::openmls::prelude::*;
use openmls_basic_credential::SignatureKeyPair;
use openmls_traits::OpenMlsProvider;

use super::openmls_storage::Storage;
use crate::member::{Failure, Member, Options};

const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;
const LIFETIME: u64 = 28 * 24 * 3600;

/// OpenMLS's providers, of which only cryptography and randomness are taken.
pub trait Crypto: Default {
    /// The name in failures.
    const NAME: &'static str;

    /// Cryptography and randomness.
    type Provider: OpenMlsCrypto + openmls_traits::random::OpenMlsRand;

    /// The part of the provider that does both.
    fn provider(&self) -> &Self::Provider;
}

/// On libcrux.
pub struct Libcrux(openmls_libcrux_crypto::CryptoProvider);

impl Default for Libcrux {
    fn default() -> Self {
        Self(openmls_libcrux_crypto::CryptoProvider::new().expect("libcrux has randomness"))
    }
}

impl Crypto for Libcrux {
    const NAME: &'static str = "OpenMLS (libcrux)";
    type Provider = openmls_libcrux_crypto::CryptoProvider;

    fn provider(&self) -> &Self::Provider {
        &self.0
    }
}

/// On RustCrypto.
#[derive(Default)]
pub struct RustCrypto(openmls_rust_crypto::RustCrypto);

impl Crypto for RustCrypto {
    const NAME: &'static str = "OpenMLS (RustCrypto)";
    type Provider = openmls_rust_crypto::RustCrypto;

    fn provider(&self) -> &Self::Provider {
        &self.0
    }
}

struct Provider<C> {
    crypto: C,
    storage: Storage,
}

impl<C: Crypto> OpenMlsProvider for Provider<C> {
    type CryptoProvider = C::Provider;
    type RandProvider = C::Provider;
    type StorageProvider = Storage;

    fn storage(&self) -> &Storage {
        &self.storage
    }

    fn crypto(&self) -> &C::Provider {
        self.crypto.provider()
    }

    fn rand(&self) -> &C::Provider {
        self.crypto.provider()
    }
}

/// A client on OpenMLS.
pub struct OpenMls<C: Crypto> {
    name: Vec<u8>,
    options: Options,
    provider: Provider<C>,
    signer: SignatureKeyPair,
    group: Option<MlsGroup>,
}

fn at<C: Crypto, E: std::fmt::Debug>(call: &'static str) -> impl Fn(E) -> Failure + Copy {
    Failure::at(C::NAME, call)
}

fn decode<C: Crypto>(message: &[u8]) -> Result<MlsMessageIn, Failure> {
    MlsMessageIn::tls_deserialize_exact(message).map_err(at::<C, _>("read a message"))
}

/// Explicit, since the default ones list what RFC 9420, section 7.2, says not to.
fn capabilities() -> Capabilities {
    Capabilities::new(
        Some(&[ProtocolVersion::Mls10]),
        Some(&[SUITE]),
        Some(&[]),
        Some(&[]),
        Some(&[CredentialType::Basic]),
    )
}

fn join_config() -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder()
        .wire_format_policy(PURE_CIPHERTEXT_WIRE_FORMAT_POLICY)
        .padding_size(0)
        .use_ratchet_tree_extension(true)
        .build()
}

/// What a group's calls need at once.
macro_rules! parts {
    ($self:ident) => {
        (
            $self
                .group
                .as_mut()
                .ok_or(())
                .map_err(at::<C, _>("find its group"))?,
            &$self.provider,
            &$self.signer,
        )
    };
}

impl<C: Crypto> OpenMls<C> {
    fn credential(&self) -> CredentialWithKey {
        CredentialWithKey {
            credential: BasicCredential::new(self.name.clone()).into(),
            signature_key: self.signer.public().into(),
        }
    }
}

impl<C: Crypto> Member for OpenMls<C> {
    fn new(name: &str, options: &Options) -> Result<Self, Failure> {
        let storage = Storage::open(options.store.as_deref(), options.compact);
        let signer = SignatureKeyPair::new(SUITE.signature_algorithm());
        Ok(Self {
            name: name.as_bytes().to_vec(),
            options: options.clone(),
            provider: Provider {
                crypto: C::default(),
                storage: storage.map_err(at::<C, _>("open a store"))?,
            },
            signer: signer.map_err(at::<C, _>("make a signature key"))?,
            group: None,
        })
    }

    fn key_package(&mut self) -> Result<Vec<u8>, Failure> {
        let bundle = KeyPackage::builder()
            .key_package_lifetime(Lifetime::new(LIFETIME))
            .leaf_node_capabilities(capabilities())
            .build(SUITE, &self.provider, &self.signer, self.credential())
            .map_err(at::<C, _>("make a KeyPackage"))?;
        MlsMessageOut::from(bundle.key_package().clone())
            .to_bytes()
            .map_err(at::<C, _>("encode a KeyPackage"))
    }

    fn found(&mut self) -> Result<(), Failure> {
        let group = MlsGroup::builder()
            .with_wire_format_policy(PURE_CIPHERTEXT_WIRE_FORMAT_POLICY)
            .padding_size(0)
            .use_ratchet_tree_extension(!self.options.tree_apart)
            .lifetime(Lifetime::new(LIFETIME))
            .ciphersuite(SUITE)
            .with_capabilities(capabilities())
            .build(&self.provider, &self.signer, self.credential())
            .map_err(at::<C, _>("start a group"))?;
        self.group = Some(group);
        Ok(())
    }

    fn add(&mut self, key_packages: &[Vec<u8>]) -> Result<Vec<u8>, Failure> {
        let tree_apart = self.options.tree_apart;
        let (group, provider, signer) = parts!(self);
        let mut accepted = Vec::with_capacity(key_packages.len());
        for key_package in key_packages {
            let MlsMessageBodyIn::KeyPackage(key_package) = decode::<C>(key_package)?.extract()
            else {
                return Err(at::<C, _>("find the KeyPackage")(()));
            };
            let key_package = key_package.validate(provider.crypto(), ProtocolVersion::Mls10);
            accepted.push(key_package.map_err(at::<C, _>("accept a KeyPackage"))?);
        }
        let operation = || {
            let (commit, welcome, _) = group
                .commit_builder()
                .force_self_update(false)
                .propose_adds(accepted)
                .load_psks(provider.storage())
                .map_err(at::<C, _>("load PSKs"))?
                .create_group_info(true)
                .use_ratchet_tree_extension(!tree_apart)
                .build(provider.rand(), provider.crypto(), signer, |_| true)
                .map_err(at::<C, _>("commit"))?
                .stage_commit(provider)
                .map_err(at::<C, _>("stage a commit"))?
                .into_messages();
            let commit = commit.to_bytes().map_err(at::<C, _>("encode a commit"))?;
            std::hint::black_box(commit);
            let welcome = welcome.ok_or(()).map_err(at::<C, _>("make a Welcome"))?;
            let welcome = welcome.to_bytes().map_err(at::<C, _>("encode a Welcome"))?;
            group
                .merge_pending_commit(provider)
                .map_err(at::<C, _>("merge"))?;
            Ok(welcome)
        };
        let storage = &provider.storage;
        storage.transaction(operation, at::<C, _>("store"))
    }

    fn join(&mut self, welcome: &[u8], tree: Option<&[u8]>) -> Result<(), Failure> {
        // A client joins again.
        self.group = None;
        let MlsMessageBodyIn::Welcome(welcome) = decode::<C>(welcome)?.extract() else {
            return Err(at::<C, _>("find the Welcome")(()));
        };
        let tree = tree.map(RatchetTreeIn::tls_deserialize_exact).transpose();
        let tree = tree.map_err(at::<C, _>("read a tree"))?;
        let provider = &self.provider;
        let operation = || {
            ProcessedWelcome::new_from_welcome(provider, &join_config(), welcome)
                .map_err(at::<C, _>("open a Welcome"))?
                .into_staged_welcome(provider, tree)
                .map_err(at::<C, _>("stage a Welcome"))?
                .into_group(provider)
                .map_err(at::<C, _>("join"))
        };
        let storage = &provider.storage;
        self.group = Some(storage.transaction(operation, at::<C, _>("store"))?);
        Ok(())
    }

    fn commit(&mut self) -> Result<Vec<u8>, Failure> {
        let (group, provider, signer) = parts!(self);
        let operation = || {
            let (commit, _, _) = group
                .commit_builder()
                .force_self_update(true)
                .load_psks(provider.storage())
                .map_err(at::<C, _>("load PSKs"))?
                .build(provider.rand(), provider.crypto(), signer, |_| true)
                .map_err(at::<C, _>("commit"))?
                .stage_commit(provider)
                .map_err(at::<C, _>("stage a commit"))?
                .into_messages();
            commit.to_bytes().map_err(at::<C, _>("encode a commit"))
        };
        let storage = &provider.storage;
        storage.transaction(operation, at::<C, _>("store"))
    }

    fn merge(&mut self) -> Result<(), Failure> {
        let (group, provider, _) = parts!(self);
        let operation = || {
            group
                .merge_pending_commit(provider)
                .map_err(at::<C, _>("merge"))
        };
        let storage = &provider.storage;
        storage.transaction(operation, at::<C, _>("store"))
    }

    fn discard(&mut self) -> Result<(), Failure> {
        let (group, provider, _) = parts!(self);
        group
            .clear_pending_commit(provider.storage())
            .map_err(at::<C, _>("discard"))
    }

    fn process(&mut self, commit: &[u8]) -> Result<(), Failure> {
        let (group, provider, _) = parts!(self);
        let message = decode::<C>(commit)?
            .try_into_protocol_message()
            .map_err(at::<C, _>("find a message to the group"))?;
        let operation = || {
            let processed = group
                .process_message(provider, message)
                .map_err(at::<C, _>("process"))?;
            let ProcessedMessageContent::StagedCommitMessage(staged) = processed.into_content()
            else {
                return Err(at::<C, _>("find the commit")(()));
            };
            group
                .merge_staged_commit(provider, *staged)
                .map_err(at::<C, _>("merge"))
        };
        let storage = &provider.storage;
        storage.transaction(operation, at::<C, _>("store"))
    }

    fn encrypt(&mut self, data: &[u8]) -> Result<Vec<u8>, Failure> {
        let (group, provider, signer) = parts!(self);
        let operation = || {
            group
                .create_message(provider, signer, data)
                .map_err(at::<C, _>("encrypt"))?
                .to_bytes()
                .map_err(at::<C, _>("encode a message"))
        };
        let storage = &provider.storage;
        storage.transaction(operation, at::<C, _>("store"))
    }

    fn decrypt(&mut self, message: &[u8]) -> Result<Vec<u8>, Failure> {
        let (group, provider, _) = parts!(self);
        let message = decode::<C>(message)?
            .try_into_protocol_message()
            .map_err(at::<C, _>("find a message to the group"))?;
        let operation = || {
            let processed = group
                .process_message(provider, message)
                .map_err(at::<C, _>("decrypt"))?;
            match processed.into_content() {
                ProcessedMessageContent::ApplicationMessage(message) => Ok(message.into_bytes()),
                _ => Err(at::<C, _>("find the application data")(())),
            }
        };
        let storage = &provider.storage;
        storage.transaction(operation, at::<C, _>("store"))
    }

    fn reopen(&mut self) -> Result<(), Failure> {
        let group = self
            .group
            .take()
            .ok_or(())
            .map_err(at::<C, _>("find its group"))?;
        let group_id = group.group_id().clone();
        drop(group);
        let path = self.options.store.as_deref();
        self.provider.storage =
            Storage::open(path, self.options.compact).map_err(at::<C, _>("open a store"))?;
        let group = MlsGroup::load(&self.provider.storage, &group_id);
        let group = group.map_err(at::<C, _>("load a group"))?.ok_or(());
        self.group = Some(group.map_err(at::<C, _>("find its group"))?);
        Ok(())
    }

    fn written(&mut self) -> u64 {
        self.provider.storage.written()
    }

    fn authenticator(&self) -> Result<Vec<u8>, Failure> {
        let group = self
            .group
            .as_ref()
            .ok_or(())
            .map_err(at::<C, _>("find its group"))?;
        Ok(group.epoch_authenticator().as_slice().to_vec())
    }
}
