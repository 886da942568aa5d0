//! A tree put together from its pages, in whatever order they arrive.
//!
//! Of each page all is checked at once that concerns it alone: its bytes by the address, its content by
//! the tree hash from the page above, and on a leaf page the parent hashes, unmerged leaves and leaf
//! nodes, with their signatures in batches. What concerns several pages is left for the end: the parent
//! hashes of the nodes on index pages. That keys are unique is checked across pages as they come.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand_core::CryptoRng;

use super::layout::{Layout, PageId};
use super::page::{Entry, PageAddress, TreePage, decode, open, page_secret};
use super::{
    BYTES_PER_LEAF, Index, MAX_PAGE, MAX_TREE_DEPTH, MOST_BYTES, PageError, Root, TreePages,
    TreePagesRoot, VERSION,
};
use crate::codec::Bytes;
use crate::crypto::{Secret, Suite};
use crate::tree::leaf_validation::BATCH;
use crate::tree::{LeafRules, Tree, TreeError};
use crate::tree_math::{LeafIndex, MAX_DEPTH};
use crate::workers::Workers;

/// Why a tree in pages is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LoadError {
    /// The pages.
    #[error(transparent)]
    Page(#[from] PageError),
    /// What is on them.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// A page that is waited for.
struct Wanted {
    page: PageId,
    entry: Entry,
    tree_hash: Bytes,
}

/// What has arrived of a tree.
pub(crate) struct TreeLoader {
    suite: &'static dyn Suite,
    layout: Layout,
    depth: u32,
    root: Entry,
    tree_hash: Bytes,
    wanted: BTreeMap<PageAddress, Wanted>,
    arrived: BTreeMap<PageAddress, PageId>,
    tree: Tree,
    index: Index,
    /// Leaves whose signatures are not checked yet.
    unchecked: Vec<LeafIndex>,
    /// Bytes of the pages that arrived, and how many there may be.
    bytes: u64,
    byte_limit: u64,
    failed: Option<LoadError>,
}

/// Batches of leaves that are checked at a time, so that several workers have one each.
const BATCHES: usize = 4;

impl TreeLoader {
    /// Begins with the root page. `epoch_secret` is the epoch's for pages, `tree_hash` the GroupContext's.
    ///
    /// # Errors
    /// [`PageError::Root`] and [`PageError::TooDeep`], the inviter's fault.
    pub fn new(
        suite: &'static dyn Suite,
        layout: Layout,
        root: TreePagesRoot,
        epoch_secret: &Secret,
        tree_hash: Bytes,
    ) -> Result<Self, PageError> {
        let depth = u32::from(root.tree_depth);
        if (MAX_TREE_DEPTH + 1..=MAX_DEPTH).contains(&depth) {
            let tree_depth = root.tree_depth;
            return Err(PageError::TooDeep { tree_depth });
        }
        if root.version != VERSION || !layout.has_pages(depth) {
            return Err(PageError::Root);
        }
        let page = layout.top(depth);
        let root = Entry {
            address: root.root,
            secret: page_secret(suite, epoch_secret, page),
        };
        let wanted = Wanted {
            page,
            entry: root.clone(),
            tree_hash: tree_hash.clone(),
        };
        Ok(Self {
            tree_hash,
            suite,
            layout,
            depth,
            wanted: BTreeMap::from([(root.address.clone(), wanted)]),
            root,
            arrived: BTreeMap::new(),
            tree: Tree::of_depth(depth),
            index: Index::new(),
            unchecked: Vec::new(),
            bytes: 0,
            byte_limit: (BYTES_PER_LEAF << depth).min(MOST_BYTES),
            failed: None,
        })
    }

    /// The addresses of the pages to fetch next.
    pub fn wanted(&self) -> impl Iterator<Item = &PageAddress> {
        self.wanted.keys()
    }

    /// Takes no more bytes of pages in all.
    pub fn set_byte_limit(&mut self, limit: u64) {
        self.byte_limit = limit;
    }

    /// Takes in a page that arrived. After an error that is not the service's, nothing helps: the same
    /// one comes again.
    pub fn arrived(
        &mut self,
        address: &PageAddress,
        bytes: &[u8],
        group_id: &[u8],
        rules: &LeafRules<'_>,
        workers: &dyn Workers,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), LoadError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let Some(wanted) = self.wanted.get(address) else {
            return Err(match self.arrived.get(address) {
                Some(page) => PageError::Repeated(*page),
                None => PageError::NotWanted(address.clone()),
            }
            .into());
        };
        let page = wanted.page;
        if bytes.len() > MAX_PAGE {
            let size = bytes.len();
            return Err(PageError::TooLarge { page, size }.into());
        }
        if PageAddress::of(self.suite, bytes) != *address {
            return Err(PageError::WrongBytes(page).into());
        }
        let Some(wanted) = self.wanted.remove(address) else {
            return Err(PageError::NotWanted(address.clone()).into());
        };
        self.arrived.insert(address.clone(), page);
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        let limit = self.byte_limit;
        let result = if self.bytes > limit {
            Err(PageError::TooManyBytes { limit }.into())
        } else {
            self.take(wanted, bytes, group_id, rules, workers, rng)
        };
        if let Err(error) = &result {
            self.failed = Some(error.clone());
        }
        result
    }

    fn take(
        &mut self,
        wanted: Wanted,
        bytes: &[u8],
        group_id: &[u8],
        rules: &LeafRules<'_>,
        workers: &dyn Workers,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), LoadError> {
        let page = wanted.page;
        let content = open(self.suite, page, &wanted.entry.secret, bytes)?;
        let TreePage { nodes, below, .. } = decode(self.layout, page, self.depth, &content)?;
        if below.iter().all(Option::is_none) && nodes.iter().flatten().all(|n| n.leaf().is_none()) {
            return Err(PageError::Empty(page).into());
        }
        let places = self.layout.nodes(page, self.depth);
        for (place, node) in places.zip(nodes) {
            if let Some(node) = node {
                self.tree.place(place, node)?;
            }
        }
        let children = self.layout.children(page, self.depth);
        let root = self.layout.root(page, self.depth);
        // A leaf page has none below, so all of its hashes are computed.
        let hashes = children.clone().zip(&below).filter_map(|(child, below)| {
            let root = self.layout.root(child, self.depth);
            Some((root, below.as_ref()?.tree_hash.as_slice()))
        });
        let hashes: BTreeMap<_, _> = hashes.collect();
        let hash = match children.clone().next() {
            None => self.tree.node_hash(root, self.suite),
            Some(child) => {
                let level = self.layout.root(child, self.depth).level();
                self.tree.hash_above(root, level, &hashes, self.suite)
            }
        };
        if *hash != *wanted.tree_hash {
            return Err(PageError::TreeHash(page).into());
        }
        if page.tier == 0 {
            self.tree.verify_parents_below(root, 0, self.suite)?;
            return self.check_leaves(root.leaves(), group_id, rules, workers, rng);
        }
        let mut entries = Vec::with_capacity(below.len());
        for (child, below) in children.zip(below) {
            let Some(below) = below else {
                entries.push(None);
                continue;
            };
            let entry = below.entry;
            entries.push(Some(entry.clone()));
            let address = entry.address.clone();
            let wanted = Wanted {
                page: child,
                entry,
                tree_hash: below.tree_hash,
            };
            if self.arrived.contains_key(&address) || self.wanted.insert(address, wanted).is_some()
            {
                return Err(PageError::RepeatedAddress(child).into());
            }
        }
        self.index.insert(page, Arc::new(entries));
        Ok(())
    }

    fn check_leaves(
        &mut self,
        leaves: std::ops::Range<u32>,
        group_id: &[u8],
        rules: &LeafRules<'_>,
        workers: &dyn Workers,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), LoadError> {
        let leaves = leaves.map(LeafIndex);
        self.unchecked
            .extend(leaves.filter(|leaf| self.tree.leaf(*leaf).is_some()));
        if self.unchecked.len() >= BATCHES * BATCH {
            let batches = std::mem::take(&mut self.unchecked);
            self.tree
                .validate_leaves(&batches, group_id, rules, workers, rng)?;
        }
        Ok(())
    }

    /// The tree, once all pages are there, and where they are. `at` is the epoch's confirmation tag.
    pub fn finish(
        mut self,
        at: Bytes,
        group_id: &[u8],
        rules: &LeafRules<'_>,
        workers: &dyn Workers,
        rng: &mut dyn CryptoRng,
    ) -> Result<(Tree, TreePages), LoadError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if !self.wanted.is_empty() {
            return Err(PageError::Missing(self.wanted.len()).into());
        }
        self.tree
            .validate_leaves(&self.unchecked, group_id, rules, workers, rng)?;
        // The root page's was right, so this one is, but what comes next needs it.
        if *self.tree.tree_hash(self.suite) != *self.tree_hash {
            return Err(TreeError::TreeHash.into());
        }
        let root = self.tree.root();
        self.tree
            .verify_parents_below(root, self.layout.leaf_level, self.suite)?;
        if !self.tree.is_told_by_its_nodes() {
            return Err(TreeError::TrailingBlank.into());
        }
        self.tree.validate_credentials()?;
        let pages = TreePages {
            layout: self.layout,
            at,
            root: Some(Root {
                depth: self.depth,
                entry: self.root,
            }),
            index: self.index,
        };
        Ok((self.tree, pages))
    }
}
