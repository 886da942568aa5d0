//! Trees and paths that are refused, each for one rule.

use super::*;

/// A group of four with a path by each, so that every parent node is tied to a leaf.
fn four(rng: &mut ChaCha20Rng) -> (Tree, Vec<Member>) {
    let members: Vec<_> = (0..4).map(|_| Member::new(rng)).collect();
    let mut tree = Tree::of_creator(Leaf::from(&members[0].leaf_node));
    let leaves: Vec<_> = members[1..]
        .iter()
        .map(|m| Leaf::from(&m.leaf_node))
        .collect();
    tree.apply(&[], &[], &leaves).unwrap();
    for leaf in [0, 2, 1] {
        let signer = &members[leaf as usize].signer;
        tree.renew_path(suite(), LeafIndex(leaf), parameters(), signer, GROUP, rng)
            .unwrap();
    }
    validate(&tree, rng).unwrap();
    (tree, members)
}

fn with_parent(tree: &Tree, place: u32, change: impl FnOnce(&mut crate::node::ParentNode)) -> Tree {
    let mut tree = tree.clone();
    let mut parent = tree
        .node(NodeIndex(place))
        .unwrap()
        .parent()
        .unwrap()
        .clone();
    change(&mut parent);
    tree.put(NodeIndex(place), Some(Node::Parent(Arc::new(parent))))
        .unwrap();
    tree
}

#[test]
fn a_joiner_refuses_trees_that_nobody_signed() {
    let rng = &mut ChaCha20Rng::seed_from_u64(1);
    let (tree, members) = four(rng);

    let foreign = suite().kem_key_pair(rng).public_key().clone();
    let changed = with_parent(&tree, 1, |parent| parent.encryption_key = foreign);
    assert_eq!(
        validate(&changed, rng),
        Err(TreeError::ParentHash(NodeIndex(1)))
    );

    let changed = with_parent(&tree, 3, |parent| parent.parent_hash = Bytes::from([1]));
    assert_eq!(
        validate(&changed, rng),
        Err(TreeError::ParentHash(NodeIndex(3)))
    );

    let unmerged = |tree: &Tree, place, leaves: &[u32]| {
        let leaves = leaves.iter().copied().map(LeafIndex).collect();
        with_parent(tree, place, |parent| parent.unmerged_leaves = leaves)
    };
    let order = |place| Err(TreeError::UnmergedLeavesOrder(NodeIndex(place)));
    let (node, leaf) = (NodeIndex(1), LeafIndex);
    assert_eq!(
        validate(&unmerged(&tree, 1, &[2]), rng),
        Err(TreeError::UnmergedLeaf {
            node,
            leaf: leaf(2)
        }),
        "not below"
    );
    assert_eq!(
        validate(&unmerged(&tree, 3, &[1, 0]), rng),
        order(3),
        "not in order"
    );
    assert_eq!(
        validate(&unmerged(&tree, 3, &[0, 0]), rng),
        order(3),
        "twice"
    );
    assert_eq!(
        validate(&unmerged(&tree, 3, &[0]), rng),
        Err(TreeError::UnmergedLeafMissing {
            node,
            leaf: leaf(0)
        }),
        "missing from node 1"
    );
    let mut without_leaf = tree.clone();
    without_leaf.put(NodeIndex(0), None).unwrap();
    assert_eq!(
        validate(&unmerged(&without_leaf, 1, &[0]), rng),
        Err(TreeError::UnmergedLeaf {
            node,
            leaf: leaf(0)
        }),
        "blank"
    );

    let mut other = tree.clone();
    let mut leaf_node = members[3].leaf_node.clone();
    leaf_node.signature = Bytes::from(vec![0; 64]);
    other
        .put(NodeIndex(6), Some(Node::Leaf(Leaf::from(&leaf_node))))
        .unwrap();
    // The parent hashes above cover the leaf, so that is noticed first.
    assert_eq!(
        validate(&other, rng),
        Err(TreeError::ParentHash(NodeIndex(3)))
    );

    let mut flat = Tree::of_creator(Leaf::from(&members[0].leaf_node));
    flat.apply(&[], &[], &[Leaf::from(&leaf_node)]).unwrap();
    let error = LeafNodeError::Signature(crate::crypto::CryptoError::InvalidSignature);
    let leaf = LeafIndex(1);
    assert_eq!(validate(&flat, rng), Err(TreeError::Leaf { leaf, error }));
}

#[test]
fn malformed_ratchet_trees_are_refused() {
    let rng = &mut ChaCha20Rng::seed_from_u64(2);
    let (tree, members) = four(rng);
    let encode = |nodes: &[Option<Node>]| nodes.to_vec().to_bytes();
    let nodes = Plain::of(&tree).0;
    let decode = |nodes: &[Option<Node>]| Tree::from_ratchet_tree(&encode(nodes)).map(|_| ());
    assert_eq!(decode(&nodes), Ok(()));
    assert_eq!(decode(&[]), Err(TreeError::TrailingBlank));
    assert_eq!(
        decode(&[nodes[0].clone(), None]),
        Err(TreeError::TrailingBlank)
    );
    assert_eq!(
        decode(&nodes[1..]),
        Err(TreeError::MisplacedNode(NodeIndex(0)))
    );
    let twice = [nodes[0].clone(), None, nodes[0].clone()];
    assert_eq!(
        decode(&twice),
        Err(TreeError::DuplicateEncryptionKey(NodeIndex(2)))
    );
    let mut same_signer = members[1].leaf_node.clone();
    same_signer.signature_key = tree.leaf(LeafIndex(0)).unwrap().signature_key().into();
    let twice = [
        nodes[0].clone(),
        None,
        Some(Node::Leaf(Leaf::from(&same_signer))),
    ];
    assert_eq!(
        decode(&twice),
        Err(TreeError::DuplicateSignatureKey(LeafIndex(1)))
    );
    let bytes = encode(&nodes);
    for cut in 0..bytes.len() {
        assert!(Tree::from_ratchet_tree(&bytes[..cut]).is_err());
    }
}

