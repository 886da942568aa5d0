//! OpenMLS as a member.

use ::openmls::prelude::tls_codec::{Deserialize, Serialize};
use ::openmls::prelude::*;
use ::openmls::schedule::{ExternalPsk, PreSharedKeyId, Psk, psk::ResumptionPskUsage};
use folkmoot_mls::codec::Encode;
use openmls_basic_credential::SignatureKeyPair;
use openmls_libcrux_crypto::Provider as Libcrux;
use openmls_rust_crypto::OpenMlsRustCrypto;
use openmls_traits::OpenMlsProvider;
use openmls_traits::types::Ciphersuite;

use super::member::{
    CUSTOM_EXTENSION, Change, Committed, Event, Member, NextGroup, Peer, PeerError, Plan,
    RawExtension, Settings, View, group_context, raw_extensions,
};

const LIFETIME: u64 = 28 * 24 * 3600;
const PAST_EPOCHS: usize = 3;
const RESUMPTION_PSKS: usize = 8;

/// The suites of either provider.
pub fn suites() -> Vec<u16> {
    let mut suites = suites_of(&OpenMlsRustCrypto::default());
    suites.extend(suites_of(&Libcrux::default()));
    suites.sort_unstable();
    suites.dedup();
    suites
}

fn suites_of(provider: &impl OpenMlsProvider) -> Vec<u16> {
    let suites = provider.crypto().supported_ciphersuites();
    suites.into_iter().map(|suite| suite as u16).collect()
}

/// A client on OpenMLS. Where both of its providers have the suite, `prefer_libcrux` decides.
///
/// # Errors
/// If it does not have the suite.
pub fn client(
    name: &str,
    settings: &Settings,
    prefer_libcrux: bool,
) -> Result<Box<dyn Member>, PeerError> {
    let (libcrux, rust_crypto) = (Libcrux::default(), OpenMlsRustCrypto::default());
    let in_libcrux = suites_of(&libcrux).contains(&settings.suite);
    let in_rust_crypto = suites_of(&rust_crypto).contains(&settings.suite);
    if in_libcrux && (prefer_libcrux || !in_rust_crypto) {
        Ok(Box::new(OpenMls::new(name, settings, libcrux)?))
    } else {
        Ok(Box::new(OpenMls::new(name, settings, rust_crypto)?))
    }
}

struct OpenMls<P> {
    name: Vec<u8>,
    settings: Settings,
    suite: Ciphersuite,
    provider: P,
    signer: SignatureKeyPair,
    next_signer: Option<SignatureKeyPair>,
    group: Option<MlsGroup>,
}

fn at<E: std::fmt::Debug>(call: &'static str) -> impl FnOnce(E) -> PeerError {
    PeerError::at(Peer::OpenMls, call)
}

impl<P: OpenMlsProvider> OpenMls<P> {
    fn new(name: &str, settings: &Settings, provider: P) -> Result<Self, PeerError> {
        let suite = Ciphersuite::try_from(settings.suite).map_err(at("use a suite"))?;
        Ok(Self {
            name: name.as_bytes().to_vec(),
            settings: settings.clone(),
            suite,
            provider,
            signer: signature_key(suite)?,
            next_signer: None,
            group: None,
        })
    }

    fn credential(&self, signer: &SignatureKeyPair) -> CredentialWithKey {
        CredentialWithKey {
            credential: BasicCredential::new(self.name.clone()).into(),
            signature_key: signer.public().into(),
        }
    }

    /// Explicit, since the default ones list what RFC 9420, section 7.2, says not to.
    fn capabilities(&self) -> Capabilities {
        Capabilities::new(
            Some(&[ProtocolVersion::Mls10]),
            Some(&self.provider.crypto().supported_ciphersuites()),
            Some(&[ExtensionType::Unknown(CUSTOM_EXTENSION)]),
            Some(&[ProposalType::SelfRemove]),
            Some(&[CredentialType::Basic]),
        )
    }

    fn leaf(&self) -> LeafNodeParameters {
        LeafNodeParameters::builder()
            .with_capabilities(self.capabilities())
            .build()
    }

