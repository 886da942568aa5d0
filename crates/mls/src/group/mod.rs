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
//! | propose from outside | [`propose_as_external_sender`], [`propose_join`] | the message |
//! | read a message | [`Group::process`] | [`Processed`] |
//! | join by a Welcome | [`Group::join`] | [`Joined`] |
//! | join with the tree apart, in pages | [`Group::join_by_pages`] | [`JoinedByPages`] |
//! | join without being asked | [`Group::join_external`] | [`PendingCommit`], merged when it was ordered |
//! | end it for a new one | [`Group::upgrade`], or a ReInit and [`Group::successor`] | [`Upgrade`], [`Successor`] |
//! | begin one beside it | [`Group::branch`] | [`Successor`] |
//! | join one of these | [`Group::join_successor`] | [`Joined`] |
//! | go on after a restart | [`Group::load`], [`Group::load_keys`] | the same values |
//!
//! Every result carries the [`Changes`](crate::records::Changes) to store with it.
//!
//! # Proposals, races and restarts
//!
//! Alice and Bob are in a group, as on the crate's front page. Bob proposes to renew his leaf, and
//! wants to leave; then both commit at once, and Bob's commit is ordered first:
//!
//! ```
//! # use folkmoot_mls::{capabilities::Capabilities, code_point::*, credential::*, error::Error};
//! # use folkmoot_mls::{context::*, crypto::*, extension::Extensions, leaf_node::*, key_package::*};
//! # use folkmoot_mls::framing::Sender;
//! # use folkmoot_mls::{group::*, proposal::Proposal, records::MemoryRecords, component::*};
//! # use rand_core::SeedableRng;
//! # let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(0);
//! # let (provider, cipher_suite) = (&aws_lc::PROVIDER, CipherSuite(1));
//! # let (authentication_service, psks, now) = (&BasicCredentials, &NoPsks, None);
//! # let (components, rng) = (&NoComponents, &mut rng);
//! # let mut ctx = Context { provider, authentication_service, psks, components, now, workers: &OneThread, rng };
//! # let suite = ctx.suite(cipher_suite)?;
//! # let leaf = || LeafParameters {
//! #     credential: Credential::basic(*b"somebody"),
//! #     capabilities: Capabilities {
//! #         versions: vec![ProtocolVersion::MLS10],
//! #         cipher_suites: vec![cipher_suite],
//! #         credentials: vec![CredentialType::BASIC],
//! #         ..Capabilities::default()
//! #     },
//! #     extensions: Extensions::default(),
//! # };
//! # let (alice, bob) = (suite.signature_key_pair(ctx.rng), suite.signature_key_pair(ctx.rng));
//! # let extensions = Extensions::default;
//! # let lifetime = Lifetime { not_before: 0, not_after: 1 };
//! # let offer = KeyPackage::create(suite, &bob, leaf(), lifetime, extensions(), ctx.rng)?;
//! # let group_id = b"group".as_slice().into();
//! # let (version, extensions) = (ProtocolVersion::MLS10, extensions());
//! # let parameters = GroupParameters { version, cipher_suite, group_id, extensions };
//! # let mut created = Group::create(&mut ctx, parameters, &alice, leaf())?;
//! # let commit = created.group.commit().add(offer.key_package.clone());
//! # let pending = commit.build(&mut created.keys, &alice, &mut ctx)?;
//! # let mut records = MemoryRecords::default();
//! # records.apply(&created.changes);
//! # records.apply(&pending.changes);
//! # let (alice_group, mut alice_keys) = (pending.group, pending.keys);
//! # let joined = Group::join(&mut ctx, &pending.welcome.unwrap(), &offer, None)?;
//! # let (bob_group, mut bob_keys) = (joined.group, joined.keys);
//! // By reference: the group that Bob goes on with knows the proposal and its private key.
//! let wire_format = WireFormat::PRIVATE_MESSAGE;
//! let update =
//!     bob_group.propose_update(&mut bob_keys, &bob, None, b"", wire_format, &mut ctx)?;
//! let leave = Proposal::remove(bob_group.own_index());
//! let leave = update.group.propose(&mut bob_keys, &bob, leave, b"", wire_format, &mut ctx)?;
//! let bob_group = leave.group;
//!
//! // Alice did not get them yet when she makes a commit, and Bob makes one too. He can commit neither
//! // of his own proposals, so it only renews his keys.
//! let of_alice = alice_group.commit().build(&mut alice_keys, &alice, &mut ctx)?;
//! let of_bob = bob_group.commit().build(&mut bob_keys, &bob, &mut ctx)?;
//! assert!(of_bob.effects.proposals.is_empty());
//!
//! // Bob's was ordered first. Alice drops hers, and follows.
//! drop(of_alice);
//! let processed = alice_group.process(&mut alice_keys, &of_bob.message, &mut ctx)?;
//! let Processed::Commit { effects, group, keys, changes, .. } = processed else {
//!     panic!("a commit")
//! };
//! assert!(effects.path.is_some() && effects.removed.is_empty());
//! assert_eq!(group.epoch_authenticator(), of_bob.group.epoch_authenticator());
//!
//! // What she stored is enough to go on after a restart; here the keys of the old epoch go at once.
//! records.apply(&changes);
//! records.apply(&alice_keys.deletion());
//! let again = Group::load(&aws_lc::PROVIDER, &records)?;
//! let mut keys = again.load_keys(&aws_lc::PROVIDER, again.epoch(), &records)?;
//!
//! // Proposals end with their epoch. Bob still wants to leave, and Alice removes him by value.
//! let (bob_group, mut bob_keys) = (of_bob.group, of_bob.keys);
//! assert!(bob_group.pending_proposals().is_empty());
//! let removal = again.commit().remove(bob_group.own_index());
//! let removal = removal.build(&mut keys, &alice, &mut ctx)?;
//! let processed = bob_group.process(&mut bob_keys, &removal.message, &mut ctx)?;
//! assert!(matches!(processed, Processed::Removed { by, .. } if by == Sender::Member(again.own_index())));
//! # Ok::<(), Error>(())
//! ```
//!
//! A member who knows of proposals commits before it sends application data (RFC 9420, section 12.4).
//! That is the caller's to do, who sees them by [`Group::pending_proposals`]. Which of them a commit
//! takes in, [`IncludeProposals`] says.

