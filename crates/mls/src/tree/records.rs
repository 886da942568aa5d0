//! The tree as records: one for each chunk, so that a change writes what it changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Tree;
use super::chunk::{CHILDREN, Child, Chunk, ChunkId, LEVELS, NODES};
use super::node::{Leaf, Node};
use super::trie::Trie;
use crate::codec::{Decode, DecodeError, Encode, Reader, encode_bytes};
use crate::crypto::{Hash, SignaturePublicKey, Suite};
use crate::message_keys::ReplacedKeys;
use crate::records::{Changes, DamagedRecord, RecordKey, RecordKind, Records};
use crate::tree_math::{MAX_DEPTH, NodeIndex, depth_for};

/// The version of a chunk's record.
const VERSION: u8 = 2;

fn key(id: ChunkId) -> RecordKey {
    RecordKey::new(RecordKind::TreeChunk, &(id.tier as u8, id.position))
}

/// The nodes, and in the lowest tier the tree hash of the top one, so that whoever reads the tree back
/// hashes the few nodes above alone.
fn encode(id: ChunkId, chunk: &Chunk) -> Vec<u8> {
    let mut out = Vec::new();
    VERSION.encode(&mut out);
    chunk.children_present().encode(&mut out);
    let top = chunk.hashes.get(0).filter(|_| id.tier == 0);
    encode_bytes(top.as_deref().unwrap_or_default(), &mut out);
    chunk.nodes.iter().for_each(|node| node.encode(&mut out));
    checksum(&out).encode(&mut out);
    out
}

impl Tree {
    /// What changes in the records from `before` to this tree; from nothing, if there is no before.
    /// Only what the two do not share is looked at.
    pub(crate) fn record_changes(&self, before: Option<&Self>, changes: &mut Changes) {
        let visit = &mut |id, chunk: Option<&Chunk>| match chunk {
            Some(chunk) => changes.put(key(id), encode(id, chunk)),
            None => changes.delete(key(id)),
        };
        match before {
            Some(before) => self.trie.changes(&before.trie, visit),
            None => self.trie.chunks(visit),
        }
    }

    /// The signature keys that leaves had in `before` and no longer have in this tree. Only what the
    /// two do not share is looked at.
    pub(crate) fn replaced_signature_keys(&self, before: &Self) -> ReplacedKeys {
        let mut replaced = Vec::new();
        let visit = &mut |id: ChunkId, _: Option<&Chunk>| {
            for leaf in (0..NODES).filter_map(|slot| id.node(slot).leaf()) {
                let old = before.leaf(leaf).map(Leaf::signature_key);
                if old != self.leaf(leaf).map(Leaf::signature_key) {
                    replaced.push((leaf, old.map(SignaturePublicKey::from)));
                }
            }
        };
        self.trie.changes(&before.trie, visit);
        replaced
    }

    /// Reads a tree of 2^`depth` leaves back. Its tree hash is left to the caller to compare: only with
    /// that is it known that all chunks are of one tree.
    ///
    /// # Errors
    /// [`DamagedRecord`] if a chunk is missing, or is not what was written, or does not fit.
    pub(crate) fn load(
        depth: u32,
        suite: &dyn Suite,
        records: &dyn Records,
    ) -> Result<Self, DamagedRecord> {
        let trie = Trie::new(depth.min(MAX_DEPTH));
        let id = trie.root_id();
        let place = Place {
            top: id,
            root: trie.root(),
            hash_length: suite.hash_length(),
        };
        let mut stored = Stored::read(&place, records);
        let root = stored.take(id)?;
        let mut tree = Self::without_index(Trie::of(root, trie.depth()));
        // No wider than its last member needs; else hashing it would cost what damage makes of it.
        let width = tree.trie.last_leaf().map(depth_for);
        if width != Some(depth) {
            return Err(DamagedRecord(key(id)));
        }
        tree.tree_hash(suite);
        Ok(tree)
    }
}

/// What the chunks that are read have to fit into.
struct Place {
    top: ChunkId,
    root: NodeIndex,
    hash_length: usize,
}

impl Place {
    /// Whether the tree may have this chunk.
    fn has(&self, id: ChunkId) -> bool {
        let above = self.top.tier.checked_sub(id.tier);
        let above = above.filter(|above| {
            id.position.checked_shr(LEVELS * above).unwrap_or(0) == self.top.position
        });
        above.is_some() && self.root.covers(id.node(0))
    }
}