    fn wire_format_policy(&self) -> WireFormatPolicy {
        if self.settings.public_handshakes {
            MIXED_PLAINTEXT_WIRE_FORMAT_POLICY
        } else {
            MIXED_CIPHERTEXT_WIRE_FORMAT_POLICY
        }
    }

    fn padding(&self) -> usize {
        if self.settings.padding { 33 } else { 0 }
    }

    fn join_config(&self) -> MlsGroupJoinConfig {
        MlsGroupJoinConfig::builder()
            .wire_format_policy(self.wire_format_policy())
            .padding_size(self.padding())
            .max_past_epochs(PAST_EPOCHS)
            .number_of_resumption_psks(RESUMPTION_PSKS)
            .use_ratchet_tree_extension(true)
            .build()
    }

    fn group(&self) -> Result<&MlsGroup, PeerError> {
        self.group.as_ref().ok_or(()).map_err(at("find its group"))
    }

    fn new_key_package(&mut self) -> Result<KeyPackage, PeerError> {
        let bundle = KeyPackage::builder()
            .key_package_lifetime(Lifetime::new(LIFETIME))
            .leaf_node_capabilities(self.capabilities())
            .build(
                self.suite,
                &self.provider,
                &self.signer,
                self.credential(&self.signer),
            )
            .map_err(at("make a KeyPackage"))?;
        Ok(bundle.key_package().clone())
    }

    fn psk(&self, psk: Psk) -> Result<PreSharedKeyId, PeerError> {
        PreSharedKeyId::new(self.suite, self.provider.rand(), psk).map_err(at("name a PSK"))
    }

    fn psk_of(&self, change: &Change) -> Result<Option<PreSharedKeyId>, PeerError> {
        Ok(match change {
            Change::ExternalPsk(id) => Some(self.psk(Psk::External(ExternalPsk::new(id.clone())))?),
            Change::ResumptionPsk(epoch) => {
                // Its nonce cannot be left to `new`, whose argument has private fields.
                let nonce = self.provider.rand().random_vec(self.suite.hash_length());
                Some(PreSharedKeyId::resumption(
                    ResumptionPskUsage::Application,
                    self.group()?.group_id().clone(),
                    (*epoch).into(),
                    nonce.map_err(at("make a nonce"))?,
                ))
            }
            _ => None,
        })
    }
}

/// What one group's calls all need at once.
macro_rules! parts {
    ($self:ident) => {
        (
            $self
                .group
                .as_mut()
                .ok_or(())
                .map_err(at("find its group"))?,
            &$self.provider,
            &$self.signer,
        )
    };
}

impl<P: OpenMlsProvider> Member for OpenMls<P> {
    fn peer(&self) -> Peer {
        Peer::OpenMls
    }

    fn create(&mut self, group_id: &[u8], list: &[RawExtension]) -> Result<(), PeerError> {
        let group = MlsGroup::builder()
            .with_group_id(GroupId::from_slice(group_id))
            .with_wire_format_policy(self.wire_format_policy())
            .padding_size(self.padding())
            .max_past_epochs(PAST_EPOCHS)
            .number_of_resumption_psks(RESUMPTION_PSKS)
            .use_ratchet_tree_extension(true)
            .lifetime(Lifetime::new(LIFETIME))
            .ciphersuite(self.suite)
            .with_group_context_extensions(extensions(list)?)
            .with_capabilities(self.capabilities())
            .build(&self.provider, &self.signer, self.credential(&self.signer))
            .map_err(at("create"))?;
        self.group = Some(group);
        Ok(())
    }

    fn key_package(&mut self) -> Result<Vec<u8>, PeerError> {
        let key_package = self.new_key_package()?;
        MlsMessageOut::from(key_package)
            .to_bytes()
            .map_err(at("encode a KeyPackage"))
    }

