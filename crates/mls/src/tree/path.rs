//! TreeKEM: fresh keys from a committer's leaf to the root, and the secrets that let the others
//! follow (RFC 9420, sections 7.4 to 7.6).
//!
//! The committer calls [`Tree::renew_path`] and then, with the GroupContext that has the new tree
//! hash, [`NewPath::encrypt`]. The others call [`Tree::merge_path`] and then, with the same
//! GroupContext, [`OwnKeys::open_path`](super::OwnKeys::open_path).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use rand_core::CryptoRng;

use super::node::{Leaf, Node};
use super::parent_hash::parent_hash;
use super::{OwnKeys, Tree, TreeError};
use crate::codec::Bytes;
use crate::commit::{UpdatePath, UpdatePathNode};
use crate::crypto::{CryptoError, HpkeKeyPair, HpkePublicKey, Secret, SignatureKeyPair, Suite};
use crate::leaf_node::{LeafNode, LeafNodeSource, LeafParameters, LeafPosition};
use crate::node::ParentNode;
use crate::tree_math::{LeafIndex, NodeIndex};
use crate::workers::{Workers, by_chunks};

/// Recipients of HPKE in one job of [`Workers`].
pub(crate) const SEALS: usize = 128;

/// Label of the encryption of path secrets.
pub const UPDATE_PATH_NODE: &str = "UpdatePathNode";

/// Why an update path is refused. The committer is to blame, unless noted. Every member finds the same
/// but for `Decryption`, `WrongSecret` and `NoKey`, which those find whose secret is meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// There is not one node for each node of the filtered direct path.
    #[error("the path has {found} nodes instead of {expected}")]
    Length {
        /// As many as the filtered direct path has.
        expected: usize,
        /// As many as came.
        found: usize,
    },
    /// There is not one ciphertext for each node of the resolution.
    #[error("path node {} has {found} ciphertexts instead of {expected}", .node.0)]
    Ciphertexts {
        /// Which node.
        node: NodeIndex,
        /// As many as the resolution has without new members.
        expected: usize,
        /// As many as came.
        found: usize,
    },
    /// The committer's leaf keeps its encryption key (section 12.4.2).
    #[error("the leaf of the path keeps its encryption key")]
    LeafKeyNotRenewed,
    /// A key of the path is in the tree already, or twice in the path.
    #[error("path node {} repeats an encryption key", .0.0)]
    RepeatedKey(NodeIndex),
    /// A key of the path is no key of the suite.
    #[error("path node {}: {error}", .node.0)]
    InvalidKey {
        /// Which node.
        node: NodeIndex,
        /// What is wrong.
        error: CryptoError,
    },
    /// The leaf does not say that it came in a commit (section 7.3).
    #[error("the leaf of the path is not one of a commit")]
    LeafNodeSource,
    /// The leaf's parent hash is not that of the path (section 7.9.2).
    #[error("the parent hash of the leaf does not fit the path")]
    ParentHash,
    /// The path secret for us does not open.
    #[error("the path secret cannot be decrypted: {0}")]
    Decryption(CryptoError),
    /// A path secret does not give the public key that the path announced.
    #[error("the path secret of node {} does not give its public key", .0.0)]
    WrongSecret(NodeIndex),
    /// We have no key that the path was encrypted to. Our own state is to blame.
    #[error("none of our keys opens the path")]
    NoKey,
    /// The tree refuses the new nodes.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A public key of the tree cannot be encrypted to, or our signature key is malformed.
    #[error("{0}")]
    Crypto(#[from] CryptoError),
}

/// One node of a filtered direct path: its place, and its child on the copath.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The node that gets a new key.
    pub node: NodeIndex,
    /// The child whose members the new path secret is encrypted to.
    pub copath: NodeIndex,
}

/// A path that [`Tree::renew_path`] made, with its secrets.
pub struct NewPath {
    leaf_node: LeafNode,
    steps: Vec<Step>,
    path_secrets: Vec<Secret>,
    public_keys: Vec<HpkePublicKey>,
    /// `path_secret[n + 1]`, for the key schedule.
    pub commit_secret: Secret,
    /// The committer's private keys for the new path.
    pub own_keys: OwnKeys,
}

impl Tree {
    /// The filtered direct path of a leaf, from below (section 4.1.2): its direct path without the
    /// nodes whose child on the copath has an empty resolution.
    #[must_use]
    pub fn filtered_direct_path(&self, leaf: LeafIndex) -> Vec<Step> {
        let Some(start) = leaf.node() else {
            return Vec::new();
        };
        let mut below = start;
        let mut steps = Vec::new();
        for node in start.direct_path(self.depth()) {
            let copath = below.sibling();
            if self.trie.leaves_below(copath) > 0 {
                steps.push(Step { node, copath });
            }
            below = node;
        }
        steps
    }

