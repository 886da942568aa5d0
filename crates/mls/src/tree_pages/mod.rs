//! The ratchet tree in pages, for groups whose tree is too large for every Welcome.
//!
//! A tree of more than 256 leaves is cut into fixed subtrees: *leaf pages* of 32 leaves, and above
//! them *index pages* of four levels of nodes, with up to 16 pages below. Each page is encrypted under
//! a secret of the epoch that last wrote it; an index page holds, of each page below, its address, its
//! secret and its tree hash. The root page is written in every epoch. So
//!
//! - a commit writes the pages whose subtree it changed and the index pages above them, whatever the
//!   size of the group;
//! - who has the root page's secret, as every member of the epoch, opens all others;
//! - a page's content follows from the tree, its secret from the epoch that wrote it: all members
//!   compute the same bytes, check what an author declared, and put back what a service lost;
//! - a page is checked the moment it arrives, since its tree hash is known from the page above, and
//!   the root's from the GroupContext.
//!
//! ```text
//! index page 2/0              root of a tree of 50,000          levels 10 to 13, and so on
//! index pages 1/0, 1/1 ..     16 pages below each               levels 6 to 9
//! leaf pages 0/0, 0/1, ..     32 leaves each                    levels 0 to 5
//! ```
//!
//! # Use
//!
//! [`TreePages`] is a value that a member keeps beside its [`Group`], from the group's first epoch on
//! ([`TreePages::begin`]). Each commit has a [`PageUpdate`]: the pages to write, the addresses replaced
//! and the next `TreePages`. Its author has it in the
//! [`PendingCommit`](crate::group::PendingCommit), if
//! [`CommitBuilder::tree_pages`](crate::group::CommitBuilder::tree_pages) was called; everybody else
//! calls [`TreePages::advance`], and may compare. [`TreePages::page`] makes any of the current pages
//! again. A newcomer joins with [`Group::join_by_pages`]. A group without pages carries nothing of this.
//!
//! # Limits
//!
//! A tree has no pages if it has more than 2^18 leaves ([`MAX_TREE_DEPTH`]) or if one of them would be
//! larger than [`MAX_PAGE`], as a single member can bring about with its leaf. Then the commit replaces all
//! pages by none, for every member alike, and Welcomes hold the tree again; the first epoch where all fits
//! writes all of them. A newcomer takes no deeper tree, and no more bytes in all than
//! [`JoinByPages::byte_limit`](crate::group::JoinByPages::byte_limit) says: what is computed for blank
//! leaves does not depend on what anybody sent. With the tree in one piece it does, as every leaf up to the
//! last member's takes a byte of the Welcome at least.
//!
//! The root page's address is in the GroupInfo, signed by the inviter. If that one lies, the newcomer
//! fails to join or, if it provides pages of its own making as well, computes other pages than the
//! others from then on, of the same tree. So whoever can should compare the address with the one that
//! the commit declared.
//!
//! # What it costs
//!
//! Measured with filled trees, leaves of about 190 bytes (basic credentials) and suite 1. The tests in
//! `tests/tree_pages.rs` keep the number of pages that a commit writes, and bounds above the bytes of all
//! pages, of a commit's, of its records and of the Welcome; times are as seen once, and kept by nothing.
//!
//! | | 1,000 leaves | 8,000 | 50,000 |
//! | --- | --- | --- | --- |
//! | the tree in one piece | 282 KB | 2.26 MB | 14.2 MB |
//! | its pages | 35, 296 KB | 267, 2.36 MB | 1,669, 14.8 MB |
//! | a commit writes | 3, 12.9 KB | 3, 15.4 KB | 4, 17.0 KB |
//! | what every member computes for that | 37 µs | 47 µs | 57 µs |
//! | its records | 1.3 KB | 2.3 KB | 2.7 KB |
//! | Welcome: shared body, one's own part | 248 B, 152 B | the same | the same |
//! | join by pages, CPU, against the tree in one piece | 22, 25 ms | 203, 196 ms | 1.48, 1.43 s |
//! | of it after the last page | 18 ms | 38 ms | 60 ms |
//!
//! Leaves of 450 bytes make a leaf page of 18 KB instead of 10. Smaller leaf pages would make a commit's
//! pages smaller and the index larger, of more pages; these are near the least for 50,000.
//!
//! # What it shows
//!
//! Who stores the pages sees which address replaces which, and with it a good deal about authors:
//!
//! - a commit with a path shows in which 32 leaves its author sits, not under which name. Two commits
//!   that replace the same leaf page are by one of 32 at most, so a store can follow such a group of
//!   members through all epochs, and where a page has a single member, that member's commits are linked;
//! - lengths are rounded up to 512 bytes, and a leaf takes about 190 to 450, so the length of a page
//!   tells how many members are in it to about two, and how a commit changed that. It tells a page with a
//!   single member, too;
//! - index pages tell the size and the form of the tree.
//!
//! Longer steps would hide numbers, not the links: steps of 4 KiB make all pages a third larger.

