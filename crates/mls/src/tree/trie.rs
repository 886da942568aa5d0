//! The array of nodes, as a radix trie of fixed chunks.
//!
//! A chunk of tier t holds the nodes of levels 4t to 4t + 3 below one node of level 4t + 3: 15
//! nodes, 8 of them at level 4t. Under each of those hang two chunks of tier t - 1. A chunk without
//! any node in it or below it does not exist. Chunks are shared between the values of one group's
//! history: a change copies those between the changed node and the root, and no other.
//!
//! ```text
//!     tier 1                 7                     level 7 ┐
//!                     6             6              level 6 │ one chunk, 15 nodes
//!                  5     5       5     5           level 5 │
//!                 4 4   4 4     4 4   4 4          level 4 ┘
//!     tier 0      16 chunks with 8 leaves each     levels 3 to 0
//! ```
//!
//! Tree hashes (RFC 9420, section 7.8) are kept beside the nodes. A change forgets those above it;
//! [`Trie::hash_all`] computes what is missing, and nothing else.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::chunk::{CHILDREN, Child, Chunk, ChunkId, Hasher, LEVELS, NODES, place};
use super::node::{Leaf, Node};
use crate::crypto::{Hash, Suite};
use crate::tree_math::{LeafIndex, NodeIndex};

/// All nodes of a tree with 2^depth leaves. Clones share everything.
#[derive(Clone)]
pub(super) struct Trie {
    root: Arc<Chunk>,
    depth: u32,
}

impl Trie {
    /// A tree of 2^`depth` blank leaves.
    pub(super) fn new(depth: u32) -> Self {
        Self {
            root: Arc::new(Chunk::new(depth / LEVELS)),
            depth,
        }
    }

    /// A tree of 2^`depth` leaves whose nodes are in this chunk and below it.
    pub(super) fn of(root: Arc<Chunk>, depth: u32) -> Self {
        Self { root, depth }
    }

    pub(super) fn depth(&self) -> u32 {
        self.depth
    }

    pub(super) fn root(&self) -> NodeIndex {
        NodeIndex::root(self.depth)
    }

    /// The number of members.
    pub(super) fn len(&self) -> u32 {
        self.root.leaves
    }

    pub(super) fn root_id(&self) -> ChunkId {
        ChunkId {
            tier: self.depth / LEVELS,
            position: 0,
        }
    }

    fn chunk(&self, id: ChunkId) -> Option<&Chunk> {
        let mut tier = self.root_id().tier;
        let mut chunk = &self.root;
        while tier > id.tier {
            tier -= 1;
            let position = id.position >> (LEVELS * (tier - id.tier));
            chunk = chunk.child(position as usize % CHILDREN)?;
        }
        Some(chunk)
    }

    /// The node, if the tree has it and it is not blank.
    pub(super) fn get(&self, node: NodeIndex) -> Option<&Node> {
        if !self.root().covers(node) {
            return None;
        }
        let (id, slot) = place(node);
        self.chunk(id)?.nodes[slot].as_ref()
    }

    /// Puts or blanks a node, which must lie in the tree.
    pub(super) fn set(&mut self, target: NodeIndex, node: Option<Node>) {
        debug_assert!(self.root().covers(target));
        if node.is_none() && self.get(target).is_none() {
            return;
        }
        let id = self.root_id();
        Arc::make_mut(&mut self.root).set(id, target, node);
    }

    /// Puts a chunk of the lowest tier where there is none, into a tree whose hashes are not known yet.
    pub(super) fn put_lowest(&mut self, position: u32, chunk: Chunk) {
        let mut tier = self.root_id().tier;
        let mut place = &mut self.root;
        while tier > 0 {
            tier -= 1;
            let above = Arc::make_mut(place);
            above.leaves += chunk.leaves;
            let number = (position >> (LEVELS * tier)) as usize % CHILDREN;
            let Some(children) = &mut above.children else {
                return;
            };
            let child = &mut children[number];
            if let Child::Blank(_) = child {
                *child = Child::Chunk(Arc::new(Chunk::new(tier)));
            }
            let Child::Chunk(below) = child else { return };
            place = below;
        }
        *place = Arc::new(chunk);
    }

    /// Doubles the number of leaves (RFC 9420, section 7.7).
    pub(super) fn extend(&mut self) {
        self.depth += 1;
        if self.depth.is_multiple_of(LEVELS) {
            let mut root = Chunk::new(self.depth / LEVELS);
            root.leaves = self.root.leaves;
            if let Some(children) = &mut root.children
                && !self.root.is_empty()
            {
                children[0] = Child::Chunk(self.root.clone());
            }
            self.root = Arc::new(root);
        }
    }

