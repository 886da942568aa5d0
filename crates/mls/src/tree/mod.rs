//! The ratchet tree (RFC 9420, sections 4 and 7).
//!
//! A [`Tree`] is a value: clones share their nodes, and a change copies only the path from the
//! changed node to the root. Beside the nodes it keeps their tree hashes, an index of the keys in
//! use and counts of the members' capabilities, so that no check has to look at all members.
//!
//! | Section | Module |
//! | --- | --- |
//! | 7.1, 7.2: what nodes hold | [`node`](Node) |
//! | 7.4 to 7.6: update paths | [`path`] |
//! | 7.7, 12.1: adding and removing leaves | here |
//! | 7.8: tree hashes | in the trie of nodes |
//! | 7.9: parent hashes | `parent_hash` |
//! | 7.8: proofs that a leaf is in the tree | `proof` |
//! | 7.3, 12.4.3.1: validation | [`leaf_validation`], `validation` |
//! | 12.4.3.3: the ratchet tree as a message | `ratchet_tree`; from parts, `assembly` |

mod assembly;
mod chunk;
#[cfg(feature = "testing")]
pub(crate) mod filled;
mod index;
mod key_index;
pub mod leaf_validation;
mod node;
mod own_keys;
mod parent_hash;
pub mod path;
mod proof;
mod ratchet_tree;
mod records;
#[cfg(all(test, feature = "aws-lc"))]
mod tests;
mod trie;
mod validation;

#[cfg(feature = "testing")]
pub use chunk::copied_chunks;
pub use index::Capability;
pub use leaf_validation::{LeafNodeError, LeafRules};
pub use node::{Leaf, Node};
pub use own_keys::OwnKeys;
pub use proof::{LeafProof, ProofStep};

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use crate::codec::DecodeError;
use crate::credential::CredentialType;
use crate::crypto::{Hash, Suite};
use crate::node::ParentNode;
use crate::tree_math::{LeafIndex, MAX_DEPTH, NodeIndex};
use index::Index;
use trie::Trie;

/// Why a tree, or a change to it, is not valid. Whoever sent it is to blame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// The bytes are no `ratchet_tree`.
    #[error("the ratchet tree cannot be read: {0}")]
    Malformed(#[from] DecodeError),
    /// The last node of a `ratchet_tree` is blank (RFC 9420, section 12.4.3.3).
    #[error("the ratchet tree ends with a blank node")]
    TrailingBlank,
    /// A leaf stands where a parent belongs, or the other way round.
    #[error("node {} has the wrong type for its place", .0.0)]
    MisplacedNode(NodeIndex),
    /// More members than can be worked with.
    #[error("the tree would have more than 2^{MAX_DEPTH} leaves")]
    TooLarge,
    /// There is no member at this leaf.
    #[error("leaf {0} is blank or outside the tree")]
    NoSuchMember(LeafIndex),
    /// Two nodes have the same encryption key.
    #[error("node {} has an encryption key that another node has", .0.0)]
    DuplicateEncryptionKey(NodeIndex),
    /// Two members have the same signature key.
    #[error("leaf {0} has a signature key that another member has")]
    DuplicateSignatureKey(LeafIndex),
    /// The tree hash is not the one in the GroupContext.
    #[error("the tree hash is not the one that the group agreed on")]
    TreeHash,
    /// A parent node is not parent-hash valid (RFC 9420, section 7.9.2).
    #[error("parent node {} is not tied to the tree by a valid parent hash", .0.0)]
    ParentHash(NodeIndex),
    /// A list of unmerged leaves is not in increasing order (RFC 9420, section 7.1).
    #[error("the unmerged leaves of parent node {} are not in order", .0.0)]
    UnmergedLeavesOrder(NodeIndex),
    /// An unmerged leaf is blank, or not below its node (RFC 9420, section 12.4.3.1).
    #[error("leaf {leaf}, unmerged at parent node {}, is no member below it", .node.0)]
    UnmergedLeaf {
        /// The node that lists it.
        node: NodeIndex,
        /// The leaf.
        leaf: LeafIndex,
    },
    /// A leaf is unmerged at some node and not at one between (RFC 9420, section 12.4.3.1).
    #[error("leaf {leaf}, unmerged further up, is missing from parent node {}", .node.0)]
    UnmergedLeafMissing {
        /// The node between.
        node: NodeIndex,
        /// The leaf.
        leaf: LeafIndex,
    },
    /// A member uses a credential type that another does not support.
    #[error("not every member supports credentials of type {0}")]
    UnsupportedCredential(CredentialType),
    /// A leaf node is not valid.
    #[error("leaf {leaf}: {error}")]
    Leaf {
        /// Where it is.
        leaf: LeafIndex,
        /// What is wrong.
        error: LeafNodeError,
    },
}

