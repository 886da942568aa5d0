//! The cost of a change follows the change, not the group.
#![cfg(feature = "aws-lc")]

mod counting;
mod counts;
#[path = "../group_harness/mod.rs"]
mod group_harness;

use folkmoot_mls::codec::Encode;
use folkmoot_mls::extension::Extensions;
use folkmoot_mls::records::{Changes, RecordKind};
use folkmoot_mls::tree_math::LeafIndex;
use group_harness::{Client, assert_agreement};

/// A creator and as many members, of whom the first and last are played.
fn large_group(members: usize) -> Vec<Client> {
    let mut clients: Vec<_> = (0..members)
        .map(|i| Client::new(&format!("client {i}")))
        .collect();
    clients[0].create(Extensions::default());
    let packages: Vec<_> = clients[1..].iter_mut().map(Client::key_package).collect();
    let pending = clients[0]
        .commit(|commit| {
            packages
                .into_iter()
                .fold(commit, |commit, package| commit.add(package))
        })
        .unwrap();
    let welcome = pending.welcome.clone().unwrap();
    clients[0].merge(pending);
    clients.swap(1, members - 1);
    clients.truncate(2);
    clients[1].join(&welcome, None).unwrap();
    assert_agreement(&clients);
    clients
}

fn of_kind(changes: &Changes, kind: RecordKind) -> usize {
    changes
        .put
        .iter()
        .filter(|(key, _)| key.as_slice()[0] == kind as u8)
        .count()
}

#[test]
fn a_change_in_a_group_of_a_thousand() {
    let mut clients = large_group(1_000);
    // The tree has 2^10 leaves: tiers 0 to 2.
    let pending = clients[0].commit(|commit| commit).unwrap();
    assert_eq!(of_kind(&pending.changes, RecordKind::TreeChunk), 3);
    assert!(
        pending.changes.to_bytes().len() < 16 * 1024,
        "{}",
        pending.changes.to_bytes().len()
    );
    assert!(
        pending.group_info.to_bytes().len() < 1024,
        "nobody needs the tree"
    );
    let message = pending.message.clone();
    clients[0].merge(pending);
    clients[1].receive(&message).unwrap();
    assert_agreement(&clients);

    let pending = clients[1]
        .commit(|commit| commit.remove(LeafIndex(500)))
        .unwrap();
    // The nodes above leaf 500 were blank already, so of its path only the leaf's chunk changes.
    assert_eq!(of_kind(&pending.changes, RecordKind::TreeChunk), 4);
    let message = pending.message.clone();
    clients[1].merge(pending);
    clients[0].receive(&message).unwrap();
    assert_agreement(&clients);

    let (message, changes) = clients[0].send(&[7; 300]);
    assert!(changes.to_bytes().len() < 1024);
    clients[1].receive(&message).unwrap();
    for client in &mut clients {
        client.restart();
    }
    let (message, _) = clients[1].send(b"after a restart");
    clients[0].receive(&message).unwrap();
}

#[test]
fn a_clone_shares_everything() {
    let clients = large_group(1_000);
    let group = clients[0].group();
    assert_eq!(size_of_val(group), size_of::<usize>());
    let start = std::time::Instant::now();
    let clones = vec![group.clone(); 100_000];
    assert!(
        start.elapsed().as_secs() < 1,
        "{:?} for {}",
        start.elapsed(),
        clones.len()
    );
}
