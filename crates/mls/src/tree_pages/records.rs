//! Where a group's pages are, as records: one for each index page, and one for the root.

use std::sync::Arc;

use super::layout::{Layout, PageId};
use super::page::Entry;
use super::{Index, Root, TreePages};
use crate::codec::{Bytes, Encode};
use crate::error::Error;
use crate::group::Group;
use crate::records::{
    Changes, DamagedRecord, RecordKey, RecordKind, Records, find, load, versioned,
};

crate::tls_struct! {
    struct Head {
        at: Bytes,
        tree_depth: u8,
        root: Option<Entry>,
    }
}

/// Leaf pages have no record, so this one's number is free.
const HEAD: PageId = PageId {
    tier: 0,
    position: 0,
};

fn key(page: PageId) -> RecordKey {
    RecordKey::new(RecordKind::TreePages, &page)
}

impl Entry {
    fn encoded_capacity(&self) -> usize {
        16 + self.address.0.len() + self.secret.len()
    }
}

impl TreePages {
    pub(super) fn record_head(&self, changes: &mut Changes) {
        let head = Head {
            at: self.at.clone(),
            tree_depth: self.root.as_ref().map_or(0, |root| root.depth as u8),
            root: self.root.as_ref().map(|root| root.entry.clone()),
        };
        let root = head.root.as_ref().map_or(0, Entry::encoded_capacity);
        let capacity = 16 + head.at.len() + root;
        changes.put(key(HEAD), versioned(&head, capacity));
    }

    pub(super) fn record_index(
        &self,
        page: PageId,
        below: &[Option<Entry>],
        changes: &mut Changes,
    ) {
        let capacity = below.iter().flatten().map(Entry::encoded_capacity);
        let capacity = 16 + below.len() + capacity.sum::<usize>();
        changes.put(key(page), versioned(&StoredIndex(below), capacity));
    }

    pub(super) fn record_removal(page: PageId, changes: &mut Changes) {
        changes.delete(key(page));
    }

    /// All records, as for a client that has none yet.
    pub(crate) fn record_all(&self, changes: &mut Changes) {
        for (page, below) in &self.index {
            self.record_index(*page, below, changes);
        }
        self.record_head(changes);
    }

    /// Reads the pages of a group back from its records; `None` if it never began with them.
    ///
    /// # Errors
    /// [`Error::DamagedRecord`], our own storage's fault, or of the caller, who did not apply the changes
    /// of a commit; [`Error::RecordVersion`].
    pub fn load(group: &Group, records: &dyn Records) -> Result<Option<Self>, Error> {
        Self::load_with(Layout::V1, group, records)
    }

    pub(crate) fn load_with(
        layout: Layout,
        group: &Group,
        records: &dyn Records,
    ) -> Result<Option<Self>, Error> {
        let Some(head) = find::<Head>(records, &key(HEAD))? else {
            return Ok(None);
        };
        let damaged = |page| Error::from(DamagedRecord(key(page)));
        let depth = u32::from(head.tree_depth);
        let mut index = Index::new();
        let root = match head.root {
            Some(entry) if layout.has_pages(depth) => {
                let mut pending = vec![layout.top(depth)];
                while let Some(page) = pending.pop() {
                    let below: Vec<Option<Entry>> = load(records, key(page))?;
                    let children = layout.children(page, depth);
                    if below.len() != children.clone().count() {
                        return Err(damaged(page));
                    }
                    let present = children.zip(&below).filter(|(_, entry)| entry.is_some());
                    pending.extend(
                        present
                            .map(|(child, _)| child)
                            .filter(|child| child.tier > 0),
                    );
                    index.insert(page, Arc::new(below));
                }
                Some(Root { depth, entry })
            }
            Some(_) => return Err(damaged(HEAD)),
            None => None,
        };
        let pages = Self {
            layout,
            at: head.at,
            root,
            index,
        };
        // A tree whose pages do not fit has none.
        let other_depth = |root: &Root| root.depth != group.tree().depth();
        if pages.check(group).is_err() || pages.root.as_ref().is_some_and(other_depth) {
            return Err(damaged(HEAD));
        }
        Ok(Some(pages))
    }
}

/// `optional<Entry> below<V>`.
struct StoredIndex<'a>(&'a [Option<Entry>]);

impl Encode for StoredIndex<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        crate::codec::encode_prefixed(out, |out| self.0.iter().for_each(|entry| entry.encode(out)));
    }
}