/// A ratchet tree. Cheap to clone.
#[derive(Clone)]
pub struct Tree {
    trie: Trie,
    /// Of the trie as it is. Made when it is first asked for, and then for all clones at once.
    index: Arc<OnceLock<Index>>,
}

impl Tree {
    /// The tree of a group with one member.
    #[must_use]
    pub fn of_creator(leaf: Leaf) -> Self {
        let mut tree = Self::blank(0);
        tree.put(NodeIndex(0), Some(Node::Leaf(leaf)))
            .expect("one node repeats no key");
        tree
    }

    fn blank(depth: u32) -> Self {
        Self {
            trie: Trie::new(depth),
            index: Arc::new(OnceLock::from(Index::default())),
        }
    }

    /// The tree of these nodes, of which it is known that no two have the same key.
    fn without_index(trie: Trie) -> Self {
        Self {
            trie,
            index: Arc::default(),
        }
    }

    /// The tree of these nodes, or why they are none.
    fn indexed(trie: Trie) -> Result<Self, TreeError> {
        match Index::of(&trie) {
            (_, Some(duplicate)) => Err(duplicate),
            (index, None) => Ok(Self {
                trie,
                index: Arc::new(OnceLock::from(index)),
            }),
        }
    }

    fn index(&self) -> &Index {
        self.index.get_or_init(|| Index::of(&self.trie).0)
    }

    /// The number of members.
    #[must_use]
    pub fn member_count(&self) -> u32 {
        self.trie.len()
    }

    /// The tree has 2^depth leaves, blank ones included.
    #[must_use]
    pub fn depth(&self) -> u32 {
        self.trie.depth()
    }

    /// The root's place.
    #[must_use]
    pub fn root(&self) -> NodeIndex {
        self.trie.root()
    }

    /// The node at a place, or `None` if it is blank or outside the tree.
    #[must_use]
    pub fn node(&self, node: NodeIndex) -> Option<&Node> {
        self.trie.get(node)
    }

    /// The member at a leaf, or `None` if it is blank or outside the tree.
    #[must_use]
    pub fn leaf(&self, leaf: LeafIndex) -> Option<&Leaf> {
        self.trie.get(leaf.node()?)?.leaf()
    }

    /// The members from left to right.
    pub fn leaves(&self) -> impl Iterator<Item = (LeafIndex, &Leaf)> {
        self.trie.leaves()
    }

    /// The member with a signature key.
    #[must_use]
    pub fn find_signature_key(&self, key: &[u8]) -> Option<LeafIndex> {
        self.index().find_signature_key(key, &self.trie)
    }

    /// The node with an encryption key.
    #[must_use]
    pub fn find_encryption_key(&self, key: &[u8]) -> Option<NodeIndex> {
        self.index().find_encryption_key(key, &self.trie)
    }

    /// Whether every member has a capability.
    #[must_use]
    pub fn everybody_has(&self, capability: Capability) -> bool {
        self.index().everybody_has(capability)
    }

    /// A credential type that some member uses and some member does not support.
    #[must_use]
    pub fn unsupported_credential(&self) -> Option<CredentialType> {
        self.index().unsupported_credential()
    }

    /// The tree hash of the root (RFC 9420, section 7.8). Only what changed is computed.
    pub fn tree_hash(&mut self, suite: &dyn Suite) -> Hash {
        self.trie.hash_all(suite)
    }

    /// The tree hash of a node.
    pub fn node_hash(&mut self, node: NodeIndex, suite: &dyn Suite) -> Hash {
        self.trie.hash(node, suite)
    }

    /// The resolution of a node (RFC 9420, section 4.1.1): the fewest nodes that are not blank and
    /// that reach every member below. Blank subtrees are not walked.
    #[must_use]
    pub fn resolution(&self, node: NodeIndex) -> Vec<NodeIndex> {
        let mut found = Vec::new();
        let all = self.trie.resolve(node, &mut |node| {
            found.push(node);
            ControlFlow::<()>::Continue(())
        });
        debug_assert!(all.is_continue());
        found
    }

