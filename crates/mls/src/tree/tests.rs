//! The tree of chunks against a plain array of nodes that does what the RFC says, word for word.

mod refused;

use std::collections::BTreeSet;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use zeroize::Zeroizing;

use super::*;
use crate::capabilities::Capabilities;
use crate::code_point::ProtocolVersion;
use crate::codec::{Bytes, Encode, encode_bytes};
use crate::context::{BasicCredentials, OneThread};
use crate::credential::Credential;
use crate::crypto::{CipherSuite, CryptoProvider, HpkeKeyPair, SignatureKeyPair, aws_lc};
use crate::extension::Extensions;
use crate::leaf_node::{LeafNode, LeafNodeSource, LeafParameters, Lifetime};
use crate::records::{Changes, MemoryRecords, RecordKey, RecordKind, Records};

const GROUP: &[u8] = b"group";

/// A member as others do not see it.
struct Member {
    signer: SignatureKeyPair,
    leaf_key: HpkeKeyPair,
    leaf_node: LeafNode,
}

fn suite() -> &'static dyn Suite {
    aws_lc::PROVIDER
        .suite(CipherSuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_ED25519)
        .unwrap()
}

fn parameters() -> LeafParameters {
    LeafParameters {
        credential: Credential::basic(*b"somebody"),
        capabilities: Capabilities {
            versions: vec![ProtocolVersion::MLS10],
            cipher_suites: vec![suite().id()],
            credentials: vec![CredentialType::BASIC],
            ..Capabilities::default()
        },
        extensions: Extensions::default(),
    }
}

impl Member {
    fn new(rng: &mut ChaCha20Rng) -> Self {
        let signer = suite().signature_key_pair(rng);
        let leaf_key = suite().kem_key_pair(rng);
        let lifetime = Lifetime {
            not_before: 0,
            not_after: u64::MAX,
        };
        let leaf_node = LeafNode::sign(
            suite(),
            &signer,
            parameters(),
            leaf_key.public_key().clone(),
            LeafNodeSource::KeyPackage(lifetime),
            None,
        )
        .unwrap();
        Self {
            signer,
            leaf_key,
            leaf_node,
        }
    }
}

/// The array of RFC 9420, appendix C.
struct Plain(Vec<Option<Node>>);

impl Plain {
    fn of(tree: &Tree) -> Self {
        Self(
            (0..(2 << tree.depth()) - 1)
                .map(|place| tree.node(NodeIndex(place)).cloned())
                .collect(),
        )
    }

    fn resolution(&self, node: NodeIndex) -> Vec<NodeIndex> {
        match &self.0[node.0 as usize] {
            Some(Node::Leaf(_)) => vec![node],
            Some(Node::Parent(parent)) => {
                let unmerged = parent
                    .unmerged_leaves
                    .iter()
                    .map(|leaf| NodeIndex(leaf.0 * 2));
                std::iter::once(node).chain(unmerged).collect()
            }
            None => match (node.left(), node.right()) {
                (Some(left), Some(right)) => {
                    [self.resolution(left), self.resolution(right)].concat()
                }
                _ => Vec::new(),
            },
        }
    }

    fn hash(&self, node: NodeIndex) -> Hash {
        let content = &self.0[node.0 as usize];
        let mut input = Vec::new();
        if let (Some(left), Some(right)) = (node.left(), node.right()) {
            2u8.encode(&mut input);
            content.as_ref().and_then(Node::parent).encode(&mut input);
            encode_bytes(&self.hash(left), &mut input);
            encode_bytes(&self.hash(right), &mut input);
        } else {
            1u8.encode(&mut input);
            (node.0 / 2).encode(&mut input);
            content.as_ref().and_then(Node::leaf).encode(&mut input);
        }
        suite().hash(&input)
    }

    fn filtered_direct_path(&self, leaf: LeafIndex, depth: u32) -> Vec<NodeIndex> {
        let mut below = NodeIndex(leaf.0 * 2);
        let mut path = Vec::new();
        while below != NodeIndex::root(depth) {
            if !self.resolution(below.sibling()).is_empty() {
                path.push(below.parent());
            }
            below = below.parent();
        }
        path
    }

    fn blank_path(&mut self, leaf: LeafIndex, depth: u32) {
        let mut node = NodeIndex(leaf.0 * 2);
        while node != NodeIndex::root(depth) {
            node = node.parent();
            self.0[node.0 as usize] = None;
        }
    }