    fn join(&mut self, welcome: &[u8], tree: Option<&[u8]>) -> Result<(), PeerError> {
        let MlsMessageBodyIn::Welcome(welcome) = decode(welcome)?.extract() else {
            return Err(at("find the Welcome")(()));
        };
        let tree = tree.map(ratchet_tree).transpose()?;
        let group =
            ProcessedWelcome::new_from_welcome(&self.provider, &self.join_config(), welcome)
                .map_err(at("open a Welcome"))?
                .into_staged_welcome(&self.provider, tree)
                .map_err(at("stage a Welcome"))?
                .into_group(&self.provider)
                .map_err(at("join"))?;
        self.group = Some(group);
        Ok(())
    }

    fn join_external(
        &mut self,
        group_info: &[u8],
        tree: Option<&[u8]>,
        _resync: Option<u32>,
        psk: Option<&[u8]>,
    ) -> Result<Vec<u8>, PeerError> {
        // The old leaf is found by its signature key.
        if let Some(mut old) = self.group.take() {
            old.delete(self.provider.storage())
                .map_err(at("delete a group"))?;
        }
        let MlsMessageBodyIn::GroupInfo(group_info) = decode(group_info)?.extract() else {
            return Err(at("find the GroupInfo")(()));
        };
        let mut builder = MlsGroup::external_commit_builder().with_config(self.join_config());
        if let Some(tree) = tree {
            builder = builder.with_ratchet_tree(ratchet_tree(tree)?);
        }
        let mut commit = builder
            .build_group(&self.provider, group_info, self.credential(&self.signer))
            .map_err(at("begin an external commit"))?
            .leaf_node_parameters(self.leaf());
        if let Some(psk) = psk {
            let id = self.psk(Psk::External(ExternalPsk::new(psk.to_vec())))?;
            commit = commit.add_psk_proposal(PreSharedKeyProposal::new(id));
        }
        let (group, bundle) = commit
            .load_psks(self.provider.storage())
            .map_err(at("load PSKs"))?
            .build(
                self.provider.rand(),
                self.provider.crypto(),
                &self.signer,
                |_| true,
            )
            .map_err(at("commit externally"))?
            .finalize(&self.provider)
            .map_err(at("finish an external commit"))?;
        self.group = Some(group);
        bundle
            .into_commit()
            .to_bytes()
            .map_err(at("encode a commit"))
    }

    fn propose_join(&mut self, group_info: &[u8], _tree: &[u8]) -> Result<Vec<u8>, PeerError> {
        let (group_id, epoch) = destination(group_info)?;
        let key_package = self.new_key_package()?;
        JoinProposal::new::<P::StorageProvider>(key_package, group_id, epoch, &self.signer)
            .map_err(at("propose to join"))?
            .to_bytes()
            .map_err(at("encode a proposal"))
    }

    fn add_psk(&mut self, id: &[u8], secret: &[u8]) -> Result<(), PeerError> {
        PreSharedKeyId::external(id.to_vec(), Vec::new())
            .store(&self.provider, secret)
            .map_err(at("store a PSK"))
    }

    fn propose(&mut self, change: &Change) -> Result<Vec<u8>, PeerError> {
        let psk = self.psk_of(change)?;
        let leaf = self.leaf();
        let (group, provider, signer) = parts!(self);
        let own = group.own_leaf_index().u32();
        let propose = match change {
            Change::Add(key_package) => Propose::Add(validated(provider, key_package)?),
            Change::Remove(leaf) if *leaf == own => {
                return group
                    .leave_group(provider, signer)
                    .map_err(at("propose to leave"))?
                    .to_bytes()
                    .map_err(at("encode a proposal"));
            }
            Change::SelfRemove => {
                return group
                    .leave_group_via_self_remove(provider, signer)
                    .map_err(at("propose a SelfRemove"))?
                    .to_bytes()
                    .map_err(at("encode a proposal"));
            }
            Change::Remove(leaf) => Propose::Remove(*leaf),
            Change::Update => Propose::Update(leaf),
            Change::ExternalPsk(_) | Change::ResumptionPsk(_) => {
                Propose::PreSharedKey(psk.ok_or(()).map_err(at("name a PSK"))?)
            }
            Change::Extensions(list) => Propose::GroupContextExtensions(extensions(list)?),
            Change::ReInit(_) => return Err(PeerError::missing(Peer::OpenMls, "reinitialise")),
        };
        let (message, _) = group
            .propose(provider, signer, propose, ProposalOrRefType::Reference)
            .map_err(at("propose"))?;
        message.to_bytes().map_err(at("encode a proposal"))
    }

