//! That a leaf is in a tree, shown without the tree (RFC 9420, section 7.8): what the tree hash is made
//! of on the way from the leaf to the root.

use std::sync::Arc;

use super::chunk::Hasher;
use super::{Leaf, Node, Tree};
use crate::codec::Bytes;
use crate::crypto::{Hash, Suite};
use crate::leaf_node::LeafNode;
use crate::node::ParentNode;
use crate::tree_math::{LeafIndex, MAX_DEPTH, NodeIndex};

crate::tls_struct! {
    /// One level of a [`LeafProof`].
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ProofStep {
        /// The node above; absent if it is blank.
        pub parent_node: Option<ParentNode>,
        /// The tree hash of its other child.
        pub sibling_hash: Bytes,
    }
}

crate::tls_struct! {
    /// A leaf's way to the root, from below. It grows with the tree's depth.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct LeafProof {
        /// One for each level above the leaf.
        pub steps: Vec<ProofStep>,
    }
}

impl Tree {
    /// Shows that a leaf is in this tree; `None` if it is blank or outside of it.
    #[must_use]
    pub fn prove_leaf(&self, leaf: LeafIndex, suite: &dyn Suite) -> Option<LeafProof> {
        self.leaf(leaf)?;
        // Hashing fills in what is not known yet; the clone shares all nodes.
        let mut tree = self.clone();
        let (mut node, mut steps) = (leaf.node()?, Vec::new());
        for parent in node.direct_path(self.depth()) {
            steps.push(ProofStep {
                parent_node: self.node(parent).and_then(Node::parent).cloned(),
                sibling_hash: tree.node_hash(node.sibling(), suite).into(),
            });
            node = parent;
        }
        Some(LeafProof { steps })
    }
}

impl LeafProof {
    /// The hash of the tree that has this leaf at this place; `None` if no tree has such a place.
    #[must_use]
    pub fn tree_hash(
        &self,
        leaf: LeafIndex,
        leaf_node: &LeafNode,
        suite: &dyn Suite,
    ) -> Option<Hash> {
        let depth = u32::try_from(self.steps.len()).ok()?;
        if depth > MAX_DEPTH || leaf.0 >> depth != 0 {
            return None;
        }
        let mut hasher = Hasher::new(suite);
        let mut node: NodeIndex = leaf.node()?;
        let mut hash = hasher.leaf(leaf, Some(&Leaf::from(leaf_node)));
        for step in &self.steps {
            let parent = step.parent_node.clone();
            let parent = parent.map(|parent| Node::Parent(Arc::new(parent)));
            let sibling = &step.sibling_hash;
            hash = if node.parent().left() == Some(node) {
                hasher.parent(parent.as_ref(), &hash, sibling)
            } else {
                hasher.parent(parent.as_ref(), sibling, &hash)
            };
            node = node.parent();
        }
        Some(hash)
    }
}
