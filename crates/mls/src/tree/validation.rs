//! Checking a whole tree before joining (RFC 9420, section 12.4.3.1).

use std::borrow::Cow;

use super::leaf_validation::LeafRules;
use super::{LeafNodeError, Tree, TreeError};
use crate::crypto::{SignedData, labels};
use crate::leaf_node::{LEAF_NODE_TBS, LeafPosition};
use rand_core::CryptoRng;

/// Leaves whose signatures are checked at a time: enough for a batch to pay, few enough to keep
/// memory small.
const BATCH: usize = 256;

impl Tree {
    /// Checks the tree as a joiner does: parent hashes, unmerged leaves, every leaf node with its
    /// signature (in batches) and the members' support for each other's credentials. That keys are
    /// unique holds of every [`Tree`]. The tree hash is the caller's to compare.
    ///
    /// # Errors
    /// [`TreeError`], to the blame of the members who let the tree come to be, or of whoever
    /// provided it.
    pub fn validate(
        &mut self,
        group_id: &[u8],
        rules: &LeafRules<'_>,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), TreeError> {
        self.verify_parents(rules.suite)?;
        let mut leaves = Vec::with_capacity(BATCH);
        let mut rest = self.trie.leaves().peekable();
        while rest.peek().is_some() {
            leaves.clear();
            for (leaf, encoded) in rest.by_ref().take(BATCH) {
                let leaf_node = encoded.leaf_node();
                rules
                    .check(&leaf_node)
                    .map_err(|error| TreeError::Leaf { leaf, error })?;
                let position = LeafPosition {
                    group_id,
                    leaf_index: leaf,
                };
                let tbs = leaf_node.tbs(encoded.encoded(), Some(position));
                let data = labels::signed_data(LEAF_NODE_TBS, &tbs);
                leaves.push((leaf, leaf_node, data));
            }
            let items: Vec<_> = leaves
                .iter()
                .map(|(_, leaf_node, data)| SignedData {
                    public_key: &leaf_node.signature_key,
                    data: Cow::Borrowed(data),
                    signature: &leaf_node.signature,
                })
                .collect();
            rules
                .suite
                .verify_batch(&items, rng)
                .map_err(|(index, error)| TreeError::Leaf {
                    leaf: leaves[index].0,
                    error: LeafNodeError::Signature(error),
                })?;
        }
        match self.unsupported_credential() {
            Some(credential) => Err(TreeError::UnsupportedCredential(credential)),
            None => Ok(()),
        }
    }
}
