//! Pages made by hand: whatever is wrong with them, or with the tree on them, is found.

mod faults;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use rand_core::Rng;

use super::{SMALL, SUITE, World};
use crate::code_point::ProtocolVersion;
use crate::codec::{Bytes, DecodeError, Encode};
use crate::context::{AuthenticationService, CredentialError, OneThread};
use crate::credential::{Credential, CredentialType};
use crate::crypto::aws_lc::PROVIDER;
use crate::crypto::{CryptoError, CryptoProvider, Hash, Secret, Suite};
use crate::extension::Extensions;
use crate::leaf_node::{LeafNode, LeafNodeSource, LeafPosition};
use crate::node::ParentNode;
use crate::testing::{OutOfRange, StepRng};
use crate::tree::{Leaf, LeafNodeError, LeafRules, Node, Tree, TreeError};
use crate::tree_math::{LeafIndex, NodeIndex};
use crate::tree_pages::page::{Below, Entry, decode, encode, open, page_secret, seal};
use crate::tree_pages::{
    LoadError, MAX_PAGE, PageAddress, PageError, PageId, TreeLoader, TreePages, TreePagesRoot,
};

const GROUP_ID: &[u8] = b"group";

fn suite() -> &'static dyn Suite {
    PROVIDER.suite(SUITE).unwrap()
}

/// A tree, node by node, and what its pages are to be.
#[derive(Clone)]
struct Forger {
    depth: u32,
    nodes: BTreeMap<NodeIndex, Node>,
}

type EditBelow<'a> = dyn FnMut(PageId, &mut Vec<Option<Below>>) + 'a;
type EditContent<'a> = dyn FnMut(PageId, &mut Vec<u8>) + 'a;

/// Pages, and what a newcomer is told of them.
struct Forged {
    root: TreePagesRoot,
    tree_hash: Bytes,
    service: BTreeMap<PageAddress, Vec<u8>>,
}

fn epoch_secret() -> Secret {
    Secret::from([5; 32].as_slice())
}

impl Forger {
    /// Some tree with pages, where there is something of everything: blank leaves, unmerged leaves,
    /// blank parents.
    fn new(seed: u64) -> Self {
        let mut world = World::new(SMALL, seed);
        loop {
            world.step(24);
            let group = &world.players[0].group;
            let tree = group.tree();
            let nodes: BTreeMap<_, _> = (0..(2 << tree.depth()) - 1)
                .filter_map(|node| {
                    let node = NodeIndex(node);
                    Some((node, tree.node(node)?.clone()))
                })
                .collect();
            let parents = nodes.values().filter_map(Node::parent);
            let mut parents = parents.filter(|parent| !parent.unmerged_leaves.is_empty());
            let blank_leaves = (1 << tree.depth()) - tree.member_count();
            if tree.depth() > 3 && parents.next().is_some() && blank_leaves > 0 {
                let depth = tree.depth();
                return Self { depth, nodes };
            }
        }
    }

    /// RFC 9420, section 7.8, once more.
    fn hash(&self, node: NodeIndex) -> Hash {
        let mut input = Vec::new();
        match (node.left(), node.right()) {
            (Some(left), Some(right)) => {
                2u8.encode(&mut input);
                let parent = self.nodes.get(&node).and_then(Node::parent);
                parent.encode(&mut input);
                self.hash(left).encode(&mut input);
                self.hash(right).encode(&mut input);
            }
            _ => {
                1u8.encode(&mut input);
                LeafIndex(node.0 / 2).encode(&mut input);
                self.nodes
                    .get(&node)
                    .and_then(Node::leaf)
                    .encode(&mut input);
            }
        }
        suite().hash(&input)
    }

    fn ratchet_tree(&self) -> Vec<u8> {
        let last = self.nodes.keys().next_back().unwrap().0;
        let nodes = (0..=last).map(|node| self.nodes.get(&NodeIndex(node)).cloned());
        nodes.collect::<Vec<_>>().to_bytes()
    }