    fn commit(&mut self, plan: &Plan) -> Result<Committed, PeerError> {
        let mut psks = Vec::new();
        for change in &plan.changes {
            psks.extend(self.psk_of(change)?);
        }
        let next_signer = match plan.new_signature_key {
            true => Some(signature_key(self.suite)?),
            false => None,
        };
        let next_credential = next_signer.as_ref().map(|signer| self.credential(signer));
        let (group, provider, signer) = parts!(self);
        group.set_aad(plan.authenticated_data.clone());
        let mut builder = group.commit_builder().force_self_update(!plan.without_path);
        for change in &plan.changes {
            builder = match change {
                Change::Add(key_package) => {
                    builder.propose_adds([validated(provider, key_package)?])
                }
                Change::Remove(leaf) => builder.propose_removals([LeafNodeIndex::new(*leaf)]),
                Change::Extensions(list) => builder
                    .propose_group_context_extensions(extensions(list)?)
                    .map_err(at("propose extensions"))?,
                Change::ExternalPsk(_) | Change::ResumptionPsk(_) => builder,
                Change::Update => return Err(PeerError::missing(Peer::OpenMls, "update by value")),
                Change::ReInit(_) => return Err(PeerError::missing(Peer::OpenMls, "reinitialise")),
                Change::SelfRemove => {
                    return Err(PeerError::missing(Peer::OpenMls, "SelfRemove by value"));
                }
            };
        }
        let builder = builder
            .add_proposals(
                psks.into_iter()
                    .map(|id| Proposal::PreSharedKey(Box::new(PreSharedKeyProposal::new(id)))),
            )
            .load_psks(provider.storage())
            .map_err(at("load PSKs"))?
            .create_group_info(true)
            .use_ratchet_tree_extension(!plan.tree_apart);
        let (rand, crypto) = (provider.rand(), provider.crypto());
        let built = match (&next_signer, next_credential) {
            (Some(next_signer), Some(credential_with_key)) => {
                let next = NewSignerBundle {
                    signer: next_signer,
                    credential_with_key,
                };
                builder.build_with_new_signer(rand, crypto, signer, next, |_| true)
            }
            _ => builder.build(rand, crypto, signer, |_| true),
        };
        let (commit, welcome, _) = built
            .map_err(at("commit"))?
            .stage_commit(provider)
            .map_err(at("stage a commit"))?
            .into_messages();
        self.next_signer = next_signer;
        Ok(Committed {
            commit: commit.to_bytes().map_err(at("encode a commit"))?,
            welcome: welcome
                .map(|welcome| welcome.to_bytes().map_err(at("encode a Welcome")))
                .transpose()?,
        })
    }

    fn merge(&mut self) -> Result<(), PeerError> {
        let (group, provider, _) = parts!(self);
        group.merge_pending_commit(provider).map_err(at("merge"))?;
        if let Some(next_signer) = self.next_signer.take() {
            self.signer = next_signer;
        }
        Ok(())
    }

    fn discard(&mut self) -> Result<(), PeerError> {
        self.next_signer = None;
        let (group, provider, _) = parts!(self);
        group
            .clear_pending_commit(provider.storage())
            .map_err(at("discard"))
    }

