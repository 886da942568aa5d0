//! Our own engine as a member.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use folkmoot_mls::capabilities::Capabilities;
use folkmoot_mls::code_point::{ProtocolVersion, WireFormat};
use folkmoot_mls::codec::{Bytes, Decode, Encode};
use folkmoot_mls::component::{ComponentID, NoComponents};
use folkmoot_mls::context::{BasicCredentials, Context, PskStore};
use folkmoot_mls::credential::{Credential, CredentialType};
use folkmoot_mls::crypto::{
    CipherSuite, CryptoProvider, Secret, SignatureKeyPair, Suite, aws_lc, rust_crypto,
};
use folkmoot_mls::extension::{ExtensionType, Extensions};
use folkmoot_mls::group::{
    Destination, Group, GroupInfoOptions, GroupParameters, PendingCommit, Processed,
    propose_as_external_sender, propose_join,
};
use folkmoot_mls::key_package::{KeyPackage, KeyPackageBundle};
use folkmoot_mls::leaf_node::{LeafParameters, Lifetime};
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::message_keys::MessageKeys;
use folkmoot_mls::proposal::{PreSharedKey, Proposal, ProposalType, ReInit};
use folkmoot_mls::psk::{ExternalPsk, PreSharedKeyID, PskType, ResumptionPSKUsage, ResumptionPsk};
use folkmoot_mls::records::{Changes, MemoryRecords};
use folkmoot_mls::tree_math::LeafIndex;
use rand_chacha::ChaCha20Rng;

use super::dice::Dice;
use super::member::{
    CUSTOM_EXTENSION, Change, Committed, Event, Member, NextGroup, Peer, PeerError, Plan,
    RawExtension, Settings, View, group_context, raw_extensions,
};

/// How many epochs' message keys are kept beside the current one's.
const PAST_EPOCHS: usize = 3;

type Provider = &'static dyn CryptoProvider;

/// The suites that our providers have.
pub fn suites() -> Vec<u16> {
    let both = [&aws_lc::PROVIDER as Provider, &rust_crypto::PROVIDER];
    let mut suites: Vec<u16> = both
        .iter()
        .flat_map(|provider| provider.suites().iter().map(|suite| suite.0))
        .collect();
    suites.sort_unstable();
    suites.dedup();
    suites
}

/// The provider of a client: either, if both have the suite.
fn provider(suite: u16, rng: &mut ChaCha20Rng) -> Provider {
    let suite = CipherSuite(suite);
    if rng.chance(2) && aws_lc::PROVIDER.suite(suite).is_some() {
        &aws_lc::PROVIDER
    } else {
        &rust_crypto::PROVIDER
    }
}

/// A client on our engine.
pub struct Ours {
    name: Vec<u8>,
    settings: Settings,
    provider: Provider,
    suite: &'static dyn Suite,
    rng: ChaCha20Rng,
    signer: SignatureKeyPair,
    next_signer: Option<SignatureKeyPair>,
    psks: Psks,
    bundle: Option<KeyPackageBundle>,
    joined: Option<Joined>,
    pending: Option<PendingCommit>,
}

struct Joined {
    group: Group,
    keys: MessageKeys,
    /// Oldest first.
    past: Vec<MessageKeys>,
    records: MemoryRecords,
}

#[derive(Default)]
struct Psks {
    external: BTreeMap<Bytes, Secret>,
    resumption: BTreeMap<(Bytes, u64), Secret>,
}

impl PskStore for Psks {
    fn psk(&self, id: &PreSharedKeyID) -> Option<Secret> {
        match &id.psktype {
            PskType::External(psk) => self.external.get(&psk.psk_id).cloned(),
            PskType::Resumption(psk) => {
                let id = (psk.psk_group_id.clone(), psk.psk_epoch);
                self.resumption.get(&id).cloned()
            }
            PskType::Application(_) => None,
        }
    }
}