    fn pages(&self) -> Forged {
        self.pages_with(&mut |_, _| {}, &mut |_, _| {})
    }

    fn pages_with(&self, below: &mut EditBelow<'_>, content: &mut EditContent<'_>) -> Forged {
        let mut service = BTreeMap::new();
        let root = self.page(SMALL.top(self.depth), below, content, &mut service);
        Forged {
            root: TreePagesRoot {
                version: 1,
                tree_depth: self.depth as u8,
                root: root.address,
            },
            tree_hash: self.hash(NodeIndex::root(self.depth)).into(),
            service,
        }
    }

    fn page(
        &self,
        page: PageId,
        edit: &mut EditBelow<'_>,
        edit_content: &mut EditContent<'_>,
        service: &mut BTreeMap<PageAddress, Vec<u8>>,
    ) -> Entry {
        let mut below = Vec::new();
        for child in SMALL.children(page, self.depth) {
            let root = SMALL.root(child, self.depth);
            let has_members = self
                .nodes
                .keys()
                .any(|n| n.leaf().is_some() && root.covers(*n));
            below.push(has_members.then(|| Below {
                entry: self.page(child, edit, edit_content, service),
                tree_hash: self.hash(root).into(),
            }));
        }
        edit(page, &mut below);
        let nodes = SMALL
            .nodes(page, self.depth)
            .map(|node| self.nodes.get(&node));
        let top = SMALL.root(page, self.depth).level();
        let mut content = encode(page, top, nodes, &below);
        edit_content(page, &mut content);
        let secret = page_secret(suite(), &epoch_secret(), page);
        let (entry, bytes) = seal(suite(), page, secret, &content).unwrap();
        service.insert(entry.address.clone(), bytes);
        entry
    }

    /// What a newcomer with the whole tree finds.
    fn whole(&self) -> Result<(), TreeError> {
        let mut tree = Tree::from_ratchet_tree(&self.ratchet_tree())?;
        if *tree.tree_hash(suite()) != *self.hash(NodeIndex::root(self.depth)) {
            return Err(TreeError::TreeHash);
        }
        tree.validate(
            GROUP_ID,
            &rules(&Extensions::default()),
            &OneThread,
            &mut StepRng(1),
        )
    }

    fn parent(&mut self, node: NodeIndex) -> &mut ParentNode {
        match self.nodes.get_mut(&node) {
            Some(Node::Parent(parent)) => Arc::make_mut(parent),
            other => panic!("{other:?}"),
        }
    }

    fn parents(&self) -> Vec<NodeIndex> {
        let nodes = self.nodes.iter();
        let parents = nodes.filter(|(_, node)| node.parent().is_some());
        parents.map(|(place, _)| *place).collect()
    }

    fn leaves(&self) -> Vec<LeafIndex> {
        self.nodes.keys().filter_map(|node| node.leaf()).collect()
    }
}

/// Takes every credential, so that the rest is what counts.
struct Lenient;

impl AuthenticationService for Lenient {
    fn validate(
        &self,
        _: &Credential,
        _: &[u8],
        _: &Extensions,
        _: Option<u64>,
    ) -> Result<(), CredentialError> {
        Ok(())
    }

    fn is_successor(&self, _: &Credential, _: &Credential) -> bool {
        true
    }
}

fn rules(extensions: &Extensions) -> LeafRules<'_> {
    LeafRules {
        version: ProtocolVersion::MLS10,
        suite: suite(),
        extensions,
        required: None,
        authentication_service: &Lenient,
        now: None,
    }
}

impl Forged {
    fn loader(&self) -> TreeLoader {
        let (root, secret) = (self.root.clone(), epoch_secret());
        TreeLoader::new(suite(), SMALL, root, &secret, self.tree_hash.clone()).unwrap()
    }

