//! A group as records, written by change.
//!
//! One record holds what an epoch has in common, one our private keys, one each pending proposal, one
//! each chunk of the tree. A commit rewrites the first two and the chunks that it changed. The
//! records of the message keys say too which signature keys the commit before changed, so that
//! messages of a past epoch can be judged after a restart.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::epoch::PublicState;
use super::pending::Pending;
use super::resumption::PastPsks;
use super::{Group, PendingProposal, Secrets, State};
use crate::codec::{Bytes, Encode};
use crate::crypto::{CryptoProvider, SignaturePublicKey};
use crate::error::Error;
use crate::group_context::GroupContext;
use crate::message_keys::{MessageKeys, SignatureKeys};
use crate::proposal::{ProposalRef, ReInit};
use crate::records::{Changes, DamagedRecord, RecordKey, RecordKind, Records, load, versioned};
use crate::tree::OwnKeys;
use crate::tree::Tree;
use crate::tree_math::LeafIndex;

/// More than a group's record takes beside what its fields of any length take: six secrets, hashes.
const REST: usize = 1024;

/// More than the PSK of a past epoch takes.
const PAST_PSK: usize = 80;

crate::tls_struct! {
    /// What an epoch has in common.
    struct StoredGroup {
        context: GroupContext,
        confirmation_tag: Bytes,
        interim_transcript_hash: Bytes,
        tree_depth: u8,
        /// How many wait: each has a record of its own.
        proposals: u32,
        secrets: Secrets,
        past_psks: PastPsks,
        reinit: Option<ReInit>,
    }
}

impl Group {
    /// Adds what is to be stored to come from the records of `before`, or from none, to those of
    /// this group.
    pub(super) fn record_changes(&self, before: Option<&Self>, changes: &mut Changes) {
        let (state, public) = (self.state(), self.public());
        let stored = StoredGroup {
            context: public.context.clone(),
            confirmation_tag: public.confirmation_tag.clone(),
            interim_transcript_hash: public.interim_transcript_hash.clone(),
            tree_depth: public.tree.depth() as u8,
            proposals: state.proposals.count(),
            reinit: self.reinit().cloned(),
            past_psks: PastPsks::clone(&state.past_psks),
            secrets: state.secrets.clone(),
        };
        let size = REST
            + stored.context.to_bytes().len()
            + stored.reinit.to_bytes().len()
            + stored.past_psks.past.len() * PAST_PSK;
        changes.put(group_key(), versioned(&stored, size));
        let before_group = before;
        let before = before.map(Self::state);
        if before.is_none_or(|before| !before.own_keys.is_same(&state.own_keys)) {
            changes.put(
                own_keys_key(),
                versioned(&state.own_keys, state.own_keys.encoded_capacity()),
            );
        }
        public
            .tree
            .record_changes(before_group.map(Self::tree), changes);
        // Within an epoch they only come, and with it they all go.
        let stored = match before_group {
            Some(before) if before.epoch() == self.epoch() => before.state().proposals.count(),
            Some(before) => {
                changes.append(before.proposals_deletion());
                0
            }
            None => 0,
        };
        for proposal in state.proposals.since(stored) {
            let (reference, pending) = proposal;
            let own_key = pending.own_leaf_key.as_ref();
            let own_key = own_key.map(|pair| pair.private_key().len() + pair.public_key().len());
            let public = reference.len() + pending.proposal.to_bytes().len();
            let capacity = 64 + public + own_key.unwrap_or(0);
            let key = proposal_key(self.epoch(), pending.number);
            changes.put(key, versioned(proposal, capacity));
        }
    }

    /// The records of the proposals that wait. To be deleted with the merge of an own commit: its
    /// changes know those only that had come when it was made, and an Update of our own waits with
    /// its private key.
    #[must_use]
    pub fn proposals_deletion(&self) -> Changes {
        let mut changes = Changes::default();
        for number in 0..self.state().proposals.count() {
            changes.delete(proposal_key(self.epoch(), number));
        }
        changes
    }

