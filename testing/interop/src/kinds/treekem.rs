//! `treekem`: update paths, received and made.

use std::collections::{BTreeMap, BTreeSet};

use folkmoot_mls::code_point::ProtocolVersion;
use folkmoot_mls::codec::{Bytes, Decode, Encode};
use folkmoot_mls::commit::UpdatePath;
use folkmoot_mls::context::OneThread;
use folkmoot_mls::crypto::{HpkeKeyPair, Secret, SignatureKeyPair, Suite};
use folkmoot_mls::extension::Extensions;
use folkmoot_mls::group_context::GroupContext;
use folkmoot_mls::tree::{OwnKeys, Tree};

use folkmoot_mls::tree_math::{LeafIndex, NodeIndex};
use rand_core::CryptoRng;
use serde::Deserialize;

use super::private_key;
use crate::check::{Failure, Hex, check};

/// One case.
#[derive(Debug, Deserialize)]
pub struct Case {
    /// The suite.
    pub cipher_suite: u16,
    group_id: Hex,
    epoch: u64,
    confirmed_transcript_hash: Hex,
    ratchet_tree: Hex,
    leaves_private: Vec<LeafPrivate>,
    update_paths: Vec<Path>,
}

#[derive(Debug, Deserialize)]
struct LeafPrivate {
    index: u32,
    encryption_priv: Hex,
    signature_priv: Hex,
    path_secrets: Vec<NodeSecret>,
}

#[derive(Debug, Deserialize)]
struct NodeSecret {
    node: u32,
    path_secret: Hex,
}

#[derive(Debug, Deserialize)]
struct Path {
    sender: u32,
    update_path: Hex,
    path_secrets: Vec<Option<Hex>>,
    commit_secret: Hex,
    tree_hash_after: Hex,
}

impl Case {
    /// Follows every path as every member, then makes a path for every sender and follows that.
    ///
    /// # Errors
    /// [`Failure`], the engine's.
    pub fn verify(&self, suite: &dyn Suite, rng: &mut dyn CryptoRng) -> Result<(), Failure> {
        let tree = Tree::from_ratchet_tree(&self.ratchet_tree)?;
        let members = self
            .leaves_private
            .iter()
            .map(|private| Ok((LeafIndex(private.index), private.keys(suite, &tree)?)))
            .collect::<Result<BTreeMap<_, _>, Failure>>()?;
        let nobody = BTreeSet::new();
        for path in &self.update_paths {
            let sender = LeafIndex(path.sender);
            let update_path = UpdatePath::from_bytes(&path.update_path)?;
            let mut merged = tree.clone();
            let steps = merged.merge_path(suite, sender, &update_path, &nobody)?;
            let hash = merged.tree_hash(suite);
            check(*hash == *path.tree_hash_after, "tree_hash_after")?;
            let context = self.context(&hash);
            for (leaf, keys) in members.iter().filter(|(leaf, _)| **leaf != sender) {
                let mut keys = keys.clone();
                keys.retain_current(&merged);
                let commit_secret =
                    keys.open_path(suite, &merged, &steps, &update_path, &context, &nobody)?;
                check(*commit_secret == *path.commit_secret, "commit_secret")?;
                let secret = path
                    .path_secrets
                    .get(leaf.0 as usize)
                    .and_then(Option::as_ref);
                let Some(secret) = secret else {
                    return Err(Failure::Mismatch("path_secrets"));
                };
                // The vector's secret has to give the keys that were just decrypted.
                let common = NodeIndex::common_ancestor(*leaf, sender);
                let from = steps
                    .iter()
                    .map(|step| step.node)
                    .filter(|node| node.covers(common));
                let mut again = OwnKeys::new(
                    *leaf,
                    HpkeKeyPair::new(Secret::default(), Bytes::default().into()),
                );
                let secret = Secret::from(secret.0.clone());
                let followed = again.follow(suite, &merged, from, secret)?;
                check(followed == commit_secret, "path_secrets")?;
            }

            let private = self
                .leaves_private
                .iter()
                .find(|private| private.index == path.sender)
                .ok_or(Failure::Mismatch("sender"))?;
            let private_key = private_key(suite, &private.signature_priv);
            let public_key = suite.signature_public_key(&private_key)?;
            let signer = SignatureKeyPair::new(private_key, public_key);
            let leaf = tree
                .leaf(sender)
                .ok_or(Failure::Mismatch("sender"))?
                .leaf_node();
            check(leaf.signature_key == *signer.public_key(), "signature_priv")?;
            let mut renewed = tree.clone();
            let parameters = leaf.parameters();
            let new =
                renewed.renew_path(suite, sender, parameters, &signer, &self.group_id, rng)?;
            let context = self.context(&renewed.tree_hash(suite));
            let new_path = new.encrypt(suite, &renewed, &context, &nobody, &OneThread, rng)?;
            let mut merged = tree.clone();
            let steps = merged.merge_path(suite, sender, &new_path, &nobody)?;
            check(
                merged.tree_hash(suite) == renewed.tree_hash(suite),
                "tree after our path",
            )?;
            for (_, keys) in members.iter().filter(|(leaf, _)| **leaf != sender) {
                let mut keys = keys.clone();
                keys.retain_current(&merged);
                let commit_secret =
                    keys.open_path(suite, &merged, &steps, &new_path, &context, &nobody)?;
                check(
                    commit_secret == new.commit_secret,
                    "commit secret of our path",
                )?;
            }
        }
        Ok(())
    }

    fn context(&self, tree_hash: &[u8]) -> Vec<u8> {
        GroupContext {
            version: ProtocolVersion::MLS10,
            cipher_suite: folkmoot_mls::crypto::CipherSuite(self.cipher_suite),
            group_id: Bytes::from(&self.group_id),
            epoch: self.epoch,
            tree_hash: Bytes::from(tree_hash),
            confirmed_transcript_hash: Bytes::from(&self.confirmed_transcript_hash),
            extensions: Extensions::default(),
        }
        .to_bytes()
    }
}

impl LeafPrivate {
    fn keys(&self, suite: &dyn Suite, tree: &Tree) -> Result<OwnKeys, Failure> {
        let leaf = LeafIndex(self.index);
        let private_key = private_key(suite, &self.encryption_priv);
        let public_key = suite.kem_public_key(&private_key)?;
        let expected = tree
            .leaf(leaf)
            .ok_or(Failure::Mismatch("index"))?
            .encryption_key();
        check(*public_key == *expected, "encryption_priv")?;
        let mut keys = OwnKeys::new(leaf, HpkeKeyPair::new(private_key, public_key));
        for entry in &self.path_secrets {
            let secret = Secret::from(entry.path_secret.0.clone());
            keys.follow(suite, tree, std::iter::once(NodeIndex(entry.node)), secret)?;
        }
        Ok(keys)
    }
}
