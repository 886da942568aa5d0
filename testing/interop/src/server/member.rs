//! One member of one group, as a runner sees it.

use std::collections::{BTreeMap, HashMap};

use folkmoot_mls::code_point::WireFormat;
use folkmoot_mls::codec::{Bytes, Encode};
use folkmoot_mls::component::NoComponents;
use folkmoot_mls::context::{BasicCredentials, Context, OneThread, PskStore};
use folkmoot_mls::crypto::{CryptoProvider, Secret, SignatureKeyPair, Suite};
use folkmoot_mls::group::{Group, IncludeProposals, PendingCommit, Processed};
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::message_keys::MessageKeys;
use folkmoot_mls::proposal::{Proposal, ProposalRef};
use folkmoot_mls::psk::{PreSharedKeyID, PskType};
use rand_chacha::ChaCha20Rng;

use super::error::ClientError;
use super::wire::{self, Subject};
use crate::proto;

/// Past epochs whose messages can still be read.
const PAST_EPOCHS: usize = 8;

/// Past epochs whose resumption PSKs are kept.
const RESUMPTION_PSKS: usize = 256;

/// Keys of the application that one member keeps.
const EXTERNAL_PSKS: usize = 1024;

/// What every call gets from outside.
pub struct World {
    /// The cipher suites.
    pub provider: &'static dyn CryptoProvider,
    /// Randomness.
    pub rng: ChaCha20Rng,
    /// Seconds since 1970.
    pub now: u64,
}

impl World {
    /// The engine's view of it.
    pub fn context<'a>(&'a mut self, psks: &'a dyn PskStore) -> Context<'a> {
        Context {
            provider: self.provider,
            authentication_service: &BasicCredentials,
            psks,
            components: &NoComponents,
            now: Some(self.now),
            workers: &OneThread,
            rng: &mut self.rng,
        }
    }
}

/// The pre-shared keys of one member.
#[derive(Clone, Debug, Default)]
pub struct Psks {
    external: BTreeMap<Bytes, Secret>,
    resumption: BTreeMap<(Bytes, u64), Secret>,
}

impl Psks {
    /// Keeps a key of the application.
    pub fn store(&mut self, id: &[u8], secret: &[u8]) -> Result<(), ClientError> {
        let id = Bytes::from(id);
        if self.external.len() >= EXTERNAL_PSKS && !self.external.contains_key(&id) {
            return Err(ClientError::TooManyPsks);
        }
        self.external.insert(id, Secret::from(secret));
        Ok(())
    }

    fn remember(&mut self, group: &Group) {
        let key = (Bytes::from(group.group_id()), group.epoch());
        self.resumption.insert(key, group.resumption_psk().clone());
        while self.resumption.len() > RESUMPTION_PSKS {
            self.resumption.pop_first();
        }
    }
}

impl PskStore for Psks {
    fn psk(&self, id: &PreSharedKeyID) -> Option<Secret> {
        match &id.psktype {
            PskType::External(psk) => self.external.get(&psk.psk_id).cloned(),
            PskType::Resumption(psk) => self
                .resumption
                .get(&(psk.psk_group_id.clone(), psk.psk_epoch))
                .cloned(),
            // The service has no call that gives a component a key.
            _ => None,
        }
    }
}

/// A member's view of its group, and all that it needs to act in it.
pub struct Member {
    pub group: Group,
    keys: MessageKeys,
    past: BTreeMap<u64, MessageKeys>,
    pub signer: SignatureKeyPair,
    pub wire_format: WireFormat,
    pub psks: Psks,
    /// The proposals of this epoch, our own too, by the message that they came in: a runner hands
    /// them over again with each call that refers to them, and an encrypted one opens only once.
    proposals: HashMap<Vec<u8>, ProposalRef>,
    pending: Option<Box<PendingCommit>>,
}

impl Member {
    pub fn new(
        group: Group,
        keys: MessageKeys,
        signer: SignatureKeyPair,
        encrypt_handshake: bool,
        mut psks: Psks,
    ) -> Self {
        psks.remember(&group);
        Self {
            group,
            keys,
            past: BTreeMap::new(),
            signer,
            wire_format: wire::wire_format(encrypt_handshake),
            psks,
            proposals: HashMap::new(),
            pending: None,
        }
    }

    pub fn epoch_authenticator(&self) -> Vec<u8> {
        self.group.epoch_authenticator().to_vec()
    }

