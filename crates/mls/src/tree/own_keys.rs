//! The private keys that a member holds of the tree (RFC 9420, section 7.5), and what a path adds to
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::path::{PathError, Step, UPDATE_PATH_NODE, node_key_pair};
use super::{Node, Tree};
use crate::codec::{Decode, DecodeError, Encode, Reader};
use crate::commit::UpdatePath;
use crate::crypto::{HpkeKeyPair, HpkePublicKey, Secret, Suite};
use crate::tree_math::{LeafIndex, NodeIndex};

/// The private keys that one member holds: its leaf's, and those of nodes above it. Cheap to clone.
#[derive(Clone)]
pub struct OwnKeys {
    leaf: LeafIndex,
    keys: Arc<BTreeMap<NodeIndex, HpkeKeyPair>>,
}

impl std::fmt::Debug for OwnKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "OwnKeys of leaf {} for nodes {:?}",
            self.leaf,
            self.keys.keys()
        )
    }
}

impl OwnKeys {
    /// The keys of a committer after its own path.
    pub(super) fn of_path(leaf: LeafIndex, keys: BTreeMap<NodeIndex, HpkeKeyPair>) -> Self {
        Self {
            leaf,
            keys: Arc::new(keys),
        }
    }

    /// The keys of a member that has none but its leaf's.
    #[must_use]
    pub fn new(leaf: LeafIndex, leaf_key: HpkeKeyPair) -> Self {
        let keys = BTreeMap::from([(NodeIndex(leaf.0 << 1), leaf_key)]);
        Self {
            leaf,
            keys: Arc::new(keys),
        }
    }

    /// The same member without any key: nothing is encrypted to it any more.
    #[must_use]
    pub(crate) fn emptied(self) -> Self {
        Self {
            leaf: self.leaf,
            keys: Arc::default(),
        }
    }

    /// Whose they are.
    #[must_use]
    pub fn leaf_index(&self) -> LeafIndex {
        self.leaf
    }

    /// The nodes whose private keys are held.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeIndex, &HpkePublicKey)> {
        self.keys
            .iter()
            .map(|(node, pair)| (*node, pair.public_key()))
    }

    /// The key pair of a node, if it is held.
    pub(crate) fn get(&self, node: NodeIndex) -> Option<&HpkeKeyPair> {
        self.keys.get(&node)
    }

    /// More than the encoding takes, in bytes.
    pub(crate) fn encoded_capacity(&self) -> usize {
        let pairs = self.keys.values();
        let pairs = pairs.map(|pair| 16 + pair.private_key().len() + pair.public_key().len());
        16 + pairs.sum::<usize>()
    }

    /// Whether both are the same value in memory: a cheap test that never says yes wrongly.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.leaf == other.leaf && Arc::ptr_eq(&self.keys, &other.keys)
    }

    /// Takes over the key pair of an own Update, which is now in the tree.
    pub fn set_leaf_key(&mut self, leaf_key: HpkeKeyPair) {
        Arc::make_mut(&mut self.keys).insert(NodeIndex(self.leaf.0 << 1), leaf_key);
    }

    /// Forgets, wiping them, the keys of nodes that are blank or have another key by now.
    pub fn retain_current(&mut self, tree: &Tree) {
        let is_current = |node: &NodeIndex, pair: &HpkeKeyPair| {
            tree.node(*node)
                .is_some_and(|node| *node.encryption_key() == **pair.public_key())
        };
        if !self.keys.iter().all(|(node, pair)| is_current(node, pair)) {
            Arc::make_mut(&mut self.keys).retain(|node, pair| is_current(node, pair));
        }
    }

    /// Opens the path secret meant for this member (the second half of what section 7.5 asks of a
    /// recipient), derives the keys above, and returns the commit secret. `tree` has the path
    /// merged; `context` is the encoded provisional GroupContext.
    ///
    /// # Errors
    /// [`PathError`], to the blame of the committer, except [`PathError::NoKey`].
    pub fn open_path(
        &mut self,
        suite: &dyn Suite,
        tree: &Tree,
        steps: &[Step],
        path: &UpdatePath,
        context: &[u8],
        new_members: &BTreeSet<LeafIndex>,
    ) -> Result<Secret, PathError> {
        let own = NodeIndex(self.leaf.0 << 1);
        let position = steps
            .iter()
            .position(|step| step.copath.covers(own))
            .ok_or(PathError::NoKey)?;
        let step = steps[position];
        let ciphertexts = &path
            .nodes
            .get(position)
            .ok_or(PathError::NoKey)?
            .encrypted_path_secret;
        let mut place = 0;
        let found = tree.visit_recipients(step.copath, new_members, |node| {
            if node.covers(own)
                && let Some(key_pair) = self.keys.get(&node)
            {
                return ControlFlow::Break(key_pair);
            }
            place += 1;
            ControlFlow::Continue(())
        });
        let key_pair = found.break_value().ok_or(PathError::NoKey)?;
        let ciphertext = ciphertexts.get(place).ok_or(PathError::NoKey)?;
        let path_secret = suite
            .decrypt_with_label(key_pair, UPDATE_PATH_NODE, context, &ciphertext)
            .map_err(PathError::Decryption)?;
        self.follow(
            suite,
            tree,
            steps[position..].iter().map(|step| step.node),
            path_secret,
        )
    }

    /// Derives the private keys of `nodes` from the path secret of the first of them, checks them
    /// against the public keys in the tree, and returns the secret after the last: the commit
    /// secret.
    ///
    /// # Errors
    /// [`PathError::WrongSecret`], to the blame of the committer.
    pub fn follow(
        &mut self,
        suite: &dyn Suite,
        tree: &Tree,
        nodes: impl Iterator<Item = NodeIndex>,
        mut path_secret: Secret,
    ) -> Result<Secret, PathError> {
        let mut derived = Vec::new();
        for node in nodes {
            let key_pair = node_key_pair(suite, &path_secret);
            let expected = tree.node(node).map(Node::encryption_key);
            if expected != Some(&**key_pair.public_key()) {
                return Err(PathError::WrongSecret(node));
            }
            derived.push((node, key_pair));
            path_secret = suite.derive_secret(&path_secret, "path");
        }
        Arc::make_mut(&mut self.keys).extend(derived);
        Ok(path_secret)
    }
}

/// As kept in our own storage: the leaf, then nodes with their key pairs. The caller wipes what it
/// was written into.
impl Encode for OwnKeys {
    fn encode(&self, out: &mut Vec<u8>) {
        self.leaf.encode(out);
        crate::codec::encode_prefixed(out, |out| {
            for (node, pair) in self.keys.iter() {
                node.0.encode(out);
                pair.encode(out);
            }
        });
    }
}

impl Decode for OwnKeys {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let leaf = LeafIndex::decode(reader)?;
        leaf.node()
            .ok_or(DecodeError::InvalidValue("OwnKeys.leaf"))?;
        let mut keys = BTreeMap::new();
        for (node, pair) in Vec::<(u32, HpkeKeyPair)>::decode(reader)? {
            keys.insert(NodeIndex(node), pair);
        }
        Ok(Self {
            leaf,
            keys: Arc::new(keys),
        })
    }
}
