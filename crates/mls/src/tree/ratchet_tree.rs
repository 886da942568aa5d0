//! The whole tree as a message (RFC 9420, section 12.4.3.3).

use super::chunk::{Chunk, LEVELS, place};
use super::node::Node;
use super::trie::Trie;
use super::{Tree, TreeError};
use crate::codec::{Decode, Encode, Reader, encode_prefixed};
use crate::tree_math::{MAX_DEPTH, NodeIndex};

impl Tree {
    /// The encoding of the `ratchet_tree`: all nodes from left to right, up to the last that is not
    /// blank.
    #[must_use]
    pub fn to_ratchet_tree(&self) -> Vec<u8> {
        let mut out = Vec::new();
        encode_prefixed(&mut out, |out| {
            let last = self.last_node().map_or(0, |node| node.0 + 1);
            (0..last).for_each(|place| self.node(NodeIndex(place)).encode(out));
        });
        out
    }

    /// Reads a `ratchet_tree`. What is checked is that the nodes fit their places and that no two
    /// have the same key; what makes the tree the group's is checked by
    /// [`validate`](Tree::validate).
    ///
    /// # Errors
    /// [`TreeError::Malformed`], [`TreeError::TrailingBlank`], [`TreeError::MisplacedNode`],
    /// [`TreeError::TooLarge`], [`TreeError::DuplicateEncryptionKey`],
    /// [`TreeError::DuplicateSignatureKey`], to the blame of whoever made it.
    pub fn from_ratchet_tree(bytes: &[u8]) -> Result<Self, TreeError> {
        let mut reader = Reader::new(bytes);
        let mut nodes = Reader::new(reader.prefixed()?);
        reader.finish()?;
        let mut trie = Trie::new(0);
        // The nodes of the lowest chunks come one after the other, but for those above them.
        let mut lowest = Lowest::default();
        let mut place = 0;
        let mut last_is_blank = true;
        while !nodes.is_empty() {
            let node = NodeIndex(place);
            if place >= (1 << (trie.depth() + 1)) - 1 {
                if trie.depth() == MAX_DEPTH {
                    return Err(TreeError::TooLarge);
                }
                if (trie.depth() + 1).is_multiple_of(LEVELS) {
                    lowest.finish(&mut trie);
                }
                trie.extend();
            }
            let content = Option::<Node>::decode(&mut nodes)?;
            last_is_blank = content.is_none();
            if let Some(content) = content {
                if content.leaf().is_some() != node.leaf().is_some() {
                    return Err(TreeError::MisplacedNode(node));
                }
                lowest.put(node, content, &mut trie);
            }
            place += 1;
        }
        if last_is_blank {
            return Err(TreeError::TrailingBlank);
        }
        lowest.finish(&mut trie);
        Self::indexed(trie)
    }

    /// Whether the encoding tells the tree's width: the last node that is not blank is not in a tree of
    /// half as many leaves.
    pub(crate) fn is_told_by_its_nodes(&self) -> bool {
        self.depth() == 0 || self.last_node() >= Some(self.root())
    }

    /// The last node that is not blank. Above and to the right of the last leaf there can be
    /// parents only, all of them on the leaf's direct path.
    fn last_node(&self) -> Option<NodeIndex> {
        let leaf = self.trie.last_leaf()?.node()?;
        let above = leaf
            .direct_path(self.depth())
            .filter(|node| self.node(*node).is_some());
        above.chain([leaf]).max()
    }
}

/// The chunk of the lowest tier that is being filled, and its position.
#[derive(Default)]
struct Lowest(Option<(u32, Chunk)>);

impl Lowest {
    fn put(&mut self, node: NodeIndex, content: Node, trie: &mut Trie) {
        let (id, slot) = place(node);
        if id.tier > 0 {
            trie.set(node, Some(content));
            return;
        }
        if self
            .0
            .as_ref()
            .is_none_or(|(position, _)| *position != id.position)
        {
            self.finish(trie);
        }
        let (_, chunk) = self.0.get_or_insert_with(|| (id.position, Chunk::new(0)));
        chunk.leaves += u32::from(content.leaf().is_some());
        chunk.nodes[slot] = Some(content);
    }

    fn finish(&mut self, trie: &mut Trie) {
        if let Some((position, chunk)) = self.0.take() {
            trie.put_lowest(position, chunk);
        }
    }
}
