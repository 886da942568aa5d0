//! mls-rs as a member.
//!
//! It stands on two of its providers: AWS-LC has the post-quantum suite, OpenSSL has Curve448. A client
//! has one of them, so the suites are split by their hash: a ReInit never asks mls-rs to change that.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::mls_rs::client_builder::{ClientBuilder, MlsConfig, PaddingMode};
use ::mls_rs::crypto::SignatureSecretKey;
use ::mls_rs::extension::ExtensionType;
use ::mls_rs::external_client::ExternalClient;
use ::mls_rs::group::{
    CommitEffect, ExportedTree, GroupContext, ReceivedMessage, ReinitClient, Roster,
};
use ::mls_rs::identity::SigningIdentity;
use ::mls_rs::identity::basic::{BasicCredential, BasicIdentityProvider};
use ::mls_rs::mls_rs_codec::MlsEncode;
use ::mls_rs::mls_rules::{
    CommitDirection, CommitOptions, CommitSource, EncryptionOptions, ProposalBundle,
};
use ::mls_rs::psk::{ExternalPskId, PreSharedKey};
use ::mls_rs::storage_provider::in_memory::{
    InMemoryGroupStateStorage, InMemoryKeyPackageStorage, InMemoryPreSharedKeyStorage,
};
use ::mls_rs::time::MlsTime;
use ::mls_rs::{
    CipherSuite, CipherSuiteProvider, Client, CryptoProvider, Extension, ExtensionList, Group,
    MlsMessage, MlsRules,
};
use mls_rs_crypto_awslc::AwsLcCryptoProvider;
use mls_rs_crypto_openssl::OpensslCryptoProvider;

use super::member::{
    CUSTOM_EXTENSION, Change, Committed, Event, Member, NextGroup, Peer, PeerError, Plan,
    RawExtension, Settings, View,
};

const LIFETIME: Duration = Duration::from_secs(28 * 24 * 3600);
const PAST_EPOCHS: usize = 8;

/// Those with SHA-512: the two on Curve448, and what they may be reinitialised to.
const OPENSSL_SUITES: [CipherSuite; 3] = [
    CipherSuite::CURVE448_AES256,
    CipherSuite::P521_AES256,
    CipherSuite::CURVE448_CHACHA,
];

/// The suites of its providers.
pub fn suites() -> Vec<u16> {
    let mut suites = AwsLcCryptoProvider::new().supported_cipher_suites();
    suites.retain(|suite| !OPENSSL_SUITES.contains(suite));
    suites.extend(OPENSSL_SUITES);
    suites.into_iter().map(u16::from).collect()
}

/// A client on mls-rs.
///
/// # Errors
/// If it does not have the suite.
pub fn client(name: &str, settings: &Settings) -> Result<Box<dyn Member>, PeerError> {
    match OPENSSL_SUITES.contains(&CipherSuite::from(settings.suite)) {
        true => client_on(OpensslCryptoProvider::new(), name, settings),
        false => client_on(AwsLcCryptoProvider::new(), name, settings),
    }
}

fn client_on<P: CryptoProvider + Clone + 'static>(
    crypto: P,
    name: &str,
    settings: &Settings,
) -> Result<Box<dyn Member>, PeerError> {
    let suite = CipherSuite::from(settings.suite);
    let signing = signing_identity(&crypto, suite, name.as_bytes())?;
    let rules = Rules(Arc::new(Mutex::new(Options {
        encryption: EncryptionOptions::new(
            !settings.public_handshakes,
            match settings.padding {
                true => PaddingMode::StepFunction,
                false => PaddingMode::None,
            },
        ),
        commit: CommitOptions::new(),
    })));
    let psks = InMemoryPreSharedKeyStorage::default();
    let groups = InMemoryGroupStateStorage::new()
        .with_max_epoch_retention(PAST_EPOCHS)
        .map_err(at("make a store"))?;
    let build = {
        let (crypto, psks, rules) = (crypto.clone(), psks.clone(), rules.clone());
        let key_packages = InMemoryKeyPackageStorage::new();
        move |(secret, identity): Signing, suite| {
            ClientBuilder::new()
                .crypto_provider(crypto.clone())
                .identity_provider(BasicIdentityProvider::new())
                .psk_store(psks.clone())
                .key_package_repo(key_packages.clone())
                .group_state_storage(groups.clone())
                .mls_rules(rules.clone())
                .extension_type(ExtensionType::from(CUSTOM_EXTENSION))
                .key_package_lifetime(LIFETIME)
                .signing_identity(identity, secret, suite)
                .build()
        }
    };
    Ok(Box::new(MlsRs {
        name: name.as_bytes().to_vec(),
        crypto,
        suite,
        identity: signing.1.clone(),
        next: None,
        client: build(signing, suite),
        build: Box::new(build),
        rules,
        psks,
        group: None,
        reinit: None,
    }))
}