mod layout;
mod loader;
mod page;
mod records;
#[cfg(all(test, feature = "aws-lc"))]
mod tests;

pub use layout::PageId;
pub(crate) use loader::{LoadError, TreeLoader};
pub use page::{Page, PageAddress, TreePage};

use std::sync::Arc;

use imbl::OrdMap;

use crate::codec::{Bytes, DecodeError};
use crate::crypto::{CryptoError, Secret, Suite};
use crate::extension::{ExtensionContent, ExtensionType};
use crate::group::Group;
use crate::records::Changes;
use crate::tree::Tree;
pub(crate) use layout::Layout;
use page::{Below, Entry, encode, page_secret, seal};

/// The most bytes that a sealed page may have. 32 leaves of 128 KiB fit.
pub const MAX_PAGE: usize = 4 << 20;

/// Trees of more than 2^18 leaves have no pages. Who computes tree hashes has to hash every blank leaf,
/// of which an inviter may claim any number; those of 2^18 take a tenth of a second.
pub const MAX_TREE_DEPTH: u32 = 18;

/// How many bytes of pages a newcomer takes in for each leaf that the tree has room for, and at most in
/// all, unless it is told another limit: until all pages are there, the inviter may be anybody.
const BYTES_PER_LEAF: u64 = 16 << 10;
const MOST_BYTES: u64 = 256 << 20;

/// The version of [`TreePagesRoot`], and so of the layout and of the pages.
const VERSION: u8 = 1;

/// Label of the secret, derived as by an exporter, that the epoch's page secrets come from.
const EXPORTER_LABEL: &str = "folkmoot tree pages";

/// Why pages are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// The group is not in the epoch of these [`TreePages`], or not in the one after it: the caller's
    /// fault.
    #[error("the pages are of another epoch than the group")]
    WrongEpoch,
    /// A page is larger than [`MAX_PAGE`]: the service's fault. Nothing has changed, and the page is still
    /// wanted.
    #[error("page {page} has {size} bytes")]
    TooLarge {
        /// Which page.
        page: PageId,
        /// Its size.
        size: usize,
    },
    /// Nobody asked for this page: the service's or the caller's fault. Nothing has changed.
    #[error("page {0:?} is not wanted")]
    NotWanted(PageAddress),
    /// The page was there already: the service's or the caller's fault. Nothing has changed.
    #[error("page {0} came twice")]
    Repeated(PageId),
    /// The bytes are not those of the address: the service's fault. Nothing has changed, and the page
    /// is still wanted.
    #[error("the bytes of page {0} are not those of its address")]
    WrongBytes(PageId),
    /// The GroupInfo tells of pages that no tree has: the inviter's fault.
    #[error("the GroupInfo does not say where the root page is")]
    Root,
    /// The GroupInfo tells of pages of a tree that is deeper than [`MAX_TREE_DEPTH`], and so has none: the
    /// inviter's fault.
    #[error("a tree of 2^{tree_depth} leaves has no pages")]
    TooDeep {
        /// The depth that it tells of.
        tree_depth: u8,
    },
    /// The pages have more bytes together than the newcomer takes: the fault of the inviter, or of the
    /// members who let such leaves in.
    #[error("the pages have more than {limit} bytes")]
    TooManyBytes {
        /// The limit that was set.
        limit: u64,
    },
    /// Not all pages have arrived: the caller's fault, or of the service, if it lacks them. Any member
    /// can make them again, see [`TreePages::page`].
    #[error("{0} pages are missing")]
    Missing(usize),
    /// The page does not open: the fault of who wrote the page above it, or for the root page of the
    /// inviter.
    #[error("page {0} cannot be decrypted: {1}")]
    Decryption(PageId, CryptoError),
    /// The page was not sealed as all members would have: its writer's fault.
    #[error("page {0} has a nonce that does not follow from its content")]
    Nonce(PageId),
    /// The page cannot be read: its writer's fault.
    #[error("page {0} is malformed: {1}")]
    Malformed(PageId, DecodeError),
    /// Another page is in its place: the fault of who wrote the page above it.
    #[error("page {found} is in the place of page {page}")]
    WrongPlace {
        /// Which page was meant.
        page: PageId,
        /// Which it says it is.
        found: PageId,
    },
    /// Two pages have one address: the fault of who wrote the page above the second.
    #[error("page {0} has the address of another one")]
    RepeatedAddress(PageId),
    /// There is no member in or below the page, so it should not be: the fault of who wrote the page
    /// above it.
    #[error("page {0} has no member")]
    Empty(PageId),
    /// The tree hash over the page is not that of the page above or, for the root, of the group: the
    /// fault of who wrote it, or for the root page of the inviter.
    #[error("the tree hash of page {0} is not the expected one")]
    TreeHash(PageId),
}