    pub fn suite(&self, world: &World) -> Result<&'static dyn Suite, ClientError> {
        suite(world, self.group.cipher_suite())
    }

    /// The member with an identity.
    pub fn leaf(&self, identity: &[u8]) -> Result<folkmoot_mls::tree_math::LeafIndex, ClientError> {
        wire::member(&mut self.group.members(), identity)
    }

    pub fn protect(
        &mut self,
        authenticated_data: &[u8],
        plaintext: &[u8],
        world: &mut World,
    ) -> Result<Vec<u8>, ClientError> {
        let (message, _) = self.keys.encrypt(
            &self.signer,
            authenticated_data,
            plaintext,
            0,
            &mut world.rng,
        )?;
        Ok(MlsMessage::PrivateMessage(message).to_bytes())
    }

    /// Reads application data of this epoch or of one of the last.
    pub fn unprotect(&mut self, ciphertext: &[u8]) -> Result<(Vec<u8>, Vec<u8>), ClientError> {
        let message = match wire::decode("ciphertext", ciphertext)? {
            MlsMessage::PrivateMessage(message) => message,
            other => {
                return Err(ClientError::WrongMessage {
                    field: "ciphertext",
                    wire_format: other.wire_format(),
                });
            }
        };
        let keys = if message.epoch == self.group.epoch() {
            &mut self.keys
        } else {
            self.past
                .get_mut(&message.epoch)
                .ok_or(ClientError::NoKeys(message.epoch))?
        };
        let (decrypted, _) = keys.decrypt(&message)?;
        Ok((
            decrypted.authenticated_data.into_vec(),
            decrypted.data.into_vec(),
        ))
    }

    pub fn propose(
        &mut self,
        proposal: Proposal,
        world: &mut World,
    ) -> Result<Vec<u8>, ClientError> {
        let proposed = self.group.propose(
            &mut self.keys,
            &self.signer,
            proposal,
            b"",
            self.wire_format,
            &mut world.context(&self.psks),
        )?;
        Ok(self.proposed(proposed))
    }

    pub fn propose_update(&mut self, world: &mut World) -> Result<Vec<u8>, ClientError> {
        let proposed = self.group.propose_update(
            &mut self.keys,
            &self.signer,
            None,
            b"",
            self.wire_format,
            &mut world.context(&self.psks),
        )?;
        Ok(self.proposed(proposed))
    }

    fn proposed(&mut self, proposed: folkmoot_mls::group::Proposed) -> Vec<u8> {
        let message = proposed.message.to_bytes();
        self.group = proposed.group;
        self.proposals.insert(message.clone(), proposed.reference);
        message
    }

    /// Takes proposals in, those that are not known yet, and gives the references of all.
    fn learn(
        &mut self,
        proposals: &[Vec<u8>],
        world: &mut World,
    ) -> Result<Vec<ProposalRef>, ClientError> {
        proposals
            .iter()
            .map(|bytes| {
                if let Some(reference) = self.proposals.get(bytes) {
                    return Ok(reference.clone());
                }
                let message = wire::decode("proposal", bytes)?;
                let mut ctx = world.context(&self.psks);
                let processed = self.group.process(&mut self.keys, &message, &mut ctx)?;
                let Processed::Proposal {
                    reference, group, ..
                } = processed
                else {
                    return Err(ClientError::NotAProposal);
                };
                self.group = group;
                self.proposals.insert(bytes.clone(), reference.clone());
                Ok(reference)
            })
            .collect()
    }

    /// Makes a commit of exactly these proposals, which then waits.
    pub fn commit(
        &mut self,
        request: &proto::CommitRequest,
        world: &mut World,
    ) -> Result<&PendingCommit, ClientError> {
        let references = self.learn(&request.by_reference, world)?;
        let mut commit = self
            .group
            .commit()
            .include_proposals(IncludeProposals::Only(references))
            .wire_format(self.wire_format)
            .tree_in_welcome(!request.external_tree);
        if !request.force_path {
            commit = commit.without_path();
        }
        let suite = self.suite(world)?;
        for description in &request.by_value {
            let subject = Subject {
                suite,
                group_id: self.group.group_id(),
                members: &mut self.group.members(),
            };
            commit = commit.proposal(wire::proposal(description, subject, &mut world.rng)?);
        }
        let mut ctx = world.context(&self.psks);
        let pending = commit.build(&mut self.keys, &self.signer, &mut ctx)?;
        Ok(self.pending.insert(Box::new(pending)))
    }

    /// The commit that waits.
    pub fn pending(&self) -> Result<&PendingCommit, ClientError> {
        self.pending.as_deref().ok_or(ClientError::NoPendingCommit)
    }

    /// Drops the commit that waits.
    pub fn give_up(&mut self) {
        self.pending = None;
    }

    /// Moves on to the epoch of our own commit.
    pub fn merge(&mut self) -> Result<(), ClientError> {
        let pending = self.pending.take().ok_or(ClientError::NoPendingCommit)?;
        self.enter(pending.group, pending.keys);
        Ok(())
    }

    /// Follows a commit, which may be our own. `allowed` judges its proposals before it is merged.
    pub fn handle_commit(
        &mut self,
        proposals: &[Vec<u8>],
        commit: &[u8],
        allowed: impl FnOnce(&[Proposal]) -> Result<(), ClientError>,
        world: &mut World,
    ) -> Result<(), ClientError> {
        let message: MlsMessage = wire::decode("commit", commit)?;
        if let Some(pending) = self.pending.as_ref().filter(|own| own.message == message) {
            allowed(&self.proposals_of(pending))?;
            return self.merge();
        }
        self.learn(proposals, world)?;
        let mut ctx = world.context(&self.psks);
        match self.group.process(&mut self.keys, &message, &mut ctx)? {
            Processed::Commit {
                effects,
                group,
                keys,
                ..
            } => {
                let proposals: Vec<_> = effects.proposals.into_iter().map(|(_, p)| p).collect();
                allowed(&proposals)?;
                self.enter(group, keys);
                Ok(())
            }
            Processed::Removed { .. } => Err(ClientError::Removed),
            _ => Err(ClientError::NotACommit),
        }
    }

    fn proposals_of(&self, pending: &PendingCommit) -> Vec<Proposal> {
        let proposals = pending.effects.proposals.iter();
        proposals.map(|(_, proposal)| proposal.clone()).collect()
    }

    fn enter(&mut self, group: Group, keys: MessageKeys) {
        let past = std::mem::replace(&mut self.keys, keys);
        self.past.insert(past.epoch(), past);
        while self.past.len() > PAST_EPOCHS {
            self.past.pop_first();
        }
        self.group = group;
        self.psks.remember(&self.group);
        self.proposals.clear();
        self.pending = None;
    }
}

/// The primitives of a suite.
pub fn suite(
    world: &World,
    cipher_suite: folkmoot_mls::crypto::CipherSuite,
) -> Result<&'static dyn Suite, ClientError> {
    world
        .provider
        .suite(cipher_suite)
        .ok_or(folkmoot_mls::error::Error::UnsupportedCipherSuite(cipher_suite).into())
}