/// A signature key and whose it is.
type Signing = (SignatureSecretKey, SigningIdentity);

struct MlsRs<P, C: MlsConfig> {
    name: Vec<u8>,
    crypto: P,
    suite: CipherSuite,
    identity: SigningIdentity,
    /// What becomes the signature key with the next merge or group, and its suite.
    next: Option<(Signing, CipherSuite)>,
    client: Client<C>,
    /// A client with another key, on the same stores.
    build: Box<dyn Fn(Signing, CipherSuite) -> Client<C>>,
    rules: Rules,
    psks: InMemoryPreSharedKeyStorage,
    group: Option<Group<C>>,
    reinit: Option<ReinitClient<C>>,
}

/// What mls-rs asks about each commit and message, set from outside.
#[derive(Clone)]
struct Rules(Arc<Mutex<Options>>);

struct Options {
    encryption: EncryptionOptions,
    commit: CommitOptions,
}

impl Rules {
    fn set_commit(&self, commit: CommitOptions) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).commit = commit;
    }
}

impl MlsRules for Rules {
    type Error = Infallible;

    fn filter_proposals(
        &self,
        _: CommitDirection,
        _: CommitSource,
        _: &Roster<'_>,
        _: &GroupContext,
        proposals: ProposalBundle,
    ) -> Result<ProposalBundle, Infallible> {
        Ok(proposals)
    }

    fn commit_options(
        &self,
        _: &Roster<'_>,
        _: &GroupContext,
        _: &ProposalBundle,
    ) -> Result<CommitOptions, Infallible> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).commit)
    }

    fn encryption_options(
        &self,
        _: &Roster<'_>,
        _: &GroupContext,
    ) -> Result<EncryptionOptions, Infallible> {
        Ok(self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .encryption)
    }
}

fn at<E: std::fmt::Debug>(call: &'static str) -> impl FnOnce(E) -> PeerError {
    PeerError::at(Peer::MlsRs, call)
}

fn now() -> Option<MlsTime> {
    Some(MlsTime::now())
}

impl<P: CryptoProvider, C: MlsConfig> MlsRs<P, C> {
    fn group(&self) -> Result<&Group<C>, PeerError> {
        self.group.as_ref().ok_or(()).map_err(at("find its group"))
    }

    fn group_mut(&mut self) -> Result<&mut Group<C>, PeerError> {
        self.group.as_mut().ok_or(()).map_err(at("find its group"))
    }

    fn enter(&mut self, group: Group<C>) -> Result<(), PeerError> {
        let identity = group.current_member_signing_identity();
        self.identity = identity.map_err(at("find itself"))?.clone();
        self.suite = group.cipher_suite();
        self.take_next();
        self.group = Some(group);
        self.reinit = None;
        self.store()
    }

    fn take_next(&mut self) {
        if let Some((signing, suite)) = self.next.take() {
            self.identity = signing.1.clone();
            self.client = (self.build)(signing, suite);
        }
    }

    /// Epochs that are past are found in the store only.
    fn store(&mut self) -> Result<(), PeerError> {
        self.group_mut()?.write_to_storage().map_err(at("store"))
    }