    fn process(&mut self, message: &[u8]) -> Result<Event, PeerError> {
        let message = decode(message)?
            .try_into_protocol_message()
            .map_err(at("find a message to the group"))?;
        let (group, provider, _) = parts!(self);
        let processed = group
            .process_message(provider, message)
            .map_err(at("process"))?;
        let (sender, authenticated_data) = (processed.sender().clone(), processed.aad().to_vec());
        match processed.into_content() {
            ProcessedMessageContent::ApplicationMessage(message) => {
                let Sender::Member(sender) = sender else {
                    return Err(at("name the sender")(sender));
                };
                Ok(Event::Application {
                    sender: sender.u32(),
                    data: message.into_bytes(),
                    authenticated_data,
                })
            }
            ProcessedMessageContent::ProposalMessage(proposal)
            | ProcessedMessageContent::ExternalJoinProposalMessage(proposal) => {
                group
                    .store_pending_proposal(provider.storage(), *proposal)
                    .map_err(at("store a proposal"))?;
                Ok(Event::Proposal)
            }
            ProcessedMessageContent::StagedCommitMessage(staged) => {
                let removed = staged.self_removed();
                group
                    .merge_staged_commit(provider, *staged)
                    .map_err(at("merge another's commit"))?;
                if removed {
                    group
                        .delete(provider.storage())
                        .map_err(at("delete a group"))?;
                    self.group = None;
                    Ok(Event::Removed)
                } else {
                    Ok(Event::Commit)
                }
            }
            other => Err(at("understand")(other)),
        }
    }

    fn encrypt(&mut self, data: &[u8], authenticated_data: &[u8]) -> Result<Vec<u8>, PeerError> {
        let (group, provider, signer) = parts!(self);
        group.set_aad(authenticated_data.to_vec());
        group
            .create_message(provider, signer, data)
            .map_err(at("encrypt"))?
            .to_bytes()
            .map_err(at("encode a message"))
    }

    fn group_info(&mut self, with_tree: bool) -> Result<Vec<u8>, PeerError> {
        let (group, provider, signer) = parts!(self);
        group
            .export_group_info(provider.crypto(), signer, with_tree)
            .map_err(at("make a GroupInfo"))?
            .to_bytes()
            .map_err(at("encode a GroupInfo"))
    }

    fn tree(&self) -> Result<Vec<u8>, PeerError> {
        let tree = self.group()?.export_ratchet_tree();
        tree.tls_serialize_detached().map_err(at("encode a tree"))
    }

    fn view(&self) -> Result<View, PeerError> {
        let group = self.group()?;
        let members = group
            .members()
            .map(|member| {
                let identity = member.credential.serialized_content().to_vec();
                (member.index.u32(), identity, member.signature_key)
            })
            .collect();
        // There is no other way to see it.
        let group_info = group
            .export_group_info(self.provider.crypto(), &self.signer, false)
            .map_err(at("make a GroupInfo"))?
            .to_bytes()
            .map_err(at("encode a GroupInfo"))?;
        let context = group_context(&group_info).map_err(at("find a GroupContext"))?;
        let exported = group
            .export_secret(self.provider.crypto(), "interop", b"context", 42)
            .map_err(at("export"))?;
        View::new(
            context.to_bytes(),
            members,
            group.epoch_authenticator().as_slice().to_vec(),
            exported,
        )
        .map_err(at("write a GroupContext that we can read"))
    }

    fn own_leaf(&self) -> u32 {
        let group = self.group.as_ref();
        group.map_or(u32::MAX, |group| group.own_leaf_index().u32())
    }

    fn signature_key(&self) -> Vec<u8> {
        self.signer.to_public_vec()
    }

    fn restart(&mut self) -> Result<(), PeerError> {
        let group_id = self.group()?.group_id().clone();
        let group = MlsGroup::load(self.provider.storage(), &group_id).map_err(at("load"))?;
        self.group = Some(group.ok_or(()).map_err(at("load"))?);
        Ok(())
    }

    fn safe_export(&mut self, component: u16) -> Result<Vec<u8>, PeerError> {
        let (group, provider, _) = parts!(self);
        group
            .safe_export_secret(provider.crypto(), provider.storage(), component)
            .map_err(at("export safely"))
    }

    fn successor_key_package(&mut self, _: &NextGroup, _: bool) -> Result<Vec<u8>, PeerError> {
        Err(PeerError::missing(Peer::OpenMls, "follow to another group"))
    }