    fn load(&self, seed: u64) -> Result<(Tree, TreePages), LoadError> {
        let (mut loader, mut rng) = (self.loader(), StepRng(seed));
        loop {
            let wanted: Vec<_> = loader.wanted().cloned().collect();
            if wanted.is_empty() {
                return finish(loader);
            }
            let next = &wanted[(rng.next_u64() % wanted.len() as u64) as usize];
            if let Err(error) = arrive(&mut loader, next, &self.service[next]) {
                // Nothing helps any more.
                let again = first_wanted(&loader).unwrap_or_else(|| next.clone());
                assert_eq!(arrive(&mut loader, &again, b""), Err(error.clone()));
                return Err(error);
            }
        }
    }

    #[track_caller]
    fn refused(&self, error: PageError) {
        for seed in 0..3 {
            assert_eq!(self.load(seed).map(drop), Err(error.clone().into()));
        }
    }
}

fn arrive(loader: &mut TreeLoader, address: &PageAddress, bytes: &[u8]) -> Result<(), LoadError> {
    let extensions = Extensions::default();
    loader.arrived(
        address,
        bytes,
        GROUP_ID,
        &rules(&extensions),
        &OneThread,
        &mut StepRng(2),
    )
}

fn first_wanted(loader: &TreeLoader) -> Option<PageAddress> {
    loader.wanted().next().cloned()
}

fn finish(loader: TreeLoader) -> Result<(Tree, TreePages), LoadError> {
    let extensions = Extensions::default();
    let tag = Bytes::from([1; 32]);
    loader.finish(
        tag,
        GROUP_ID,
        &rules(&extensions),
        &OneThread,
        &mut StepRng(3),
    )
}

const ROOT: PageId = PageId {
    tier: 2,
    position: 0,
};
const INDEX: PageId = PageId {
    tier: 1,
    position: 0,
};
const LEAVES: PageId = PageId {
    tier: 0,
    position: 0,
};
const OTHER_LEAVES: PageId = PageId {
    tier: 0,
    position: 1,
};

/// A tree whose first two leaf pages have members.
fn forger() -> Forger {
    let found = (0..).map(Forger::new).find(|forger| {
        let leaves = forger.leaves();
        SMALL.top(forger.depth) == ROOT
            && leaves.iter().any(|leaf| leaf.0 < 2)
            && leaves.iter().any(|leaf| (2..4).contains(&leaf.0))
    });
    found.unwrap()
}

#[test]
fn good_pages_give_the_tree() {
    for seed in 0..8 {
        let forger = Forger::new(seed);
        assert_eq!(forger.whole(), Ok(()));
        let forged = forger.pages_with(&mut |_, _| {}, &mut |page, content| {
            let decoded = decode(SMALL, page, forger.depth, content).unwrap();
            assert_eq!(decoded.to_bytes(), *content);
        });
        let (tree, pages) = forged.load(seed).unwrap();
        assert_eq!(tree.to_ratchet_tree(), forger.ratchet_tree());
        assert_eq!(
            pages.addresses().collect::<BTreeSet<_>>(),
            forged.service.keys().collect::<BTreeSet<_>>()
        );
    }
}