/// The chunks as they were stored.
struct Stored<'a> {
    tree: &'a Place,
    records: &'a dyn Records,
    /// Those that were read at once.
    read: BTreeMap<ChunkId, (Chunk, u16)>,
}

impl<'a> Stored<'a> {
    /// Reads all of them, if the store does that. What cannot be read is left out, so that it is
    /// noticed when it is missed.
    fn read(tree: &'a Place, records: &'a dyn Records) -> Self {
        let mut read = BTreeMap::new();
        let complete = records.each(RecordKind::TreeChunk, &mut |key, record| {
            let id = key.get(1..).map(<(u8, u32)>::from_bytes);
            if let Some(Ok((tier, position))) = id {
                let tier = u32::from(tier);
                let id = ChunkId { tier, position };
                let chunk = tree.has(id).then(|| decode(id, tree, record).ok());
                read.extend(chunk.flatten().map(|chunk| (id, chunk)));
            }
        });
        if !complete {
            read.clear();
        }
        Self {
            tree,
            records,
            read,
        }
    }

    /// A chunk of the tree and all those below it.
    fn take(&mut self, id: ChunkId) -> Result<Arc<Chunk>, DamagedRecord> {
        let damaged = || DamagedRecord(key(id));
        let (mut chunk, present) = match self.read.remove(&id) {
            Some(read) => read,
            None => {
                // Taken out of what wipes secrets: the tree holds none.
                let record = self.records.get(&key(id));
                let record = record.map(|mut record| std::mem::take(&mut *record));
                let record = record.ok_or_else(damaged)?;
                decode(id, self.tree, &record).map_err(|_| damaged())?
            }
        };
        for number in (0..CHILDREN).filter(|number| present >> number & 1 == 1) {
            let below = chunk.children.as_mut().map(|below| &mut below[number]);
            let (Some(below), true) = (below, self.tree.has(id.child(number))) else {
                return Err(damaged());
            };
            let child = self.take(id.child(number))?;
            chunk.leaves += child.leaves;
            *below = Child::Chunk(child);
        }
        Ok(Arc::new(chunk))
    }
}

/// Reads a chunk, and which chunks are below it.
fn decode(id: ChunkId, tree: &Place, record: &[u8]) -> Result<(Chunk, u16), DecodeError> {
    let (content, sum) = record.split_last_chunk().ok_or(DecodeError::Truncated)?;
    if u64::from_be_bytes(*sum) != checksum(content) {
        return Err(DecodeError::InvalidValue("checksum of a chunk"));
    }
    let mut reader = Reader::new(content);
    if u8::decode(&mut reader)? != VERSION {
        return Err(DecodeError::InvalidValue("version of a chunk"));
    }
    let children = u16::decode(&mut reader)?;
    let mut chunk = Chunk::new(id.tier);
    let top = reader.prefixed()?;
    if !top.is_empty() {
        let top = Hash::from_slice(top).filter(|top| top.len() == tree.hash_length);
        let top = top.ok_or(DecodeError::InvalidValue("tree hash"))?;
        chunk.hashes.set(0, &top);
    }
    for slot in 0..NODES {
        let Some(node) = Option::<Node>::decode(&mut reader)? else {
            continue;
        };
        let place = id.node(slot);
        if !tree.root.covers(place) || node.leaf().is_some() != place.leaf().is_some() {
            return Err(DecodeError::InvalidValue("place of a node"));
        }
        chunk.leaves += u32::from(node.leaf().is_some());
        chunk.nodes[slot] = Some(node);
    }
    reader.finish()?;
    Ok((chunk, children))
}

/// Tells damage to a record: no change within one word of eight bytes keeps the sum, and any other keeps
/// it by a chance of about 2^-64. Nobody else writes our records, so it need not withstand intent.
fn checksum(content: &[u8]) -> u64 {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |sum: u64, word: u64| (sum ^ word).wrapping_mul(MULTIPLIER).rotate_left(29);
    let (words, rest) = content.as_chunks::<8>();
    let sum = words.iter().fold(content.len() as u64, |sum, word| {
        mix(sum, u64::from_be_bytes(*word))
    });
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(sum, u64::from_be_bytes(last))
}