    fn reinit_client(&mut self, next: &NextGroup) -> Result<ReinitClient<C>, PeerError> {
        if let Some(reinit) = self.reinit.take() {
            return Ok(reinit);
        }
        let group = self.group.take().ok_or(()).map_err(at("find its group"))?;
        let suite = CipherSuite::from(next.suite);
        let (secret, identity) = match suite == self.suite {
            true => (None, None),
            false => {
                let signing = signing_identity(&self.crypto, suite, &self.name)?;
                self.next = Some((signing.clone(), suite));
                (Some(signing.0), Some(signing.1))
            }
        };
        group
            .get_reinit_client(secret, identity)
            .map_err(at("leave a closed group"))
    }
}

impl<P: CryptoProvider, C: MlsConfig> Member for MlsRs<P, C> {
    fn peer(&self) -> Peer {
        Peer::MlsRs
    }

    fn create(&mut self, group_id: &[u8], list: &[RawExtension]) -> Result<(), PeerError> {
        let group = self
            .client
            .create_group_with_id(
                group_id.to_vec(),
                extensions(list),
                ExtensionList::new(),
                now(),
            )
            .map_err(at("create"))?;
        self.enter(group)
    }

    fn key_package(&mut self) -> Result<Vec<u8>, PeerError> {
        let (leaf, package) = (ExtensionList::new(), ExtensionList::new());
        self.client
            .generate_key_package_message(package, leaf, now())
            .map_err(at("make a KeyPackage"))?
            .to_bytes()
            .map_err(at("encode a KeyPackage"))
    }

    fn join(&mut self, welcome: &[u8], tree: Option<&[u8]>) -> Result<(), PeerError> {
        let tree = tree.map(ratchet_tree).transpose()?;
        let (group, _) = self
            .client
            .join_group(tree, &decode(welcome)?, now())
            .map_err(at("join"))?;
        self.enter(group)
    }

    fn join_external(
        &mut self,
        group_info: &[u8],
        tree: Option<&[u8]>,
        resync: Option<u32>,
        psk: Option<&[u8]>,
    ) -> Result<Vec<u8>, PeerError> {
        let mut builder = self
            .client
            .external_commit_builder()
            .map_err(at("begin an external commit"))?
            .commit_time(MlsTime::now());
        if let Some(tree) = tree {
            builder = builder.with_tree_data(ratchet_tree(tree)?);
        }
        if let Some(leaf) = resync {
            builder = builder.with_removal(leaf);
        }
        if let Some(psk) = psk {
            builder = builder.with_external_psk(ExternalPskId::new(psk.to_vec()));
        }
        self.rules.set_commit(CommitOptions::new());
        let (group, commit) = builder
            .build(decode(group_info)?)
            .map_err(at("commit externally"))?;
        self.enter(group)?;
        commit.to_bytes().map_err(at("encode a commit"))
    }

    fn propose_join(&mut self, group_info: &[u8], tree: &[u8]) -> Result<Vec<u8>, PeerError> {
        let none = ExtensionList::new;
        let (group_info, tree) = (decode(group_info)?, ratchet_tree(tree)?);
        self.client
            .external_add_proposal(&group_info, Some(tree), Vec::new(), none(), none(), now())
            .map_err(at("propose to join"))?
            .to_bytes()
            .map_err(at("encode a proposal"))
    }

    fn add_psk(&mut self, id: &[u8], secret: &[u8]) -> Result<(), PeerError> {
        let id = ExternalPskId::new(id.to_vec());
        self.psks.insert(id, PreSharedKey::new(secret.to_vec()));
        Ok(())
    }