#[test]
fn what_a_service_does_wrong_harms_nothing() {
    let forged = forger().pages();
    let mut loader = forged.loader();
    let root = forged.root.root.clone();
    let other = forged
        .service
        .keys()
        .find(|address| **address != root)
        .unwrap();
    let (root_bytes, other_bytes) = (&forged.service[&root], &forged.service[other]);
    let not_wanted = PageError::NotWanted(other.clone());
    assert_eq!(
        arrive(&mut loader, other, other_bytes),
        Err(not_wanted.into())
    );
    let mut flipped = root_bytes.clone();
    flipped[20] ^= 1;
    let large = vec![0; MAX_PAGE + 1];
    let (page, size) = (ROOT, large.len());
    let too_large = PageError::TooLarge { page, size };
    for (bytes, error) in [
        (&flipped, PageError::WrongBytes(ROOT)),
        (other_bytes, PageError::WrongBytes(ROOT)),
        (&root_bytes[1..].to_vec(), PageError::WrongBytes(ROOT)),
        (&Vec::new(), PageError::WrongBytes(ROOT)),
        (&large, too_large),
    ] {
        assert_eq!(arrive(&mut loader, &root, bytes), Err(error.into()));
        assert_eq!(loader.wanted().collect::<Vec<_>>(), [&root]);
    }
    arrive(&mut loader, &root, root_bytes).unwrap();
    let repeated = PageError::Repeated(ROOT);
    assert_eq!(arrive(&mut loader, &root, root_bytes), Err(repeated.into()));
    // Two pages for each other.
    let wanted: Vec<_> = loader.wanted().cloned().collect();
    let [one, other] = [&wanted[0], &wanted[1]];
    for (address, bytes) in [(one, other), (other, one)] {
        let Err(LoadError::Page(PageError::WrongBytes(_))) =
            arrive(&mut loader, address, &forged.service[bytes])
        else {
            panic!("swapped")
        };
    }
    let missing = PageError::Missing(wanted.len());
    let mut rest = forged.loader();
    arrive(&mut rest, &root, root_bytes).unwrap();
    assert_eq!(finish(rest).map(drop), Err(missing.into()));
    while let Some(next) = first_wanted(&loader) {
        arrive(&mut loader, &next, &forged.service[&next]).unwrap();
    }
    finish(loader).unwrap();
}

#[test]
fn no_more_bytes_are_taken_than_the_limit() {
    let forged = forger().pages();
    let total: u64 = forged.service.values().map(|page| page.len() as u64).sum();
    for (limit, expected) in [
        (total, Ok(())),
        (
            total - 1,
            Err(PageError::TooManyBytes { limit: total - 1 }.into()),
        ),
        (0, Err(PageError::TooManyBytes { limit: 0 }.into())),
    ] {
        let mut loader = forged.loader();
        loader.set_byte_limit(limit);
        let mut arrived = || {
            while let Some(next) = first_wanted(&loader) {
                arrive(&mut loader, &next, &forged.service[&next])?;
            }
            Ok(())
        };
        assert_eq!(arrived(), expected);
        let root = &forged.root.root;
        let again = arrive(&mut loader, root, &forged.service[root]);
        assert_eq!(
            again,
            expected.and(Err(PageError::Repeated(ROOT).into())),
            "after too many nothing helps"
        );
    }
}

#[test]
fn a_root_that_no_tree_has() {
    let forged = forger().pages();
    for (version, tree_depth, error) in [
        (1, 2, PageError::Root),
        (1, 19, PageError::TooDeep { tree_depth: 19 }),
        (1, 24, PageError::TooDeep { tree_depth: 24 }),
        (1, 25, PageError::Root),
        (1, 255, PageError::Root),
        (0, 4, PageError::Root),
        (2, 4, PageError::Root),
    ] {
        let root = TreePagesRoot {
            version,
            tree_depth,
            ..forged.root.clone()
        };
        let secret = epoch_secret();
        let hash = forged.tree_hash.clone();
        let refused = TreeLoader::new(suite(), SMALL, root, &secret, hash);
        assert_eq!(refused.map(drop), Err(error));
    }
    // Another width than the page's own.
    let mut other = forger().pages();
    other.root.tree_depth = 5;
    other.refused(PageError::WrongPlace {
        page: ROOT,
        found: ROOT,
    });
}

fn with_below(page: PageId, edit: impl Fn(&mut Vec<Option<Below>>)) -> Forged {
    forger().pages_with(
        &mut |found, below| {
            if found == page {
                edit(below);
            }
        },
        &mut |_, _| {},
    )
}

fn with_content(page: PageId, edit: impl Fn(&mut Vec<u8>)) -> Forged {
    forger().pages_with(&mut |_, _| {}, &mut |found, content| {
        if found == page {
            edit(content);
        }
    })
}

