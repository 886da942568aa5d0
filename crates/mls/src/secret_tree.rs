//! The secret tree (RFC 9420, section 9), derived lazily.
//!
//! Only secrets that were not used yet are held: the root at first; once a leaf is taken, the siblings
//! along its path. So what leads to a key that was used is gone, and memory grows with the leaves that
//! were taken and not with the size of the tree.

use std::collections::BTreeMap;

use crate::crypto::{Secret, Suite};

/// A tree of secrets with 2^height leaves.
///
/// Nodes are numbered as in a heap: the root is 1, the children of i are 2i and 2i + 1. So leaf i is
/// node 2^height + i, and a node's ancestors are its number shifted right.
#[derive(Debug)]
pub struct SecretTree {
    height: u32,
    secrets: BTreeMap<u32, Secret>,
}

/// The secret of a leaf with what is derived on the way to it. Nothing was taken out of the tree yet.
#[derive(Debug)]
pub struct LeafPath {
    /// Where the way starts, and the secret there.
    from: (u32, Secret),
    /// What lies beside the way.
    siblings: Vec<(u32, Secret)>,
    /// The leaf's secret.
    pub leaf: Secret,
}

/// How taking a leaf changed the tree.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken {
    /// The node whose secret is gone.
    pub removed: u32,
    /// The nodes that have a secret now.
    pub added: Vec<u32>,
}

impl SecretTree {
    /// The largest height: a number of 32 bits names every node.
    pub const MAX_HEIGHT: u32 = 31;

    /// A tree of which only the root is known. A `height` above [`Self::MAX_HEIGHT`] is taken as that.
    #[must_use]
    pub fn new(root: Secret, height: u32) -> Self {
        Self::from_secrets(height, BTreeMap::from([(1, root)]))
    }

    /// A tree for as many leaves, blank ones included.
    #[must_use]
    pub fn with_leaves(root: Secret, leaf_count: u32) -> Self {
        Self::new(root, leaf_count.max(1).next_power_of_two().trailing_zeros())
    }

    /// A tree from the secrets that it still holds.
    pub(crate) fn from_secrets(height: u32, secrets: BTreeMap<u32, Secret>) -> Self {
        Self {
            height: height.min(Self::MAX_HEIGHT),
            secrets,
        }
    }

    /// The number of levels above the leaves.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The nodes whose secret is held, with the secret.
    pub fn secrets(&self) -> impl Iterator<Item = (u32, &Secret)> {
        self.secrets.iter().map(|(node, secret)| (*node, secret))
    }

    /// The secret of one node, if it is held.
    #[must_use]
    pub fn secret(&self, node: u32) -> Option<&Secret> {
        self.secrets.get(&node)
    }

    /// The secret of a leaf, or `None` if it was taken or the tree has no such leaf.
    #[must_use]
    pub fn leaf(&self, suite: &dyn Suite, leaf: u32) -> Option<Secret> {
        self.path(suite, leaf).map(|path| path.leaf)
    }

    /// Derives the secret of a leaf, so that it can be taken later. `None` as in [`Self::leaf`].
    #[must_use]
    pub fn path(&self, suite: &dyn Suite, leaf: u32) -> Option<LeafPath> {
        let (node, secret) = self.ancestor(leaf)?;
        let mut path = LeafPath {
            from: (node, secret.clone()),
            siblings: Vec::new(),
            leaf: secret.clone(),
        };
        let leaf = (1 << self.height) | leaf;
        let levels = node.leading_zeros() - leaf.leading_zeros();
        for level in (0..levels).rev() {
            let node = leaf >> level;
            let child = |context: &[u8]| {
                suite.expand_with_label(&path.leaf, "tree", context, suite.hash_length())
            };
            let (left, right) = (child(b"left"), child(b"right"));
            let is_left = node & 1 == 0;
            let (own, other) = if is_left {
                (left, right)
            } else {
                (right, left)
            };
            path.siblings.push((node ^ 1, other));
            path.leaf = own;
        }
        Some(path)
    }