    fn propose(&mut self, change: &Change) -> Result<Vec<u8>, PeerError> {
        let group = self.group_mut()?;
        let none = Vec::new();
        let message = match change {
            Change::Add(key_package) => group.propose_add(decode(key_package)?, none),
            Change::Remove(leaf) => group.propose_remove(*leaf, none),
            Change::Update => group.propose_update(none),
            Change::ExternalPsk(id) => {
                group.propose_external_psk(ExternalPskId::new(id.clone()), none)
            }
            Change::ResumptionPsk(epoch) => group.propose_resumption_psk(*epoch, none),
            Change::Extensions(list) => {
                group.propose_group_context_extensions(extensions(list), none)
            }
            Change::ReInit(next) => group.propose_reinit(
                Some(next.group_id.clone()),
                group.protocol_version(),
                CipherSuite::from(next.suite),
                extensions(&next.extensions),
                none,
            ),
            Change::SelfRemove => return Err(PeerError::missing(Peer::MlsRs, "SelfRemove")),
        }
        .map_err(at("propose"))?;
        self.store()?;
        message.to_bytes().map_err(at("encode a proposal"))
    }

    fn commit(&mut self, plan: &Plan) -> Result<Committed, PeerError> {
        self.rules.set_commit(
            CommitOptions::new()
                .with_path_required(!plan.without_path)
                .with_ratchet_tree_extension(!plan.tree_apart),
        );
        let next = match plan.new_signature_key {
            true => Some(signing_identity(&self.crypto, self.suite, &self.name)?),
            false => None,
        };
        self.next = next.clone().map(|signing| (signing, self.suite));
        let group = self.group_mut()?;
        let version = group.protocol_version();
        let mut builder = group
            .commit_builder()
            .commit_time(MlsTime::now())
            .authenticated_data(plan.authenticated_data.clone());
        for change in &plan.changes {
            builder = match change {
                Change::Add(key_package) => builder.add_member(decode(key_package)?),
                Change::Remove(leaf) => builder.remove_member(*leaf),
                Change::ExternalPsk(id) => builder.add_external_psk(ExternalPskId::new(id.clone())),
                Change::ResumptionPsk(epoch) => builder.add_resumption_psk(*epoch),
                Change::Extensions(list) => builder.set_group_context_ext(extensions(list)),
                Change::ReInit(next) => builder.reinit(
                    Some(next.group_id.clone()),
                    version,
                    CipherSuite::from(next.suite),
                    extensions(&next.extensions),
                ),
                Change::Update => return Err(PeerError::missing(Peer::MlsRs, "update by value")),
                Change::SelfRemove => return Err(PeerError::missing(Peer::MlsRs, "SelfRemove")),
            }
            .map_err(at("add a proposal"))?;
        }
        if let Some((secret, identity)) = next {
            builder = builder.set_new_signing_identity(secret, identity);
        }
        let output = builder.build().map_err(at("commit"))?;
        self.store()?;
        Ok(Committed {
            commit: output
                .commit_message()
                .to_bytes()
                .map_err(at("encode a commit"))?,
            welcome: output
                .welcome_messages()
                .first()
                .map(|welcome| welcome.to_bytes().map_err(at("encode a Welcome")))
                .transpose()?,
        })
    }

    fn merge(&mut self) -> Result<(), PeerError> {
        self.group_mut()?
            .apply_pending_commit()
            .map_err(at("merge"))?;
        self.take_next();
        self.store()
    }

    fn discard(&mut self) -> Result<(), PeerError> {
        self.next = None;
        self.group_mut()?.clear_pending_commit();
        Ok(())
    }

    fn process(&mut self, message: &[u8]) -> Result<Event, PeerError> {
        let message = decode(message)?;
        let received = self
            .group_mut()?
            .process_incoming_message_with_time(message, MlsTime::now())
            .map_err(at("process"))?;
        let event = match received {
            ReceivedMessage::ApplicationMessage(message) => Event::Application {
                sender: message.sender_index,
                data: message.data().to_vec(),
                authenticated_data: message.authenticated_data,
            },
            ReceivedMessage::Proposal(_) => Event::Proposal,
            ReceivedMessage::Commit(commit) => match commit.effect {
                CommitEffect::Removed { .. } => {
                    self.group = None;
                    return Ok(Event::Removed);
                }
                CommitEffect::NewEpoch(_) | CommitEffect::ReInit(_) => Event::Commit,
            },
            other => return Err(at("understand")(other)),
        };
        self.store()?;
        Ok(event)
    }

