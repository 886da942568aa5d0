//! The tree that a newcomer gets (RFC 9420, sections 7.1, 7.3, 7.8, 7.9.2, 12.4.3.1 and 12.4.3.3). Its
//! hash is always the one in the GroupInfo, but where that is the rule.

use folkmoot_mls::code_point::ProtocolVersion;
use folkmoot_mls::codec::{Bytes, DecodeError};
use folkmoot_mls::context::CredentialError;
use folkmoot_mls::credential::{Credential, CredentialType};
use folkmoot_mls::crypto::CryptoError;
use folkmoot_mls::extension::{ExtensionType, Extensions, RequiredCapabilities};
use folkmoot_mls::group::{Group, JoinError};
use folkmoot_mls::leaf_node::{LeafNode, LeafNodeSource, LeafPosition};
use folkmoot_mls::node::{Node, ParentNode};
use folkmoot_mls::proposal::Proposal;
use folkmoot_mls::tree::{Capability, LeafNodeError, TreeError};
use folkmoot_mls::tree_math::{LeafIndex, NodeIndex};

use crate::group_harness::{Client, SUITE, assert_agreement, deliver, group_of};
use crate::insider::{Forged, Insider, Nodes, encryption_key, sign_leaf, unknown_extension};
use crate::joining::invited;
use crate::welcome::Invitation;
use crate::{ALICE, Around, CUSTOM, LENIENT, MALLORY, custom, newcomer};

rules! {
    "7.8" "the tree hash is the GroupContext's" => tree_hash;
    "12.4.3.3" "a ratchet_tree can be read" => well_formed;
    "12.4.3.3" "the last node of a ratchet_tree is not blank" => last_node;
    "12.4.3.3" "leaves and parents are in their places" => places;
    "7.1" "unmerged leaves are in increasing order" => unmerged_order;
    "12.4.3.1" "an unmerged leaf is a member" => unmerged_members;
    "12.4.3.1" "an unmerged leaf is below its node" => unmerged_below;
    "12.4.3.1" "an unmerged leaf is unmerged at all nodes between" => unmerged_between;
    "7.9.2" "a parent's hash is in a node below" => parent_hash;
    "7.9.2" "a parent's hash is in a leaf below" => parent_hash_of_a_leaf;
    "7.9.2" "the resolution below is that node and the unmerged leaves" => resolution;
    "7.9.2" "a parent's hash covers the tree beside the path" => sibling;
    "12.4.3.1" "no encryption key is in two nodes" => encryption_keys;
    "7.3" "tree: no encryption key is in two leaves" => leaf_encryption_keys;
    "7.3" "tree: no signature key is in two leaves" => signature_keys;
    "7.3" "tree: the credential is valid" => credential;
    "7.3" "tree: the leaf's signature is valid" => signature;
    "7.2" "tree: the leaf's signature covers the group" => signature_covers_the_group;
    "7.2" "tree: the leaf's signature covers its place" => signature_covers_the_place;
    "7.3" "tree: the extensions are in the leaf's capabilities" => extensions_listed;
    "7.3" "tree: the credential's type is in the leaf's capabilities" => credential_listed;
    "7.3" "tree: the group's version is supported" => supports_version;
    "7.3" "tree: the group's cipher suite is supported" => supports_cipher_suite;
    "11.1" "tree: required capabilities are supported" => required_capabilities;
    "13.4" "tree: the group's extensions are supported, by us too" => group_extensions;
    "7.3" "tree: the encryption key is one of the suite" => encryption_key_of_the_suite;
    "7.3" "tree: all members support all credential types in use" => credentials_in_use;
}

fn refuses_around(
    (clients, joiner, forged): (Vec<Client>, Client, Forged),
    change: impl FnOnce(&mut Invitation),
    error: impl Into<JoinError>,
    around: Around<'_>,
) {
    let mut invitation = forged.invitation(&[]);
    change(&mut invitation);
    let welcome = invitation.seal(&forged);
    let bundle = joiner.bundle.clone().unwrap();
    let mut rng = joiner.rng.clone();
    let refused = Group::join(&mut around.context(&mut rng), &welcome, &bundle, None);
    assert_eq!(refused.map(drop), Err(error.into().into()));
    let mut joiner = joiner;
    let good = forged.invitation(&[]).seal(&forged);
    joiner.join(&good, None).unwrap();
    assert_agreement([&clients[ALICE], &joiner]);
}

