//! Parent hashes (RFC 9420, section 7.9): they tie the keys that one commit put on its path to
//! each other and to the leaf that signed, so that a joiner knows that members chose them.

use std::ops::ControlFlow;

use super::chunk::Hasher;
use super::node::Node;
use super::{Tree, TreeError};
use crate::codec::{Decode, Encode, encode_bytes};
use crate::crypto::{Hash, Suite};
use crate::leaf_node::LeafNodeSource;
use crate::node::ParentNode;
use crate::tree_math::{LeafIndex, NodeIndex};

/// "Parent hash of P with copath child S": the hash of a `ParentHashInput`.
pub(super) fn parent_hash(
    suite: &dyn Suite,
    parent: &ParentNode,
    original_sibling_tree_hash: &[u8],
) -> Hash {
    let mut input = Vec::with_capacity(192);
    parent.encryption_key.encode(&mut input);
    parent.parent_hash.encode(&mut input);
    encode_bytes(original_sibling_tree_hash, &mut input);
    suite.hash(&input)
}

impl Tree {
    /// Verifies that every parent node that is not blank is parent-hash valid (section 7.9.2), and
    /// that its unmerged leaves are what section 12.4.3.1 asks for.
    pub(super) fn verify_parents(&mut self, suite: &dyn Suite) -> Result<(), TreeError> {
        // Hashes are read below while nodes are borrowed.
        self.tree_hash(suite);
        self.verify_parents_below(self.root(), 0, suite)
    }

    /// The same for the node and those below it that are above `level`, once their tree hashes are
    /// known. Nothing is looked at that is not below the node.
    pub(crate) fn verify_parents_below(
        &self,
        root: NodeIndex,
        level: u32,
        suite: &dyn Suite,
    ) -> Result<(), TreeError> {
        let mut parents = Vec::new();
        let mut pending = vec![root];
        while let Some(node) = pending.pop() {
            let (Some(left), Some(right)) = (node.left(), node.right()) else {
                continue;
            };
            if node.level() <= level {
                continue;
            }
            match self.node(node) {
                Some(Node::Parent(parent)) => {
                    self.verify_unmerged_leaves(node, parent)?;
                    parents.push((node, parent, left, right));
                }
                Some(Node::Leaf(_)) => return Err(TreeError::MisplacedNode(node)),
                None if self.trie.holds_nothing(node) => continue,
                None => {}
            }
            pending.extend([right, left]);
        }
        for (node, parent, left, right) in parents {
            // "Exactly one" (section 7.9.2): one path only can have set this node last.
            if self.is_child_valid(suite, parent, left, right)
                == self.is_child_valid(suite, parent, right, left)
            {
                return Err(TreeError::ParentHash(node));
            }
        }
        Ok(())
    }

    fn verify_unmerged_leaves(
        &self,
        node: NodeIndex,
        parent: &ParentNode,
    ) -> Result<(), TreeError> {
        let unmerged = &parent.unmerged_leaves;
        if !unmerged.is_sorted_by(|a, b| a < b) {
            return Err(TreeError::UnmergedLeavesOrder(node));
        }
        for leaf in unmerged.iter().copied() {
            if !node.leaves().contains(&leaf.0) || self.leaf(leaf).is_none() {
                return Err(TreeError::UnmergedLeaf { node, leaf });
            }
            for level in 1..node.level() {
                let node = NodeIndex(leaf.0 << 1).ancestor(level);
                if let Some(Node::Parent(between)) = self.node(node)
                    && between.unmerged_leaves.binary_search(&leaf).is_err()
                {
                    return Err(TreeError::UnmergedLeafMissing { node, leaf });
                }
            }
        }
        Ok(())
    }

    /// Whether some node D at or below `child` has the parent hash of `parent` with copath child
    /// `sibling`, under the conditions of section 7.9.2.
    fn is_child_valid(
        &self,
        suite: &dyn Suite,
        parent: &ParentNode,
        child: NodeIndex,
        sibling: NodeIndex,
    ) -> bool {
        let unmerged_below = below(&parent.unmerged_leaves, child);
        // The resolution without D must be the unmerged leaves, so D is what is left.
        let expected = unmerged_below.len() + 1;
        let mut resolution = Vec::new();
        let more = self.trie.resolve(child, &mut |node| {
            if resolution.len() == expected {
                return ControlFlow::Break(());
            }
            resolution.push(node);
            ControlFlow::Continue(())
        });
        if more.is_break() || resolution.len() != expected {
            return false;
        }
        let mut others = resolution.iter().filter(|node| {
            node.leaf()
                .is_none_or(|leaf| unmerged_below.binary_search(&leaf).is_err())
        });
        let (Some(candidate), None) = (others.next(), others.next()) else {
            return false;
        };
        let expected = match self.node(*candidate) {
            Some(Node::Parent(node)) => node.parent_hash.clone(),
            Some(Node::Leaf(leaf)) => match LeafNodeSource::from_bytes(leaf.parts().source) {
                Ok(LeafNodeSource::Commit(parent_hash)) => parent_hash,
                _ => return false,
            },
            None => return false,
        };
        let unmerged = below(&parent.unmerged_leaves, sibling);
        let original = self.original_tree_hash(&mut Hasher::new(suite), sibling, unmerged);
        *parent_hash(suite, parent, &original) == *expected
    }

    /// The tree hash of a node in the tree without some leaves: blanked, and gone from all lists of
    /// unmerged leaves.
    fn original_tree_hash(
        &self,
        hasher: &mut Hasher<'_>,
        node: NodeIndex,
        without: &[LeafIndex],
    ) -> Hash {
        if without.is_empty()
            && let Some(hash) = self.trie.cached_hash(node)
        {
            return hash;
        }
        let (Some(left), Some(right)) = (node.left(), node.right()) else {
            let leaf = self
                .node(node)
                .and_then(Node::leaf)
                .filter(|_| without.is_empty());
            return hasher.leaf(LeafIndex(node.0 >> 1), leaf);
        };
        let left_hash = self.original_tree_hash(hasher, left, below(without, left));
        let right_hash = self.original_tree_hash(hasher, right, below(without, right));
        let changed = match self.node(node) {
            Some(Node::Parent(parent)) if !without.is_empty() => {
                let mut parent = ParentNode::clone(parent);
                parent
                    .unmerged_leaves
                    .retain(|leaf| without.binary_search(leaf).is_err());
                Some(Node::Parent(parent.into()))
            }
            other => other.cloned(),
        };
        hasher.parent(changed.as_ref(), &left_hash, &right_hash)
    }
}

/// The part of a sorted list of leaves that lies below a node.
fn below(leaves: &[LeafIndex], node: NodeIndex) -> &[LeafIndex] {
    let range = node.leaves();
    let start = leaves.partition_point(|leaf| leaf.0 < range.start);
    let end = leaves.partition_point(|leaf| leaf.0 < range.end);
    &leaves[start..end]
}