    fn remove(&mut self, leaf: LeafIndex, depth: u32) {
        self.0[leaf.0 as usize * 2] = None;
        self.blank_path(leaf, depth);
        while self.0.len() > 1 && self.0[self.0.len() / 2..].iter().all(Option::is_none) {
            self.0.truncate(self.0.len() / 2);
        }
    }

    fn add(&mut self, leaf: Leaf) {
        let blank = self.0.iter().step_by(2).position(Option::is_none);
        let index = blank.unwrap_or(self.0.len() / 2 + 1);
        if blank.is_none() {
            self.0.resize(self.0.len() * 2 + 1, None);
        }
        let root = NodeIndex(self.0.len() as u32 / 2);
        let mut node = NodeIndex(index as u32 * 2);
        while node != root {
            node = node.parent();
            if let Some(Node::Parent(parent)) = &mut self.0[node.0 as usize] {
                let unmerged = &mut Arc::make_mut(parent).unmerged_leaves;
                unmerged.push(LeafIndex(index as u32));
                unmerged.sort();
            }
        }
        self.0[index * 2] = Some(Node::Leaf(leaf));
    }
}

/// Everything that can be asked of the tree, and its records.
fn compare(tree: &mut Tree, plain: &Plain, records: &MemoryRecords) {
    assert_eq!((2usize << tree.depth()) - 1, plain.0.len());
    let members = plain
        .0
        .iter()
        .step_by(2)
        .filter(|node| node.is_some())
        .count();
    assert_eq!(tree.member_count() as usize, members);
    let leaves: Vec<_> = tree.leaves().map(|(leaf, _)| leaf.0 as usize).collect();
    let expected: Vec<_> = (0..plain.0.len() / 2 + 1)
        .filter(|leaf| plain.0[leaf * 2].is_some())
        .collect();
    assert_eq!(leaves, expected);
    for place in 0..plain.0.len() {
        let node = NodeIndex(place as u32);
        assert_eq!(tree.node(node), plain.0[place].as_ref());
        assert_eq!(tree.resolution(node), plain.resolution(node));
    }
    assert_eq!(tree.tree_hash(suite()), plain.hash(tree.root()));
    for leaf in expected.iter().map(|leaf| LeafIndex(*leaf as u32)) {
        let steps: Vec<_> = tree
            .filtered_direct_path(leaf)
            .into_iter()
            .map(|step| step.node)
            .collect();
        assert_eq!(steps, plain.filtered_direct_path(leaf, tree.depth()));
        assert_eq!(
            tree.find_signature_key(tree.leaf(leaf).unwrap().signature_key()),
            Some(leaf)
        );
    }
    for encoding in [
        tree.to_ratchet_tree(),
        loaded(tree, records).to_ratchet_tree(),
    ] {
        let mut again = Tree::from_ratchet_tree(&encoding).unwrap();
        assert_eq!(again.to_ratchet_tree(), encoding);
        assert_eq!(again.tree_hash(suite()), tree.tree_hash(suite()));
    }
    let chunks: BTreeSet<_> = (0..plain.0.len())
        .filter(|place| plain.0[*place].is_some())
        .map(|place| {
            let tier = NodeIndex(place as u32).level() / 4;
            (tier, place >> (4 * tier + 4))
        })
        .collect();
    assert!(
        records.len() >= chunks.len(),
        "every chunk with a node has a record"
    );
}

/// The tree as it is read back: at once, one by one, and at once by a store that fails half-way.
fn loaded(tree: &Tree, records: &MemoryRecords) -> Tree {
    let encoded = tree.to_ratchet_tree();
    for most in [0, records.len() / 2] {
        let loaded = Tree::load(tree.depth(), suite(), &Failing(records, most)).unwrap();
        assert_eq!(loaded.to_ratchet_tree(), encoded);
    }
    let loaded = Tree::load(tree.depth(), suite(), &NoneAlone(records)).unwrap();
    assert_eq!(loaded.to_ratchet_tree(), encoded);
    loaded
}

/// Reads that many records at once and no more.
struct Failing<'a>(&'a MemoryRecords, usize);

impl Records for Failing<'_> {
    fn get(&self, key: &RecordKey) -> Option<Zeroizing<Vec<u8>>> {
        self.0.get(key)
    }

    fn each(&self, kind: RecordKind, visit: &mut dyn FnMut(&[u8], &[u8])) -> bool {
        let mut left = self.1;
        self.0.each(kind, &mut |key, value| {
            if left > 0 {
                left -= 1;
                visit(key, value);
            }
        });
        false
    }
}