crate::tls_struct! {
    /// In a GroupInfo: where the root page of the tree is.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct TreePagesRoot {
        /// 1.
        pub version: u8,
        /// The tree has 2^`tree_depth` leaves.
        pub tree_depth: u8,
        /// The root page's address.
        pub root: PageAddress,
    }
}

impl ExtensionContent for TreePagesRoot {
    /// For private use.
    const EXTENSION_TYPE: ExtensionType = ExtensionType(0xf044);
}

/// Where the pages of a group's tree are in one epoch, and what opens them. Cheap to clone.
#[derive(Clone, PartialEq)]
pub struct TreePages {
    layout: Layout,
    /// The confirmation tag of the epoch, which no other has.
    at: Bytes,
    root: Option<Root>,
    /// What is below each index page.
    index: Index,
}

type Index = OrdMap<PageId, Arc<Vec<Option<Entry>>>>;

#[derive(Clone, PartialEq)]
struct Root {
    depth: u32,
    entry: Entry,
}

/// What a commit does to the pages.
#[derive(Clone, Debug)]
pub struct PageUpdate {
    /// The pages of the new epoch.
    pub pages: TreePages,
    /// What to write, the root page last. Nothing if the group has no pages.
    pub written: Vec<Page>,
    /// What is not needed any more by those of the new epoch.
    pub replaced: Vec<PageAddress>,
    /// What to store with the commit.
    pub changes: Changes,
}

impl TreePages {
    /// The pages of a group from this epoch on: none, as long as its tree is small, or if they do not fit.
    /// All members have to begin in the same epoch, which is best the group's first.
    #[must_use]
    pub fn begin(group: &Group) -> PageUpdate {
        Self::begin_with(Layout::V1, group)
    }

    pub(crate) fn begin_with(layout: Layout, group: &Group) -> PageUpdate {
        let none = Self {
            layout,
            at: Bytes::default(),
            root: None,
            index: Index::new(),
        };
        none.next(None, group)
    }

    /// The pages after a commit, that leads from the group `before` it, to which these pages belong,
    /// to the group `after` it. All members compute the same.
    ///
    /// Takes time and bytes for the pages that the commit changes; in a group whose pages do not fit, time
    /// to measure the tree.
    ///
    /// # Errors
    /// [`PageError::WrongEpoch`], the caller's fault.
    pub fn advance(&self, before: &Group, after: &Group) -> Result<PageUpdate, PageError> {
        self.check(before)?;
        if after.group_id() != before.group_id() || after.epoch() != before.epoch() + 1 {
            return Err(PageError::WrongEpoch);
        }
        Ok(self.next(Some(before.tree()), after))
    }

    /// Whether the group's tree has pages in this epoch.
    #[must_use]
    pub fn is_paged(&self) -> bool {
        self.root.is_some()
    }

    /// The root page's address, if the group has pages.
    #[must_use]
    pub fn root(&self) -> Option<&PageAddress> {
        self.root.as_ref().map(|root| &root.entry.address)
    }

    /// What the GroupInfo for a newcomer is to hold, if the group has pages.
    #[must_use]
    pub fn extension(&self) -> Option<TreePagesRoot> {
        self.root.as_ref().map(|root| TreePagesRoot {
            version: VERSION,
            tree_depth: root.depth as u8,
            root: root.entry.address.clone(),
        })
    }

    /// The addresses of all current pages.
    pub fn addresses(&self) -> impl Iterator<Item = &PageAddress> {
        let below = self.index.values().flat_map(|below| below.iter().flatten());
        self.root()
            .into_iter()
            .chain(below.map(|entry| &entry.address))
    }