mod commit;
mod components;
mod create;
mod epoch;
mod error;
mod external_commit;
#[cfg(feature = "testing")]
mod filled;
mod gather;
mod join;
mod join_by_pages;
mod list;
mod outside;
mod pending;
mod process;
mod proposals;
mod propose;
mod records;
mod resumption;
mod safe;
mod signatures;
mod successor;

pub use commit::{CommitBuilder, PendingCommit};
pub use create::{Created, GroupParameters};
pub use error::{CommitError, JoinError, KeyPackageError, ProposalError, SuccessorError};
pub use external_commit::ExternalCommitBuilder;
#[cfg(feature = "testing")]
pub use filled::FilledGroup;
pub use gather::IncludeProposals;
pub use join::Joined;
pub use join_by_pages::{JoinByPages, JoinedByPages};
pub use outside::{Destination, propose_as_external_sender, propose_join};
pub use process::{CommitEffects, Processed};
pub use propose::Proposed;
pub use safe::GroupKey;
pub use successor::{Successor, SuccessorBuilder, Upgrade, UpgradeBuilder};

use std::sync::Arc;

use epoch::PublicState;
use pending::{Full, Pending};
use resumption::PastPsks;

use crate::context::Context;
use crate::crypto::{
    CipherSuite, CryptoError, HpkeKeyPair, Secret, SignatureKeyPair, SignaturePublicKey, Suite,
};
use crate::error::Error;
use crate::extension::{Extensions, ExternalPub};
use crate::framing::Sender;
use crate::group_context::GroupContext;
use crate::group_info::GroupInfo;
use crate::key_schedule;
use crate::leaf_node::LeafNode;
use crate::message_keys::SignatureKeys;
use crate::proposal::{Proposal, ProposalRef, ReInit};
use crate::tree::OwnKeys;
use crate::tree::{Leaf, LeafProof, Tree};
use crate::tree_math::LeafIndex;

/// A member's view of a group in one epoch. Cheap to clone.
#[derive(Clone)]
pub struct Group(Arc<State>);

#[derive(Clone)]
struct State {
    public: PublicState,
    own_keys: OwnKeys,
    secrets: Secrets,
    proposals: Pending,
    past_psks: Arc<PastPsks>,
    reinit: Option<Arc<ReInit>>,
}

/// What a GroupInfo is to hold beside the group's state.
#[derive(Clone, Debug, Default)]
pub struct GroupInfoOptions {
    /// The ratchet tree, which whoever joins needs. It is as large as the group.
    pub ratchet_tree: bool,
    /// The key for external commits (RFC 9420, section 12.4.3.2): whoever has it can join.
    pub external_pub: bool,
    /// Further extensions.
    pub extensions: Extensions,
}

crate::tls_struct! {
    /// The secrets of an epoch that last as long as it does.
    #[derive(Clone)]
    struct Secrets {
        exporter_secret: Secret,
        resumption_psk: Secret,
        epoch_authenticator: Secret,
        /// None once a ReInit has ended the group.
        active: Option<ActiveSecrets>,
    }
}

