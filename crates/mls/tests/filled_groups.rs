//! Groups whose trees are filled at once, as every test and measurement of such trees takes them.
#![cfg(feature = "aws-lc")]

mod group_harness;

use folkmoot_mls::code_point::ProtocolVersion;
use folkmoot_mls::codec::Bytes;
use folkmoot_mls::credential::Credential;
use folkmoot_mls::crypto::{CipherSuite, CryptoProvider, PROVIDER};
use folkmoot_mls::extension::Extensions;
use folkmoot_mls::group::{FilledGroup, GroupParameters};
use folkmoot_mls::leaf_node::LeafParameters;
use folkmoot_mls::tree_math::{LeafIndex, NodeIndex};
use group_harness::{Client, SUITE, broadcast, capabilities, deliver, suite};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

fn filled(cipher_suite: CipherSuite, members: u32) -> FilledGroup {
    let parameters = GroupParameters {
        version: ProtocolVersion::MLS10,
        cipher_suite,
        group_id: Bytes::from(*b"filled"),
        extensions: Extensions::default(),
    };
    let mut leaf = |index: LeafIndex, _: &_| LeafParameters {
        credential: Credential::basic(format!("member {index}").into_bytes()),
        capabilities: capabilities(),
        extensions: Extensions::default(),
    };
    let mut rng = ChaCha20Rng::seed_from_u64(u64::from(members));
    FilledGroup::new(
        suite(cipher_suite),
        parameters,
        members,
        &mut leaf,
        &mut rng,
    )
}

/// A client in a member's place.
fn play(group: &FilledGroup, leaf: LeafIndex) -> Client {
    let mut client = Client::new(&format!("member {leaf}"));
    let (view, keys, signer) = group.member(leaf);
    assert_eq!(view.own_index(), leaf);
    client.suite = view.cipher_suite();
    client.signer = signer;
    client.enter(view, keys, &group.records(leaf));
    client
}

/// Somebody joins by a commit of the first member, and so checks the whole tree; then the joiner and
/// the last of those who are played commit, and everybody follows.
fn lives_on(cipher_suite: CipherSuite, members: u32) {
    let group = filled(cipher_suite, members);
    let mut played = vec![0, 1, members / 2, members - 1];
    played.retain(|leaf| *leaf < members);
    played.sort_unstable();
    played.dedup();
    let played = played.into_iter().map(LeafIndex);
    let mut clients: Vec<_> = played.map(|leaf| play(&group, leaf)).collect();
    let epoch = clients[0].group().epoch();
    assert_eq!(clients[0].group().member_count(), members);
    broadcast_by_all(&mut clients);

    let mut joiner = Client::with_suite("joiner", cipher_suite);
    let package = joiner.key_package();
    clients.push(joiner);
    let pending = clients[0].commit(|commit| commit.add(package)).unwrap();
    deliver(&mut clients, 0, pending);
    for committer in [clients.len() - 1, clients.len() - 2] {
        let pending = clients[committer].commit(|commit| commit).unwrap();
        deliver(&mut clients, committer, pending);
    }
    for client in &mut clients {
        client.restart();
    }
    broadcast_by_all(&mut clients);
    assert_eq!(clients[0].group().epoch(), epoch + 3);
    assert_eq!(clients[0].group().member_count(), members + 1);
}

fn broadcast_by_all(clients: &mut [Client]) {
    for sender in 0..clients.len() {
        let (message, _) = clients[sender].send(b"hello");
        broadcast(clients, sender, &message);
    }
}

#[test]
fn a_joiner_finds_the_tree_valid_and_everybody_goes_on() {
    for members in [1, 2, 3, 4, 5, 7, 8, 9, 31, 33, 100, 1_000] {
        lives_on(SUITE, members);
    }
}

#[test]
fn every_suite_has_filled_trees() {
    for cipher_suite in PROVIDER.suites() {
        lives_on(*cipher_suite, 6);
    }
}

#[test]
fn no_node_is_blank_that_some_path_sets() {
    for members in [1, 2, 3, 5, 8, 100] {
        let (group, _, _) = filled(SUITE, members).member(LeafIndex(0));
        let tree = group.tree();
        for place in 0..=2 * tree.root().0 {
            let node = NodeIndex(place);
            let is_set = match node.right() {
                Some(right) => right.leaves().start < members,
                None => place / 2 < members,
            };
            assert_eq!(tree.node(node).is_some(), is_set, "{place} of {members}");
            if let Some(parent) = tree.node(node).and_then(|node| node.parent()) {
                assert!(parent.unmerged_leaves.is_empty());
            }
        }
        assert_eq!(tree.resolution(tree.root()), [tree.root()]);
    }
}
