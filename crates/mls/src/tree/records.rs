//! The tree as records: one for each chunk, so that a change writes what it changed.

use super::Tree;
use super::chunk::{CHILDREN, Chunk, ChunkId, NODES};
use super::node::{Leaf, Node};
use crate::codec::{Decode, DecodeError, Encode, Reader};
use crate::crypto::{SignaturePublicKey, Suite};
use crate::records::{Changes, DamagedRecord, RecordKey, RecordKind, Records};
use crate::tree_math::{LeafIndex, MAX_DEPTH, depth_for};

/// The version of a chunk's record.
const VERSION: u8 = 1;

fn key(id: ChunkId) -> RecordKey {
    RecordKey::new(RecordKind::TreeChunk, &(id.tier as u8, id.position))
}

fn encode(chunk: &Chunk) -> Vec<u8> {
    let mut out = Vec::new();
    VERSION.encode(&mut out);
    chunk.children_present().encode(&mut out);
    chunk.nodes.iter().for_each(|node| node.encode(&mut out));
    out
}

impl Tree {
    /// What changes in the records from `before` to this tree; from nothing, if there is no before.
    /// Only what the two do not share is looked at.
    pub(crate) fn record_changes(&self, before: Option<&Self>, changes: &mut Changes) {
        let visit = &mut |id, chunk: Option<&Chunk>| match chunk {
            Some(chunk) => changes.put(key(id), encode(chunk)),
            None => changes.delete(key(id)),
        };
        match before {
            Some(before) => self.trie.changes(&before.trie, visit),
            None => self.trie.chunks(visit),
        }
    }

    /// The signature keys that leaves had in `before` and no longer have in this tree. Only what the
    /// two do not share is looked at.
    pub(crate) fn replaced_signature_keys(
        &self,
        before: &Self,
    ) -> Vec<(LeafIndex, Option<SignaturePublicKey>)> {
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

    /// Reads a tree of 2^`depth` leaves back.
    ///
    /// # Errors
    /// [`DamagedRecord`] if a chunk is missing or does not fit.
    pub(crate) fn load(
        depth: u32,
        suite: &dyn Suite,
        records: &dyn Records,
    ) -> Result<Self, DamagedRecord> {
        let mut tree = Self::blank(depth.min(MAX_DEPTH));
        let root = tree.trie.root_id();
        tree.load_chunk(root, records)?;
        // No wider than its last member needs; else hashing it would cost what damage makes of it.
        let width = tree.trie.last_leaf().map(depth_for);
        if width != Some(depth) {
            return Err(DamagedRecord(key(root)));
        }
        tree.tree_hash(suite);
        Ok(tree)
    }

    fn load_chunk(&mut self, id: ChunkId, records: &dyn Records) -> Result<(), DamagedRecord> {
        let damaged = || DamagedRecord(key(id));
        let record = records.get(&key(id)).ok_or_else(damaged)?;
        let children = self.read_chunk(id, &record).map_err(|_| damaged())?;
        for number in (0..CHILDREN).filter(|number| children >> number & 1 == 1) {
            if id.tier == 0 || !self.root().covers(id.child(number).node(0)) {
                return Err(damaged());
            }
            self.load_chunk(id.child(number), records)?;
        }
        Ok(())
    }

    fn read_chunk(&mut self, id: ChunkId, record: &[u8]) -> Result<u16, DecodeError> {
        let mut reader = Reader::new(record);
        if u8::decode(&mut reader)? != VERSION {
            return Err(DecodeError::InvalidValue("version of a chunk"));
        }
        let children = u16::decode(&mut reader)?;
        for slot in 0..NODES {
            let Some(node) = Option::<Node>::decode(&mut reader)? else {
                continue;
            };
            let place = id.node(slot);
            if !self.root().covers(place) || node.leaf().is_some() != place.leaf().is_some() {
                return Err(DecodeError::InvalidValue("place of a node"));
            }
            self.put(place, Some(node))
                .map_err(|_| DecodeError::InvalidValue("key of a node"))?;
        }
        reader.finish()?;
        Ok(children)
    }
}
