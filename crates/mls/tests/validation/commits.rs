//! Commits and their paths (RFC 9420, sections 7.5, 7.6, 7.9 and 12.4). The leaf of a path has a file of
//! its own.

use folkmoot_mls::codec::Bytes;
use folkmoot_mls::commit::{HpkeCiphertext, UpdatePath};
use folkmoot_mls::crypto::{CryptoError, Secret};
use folkmoot_mls::extension::Extensions;
use folkmoot_mls::group::CommitError;
use folkmoot_mls::leaf_node::{LeafNode, LeafNodeSource};
use folkmoot_mls::proposal::Proposal;
use folkmoot_mls::tree::path::PathError;
use folkmoot_mls::tree_math::{LeafIndex, NodeIndex};

use crate::group_harness::assert_agreement;
use crate::insider::Plan;
use crate::{ALICE, CHARLIE, MALLORY, group, newcomer, refuses_commit};

rules! {
    "12.4" "a commit of nothing has a path" => path_of_an_empty_commit;
    "12.4" "a commit with a Remove has a path" => path_with_a_remove;
    "12.4" "a commit with an Update has a path" => path_with_an_update;
    "12.4" "a commit with a GroupContextExtensions has a path" => path_with_extensions;
    "7.5" "the parent hash of the leaf is that of the path" => parent_hash;
    "7.5" "the path has one node for each of the filtered direct path" => length;
    "7.6" "a node has one ciphertext for each of the resolution" => ciphertexts;
    "7.5" "nothing is encrypted to new members" => nothing_for_new_members;
    "12.4.2" "no key of the path is in the tree" => keys_are_new;
    "12.4.2" "no key of the path is there twice" => keys_are_different;
    "7.6" "the keys of the path are of the suite" => keys_are_valid;
    "7.6" "our path secret opens" => path_secret_opens;
    "7.5" "our path secret gives the path's public key" => path_secret_fits;
    "7.5" "the secrets above ours give the path's public keys" => secrets_above_fit;
    "12.4.2" "the confirmation tag is right" => confirmation_tag;
    "8.2" "the transcript is the group's" => transcript;
    "8" "the init secret is the last epoch's" => init_secret;
}

fn refused(change: impl FnOnce(&mut Plan<'_>), error: impl Into<CommitError>) {
    let (mut clients, mallory) = group();
    let mut plan = mallory.plan(Vec::new());
    change(&mut plan);
    refuses_commit(&mut clients, &mallory, &plan, error.into());
}

#[test]
fn an_insiders_commits_are_right() {
    for path in [true, false] {
        let (mut clients, mallory) = group();
        let (mut joiner, package) = newcomer();
        let mut plan = mallory.plan(vec![Proposal::add(package)]);
        plan.path = path;
        let forged = mallory.commit(&plan);
        let message = forged.private(&mut clients[MALLORY]);
        for member in [ALICE, CHARLIE] {
            clients[member].receive(&message).unwrap();
        }
        let welcome = forged.invitation(&[]).seal(&forged);
        joiner.join(&welcome, None).unwrap();
        clients.remove(MALLORY);
        clients.push(joiner);
        assert_agreement(&clients);
        let (word, _) = clients[0].send(b"word");
        clients[2].receive(&word).unwrap();
        let pending = clients[2].commit(|commit| commit).unwrap();
        crate::group_harness::deliver(&mut clients, 2, pending);
    }
}

/// The commit is right but for its path, which it does not have.
fn without_path(proposal: Option<Proposal>) {
    let (mut clients, mallory) = group();
    let mut plan = mallory.plan(proposal.into_iter().collect());
    plan.path = false;
    refuses_commit(&mut clients, &mallory, &plan, CommitError::MissingPath);
}

fn path_of_an_empty_commit() {
    without_path(None);
}

fn path_with_a_remove() {
    without_path(Some(Proposal::remove(LeafIndex(CHARLIE as u32))));
}

fn path_with_an_update() {
    let (mut clients, mallory) = group();
    let mut plan = crate::leaf_nodes::good_update(&mut clients, &mallory);
    plan.path = false;
    refuses_commit(&mut clients, &mallory, &plan, CommitError::MissingPath);
}

fn path_with_extensions() {
    let extensions = Extensions::default();
    without_path(Some(Proposal::group_context_extensions(extensions)));
}

fn parent_hash() {
    let wrong = |leaf: &mut LeafNode| {
        leaf.leaf_node_source = LeafNodeSource::Commit(Bytes::from([1; 32]));
    };
    refused(
        |plan| plan.edit_leaf = Box::new(wrong),
        PathError::ParentHash,
    );
    let none = |leaf: &mut LeafNode| {
        leaf.leaf_node_source = LeafNodeSource::Commit(Bytes::default());
    };
    refused(
        |plan| plan.edit_leaf = Box::new(none),
        PathError::ParentHash,
    );
}

fn length() {
    let error = |found| PathError::Length { expected: 2, found };
    let shorter = |plan: &mut Plan<'_>| plan.edit_path = Box::new(|path| drop(path.nodes.pop()));
    refused(shorter, error(1));
    let longer = |plan: &mut Plan<'_>| {
        plan.edit_path = Box::new(|path| {
            let mut node = path.nodes[1].clone();
            node.encryption_key = key(3);
            path.nodes.push(node);
        });
    };
    refused(longer, error(3));
    let none = |plan: &mut Plan<'_>| plan.edit_path = Box::new(|path| path.nodes.clear());
    refused(none, error(0));
}

