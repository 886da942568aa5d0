//! One chunk of the trie, and the tree hashes kept in it (RFC 9420, section 7.8).

use std::ops::ControlFlow;
use std::sync::Arc;

use super::node::{LEAF, Leaf, Node, PARENT};
use crate::codec::{Encode, encode_bytes};
use crate::crypto::{Hash, Suite};
use crate::tree_math::{LeafIndex, NodeIndex};

/// Nodes in a chunk.
pub(super) const NODES: usize = 15;
/// Chunks under a chunk.
pub(super) const CHILDREN: usize = 16;
/// Levels in a chunk.
pub(super) const LEVELS: u32 = 4;

/// Where a chunk is: its tier, and its number among the chunks of the tier from the left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ChunkId {
    pub tier: u32,
    pub position: u32,
}

impl ChunkId {
    /// The node at `slot`, counted from the top level down and from the left.
    pub(super) fn node(self, slot: usize) -> NodeIndex {
        let depth = (slot as u32 + 1).ilog2();
        let across = (self.position << depth) | (slot as u32 + 1 - (1 << depth));
        let level = LEVELS * self.tier + LEVELS - 1 - depth;
        NodeIndex((across << (level + 1)) | ((1 << level) - 1))
    }

    pub(super) fn child(self, number: usize) -> Self {
        Self {
            tier: self.tier - 1,
            position: self.position * CHILDREN as u32 + number as u32,
        }
    }
}

/// The chunk of a node and its slot in it.
pub(super) fn place(node: NodeIndex) -> (ChunkId, usize) {
    let level = node.level();
    let tier = level / LEVELS;
    let depth = LEVELS - 1 - level % LEVELS;
    let across = node.0 >> (level + 1);
    let slot = (1 << depth) - 1 + (across & ((1 << depth) - 1));
    (
        ChunkId {
            tier,
            position: across >> depth,
        },
        slot as usize,
    )
}

/// Which child of a chunk of tier `tier` leads to `node`, which lies below that chunk.
fn step(node: NodeIndex, tier: u32) -> usize {
    (node.0 >> (LEVELS * tier)) as usize % CHILDREN
}

/// What is under a chunk.
#[derive(Clone)]
pub(super) enum Child {
    /// No node at all. The tree hash at the top of it, once computed.
    Blank(Option<Hash>),
    Chunk(Arc<Chunk>),
}

/// Tree hashes of a chunk's nodes, as far as they are known. They take room for the first alone, or for
/// all.
#[derive(Clone, Default)]
pub(super) struct Hashes {
    bytes: Box<[u8]>,
    /// Of each.
    length: u8,
    /// Bit i says whether that of slot i is known.
    known: u16,
}

impl Hashes {
    pub(super) fn get(&self, slot: usize) -> Option<Hash> {
        if self.known >> slot & 1 == 0 {
            return None;
        }
        let length = usize::from(self.length);
        Hash::from_slice(self.bytes.get(slot * length..(slot + 1) * length)?)
    }

    pub(super) fn set(&mut self, slot: usize, hash: &Hash) {
        let length = hash.len();
        let slots = if slot == 0 { 1 } else { NODES };
        if self.bytes.len() < slots * length {
            let mut bytes = vec![0; slots * length];
            bytes[..self.bytes.len()].copy_from_slice(&self.bytes);
            self.bytes = bytes.into();
        }
        self.bytes[slot * length..(slot + 1) * length].copy_from_slice(hash);
        self.length = length as u8;
        self.known |= 1 << slot;
    }

    fn forget(&mut self, slot: usize) {
        self.known &= !(1 << slot);
    }
}

/// A node of level 4t + 3 with what is below it down to level 4t, and the chunks below those.
#[derive(Clone)]
pub(super) struct Chunk {
    pub(super) nodes: [Option<Node>; NODES],
    pub(super) hashes: Hashes,
    /// None in tier 0.
    pub(super) children: Option<Box<[Child; CHILDREN]>>,
    /// Members in the chunk and below.
    pub(super) leaves: u32,
    #[cfg(feature = "testing")]
    _copies: CountsCopies,
}

