//! What a store keeps for the log, and the encoding of the tree's records.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use akd::errors::StorageError;
use akd::storage::memory::AsyncInMemoryDatabase;
use akd::storage::types::{DbRecord, ValueState};
use akd::storage::{Database, DbSetState};
use akd::tree_node::{TreeNode, TreeNodeType, TreeNodeWithPreviousValue};
use akd::{AkdLabel, AkdValue, Azks, AzksValue, NodeLabel};
use folkmoot_mls::codec::{Decode, DecodeError, Encode, Reader};

use super::block_on;
use crate::store::StoreError;

/// A change that waits for the next epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Where in the log.
    pub label: Vec<u8>,
    /// Of the account. A label's changes are published in this order.
    pub revision: u64,
    /// What will stand there.
    pub value: [u8; 32],
}

/// An epoch.
pub struct Commit<'a> {
    /// Of the tree.
    pub records: Vec<DbRecord>,
    /// Its number.
    pub epoch: u64,
    /// Its signed head.
    pub head: Vec<u8>,
    /// What waits no longer.
    pub done: &'a [Pending],
}

/// What a store keeps for the log.
pub trait LogStore: Clone + Send + Sync + 'static {
    /// The tree.
    type Nodes: Database + 'static;

    /// The tree, as it is now for as long as this lives if `still`, else as it will be.
    ///
    /// # Errors
    /// [`StoreError`].
    fn nodes(&self, still: bool) -> Result<Self::Nodes, StoreError>;

    /// Up to `most` changes that are waiting, by label and revision.
    ///
    /// # Errors
    /// [`StoreError`].
    fn pending(&self, most: usize) -> Result<Vec<Pending>, StoreError>;

    /// Has a change wait, unless it does already.
    ///
    /// # Errors
    /// [`StoreError`].
    fn enqueue(&self, pending: &Pending) -> Result<(), StoreError>;

    /// Ends the waiting.
    ///
    /// # Errors
    /// [`StoreError`].
    fn settle(&self, done: &[Pending]) -> Result<(), StoreError>;

    /// The signed head of an epoch, or the latest.
    ///
    /// # Errors
    /// [`StoreError`].
    fn head(&self, epoch: Option<u64>) -> Result<Option<Vec<u8>>, StoreError>;

    /// Makes an epoch durable, all of it or nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    fn commit(&self, commit: Commit<'_>) -> Result<(), StoreError>;
}

/// For the library.
pub(crate) fn storage(error: StoreError) -> StorageError {
    StorageError::Other(error.to_string())
}

/// The log in memory, the tree in the library's own database. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryLog {
    nodes: AsyncInMemoryDatabase,
    rows: Arc<Mutex<Rows>>,
}

#[derive(Debug, Default)]
struct Rows {
    heads: BTreeMap<u64, Vec<u8>>,
    pending: BTreeMap<(Vec<u8>, u64), [u8; 32]>,
}

