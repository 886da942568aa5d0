//! Groups (RFC 9420, sections 11 and 12): from one epoch to the next.
//!
//! A [`Group`] is a member's view of a group in one epoch. It is a value: nothing changes it, an
//! operation gives the next one, and whoever does not want that drops it. Cloning shares all.
//!
//! Keys that are used up live apart, in [`MessageKeys`](crate::message_keys::MessageKeys), one value for each epoch.
//!
//! | To | call | and get |
//! | --- | --- | --- |
//! | start a group | [`Group::create`] | [`Created`] |
//! | change it | [`Group::commit`] | [`PendingCommit`], merged when it was ordered |
//! | ask for a change | [`Group::propose`] | [`Proposed`] |
//! | read a message | [`Group::process`] | [`Processed`] |
//! | join by a Welcome | [`Group::join`] | [`Joined`] |
//! | go on after a restart | [`Group::load`], [`Group::load_keys`] | the same values |
//!
//! Every result carries the [`Changes`](crate::records::Changes) to store with it.

mod commit;
mod create;
mod epoch;
mod error;
mod join;
mod process;
mod proposals;
mod propose;
mod records;

pub use commit::{CommitBuilder, IncludeProposals, PendingCommit};
pub use create::{Created, GroupParameters};
pub use error::{CommitError, JoinError, KeyPackageError, ProposalError};
pub use join::Joined;
pub use process::{CommitEffects, Processed};
pub use propose::Proposed;

use std::sync::Arc;

use crate::codec::Bytes;
use crate::context::Context;
use crate::crypto::{
    CipherSuite, CryptoError, HpkeKeyPair, Secret, SignatureKeyPair, SignaturePublicKey, Suite,
};
use crate::error::Error;
use crate::extension::{Extensions, ExternalPub};
use crate::group_context::GroupContext;
use crate::group_info::GroupInfo;
use crate::key_schedule;
use crate::leaf_node::LeafNode;
use crate::message_keys::SignatureKeys;
use crate::proposal::{Proposal, ProposalRef};
use crate::tree::path::OwnKeys;
use crate::tree::{Leaf, Tree};
use crate::tree_math::LeafIndex;

/// A member's view of a group in one epoch. Cheap to clone.
#[derive(Clone)]
pub struct Group(Arc<State>);

#[derive(Clone)]
struct State {
    suite: &'static dyn Suite,
    context: GroupContext,
    tree: Tree,
    own_keys: OwnKeys,
    confirmation_tag: Bytes,
    interim_transcript_hash: Bytes,
    secrets: Secrets,
    proposals: imbl::OrdMap<ProposalRef, Arc<PendingProposal>>,
}

crate::tls_struct! {
    /// The secrets of an epoch that last as long as it does.
    #[derive(Clone)]
    struct Secrets {
        exporter_secret: Secret,
        external_secret: Secret,
        membership_key: Secret,
        resumption_psk: Secret,
        epoch_authenticator: Secret,
        init_secret: Secret,
    }
}

crate::tls_struct! {
    /// A proposal that waits to be committed.
    #[derive(Clone, Debug, PartialEq)]
    pub struct PendingProposal {
        /// The number of proposals that waited when it came.
        pub number: u32,
        /// Who proposes.
        pub sender: LeafIndex,
        /// What.
        pub proposal: Proposal,
        /// The key pair of our own Update.
        own_leaf_key: Option<HpkeKeyPair>,
    }
}

impl Group {
    fn state(&self) -> &State {
        &self.0
    }