    /// Halves the number of leaves (RFC 9420, section 7.7). The right half and the root must be
    /// blank.
    pub(super) fn truncate(&mut self) {
        debug_assert!(self.get(self.root()).is_none());
        if self.depth.is_multiple_of(LEVELS) {
            self.root = match self.root.child(0) {
                Some(chunk) => chunk.clone(),
                None => Arc::new(Chunk::new(self.depth / LEVELS - 1)),
            };
        }
        self.depth -= 1;
    }

    /// How many members are below the node, or in it if it is a leaf.
    pub(super) fn leaves_below(&self, node: NodeIndex) -> u32 {
        let (id, slot) = place(node);
        self.chunk(id)
            .map_or(0, |chunk| chunk.leaves_below(slot, id.tier))
    }

    /// Shows the resolution of a node (RFC 9420, section 4.1.1) from left to right, until `visit` has
    /// seen enough.
    pub(super) fn resolve<B>(
        &self,
        node: NodeIndex,
        visit: &mut impl FnMut(NodeIndex) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let (id, slot) = place(node);
        match self.chunk(id) {
            Some(chunk) if self.root().covers(node) => chunk.resolve(id, slot, visit),
            _ => ControlFlow::Continue(()),
        }
    }

    /// Whether there is nothing but blanks at and below a node, as far as chunks tell.
    pub(super) fn holds_nothing(&self, node: NodeIndex) -> bool {
        self.chunk(place(node).0).is_none()
    }

    /// Computes all tree hashes that are missing, and returns the root's.
    pub(super) fn hash_all(&mut self, suite: &dyn Suite) -> Hash {
        self.hash(self.root(), suite)
    }

    /// The tree hash of a node, computing and keeping what is missing below it.
    pub(super) fn hash(&mut self, node: NodeIndex, suite: &dyn Suite) -> Hash {
        if let Some(hash) = self.cached_hash(node) {
            return hash;
        }
        let (target, slot) = place(node);
        let mut hasher = Hasher::new(suite);
        let mut id = self.root_id();
        let mut chunk = Arc::make_mut(&mut self.root);
        while id.tier > target.tier {
            let number = (target.position >> (LEVELS * (id.tier - 1 - target.tier))) as usize;
            let number = number % CHILDREN;
            let top = target.tier + 1 == id.tier && slot == 0;
            match chunk
                .children
                .as_mut()
                .map(|children| &mut children[number])
            {
                Some(Child::Chunk(below)) => chunk = Arc::make_mut(below),
                Some(Child::Blank(hash)) if top => {
                    return *hash.get_or_insert_with(|| hasher.blank(node));
                }
                _ => return hasher.blank(node),
            }
            id = id.child(number);
        }
        chunk.hash(id, slot, &mut hasher)
    }

    /// The tree hash of a node, if it is known.
    pub(super) fn cached_hash(&self, node: NodeIndex) -> Option<Hash> {
        let (id, slot) = place(node);
        match self.chunk(id) {
            Some(chunk) => chunk.hashes.get(slot),
            None if slot == 0 => {
                let above = ChunkId {
                    tier: id.tier + 1,
                    position: id.position >> LEVELS,
                };
                let number = id.position as usize % CHILDREN;
                match &self.chunk(above)?.children.as_ref()?[number] {
                    Child::Blank(hash) => *hash,
                    Child::Chunk(_) => None,
                }
            }
            None => None,
        }
    }

    /// The first member at `from` or to the right of it.
    pub(super) fn next_leaf(&self, from: LeafIndex) -> Option<(LeafIndex, &Leaf)> {
        fn search(chunk: &Chunk, id: ChunkId, from: u32) -> Option<(LeafIndex, &Leaf)> {
            if chunk.leaves == 0 || id.node(0).leaves().end <= from {
                return None;
            }
            if id.tier == 0 {
                return ((NODES - 1) / 2..NODES).find_map(|slot| {
                    let index = LeafIndex(id.node(slot).0 >> 1);
                    let leaf = chunk.nodes[slot].as_ref()?.leaf()?;
                    (index.0 >= from).then_some((index, leaf))
                });
            }
            (0..CHILDREN).find_map(|number| search(chunk.child(number)?, id.child(number), from))
        }
        search(&self.root, self.root_id(), from.0)
    }

