//! A tree as it is once every member has committed, made at once by who holds all private keys.
//!
//! Say that the members commit one after the other from the left. Each parent node is then set last by
//! the rightmost member below it. So what stands in the place of the right child holds the parent's
//! hash (RFC 9420, section 7.9), over the tree hash of the left child; and the parent hash in the left
//! child is from an earlier path, whose keys are gone. Random bytes stand for that one.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand_core::CryptoRng;

use super::parent_hash::parent_hash;
use super::{Leaf, Node, OwnKeys, Tree};
use crate::codec::Bytes;
use crate::crypto::{HpkeKeyPair, HpkePublicKey, Suite};
use crate::leaf_node::LeafNode;
use crate::node::ParentNode;
use crate::tree_math::{LeafIndex, NodeIndex, depth_for};

/// A tree with members at its first leaves, and the key pairs of all nodes.
pub(crate) struct FilledTree {
    pub(crate) tree: Tree,
    keys: BTreeMap<NodeIndex, HpkeKeyPair>,
}

impl FilledTree {
    /// `leaf` signs the leaf node of a member with this encryption key and parent hash.
    ///
    /// # Panics
    /// If there is no member, or more than a tree can have; or if two leaves have the same signature key.
    pub(crate) fn new(
        suite: &dyn Suite,
        members: u32,
        leaf: &mut SignLeaf<'_>,
        rng: &mut dyn CryptoRng,
    ) -> Self {
        let last = LeafIndex(members.checked_sub(1).expect("a group has members"));
        last.node().expect("no more members than a tree can have");
        let mut filling = Filling {
            suite,
            members,
            leaf,
            rng,
            filled: Self {
                tree: Tree::blank(depth_for(last)),
                keys: BTreeMap::new(),
            },
        };
        let root = filling.filled.tree.root();
        filling.fill(root, Bytes::default());
        filling.filled.tree.tree_hash(suite);
        filling.filled
    }

    /// The keys that one member knows: those of its leaf and of all nodes above.
    pub(crate) fn own_keys(&self, leaf: LeafIndex) -> OwnKeys {
        let own = NodeIndex(leaf.0 << 1);
        let path = own.direct_path(self.tree.depth());
        let keys = std::iter::once(own).chain(path);
        let keys = keys.filter_map(|node| Some((node, self.keys.get(&node)?.clone())));
        OwnKeys::of_path(leaf, keys.collect())
    }
}

/// Signs a leaf node.
pub(crate) type SignLeaf<'a> =
    dyn FnMut(LeafIndex, HpkePublicKey, Bytes, &mut dyn CryptoRng) -> LeafNode + 'a;

struct Filling<'a, 'b> {
    suite: &'a dyn Suite,
    members: u32,
    leaf: &'a mut SignLeaf<'b>,
    rng: &'a mut dyn CryptoRng,
    filled: FilledTree,
}

impl Filling<'_, '_> {
    /// Sets a node with this parent hash and all that is below it.
    fn fill(&mut self, node: NodeIndex, above: Bytes) {
        let (Some(left), Some(right)) = (node.left(), node.right()) else {
            let index = LeafIndex(node.0 >> 1);
            let public_key = self.new_key(node);
            let leaf_node = (self.leaf)(index, public_key, above, self.rng);
            return self.put(node, Node::Leaf(Leaf::from(&leaf_node)));
        };
        if right.leaves().start >= self.members {
            // On nobody's filtered direct path (section 4.1.2).
            return self.fill(left, above);
        }
        let parent = ParentNode {
            encryption_key: self.new_key(node),
            parent_hash: above,
            unmerged_leaves: Vec::new(),
        };
        let mut stale = vec![0; self.suite.hash_length()];
        self.rng.fill_bytes(&mut stale);
        self.fill(left, stale.into());
        let sibling_hash = self.filled.tree.node_hash(left, self.suite);
        let below = parent_hash(self.suite, &parent, &sibling_hash);
        self.put(node, Node::Parent(Arc::new(parent)));
        self.fill(right, below.into());
    }

    fn new_key(&mut self, node: NodeIndex) -> HpkePublicKey {
        let pair = self.suite.kem_key_pair(self.rng);
        let public_key = pair.public_key().clone();
        self.filled.keys.insert(node, pair);
        public_key
    }

    fn put(&mut self, place: NodeIndex, node: Node) {
        let put = self.filled.tree.put(place, Some(node));
        put.expect("fresh keys do not repeat");
    }
}