impl Chunk {
    pub(super) fn new(tier: u32) -> Self {
        Self {
            nodes: [const { None }; NODES],
            hashes: Hashes::default(),
            children: (tier > 0).then(|| Box::new([const { Child::Blank(None) }; CHILDREN])),
            leaves: 0,
            #[cfg(feature = "testing")]
            _copies: CountsCopies,
        }
    }

    pub(super) fn child(&self, number: usize) -> Option<&Arc<Self>> {
        match &self.children.as_ref()?[number] {
            Child::Blank(_) => None,
            Child::Chunk(chunk) => Some(chunk),
        }
    }

    /// Bit i says whether there is a chunk at child i.
    pub(super) fn children_present(&self) -> u16 {
        (0..CHILDREN)
            .map(|n| u16::from(self.child(n).is_some()) << n)
            .sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.iter().all(Option::is_none)
            && (0..CHILDREN).all(|number| self.child(number).is_none())
    }

    pub(super) fn set(&mut self, id: ChunkId, target: NodeIndex, node: Option<Node>) {
        let (home, home_slot) = place(target);
        // Forget the hashes of the target and of everything above it.
        let mut slot = if home.tier == id.tier {
            home_slot
        } else {
            (NODES - 1) / 2 + step(target, id.tier) / 2
        };
        loop {
            self.hashes.forget(slot);
            let Some(above) = slot.checked_sub(1) else {
                break;
            };
            slot = above / 2;
        }
        if home.tier == id.tier {
            if target.level() == 0 {
                self.leaves -= u32::from(self.nodes[home_slot].is_some());
                self.leaves += u32::from(node.is_some());
            }
            self.nodes[home_slot] = node;
            return;
        }
        let number = step(target, id.tier);
        let Some(children) = &mut self.children else {
            return;
        };
        let child = &mut children[number];
        if let Child::Blank(_) = child {
            *child = Child::Chunk(Arc::new(Self::new(id.tier - 1)));
        }
        let Child::Chunk(chunk) = child else { return };
        let chunk = Arc::make_mut(chunk);
        self.leaves -= chunk.leaves;
        chunk.set(id.child(number), target, node);
        self.leaves += chunk.leaves;
        if chunk.is_empty() {
            *child = Child::Blank(None);
        }
    }

    /// The hash of the node at `slot`, computing what is missing below it.
    pub(super) fn hash(&mut self, id: ChunkId, slot: usize, hasher: &mut Hasher<'_>) -> Hash {
        if let Some(hash) = self.hashes.get(slot) {
            return hash;
        }
        let node = id.node(slot);
        let hash = if let Some(leaf) = node.leaf() {
            hasher.leaf(leaf, self.nodes[slot].as_ref().and_then(Node::leaf))
        } else {
            let [left, right] = if slot < (NODES - 1) / 2 {
                [2 * slot + 1, 2 * slot + 2].map(|below| self.hash(id, below, hasher))
            } else {
                let first = 2 * (slot - (NODES - 1) / 2);
                [first, first + 1].map(|number| self.child_hash(id, number, hasher))
            };
            hasher.parent(self.nodes[slot].as_ref(), &left, &right)
        };
        self.hashes.set(slot, &hash);
        hash
    }

    fn child_hash(&mut self, id: ChunkId, number: usize, hasher: &mut Hasher<'_>) -> Hash {
        let child_id = id.child(number);
        let Some(children) = &mut self.children else {
            return hasher.blank(child_id.node(0));
        };
        match &mut children[number] {
            Child::Blank(hash) => *hash.get_or_insert_with(|| hasher.blank(child_id.node(0))),
            Child::Chunk(chunk) => match chunk.hashes.get(0) {
                Some(hash) => hash,
                None => Arc::make_mut(chunk).hash(child_id, 0, hasher),
            },
        }
    }

