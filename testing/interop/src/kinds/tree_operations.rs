//! `tree-operations`: what one proposal does to a tree.

use folkmoot_mls::codec::Decode;
use folkmoot_mls::crypto::Suite;
use folkmoot_mls::proposal::Proposal;
use folkmoot_mls::tree::{Leaf, Tree};
use folkmoot_mls::tree_math::LeafIndex;
use serde::Deserialize;

use crate::check::{Failure, Hex, check};

/// One case.
#[derive(Debug, Deserialize)]
pub struct Case {
    /// The suite.
    pub cipher_suite: u16,
    tree_before: Hex,
    proposal: Hex,
    proposal_sender: u32,
    tree_hash_before: Hex,
    tree_after: Hex,
    tree_hash_after: Hex,
}

impl Case {
    /// Applies the proposal and compares trees and hashes.
    ///
    /// # Errors
    /// [`Failure`], the engine's.
    pub fn verify(&self, suite: &dyn Suite) -> Result<(), Failure> {
        let mut tree = Tree::from_ratchet_tree(&self.tree_before)?;
        check(
            *tree.tree_hash(suite) == *self.tree_hash_before,
            "tree_hash_before",
        )?;
        let sender = LeafIndex(self.proposal_sender);
        match Proposal::from_bytes(&self.proposal)? {
            Proposal::Add(add) => {
                let leaf = Leaf::from(&add.key_package.leaf_node);
                tree.apply(&[], &[], &[leaf])?;
            }
            Proposal::Update(update) => {
                tree.apply(&[(sender, Leaf::from(&update.leaf_node))], &[], &[])?;
            }
            Proposal::Remove(remove) => {
                tree.apply(&[], &[remove.removed], &[])?;
            }
            _ => return Err(Failure::Mismatch("type of proposal")),
        }
        check(tree.to_ratchet_tree() == *self.tree_after, "tree_after")?;
        check(
            *tree.tree_hash(suite) == *self.tree_hash_after,
            "tree_hash_after",
        )
    }
}