impl MemoryLog {
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogStore for MemoryLog {
    type Nodes = AsyncInMemoryDatabase;

    fn nodes(&self, _still: bool) -> Result<Self::Nodes, StoreError> {
        Ok(self.nodes.clone())
    }

    fn pending(&self, most: usize) -> Result<Vec<Pending>, StoreError> {
        let rows = self.rows();
        let pending = rows.pending.iter().take(most);
        Ok(pending
            .map(|((label, revision), value)| Pending {
                label: label.clone(),
                revision: *revision,
                value: *value,
            })
            .collect())
    }

    fn enqueue(&self, pending: &Pending) -> Result<(), StoreError> {
        let place = (pending.label.clone(), pending.revision);
        self.rows().pending.entry(place).or_insert(pending.value);
        Ok(())
    }

    fn settle(&self, done: &[Pending]) -> Result<(), StoreError> {
        let mut rows = self.rows();
        for pending in done {
            rows.pending
                .remove(&(pending.label.clone(), pending.revision));
        }
        Ok(())
    }

    fn head(&self, epoch: Option<u64>) -> Result<Option<Vec<u8>>, StoreError> {
        let rows = self.rows();
        Ok(match epoch {
            Some(epoch) => rows.heads.get(&epoch).cloned(),
            None => rows.heads.last_key_value().map(|(_, head)| head.clone()),
        })
    }

    fn commit(&self, commit: Commit<'_>) -> Result<(), StoreError> {
        self.rows().heads.insert(commit.epoch, commit.head);
        block_on(
            self.nodes
                .batch_set(commit.records, DbSetState::TransactionCommit),
        )
        .map_err(|_| StoreError::Log)?;
        self.settle(commit.done)
    }
}

fn put_label(label: &NodeLabel, out: &mut Vec<u8>) {
    label.label_len.encode(out);
    label.label_val.encode(out);
}

fn get_label(reader: &mut Reader<'_>) -> Result<NodeLabel, DecodeError> {
    let length = u32::decode(reader)?;
    Ok(NodeLabel::new(reader.array()?, length))
}

fn put_node(node: &TreeNode, out: &mut Vec<u8>) {
    node.last_epoch.encode(out);
    node.min_descendant_epoch.encode(out);
    put_label(&node.parent, out);
    out.push(node.node_type as u8);
    for child in [&node.left_child, &node.right_child] {
        child.is_some().encode(out);
        if let Some(child) = child {
            put_label(child, out);
        }
    }
    node.hash.0.encode(out);
}

fn get_node(label: NodeLabel, reader: &mut Reader<'_>) -> Result<TreeNode, DecodeError> {
    let (last_epoch, min_descendant_epoch) = (u64::decode(reader)?, u64::decode(reader)?);
    let parent = get_label(reader)?;
    let node_type = match u8::decode(reader)? {
        1 => TreeNodeType::Leaf,
        2 => TreeNodeType::Root,
        3 => TreeNodeType::Interior,
        _ => return Err(DecodeError::InvalidValue("node_type")),
    };
    let mut child = || match bool::decode(reader)? {
        true => get_label(reader).map(Some),
        false => Ok(None),
    };
    let (left_child, right_child) = (child()?, child()?);
    Ok(TreeNode {
        label,
        last_epoch,
        min_descendant_epoch,
        parent,
        node_type,
        left_child,
        right_child,
        hash: AzksValue(reader.array()?),
    })
}

/// The bytes of a record, without its key.
pub(crate) fn encode(record: &DbRecord) -> Vec<u8> {
    let mut out = Vec::new();
    match record {
        DbRecord::Azks(azks) => {
            azks.latest_epoch.encode(&mut out);
            azks.num_nodes.encode(&mut out);
        }
        DbRecord::TreeNode(node) => {
            put_label(&node.label, &mut out);
            put_node(&node.latest_node, &mut out);
            node.previous_node.is_some().encode(&mut out);
            if let Some(previous) = &node.previous_node {
                put_node(previous, &mut out);
            }
        }
        DbRecord::ValueState(state) => {
            state.version.encode(&mut out);
            put_label(&state.label, &mut out);
            out.extend_from_slice(&state.value);
        }
    }
    out
}

/// The tree's own record.
pub(crate) fn decode_azks(bytes: &[u8]) -> Result<DbRecord, DecodeError> {
    let (latest_epoch, num_nodes) = <(u64, u64)>::from_bytes(bytes)?;
    Ok(DbRecord::Azks(Azks {
        latest_epoch,
        num_nodes,
    }))
}

/// A node.
pub(crate) fn decode_node(bytes: &[u8]) -> Result<DbRecord, DecodeError> {
    let mut reader = Reader::new(bytes);
    let label = get_label(&mut reader)?;
    let latest_node = get_node(label, &mut reader)?;
    let has_previous = bool::decode(&mut reader)?;
    let previous_node = has_previous
        .then(|| get_node(label, &mut reader))
        .transpose()?;
    reader.finish()?;
    Ok(DbRecord::TreeNode(TreeNodeWithPreviousValue {
        label,
        latest_node,
        previous_node,
    }))
}

/// A value, at its label and epoch.
pub(crate) fn decode_value(
    username: Vec<u8>,
    epoch: u64,
    bytes: &[u8],
) -> Result<ValueState, DecodeError> {
    let mut reader = Reader::new(bytes);
    let version = u64::decode(&mut reader)?;
    let label = get_label(&mut reader)?;
    Ok(ValueState {
        value: AkdValue(reader.rest().to_vec()),
        version,
        label,
        epoch,
        username: AkdLabel(username),
    })
}
