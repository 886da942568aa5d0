//! Message keys in storage: a record for what the epoch has in common, one for each node of the secret
//! tree and each ratchet, one for what is left of the exporter tree.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{MessageKeys, ReplacedKeys, SignatureKeys};
use crate::codec::Encode;
use crate::component::safe_aad;
use crate::crypto::{CryptoProvider, Secret};
use crate::error::Error;
use crate::group_context::GroupContext;
use crate::ratchet::{Ratchet, RatchetKind};
use crate::records::{
    Changes, DamagedRecord, RecordKey, RecordKind, Records, find, load, versioned,
};
use crate::secret_tree::SecretTree;
use crate::tree_math::LeafIndex;

/// More than most replaced keys take: those of Ed25519 37 bytes.
const REPLACED: usize = 80;

impl MessageKeys {
    /// The keys of an epoch as they were stored. `signature_keys` is the epoch's tree.
    ///
    /// # Errors
    /// [`Error::DamagedRecord`], [`Error::RecordVersion`], [`Error::UnsupportedCipherSuite`].
    pub fn load(
        provider: &dyn CryptoProvider,
        epoch: u64,
        records: &dyn Records,
        signature_keys: Arc<dyn SignatureKeys>,
    ) -> Result<Self, Error> {
        let stored: StoredEpoch = load(records, epoch_key(epoch))?;
        let cipher_suite = stored.context.cipher_suite;
        let suite = provider
            .suite(cipher_suite)
            .ok_or(Error::UnsupportedCipherSuite(cipher_suite))?;
        if stored.context.epoch != epoch || u32::from(stored.height) > SecretTree::MAX_HEIGHT {
            return Err(DamagedRecord(epoch_key(epoch)).into());
        }
        let height = stored.height.into();
        let (tree, ratchets) = if stored.sender_data_secret.is_some() {
            load_tree(records, epoch, height)?
        } else {
            (
                SecretTree::from_secrets(height, BTreeMap::new()),
                Ratchets::new(),
            )
        };
        Ok(Self {
            suite,
            safe_aad: safe_aad::is_used(&stored.context.extensions),
            context: stored.context,
            own: stored.own,
            sender_data_secret: stored.sender_data_secret,
            tree,
            ratchets,
            exporter: load(records, exporter_key(epoch))?,
            signature_keys,
        })
    }

    /// What to delete from storage when the epoch's keys go. Those of earlier epochs go first, since
    /// their signature keys are found through this epoch's.
    #[must_use]
    pub fn deletion(&self) -> Changes {
        let epoch = self.epoch();
        let mut delete = vec![self.epoch_key(), self.exporter_key()];
        delete.extend(self.tree.secrets().map(|(node, _)| node_key(epoch, node)));
        delete.extend(
            self.ratchets
                .keys()
                .map(|(leaf, kind)| ratchet_key(epoch, *leaf, *kind)),
        );
        Changes {
            put: Vec::new(),
            delete,
        }
    }

    pub(super) fn put_nodes(&self, nodes: impl IntoIterator<Item = u32>, changes: &mut Changes) {
        for node in nodes {
            if let Some(secret) = self.tree.secret(node) {
                changes.put(node_key(self.epoch(), node), versioned(secret, 80));
            }
        }
    }

    pub(super) fn put_ratchet(&self, sender: LeafIndex, kind: RatchetKind, changes: &mut Changes) {
        if let Some(ratchet) = self.ratchets.get(&(sender, kind)) {
            let value = versioned(ratchet, ratchet.encoded_capacity());
            changes.put(ratchet_key(self.epoch(), sender, kind), value);
        }
    }

    pub(super) fn epoch_key(&self) -> RecordKey {
        epoch_key(self.epoch())
    }

    pub(super) fn exporter_key(&self) -> RecordKey {
        exporter_key(self.epoch())
    }

    pub(super) fn exporter_record(&self) -> Vec<u8> {
        versioned(&self.exporter, self.exporter.encoded_capacity())
    }

    /// The signature keys that the commit which led to `epoch` changed.
    ///
    /// # Errors
    /// [`Error::DamagedRecord`], [`Error::RecordVersion`].
    pub(crate) fn replaced_keys(epoch: u64, records: &dyn Records) -> Result<ReplacedKeys, Error> {
        let stored: StoredEpoch = load(records, epoch_key(epoch))?;
        Ok(stored.replaced)
    }

    pub(super) fn epoch_record(&self, replaced: ReplacedKeys) -> Vec<u8> {
        let stored = StoredEpoch {
            context: self.context.clone(),
            own: self.own,
            height: self.tree.height() as u8,
            sender_data_secret: self.sender_data_secret.clone(),
            replaced,
        };
        let size = 256 + stored.context.to_bytes().len() + stored.replaced.len() * REPLACED;
        versioned(&stored, size)
    }
}

crate::tls_struct! {
    /// The record of what an epoch's keys have in common.
    struct StoredEpoch {
        context: GroupContext,
        own: LeafIndex,
        height: u8,
        /// None, as all nodes of the secret tree, if the group ended with the commit that led here.
        sender_data_secret: Option<Secret>,
        replaced: ReplacedKeys,
    }
}

fn epoch_key(epoch: u64) -> RecordKey {
    RecordKey::new(RecordKind::MessageKeys, &epoch)
}

fn exporter_key(epoch: u64) -> RecordKey {
    RecordKey::new(RecordKind::Exporter, &epoch)
}

pub(super) fn node_key(epoch: u64, node: u32) -> RecordKey {
    RecordKey::new(RecordKind::SecretTreeNode, &(epoch, node))
}

fn ratchet_key(epoch: u64, sender: LeafIndex, kind: RatchetKind) -> RecordKey {
    RecordKey::new(RecordKind::Ratchet, &(epoch, (sender, kind as u8)))
}

type Ratchets = BTreeMap<(LeafIndex, RatchetKind), Ratchet>;

/// Finds the secrets that are left by walking from the root. Below a node without a secret both
/// children are there, and a leaf without one has its ratchets. So a record that is missing is
/// noticed on the first leaf below it.
fn load_tree(
    records: &dyn Records,
    epoch: u64,
    height: u32,
) -> Result<(SecretTree, Ratchets), Error> {
    let mut secrets = BTreeMap::new();
    let mut ratchets = BTreeMap::new();
    let mut open = vec![1_u32];
    while let Some(node) = open.pop() {
        if let Some(secret) = find(records, &node_key(epoch, node))? {
            secrets.insert(node, secret);
        } else if node >> height == 0 {
            open.extend([node << 1 | 1, node << 1]);
        } else {
            let sender = LeafIndex(node ^ 1 << height);
            for kind in RatchetKind::ALL {
                let ratchet = load(records, ratchet_key(epoch, sender, kind))?;
                ratchets.insert((sender, kind), ratchet);
            }
        }
    }
    Ok((SecretTree::from_secrets(height, secrets), ratchets))
}
