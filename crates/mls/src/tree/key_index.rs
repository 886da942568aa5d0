//! Which node has a key, in a few bytes for each node.
//!
//! The index holds no key. It is a set of pairs: 32 bits of a keyed hash of the key, and where the node
//! is. Whoever asks compares with the keys in the tree, so a hash that repeats costs a comparison and
//! nothing else. The hash is keyed at random for each tree, so that nobody can choose keys whose hashes
//! repeat.
//!
//! The set is a trie of 16 children a level over the bits of the hash. Clones share all of it; a change
//! copies the way from the root to one bucket.

use std::sync::Arc;

/// Children of a branch.
const CHILDREN: usize = 16;
/// Bits of the hash that a branch tells apart.
const BITS: u32 = CHILDREN.ilog2();
/// A bucket with more entries becomes a branch.
const BUCKET: usize = 32;

/// A hash in the upper half, a place in the lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry(u64);

impl Entry {
    /// `place` is that of the node.
    pub(super) fn new(hash: u32, place: u32) -> Self {
        Self(u64::from(hash) << 32 | u64::from(place))
    }

    pub(super) fn hash(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(super) fn place(self) -> u32 {
        self.0 as u32
    }

    /// Which child of a branch, with `depth` branches above.
    fn child(self, depth: u32) -> usize {
        (self.0 >> (u64::BITS - BITS * (depth + 1))) as usize % CHILDREN
    }
}

/// A set of entries. Cheap to clone.
#[derive(Clone)]
pub(super) enum KeyIndex {
    /// Few entries, or entries of one hash; in no order.
    Bucket(Arc<[Entry]>),
    Branch(Arc<[Self; CHILDREN]>),
}

impl Default for KeyIndex {
    fn default() -> Self {
        Self::Bucket(Arc::default())
    }
}

impl KeyIndex {
    /// A set of entries that are in order.
    pub(super) fn of(sorted: &[Entry]) -> Self {
        Self::of_some(sorted, 0)
    }

    fn of_some(sorted: &[Entry], depth: u32) -> Self {
        if sorted.len() <= BUCKET || depth == u32::BITS / BITS {
            return Self::Bucket(sorted.into());
        }
        let mut rest = sorted;
        Self::Branch(Arc::new(std::array::from_fn(|child| {
            let end = rest.partition_point(|entry| entry.child(depth) <= child);
            let (below, after) = rest.split_at(end);
            rest = after;
            Self::of_some(below, depth + 1)
        })))
    }

    /// Where nodes are whose keys have this hash.
    pub(super) fn places(&self, hash: u32) -> impl Iterator<Item = u32> {
        let (mut set, mut depth) = (self, 0);
        let bucket = loop {
            match set {
                Self::Bucket(entries) => break entries,
                Self::Branch(children) => set = &children[Entry::new(hash, 0).child(depth)],
            }
            depth += 1;
        };
        let found = bucket.iter().filter(move |entry| entry.hash() == hash);
        found.map(|entry| entry.place())
    }

    /// Puts in an entry that is not there.
    pub(super) fn insert(&mut self, entry: Entry) {
        self.change(entry, 0, &mut |entries, depth| {
            if entries.len() < BUCKET || depth == u32::BITS / BITS {
                let one_more = entries.iter().copied().chain([entry]);
                return Self::Bucket(one_more.collect());
            }
            let mut entries = entries.to_vec();
            entries.push(entry);
            entries.sort_unstable();
            Self::of_some(&entries, depth)
        });
    }

    /// Takes an entry out, if it is there.
    pub(super) fn remove(&mut self, entry: Entry) {
        self.change(entry, 0, &mut |entries, _| {
            let place = entries.iter().position(|other| *other == entry);
            let place = place.unwrap_or(entries.len());
            let after = entries.iter().skip(place + 1);
            Self::Bucket(entries[..place].iter().chain(after).copied().collect())
        });
    }

    /// Replaces the bucket where an entry belongs.
    fn change(&mut self, entry: Entry, depth: u32, replace: &mut dyn FnMut(&[Entry], u32) -> Self) {
        match self {
            Self::Bucket(entries) => *self = replace(entries, depth),
            Self::Branch(children) => {
                let child = &mut Arc::make_mut(children)[entry.child(depth)];
                child.change(entry, depth + 1, replace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Hashes of which many repeat, or differ in the last bits alone.
    fn entry() -> impl Strategy<Value = Entry> {
        let hash = prop_oneof![0..3_u32, (0..16_u32).prop_map(|n| n << 28), any::<u32>()];
        (hash, 0..60_u32).prop_map(|(hash, place)| Entry::new(hash, place))
    }

    fn check(index: &KeyIndex, model: &BTreeSet<Entry>) {
        let hashes: BTreeSet<_> = model.iter().map(|entry| entry.hash()).collect();
        for hash in hashes.into_iter().chain([7, u32::MAX]) {
            let found: BTreeSet<_> = index.places(hash).collect();
            assert_eq!(index.places(hash).count(), found.len());
            let expected = model.iter().filter(|entry| entry.hash() == hash);
            assert_eq!(found, expected.map(|entry| entry.place()).collect());
        }
    }

    proptest! {
        #[test]
        fn the_index_is_a_set(
            first in prop::collection::btree_set(entry(), 0..300),
            steps in prop::collection::vec((any::<bool>(), entry()), 0..300),
        ) {
            let mut model = first;
            let mut index = KeyIndex::of(&model.iter().copied().collect::<Vec<_>>());
            check(&index, &model);
            let (index_before, model_before) = (index.clone(), model.clone());
            for (inserts, entry) in steps {
                if !inserts {
                    index.remove(entry);
                    model.remove(&entry);
                } else if model.insert(entry) {
                    index.insert(entry);
                }
            }
            check(&index, &model);
            check(&index_before, &model_before);
        }
    }
}
