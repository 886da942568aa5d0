//! Checking a whole tree before joining (RFC 9420, section 12.4.3.1).

use std::borrow::Cow;

use super::leaf_validation::LeafRules;
use super::{LeafNodeError, Tree, TreeError};
use crate::crypto::{SignedData, labels};
use crate::leaf_node::{LEAF_NODE_TBS, LeafPosition};
use crate::tree_math::LeafIndex;
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
        let leaves: Vec<_> = self.trie.leaves().map(|(leaf, _)| leaf).collect();
        for batch in leaves.chunks(BATCH) {
            self.validate_leaves(batch, group_id, rules, rng)?;
        }
        self.validate_credentials()
    }

    /// Checks some leaves and their signatures, in one batch. Blank ones are passed over.
    pub(crate) fn validate_leaves(
        &self,
        leaves: &[LeafIndex],
        group_id: &[u8],
        rules: &LeafRules<'_>,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), TreeError> {
        let mut checked = Vec::with_capacity(leaves.len());
        for leaf in leaves.iter().copied() {
            let Some(encoded) = self.leaf(leaf) else {
                continue;
            };
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
            checked.push((leaf, leaf_node, data));
        }
        let items: Vec<_> = checked
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
                leaf: checked[index].0,
                error: LeafNodeError::Signature(error),
            })
    }

    /// Checks that all members support the types of each other's credentials.
    pub(crate) fn validate_credentials(&self) -> Result<(), TreeError> {
        match self.unsupported_credential() {
            Some(credential) => Err(TreeError::UnsupportedCredential(credential)),
            None => Ok(()),
        }
    }
}