/// Reads none but the root's chunk by itself, which may be higher than the tree is.
struct NoneAlone<'a>(&'a MemoryRecords);

impl Records for NoneAlone<'_> {
    fn get(&self, key: &RecordKey) -> Option<Zeroizing<Vec<u8>>> {
        let chunks = self.0.iter().map(|(key, _)| key);
        let top = chunks.max_by_key(|key| key.as_slice()[1]);
        assert_eq!(Some(key), top, "all others were read at once");
        self.0.get(key)
    }

    fn each(&self, kind: RecordKind, visit: &mut dyn FnMut(&[u8], &[u8])) -> bool {
        self.0.each(kind, visit)
    }
}

fn validate(tree: &Tree, rng: &mut ChaCha20Rng) -> Result<(), TreeError> {
    let rules = LeafRules {
        version: ProtocolVersion::MLS10,
        suite: suite(),
        extensions: &Extensions::default(),
        required: None,
        authentication_service: &BasicCredentials,
        now: None,
    };
    Tree::from_ratchet_tree(&tree.to_ratchet_tree())?.validate(GROUP, &rules, &OneThread, rng)
}

#[test]
fn chunks_do_what_an_array_does() {
    for seed in 0..4 {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let creator = Member::new(&mut rng);
        let mut tree = Tree::of_creator(Leaf::from(&creator.leaf_node));
        let mut members = std::collections::BTreeMap::from([(LeafIndex(0), creator)]);
        let mut records = MemoryRecords::default();
        let mut changes = Changes::default();
        tree.record_changes(None, &mut changes);
        records.apply(&changes);
        // Grows beyond 128 leaves, so that three tiers come and go, then shrinks to one member.
        for step in 0..170 {
            let before = tree.clone();
            let mut plain = Plain::of(&tree);
            let occupied: Vec<_> = members.keys().copied().collect();
            let leaf = occupied[rng.next_u32() as usize % occupied.len()];
            let grows = step < 90;
            match rng.next_u32() % 8 {
                0..2 => {
                    let signer = members[&leaf].signer.clone();
                    tree.renew_path(suite(), leaf, parameters(), &signer, GROUP, &mut rng)
                        .unwrap();
                    plain = Plain::of(&tree);
                }
                2..7 if grows => {
                    let new: Vec<_> = (0..rng.next_u32() % 5 + 1)
                        .map(|_| Member::new(&mut rng))
                        .collect();
                    let leaves: Vec<_> = new.iter().map(|m| Leaf::from(&m.leaf_node)).collect();
                    let places = tree.apply(&[], &[], &leaves).unwrap();
                    members.extend(places.into_iter().zip(new));
                    leaves.into_iter().for_each(|leaf| plain.add(leaf));
                }
                _ if members.len() > 1 => {
                    for _ in 0..if grows { 1 } else { 3 } {
                        let occupied: Vec<_> = members.keys().copied().collect();
                        if occupied.len() == 1 {
                            break;
                        }
                        let leaf = occupied[rng.next_u32() as usize % occupied.len()];
                        let depth = tree.depth();
                        tree.apply(&[], &[leaf], &[]).unwrap();
                        members.remove(&leaf);
                        plain.remove(leaf, depth);
                    }
                }
                _ => {}
            }
            tree.tree_hash(suite());
            let mut changes = Changes::default();
            tree.record_changes(Some(&before), &mut changes);
            records.apply(&changes);
            if step % 3 == 0 {
                compare(&mut tree, &plain, &records);
                validate(&tree, &mut rng).unwrap();
            }
        }
        assert!(tree.member_count() < 40);
    }
}

