//! Trees that are wrong, on pages that are right: found as they are in a tree that comes whole.

use super::*;

/// One fault in a tree, of which pages and hashes tell the truth.
fn same_fault(forger: &Forger, error: TreeError) {
    assert_eq!(forger.whole(), Err(error.clone()));
    for seed in 0..4 {
        assert_eq!(
            forger.pages().load(seed).map(drop),
            Err(error.clone().into())
        );
    }
}

#[test]
fn faults_of_the_tree_are_found_as_in_the_whole_tree() {
    let good = forger();
    for node in good.parents() {
        let mut forger = good.clone();
        forger.parent(node).encryption_key = [3; 32].as_slice().into();
        assert!(matches!(forger.whole(), Err(TreeError::ParentHash(_))));
        let refused = forger.pages().load(0).map(drop);
        assert!(matches!(
            refused,
            Err(LoadError::Tree(TreeError::ParentHash(_)))
        ));

        let mut forger = good.clone();
        forger.parent(node).unmerged_leaves = vec![LeafIndex(1); 2];
        same_fault(&forger, TreeError::UnmergedLeavesOrder(node));

        let mut forger = good.clone();
        let leaf = LeafIndex(1 << 24);
        forger.parent(node).unmerged_leaves = vec![leaf];
        same_fault(&forger, TreeError::UnmergedLeaf { node, leaf });
    }
    let leaves = good.leaves();
    let node = |leaf: LeafIndex| leaf.node().unwrap();
    let (first, last) = (leaves[0], *leaves.last().unwrap());

    // A leaf where a parent belongs, and the other way round, on both kinds of pages.
    for place in [SMALL.root(LEAVES, good.depth), NodeIndex::root(good.depth)] {
        let mut forger = good.clone();
        forger.nodes.insert(place, good.nodes[&node(first)].clone());
        // Its hash cannot be told, since none is defined.
        let error = TreeError::MisplacedNode(place);
        assert_eq!(forger.whole(), Err(error.clone()));
        assert_eq!(forger.pages().load(0).map(drop), Err(error.into()));
    }

    // Keys that two have, on two pages; which of them is named depends on the order.
    let mut forger = good.clone();
    forger
        .nodes
        .insert(node(last), good.nodes[&node(first)].clone());
    assert_eq!(
        forger.whole(),
        Err(TreeError::DuplicateEncryptionKey(node(last)))
    );
    for seed in 0..4 {
        let refused = forger.pages().load(seed).map(drop);
        let Err(LoadError::Tree(TreeError::DuplicateEncryptionKey(found))) = refused else {
            panic!("{refused:?}")
        };
        assert!([node(first), node(last)].contains(&found));
    }

    // Without parents nothing but the leaves themselves counts.
    let mut bare = good.clone();
    bare.nodes.retain(|node, _| node.leaf().is_some());
    assert_eq!(bare.whole(), Ok(()));
    bare.pages().load(1).unwrap();
    for leaf in leaves {
        let mut forger = bare.clone();
        let mut leaf_node = bare.nodes[&node(leaf)].leaf().unwrap().leaf_node();
        let mut signature = leaf_node.signature.into_vec();
        signature[40] ^= 1;
        leaf_node.signature = signature.into();
        forger
            .nodes
            .insert(node(leaf), Node::Leaf(Leaf::from(&leaf_node)));
        let error = LeafNodeError::Signature(CryptoError::InvalidSignature);
        same_fault(&forger, TreeError::Leaf { leaf, error });
        leaf_node.capabilities.credentials.clear();
        forger
            .nodes
            .insert(node(leaf), Node::Leaf(Leaf::from(&leaf_node)));
        let error = LeafNodeError::UnlistedCredential(CredentialType::BASIC);
        same_fault(&forger, TreeError::Leaf { leaf, error });
    }

    // Somebody with a credential that others do not know.
    let mut forger = bare.clone();
    let kind = CredentialType(0xf123);
    let credential = Credential::Custom {
        credential_type: kind,
        data: Bytes::default(),
    };
    let mut parameters = bare.nodes[&node(first)]
        .leaf()
        .unwrap()
        .leaf_node()
        .parameters();
    parameters.credential = credential;
    parameters.capabilities.credentials.push(kind);
    let rng = &mut StepRng(4);
    let signer = suite().signature_key_pair(rng);
    let key = suite().kem_key_pair(rng).public_key().clone();
    let position = LeafPosition {
        group_id: GROUP_ID,
        leaf_index: first,
    };
    let source = LeafNodeSource::Update;
    let leaf_node = LeafNode::sign(suite(), &signer, parameters, key, source, Some(position));
    let leaf = Leaf::from(&leaf_node.unwrap());
    forger.nodes.insert(node(first), Node::Leaf(leaf));
    same_fault(&forger, TreeError::UnsupportedCredential(kind));

    // Wider than its last member needs.
    let mut forger = bare.clone();
    let half = 1 << (forger.depth - 1);
    forger
        .nodes
        .retain(|node, _| node.leaf().is_some_and(|leaf| leaf.0 < half));
    assert_eq!(forger.whole(), Err(TreeError::TreeHash));
    let refused = forger.pages().load(0).map(drop);
    assert_eq!(refused, Err(TreeError::TrailingBlank.into()));
}