    /// Reads the message keys of an epoch back: of this one, or of a past one whose keys, and those
    /// of the epochs since, were not deleted.
    ///
    /// # Errors
    /// [`Error::DamagedRecord`], our own storage's fault, or the caller's who deleted the epoch;
    /// [`Error::RecordVersion`]; [`Error::UnsupportedCipherSuite`].
    pub fn load_keys(
        &self,
        provider: &dyn CryptoProvider,
        epoch: u64,
        records: &dyn Records,
    ) -> Result<MessageKeys, Error> {
        let mut replaced = BTreeMap::new();
        for next in epoch..self.epoch() {
            for (leaf, key) in MessageKeys::replaced_keys(next + 1, records)? {
                // The earliest replacement tells what the key was.
                replaced.entry(leaf).or_insert(key);
            }
        }
        let keys = PastSignatureKeys {
            tree: self.tree().clone(),
            replaced,
        };
        MessageKeys::load(provider, epoch, records, Arc::new(keys))
    }

    /// Reads the group back from its records.
    ///
    /// # Errors
    /// [`Error::DamagedRecord`], our own storage's fault; [`Error::RecordVersion`];
    /// [`Error::UnsupportedCipherSuite`].
    pub fn load(provider: &dyn CryptoProvider, records: &dyn Records) -> Result<Self, Error> {
        let stored: StoredGroup = load(records, group_key())?;
        let cipher_suite = stored.context.cipher_suite;
        let suite = provider
            .suite(cipher_suite)
            .ok_or(Error::UnsupportedCipherSuite(cipher_suite))?;
        let mut tree = Tree::load(stored.tree_depth.into(), suite, records)?;
        if *tree.tree_hash(suite) != *stored.context.tree_hash {
            return Err(DamagedRecord(group_key()).into());
        }
        let own_keys: OwnKeys = load(records, own_keys_key())?;
        if tree.leaf(own_keys.leaf_index()).is_none() {
            return Err(DamagedRecord(own_keys_key()).into());
        }
        // A group that ended has no such secrets, any other has.
        if stored.reinit.is_some() == stored.secrets.active.is_some() {
            return Err(DamagedRecord(group_key()).into());
        }
        let mut proposals = Pending::default();
        for number in 0..stored.proposals {
            let key = proposal_key(stored.context.epoch, number);
            let (reference, pending): (ProposalRef, PendingProposal) = load(records, key.clone())?;
            if pending.number != number || proposals.get(&reference).is_some() {
                return Err(DamagedRecord(key).into());
            }
            proposals.push(reference, pending);
        }
        let public = PublicState {
            suite,
            context: stored.context,
            tree,
            confirmation_tag: stored.confirmation_tag,
            interim_transcript_hash: stored.interim_transcript_hash,
        };
        Ok(Self(Arc::new(State {
            public,
            own_keys,
            secrets: stored.secrets,
            proposals,
            past_psks: Arc::new(stored.past_psks),
            reinit: stored.reinit.map(Arc::new),
        })))
    }
}

/// The signature keys of a past epoch: today's, but for those replaced since.
struct PastSignatureKeys {
    tree: Tree,
    replaced: BTreeMap<LeafIndex, Option<SignaturePublicKey>>,
}

impl SignatureKeys for PastSignatureKeys {
    fn signature_key(&self, leaf: LeafIndex) -> Option<SignaturePublicKey> {
        match self.replaced.get(&leaf) {
            Some(key) => key.clone(),
            None => self.tree.signature_key(leaf),
        }
    }
}

fn group_key() -> RecordKey {
    RecordKey::new(RecordKind::Group, &Nothing)
}

fn own_keys_key() -> RecordKey {
    RecordKey::new(RecordKind::PrivateKeys, &Nothing)
}

fn proposal_key(epoch: u64, number: u32) -> RecordKey {
    RecordKey::new(RecordKind::Proposal, &(epoch, number))
}

/// What tells the only record of a kind from others.
struct Nothing;

impl Encode for Nothing {
    fn encode(&self, _out: &mut Vec<u8>) {}
}