crate::tls_struct! {
    /// Those that nothing uses but messages of the epoch and the next commit.
    #[derive(Clone)]
    struct ActiveSecrets {
        external_secret: Secret,
        membership_key: Secret,
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
        pub sender: Sender,
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

    /// What those outside can know, too.
    fn public(&self) -> &PublicState {
        &self.0.public
    }

    pub(crate) fn suite(&self) -> &'static dyn Suite {
        self.public().suite
    }

    /// What all members agree on in this epoch.
    #[must_use]
    pub fn group_context(&self) -> &GroupContext {
        &self.public().context
    }

    /// The group's id.
    #[must_use]
    pub fn group_id(&self) -> &[u8] {
        &self.group_context().group_id
    }

    /// The number of commits since the group began.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.group_context().epoch
    }

    /// The group's algorithms.
    #[must_use]
    pub fn cipher_suite(&self) -> CipherSuite {
        self.group_context().cipher_suite
    }

    /// The GroupContext's extensions.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.group_context().extensions
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
        self.tree()
            .leaf(self.own_index())
            .expect("a group's own leaf is in its tree")
    }

    /// The number of members.
    #[must_use]
    pub fn member_count(&self) -> u32 {
        self.tree().member_count()
    }

    /// All members from left to right. Each is decoded when the iterator comes to it.
    pub fn members(&self) -> impl Iterator<Item = (LeafIndex, LeafNode)> + '_ {
        self.tree()
            .leaves()
            .map(|(index, leaf)| (index, leaf.leaf_node()))
    }

    /// The member at a leaf.
    #[must_use]
    pub fn member(&self, leaf: LeafIndex) -> Option<LeafNode> {
        self.tree().leaf(leaf).map(Leaf::leaf_node)
    }

    /// The member with a signature key, found by the index.
    #[must_use]
    pub fn member_by_signature_key(&self, key: &SignaturePublicKey) -> Option<LeafIndex> {
        self.tree().find_signature_key(key)
    }

    /// The ratchet tree.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.public().tree
    }

    /// The encoding of the `ratchet_tree`, for joiners who get it outside of the Welcome.
    #[must_use]
    pub fn tree_bytes(&self) -> Vec<u8> {
        self.tree().to_ratchet_tree()
    }

    /// The tag of the commit that began the epoch.
    #[must_use]
    pub fn confirmation_tag(&self) -> &[u8] {
        &self.public().confirmation_tag
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

    pub(crate) fn exporter_secret(&self) -> &Secret {
        &self.0.secrets.exporter_secret
    }

    /// Shows that a member's leaf is in the tree; `None` if there is no such member.
    #[must_use]
    pub fn prove_leaf(&self, leaf: LeafIndex) -> Option<LeafProof> {
        self.tree().prove_leaf(leaf, self.suite())
    }

    /// The proposals of this epoch that wait to be committed, by reference, in the order in which
    /// they came.
    #[must_use]
    pub fn pending_proposals(&self) -> Vec<(&ProposalRef, &PendingProposal)> {
        let proposals = self.0.proposals.iter();
        proposals
            .map(|(reference, pending)| (reference, pending))
            .collect()
    }

    /// A signed GroupInfo of this epoch (RFC 9420, section 12.4.3), for whoever may join by
    /// [`Group::join_external`].
    ///
    /// # Errors
    /// [`Error::GroupSuspended`], [`Error::WrongSigner`] or [`CryptoError::InvalidPrivateKey`], the
    /// caller's.
    pub fn group_info(
        &self,
        signer: &SignatureKeyPair,
        options: GroupInfoOptions,
    ) -> Result<GroupInfo, Error> {
        let secret = &self.active_secrets()?.external_secret;
        self.check_signer(signer)?;
        let mut extensions = options.extensions;
        if options.external_pub {
            let external_pub = key_schedule::external_key_pair(self.suite(), secret)
                .public_key()
                .clone();
            extensions.set(&ExternalPub { external_pub });
        }
        self.signed_group_info(signer, options.ratchet_tree, extensions)
    }

    /// The group that knows one proposal more; this one, if it knows it already.
    fn with_proposal(
        &self,
        reference: ProposalRef,
        sender: Sender,
        proposal: Proposal,
        own_leaf_key: Option<HpkeKeyPair>,
    ) -> Result<Self, Full> {
        if self.0.proposals.get(&reference).is_some() {
            return Ok(self.clone());
        }
        self.0.proposals.room_for(sender)?;
        let pending = PendingProposal {
            number: self.0.proposals.count(),
            sender,
            proposal,
            own_leaf_key,
        };
        let mut state = State::clone(&self.0);
        state.proposals.push(reference, pending);
        Ok(Self(Arc::new(state)))
    }

    fn check_signer(&self, signer: &SignatureKeyPair) -> Result<(), Error> {
        if **signer.public_key() == *self.own_encoded_leaf().signature_key() {
            Ok(())
        } else {
            Err(Error::WrongSigner)
        }
    }

    /// Checks that something may be sent.
    fn check_active(&self) -> Result<(), Error> {
        self.active_secrets().map(|_| ())
    }

    /// The secrets that a suspended group does not have any more.
    fn active_secrets(&self) -> Result<&ActiveSecrets, Error> {
        let secrets = &self.0.secrets;
        secrets.active.as_ref().ok_or(Error::GroupSuspended)
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
            .field("context", self.group_context())
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