    /// Gives `leaf` and the nodes of its filtered direct path fresh keys, and signs the leaf node
    /// with its new parent hash. The tree hash of the result goes into the GroupContext that
    /// [`NewPath::encrypt`] takes. Who joins by its path has a blank leaf before, see
    /// [`Tree::reserve_leaf`].
    ///
    /// # Errors
    /// [`PathError::Tree`] if the leaf is outside the tree, or if the signature key is another member's;
    /// [`PathError::Crypto`] if the signature key is malformed. All to the blame of the caller.
    pub fn renew_path(
        &mut self,
        suite: &dyn Suite,
        leaf: LeafIndex,
        parameters: LeafParameters,
        signer: &SignatureKeyPair,
        group_id: &[u8],
        rng: &mut dyn CryptoRng,
    ) -> Result<NewPath, PathError> {
        self.leaf_place(leaf)?;
        let steps = self.filtered_direct_path(leaf);
        let leaf_key = suite.kem_key_pair(rng);
        let mut keys = BTreeMap::new();
        let mut path_secrets = Vec::with_capacity(steps.len());
        let mut public_keys = Vec::with_capacity(steps.len());
        let mut path_secret = random_secret(suite.hash_length(), rng);
        for step in &steps {
            let key_pair = node_key_pair(suite, &path_secret);
            public_keys.push(key_pair.public_key().clone());
            keys.insert(step.node, key_pair);
            let next = suite.derive_secret(&path_secret, "path");
            path_secrets.push(std::mem::replace(&mut path_secret, next));
        }
        // Without other members there is no node to encrypt to, and the first secret is the last.
        let parent_hash = self.set_path(suite, leaf, &steps, &public_keys)?;
        let leaf_node = LeafNode::sign(
            suite,
            signer,
            parameters,
            leaf_key.public_key().clone(),
            LeafNodeSource::Commit(parent_hash),
            Some(LeafPosition {
                group_id,
                leaf_index: leaf,
            }),
        )?;
        keys.insert(NodeIndex(leaf.0 << 1), leaf_key);
        self.set_leaf(leaf, Leaf::from(&leaf_node))?;
        Ok(NewPath {
            leaf_node,
            steps,
            path_secrets,
            public_keys,
            commit_secret: path_secret,
            own_keys: OwnKeys::of_path(leaf, keys),
        })
    }

    /// Checks a received path and puts its keys into the tree (the first half of what section 7.5
    /// asks of a recipient). The leaf node is to be checked by the caller.
    ///
    /// # Errors
    /// [`PathError`], to the blame of the committer.
    pub fn merge_path(
        &mut self,
        suite: &dyn Suite,
        committer: LeafIndex,
        path: &UpdatePath,
        new_members: &BTreeSet<LeafIndex>,
    ) -> Result<Vec<Step>, PathError> {
        let leaf_place = self.leaf_place(committer)?;
        let steps = self.filtered_direct_path(committer);
        if steps.len() != path.nodes.len() {
            return Err(PathError::Length {
                expected: steps.len(),
                found: path.nodes.len(),
            });
        }
        let mut seen = BTreeSet::new();
        let places = std::iter::once(leaf_place).chain(steps.iter().map(|step| step.node));
        let leaf_key = &path.leaf_node.encryption_key;
        if self.node(leaf_place).map(Node::encryption_key) == Some(leaf_key) {
            return Err(PathError::LeafKeyNotRenewed);
        }
        let keys = std::iter::once(leaf_key).chain(path.nodes.iter().map(|n| &n.encryption_key));
        for (place, key) in places.zip(keys) {
            suite
                .kem_check_public_key(key)
                .map_err(|error| PathError::InvalidKey { node: place, error })?;
            if self.find_encryption_key(key).is_some() || !seen.insert(key) {
                return Err(PathError::RepeatedKey(place));
            }
        }
        for (step, node) in steps.iter().zip(&path.nodes) {
            let mut expected = 0;
            let _: ControlFlow<()> = self.visit_recipients(step.copath, new_members, |_| {
                expected += 1;
                ControlFlow::Continue(())
            });
            let found = node.encrypted_path_secret.len();
            if expected != found {
                return Err(PathError::Ciphertexts {
                    node: step.node,
                    expected,
                    found,
                });
            }
        }
        let public_keys: Vec<_> = path
            .nodes
            .iter()
            .map(|node| node.encryption_key.clone())
            .collect();
        let parent_hash = self.set_path(suite, committer, &steps, &public_keys)?;
        match &path.leaf_node.leaf_node_source {
            LeafNodeSource::Commit(found) if *found == parent_hash => {}
            LeafNodeSource::Commit(_) => return Err(PathError::ParentHash),
            _ => return Err(PathError::LeafNodeSource),
        }
        self.set_leaf(committer, Leaf::from(&path.leaf_node))?;
        Ok(steps)
    }

    /// Who a path secret is encrypted to: the resolution of the copath node without the members
    /// that the same commit adds, who learn it from their Welcome.
    #[must_use]
    pub fn recipients(
        &self,
        copath: NodeIndex,
        new_members: &BTreeSet<LeafIndex>,
    ) -> Vec<NodeIndex> {
        let mut recipients = Vec::new();
        let _: ControlFlow<()> = self.visit_recipients(copath, new_members, |node| {
            recipients.push(node);
            ControlFlow::Continue(())
        });
        recipients
    }