    fn suite(&self) -> &'static dyn Suite {
        self.0.suite
    }

    /// What all members agree on in this epoch.
    #[must_use]
    pub fn group_context(&self) -> &GroupContext {
        &self.0.context
    }

    /// The group's id.
    #[must_use]
    pub fn group_id(&self) -> &[u8] {
        &self.0.context.group_id
    }

    /// The number of commits since the group began.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.0.context.epoch
    }

    /// The group's algorithms.
    #[must_use]
    pub fn cipher_suite(&self) -> CipherSuite {
        self.0.context.cipher_suite
    }

    /// The GroupContext's extensions.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.0.context.extensions
    }

    /// Our own leaf.
    #[must_use]
    pub fn own_index(&self) -> LeafIndex {
        self.0.own_keys.leaf_index()
    }

    /// Our own leaf node.
    #[must_use]
    pub fn own_leaf(&self) -> LeafNode {
        self.own_encoded_leaf().leaf_node()
    }

    fn own_encoded_leaf(&self) -> &Leaf {
        self.0
            .tree
            .leaf(self.own_index())
            .expect("a group's own leaf is in its tree")
    }

    /// The number of members.
    #[must_use]
    pub fn member_count(&self) -> u32 {
        self.0.tree.member_count()
    }

    /// All members from left to right. Each is decoded when the iterator comes to it.
    pub fn members(&self) -> impl Iterator<Item = (LeafIndex, LeafNode)> + '_ {
        self.0
            .tree
            .leaves()
            .map(|(index, leaf)| (index, leaf.leaf_node()))
    }

    /// The member at a leaf.
    #[must_use]
    pub fn member(&self, leaf: LeafIndex) -> Option<LeafNode> {
        self.0.tree.leaf(leaf).map(Leaf::leaf_node)
    }

    /// The member with a signature key, found by the index.
    #[must_use]
    pub fn member_by_signature_key(&self, key: &SignaturePublicKey) -> Option<LeafIndex> {
        self.0.tree.find_signature_key(key)
    }

    /// The ratchet tree.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.0.tree
    }

    /// The encoding of the `ratchet_tree`, for joiners who get it outside of the Welcome.
    #[must_use]
    pub fn tree_bytes(&self) -> Vec<u8> {
        self.0.tree.to_ratchet_tree()
    }

    /// The tag of the commit that began the epoch.
    #[must_use]
    pub fn confirmation_tag(&self) -> &[u8] {
        &self.0.confirmation_tag
    }

    /// What members compare out of band, to know that they have the same view of the group (RFC
    /// 9420, section 8.7).
    #[must_use]
    pub fn epoch_authenticator(&self) -> &Secret {
        &self.0.secrets.epoch_authenticator
    }

    /// The PSK that proves membership in this epoch (RFC 9420, section 8.6).
    #[must_use]
    pub fn resumption_psk(&self) -> &Secret {
        &self.0.secrets.resumption_psk
    }

    /// `MLS-Exporter` (RFC 9420, section 8.5): `length` bytes that all members of this epoch can
    /// derive, and nobody else.
    ///
    /// # Errors
    /// [`CryptoError::OutputTooLong`] above 255 times the hash length, the caller's.
    pub fn exporter(
        &self,
        label: &str,
        context: &[u8],
        length: usize,
    ) -> Result<Secret, CryptoError> {
        let secret = &self.0.secrets.exporter_secret;
        key_schedule::exporter(self.suite(), secret, label, context, length)
    }

    /// The proposals of this epoch that wait to be committed, by reference, in the order in which
    /// they came.
    #[must_use]
    pub fn pending_proposals(&self) -> Vec<(&ProposalRef, &PendingProposal)> {
        let mut pending: Vec<_> = self
            .0
            .proposals
            .iter()
            .map(|(reference, pending)| (reference, &**pending))
            .collect();
        pending.sort_by_key(|(_, pending)| pending.number);
        pending
    }

    /// A signed GroupInfo of this epoch: with the tree for those who join, and with the key for
    /// external commits if it is to allow them (RFC 9420, sections 12.4.3 and 12.4.3.2).
    ///
    /// # Errors
    /// [`Error::WrongSigner`] or [`CryptoError::InvalidPrivateKey`], the caller's.
    pub fn group_info(
        &self,
        signer: &SignatureKeyPair,
        with_tree: bool,
        with_external_pub: bool,
    ) -> Result<GroupInfo, Error> {
        self.check_signer(signer)?;
        let mut extensions = Extensions::default();
        if with_external_pub {
            let secret = &self.0.secrets.external_secret;
            let external_pub = key_schedule::external_key_pair(self.suite(), secret).public_key;
            extensions.set(&ExternalPub { external_pub });
        }
        self.signed_group_info(signer, with_tree, extensions)
    }

    /// Proposals that wait are of no use in another epoch; this is how many there are.
    fn next_number(&self) -> u32 {
        self.0
            .proposals
            .values()
            .map(|pending| pending.number + 1)
            .max()
            .unwrap_or(0)
    }

    fn with_proposal(&self, reference: ProposalRef, pending: PendingProposal) -> Self {
        let mut state = State::clone(&self.0);
        state.proposals.insert(reference, Arc::new(pending));
        Self(Arc::new(state))
    }

    fn check_signer(&self, signer: &SignatureKeyPair) -> Result<(), Error> {
        if *signer.public_key == *self.own_encoded_leaf().signature_key() {
            Ok(())
        } else {
            Err(Error::WrongSigner)
        }
    }

    /// Checks that a call's context has this group's suite, which it may come to lack after a
    /// restart with another provider.
    fn check_suite(&self, ctx: &Context<'_>) -> Result<(), Error> {
        ctx.suite(self.cipher_suite()).map(|_| ())
    }
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group")
            .field("context", &self.0.context)
            .field("own_index", &self.own_index())
            .field("members", &self.member_count())
            .finish_non_exhaustive()
    }
}

impl SignatureKeys for Tree {
    fn signature_key(&self, leaf: LeafIndex) -> Option<SignaturePublicKey> {
        self.leaf(leaf).map(|leaf| leaf.signature_key().into())
    }
}