    /// Makes one of the current pages again; `None` if there is none at this address. Looks at all
    /// addresses.
    ///
    /// # Errors
    /// [`PageError::WrongEpoch`], the caller's fault.
    pub fn page(&self, group: &Group, address: &PageAddress) -> Result<Option<Page>, PageError> {
        self.check(group)?;
        let Some(root) = &self.root else {
            return Ok(None);
        };
        let top = self.layout.top(root.depth);
        let found = self.index.iter().find_map(|(above, below)| {
            let children = self.layout.children(*above, root.depth);
            let mut entries = children.zip(below.iter());
            entries.find_map(|(id, entry)| {
                let entry = entry.as_ref().filter(|entry| entry.address == *address)?;
                Some((id, entry))
            })
        });
        let root_entry = (root.entry.address == *address).then_some((top, &root.entry));
        let Some((id, entry)) = found.or(root_entry) else {
            return Ok(None);
        };
        let suite = group.suite();
        let below = self
            .index
            .get(&id)
            .map(|below| &***below)
            .unwrap_or_default();
        let below = self.with_hashes(suite, group.tree(), id, below);
        let (entry, bytes) = self.seal(suite, group.tree(), id, entry.secret.clone(), &below)?;
        let address = entry.address;
        Ok(Some(Page { address, bytes }))
    }

    fn check(&self, group: &Group) -> Result<(), PageError> {
        if *self.at == *group.confirmation_tag() {
            Ok(())
        } else {
            Err(PageError::WrongEpoch)
        }
    }

    /// The entry of a page.
    fn entry(&self, page: PageId) -> Option<&Entry> {
        if let Some(root) = self.root.as_ref()
            && page == self.layout.top(root.depth)
        {
            return Some(&root.entry);
        }
        let (above, number) = self.layout.above(page);
        self.index.get(&above)?.get(number)?.as_ref()
    }

    fn next(&self, before: Option<&Tree>, after: &Group) -> PageUpdate {
        let (suite, tree) = (after.suite(), after.tree());
        let secret = epoch_secret(suite, after.exporter_secret());
        let mut writer = Writer {
            suite,
            before: self,
            tree_before: before,
            tree,
            secret,
            pages: self.clone(),
            written: Vec::new(),
            replaced: Vec::new(),
            changes: Changes::default(),
        };
        writer.pages.at = after.confirmation_tag().into();
        if !writer.run() {
            writer.give_up();
        }
        let Writer {
            pages,
            written,
            replaced,
            mut changes,
            ..
        } = writer;
        pages.record_head(&mut changes);
        PageUpdate {
            pages,
            written,
            replaced,
            changes,
        }
    }

    /// What an index page says of those below it.
    fn with_hashes(
        &self,
        suite: &dyn Suite,
        tree: &Tree,
        page: PageId,
        below: &[Option<Entry>],
    ) -> Vec<Option<Below>> {
        let children = self.layout.children(page, tree.depth());
        children
            .zip(below)
            .map(|(child, entry)| {
                let root = self.layout.root(child, tree.depth());
                entry.as_ref().map(|entry| Below {
                    entry: entry.clone(),
                    tree_hash: tree.hash_of(root, suite).into(),
                })
            })
            .collect()
    }

    fn seal(
        &self,
        suite: &dyn Suite,
        tree: &Tree,
        page: PageId,
        secret: Secret,
        below: &[Option<Below>],
    ) -> Result<(Entry, Vec<u8>), PageError> {
        let top = self.layout.root(page, tree.depth()).level();
        let nodes = self.layout.nodes(page, tree.depth());
        let content = encode(page, top, nodes.map(|node| tree.node(node)), below);
        seal(suite, page, secret, &content)
    }
}

impl std::fmt::Debug for TreePages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreePages")
            .field("root", &self.root())
            .field("pages", &self.addresses().count())
            .finish_non_exhaustive()
    }
}

/// The secret of an epoch that its page secrets come from. It is derived as an exported one would be, but
/// with another last label than "exported" (RFC 9420, section 8.5), so [`Group::exporter`] gives it to
/// nobody.
pub(crate) fn epoch_secret(suite: &dyn Suite, exporter_secret: &Secret) -> Secret {
    let derived = suite.derive_secret(exporter_secret, EXPORTER_LABEL);
    suite.derive_secret(&derived, "pages")
}

/// Goes from the pages of one epoch to those of the next.
struct Writer<'a> {
    suite: &'a dyn Suite,
    before: &'a TreePages,
    tree_before: Option<&'a Tree>,
    tree: &'a Tree,
    secret: Secret,
    pages: TreePages,
    written: Vec<Page>,
    replaced: Vec<PageAddress>,
    changes: Changes,
}

