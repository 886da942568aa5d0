//! Checking a whole tree before joining (RFC 9420, section 12.4.3.1).

use std::borrow::Cow;

use super::leaf_validation::{BATCH, LeafRules};
use super::node::Leaf;
use super::{LeafNodeError, Tree, TreeError};
use crate::context::CredentialClaim;
use crate::crypto::{SignedData, labels};
use crate::leaf_node::{LEAF_NODE_TBS, LeafPosition};
use crate::tree_math::LeafIndex;
use crate::workers::{Workers, by_chunks};
use rand_core::CryptoRng;

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
        workers: &dyn Workers,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), TreeError> {
        self.verify_parents(rules.suite)?;
        let leaves: Vec<_> = self.trie.leaves().map(|(leaf, _)| leaf).collect();
        self.validate_leaves(&leaves, group_id, rules, workers, rng)?;
        self.validate_credentials()
    }

    /// Checks some leaves, their signatures and their credentials, many at once. Blank ones are passed
    /// over.
    pub(crate) fn validate_leaves(
        &self,
        leaves: &[LeafIndex],
        group_id: &[u8],
        rules: &LeafRules<'_>,
        workers: &dyn Workers,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), TreeError> {
        let results = by_chunks(workers, leaves, BATCH, rng, |_, chunk, rng| {
            let leaves = chunk.iter().copied();
            let leaves: Vec<_> = leaves
                .filter_map(|leaf| Some((leaf, self.leaf(leaf)?)))
                .collect();
            check_leaves(&leaves, group_id, rules, rng)
        });
        results.into_iter().collect()
    }

    /// Checks that all members support the types of each other's credentials.
    pub(crate) fn validate_credentials(&self) -> Result<(), TreeError> {
        match self.unsupported_credential() {
            Some(credential) => Err(TreeError::UnsupportedCredential(credential)),
            None => Ok(()),
        }
    }
}

/// Checks sitting members' leaf nodes, their credentials and signatures each at once.
fn check_leaves(
    leaves: &[(LeafIndex, &Leaf)],
    group_id: &[u8],
    rules: &LeafRules<'_>,
    rng: &mut dyn CryptoRng,
) -> Result<(), TreeError> {
    let mut decoded = Vec::with_capacity(leaves.len());
    for (leaf, encoded) in leaves {
        let leaf_node = encoded.leaf_node();
        rules
            .check(&leaf_node)
            .map_err(|error| TreeError::Leaf { leaf: *leaf, error })?;
        let position = LeafPosition {
            group_id,
            leaf_index: *leaf,
        };
        let tbs = leaf_node.tbs(encoded.encoded(), Some(position));
        decoded.push((leaf_node, labels::signed_data(LEAF_NODE_TBS, &tbs)));
    }
    // The first, should a service name a place that was not in question.
    let blame = |place: usize, error| TreeError::Leaf {
        leaf: leaves
            .get(place)
            .or(leaves.first())
            .map_or(LeafIndex(0), |(leaf, _)| *leaf),
        error,
    };
    let claims: Vec<_> = decoded
        .iter()
        .map(|(leaf_node, _)| CredentialClaim::of(leaf_node))
        .collect();
    rules
        .authentication_service
        .validate_all(&claims, rules.extensions, None, rng)
        .map_err(|(place, error)| blame(place, LeafNodeError::Credential(error)))?;
    let items: Vec<_> = decoded
        .iter()
        .map(|(leaf_node, data)| SignedData {
            public_key: &leaf_node.signature_key,
            data: Cow::Borrowed(data),
            signature: &leaf_node.signature,
        })
        .collect();
    rules
        .suite
        .verify_batch(&items, rng)
        .map_err(|(place, error)| blame(place, LeafNodeError::Signature(error)))
}
