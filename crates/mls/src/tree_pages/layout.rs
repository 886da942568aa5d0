//! Which nodes of the ratchet tree are on which page.

use super::MAX_TREE_DEPTH;
use crate::codec::{Decode, DecodeError, Encode, Reader};
use crate::tree_math::{MAX_DEPTH, NodeIndex};

/// How trees are cut into pages. All members of a group must do it alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The level of a leaf page's root.
    pub leaf_level: u32,
    /// Levels of nodes on an index page.
    pub index_levels: u32,
    /// Trees up to this depth have no pages.
    pub inline_depth: u32,
}

impl Layout {
    /// That of version 1: pages of 32 leaves, index pages of 4 levels with 16 pages below, above 256
    /// leaves.
    pub const V1: Self = Self {
        leaf_level: 5,
        index_levels: 4,
        inline_depth: 8,
    };

    /// Whether a tree of 2^`depth` leaves has pages, if they fit.
    pub fn has_pages(self, depth: u32) -> bool {
        depth > self.inline_depth && depth <= MAX_TREE_DEPTH
    }

    /// The root page of a tree that has pages.
    pub fn top(self, depth: u32) -> PageId {
        let tier = (depth - self.leaf_level).div_ceil(self.index_levels);
        PageId { tier, position: 0 }
    }

    /// The highest node on a page in a tree of 2^`depth` leaves.
    pub fn root(self, page: PageId, depth: u32) -> NodeIndex {
        let level = self.level(page.tier).min(depth);
        NodeIndex((page.position << (level + 1)) | ((1 << level) - 1))
    }

    /// The level of the highest node on a page that is not cut off by the tree's root.
    fn level(self, tier: u32) -> u32 {
        self.leaf_level + self.index_levels * tier
    }

    /// The nodes on a page from left to right.
    pub fn nodes(self, page: PageId, depth: u32) -> impl Iterator<Item = NodeIndex> + Clone {
        let root = self.root(page, depth);
        let step = match page.tier.checked_sub(1) {
            Some(below) => self.level(below) + 1,
            None => 0,
        };
        let first = root.leaves().start << 1;
        (1..1 << (root.level() + 1 - step)).map(move |k| NodeIndex(first + (k << step) - 1))
    }

    /// The pages below a page of a tree of 2^`depth` leaves, from left to right, as far as the tree
    /// reaches. None below a leaf page.
    pub fn children(self, page: PageId, depth: u32) -> impl Iterator<Item = PageId> + Clone {
        let width = match page.tier.checked_sub(1) {
            Some(below) => 1 << (self.root(page, depth).level() - self.level(below)),
            None => 0,
        };
        (0..width).map(move |number| self.child(page, number))
    }

    /// How many nodes are on a page of a tier, and how many pages are below it, if its highest node is of
    /// level `top`; `None` if no such page has that.
    pub fn counts(self, tier: u32, top: u32) -> Option<(usize, usize)> {
        let level = self.level(tier);
        let (lowest, children) = match tier.checked_sub(1).map(|below| self.level(below)) {
            Some(below) => (
                below + 1,
                1 << top.checked_sub(below)?.min(self.index_levels),
            ),
            None => (if top == level { 0 } else { return None }, 0),
        };
        let is_there = (lowest..=level.min(MAX_DEPTH)).contains(&top);
        is_there.then(|| ((1 << (top + 1 - lowest)) - 1, children))
    }

    /// The page below with a number.
    pub fn child(self, page: PageId, number: u32) -> PageId {
        PageId {
            tier: page.tier - 1,
            position: (page.position << self.index_levels) | number,
        }
    }

    /// The page above, and this page's number among those below it.
    pub fn above(self, page: PageId) -> (PageId, usize) {
        let above = PageId {
            tier: page.tier + 1,
            position: page.position >> self.index_levels,
        };
        let number = page.position & ((1 << self.index_levels) - 1);
        (above, number as usize)
    }
}

/// Names a page within the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageId {
    /// 0 for a page of leaves, else one more than the pages below.
    pub tier: u32,
    /// Its number among the pages of the tier, from the left, from 0.
    pub position: u32,
}

impl std::fmt::Display for PageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.tier, self.position)
    }
}

impl Encode for PageId {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.tier as u8).encode(out);
        self.position.encode(out);
    }
}

impl Decode for PageId {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let tier = u8::decode(reader)?.into();
        let position = u32::decode(reader)?;
        if tier > MAX_DEPTH || position >> MAX_DEPTH != 0 {
            return Err(DecodeError::InvalidValue("PageId"));
        }
        Ok(Self { tier, position })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_page_has_other_counts() {
        let layout = Layout::V1;
        assert!((0..256).filter(|depth| layout.has_pages(*depth)).eq(9..=18));
        let tops = |tier| (0..256).filter(move |top| layout.counts(tier, *top).is_some());
        assert!(tops(0).eq([5]));
        assert!(tops(1).eq([6, 7, 8, 9]));
        assert!(tops(5).eq([22, 23, 24]));
        assert!(tops(6).eq([]));
        assert!(tops(24).eq([]));
    }

    /// Every node of a tree is on exactly one page, and a page's children are right below it.
    #[test]
    fn pages_cover_the_tree() {
        let small = Layout {
            leaf_level: 1,
            index_levels: 2,
            inline_depth: 1,
        };
        for layout in [small, Layout::V1] {
            for depth in layout.inline_depth + 1..14 {
                let top = layout.top(depth);
                assert_eq!(layout.root(top, depth), NodeIndex::root(depth));
                let mut seen = BTreeSet::new();
                let mut pages = vec![top];
                while let Some(page) = pages.pop() {
                    let nodes: Vec<_> = layout.nodes(page, depth).collect();
                    assert!(nodes.is_sorted());
                    let top = layout.root(page, depth).level();
                    let children = layout.children(page, depth).count();
                    assert_eq!(layout.counts(page.tier, top), Some((nodes.len(), children)));
                    for node in nodes {
                        assert!(layout.root(page, depth).covers(node));
                        assert!(seen.insert(node), "{node:?} of {page}");
                    }
                    for (number, child) in layout.children(page, depth).enumerate() {
                        assert_eq!(layout.above(child), (page, number));
                        let root = layout.root(child, depth);
                        assert!(layout.nodes(page, depth).any(|node| node == root.parent()));
                        pages.push(child);
                    }
                }
                assert_eq!(seen.len(), (1 << (depth + 1)) - 1);
                assert_eq!(seen.last(), Some(&NodeIndex((1 << (depth + 1)) - 2)));
            }
        }
    }
}