/// A tree where there is something of everything: members in leaves 0, 1, 3 and 4, the newcomer in 2,
/// where it is unmerged, and parents at 1, 3 and 7.
fn thicket() -> (Vec<Client>, Client, Forged) {
    let mut clients = group_of(&["alice", "mallory", "charlie", "dave", "erin"]);
    let removal = clients[ALICE]
        .commit(|commit| commit.remove(LeafIndex(2)))
        .unwrap();
    deliver(&mut clients, ALICE, removal);
    clients.remove(2);
    let mallory = Insider::of(&clients[MALLORY]);
    let (joiner, package) = newcomer();
    let mut plan = mallory.plan(vec![Proposal::add(package)]);
    plan.path = false;
    let forged = mallory.commit(&plan);
    assert_eq!(forged.added[0].0, LeafIndex(2));
    let parents: Vec<_> = (1..15)
        .step_by(2)
        .filter(|node| forged.next.nodes.get(NodeIndex(*node)).is_some())
        .collect();
    assert_eq!(parents, [1, 3, 7]);
    let message = forged.private(&mut clients[MALLORY]);
    clients[ALICE].receive(&message).unwrap();
    (clients, joiner, forged)
}

fn refused(edit: impl FnOnce(&mut Nodes), error: TreeError) {
    let change = |invitation: &mut Invitation| invitation.edit_tree(edit);
    refuses_around(thicket(), change, error, Around::default());
}

fn tree_hash() {
    let change = |invitation: &mut Invitation| {
        invitation.group_info.group_context.tree_hash = Bytes::from([7; 32]);
    };
    refuses_around(thicket(), change, TreeError::TreeHash, Around::default());
    // A good tree, but of another epoch, as it comes from outside.
    let (clients, mut joiner, forged) = invited(true);
    let mut invitation = forged.invitation(&[]);
    invitation.with_tree = false;
    let welcome = invitation.seal(&forged);
    let other = clients[MALLORY].group().tree_bytes();
    let refused = joiner.join(&welcome, Some(&other));
    assert_eq!(refused, Err(JoinError::from(TreeError::TreeHash).into()));
    let tree = forged.next.nodes.to_bytes();
    joiner.join(&welcome, Some(&tree)).unwrap();
}

fn refused_bytes(change: impl Fn(Vec<u8>) -> Vec<u8>, error: TreeError) {
    let (_, mut joiner, forged) = invited(true);
    let mut invitation = forged.invitation(&[]);
    invitation.with_tree = false;
    let welcome = invitation.seal(&forged);
    let tree = forged.next.nodes.to_bytes();
    let refused = joiner.join(&welcome, Some(&change(tree.clone())));
    assert_eq!(refused, Err(JoinError::from(error).into()));
    joiner.join(&welcome, Some(&tree)).unwrap();
}

fn well_formed() {
    let error = TreeError::Malformed(DecodeError::Truncated);
    refused_bytes(|tree| tree[..tree.len() - 1].to_vec(), error);
    let error = TreeError::Malformed(DecodeError::TrailingBytes);
    refused_bytes(|tree| [&tree[..], &[0]].concat(), error);
}

fn last_node() {
    let longer = |tree: Vec<u8>| {
        let mut nodes = Nodes::of(&tree).0;
        nodes.push(None);
        folkmoot_mls::codec::Encode::to_bytes(&folkmoot_mls::node::RatchetTree(nodes))
    };
    refused_bytes(longer, TreeError::TrailingBlank);
    refused_bytes(|_| vec![1, 0], TreeError::TrailingBlank);
    refused_bytes(|_| vec![0], TreeError::TrailingBlank);
}