    fn encrypt(&mut self, data: &[u8], authenticated_data: &[u8]) -> Result<Vec<u8>, PeerError> {
        let message = self
            .group_mut()?
            .encrypt_application_message(data, authenticated_data.to_vec())
            .map_err(at("encrypt"))?;
        message.to_bytes().map_err(at("encode a message"))
    }

    fn group_info(&mut self, with_tree: bool) -> Result<Vec<u8>, PeerError> {
        self.group()?
            .group_info_message_allowing_ext_commit(with_tree)
            .map_err(at("make a GroupInfo"))?
            .to_bytes()
            .map_err(at("encode a GroupInfo"))
    }

    fn tree(&self) -> Result<Vec<u8>, PeerError> {
        let tree = self.group()?.export_tree();
        tree.to_bytes().map_err(at("encode a tree"))
    }

    fn view(&self) -> Result<View, PeerError> {
        let group = self.group()?;
        let members = group
            .roster()
            .members_iter()
            .map(|member| {
                let identity = member.signing_identity();
                let name = match identity.credential.as_basic() {
                    Some(basic) => basic.identifier().to_vec(),
                    None => Vec::new(),
                };
                (member.index(), name, identity.signature_key.to_vec())
            })
            .collect();
        let context = group.context().mls_encode_to_vec();
        let authenticator = group.epoch_authenticator().map_err(at("authenticate"))?;
        let exported = group.export_secret(b"interop", b"context", 42);
        View::new(
            context.map_err(at("encode a GroupContext"))?,
            members,
            authenticator.as_bytes().to_vec(),
            exported.map_err(at("export"))?.as_bytes().to_vec(),
        )
        .map_err(at("write a GroupContext that we can read"))
    }

    fn own_leaf(&self) -> u32 {
        let group = self.group.as_ref();
        group.map_or(u32::MAX, Group::current_member_index)
    }

    fn signature_key(&self) -> Vec<u8> {
        self.identity.signature_key.to_vec()
    }

    fn restart(&mut self) -> Result<(), PeerError> {
        self.store()?;
        let group_id = self.group()?.group_id().to_vec();
        let group = self.client.load_group(&group_id).map_err(at("load"))?;
        self.group = Some(group);
        Ok(())
    }

    fn safe_export(&mut self, _: u16) -> Result<Vec<u8>, PeerError> {
        Err(PeerError::missing(Peer::MlsRs, "export safely"))
    }

    fn successor_key_package(
        &mut self,
        next: &NextGroup,
        branch: bool,
    ) -> Result<Vec<u8>, PeerError> {
        if branch {
            return self.key_package();
        }
        let reinit = self.reinit_client(next)?;
        let key_package = reinit.generate_key_package(now());
        self.reinit = Some(reinit);
        key_package
            .map_err(at("make a KeyPackage for the next group"))?
            .to_bytes()
            .map_err(at("encode a KeyPackage"))
    }

    fn start_successor(
        &mut self,
        next: &NextGroup,
        branch: bool,
        key_packages: &[Vec<u8>],
    ) -> Result<Vec<u8>, PeerError> {
        let key_packages = key_packages
            .iter()
            .map(|key_package| decode(key_package))
            .collect::<Result<_, _>>()?;
        self.rules.set_commit(CommitOptions::new());
        let (group, welcomes) = if branch {
            self.group()?
                .branch(next.group_id.clone(), key_packages, now())
                .map_err(at("branch"))?
        } else {
            self.reinit_client(next)?
                .commit(key_packages, ExtensionList::new(), now())
                .map_err(at("start the next group"))?
        };
        self.enter(group)?;
        let welcome = welcomes.first().ok_or(()).map_err(at("make a Welcome"))?;
        welcome.to_bytes().map_err(at("encode a Welcome"))
    }

