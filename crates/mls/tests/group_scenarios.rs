//! What happens to groups: who does what, and what has to hold.
#![cfg(feature = "aws-lc")]

mod group_harness;

use folkmoot_mls::code_point::WireFormat;
use folkmoot_mls::error::Error;
use folkmoot_mls::proposal::Proposal;
use folkmoot_mls::tree_math::LeafIndex;
use group_harness::{Received, assert_agreement, broadcast, deliver, group_of};

#[test]
fn alice_adds_bob_and_they_talk() {
    let mut clients = group_of(&["alice", "bob"]);
    let (message, _) = clients[0].send(b"hello");
    assert!(matches!(clients[1].receive(&message).unwrap(), Received::Data(d) if d == b"hello"));
    let (answer, _) = clients[1].send(b"hello yourself");
    assert!(matches!(clients[0].receive(&answer).unwrap(), Received::Data(d) if d.len() == 14));
    // The same message again has no key any more; an own message is told from others.
    assert!(matches!(
        clients[0].receive(&answer),
        Err(Error::KeyGone { .. })
    ));
    assert_eq!(clients[1].receive(&answer).unwrap_err(), Error::OwnMessage);
}

#[test]
fn bob_adds_charlie_and_removes_alice() {
    let mut clients = group_of(&["alice", "bob"]);
    clients.push(group_harness::Client::new("charlie"));
    let charlie = clients[2].key_package();
    let pending = clients[1].commit(|commit| commit.add(charlie)).unwrap();
    deliver(&mut clients, 1, pending);
    let pending = clients[1]
        .commit(|commit| commit.remove(LeafIndex(0)))
        .unwrap();
    let message = pending.message.clone();
    clients[1].merge(pending);
    clients[2].receive(&message).unwrap();
    let removed = clients[0].receive(&message).unwrap();
    assert!(matches!(removed, Received::Removed(by) if by == LeafIndex(1)));
    assert_agreement(&clients);
    let (message, _) = clients[2].send(b"she is gone");
    clients[1].receive(&message).unwrap();
}

#[test]
fn proposals_by_reference_are_committed_by_somebody_else() {
    for wire_format in [WireFormat::PUBLIC_MESSAGE, WireFormat::PRIVATE_MESSAGE] {
        let mut clients = group_of(&["alice", "bob", "charlie", "dora"]);
        let update = clients[1].propose_update(wire_format);
        broadcast(&mut clients, 1, &update.message);
        let removal = clients[2]
            .propose(Proposal::remove(LeafIndex(3)), wire_format)
            .unwrap();
        broadcast(&mut clients, 2, &removal.message);
        let pending = clients[0]
            .commit(|commit| commit.wire_format(wire_format))
            .unwrap();
        assert_eq!(pending.effects.updated, [LeafIndex(1)]);
        assert_eq!(pending.effects.removed[0].0, LeafIndex(3));
        deliver(&mut clients, 0, pending);
        assert!(clients[3].member.is_none());
        let pending = clients[1].commit(|commit| commit).unwrap();
        deliver(&mut clients, 1, pending);
    }
}