fn ciphertexts() {
    // Of the root, to Charlie.
    let (node, expected) = (NodeIndex(3), 1);
    let error = |found| PathError::Ciphertexts {
        node,
        expected,
        found,
    };
    let fewer = |plan: &mut Plan<'_>| {
        plan.edit_path = Box::new(|path| edit_ciphertexts(path, 1, &|list| list.clear()));
    };
    refused(fewer, error(0));
    let more = |plan: &mut Plan<'_>| {
        plan.edit_path = Box::new(|path| {
            edit_ciphertexts(path, 1, &|list| list.extend_from_within(..1));
        });
    };
    refused(more, error(2));
}

fn nothing_for_new_members() {
    let (mut clients, mallory) = group();
    let mut plan = mallory.plan(vec![Proposal::add(newcomer().1)]);
    plan.edit_path = Box::new(|path| {
        edit_ciphertexts(path, 1, &|list| list.extend_from_within(..1));
    });
    let error = CommitError::from(PathError::Ciphertexts {
        node: NodeIndex(3),
        expected: 1,
        found: 2,
    });
    refuses_commit(&mut clients, &mallory, &plan, error);
}

fn edit_ciphertexts(path: &mut UpdatePath, node: usize, edit: &dyn Fn(&mut Vec<HpkeCiphertext>)) {
    let list = &mut path.nodes[node].encrypted_path_secret;
    let mut edited = list.to_vec();
    edit(&mut edited);
    *list = edited.into();
}

/// Some key of the suite.
fn key(seed: u8) -> folkmoot_mls::crypto::HpkePublicKey {
    let suite = crate::group_harness::suite(crate::group_harness::SUITE);
    suite.kem_derive_key_pair(&[seed; 32]).public_key().clone()
}

fn keys_are_new() {
    let mallory = group().1;
    for (place, node) in [(0, NodeIndex(1)), (1, NodeIndex(3))] {
        let charlies = mallory.nodes.leaf(LeafIndex(2)).unwrap();
        let taken = charlies.encryption_key.clone();
        let change = |plan: &mut Plan<'_>| {
            plan.edit_keys = Box::new(move |keys| keys[place] = taken.clone());
        };
        refused(change, PathError::RepeatedKey(node));
    }
}

fn keys_are_different() {
    let change = |plan: &mut Plan<'_>| plan.edit_keys = Box::new(|keys| keys[1] = keys[0].clone());
    refused(change, PathError::RepeatedKey(NodeIndex(3)));
}

fn keys_are_valid() {
    for bytes in [&[7; 31][..], &[0; 32]] {
        let change = |plan: &mut Plan<'_>| {
            plan.edit_keys = Box::new(move |keys| keys[1] = Bytes::from(bytes).into());
        };
        let (node, error) = (NodeIndex(3), CryptoError::InvalidPublicKey);
        refused(change, PathError::InvalidKey { node, error });
    }
}

fn path_secret_opens() {
    let change = |plan: &mut Plan<'_>| {
        plan.edit_path = Box::new(|path| {
            edit_ciphertexts(path, 0, &|list| list[0].ciphertext = Bytes::from([0; 48]));
        });
    };
    let error = PathError::Decryption(CryptoError::DecryptionFailed);
    refused(change, error);
}

fn path_secret_fits() {
    let change = |plan: &mut Plan<'_>| {
        plan.edit_path_secrets = Box::new(|secrets| secrets[0] = Secret::zero(32));
    };
    refused(change, PathError::WrongSecret(NodeIndex(1)));
}

/// What Alice opens is right; the key above is not the one that follows from it.
fn secrets_above_fit() {
    let change = |plan: &mut Plan<'_>| {
        plan.edit_keys = Box::new(|keys| keys[1] = key(9));
    };
    refused(change, PathError::WrongSecret(NodeIndex(3)));
}

fn confirmation_tag() {
    let spoiled = |plan: &mut Plan<'_>| plan.edit_tag = Box::new(|tag| *tag = Bytes::from([0; 32]));
    refused(spoiled, CommitError::ConfirmationTag);
    let shorter = |plan: &mut Plan<'_>| {
        plan.edit_tag = Box::new(|tag| *tag = Bytes::from(&tag[..31]));
    };
    refused(shorter, CommitError::ConfirmationTag);
}

fn transcript() {
    let (mut clients, mut mallory) = group();
    mallory.interim_transcript_hash = Bytes::from([7; 32]);
    let plan = mallory.plan(Vec::new());
    let error = CommitError::ConfirmationTag;
    refuses_commit(&mut clients, &mallory, &plan, error);
}

fn init_secret() {
    let change = |plan: &mut Plan<'_>| plan.init_secret = Some(Secret::zero(32));
    refused(change, CommitError::ConfirmationTag);
}