    /// Takes the secret of a leaf out of the tree: what it was derived from goes, the siblings along the
    /// path stay. `None` as in [`Self::leaf`].
    pub fn take_leaf(&mut self, suite: &dyn Suite, leaf: u32) -> Option<(Secret, Taken)> {
        let path = self.path(suite, leaf)?;
        let secret = path.leaf.clone();
        Some((secret, self.take(path)?))
    }

    /// Whether a path still starts where the tree holds a secret. If not, another leaf was taken since.
    #[must_use]
    pub fn leads(&self, path: &LeafPath) -> bool {
        let (node, secret) = &path.from;
        self.secrets.get(node) == Some(secret)
    }

    /// The same for a path that was derived before; `None` unless the tree [`leads`](Self::leads) it.
    pub fn take(&mut self, path: LeafPath) -> Option<Taken> {
        if !self.leads(&path) {
            return None;
        }
        let (node, _) = path.from;
        let added = path.siblings.iter().map(|(node, _)| *node).collect();
        self.secrets.remove(&node);
        self.secrets.extend(path.siblings);
        Some(Taken {
            removed: node,
            added,
        })
    }

    /// The leaf itself or the ancestor of it whose secret is held. There is at most one.
    fn ancestor(&self, leaf: u32) -> Option<(u32, &Secret)> {
        if leaf >> self.height != 0 {
            return None;
        }
        let leaf = (1 << self.height) | leaf;
        (0..=self.height)
            .map(|level| leaf >> level)
            .find_map(|node| self.secrets.get(&node).map(|secret| (node, secret)))
    }
}

#[cfg(all(test, feature = "aws-lc"))]
mod tests {
    use super::*;
    use crate::crypto::{CipherSuite, CryptoProvider, aws_lc::PROVIDER};

    fn suite() -> &'static dyn Suite {
        let suite = CipherSuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_ED25519;
        PROVIDER.suite(suite).unwrap()
    }

    #[test]
    fn leaves_are_the_same_in_any_order_and_taken_once() {
        let tree = || SecretTree::with_leaves(Secret::zero(32), 6);
        let peek = tree();
        let (mut forward, mut backward) = (tree(), tree());
        let first: Vec<_> = (0..8)
            .map(|i| forward.take_leaf(suite(), i).unwrap().0)
            .collect();
        let mut second: Vec<_> = (0..8)
            .rev()
            .map(|i| backward.take_leaf(suite(), i).unwrap().0)
            .collect();
        second.reverse();
        assert!(first == second);
        for (i, secret) in (0..).zip(&first) {
            assert_eq!(peek.leaf(suite(), i).as_ref(), Some(secret));
            assert_eq!(forward.take_leaf(suite(), i), None);
        }
        assert_eq!(forward.secrets().count(), 0);
        assert_eq!(peek.leaf(suite(), 8), None);
    }

    #[test]
    fn what_led_to_a_used_leaf_is_gone() {
        let mut tree = SecretTree::new(Secret::zero(32), 3);
        let (_, taken) = tree.take_leaf(suite(), 5).unwrap();
        assert_eq!(
            taken,
            Taken {
                removed: 1,
                added: vec![2, 7, 12]
            }
        );
        assert_eq!(
            tree.secrets().map(|(node, _)| node).collect::<Vec<_>>(),
            [2, 7, 12]
        );
        let (_, taken) = tree.take_leaf(suite(), 4).unwrap();
        assert_eq!(
            taken,
            Taken {
                removed: 12,
                added: vec![]
            }
        );
    }

    #[test]
    fn a_tree_of_one_leaf_is_its_root() {
        let mut tree = SecretTree::with_leaves(Secret::zero(32), 1);
        assert_eq!(tree.take_leaf(suite(), 0).unwrap().0, Secret::zero(32));
        assert_eq!(tree.leaf(suite(), 0), None);
    }
}