    fn join_successor(&mut self, branch: bool, welcome: &[u8]) -> Result<(), PeerError> {
        let welcome = decode(welcome)?;
        let (group, _) = if branch {
            self.group()?
                .join_subgroup(&welcome, None, now())
                .map_err(at("join a branch"))?
        } else {
            let reinit = self.reinit.take().ok_or(());
            reinit
                .map_err(at("remember the closed group"))?
                .join(&welcome, None, now())
                .map_err(at("join the next group"))?
        };
        self.enter(group)
    }
}

/// mls-rs outside of a group, as an external sender.
pub struct Outsider {
    suite: CipherSuite,
    secret: SignatureSecretKey,
    identity: SigningIdentity,
}

impl Outsider {
    /// One with a key for this suite.
    ///
    /// # Errors
    /// If it does not have the suite.
    pub fn new(name: &str, suite: u16) -> Result<Self, PeerError> {
        let (suite, name) = (CipherSuite::from(suite), name.as_bytes());
        let (secret, identity) = match OPENSSL_SUITES.contains(&suite) {
            true => signing_identity(&OpensslCryptoProvider::new(), suite, name)?,
            false => signing_identity(&AwsLcCryptoProvider::new(), suite, name)?,
        };
        Ok(Self {
            suite,
            secret,
            identity,
        })
    }

    /// Its public key.
    pub fn signature_key(&self) -> Vec<u8> {
        self.identity.signature_key.to_vec()
    }

    /// Proposes as an external sender.
    ///
    /// # Errors
    /// The peer's.
    pub fn propose(
        &self,
        group_info: &[u8],
        tree: &[u8],
        change: &Change,
    ) -> Result<Vec<u8>, PeerError> {
        match OPENSSL_SUITES.contains(&self.suite) {
            true => self.propose_on(OpensslCryptoProvider::new(), group_info, tree, change),
            false => self.propose_on(AwsLcCryptoProvider::new(), group_info, tree, change),
        }
    }

    fn propose_on<P: CryptoProvider + Clone>(
        &self,
        crypto: P,
        group_info: &[u8],
        tree: &[u8],
        change: &Change,
    ) -> Result<Vec<u8>, PeerError> {
        let client = ExternalClient::builder()
            .crypto_provider(crypto)
            .identity_provider(BasicIdentityProvider::new())
            .extension_type(ExtensionType::from(CUSTOM_EXTENSION))
            .signer(self.secret.clone(), self.identity.clone())
            .build();
        let (group_info, tree) = (decode(group_info)?, ratchet_tree(tree)?);
        let mut group = client
            .observe_group(group_info, Some(tree), now())
            .map_err(at("observe a group"))?;
        let none = Vec::new();
        match change {
            Change::Add(key_package) => group.propose_add(decode(key_package)?, none),
            Change::Remove(leaf) => group.propose_remove(*leaf, none),
            Change::Extensions(list) => {
                group.propose_group_context_extensions(extensions(list), none)
            }
            _ => return Err(PeerError::missing(Peer::MlsRs, "propose from outside")),
        }
        .map_err(at("propose from outside"))?
        .to_bytes()
        .map_err(at("encode a proposal"))
    }
}

fn signing_identity(
    crypto: &impl CryptoProvider,
    suite: CipherSuite,
    name: &[u8],
) -> Result<Signing, PeerError> {
    let provider = crypto.cipher_suite_provider(suite).ok_or(suite);
    let (secret, public) = provider
        .map_err(at("use a suite"))?
        .signature_key_generate()
        .map_err(at("make a signature key"))?;
    let credential = BasicCredential::new(name.to_vec()).into_credential();
    Ok((secret, SigningIdentity::new(credential, public)))
}

fn decode(message: &[u8]) -> Result<MlsMessage, PeerError> {
    MlsMessage::from_bytes(message).map_err(at("read a message"))
}

fn ratchet_tree(tree: &[u8]) -> Result<ExportedTree<'static>, PeerError> {
    ExportedTree::from_bytes(tree).map_err(at("read a tree"))
}

fn extensions(list: &[RawExtension]) -> ExtensionList {
    list.iter()
        .map(|(kind, data)| Extension::new(ExtensionType::from(*kind), data.clone()))
        .collect::<Vec<_>>()
        .into()
}