#[test]
fn tiers_come_and_go_at_once() {
    let rng = &mut ChaCha20Rng::seed_from_u64(7);
    let leaf_node = Member::new(rng).leaf_node;
    let new_leaf = |rng: &mut ChaCha20Rng| {
        let mut leaf_node = leaf_node.clone();
        let mut key = [0; 32];
        rng.fill_bytes(&mut key);
        leaf_node.encryption_key = key.into();
        leaf_node.signature_key = key.into();
        Leaf::from(&leaf_node)
    };
    // Sizes on both sides of powers of two and of the chunks' borders, and who stays: the first
    // member or the last.
    for (size, rest) in [
        (2049, 1),
        (2048, 8),
        (1025, 9),
        (257, 128),
        (130, 129),
        (129, 16),
        (17, 1),
        (9, 8),
    ] {
        for keeps_first in [true, false] {
            let mut tree = Tree::of_creator(new_leaf(rng));
            let mut records = MemoryRecords::default();
            let mut changes = Changes::default();
            tree.record_changes(None, &mut changes);
            records.apply(&changes);
            let step =
                |tree: &mut Tree, records: &mut MemoryRecords, removals: &[_], adds: &[_]| {
                    let before = tree.clone();
                    tree.apply(&[], removals, adds).unwrap();
                    let cached = tree.tree_hash(suite());
                    let mut changes = Changes::default();
                    tree.record_changes(Some(&before), &mut changes);
                    records.apply(&changes);
                    let encoding = loaded(tree, records).to_ratchet_tree();
                    let mut fresh = Tree::from_ratchet_tree(&encoding).unwrap();
                    assert_eq!(fresh.tree_hash(suite()), cached);
                    assert_eq!(
                        (fresh.depth(), fresh.member_count()),
                        (tree.depth(), tree.member_count())
                    );
                    let mut all = Changes::default();
                    tree.record_changes(None, &mut all);
                    assert_eq!(records.len(), all.put.len(), "no record is left behind");
                };
            for _ in 0..2 {
                let adds: Vec<_> = (tree.member_count()..size).map(|_| new_leaf(rng)).collect();
                step(&mut tree, &mut records, &[], &adds);
                assert_eq!(tree.member_count(), size);
                let members: Vec<_> = tree.leaves().map(|(leaf, _)| leaf).collect();
                let removals = match keeps_first {
                    true => &members[rest as usize..],
                    false => &members[..(size - rest) as usize],
                };
                step(&mut tree, &mut records, removals, &[]);
                assert_eq!(tree.member_count(), rest);
            }
        }
    }
}

#[test]
fn a_path_writes_the_chunks_above_its_leaf() {
    let mut rng = ChaCha20Rng::seed_from_u64(7);
    let members: Vec<_> = (0..300).map(|_| Member::new(&mut rng)).collect();
    let mut tree = Tree::of_creator(Leaf::from(&members[0].leaf_node));
    let leaves: Vec<_> = members[1..]
        .iter()
        .map(|m| Leaf::from(&m.leaf_node))
        .collect();
    tree.apply(&[], &[], &leaves).unwrap();
    tree.tree_hash(suite());
    for leaf in [0, 17, 255, 299] {
        let before = tree.clone();
        let signer = &members[leaf as usize].signer;
        tree.renew_path(
            suite(),
            LeafIndex(leaf),
            parameters(),
            signer,
            GROUP,
            &mut rng,
        )
        .unwrap();
        tree.tree_hash(suite());
        let mut changes = Changes::default();
        tree.record_changes(Some(&before), &mut changes);
        assert_eq!(
            (changes.put.len(), changes.delete.len()),
            (3, 0),
            "tiers 0, 1 and 2"
        );
        assert!(before.replaced_signature_keys(&tree).is_empty());
    }
}

#[test]
fn a_path_in_a_filled_tree_is_encrypted_once_for_each_level() {
    let mut rng = ChaCha20Rng::seed_from_u64(8);
    let members: Vec<_> = (0..128).map(|_| Member::new(&mut rng)).collect();
    let mut tree = Tree::of_creator(Leaf::from(&members[0].leaf_node));
    let leaves: Vec<_> = members[1..]
        .iter()
        .map(|m| Leaf::from(&m.leaf_node))
        .collect();
    tree.apply(&[], &[], &leaves).unwrap();
    let nobody = BTreeSet::new();
    let mut ciphertexts = Vec::new();
    for (leaf, member) in (0..).map(LeafIndex).zip(&members) {
        let signer = &member.signer;
        let new = tree
            .renew_path(suite(), leaf, parameters(), signer, GROUP, &mut rng)
            .unwrap();
        let path = new
            .encrypt(suite(), &tree, b"context", &nobody, &OneThread, &mut rng)
            .unwrap();
        ciphertexts.push(
            path.nodes
                .iter()
                .map(|n| n.encrypted_path_secret.len())
                .sum::<usize>(),
        );
    }
    assert_eq!(ciphertexts[0], 127, "nobody shares a key yet");
    assert_eq!(ciphertexts[127], 7, "everybody does");
    validate(&tree, &mut rng).unwrap();
}
