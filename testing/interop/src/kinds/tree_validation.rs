//! `tree-validation`: resolutions, tree hashes, parent hashes and signatures of whole trees.

use folkmoot_mls::code_point::ProtocolVersion;
use folkmoot_mls::context::{BasicCredentials, OneThread};
use folkmoot_mls::crypto::Suite;
use folkmoot_mls::extension::Extensions;
use folkmoot_mls::tree::Tree;
use folkmoot_mls::tree::leaf_validation::LeafRules;
use folkmoot_mls::tree_math::NodeIndex;
use rand_core::CryptoRng;
use serde::Deserialize;

use crate::check::{Failure, Hex, check};

/// One case.
#[derive(Debug, Deserialize)]
pub struct Case {
    /// The suite.
    pub cipher_suite: u16,
    tree: Hex,
    group_id: Hex,
    resolutions: Vec<Vec<u32>>,
    tree_hashes: Vec<Hex>,
}

impl Case {
    /// Compares every node's resolution and hash, and validates the tree as a joiner does.
    ///
    /// # Errors
    /// [`Failure`], the engine's.
    pub fn verify(&self, suite: &dyn Suite, rng: &mut dyn CryptoRng) -> Result<(), Failure> {
        let mut tree = Tree::from_ratchet_tree(&self.tree)?;
        let nodes = (2 << tree.depth()) - 1;
        check(self.resolutions.len() == nodes, "number of nodes")?;
        check(self.tree_hashes.len() == nodes, "number of nodes")?;
        for (node, (resolution, hash)) in (0..)
            .map(NodeIndex)
            .zip(self.resolutions.iter().zip(&self.tree_hashes))
        {
            let found: Vec<_> = tree
                .resolution(node)
                .into_iter()
                .map(|node| node.0)
                .collect();
            check(found == *resolution, "resolutions")?;
            check(*tree.node_hash(node, suite) == **hash, "tree_hashes")?;
        }
        let rules = LeafRules {
            version: ProtocolVersion::MLS10,
            suite,
            extensions: &Extensions::default(),
            required: None,
            authentication_service: &BasicCredentials,
            now: None,
        };
        tree.validate(&self.group_id, &rules, &OneThread, rng)?;
        check(
            tree.to_ratchet_tree() == *self.tree,
            "the tree encoded again",
        )
    }
}