fn at<E: std::fmt::Debug>(call: &'static str) -> impl FnOnce(E) -> PeerError {
    PeerError::at(Peer::Ours, call)
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// The arguments of a call, from fields that it does not otherwise use.
macro_rules! ctx {
    ($self:ident) => {
        Context {
            provider: $self.provider,
            authentication_service: &BasicCredentials,
            psks: &$self.psks,
            components: &NoComponents,
            now: Some(now()),
            rng: &mut $self.rng,
        }
    };
}

impl Ours {
    /// A client with this name.
    ///
    /// # Errors
    /// If we do not have the suite.
    pub fn new(name: &str, settings: &Settings, mut rng: ChaCha20Rng) -> Result<Self, PeerError> {
        let provider = provider(settings.suite, &mut rng);
        let suite = provider
            .suite(CipherSuite(settings.suite))
            .ok_or(settings.suite)
            .map_err(at("use a suite"))?;
        Ok(Self {
            name: name.as_bytes().to_vec(),
            settings: settings.clone(),
            provider,
            suite,
            signer: suite.signature_key_pair(&mut rng),
            rng,
            next_signer: None,
            psks: Psks::default(),
            bundle: None,
            joined: None,
            pending: None,
        })
    }

    /// Moves to a suite, with a new key if it is another one.
    fn renew(&mut self, suite: u16) -> Result<(), PeerError> {
        if self.settings.suite == suite {
            return Ok(());
        }
        self.provider = provider(suite, &mut self.rng);
        self.suite = self
            .provider
            .suite(CipherSuite(suite))
            .ok_or(suite)
            .map_err(at("use a suite"))?;
        self.settings.suite = suite;
        self.signer = self.suite.signature_key_pair(&mut self.rng);
        Ok(())
    }

    fn leaf(&self) -> LeafParameters {
        LeafParameters {
            credential: Credential::basic(&*self.name),
            capabilities: Capabilities {
                versions: vec![ProtocolVersion::MLS10],
                cipher_suites: self.provider.suites().to_vec(),
                extensions: vec![ExtensionType(CUSTOM_EXTENSION)],
                proposals: vec![ProposalType::SELF_REMOVE],
                credentials: vec![CredentialType::BASIC],
            },
            extensions: Extensions::default(),
        }
    }

    fn wire_format(&self) -> WireFormat {
        if self.settings.public_handshakes {
            WireFormat::PUBLIC_MESSAGE
        } else {
            WireFormat::PRIVATE_MESSAGE
        }
    }

    fn padding(&self) -> usize {
        if self.settings.padding { 33 } else { 0 }
    }

    fn joined(&self) -> Result<&Joined, PeerError> {
        self.joined
            .as_ref()
            .ok_or("not in a group")
            .map_err(at("find its group"))
    }

    fn enter(&mut self, group: Group, keys: MessageKeys, changes: &Changes) {
        let mut records = MemoryRecords::default();
        records.apply(changes);
        self.psks.resumption.clear();
        self.joined = Some(Joined {
            group,
            keys,
            past: Vec::new(),
            records,
        });
        self.pending = None;
        self.remember_resumption_psk();
    }

    fn advance(&mut self, group: Group, keys: MessageKeys, changes: &Changes) {
        if let Some(joined) = &mut self.joined {
            joined.records.apply(changes);
            joined.group = group;
            joined.past.push(std::mem::replace(&mut joined.keys, keys));
            if joined.past.len() > PAST_EPOCHS {
                joined.records.apply(&joined.past.remove(0).deletion());
            }
        }
        self.pending = None;
        self.remember_resumption_psk();
    }

    fn remember_resumption_psk(&mut self) {
        if let Some(Joined { group, .. }) = &self.joined {
            let id = (group.group_id().into(), group.epoch());
            let psk = group.resumption_psk().clone();
            self.psks.resumption.insert(id, psk);
        }
    }

    fn proposal(&mut self, change: &Change) -> Result<Proposal, PeerError> {
        Ok(match change {
            Change::Add(key_package) => match MlsMessage::from_bytes(key_package) {
                Ok(MlsMessage::KeyPackage(key_package)) => Proposal::add(*key_package),
                other => return Err(at("read a KeyPackage")(other)),
            },
            Change::Remove(leaf) => Proposal::remove(LeafIndex(*leaf)),
            Change::ExternalPsk(id) => self.psk_proposal(PskType::External(ExternalPsk {
                psk_id: id.as_slice().into(),
            })),
            Change::ResumptionPsk(epoch) => {
                let psk_group_id = self.joined()?.group.group_id().into();
                self.psk_proposal(PskType::Resumption(ResumptionPsk {
                    usage: ResumptionPSKUsage::Application,
                    psk_group_id,
                    psk_epoch: *epoch,
                }))
            }
            Change::Extensions(list) => Proposal::group_context_extensions(raw_extensions(list)),
            Change::Update => return Err(PeerError::missing(Peer::Ours, "update by value")),
            Change::ReInit(next) => Proposal::ReInit(ReInit {
                group_id: next.group_id.as_slice().into(),
                version: ProtocolVersion::MLS10,
                cipher_suite: CipherSuite(next.suite),
                extensions: raw_extensions(&next.extensions),
            }),
            Change::SelfRemove => Proposal::SelfRemove,
        })
    }

    fn psk_proposal(&mut self, psktype: PskType) -> Proposal {
        let psk = self.psk(psktype);
        Proposal::PreSharedKey(PreSharedKey { psk })
    }

    fn psk(&mut self, psktype: PskType) -> PreSharedKeyID {
        PreSharedKeyID {
            psktype,
            psk_nonce: self.rng.bytes(self.suite.hash_length()).into(),
        }
    }
}

impl Member for Ours {
    fn peer(&self) -> Peer {
        Peer::Ours
    }

    fn create(&mut self, group_id: &[u8], list: &[RawExtension]) -> Result<(), PeerError> {
        let parameters = GroupParameters {
            version: ProtocolVersion::MLS10,
            cipher_suite: self.suite.id(),
            group_id: group_id.into(),
            extensions: raw_extensions(list),
        };
        let leaf = self.leaf();
        let created =
            Group::create(&mut ctx!(self), parameters, &self.signer, leaf).map_err(at("create"))?;
        self.enter(created.group, created.keys, &created.changes);
        Ok(())
    }

    fn key_package(&mut self) -> Result<Vec<u8>, PeerError> {
        let lifetime = Lifetime {
            not_before: now() - 3600,
            not_after: now() + 28 * 24 * 3600,
        };
        let leaf = self.leaf();
        let extensions = Extensions::default();
        let (suite, rng) = (self.suite, &mut self.rng);
        let bundle = KeyPackage::create(suite, &self.signer, leaf, lifetime, extensions, rng)
            .map_err(at("make a KeyPackage"))?;
        let message = MlsMessage::KeyPackage(Box::new(bundle.key_package.clone()));
        self.bundle = Some(bundle);
        Ok(message.to_bytes())
    }

    fn join(&mut self, welcome: &[u8], tree: Option<&[u8]>) -> Result<(), PeerError> {
        let MlsMessage::Welcome(welcome) = decode(welcome)? else {
            return Err(at("find the Welcome")(()));
        };
        let bundle = self.bundle.take().ok_or(()).map_err(at("find its keys"))?;
        let joined = Group::join(&mut ctx!(self), &welcome, &bundle, tree).map_err(at("join"))?;
        self.enter(joined.group, joined.keys, &joined.changes);
        Ok(())
    }

    fn join_external(
        &mut self,
        group_info: &[u8],
        tree: Option<&[u8]>,
        resync: Option<u32>,
        psk: Option<&[u8]>,
    ) -> Result<Vec<u8>, PeerError> {
        let MlsMessage::GroupInfo(group_info) = decode(group_info)? else {
            return Err(at("find the GroupInfo")(()));
        };
        let mut builder = Group::join_external(*group_info, self.leaf());
        if let Some(tree) = tree {
            builder = builder.tree(tree);
        }
        if let Some(leaf) = resync {
            builder = builder.resync(LeafIndex(leaf));
        }
        if let Some(psk) = psk {
            builder = builder.psk(self.psk(PskType::External(ExternalPsk { psk_id: psk.into() })));
        }
        let pending = builder
            .build(&self.signer, &mut ctx!(self))
            .map_err(at("commit externally"))?;
        self.enter(pending.group, pending.keys, &pending.changes);
        Ok(pending.message.to_bytes())
    }

    fn propose_join(&mut self, group_info: &[u8], _tree: &[u8]) -> Result<Vec<u8>, PeerError> {
        let context = group_context(group_info).map_err(at("find a group"))?;
        let MlsMessage::KeyPackage(key_package) = decode(&self.key_package()?)? else {
            return Err(at("find its own KeyPackage")(()));
        };
        let (to, signer) = (Destination::from(&context), &self.signer);
        propose_join(&ctx!(self), &to, signer, *key_package, b"")
            .map(|message| message.to_bytes())
            .map_err(at("propose to join"))
    }

    fn add_psk(&mut self, id: &[u8], secret: &[u8]) -> Result<(), PeerError> {
        self.psks
            .external
            .insert(id.into(), Secret::from(secret.to_vec()));
        Ok(())
    }

    fn propose(&mut self, change: &Change) -> Result<Vec<u8>, PeerError> {
        let wire_format = self.wire_format();
        let proposal = match change {
            Change::Update => None,
            change => Some(self.proposal(change)?),
        };
        let joined = self
            .joined
            .as_mut()
            .ok_or(())
            .map_err(at("find its group"))?;
        let (group, keys) = (&joined.group, &mut joined.keys);
        let (signer, ctx) = (&self.signer, &mut ctx!(self));
        let proposed = match proposal {
            None => group.propose_update(keys, signer, None, b"", wire_format, ctx),
            Some(proposal) => group.propose(keys, signer, proposal, b"", wire_format, ctx),
        }
        .map_err(at("propose"))?;
        joined.records.apply(&proposed.changes);
        joined.group = proposed.group;
        Ok(proposed.message.to_bytes())
    }

    fn commit(&mut self, plan: &Plan) -> Result<Committed, PeerError> {
        let (wire_format, padding) = (self.wire_format(), self.padding());
        let mut proposals = Vec::new();
        for change in &plan.changes {
            proposals.push(self.proposal(change)?);
        }
        self.next_signer = plan
            .new_signature_key
            .then(|| self.suite.signature_key_pair(&mut self.rng));
        let joined = self
            .joined
            .as_mut()
            .ok_or(())
            .map_err(at("find its group"))?;
        let mut builder = joined
            .group
            .commit()
            .wire_format(wire_format)
            .padding(padding)
            .authenticated_data(plan.authenticated_data.as_slice())
            .tree_in_welcome(!plan.tree_apart);
        for proposal in proposals {
            builder = builder.proposal(proposal);
        }
        if plan.without_path {
            builder = builder.without_path();
        }
        if let Some(next_signer) = &self.next_signer {
            builder = builder.signature_key(next_signer.clone());
        }
        let pending = builder
            .build(&mut joined.keys, &self.signer, &mut ctx!(self))
            .map_err(at("commit"))?;
        joined.records.apply(&pending.sent);
        let committed = Committed {
            commit: pending.message.to_bytes(),
            welcome: pending
                .welcome
                .clone()
                .map(|welcome| MlsMessage::Welcome(welcome).to_bytes()),
        };
        self.pending = Some(pending);
        Ok(committed)
    }

    fn merge(&mut self) -> Result<(), PeerError> {
        let pending = self
            .pending
            .take()
            .ok_or(())
            .map_err(at("find its commit"))?;
        if let Some(joined) = &mut self.joined {
            joined.records.apply(&joined.group.proposals_deletion());
        }
        if let Some(next_signer) = self.next_signer.take() {
            self.signer = next_signer;
        }
        self.advance(pending.group, pending.keys, &pending.changes);
        Ok(())
    }

    fn discard(&mut self) -> Result<(), PeerError> {
        self.pending = None;
        self.next_signer = None;
        Ok(())
    }

    fn process(&mut self, message: &[u8]) -> Result<Event, PeerError> {
        let message: MlsMessage = decode(message)?;
        let joined = self
            .joined
            .as_mut()
            .ok_or(())
            .map_err(at("find its group"))?;
        // Application messages of past epochs.
        if let MlsMessage::PrivateMessage(private) = &message
            && private.epoch != joined.group.epoch()
            && let Some(keys) = joined.past.iter_mut().find(|k| k.epoch() == private.epoch)
        {
            let (decrypted, changes) = keys.decrypt(private).map_err(at("decrypt"))?;
            joined.records.apply(&changes);
            return Ok(Event::Application {
                sender: decrypted.sender.0,
                data: decrypted.data.to_vec(),
                authenticated_data: decrypted.authenticated_data.to_vec(),
            });
        }
        let processed = joined
            .group
            .process(&mut joined.keys, &message, &mut ctx!(self))
            .map_err(at("process"))?;
        match processed {
            Processed::Application {
                sender,
                authenticated_data,
                data,
                changes,
            } => {
                joined.records.apply(&changes);
                Ok(Event::Application {
                    sender: sender.0,
                    data: data.to_vec(),
                    authenticated_data: authenticated_data.to_vec(),
                })
            }
            Processed::Proposal { group, changes, .. } => {
                joined.records.apply(&changes);
                joined.group = group;
                Ok(Event::Proposal)
            }
            Processed::Commit {
                group,
                keys,
                changes,
                ..
            } => {
                self.advance(group, keys, &changes);
                Ok(Event::Commit)
            }
            Processed::Removed { .. } => {
                self.joined = None;
                Ok(Event::Removed)
            }
            other => Err(at("understand")(other)),
        }
    }

    fn encrypt(&mut self, data: &[u8], authenticated_data: &[u8]) -> Result<Vec<u8>, PeerError> {
        let padding = self.padding();
        let joined = self
            .joined
            .as_mut()
            .ok_or(())
            .map_err(at("find its group"))?;
        let (message, changes) = joined
            .keys
            .encrypt(
                &self.signer,
                authenticated_data,
                data,
                padding,
                &mut self.rng,
            )
            .map_err(at("encrypt"))?;
        joined.records.apply(&changes);
        Ok(MlsMessage::PrivateMessage(message).to_bytes())
    }

    fn group_info(&mut self, with_tree: bool) -> Result<Vec<u8>, PeerError> {
        let group_info = self
            .joined()?
            .group
            .group_info(
                &self.signer,
                GroupInfoOptions {
                    ratchet_tree: with_tree,
                    external_pub: true,
                    ..GroupInfoOptions::default()
                },
            )
            .map_err(at("make a GroupInfo"))?;
        Ok(MlsMessage::GroupInfo(Box::new(group_info)).to_bytes())
    }

    fn tree(&self) -> Result<Vec<u8>, PeerError> {
        Ok(self.joined()?.group.tree_bytes())
    }

    fn view(&self) -> Result<View, PeerError> {
        let group = &self.joined()?.group;
        let members = group
            .members()
            .map(|(leaf, node)| {
                let identity = match node.credential {
                    Credential::Basic { identity } => identity.to_vec(),
                    other => other.to_bytes(),
                };
                (leaf.0, identity, node.signature_key.to_vec())
            })
            .collect();
        let exported = group
            .exporter("interop", b"context", 42)
            .map_err(at("export"))?;
        let context = group.group_context().to_bytes();
        let authenticator = group.epoch_authenticator().to_vec();
        View::new(context, members, authenticator, exported.to_vec())
            .map_err(at("read its own GroupContext"))
    }

    fn own_leaf(&self) -> u32 {
        self.joined
            .as_ref()
            .map_or(u32::MAX, |j| j.group.own_index().0)
    }

    fn signature_key(&self) -> Vec<u8> {
        self.signer.public_key.to_vec()
    }

    fn restart(&mut self) -> Result<(), PeerError> {
        let joined = self
            .joined
            .as_mut()
            .ok_or(())
            .map_err(at("find its group"))?;
        let provider = self.provider;
        let group = Group::load(provider, &joined.records).map_err(at("load"))?;
        joined.keys = group
            .load_keys(provider, group.epoch(), &joined.records)
            .map_err(at("load keys"))?;
        for past in &mut joined.past {
            *past = group
                .load_keys(provider, past.epoch(), &joined.records)
                .map_err(at("load keys of a past epoch"))?;
        }
        joined.group = group;
        Ok(())
    }

    fn safe_export(&mut self, component: u16) -> Result<Vec<u8>, PeerError> {
        let joined = self
            .joined
            .as_mut()
            .ok_or(())
            .map_err(at("find its group"))?;
        let (secret, changes) = joined
            .keys
            .safe_export(ComponentID(component))
            .map_err(at("export safely"))?;
        joined.records.apply(&changes);
        Ok(secret.to_vec())
    }

    fn successor_key_package(
        &mut self,
        next: &NextGroup,
        branch: bool,
    ) -> Result<Vec<u8>, PeerError> {
        if !branch {
            self.renew(next.suite)?;
        }
        self.key_package()
    }

    fn start_successor(
        &mut self,
        next: &NextGroup,
        branch: bool,
        key_packages: &[Vec<u8>],
    ) -> Result<Vec<u8>, PeerError> {
        let predecessor = self.joined()?.group.clone();
        let mut builder = if branch {
            predecessor
                .branch(next.group_id.as_slice())
                .extensions(raw_extensions(&next.extensions))
        } else {
            self.renew(next.suite)?;
            predecessor
                .successor()
                .map_err(at("leave a closed group"))?
        };
        for key_package in key_packages {
            builder = match decode(key_package)? {
                MlsMessage::KeyPackage(key_package) => builder.add(*key_package),
                other => return Err(at("find the KeyPackage")(other)),
            };
        }
        let leaf = self.leaf();
        let successor = builder
            .wire_format(self.wire_format())
            .build(&self.signer, leaf, &mut ctx!(self))
            .map_err(at("start the next group"))?;
        self.enter(
            successor.created.group,
            successor.created.keys,
            &successor.created.changes,
        );
        let pending = successor.pending;
        let welcome = pending.welcome.ok_or(()).map_err(at("make a Welcome"))?;
        self.advance(pending.group, pending.keys, &pending.changes);
        Ok(MlsMessage::Welcome(welcome).to_bytes())
    }

    fn join_successor(&mut self, _branch: bool, welcome: &[u8]) -> Result<(), PeerError> {
        let MlsMessage::Welcome(welcome) = decode(welcome)? else {
            return Err(at("find the Welcome")(()));
        };
        let predecessor = self.joined()?.group.clone();
        let bundle = self.bundle.take().ok_or(()).map_err(at("find its keys"))?;
        let ctx = &mut ctx!(self);
        let joined = Group::join_successor(ctx, &welcome, &bundle, None, &predecessor)
            .map_err(at("join the next group"))?;
        self.enter(joined.group, joined.keys, &joined.changes);
        Ok(())
    }
}

fn decode(message: &[u8]) -> Result<MlsMessage, PeerError> {
    MlsMessage::from_bytes(message).map_err(at("read a message"))
}

/// We, outside of a group, as an external sender.
pub struct Outsider {
    provider: Provider,
    rng: ChaCha20Rng,
    psks: Psks,
    signer: SignatureKeyPair,
}

impl Outsider {
    /// One with a key for this suite.
    ///
    /// # Errors
    /// If we do not have the suite.
    pub fn new(suite: u16, mut rng: ChaCha20Rng) -> Result<Self, PeerError> {
        let provider = provider(suite, &mut rng);
        let suite = provider.suite(CipherSuite(suite)).ok_or(suite);
        let signer = suite
            .map_err(at("use a suite"))?
            .signature_key_pair(&mut rng);
        let psks = Psks::default();
        Ok(Self {
            provider,
            rng,
            psks,
            signer,
        })
    }

    /// Our public key.
    pub fn signature_key(&self) -> Vec<u8> {
        self.signer.public_key.to_vec()
    }

    /// Proposes as the external sender at `index`.
    ///
    /// # Errors
    /// Ours.
    pub fn propose(
        &mut self,
        group_info: &[u8],
        index: u32,
        change: &Change,
    ) -> Result<Vec<u8>, PeerError> {
        let context = group_context(group_info).map_err(at("find a group"))?;
        let proposal = match change {
            Change::Add(key_package) => match decode(key_package)? {
                MlsMessage::KeyPackage(key_package) => Proposal::add(*key_package),
                other => return Err(at("find the KeyPackage")(other)),
            },
            Change::Remove(leaf) => Proposal::remove(LeafIndex(*leaf)),
            Change::Extensions(list) => Proposal::group_context_extensions(raw_extensions(list)),
            _ => return Err(PeerError::missing(Peer::Ours, "propose from outside")),
        };
        let (to, signer) = (Destination::from(&context), &self.signer);
        propose_as_external_sender(&ctx!(self), &to, index, signer, proposal, b"")
            .map(|message| message.to_bytes())
            .map_err(at("propose from outside"))
    }
}
