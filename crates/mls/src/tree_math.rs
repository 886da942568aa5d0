//! Where the nodes of a ratchet tree are (RFC 9420, section 4.1.2 and appendix C).
//!
//! A tree with 2^d leaves is an array of 2^(d+1) - 1 nodes. Leaf i is node 2i; a node of level k
//! has k trailing one bits. Every function here is arithmetic on these numbers. Nothing needs the
//! size of the tree except where the root ends a path.

use crate::codec::{Decode, DecodeError, Encode, Reader};

/// The largest depth that is worked with: a tree has at most 2^24 leaves.
pub const MAX_DEPTH: u32 = 24;

/// The position of a member among the leaves of the tree, from the left, starting at 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeafIndex(pub u32);

impl LeafIndex {
    /// The leaf's place in the array of nodes, if a tree of a size that is worked with has it.
    #[must_use]
    pub fn node(self) -> Option<NodeIndex> {
        (self.0 < 1 << MAX_DEPTH).then_some(NodeIndex(self.0 << 1))
    }
}

impl std::fmt::Display for LeafIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Encode for LeafIndex {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

impl Decode for LeafIndex {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        u32::decode(reader).map(Self)
    }
}

/// The position of a node in the array representation of the tree, at most 2^25 - 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub u32);

impl NodeIndex {
    /// The root of a tree with 2^`depth` leaves.
    #[must_use]
    pub fn root(depth: u32) -> Self {
        Self((1 << depth) - 1)
    }

    /// 0 for a leaf, else one more than the children's level.
    #[must_use]
    pub fn level(self) -> u32 {
        self.0.trailing_ones()
    }

    /// The leaf at this place, if it is one.
    #[must_use]
    pub fn leaf(self) -> Option<LeafIndex> {
        (self.0 & 1 == 0).then_some(LeafIndex(self.0 >> 1))
    }

    /// The left child of a parent node.
    #[must_use]
    pub fn left(self) -> Option<Self> {
        let half = 1 << self.level().checked_sub(1)?;
        Some(Self(self.0 ^ half))
    }

    /// The right child of a parent node.
    #[must_use]
    pub fn right(self) -> Option<Self> {
        let half = 1 << self.level().checked_sub(1)?;
        Some(Self(self.0 + half))
    }

    /// The parent that the node has in every tree in which it is not the root.
    #[must_use]
    pub fn parent(self) -> Self {
        let level = self.level();
        Self((self.0 | (1 << level)) & !(1 << (level + 1)))
    }

    /// The other child of the node's parent.
    #[must_use]
    pub fn sibling(self) -> Self {
        Self(self.0 ^ (1 << (self.level() + 1)))
    }

    /// The ancestor at `level`, which must not lie below the node.
    #[must_use]
    pub fn ancestor(self, level: u32) -> Self {
        debug_assert!(level >= self.level());
        Self((self.0 >> (level + 1) << (level + 1)) | ((1 << level) - 1))
    }

    /// Whether `node` is this node or lies below it.
    #[must_use]
    pub fn covers(self, node: Self) -> bool {
        let level = self.level();
        node.level() <= level && node.0 >> (level + 1) == self.0 >> (level + 1)
    }

    /// The leaves below the node (or the node itself): first and one past the last.
    #[must_use]
    pub fn leaves(self) -> std::ops::Range<u32> {
        let first = self.0 >> (self.level() + 1) << self.level();
        first..first + (1 << self.level())
    }

    /// The lowest node that is above both leaves.
    #[must_use]
    pub fn common_ancestor(a: LeafIndex, b: LeafIndex) -> Self {
        let level = 32 - (a.0 ^ b.0).leading_zeros();
        Self(a.0 << 1).ancestor(level)
    }

    /// The node's direct path in a tree with 2^`depth` leaves, parent first and root last.
    pub fn direct_path(self, depth: u32) -> impl DoubleEndedIterator<Item = Self> + Clone {
        (self.level() + 1..depth + 1).map(move |level| self.ancestor(level))
    }
}

/// The depth of the smallest tree that has the leaf: 0 for leaf 0, 1 for leaf 1, 2 for 2 and 3.
#[must_use]
pub fn depth_for(leaf: LeafIndex) -> u32 {
    32 - leaf.0.leading_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Appendix C's own definitions, which go step by step.
    fn parent_by_rfc(x: u32) -> u32 {
        let k = x.trailing_ones();
        let b = (x >> (k + 1)) & 1;
        (x | (1 << k)) ^ (b << (k + 1))
    }

    #[test]
    fn children_parents_and_siblings_agree() {
        for x in 0..1 << 10 {
            let node = NodeIndex(x);
            assert_eq!(node.parent().0, parent_by_rfc(x));
            assert_eq!(node.sibling().sibling(), node);
            assert_eq!(node.sibling().parent(), node.parent());
            assert_eq!(node.ancestor(node.level() + 1), node.parent());
            match (node.left(), node.right()) {
                (Some(left), Some(right)) => {
                    assert_eq!((left.parent(), right.parent()), (node, node));
                    assert_eq!(left.sibling(), right);
                    assert!(left < node && node < right);
                    assert_eq!(left.leaves().end, right.leaves().start);
                    assert!(node.covers(left) && node.covers(right) && !left.covers(right));
                }
                (None, None) => assert_eq!(node.leaf(), Some(LeafIndex(x / 2))),
                _ => panic!("a node has two children or none"),
            }
        }
    }

    #[test]
    fn paths_end_at_the_root() {
        let path: Vec<_> = NodeIndex(4).direct_path(3).map(|node| node.0).collect();
        assert_eq!(path, [5, 3, 7]);
        assert_eq!(NodeIndex(0).direct_path(0).count(), 0);
        for depth in 1..8 {
            for leaf in 0..1 << depth {
                let node = LeafIndex(leaf).node().unwrap();
                assert_eq!(node.direct_path(depth).last(), Some(NodeIndex::root(depth)));
                assert_eq!(node.direct_path(depth).count() as u32, depth);
            }
        }
    }

    #[test]
    fn the_common_ancestor_is_the_lowest_node_above_both() {
        for a in 0..32 {
            for b in 0..32 {
                let (leaf_a, leaf_b) = (LeafIndex(a), LeafIndex(b));
                let found = NodeIndex::common_ancestor(leaf_a, leaf_b);
                let covers = |node: NodeIndex| {
                    node.covers(leaf_a.node().unwrap()) && node.covers(leaf_b.node().unwrap())
                };
                assert!(covers(found));
                for child in [found.left(), found.right()].into_iter().flatten() {
                    assert!(!covers(child));
                }
            }
        }
    }

    #[test]
    fn a_tree_is_as_deep_as_its_last_leaf_asks() {
        let depths = [0, 1, 2, 2, 3, 3, 3, 3, 4];
        for (leaf, depth) in depths.into_iter().enumerate() {
            assert_eq!(depth_for(LeafIndex(leaf as u32)), depth);
        }
    }
}