/// A parent that nobody is below: on an empty leaf page, and on one with a member.
#[test]
fn a_parent_above_nobody_is_found() {
    let mut found = 0;
    for seed in 0..12 {
        let mut bare = Forger::new(seed);
        bare.nodes.retain(|node, _| node.leaf().is_some());
        let leaves = bare.leaves();
        let parents = (1..2 << bare.depth).map(|k| NodeIndex(2 * k - 1));
        let parents = parents.take_while(|place| place.0 < (2 << bare.depth) - 1);
        let blank = parents.filter(|place| !leaves.iter().any(|l| place.leaves().contains(&l.0)));
        for place in blank {
            parent_above_nobody(&bare, place);
            found += 1;
        }
    }
    assert!(found > 0);
}

fn parent_above_nobody(bare: &Forger, place: NodeIndex) {
    let mut forger = bare.clone();
    let parent = ParentNode {
        encryption_key: [3; 32].as_slice().into(),
        parent_hash: Bytes::default(),
        unmerged_leaves: Vec::new(),
    };
    forger.nodes.insert(place, Node::Parent(Arc::new(parent)));
    assert!(forger.whole().is_err());
    assert!(forger.pages().load(0).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is changed in a tree, a newcomer by pages takes it exactly if one with the whole tree
    /// does.
    #[test]
    fn pages_are_as_strict_as_the_whole_tree(
        seed in 0u64..6,
        place in any::<prop::sample::Index>(),
        kind in 0u8..7,
        value in any::<u8>(),
        order in any::<u64>(),
    ) {
        let mut forger = Forger::new(seed);
        let places: Vec<_> = forger.nodes.keys().copied().collect();
        let place = *place.get(&places);
        match (forger.nodes.get_mut(&place).unwrap(), kind) {
            (_, 0) => {
                forger.nodes.remove(&place);
            }
            (Node::Parent(parent), 1) => {
                Arc::make_mut(parent).parent_hash = Bytes::from([value; 32]);
            }
            (Node::Parent(parent), 2) => {
                Arc::make_mut(parent).unmerged_leaves = vec![LeafIndex(value.into())];
            }
            (Node::Parent(parent), 3) => {
                Arc::make_mut(parent).unmerged_leaves.clear();
            }
            (Node::Parent(parent), 4) => {
                Arc::make_mut(parent).unmerged_leaves.pop();
            }
            (Node::Leaf(leaf), 1) => {
                let mut leaf_node = leaf.leaf_node();
                leaf_node.leaf_node_source = LeafNodeSource::Commit(Bytes::from([value; 32]));
                *leaf = Leaf::from(&leaf_node);
            }
            (node, 5) => {
                let node = node.clone();
                forger.nodes.insert(NodeIndex(place.0 ^ 4), node);
            }
            _ => {}
        }
        if forger.nodes.keys().next_back() < Some(&NodeIndex::root(forger.depth)) {
            return Ok(());
        }
        let (whole, pages) = (forger.whole(), forger.pages().load(order).map(drop));
        prop_assert_eq!(whole.is_ok(), pages.is_ok(), "{:?} {:?}", whole, pages);
    }
}
