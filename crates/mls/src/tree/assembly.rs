//! A tree that is put together part by part, as from the pages that it is stored in.

use std::collections::BTreeMap;

use super::chunk::Hasher;
use super::node::Node;
use super::{Tree, TreeError};
use crate::crypto::{Hash, Suite};
use crate::tree_math::NodeIndex;

impl Tree {
    /// A tree of 2^`depth` blank leaves.
    pub(crate) fn of_depth(depth: u32) -> Self {
        Self::blank(depth)
    }

    /// Puts a node into its place, which must lie in the tree.
    ///
    /// # Errors
    /// [`TreeError::MisplacedNode`], [`TreeError::DuplicateEncryptionKey`],
    /// [`TreeError::DuplicateSignatureKey`], to the blame of whoever provided it.
    pub(crate) fn place(&mut self, place: NodeIndex, node: Node) -> Result<(), TreeError> {
        if node.leaf().is_some() != place.leaf().is_some() {
            return Err(TreeError::MisplacedNode(place));
        }
        self.put(place, Some(node))
    }

    /// Whether there is a member at or below a node of the tree.
    pub(crate) fn has_members_below(&self, node: NodeIndex) -> bool {
        self.trie.leaves_below(node) > 0
    }

    /// The tree hash of a node, without keeping it if it is not known yet.
    pub(crate) fn hash_of(&self, node: NodeIndex, suite: &dyn Suite) -> Hash {
        match self.trie.cached_hash(node) {
            Some(hash) => hash,
            None => self.clone().node_hash(node, suite),
        }
    }

    /// The tree hash of a node from the nodes above `level` and the hashes of those of that level. Where
    /// there is none, all is blank.
    pub(crate) fn hash_above(
        &self,
        node: NodeIndex,
        level: u32,
        hashes: &BTreeMap<NodeIndex, &[u8]>,
        suite: &dyn Suite,
    ) -> Hash {
        self.hash_down_to(level, node, hashes, &mut Hasher::new(suite))
    }

    fn hash_down_to(
        &self,
        level: u32,
        node: NodeIndex,
        hashes: &BTreeMap<NodeIndex, &[u8]>,
        hasher: &mut Hasher<'_>,
    ) -> Hash {
        match (node.left(), node.right()) {
            (Some(left), Some(right)) if node.level() > level => {
                let left = self.hash_down_to(level, left, hashes, hasher);
                let right = self.hash_down_to(level, right, hashes, hasher);
                hasher.parent(self.node(node), &left, &right)
            }
            _ => {
                let known = hashes.get(&node).copied().and_then(Hash::from_slice);
                known.unwrap_or_else(|| hasher.blank(node))
            }
        }
    }
}