    /// Applies the changes of a list of proposals in the order that RFC 9420, section 12.3, asks
    /// for: updates, removals, additions. Returns where the additions went.
    ///
    /// # Errors
    /// [`TreeError::NoSuchMember`] for an update or removal of nobody,
    /// [`TreeError::DuplicateEncryptionKey`] and [`TreeError::DuplicateSignatureKey`] for new
    /// leaves whose keys others have after all changes, [`TreeError::TooLarge`]. The tree is then to
    /// be dropped: what came before the mistake was applied.
    pub fn apply(
        &mut self,
        updates: &[(LeafIndex, Leaf)],
        removals: &[LeafIndex],
        additions: &[Leaf],
    ) -> Result<Vec<LeafIndex>, TreeError> {
        // What goes, goes first, so that a key may move from one leaf to another.
        for leaf in updates.iter().map(|(leaf, _)| leaf).chain(removals) {
            let node = self.member_node(*leaf)?;
            self.put(node, None)?;
            self.blank_path(node)?;
        }
        for (leaf, new) in updates {
            let node = leaf.node().ok_or(TreeError::NoSuchMember(*leaf))?;
            self.put(node, Some(Node::Leaf(new.clone())))?;
        }
        if !removals.is_empty() {
            self.truncate();
        }
        let added = additions
            .iter()
            .map(|leaf| self.add(leaf))
            .collect::<Result<Vec<_>, _>>()?;
        self.mark_unmerged(&added);
        Ok(added)
    }

    fn member_node(&self, leaf: LeafIndex) -> Result<NodeIndex, TreeError> {
        leaf.node()
            .filter(|node| self.node(*node).is_some())
            .ok_or(TreeError::NoSuchMember(leaf))
    }

    /// The place of a leaf that may be blank.
    fn leaf_place(&self, leaf: LeafIndex) -> Result<NodeIndex, TreeError> {
        leaf.node()
            .filter(|_| u64::from(leaf.0) < 1 << self.depth())
            .ok_or(TreeError::NoSuchMember(leaf))
    }

    /// The leaf that the next new member gets: the leftmost blank one, for which the tree is extended
    /// if there is none (RFC 9420, section 12.1.1). It stays blank.
    ///
    /// # Errors
    /// [`TreeError::TooLarge`].
    pub fn reserve_leaf(&mut self) -> Result<LeafIndex, TreeError> {
        match self.trie.first_blank() {
            Some(index) => Ok(index),
            None if self.depth() < MAX_DEPTH => {
                let index = LeafIndex(1 << self.depth());
                self.trie.extend();
                Ok(index)
            }
            None => Err(TreeError::TooLarge),
        }
    }

    /// Puts a new member at the leftmost blank leaf. The nodes above do not know of it yet.
    fn add(&mut self, leaf: &Leaf) -> Result<LeafIndex, TreeError> {
        let index = self.reserve_leaf()?;
        let node = index.node().ok_or(TreeError::TooLarge)?;
        self.put(node, Some(Node::Leaf(leaf.clone())))?;
        Ok(index)
    }

    /// Adds new members to the lists of unmerged leaves above them, each list once.
    fn mark_unmerged(&mut self, added: &[LeafIndex]) {
        let mut above = BTreeMap::<NodeIndex, Vec<LeafIndex>>::new();
        for leaf in added {
            for node in leaf
                .node()
                .into_iter()
                .flat_map(|node| node.direct_path(self.depth()))
            {
                if self.node(node).is_some() {
                    above.entry(node).or_default().push(*leaf);
                }
            }
        }
        for (node, new) in above {
            if let Some(Node::Parent(parent)) = self.node(node) {
                let mut parent = ParentNode::clone(parent);
                parent.unmerged_leaves.extend(new);
                parent.unmerged_leaves.sort_unstable();
                self.trie.set(node, Some(Node::Parent(Arc::new(parent))));
            }
        }
    }

    /// Halves the tree while its right half has no member (RFC 9420, section 12.1.3).
    fn truncate(&mut self) {
        let last = self.trie.last_leaf().unwrap_or_default();
        while self.depth() > crate::tree_math::depth_for(last) {
            self.put(self.root(), None)
                .expect("a blank node repeats no key");
            self.trie.truncate();
        }
    }

    fn blank_path(&mut self, leaf: NodeIndex) -> Result<(), TreeError> {
        leaf.direct_path(self.depth())
            .try_for_each(|node| self.put(node, None))
    }

    /// Puts or blanks a node and keeps the index and the counts in step.
    fn put(&mut self, place: NodeIndex, node: Option<Node>) -> Result<(), TreeError> {
        if node.is_none() && self.trie.get(place).is_none() {
            return Ok(());
        }
        self.index();
        let index = Arc::make_mut(&mut self.index).get_mut();
        let index = index.expect("it was just made");
        if let Some(before) = self.trie.get(place) {
            index.remove(place, before);
        }
        if let Some(node) = &node {
            index.insert(place, node, &self.trie)?;
        }
        self.trie.set(place, node);
        Ok(())
    }
}
