//! All that a runner made a client keep, and the calls on it but for those from outside of a group
//! and those on groups that follow another.

use std::collections::BTreeMap;

use folkmoot_mls::capabilities::Capabilities;
use folkmoot_mls::code_point::ProtocolVersion;
use folkmoot_mls::codec::Encode;
use folkmoot_mls::credential::{Credential, CredentialType};
use folkmoot_mls::crypto::{CipherSuite, CryptoProvider, SignatureKeyPair};
use folkmoot_mls::extension::Extensions;
use folkmoot_mls::group::{Group, GroupInfoOptions, GroupParameters};
use folkmoot_mls::key_package::{KeyPackage, KeyPackageBundle};
use folkmoot_mls::leaf_node::{LeafParameters, Lifetime};
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::proposal::{Proposal, ProposalType};
use rand_chacha::ChaCha20Rng;

use super::error::ClientError;
use super::member::{Member, Psks, World, suite};
use super::outside::Signer;
use super::successor::Ended;
use super::wire;
use crate::proto;

/// How many ids a client keeps something under. The oldest make room for the newest.
const ENTRIES: usize = 16_384;

/// How long a key package is valid for, in seconds: from a day ago on, for clocks that differ.
const KEY_PACKAGE_LIFETIME: u64 = 90 * 86_400;

/// One implementation of MLS, as a test runner sees it.
pub struct Client {
    pub(super) world: World,
    entries: BTreeMap<u32, Entry>,
    next_id: u32,
}

/// What an id stands for.
pub(super) enum Entry {
    Member(Box<Member>),
    Transaction(Box<Transaction>),
    Ended(Box<Ended>),
    Signer(Box<Signer>),
}

/// A key package that waits for its Welcome.
#[derive(Clone)]
pub(super) struct Transaction {
    pub bundle: KeyPackageBundle,
    pub signer: SignatureKeyPair,
    pub psks: Psks,
}

/// Finds an entry of one kind. A macro, since the world is borrowed beside it.
macro_rules! entry {
    ($client:expr, $kind:ident, $expected:literal, $id:expr) => {
        match $client.entries.get_mut(&$id) {
            Some(Entry::$kind(entry)) => Ok((&mut **entry, &mut $client.world)),
            Some(_) => Err(ClientError::WrongKind {
                id: $id,
                expected: $expected,
            }),
            None => Err(ClientError::UnknownId($id)),
        }
    };
}

impl Client {
    /// A client that keeps nothing yet.
    #[must_use]
    pub fn new(provider: &'static dyn CryptoProvider, rng: ChaCha20Rng) -> Self {
        Self {
            world: World {
                provider,
                rng,
                now: 0,
            },
            entries: BTreeMap::new(),
            next_id: 1,
        }
    }

    /// Says what time it is, in seconds since 1970.
    pub fn at(&mut self, now: u64) -> &mut Self {
        self.world.now = now;
        self
    }

    /// The implementation's name.
    #[must_use]
    pub fn name(&self) -> proto::NameResponse {
        proto::NameResponse {
            name: "Folkmoot".to_owned(),
        }
    }

    /// The suites of the provider.
    #[must_use]
    pub fn supported_ciphersuites(&self) -> proto::SupportedCiphersuitesResponse {
        let suites = self.world.provider.suites();
        proto::SupportedCiphersuitesResponse {
            ciphersuites: suites.iter().map(|suite| suite.0.into()).collect(),
        }
    }

    /// Starts a group with one member.
    ///
    /// # Errors
    /// [`ClientError`], as everywhere here: of the runner, or of a client whose messages it carries.
    pub fn create_group(
        &mut self,
        request: &proto::CreateGroupRequest,
    ) -> Result<proto::CreateGroupResponse, ClientError> {
        let cipher_suite = wire::cipher_suite(request.cipher_suite)?;
        let signer = self.signer(cipher_suite)?;
        let leaf = self.leaf(&request.identity);
        let parameters = GroupParameters {
            version: ProtocolVersion::MLS10,
            cipher_suite,
            group_id: request.group_id.as_slice().into(),
            extensions: Extensions::default(),
        };
        let psks = Psks::default();
        let created = Group::create(&mut self.world.context(&psks), parameters, &signer, leaf)?;
        let encrypt = request.encrypt_handshake;
        let member = Member::new(created.group, created.keys, signer, encrypt, psks);
        let state_id = self.keep_member(member)?;
        Ok(proto::CreateGroupResponse { state_id })
    }