#[test]
fn a_path_is_refused_for_each_rule_that_it_breaks() {
    use super::path::PathError;
    use crate::commit::UpdatePath;

    let rng = &mut ChaCha20Rng::seed_from_u64(3);
    let (tree, members) = four(rng);
    let nobody = BTreeSet::new();
    let committer = LeafIndex(1);
    let mut renewed = tree.clone();
    let signer = &members[1].signer;
    let new = renewed
        .renew_path(suite(), committer, parameters(), signer, GROUP, rng)
        .unwrap();
    let good = new
        .encrypt(suite(), &renewed, b"context", &nobody, &OneThread, rng)
        .unwrap();
    let merge = |path: &UpdatePath| tree.clone().merge_path(suite(), committer, path, &nobody);
    let refused = |change: &dyn Fn(&mut UpdatePath)| {
        let mut path = good.clone();
        change(&mut path);
        merge(&path).unwrap_err()
    };
    let steps = merge(&good).unwrap();

    assert_eq!(
        refused(&|path| {
            path.nodes.pop();
        }),
        PathError::Length {
            expected: 2,
            found: 1
        }
    );
    assert_eq!(
        refused(&|path| path.nodes[1].encrypted_path_secret = Vec::new().into()),
        PathError::Ciphertexts {
            node: NodeIndex(3),
            expected: 1,
            found: 0
        }
    );
    let old_root = tree.node(NodeIndex(3)).unwrap().encryption_key();
    assert_eq!(
        refused(&|path| path.nodes[1].encryption_key = old_root.into()),
        PathError::RepeatedKey(NodeIndex(3)),
        "a key of the node itself"
    );
    assert_eq!(
        refused(&|path| path.nodes[1].encryption_key = path.nodes[0].encryption_key.clone()),
        PathError::RepeatedKey(NodeIndex(3)),
        "twice in the path"
    );
    assert!(matches!(
        refused(&|path| path.nodes[0].encryption_key = Bytes::from([1; 31]).into()),
        PathError::InvalidKey {
            node: NodeIndex(1),
            ..
        }
    ));
    let other = suite()
        .kem_key_pair(&mut ChaCha20Rng::seed_from_u64(4))
        .public_key()
        .clone();
    assert_eq!(
        refused(&|path| path.nodes[0].encryption_key = other.clone()),
        PathError::ParentHash
    );

    let mut merged = tree.clone();
    merged
        .merge_path(suite(), committer, &good, &nobody)
        .unwrap();
    let open = |leaf: u32, path: &UpdatePath, context: &[u8]| {
        let key = members[leaf as usize].leaf_key.clone();
        let mut keys = OwnKeys::new(LeafIndex(leaf), key);
        keys.open_path(suite(), &merged, &steps, path, context, &nobody)
    };
    // Leaf 3 never got the key of node 5, which the path is encrypted to; leaf 0 has another leaf
    // key since its own path.
    assert_eq!(open(3, &good, b"context"), Err(PathError::NoKey));
    assert!(matches!(
        open(0, &good, b"context"),
        Err(PathError::Decryption(_))
    ));
}

#[test]
fn no_bytes_make_a_panic() {
    let rng = &mut ChaCha20Rng::seed_from_u64(5);
    let (mut tree, _) = four(rng);
    let newcomers: Vec<_> = (0..5)
        .map(|_| Leaf::from(&Member::new(rng).leaf_node))
        .collect();
    tree.apply(&[], &[LeafIndex(1)], &newcomers).unwrap();
    let good = tree.to_ratchet_tree();
    let mut parsed = 0;
    for _ in 0..4_000 {
        let mut bytes = good.clone();
        for _ in 0..rng.next_u32() % 3 + 1 {
            let place = rng.next_u32() as usize % bytes.len();
            bytes[place] = match rng.next_u32() % 3 {
                0 => rng.next_u32() as u8,
                1 => bytes[place] ^ 1,
                _ => bytes[place] ^ 3,
            };
        }
        let Ok(mut tree) = Tree::from_ratchet_tree(&bytes) else {
            continue;
        };
        parsed += 1;
        // What is read is written again as it was.
        assert_eq!(tree.to_ratchet_tree(), bytes);
        let _ = validate(&tree, rng);
        for leaf in [0, 2, 7, u32::MAX].map(LeafIndex) {
            let _ = tree.filtered_direct_path(leaf);
            let _ = tree.apply(&[], &[leaf], &[]);
        }
        tree.tree_hash(suite());
        let _ = tree.apply(&[], &[], &newcomers[..1]);
        tree.tree_hash(suite());
    }
    assert!(parsed > 500, "{parsed}");
}