    /// Shows the resolution of the node at `slot`, until `visit` has seen enough.
    pub(super) fn resolve<B>(
        &self,
        id: ChunkId,
        slot: usize,
        visit: &mut impl FnMut(NodeIndex) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        match &self.nodes[slot] {
            Some(Node::Leaf(_)) => visit(id.node(slot)),
            Some(Node::Parent(parent)) => {
                visit(id.node(slot))?;
                let mut unmerged = parent.unmerged_leaves.iter();
                unmerged
                    .try_for_each(|leaf| leaf.node().map_or(ControlFlow::Continue(()), &mut *visit))
            }
            None if slot < (NODES - 1) / 2 => {
                self.resolve(id, 2 * slot + 1, visit)?;
                self.resolve(id, 2 * slot + 2, visit)
            }
            None => {
                let first = 2 * (slot - (NODES - 1) / 2);
                [first, first + 1]
                    .into_iter()
                    .try_for_each(|number| match self.child(number) {
                        Some(chunk) => chunk.resolve(id.child(number), 0, visit),
                        None => ControlFlow::Continue(()),
                    })
            }
        }
    }

    /// How many members are below the node at `slot`.
    pub(super) fn leaves_below(&self, slot: usize, tier: u32) -> u32 {
        let depth = (slot as u32 + 1).ilog2();
        let width = NODES.div_ceil(2) >> depth;
        let first = ((slot + 1) << (LEVELS - 1 - depth)) - NODES.div_ceil(2);
        (first..first + width)
            .map(|bottom| match tier {
                0 => u32::from(self.nodes[(NODES - 1) / 2 + bottom].is_some()),
                _ => [2 * bottom, 2 * bottom + 1]
                    .into_iter()
                    .filter_map(|number| self.child(number))
                    .map(|chunk| chunk.leaves)
                    .sum(),
            })
            .sum()
    }
}

#[cfg(feature = "testing")]
thread_local! {
    static COPIED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// How many chunks of 15 nodes this thread has copied in all, to see what operations cost. A change to
/// a chunk that nobody else holds copies nothing.
#[cfg(feature = "testing")]
#[must_use]
pub fn copied_chunks() -> u64 {
    COPIED.get()
}

#[cfg(feature = "testing")]
struct CountsCopies;

#[cfg(feature = "testing")]
impl Clone for CountsCopies {
    fn clone(&self) -> Self {
        COPIED.set(COPIED.get() + 1);
        Self
    }
}

/// Computes tree hashes into one buffer (RFC 9420, section 7.8).
pub(super) struct Hasher<'a> {
    suite: &'a dyn Suite,
    buffer: Vec<u8>,
}

impl<'a> Hasher<'a> {
    pub(super) fn new(suite: &'a dyn Suite) -> Self {
        Self {
            suite,
            buffer: Vec::with_capacity(512),
        }
    }

    /// The hash of a leaf, blank or not.
    pub(super) fn leaf(&mut self, index: LeafIndex, leaf: Option<&Leaf>) -> Hash {
        self.buffer.clear();
        LEAF.encode(&mut self.buffer);
        index.encode(&mut self.buffer);
        leaf.encode(&mut self.buffer);
        self.suite.hash(&self.buffer)
    }

    /// The hash of a parent, blank or not, from its children's.
    pub(super) fn parent(&mut self, node: Option<&Node>, left: &[u8], right: &[u8]) -> Hash {
        self.buffer.clear();
        PARENT.encode(&mut self.buffer);
        node.and_then(Node::parent).encode(&mut self.buffer);
        encode_bytes(left, &mut self.buffer);
        encode_bytes(right, &mut self.buffer);
        self.suite.hash(&self.buffer)
    }

    /// The hash of a node with nothing but blanks below.
    pub(super) fn blank(&mut self, node: NodeIndex) -> Hash {
        match (node.left(), node.right()) {
            (Some(left), Some(right)) => {
                let (left, right) = (self.blank(left), self.blank(right));
                self.parent(None, &left, &right)
            }
            _ => self.leaf(LeafIndex(node.0 >> 1), None),
        }
    }
}