    /// The last member.
    pub(super) fn last_leaf(&self) -> Option<LeafIndex> {
        let (mut chunk, mut id) = (&self.root, self.root_id());
        while id.tier > 0 {
            let number = (0..CHILDREN)
                .rev()
                .find(|n| chunk.child(*n).is_some_and(|c| c.leaves > 0))?;
            chunk = chunk.child(number)?;
            id = id.child(number);
        }
        let slot = (0..NODES).rev().find(|slot| chunk.nodes[*slot].is_some())?;
        id.node(slot).leaf()
    }

    /// The leftmost blank leaf, if the tree has one.
    pub(super) fn first_blank(&self) -> Option<LeafIndex> {
        if u64::from(self.len()) >= 1 << self.depth {
            return None;
        }
        let (mut chunk, mut id) = (&self.root, self.root_id());
        while id.tier > 0 {
            let capacity = 1 << (LEVELS * id.tier - 1);
            let number = (0..CHILDREN)
                .find(|number| chunk.child(*number).is_none_or(|c| c.leaves < capacity))?;
            id = id.child(number);
            match chunk.child(number) {
                Some(below) => chunk = below,
                None => return Some(LeafIndex(id.node(0).leaves().start)),
            }
        }
        let slot = ((NODES - 1) / 2..NODES).find(|slot| chunk.nodes[*slot].is_none())?;
        id.node(slot).leaf()
    }

    /// The members from left to right.
    pub(super) fn leaves(&self) -> impl Iterator<Item = (LeafIndex, &Leaf)> {
        let mut from = LeafIndex(0);
        std::iter::from_fn(move || {
            let found = self.next_leaf(from)?;
            from = LeafIndex(found.0.0 + 1);
            Some(found)
        })
    }

    /// The chunks whose nodes differ from those of `before`, with `None` for those that became
    /// empty. Only what the two do not share is looked at.
    pub(super) fn changes<'a>(&'a self, before: &'a Self, visit: &mut Visit<'a>) {
        let top = self.root_id().tier.max(before.root_id().tier);
        changes(
            self.chunk_at_tier(top),
            before.chunk_at_tier(top),
            ChunkId {
                tier: top,
                position: 0,
            },
            (self, before),
            visit,
        );
    }

    fn chunk_at_tier(&self, tier: u32) -> Option<&Arc<Chunk>> {
        (self.root_id().tier == tier).then_some(&self.root)
    }

    /// All nodes that are not blank, chunk by chunk.
    pub(super) fn nodes(&self, visit: &mut dyn FnMut(NodeIndex, &Node)) {
        self.chunks(&mut |id, chunk| {
            let nodes = chunk.into_iter().flat_map(|chunk| &chunk.nodes);
            for (slot, node) in nodes.enumerate() {
                if let Some(node) = node {
                    visit(id.node(slot), node);
                }
            }
        });
    }

    /// All chunks.
    pub(super) fn chunks<'a>(&'a self, visit: &mut Visit<'a>) {
        changes(Some(&self.root), None, self.root_id(), (self, self), visit);
    }
}

/// Told the place of a chunk and the chunk, or `None` if it became empty.
pub(super) type Visit<'a> = dyn FnMut(ChunkId, Option<&'a Chunk>) + 'a;

fn changes<'a>(
    now: Option<&'a Arc<Chunk>>,
    before: Option<&'a Arc<Chunk>>,
    id: ChunkId,
    tries: (&'a Trie, &'a Trie),
    visit: &mut Visit<'a>,
) {
    if let (Some(now), Some(before)) = (now, before)
        && Arc::ptr_eq(now, before)
    {
        return;
    }
    let node = |chunk: Option<&'a Arc<Chunk>>, slot: usize| {
        chunk.and_then(|chunk| chunk.nodes[slot].as_ref())
    };
    let differs = (0..NODES).any(|slot| match (node(now, slot), node(before, slot)) {
        (Some(a), Some(b)) => !a.is_same(b),
        (a, b) => a.is_some() != b.is_some(),
    });
    let children = |chunk: Option<&'a Arc<Chunk>>| chunk.map(|chunk| chunk.children_present());
    if differs || children(now) != children(before) {
        visit(id, now.map(|chunk| &**chunk));
    }
    if id.tier == 0 {
        return;
    }
    for number in 0..CHILDREN {
        let below = |chunk: Option<&'a Arc<Chunk>>, trie: &'a Trie| match chunk {
            Some(chunk) => chunk.child(number),
            // The root of the smaller tree is found under the place of the larger one's root.
            None if id.position == 0 && number == 0 => trie.chunk_at_tier(id.tier - 1),
            None => None,
        };
        let (now, before) = (below(now, tries.0), below(before, tries.1));
        if now.is_some() || before.is_some() {
            changes(now, before, id.child(number), tries, visit);
        }
    }
}