    /// Makes a key package.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn create_key_package(
        &mut self,
        request: &proto::CreateKeyPackageRequest,
    ) -> Result<proto::CreateKeyPackageResponse, ClientError> {
        let cipher_suite = wire::cipher_suite(request.cipher_suite)?;
        let transaction = self.transaction(cipher_suite, &request.identity)?;
        let Transaction { bundle, signer, .. } = transaction.clone();
        Ok(proto::CreateKeyPackageResponse {
            transaction_id: self.keep(Entry::Transaction(Box::new(transaction)))?,
            key_package: MlsMessage::KeyPackage(Box::new(bundle.key_package)).to_bytes(),
            init_priv: bundle.init_private_key.to_vec(),
            encryption_priv: bundle.encryption_private_key.to_vec(),
            signature_priv: signer.private_key().to_vec(),
        })
    }

    /// Joins by a Welcome, which uses the key package up.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn join_group(
        &mut self,
        request: &proto::JoinGroupRequest,
    ) -> Result<proto::JoinGroupResponse, ClientError> {
        let id = request.transaction_id;
        let (transaction, world) = entry!(self, Transaction, "transaction", id)?;
        let welcome = wire::welcome(&request.welcome)?;
        let tree = wire::optional(&request.ratchet_tree);
        let Transaction {
            bundle,
            signer,
            psks,
        } = transaction.clone();
        let joined = Group::join(&mut world.context(&psks), &welcome, &bundle, tree)?;
        let encrypt = request.encrypt_handshake;
        let member = Member::new(joined.group, joined.keys, signer, encrypt, psks);
        let epoch_authenticator = member.epoch_authenticator();
        self.entries.remove(&id);
        Ok(proto::JoinGroupResponse {
            state_id: self.keep_member(member)?,
            epoch_authenticator,
        })
    }

    /// Gives a GroupInfo by which others can join.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn group_info(
        &mut self,
        request: &proto::GroupInfoRequest,
    ) -> Result<proto::GroupInfoResponse, ClientError> {
        let (member, _) = self.member(request.state_id)?;
        let external_tree = request.external_tree;
        let options = GroupInfoOptions {
            ratchet_tree: !external_tree,
            external_pub: true,
            ..GroupInfoOptions::default()
        };
        let group_info = member.group.group_info(&member.signer, options)?;
        Ok(proto::GroupInfoResponse {
            group_info: MlsMessage::GroupInfo(Box::new(group_info)).to_bytes(),
            ratchet_tree: tree_beside(&member.group, external_tree),
        })
    }

    /// The epoch's authenticator.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn state_auth(
        &mut self,
        request: &proto::StateAuthRequest,
    ) -> Result<proto::StateAuthResponse, ClientError> {
        let (member, _) = self.member(request.state_id)?;
        Ok(proto::StateAuthResponse {
            state_auth_secret: member.epoch_authenticator(),
        })
    }

    /// A secret of the epoch by its exporter.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn export(
        &mut self,
        request: &proto::ExportRequest,
    ) -> Result<proto::ExportResponse, ClientError> {
        let (member, _) = self.member(request.state_id)?;
        let length = usize::try_from(request.key_length).unwrap_or(usize::MAX);
        let secret = member
            .group
            .exporter(&request.label, &request.context, length)?;
        Ok(proto::ExportResponse {
            exported_secret: secret.to_vec(),
        })
    }

    /// Encrypts application data.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn protect(
        &mut self,
        request: &proto::ProtectRequest,
    ) -> Result<proto::ProtectResponse, ClientError> {
        let (member, world) = self.member(request.state_id)?;
        let (authenticated_data, data) = (&request.authenticated_data, &request.plaintext);
        let ciphertext = member.protect(authenticated_data, data, world)?;
        Ok(proto::ProtectResponse { ciphertext })
    }

    /// Decrypts application data of this epoch or of one of the last.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn unprotect(
        &mut self,
        request: &proto::UnprotectRequest,
    ) -> Result<proto::UnprotectResponse, ClientError> {
        let (member, _) = self.member(request.state_id)?;
        let (authenticated_data, plaintext) = member.unprotect(&request.ciphertext)?;
        Ok(proto::UnprotectResponse {
            authenticated_data,
            plaintext,
        })
    }

    /// Keeps a pre-shared key for a member, or for one to be.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn store_psk(
        &mut self,
        request: &proto::StorePskRequest,
    ) -> Result<proto::StorePskResponse, ClientError> {
        let id = request.state_or_transaction_id;
        let psks = match self.entries.get_mut(&id) {
            Some(Entry::Member(member)) => &mut member.psks,
            Some(Entry::Transaction(transaction)) => &mut transaction.psks,
            Some(_) => {
                let expected = "state or transaction";
                return Err(ClientError::WrongKind { id, expected });
            }
            None => return Err(ClientError::UnknownId(id)),
        };
        psks.store(&request.psk_id, &request.psk_secret)?;
        Ok(proto::StorePskResponse {})
    }

    /// Proposes to add a client.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn add_proposal(
        &mut self,
        request: &proto::AddProposalRequest,
    ) -> Result<proto::ProposalResponse, ClientError> {
        let key_package = wire::key_package(&request.key_package)?;
        self.propose(request.state_id, |_, _| Ok(Proposal::add(key_package)))
    }

    /// Proposes fresh keys for the member's own leaf.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn update_proposal(
        &mut self,
        request: &proto::UpdateProposalRequest,
    ) -> Result<proto::ProposalResponse, ClientError> {
        let (member, world) = self.member(request.state_id)?;
        let proposal = member.propose_update(world)?;
        Ok(proto::ProposalResponse { proposal })
    }

    /// Proposes to remove whoever has an identity.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn remove_proposal(
        &mut self,
        request: &proto::RemoveProposalRequest,
    ) -> Result<proto::ProposalResponse, ClientError> {
        self.propose(request.state_id, |member, _| {
            member.leaf(&request.removed_id).map(Proposal::remove)
        })
    }

    /// Proposes to bring in a key of the application.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn external_psk_proposal(
        &mut self,
        request: &proto::ExternalPskProposalRequest,
    ) -> Result<proto::ProposalResponse, ClientError> {
        self.propose(request.state_id, |member, world| {
            let suite = member.suite(world)?;
            Ok(wire::external_psk(suite, &request.psk_id, &mut world.rng))
        })
    }

    /// Proposes to bring in the key of a past epoch.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn resumption_psk_proposal(
        &mut self,
        request: &proto::ResumptionPskProposalRequest,
    ) -> Result<proto::ProposalResponse, ClientError> {
        self.propose(request.state_id, |member, world| {
            let (suite, group_id) = (member.suite(world)?, member.group.group_id());
            let epoch = request.epoch_id;
            Ok(wire::resumption_psk(suite, group_id, epoch, &mut world.rng))
        })
    }

    /// Proposes other extensions for the group.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn group_context_extensions_proposal(
        &mut self,
        request: &proto::GroupContextExtensionsProposalRequest,
    ) -> Result<proto::ProposalResponse, ClientError> {
        let extensions = wire::extensions(&request.extensions)?;
        self.propose(request.state_id, |_, _| {
            Ok(Proposal::group_context_extensions(extensions))
        })
    }

    /// Makes a commit, which waits for [`handle_pending_commit`](Self::handle_pending_commit).
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn commit(
        &mut self,
        request: &proto::CommitRequest,
    ) -> Result<proto::CommitResponse, ClientError> {
        let (member, world) = self.member(request.state_id)?;
        let pending = member.commit(request, world)?;
        Ok(proto::CommitResponse {
            commit: pending.message.to_bytes(),
            welcome: wire::welcome_bytes(pending.welcome.clone()),
            ratchet_tree: tree_beside(&pending.group, request.external_tree),
        })
    }

    /// Follows a commit. One that ends the group is for
    /// [`handle_re_init_commit`](Self::handle_re_init_commit).
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn handle_commit(
        &mut self,
        request: &proto::HandleCommitRequest,
    ) -> Result<proto::HandleCommitResponse, ClientError> {
        let state_id = request.state_id;
        let (member, world) = self.member(state_id)?;
        let allowed = |proposals: &[Proposal]| match has_re_init(proposals) {
            true => Err(ClientError::WrongCommit("ends the group")),
            false => Ok(()),
        };
        member.handle_commit(&request.proposal, &request.commit, allowed, world)?;
        Ok(proto::HandleCommitResponse {
            state_id,
            epoch_authenticator: member.epoch_authenticator(),
        })
    }

    /// Follows the member's own commit, which waits.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn handle_pending_commit(
        &mut self,
        request: &proto::HandlePendingCommitRequest,
    ) -> Result<proto::HandleCommitResponse, ClientError> {
        let state_id = request.state_id;
        let (member, _) = self.member(state_id)?;
        member.merge()?;
        Ok(proto::HandleCommitResponse {
            state_id,
            epoch_authenticator: member.epoch_authenticator(),
        })
    }

    /// Forgets what an id stands for.
    ///
    /// # Errors
    /// [`ClientError::UnknownId`].
    pub fn free(
        &mut self,
        request: &proto::FreeRequest,
    ) -> Result<proto::FreeResponse, ClientError> {
        match self.entries.remove(&request.state_id) {
            Some(_) => Ok(proto::FreeResponse {}),
            None => Err(ClientError::UnknownId(request.state_id)),
        }
    }

    pub(super) fn propose(
        &mut self,
        state_id: u32,
        proposal: impl FnOnce(&Member, &mut World) -> Result<Proposal, ClientError>,
    ) -> Result<proto::ProposalResponse, ClientError> {
        let (member, world) = self.member(state_id)?;
        let proposal = proposal(member, world)?;
        let proposal = member.propose(proposal, world)?;
        Ok(proto::ProposalResponse { proposal })
    }

    pub(super) fn member(&mut self, id: u32) -> Result<(&mut Member, &mut World), ClientError> {
        entry!(self, Member, "state", id)
    }

    pub(super) fn waiting(&mut self, id: u32) -> Result<&Transaction, ClientError> {
        entry!(self, Transaction, "transaction", id).map(|(transaction, _)| &*transaction)
    }

    pub(super) fn ended_group(&mut self, id: u32) -> Result<&Ended, ClientError> {
        entry!(self, Ended, "reinit", id).map(|(ended, _)| &*ended)
    }

    pub(super) fn external_signer(
        &mut self,
        id: u32,
    ) -> Result<(&Signer, &mut World), ClientError> {
        entry!(self, Signer, "signer", id).map(|(signer, world)| (&*signer, world))
    }

    pub(super) fn forget(&mut self, id: u32) {
        self.entries.remove(&id);
    }

    /// Keeps something under a new id.
    pub(super) fn keep(&mut self, entry: Entry) -> Result<u32, ClientError> {
        let id = self.next_id;
        self.next_id = id.checked_add(1).ok_or(ClientError::NoIds)?;
        while self.entries.len() >= ENTRIES {
            self.entries.pop_first();
        }
        self.entries.insert(id, entry);
        Ok(id)
    }

    pub(super) fn keep_member(&mut self, member: Member) -> Result<u32, ClientError> {
        self.keep(Entry::Member(Box::new(member)))
    }

    /// A fresh signature key.
    pub(super) fn signer(&mut self, id: CipherSuite) -> Result<SignatureKeyPair, ClientError> {
        let suite = suite(&self.world, id)?;
        Ok(suite.signature_key_pair(&mut self.world.rng))
    }

    /// A leaf of ours: what we can do is the same in every group.
    pub(super) fn leaf(&self, identity: &[u8]) -> LeafParameters {
        LeafParameters {
            credential: Credential::basic(identity),
            capabilities: Capabilities {
                versions: vec![ProtocolVersion::MLS10],
                cipher_suites: self.world.provider.suites().to_vec(),
                credentials: vec![CredentialType::BASIC],
                ..Capabilities::default()
            },
            extensions: Extensions::default(),
        }
    }

    /// A fresh key package of a fresh signature key.
    pub(super) fn transaction(
        &mut self,
        cipher_suite: CipherSuite,
        identity: &[u8],
    ) -> Result<Transaction, ClientError> {
        let signer = self.signer(cipher_suite)?;
        let leaf = self.leaf(identity);
        let suite = suite(&self.world, cipher_suite)?;
        let World { now, rng, .. } = &mut self.world;
        let not_before = now.saturating_sub(86_400);
        let lifetime = Lifetime {
            not_before,
            not_after: not_before.saturating_add(KEY_PACKAGE_LIFETIME),
        };
        let extensions = Extensions::default();
        let bundle = KeyPackage::create(suite, &signer, leaf, lifetime, extensions, rng)?;
        Ok(Transaction {
            bundle,
            signer,
            psks: Psks::default(),
        })
    }
}

/// The tree as an answer holds it beside a message: empty if it is not asked for.
pub(super) fn tree_beside(group: &Group, external_tree: bool) -> Vec<u8> {
    if external_tree {
        group.tree_bytes()
    } else {
        Vec::new()
    }
}

pub(super) fn has_re_init(proposals: &[Proposal]) -> bool {
    proposals
        .iter()
        .any(|proposal| proposal.proposal_type() == ProposalType::REINIT)
}