fn places() {
    let leaf_above = |nodes: &mut Nodes| {
        let leaf = nodes.get(NodeIndex(0)).cloned();
        nodes.set(NodeIndex(0), None);
        nodes.set(NodeIndex(1), leaf);
    };
    refused(leaf_above, TreeError::MisplacedNode(NodeIndex(1)));
    let parent_below = |nodes: &mut Nodes| {
        let parent = ParentNode {
            encryption_key: Bytes::from([9; 32]).into(),
            parent_hash: Bytes::default(),
            unmerged_leaves: Vec::new(),
        };
        nodes.set(NodeIndex(10), Some(Node::Parent(parent.into())));
    };
    refused(parent_below, TreeError::MisplacedNode(NodeIndex(10)));
}

fn unmerged(node: u32, leaves: &'static [u32]) -> impl FnOnce(&mut Nodes) {
    move |nodes| {
        nodes.edit_parent(NodeIndex(node), |parent| {
            parent.unmerged_leaves = leaves.iter().copied().map(LeafIndex).collect();
        });
    }
}

fn unmerged_order() {
    for node in [3, 7] {
        let error = TreeError::UnmergedLeavesOrder(NodeIndex(node));
        refused(unmerged(node, &[2, 2]), error);
    }
    // Were they all unmerged members, so that the order alone is wrong.
    let error = TreeError::UnmergedLeavesOrder(NodeIndex(7));
    refused(unmerged(7, &[4, 2]), error);
}

fn unmerged_members() {
    let (node, leaf) = (NodeIndex(7), LeafIndex(5));
    refused(unmerged(7, &[2, 5]), TreeError::UnmergedLeaf { node, leaf });
}

fn unmerged_below() {
    for leaf in [4, 9] {
        let leaves: &[u32] = if leaf == 4 { &[2, 4] } else { &[2, 9] };
        let (node, leaf) = (NodeIndex(3), LeafIndex(leaf));
        refused(unmerged(3, leaves), TreeError::UnmergedLeaf { node, leaf });
    }
}

fn unmerged_between() {
    let (node, leaf) = (NodeIndex(3), LeafIndex(2));
    let error = TreeError::UnmergedLeafMissing { node, leaf };
    refused(unmerged(3, &[]), error);
}

fn parent_hash() {
    let edit = |nodes: &mut Nodes| {
        nodes.edit_parent(NodeIndex(3), |parent| {
            parent.parent_hash = Bytes::from([1; 32]);
        });
    };
    // Node 3 no longer has the hash of node 7. Nor, then, node 1 that of node 3.
    refused(edit, TreeError::ParentHash(NodeIndex(7)));
}

/// Signs a member's leaf again after a change.
fn change_leaf<F: FnOnce(&mut LeafNode)>(
    clients: &[Client],
    leaf: usize,
    change: F,
) -> impl FnOnce(&mut Nodes) + use<F> {
    let signer = clients[leaf].signer.clone();
    move |nodes| {
        let leaf_index = LeafIndex(leaf as u32);
        nodes.edit_leaf(leaf_index, |leaf| {
            change(leaf);
            let group_id = b"group";
            let position = LeafPosition {
                group_id,
                leaf_index,
            };
            let suite = crate::group_harness::suite(SUITE);
            *leaf = sign_leaf(suite, &signer, leaf.clone(), position);
        });
    }
}

fn parent_hash_of_a_leaf() {
    let clients = thicket().0;
    for source in [
        LeafNodeSource::Commit(Bytes::from([1; 32])),
        LeafNodeSource::Update,
    ] {
        let edit = change_leaf(&clients, ALICE, |leaf| leaf.leaf_node_source = source);
        refused(edit, TreeError::ParentHash(NodeIndex(1)));
    }
}

/// Node 3 has the hash of node 7, but the newcomer, unmerged at node 3, is not at node 7: who set node
/// 7 would have known of it.
fn resolution() {
    refused(unmerged(7, &[]), TreeError::ParentHash(NodeIndex(7)));
}