    fn start_successor(
        &mut self,
        _: &NextGroup,
        _: bool,
        _: &[Vec<u8>],
    ) -> Result<Vec<u8>, PeerError> {
        Err(PeerError::missing(Peer::OpenMls, "start another group"))
    }

    fn join_successor(&mut self, _: bool, _: &[u8]) -> Result<(), PeerError> {
        Err(PeerError::missing(Peer::OpenMls, "follow to another group"))
    }
}

/// OpenMLS outside of a group, as an external sender.
pub struct Outsider {
    signer: SignatureKeyPair,
}

impl Outsider {
    /// One with a key for this suite.
    ///
    /// # Errors
    /// If it does not have the suite.
    pub fn new(suite: u16) -> Result<Self, PeerError> {
        let suite = Ciphersuite::try_from(suite).map_err(at("use a suite"))?;
        Ok(Self {
            signer: signature_key(suite)?,
        })
    }

    /// Its public key.
    pub fn signature_key(&self) -> Vec<u8> {
        self.signer.to_public_vec()
    }

    /// Proposes as the external sender at `index`.
    ///
    /// # Errors
    /// The peer's.
    pub fn propose(
        &self,
        group_info: &[u8],
        index: u32,
        change: &Change,
    ) -> Result<Vec<u8>, PeerError> {
        let (group_id, epoch) = destination(group_info)?;
        let provider = OpenMlsRustCrypto::default();
        let (index, signer) = (SenderExtensionIndex::new(index), &self.signer);
        type Provider = OpenMlsRustCrypto;
        let message = match change {
            Change::Add(key_package) => {
                let key_package = validated(&provider, key_package)?;
                ExternalProposal::new_add::<Provider>(key_package, group_id, epoch, signer, index)
                    .map_err(at("propose an Add from outside"))
            }
            Change::Remove(leaf) => {
                let leaf = LeafNodeIndex::new(*leaf);
                ExternalProposal::new_remove::<Provider>(leaf, group_id, epoch, signer, index)
                    .map_err(at("propose a Remove from outside"))
            }
            Change::Extensions(list) => {
                let list = extensions(list)?;
                ExternalProposal::new_group_context_extensions::<Provider>(
                    list, group_id, epoch, signer, index,
                )
                .map_err(at("propose extensions from outside"))
            }
            _ => return Err(PeerError::missing(Peer::OpenMls, "propose from outside")),
        };
        message?.to_bytes().map_err(at("encode a proposal"))
    }
}

fn signature_key(suite: Ciphersuite) -> Result<SignatureKeyPair, PeerError> {
    SignatureKeyPair::new(suite.signature_algorithm()).map_err(at("make a signature key"))
}

fn decode(message: &[u8]) -> Result<MlsMessageIn, PeerError> {
    MlsMessageIn::tls_deserialize_exact(message).map_err(at("read a message"))
}

fn ratchet_tree(tree: &[u8]) -> Result<RatchetTreeIn, PeerError> {
    RatchetTreeIn::tls_deserialize_exact(tree).map_err(at("read a tree"))
}

fn destination(group_info: &[u8]) -> Result<(GroupId, GroupEpoch), PeerError> {
    let context = group_context(group_info).map_err(at("find a group"))?;
    Ok((GroupId::from_slice(&context.group_id), context.epoch.into()))
}

fn validated(provider: &impl OpenMlsProvider, key_package: &[u8]) -> Result<KeyPackage, PeerError> {
    let MlsMessageBodyIn::KeyPackage(key_package) = decode(key_package)?.extract() else {
        return Err(at("find the KeyPackage")(()));
    };
    key_package
        .validate(provider.crypto(), ProtocolVersion::Mls10)
        .map_err(at("accept a KeyPackage"))
}

fn extensions(list: &[RawExtension]) -> Result<Extensions<GroupContext>, PeerError> {
    let encoded = raw_extensions(list).to_bytes();
    Extensions::tls_deserialize_exact(encoded).map_err(at("read extensions"))
}