impl Writer<'_> {
    /// Writes what there is to write; false if the tree has no pages, or they do not fit.
    fn run(&mut self) -> bool {
        let layout = self.pages.layout;
        let depth = self.tree.depth();
        if !layout.has_pages(depth) {
            return false;
        }
        let top = layout.top(depth);
        let Some(old_root) = &self.before.root else {
            // Measured before anything is sealed, as this comes again in every epoch until all fits.
            if !self.fits(top, &mut Vec::new()) {
                return false;
            }
            return self.write(top);
        };
        let old_top = layout.top(old_root.depth);
        // Of a tree that shrank, what is above the new root page, and to its right.
        if old_top.tier > top.tier {
            self.remove_but(old_top, top);
        }
        self.write(top)
    }

    fn write(&mut self, top: PageId) -> bool {
        let depth = self.tree.depth();
        match self.visit(top) {
            Ok(Some(entry)) => {
                self.pages.root = Some(Root { depth, entry });
                true
            }
            // What is not sealed is too large.
            Ok(None) | Err(_) => false,
        }
    }

    /// Leaves the group without pages, whatever was written so far.
    fn give_up(&mut self) {
        let before = self.before;
        self.written.clear();
        self.replaced.clear();
        self.changes = Changes::default();
        self.pages.index = before.index.clone();
        self.pages.root = None;
        if let Some(root) = &before.root {
            self.remove(self.pages.layout.top(root.depth));
        }
    }

    /// Whether a page and those below it can be sealed. Depends on the tree alone, so all members agree.
    fn fits(&self, page: PageId, scratch: &mut Vec<u8>) -> bool {
        let (layout, tree, depth) = (self.pages.layout, self.tree, self.tree.depth());
        let mut children = 0;
        let mut present = 0;
        for child in layout.children(page, depth) {
            children += 1;
            if tree.has_members_below(layout.root(child, depth)) {
                present += 1;
                if !self.fits(child, scratch) {
                    return false;
                }
            }
        }
        let nodes = layout.nodes(page, depth).map(|node| tree.node(node));
        page::fits(self.suite, nodes, children, present, scratch)
    }

    /// The entry of a page in the new epoch, which is written if it changed; `None` if there is
    /// nobody in it.
    fn visit(&mut self, page: PageId) -> Result<Option<Entry>, PageError> {
        let layout = self.pages.layout;
        let depth = self.tree.depth();
        if !self.tree.has_members_below(layout.root(page, depth)) {
            self.remove(page);
            return Ok(None);
        }
        let old = self.before.entry(page);
        if let Some(old) = old
            && self.is_unchanged(page)
        {
            return Ok(Some(old.clone()));
        }
        self.replaced.extend(old.map(|old| old.address.clone()));
        let mut below = Vec::new();
        if page.tier > 0 {
            let mut entries = Vec::new();
            for child in layout.children(page, depth) {
                entries.push(self.visit(child)?);
            }
            // Of a tree that shrank, what was to the right.
            let width = entries.len();
            let old_width = self.before.index.get(&page).map_or(0, |old| old.len());
            for number in width..old_width {
                self.remove(layout.child(page, number as u32));
            }
            below = self
                .pages
                .with_hashes(self.suite, self.tree, page, &entries);
            self.pages.record_index(page, &entries, &mut self.changes);
            self.pages.index.insert(page, Arc::new(entries));
        }
        let secret = page_secret(self.suite, &self.secret, page);
        let (entry, bytes) = self
            .pages
            .seal(self.suite, self.tree, page, secret, &below)?;
        let address = entry.address.clone();
        self.written.push(Page { address, bytes });
        Ok(Some(entry))
    }

    /// Whether a page that was there stays as it is. The root page does not: it is sealed anew in every
    /// epoch, and has another form than a page below it.
    fn is_unchanged(&self, page: PageId) -> bool {
        let layout = self.pages.layout;
        let (Some(before), Some(root)) = (self.tree_before, &self.before.root) else {
            return false;
        };
        let tops = [layout.top(root.depth), layout.top(self.tree.depth())];
        if tops.contains(&page) {
            return false;
        }
        // The same tree hash means the same nodes in the same places.
        let node = layout.root(page, self.tree.depth());
        before.hash_of(node, self.suite) == self.tree.hash_of(node, self.suite)
    }

    /// Gives up a page, if it was there, and those below it.
    fn remove(&mut self, page: PageId) {
        self.remove_but(
            page,
            PageId {
                tier: u32::MAX,
                position: 0,
            },
        );
    }

    /// The same, but for the page `kept` and those below it.
    fn remove_but(&mut self, page: PageId, kept: PageId) {
        let before = self.before;
        let Some(old) = before.entry(page).filter(|_| page != kept) else {
            return;
        };
        self.replaced.push(old.address.clone());
        if let Some(below) = before.index.get(&page) {
            for number in 0..below.len() {
                self.remove_but(self.pages.layout.child(page, number as u32), kept);
            }
            self.pages.index.remove(&page);
            TreePages::record_removal(page, &mut self.changes);
        }
    }
}
