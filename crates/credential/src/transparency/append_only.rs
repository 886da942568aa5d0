//! Proofs that from one epoch to the next the log has only grown.
//!
//! The tree is a compressed binary trie. The proof of a step names what was added, and the roots of
//! the subtrees that stayed as they were; from the latter alone follows the root before, from both
//! the root after. It is computed here, without the library's database in memory.

use std::cmp::Ordering;

use akd_core::{AzksElement, AzksValue, Configuration, NodeLabel, SingleAppendOnlyProof};
use folkmoot_mls::codec::{Decode, DecodeError, Encode, Reader, encode_length};

use super::proof::{bit, decode_element, decode_list, encode_element};
use super::{Hashing, LogError, LogHead};

/// The largest proof of one step that is read, in bytes.
pub const MAX_EPOCH_PROOF: usize = 32 << 20;

/// Shows that an epoch kept all that the one before had.
#[derive(Clone, Debug, PartialEq)]
pub struct AppendOnlyProof(SingleAppendOnlyProof);

impl AppendOnlyProof {
    /// Wraps what the library has made: the AS's part.
    #[must_use]
    pub fn new(proof: SingleAppendOnlyProof) -> Self {
        Self(proof)
    }

    /// Reads a proof.
    ///
    /// # Errors
    /// [`LogError::TooLarge`], [`LogError::Malformed`].
    pub fn read(bytes: &[u8]) -> Result<Self, LogError> {
        if bytes.len() > MAX_EPOCH_PROOF {
            return Err(LogError::TooLarge);
        }
        Ok(Self::from_bytes(bytes)?)
    }

    /// Checks that `after` follows `before` and that nothing was lost or changed on the way. Both
    /// heads were read as the same log's; `before` is `None` for the first epoch.
    ///
    /// # Errors
    /// [`LogError::BadHead`] if the heads are not of epochs that follow each other, or have
    /// different VRF keys or times that go back, else [`LogError::BadProof`].
    pub fn verify(&self, before: Option<&LogHead>, after: &LogHead) -> Result<(), LogError> {
        let (epoch, root) = before.map_or((0, root_of(&mut [])?), |head| (head.epoch, head.root));
        let goes_on = before.is_none_or(|head| {
            head.vrf_key == after.vrf_key && head.domain == after.domain && head.time <= after.time
        });
        if !goes_on || epoch + 1 != after.epoch || after.previous != root {
            return Err(LogError::BadHead);
        }
        let mut nodes = self.0.unchanged_nodes.clone();
        if root_of(&mut nodes)? != root {
            return Err(LogError::BadProof);
        }
        for added in &self.0.inserted {
            // Only whole labels are leaves: anything shorter would hide what is below.
            if added.label.label_len != 256 {
                return Err(LogError::BadProof);
            }
            let leaf = Hashing::hash_leaf_with_commitment(added.value, after.epoch);
            nodes.push(AzksElement {
                label: added.label,
                value: AzksValue(leaf.0),
            });
        }
        if root_of(&mut nodes)? == after.root {
            Ok(())
        } else {
            Err(LogError::BadProof)
        }
    }
}

/// The root of the tree that has these nodes, of which none may be above another.
fn root_of(nodes: &mut [AzksElement]) -> Result<[u8; 32], LogError> {
    if nodes.is_empty() {
        let empty = Hashing::empty_root_value();
        return Ok(Hashing::compute_root_hash_from_val(&empty));
    }
    nodes.sort_unstable_by(|one, other| order(&one.label, &other.label));
    let stands = |pair: &[AzksElement]| !pair[0].label.is_prefix_of(&pair[1].label);
    if nodes.iter().any(|node| node.label.label_len == 0) || !nodes.windows(2).all(stands) {
        return Err(LogError::BadProof);
    }
    let middle = nodes.partition_point(|node| !bit(&node.label, 0));
    let (left, right) = nodes.split_at(middle);
    let absent = AzksElement {
        label: Hashing::empty_label(),
        value: Hashing::empty_node_hash(),
    };
    let child = |nodes: &[AzksElement]| {
        if nodes.is_empty() {
            absent
        } else {
            subtree(nodes)
        }
    };
    let root = parent(&child(left), &child(right));
    Ok(Hashing::compute_root_hash_from_val(&root))
}

/// A label before all that it is a prefix of, and what has a 0 before what has a 1.
fn order(one: &NodeLabel, other: &NodeLabel) -> Ordering {
    let values = one.label_val.cmp(&other.label_val);
    values.then(one.label_len.cmp(&other.label_len))
}

/// The node above all of `nodes`, which are sorted, at least one, and none above another. It is at
/// most 256 deep.
fn subtree(nodes: &[AzksElement]) -> AzksElement {
    let (first, last) = (nodes[0], nodes[nodes.len() - 1]);
    if nodes.len() == 1 {
        return first;
    }
    let label = first.label.get_longest_common_prefix::<Hashing>(last.label);
    let middle = nodes.partition_point(|node| !bit(&node.label, label.label_len));
    let (left, right) = nodes.split_at(middle);
    let value = parent(&subtree(left), &subtree(right));
    AzksElement { label, value }
}

fn parent(left: &AzksElement, right: &AzksElement) -> AzksValue {
    Hashing::compute_parent_hash_from_children(
        &left.value,
        &left.label.value::<Hashing>(),
        &right.value,
        &right.label.value::<Hashing>(),
    )
}

impl Encode for AppendOnlyProof {
    fn encode(&self, out: &mut Vec<u8>) {
        for nodes in [&self.0.inserted, &self.0.unchanged_nodes] {
            encode_length(nodes.len(), out);
            for node in nodes {
                encode_element(node, out);
            }
        }
    }
}

impl Decode for AppendOnlyProof {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let most = MAX_EPOCH_PROOF / 34;
        Ok(Self(SingleAppendOnlyProof {
            inserted: decode_list(reader, most, decode_element)?,
            unchanged_nodes: decode_list(reader, most, decode_element)?,
        }))
    }
}