/// Erin's leaf is beside the path that Alice set.
fn sibling() {
    let (_, joiner, _) = thicket();
    let erin = Client::new("erin").signer;
    let edit = |nodes: &mut Nodes| {
        nodes.edit_leaf(LeafIndex(4), |leaf| {
            leaf.capabilities.versions.push(ProtocolVersion(2));
            let position = LeafPosition {
                group_id: b"group",
                leaf_index: LeafIndex(4),
            };
            let suite = crate::group_harness::suite(SUITE);
            *leaf = sign_leaf(suite, &erin, leaf.clone(), position);
        });
    };
    drop(joiner);
    refused(edit, TreeError::ParentHash(NodeIndex(7)));
}

fn encryption_keys() {
    let edit = |nodes: &mut Nodes| {
        let taken = encryption_key(nodes.get(NodeIndex(1)).unwrap()).clone();
        nodes.edit_parent(NodeIndex(7), |parent| parent.encryption_key = taken);
    };
    let error = TreeError::DuplicateEncryptionKey(NodeIndex(7));
    refused(edit, error);
    let edit = |nodes: &mut Nodes| {
        let taken = nodes.leaf(LeafIndex(0)).unwrap().encryption_key.clone();
        nodes.edit_parent(NodeIndex(3), |parent| parent.encryption_key = taken);
    };
    refused(edit, TreeError::DuplicateEncryptionKey(NodeIndex(3)));
}

/// A tree of leaves alone, so that one can be changed and the rest stays right: Alice's, signed again.
fn refused_leaf(
    change: impl FnOnce(&mut LeafNode),
    error: impl Into<TreeError>,
    around: Around<'_>,
) {
    let invited = invited(false);
    let edit = change_leaf(&invited.0, ALICE, change);
    let change = |invitation: &mut Invitation| {
        invitation.edit_tree(|nodes| {
            blank_parents(nodes);
            edit(nodes);
        });
    };
    refuses_around(invited, change, error.into(), around);
}

fn blank_parents(nodes: &mut Nodes) {
    nodes
        .0
        .iter_mut()
        .skip(1)
        .step_by(2)
        .for_each(|node| *node = None);
}

fn of_alice(error: LeafNodeError) -> TreeError {
    let leaf = LeafIndex(0);
    TreeError::Leaf { leaf, error }
}

#[test]
fn a_tree_of_changed_leaves_is_taken() {
    let (clients, mut joiner, forged) = invited(false);
    let edit = change_leaf(&clients, ALICE, |leaf| {
        leaf.leaf_node_source = LeafNodeSource::Update;
    });
    let mut invitation = forged.invitation(&[]);
    invitation.edit_tree(|nodes| {
        blank_parents(nodes);
        edit(nodes);
    });
    joiner.join(&invitation.seal(&forged), None).unwrap();
}

fn leaf_encryption_keys() {
    let charlies = invited(false)
        .2
        .next
        .nodes
        .leaf(LeafIndex(2))
        .unwrap()
        .clone();
    let take = |leaf: &mut LeafNode| leaf.encryption_key = charlies.encryption_key;
    let error = TreeError::DuplicateEncryptionKey(NodeIndex(4));
    refused_leaf(take, error, Around::default());
}

/// Alice's leaf has Charlie's signature key, and is signed by it.
fn signature_keys() {
    let charlie = Client::new("charlie").signer;
    let suite = crate::group_harness::suite(SUITE);
    let change = |invitation: &mut Invitation| {
        invitation.edit_tree(|nodes| {
            blank_parents(nodes);
            nodes.edit_leaf(LeafIndex(0), |leaf| {
                leaf.signature_key = charlie.public_key().clone();
                let position = LeafPosition {
                    group_id: b"group",
                    leaf_index: LeafIndex(0),
                };
                *leaf = sign_leaf(suite, &charlie, leaf.clone(), position);
            });
        });
    };
    let error = TreeError::DuplicateSignatureKey(LeafIndex(2));
    refuses_around(invited(false), change, error, Around::default());
}

fn credential() {
    let forbid = |leaf: &mut LeafNode| leaf.credential = Credential::basic(*b"forbidden");
    let error = LeafNodeError::Credential(CredentialError::NotAuthentic);
    refused_leaf(forbid, of_alice(error), LENIENT);
}