    /// Shows them in their order, without writing them down, until `visit` has seen enough.
    pub(super) fn visit_recipients<B>(
        &self,
        copath: NodeIndex,
        new_members: &BTreeSet<LeafIndex>,
        mut visit: impl FnMut(NodeIndex) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        self.trie.resolve(copath, &mut |node| {
            let is_new = node.leaf().is_some_and(|leaf| new_members.contains(&leaf));
            if is_new {
                ControlFlow::Continue(())
            } else {
                visit(node)
            }
        })
    }

    /// Blanks the direct path and puts the keys on the filtered one, with parent hashes from the
    /// root down. Returns the leaf's.
    fn set_path(
        &mut self,
        suite: &dyn Suite,
        leaf: LeafIndex,
        steps: &[Step],
        public_keys: &[HpkePublicKey],
    ) -> Result<Bytes, PathError> {
        self.blank_path(self.leaf_place(leaf)?)?;
        let mut above = Bytes::default();
        for (step, key) in steps.iter().zip(public_keys).rev() {
            let node = ParentNode {
                encryption_key: key.clone(),
                parent_hash: above,
                unmerged_leaves: Vec::new(),
            };
            let sibling_hash = self.node_hash(step.copath, suite);
            above = Bytes::from(parent_hash(suite, &node, &sibling_hash));
            self.put(step.node, Some(Node::Parent(Arc::new(node))))?;
        }
        Ok(above)
    }

    fn set_leaf(&mut self, leaf: LeafIndex, node: Leaf) -> Result<(), TreeError> {
        let place = self.leaf_place(leaf)?;
        self.put(place, Some(Node::Leaf(node)))
    }
}

impl NewPath {
    /// The committer's new leaf node.
    #[must_use]
    pub fn leaf_node(&self) -> &LeafNode {
        &self.leaf_node
    }

    /// Encrypts the path secrets to the other members. `context` is the encoded provisional
    /// GroupContext, `tree` the tree with the new path.
    ///
    /// # Errors
    /// [`PathError::Crypto`] for a key in the tree that cannot be encrypted to, to the blame of who
    /// put it there.
    pub fn encrypt(
        &self,
        suite: &dyn Suite,
        tree: &Tree,
        context: &[u8],
        new_members: &BTreeSet<LeafIndex>,
        workers: &dyn Workers,
        rng: &mut dyn CryptoRng,
    ) -> Result<UpdatePath, PathError> {
        // The same for all recipients of all nodes, so it is hashed once.
        let info = suite.encrypt_info(UPDATE_PATH_NODE, context);
        let mut recipients = Vec::new();
        let mut counts = Vec::with_capacity(self.steps.len());
        for (step, path_secret) in self.steps.iter().zip(&self.path_secrets) {
            let before = recipients.len();
            for recipient in tree.recipients(step.copath, new_members) {
                let key = tree.node(recipient).map(Node::encryption_key);
                recipients.extend(key.map(|key| (key, path_secret)));
            }
            counts.push(recipients.len() - before);
        }
        let sealed = by_chunks(workers, &recipients, SEALS, rng, |_, chunk, rng| {
            let seal = |(key, path_secret): &(&[u8], &Secret)| {
                suite.hpke_seal(key, &info, &[], path_secret, rng)
            };
            chunk.iter().map(seal).collect::<Result<Vec<_>, _>>()
        });
        let sealed: Vec<_> = sealed.into_iter().collect::<Result<_, _>>()?;
        let mut sealed = sealed.into_iter().flatten();
        let nodes = counts
            .into_iter()
            .zip(&self.public_keys)
            .map(|(count, public_key)| UpdatePathNode {
                encryption_key: public_key.clone(),
                encrypted_path_secret: sealed.by_ref().take(count).collect(),
            })
            .collect();
        Ok(UpdatePath {
            leaf_node: self.leaf_node.clone(),
            nodes,
        })
    }

    /// The path secret that a new member's Welcome carries: that of the lowest node above both the
    /// committer and the new member.
    #[must_use]
    pub fn secret_for(&self, new_member: LeafIndex) -> Option<&Secret> {
        let common = NodeIndex::common_ancestor(self.own_keys.leaf_index(), new_member);
        let position = self.steps.iter().position(|step| step.node == common)?;
        self.path_secrets.get(position)
    }
}

/// The key pair of a node (section 7.4).
pub(super) fn node_key_pair(suite: &dyn Suite, path_secret: &Secret) -> HpkeKeyPair {
    suite.kem_derive_key_pair(&suite.derive_secret(path_secret, "node"))
}

/// A fresh secret.
pub(crate) fn random_secret(length: usize, rng: &mut dyn CryptoRng) -> Secret {
    let mut bytes = zeroize::Zeroizing::new(vec![0; length]);
    rng.fill_bytes(&mut bytes);
    Secret::from(bytes)
}