#[test]
fn what_a_writer_of_an_index_page_does_wrong() {
    let both =
        |below: &mut Vec<Option<Below>>| [below[0].clone().unwrap(), below[1].clone().unwrap()];
    // Pages, with what is said of them, in each other's place.
    with_below(INDEX, |below| below.swap(0, 1)).refused(PageError::TreeHash(INDEX));
    let (page, found) = (LEAVES, OTHER_LEAVES);
    with_below(INDEX, |below| {
        let [first, second] = both(below);
        let (a, b) = (first.entry, second.entry);
        for (below, entry) in below.iter_mut().zip([b, a]) {
            below.as_mut().unwrap().entry = entry;
        }
        // Only the first is looked at: which comes first is up to the order.
        below[1].as_mut().unwrap().entry.address = PageAddress(Bytes::from([9; 32]));
    })
    .refused_at_last(PageError::WrongPlace { page, found });
    let decryption = PageError::Decryption(LEAVES, CryptoError::DecryptionFailed);
    with_below(INDEX, |below| {
        below[0].as_mut().unwrap().entry.secret = Secret::zero(32);
    })
    .refused(decryption);
    with_below(INDEX, |below| {
        let [first, _] = both(below);
        below[1].as_mut().unwrap().entry = first.entry;
    })
    .refused(PageError::RepeatedAddress(OTHER_LEAVES));
    with_below(INDEX, |below| below[0] = None).refused(PageError::TreeHash(INDEX));
    with_below(INDEX, |below| {
        below[0].as_mut().unwrap().tree_hash = Bytes::from([1; 32]);
    })
    .refused(PageError::TreeHash(INDEX));
    // A hash of no length that there is stands for none at all.
    with_below(INDEX, |below| {
        below[0].as_mut().unwrap().tree_hash = Bytes::from([1; 65]);
    })
    .refused(PageError::TreeHash(INDEX));
    with_below(INDEX, |below| below.fill(None)).refused(PageError::Empty(INDEX));
}

impl Forged {
    /// Refused by a page that comes after others, some of which nobody has.
    #[track_caller]
    fn refused_at_last(&self, error: PageError) {
        let mut loader = self.loader();
        while let Some(next) = {
            let mut wanted = loader.wanted();
            wanted
                .find(|address| self.service.contains_key(address))
                .cloned()
        } {
            if let Err(found) = arrive(&mut loader, &next, &self.service[&next]) {
                assert_eq!(found, error.into());
                return;
            }
        }
        panic!("nothing was refused");
    }
}

#[test]
fn a_page_that_should_not_be() {
    let forger = forger();
    // A page of blanks, whose hash is that of blanks.
    let mut without = forger.clone();
    let width = 1 << SMALL.leaf_level;
    let empty = (0..1 << (forger.depth - SMALL.leaf_level)).find(|position| {
        let mut leaves = forger.leaves().into_iter();
        !leaves.any(|leaf| leaf.0 / width == *position)
    });
    let position = empty.unwrap_or_else(|| {
        // No page is empty: blank one, and what is above, as far as hashes go.
        without
            .nodes
            .retain(|node, _| node.leaves().start / width != 1 || node.level() > 1);
        1
    });
    let page = PageId { tier: 0, position };
    let (above, number) = SMALL.above(page);
    let root = SMALL.root(page, forger.depth);
    let top = root.level();
    let content = encode(
        page,
        top,
        SMALL.nodes(page, forger.depth).map(|_| None),
        &[],
    );
    let secret = page_secret(suite(), &epoch_secret(), page);
    let (entry, bytes) = seal(suite(), page, secret, &content).unwrap();
    let tree_hash = Bytes::from(without.hash(root));
    let mut forged = without.pages_with(
        &mut |found, below| {
            if found == above {
                let (entry, tree_hash) = (entry.clone(), tree_hash.clone());
                below[number] = Some(Below { entry, tree_hash });
            }
        },
        &mut |_, _| {},
    );
    forged.service.insert(entry.address.clone(), bytes);
    forged.refused_at_last(PageError::Empty(page));
}

