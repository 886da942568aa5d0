//! The ratchet tree as an array, by the letter (RFC 9420, sections 4, 7.7 to 7.9, 12.3, appendix C).

use folkmoot_mls::codec::{Bytes, Decode, Encode};
use folkmoot_mls::crypto::{HpkePublicKey, Suite};
use folkmoot_mls::key_package::KeyPackage;
use folkmoot_mls::leaf_node::LeafNode;
use folkmoot_mls::node::{Node, ParentNode, RatchetTree};
use folkmoot_mls::proposal::Proposal;
use folkmoot_mls::tree_math::{LeafIndex, NodeIndex};

/// A ratchet tree as an array of 2^(d+1) - 1 nodes (RFC 9420, appendix C).
#[derive(Clone)]
pub struct Nodes(pub Vec<Option<Node>>);

impl Nodes {
    pub fn of(bytes: &[u8]) -> Self {
        let mut nodes = RatchetTree::from_bytes(bytes).unwrap().0;
        let width = (nodes.len() + 1).next_power_of_two() - 1;
        nodes.resize(width, None);
        Self(nodes)
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let last = self.0.iter().rposition(Option::is_some).unwrap();
        RatchetTree(self.0[..=last].to_vec()).to_bytes()
    }

    pub fn depth(&self) -> u32 {
        (self.0.len() + 1).trailing_zeros() - 1
    }

    pub fn get(&self, node: NodeIndex) -> Option<&Node> {
        self.0.get(node.0 as usize)?.as_ref()
    }

    pub fn leaf(&self, leaf: LeafIndex) -> Option<&LeafNode> {
        match self.get(NodeIndex(leaf.0.checked_mul(2)?))? {
            Node::Leaf(leaf) => Some(leaf),
            Node::Parent(_) => None,
        }
    }

    pub fn set(&mut self, node: NodeIndex, content: Option<Node>) {
        self.0[node.0 as usize] = content;
    }

    pub fn edit_parent(&mut self, node: NodeIndex, edit: impl FnOnce(&mut ParentNode)) {
        let Some(Node::Parent(parent)) = &mut self.0[node.0 as usize] else {
            panic!("node {} is no parent", node.0)
        };
        edit(parent);
    }

    pub fn edit_leaf(&mut self, leaf: LeafIndex, edit: impl FnOnce(&mut LeafNode)) {
        let Some(Node::Leaf(leaf)) = &mut self.0[leaf.0 as usize * 2] else {
            panic!("nobody is at leaf {leaf}")
        };
        edit(leaf);
    }

    pub fn direct_path(&self, leaf: LeafIndex) -> Vec<NodeIndex> {
        NodeIndex(leaf.0 * 2).direct_path(self.depth()).collect()
    }

    pub fn blank_path(&mut self, leaf: LeafIndex) {
        for node in self.direct_path(leaf) {
            self.set(node, None);
        }
    }

    /// Section 12.3, but that what is not valid is passed over.
    pub fn apply(&mut self, effects: &[(LeafIndex, Proposal)]) -> Vec<(LeafIndex, KeyPackage)> {
        for (sender, proposal) in effects {
            if let Proposal::Update(update) = proposal {
                self.set(
                    NodeIndex(sender.0 * 2),
                    Some(Node::Leaf(update.leaf_node.clone().into())),
                );
                self.blank_path(*sender);
            }
        }
        for (_, proposal) in effects {
            if let Proposal::Remove(remove) = proposal
                && self.leaf(remove.removed).is_some()
            {
                self.set(NodeIndex(remove.removed.0 * 2), None);
                self.blank_path(remove.removed);
            }
        }
        while self.depth() > 0 && self.0[self.0.len() / 2 + 1..].iter().all(Option::is_none) {
            self.0.truncate(self.0.len() / 2);
        }
        let mut added = Vec::new();
        for (_, proposal) in effects {
            if let Proposal::Add(add) = proposal {
                let leaf = self.first_blank();
                for node in self.direct_path(leaf) {
                    if self.get(node).is_some() {
                        self.edit_parent(node, |parent| {
                            parent.unmerged_leaves.push(leaf);
                            parent.unmerged_leaves.sort();
                        });
                    }
                }
                let node = Node::Leaf(add.key_package.leaf_node.clone().into());
                self.set(NodeIndex(leaf.0 * 2), Some(node));
                added.push((leaf, add.key_package.clone()));
            }
        }
        added
    }

