//! `tree-math`: where nodes are.

use folkmoot_mls::tree_math::{LeafIndex, NodeIndex, depth_for};
use serde::Deserialize;

use crate::check::{Failure, check};

/// One case.
#[derive(Debug, Deserialize)]
pub struct Case {
    n_leaves: u32,
    n_nodes: u32,
    root: u32,
    left: Vec<Option<u32>>,
    right: Vec<Option<u32>>,
    parent: Vec<Option<u32>>,
    sibling: Vec<Option<u32>>,
}

impl Case {
    /// Computes every node's relatives.
    ///
    /// # Errors
    /// [`Failure`], the engine's.
    pub fn verify(&self) -> Result<(), Failure> {
        let last = self
            .n_leaves
            .checked_sub(1)
            .ok_or(Failure::Mismatch("n_leaves"))?;
        let depth = depth_for(LeafIndex(last));
        let root = NodeIndex::root(depth);
        check(root.0 == self.root, "root")?;
        check(root.leaves() == (0..self.n_leaves), "n_leaves")?;
        check(root.0 * 2 + 1 == self.n_nodes, "n_nodes")?;
        let nodes: Vec<_> = (0..self.n_nodes).map(NodeIndex).collect();
        let all = |of: fn(NodeIndex) -> Option<NodeIndex>| -> Vec<Option<u32>> {
            nodes
                .iter()
                .map(|node| of(*node).map(|found| found.0))
                .collect()
        };
        // The root has neither parent nor sibling in this tree.
        let below_root = |mut found: Vec<Option<u32>>| {
            if let Some(place) = found.get_mut(root.0 as usize) {
                *place = None;
            }
            found
        };
        check(all(NodeIndex::left) == self.left, "left")?;
        check(all(NodeIndex::right) == self.right, "right")?;
        let parents = all(|node| Some(node.parent()));
        check(below_root(parents) == self.parent, "parent")?;
        let siblings = all(|node| Some(node.sibling()));
        check(below_root(siblings) == self.sibling, "sibling")
    }
}
