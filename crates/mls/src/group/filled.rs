//! A group in which every member has committed once, made at once.

use rand_core::CryptoRng;

use super::epoch::{Past, PublicState};
use super::{Group, GroupParameters};
use crate::codec::Bytes;
use crate::crypto::{SignatureKeyPair, SignaturePublicKey, Suite};
use crate::group_context::GroupContext;
use crate::key_schedule::EpochSecrets;
use crate::leaf_node::{LeafNode, LeafNodeSource, LeafParameters, LeafPosition};
use crate::message_keys::MessageKeys;
use crate::records::Changes;
use crate::transcript::confirmation_tag;
use crate::tree::filled::FilledTree;
use crate::tree::path::random_secret;
use crate::tree_math::LeafIndex;

/// A group with a filled tree: all of its members in one epoch, each of whom has committed once. No
/// leaf is blank between members, none is unmerged, and of the parent nodes only those are blank that
/// have no member below their right child.
///
/// It takes one key generation for each node and one signature for each member, where as many commits
/// would cost their paths too. What it makes passes all checks of a joiner. It knows everybody's
/// private keys, so it is for tests and measurements alone.
pub struct FilledGroup {
    public: PublicState,
    tree: FilledTree,
    signers: Vec<SignatureKeyPair>,
    secrets: EpochSecrets,
}

impl FilledGroup {
    /// Makes a group of `members` (1 to 2^24), in the epoch after one commit that added all and one
    /// commit by each. `leaf` says for each member and its new signature key what its leaf holds. It and
    /// the extensions in `parameters` are not checked: joiners will.
    ///
    /// # Panics
    /// If there are no members, or too many; or if the suite is not that of `parameters`.
    #[must_use]
    pub fn new(
        suite: &'static dyn Suite,
        parameters: GroupParameters,
        members: u32,
        leaf: &mut dyn FnMut(LeafIndex, &SignaturePublicKey) -> LeafParameters,
        rng: &mut dyn CryptoRng,
    ) -> Self {
        let GroupParameters {
            version,
            cipher_suite,
            group_id,
            extensions,
        } = parameters;
        assert_eq!(suite.id(), cipher_suite);
        let mut signers = Vec::new();
        let mut sign = |leaf_index, encryption_key, parent_hash, rng: &mut dyn CryptoRng| {
            let signer = suite.signature_key_pair(rng);
            let position = LeafPosition {
                group_id: &group_id,
                leaf_index,
            };
            let leaf_node = LeafNode::sign(
                suite,
                &signer,
                leaf(leaf_index, signer.public_key()),
                encryption_key,
                LeafNodeSource::Commit(parent_hash),
                Some(position),
            );
            signers.push(signer);
            leaf_node.expect("a fresh key signs")
        };
        let mut tree = FilledTree::new(suite, members, &mut sign, rng);
        // Stands for that of all the commits.
        let transcript = random_secret(suite.hash_length(), rng);
        let context = GroupContext {
            version,
            cipher_suite,
            group_id,
            epoch: u64::from(members) + 1,
            tree_hash: Bytes::from(tree.tree.tree_hash(suite)),
            confirmed_transcript_hash: Bytes::from(&*transcript),
            extensions,
        };
        let epoch_secret = random_secret(suite.hash_length(), rng);
        let secrets = EpochSecrets::from_epoch_secret(suite, &epoch_secret);
        let tag = confirmation_tag(suite, &secrets.confirmation_key, &transcript);
        Self {
            public: PublicState::new(suite, context, tree.tree.clone(), tag),
            tree,
            signers,
            secrets,
        }
    }

    /// A member's view of the group, the message keys of its epoch, and the key that signs for it. Each
    /// call gives unused message keys: encrypting with those of two calls repeats keys.
    ///
    /// # Panics
    /// If there is no such member.
    #[must_use]
    pub fn member(&self, leaf: LeafIndex) -> (Group, MessageKeys, SignatureKeyPair) {
        let (group, keys, _) = self.enter(leaf);
        (group, keys, self.signer(leaf).clone())
    }

    /// All records of a member, as it would store them after joining.
    ///
    /// # Panics
    /// If there is no such member.
    #[must_use]
    pub fn records(&self, leaf: LeafIndex) -> Changes {
        let (group, _, mut changes) = self.enter(leaf);
        group.record_changes(None, &mut changes);
        changes
    }

    fn signer(&self, leaf: LeafIndex) -> &SignatureKeyPair {
        self.signers.get(leaf.0 as usize).expect("a member")
    }

    fn enter(&self, leaf: LeafIndex) -> (Group, MessageKeys, Changes) {
        self.signer(leaf);
        Group::enter(
            self.public.clone(),
            self.tree.own_keys(leaf),
            self.secrets.clone(),
            Past::default(),
        )
    }
}

impl std::fmt::Debug for FilledGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FilledGroup")
            .field("context", &self.public.context)
            .field("members", &self.signers.len())
            .finish_non_exhaustive()
    }
}