    /// Where the next member goes; the tree grows if it has to.
    pub fn first_blank(&mut self) -> LeafIndex {
        let blank = self.0.iter().step_by(2).position(Option::is_none);
        let leaf = blank.unwrap_or_else(|| {
            let leaf = self.0.len().div_ceil(2);
            self.0.resize(self.0.len() * 2 + 1, None);
            leaf
        });
        LeafIndex(leaf as u32)
    }

    /// Section 4.1.1.
    pub fn resolution(&self, node: NodeIndex) -> Vec<NodeIndex> {
        match (self.get(node), node.left(), node.right()) {
            (Some(Node::Parent(parent)), ..) => {
                let unmerged = parent.unmerged_leaves.iter();
                [node]
                    .into_iter()
                    .chain(unmerged.map(|leaf| NodeIndex(leaf.0 * 2)))
                    .collect()
            }
            (Some(Node::Leaf(_)), ..) => vec![node],
            (None, Some(left), Some(right)) => {
                [self.resolution(left), self.resolution(right)].concat()
            }
            (None, ..) => Vec::new(),
        }
    }

    /// Section 4.1.2: nodes of the filtered direct path with their copath children.
    pub fn filtered_direct_path(&self, leaf: LeafIndex) -> Vec<(NodeIndex, NodeIndex)> {
        let mut below = NodeIndex(leaf.0 * 2);
        let mut path = Vec::new();
        for node in self.direct_path(leaf) {
            let copath = below.sibling();
            if !self.resolution(copath).is_empty() {
                path.push((node, copath));
            }
            below = node;
        }
        path
    }

    /// Section 7.8.
    pub fn tree_hash(&self, suite: &dyn Suite, node: NodeIndex) -> Bytes {
        let mut input = Vec::new();
        match (node.left(), node.right()) {
            (Some(left), Some(right)) => {
                2_u8.encode(&mut input);
                let parent = self.get(node).and_then(|node| match node {
                    Node::Parent(parent) => Some(parent.clone()),
                    Node::Leaf(_) => None,
                });
                parent.encode(&mut input);
                self.tree_hash(suite, left).encode(&mut input);
                self.tree_hash(suite, right).encode(&mut input);
            }
            _ => {
                1_u8.encode(&mut input);
                (node.0 / 2).encode(&mut input);
                self.leaf(LeafIndex(node.0 / 2)).encode(&mut input);
            }
        }
        suite.hash(&input).into()
    }

    pub fn root_hash(&self, suite: &dyn Suite) -> Bytes {
        self.tree_hash(suite, NodeIndex::root(self.depth()))
    }

    /// Section 7.9, for a parent without unmerged leaves.
    pub fn parent_hash(&self, suite: &dyn Suite, node: NodeIndex, sibling: NodeIndex) -> Bytes {
        let Some(Node::Parent(parent)) = self.get(node) else {
            panic!("node {} is no parent", node.0)
        };
        assert!(parent.unmerged_leaves.is_empty());
        let mut input = parent.encryption_key.to_bytes();
        parent.parent_hash.encode(&mut input);
        self.tree_hash(suite, sibling).encode(&mut input);
        suite.hash(&input).into()
    }

    /// Blanks a path, puts keys on the filtered one with their parent hashes, and gives the leaf's.
    pub fn set_path(
        &mut self,
        suite: &dyn Suite,
        leaf: LeafIndex,
        keys: &[HpkePublicKey],
    ) -> Bytes {
        let path = self.filtered_direct_path(leaf);
        self.blank_path(leaf);
        let mut above = Bytes::default();
        for ((node, copath), key) in path.iter().zip(keys).rev() {
            let parent = ParentNode {
                encryption_key: key.clone(),
                parent_hash: above,
                unmerged_leaves: Vec::new(),
            };
            self.set(*node, Some(Node::Parent(parent.into())));
            above = self.parent_hash(suite, *node, *copath);
        }
        above
    }
}

pub fn encryption_key(node: &Node) -> &HpkePublicKey {
    match node {
        Node::Leaf(leaf) => &leaf.encryption_key,
        Node::Parent(parent) => &parent.encryption_key,
    }
}