/// Alice's leaf with its signature spoiled, or made for somewhere else.
fn refused_signature(spoil: impl FnOnce(&mut LeafNode)) {
    let change = |invitation: &mut Invitation| {
        invitation.edit_tree(|nodes| {
            blank_parents(nodes);
            nodes.edit_leaf(LeafIndex(0), spoil);
        });
    };
    let error = LeafNodeError::Signature(CryptoError::InvalidSignature);
    refuses_around(invited(false), change, of_alice(error), Around::default());
}

fn signed_elsewhere(group_id: &'static [u8], leaf_index: u32) -> impl FnOnce(&mut LeafNode) {
    let alice = Client::new("alice").signer;
    move |leaf| {
        let position = LeafPosition {
            group_id,
            leaf_index: LeafIndex(leaf_index),
        };
        let suite = crate::group_harness::suite(SUITE);
        *leaf = sign_leaf(suite, &alice, leaf.clone(), position);
    }
}

fn signature() {
    refused_signature(|leaf| leaf.signature = Bytes::from([0; 64]));
}

fn signature_covers_the_group() {
    refused_signature(signed_elsewhere(b"other", 0));
}

fn signature_covers_the_place() {
    refused_signature(signed_elsewhere(b"group", 1));
}

fn extensions_listed() {
    let add = |leaf: &mut LeafNode| leaf.extensions = unknown_extension();
    let error = LeafNodeError::UnlistedExtension(ExtensionType(0xf00d));
    refused_leaf(add, of_alice(error), Around::default());
}

fn credential_listed() {
    let drop = |leaf: &mut LeafNode| leaf.capabilities.credentials = vec![CUSTOM];
    let error = LeafNodeError::UnlistedCredential(CredentialType::BASIC);
    refused_leaf(drop, of_alice(error), Around::default());
}

fn supports_version() {
    let drop = |leaf: &mut LeafNode| leaf.capabilities.versions.clear();
    let mls10 = Capability::Version(ProtocolVersion::MLS10);
    let error = of_alice(LeafNodeError::Lacks(mls10));
    refused_leaf(drop, error, Around::default());
}

fn supports_cipher_suite() {
    let drop = |leaf: &mut LeafNode| leaf.capabilities.cipher_suites.clear();
    let error = of_alice(LeafNodeError::Lacks(Capability::CipherSuite(SUITE)));
    refused_leaf(drop, error, Around::default());
}

fn encryption_key_of_the_suite() {
    let change = |leaf: &mut LeafNode| leaf.encryption_key = Bytes::from([0; 32]).into();
    let error = LeafNodeError::EncryptionKey(CryptoError::InvalidPublicKey);
    refused_leaf(change, of_alice(error), Around::default());
}

fn credentials_in_use() {
    let change = |leaf: &mut LeafNode| {
        leaf.credential = custom(b"alice");
        leaf.capabilities.credentials.push(CUSTOM);
    };
    let error = TreeError::UnsupportedCredential(CUSTOM);
    refused_leaf(change, error, LENIENT);
}

/// The group asks for what a newcomer does not have. Everybody else does.
fn group_asks(extensions: Extensions) {
    let (clients, mallory) = crate::key_packages::group_with(extensions);
    let (mut joiner, package) = newcomer();
    let plan = mallory.plan(vec![Proposal::add(package)]);
    let forged = mallory.commit(&plan);
    let welcome = forged.invitation(&[]).seal(&forged);
    let lacking = Capability::Extension(ExtensionType(0xf00d));
    let (leaf, error) = (LeafIndex(3), LeafNodeError::Lacks(lacking));
    let error = JoinError::Tree(TreeError::Leaf { leaf, error });
    assert_eq!(joiner.join(&welcome, None), Err(error.into()));
    assert_eq!(clients.len(), 3);
}

fn required_capabilities() {
    let required = RequiredCapabilities {
        extension_types: vec![ExtensionType(0xf00d)],
        ..RequiredCapabilities::default()
    };
    group_asks(Extensions::default().with(&required));
}

fn group_extensions() {
    group_asks(unknown_extension());
}