#[test]
fn what_a_writer_of_a_leaf_page_does_wrong() {
    let malformed = |what| PageError::Malformed(LEAVES, DecodeError::InvalidValue(what));
    with_content(LEAVES, |content| content[0] = 2).refused(malformed("TreePage.version"));
    with_content(LEAVES, |content| content[1] = 200).refused(malformed("PageId"));
    with_content(LEAVES, |content| content[5] = 1).refused(PageError::WrongPlace {
        page: LEAVES,
        found: OTHER_LEAVES,
    });
    with_content(LEAVES, |content| content[6] = 2).refused(malformed("TreePage.top"));
    let zeros = || malformed("TreePage.zeros");
    with_content(LEAVES, |content| *content.last_mut().unwrap() = 1).refused(zeros());
    with_content(LEAVES, |content| content.extend([0; 512])).refused(zeros());
    with_content(LEAVES, |content| content.truncate(content.len() - 1)).refused(zeros());
    with_content(LEAVES, |content| content.truncate(9))
        .refused(PageError::Malformed(LEAVES, DecodeError::Truncated));
    // Another tree than the pages above say.
    let good = forger();
    let mut changed = good.clone();
    let mut leaves = SMALL
        .nodes(LEAVES, good.depth)
        .filter(|node| node.leaf().is_some());
    let leaf = leaves.find(|node| good.nodes.contains_key(node)).unwrap();
    let mut leaf_node = good.nodes[&leaf].leaf().unwrap().leaf_node();
    leaf_node.signature = Bytes::from([1; 64]);
    changed
        .nodes
        .insert(leaf, Node::Leaf(Leaf::from(&leaf_node)));
    let tell = |page, below: &mut Vec<Option<Below>>| {
        let children = SMALL.children(page, good.depth);
        for (child, below) in children.zip(below.iter_mut().map(Option::as_mut)) {
            if let Some(below) = below {
                below.tree_hash = good.hash(SMALL.root(child, good.depth)).into();
            }
        }
    };
    let mut forged = changed.pages_with(&mut { tell }, &mut |_, _| {});
    forged.tree_hash = good.hash(NodeIndex::root(good.depth)).into();
    forged.refused_at_last(PageError::TreeHash(LEAVES));
}

/// A judge who names a place that was not in question refuses all the same, and the first is blamed.
#[test]
fn a_judge_who_names_nobody_who_was_asked_about_refuses() {
    let forger = forger();
    let tree = Tree::from_ratchet_tree(&forger.ratchet_tree()).unwrap();
    let extensions = Extensions::default();
    let rules = LeafRules {
        authentication_service: &OutOfRange,
        ..rules(&extensions)
    };
    let leaf = forger.leaves()[0];
    let error = LeafNodeError::Credential(CredentialError::Expired);
    let judged = tree.validate_leaves(&[leaf], GROUP_ID, &rules, &OneThread, &mut StepRng(1));
    assert_eq!(judged, Err(TreeError::Leaf { leaf, error }));
}

#[test]
fn a_nonce_that_does_not_follow() {
    let forger = forger();
    let secret = page_secret(suite(), &epoch_secret(), ROOT);
    let forged = forger.pages();
    let sealed = &forged.service[&forged.root.root];
    let content = open(suite(), ROOT, &secret, sealed).unwrap();
    let key = suite().expand_with_label(&secret, "key", &[], suite().aead_key_length());
    let mut bytes = vec![7; suite().aead_nonce_length()];
    bytes.extend(suite().aead_seal(&key, &[7; 12], &[], &content));
    let address = PageAddress::of(suite(), &bytes);
    let mut service = forged.service;
    service.insert(address.clone(), bytes);
    let root = TreePagesRoot {
        root: address,
        ..forged.root
    };
    let forged = Forged {
        root,
        service,
        ..forged
    };
    forged.refused(PageError::Nonce(ROOT));
}
