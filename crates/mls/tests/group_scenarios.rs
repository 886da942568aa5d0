//! What happens to groups: who does what, and what has to hold.
#![cfg(any(feature = "aws-lc", feature = "rust-crypto"))]

mod group_harness;

use folkmoot_mls::code_point::WireFormat;
use folkmoot_mls::codec::{Bytes, Decode, Encode};
use folkmoot_mls::component::ComponentID;
use folkmoot_mls::context::{Context, PskStore};
use folkmoot_mls::crypto::{PROVIDER, Secret};
use folkmoot_mls::error::Error;
use folkmoot_mls::extension::{ExtensionType, Extensions, ExternalPub};
use folkmoot_mls::framing::Sender;
use folkmoot_mls::group::{
    CommitEffects, Group, GroupInfoOptions, JoinError, Processed, ProposalError,
};
use folkmoot_mls::key_package::KeyPackage;
use folkmoot_mls::leaf_node::Lifetime;
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::proposal::Proposal;
use folkmoot_mls::psk::{ExternalPsk, PreSharedKeyID, PskType};
use folkmoot_mls::records::{Changes, RecordKind};
use folkmoot_mls::tree::Capability;
use folkmoot_mls::tree_math::LeafIndex;
use group_harness::{
    Client, Member, Received, SUITE, assert_agreement, broadcast, context, deliver, group_of, suite,
};

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
    assert!(matches!(removed, Received::Removed(by) if by == Sender::Member(LeafIndex(1))));
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

#[test]
fn the_race_is_won_by_whom_the_order_says() {
    let mut clients = group_of(&["alice", "bob", "charlie"]);
    let of_alice = clients[0].commit(|commit| commit).unwrap();
    let of_bob = clients[1]
        .commit(|commit| commit.remove(LeafIndex(2)))
        .unwrap();
    // Bob's was ordered first. Alice drops hers, and makes it again on top of his.
    let mut lost = of_alice.keys;
    deliver(&mut clients, 1, of_bob);
    // The keys of the epoch that never was are not taken for those of the one with its number.
    let group = clients[0].group().clone();
    assert_eq!(lost.epoch(), group.epoch());
    let commit = group.commit();
    let signer = clients[0].signer.clone();
    let ctx = &mut context(None, &mut clients[0].rng);
    let error = commit.build(&mut lost, &signer, ctx).unwrap_err();
    assert_eq!(error, Error::WrongGroup);
    let again = clients[0].commit(|commit| commit).unwrap();
    deliver(&mut clients, 0, again);
    assert!(clients[2].member.is_none());
}

#[test]
fn a_commit_is_merged_after_a_restart() {
    let mut clients = group_of(&["alice", "bob", "charlie"]);
    let pending = clients[0]
        .commit(|commit| commit.remove(LeafIndex(2)))
        .unwrap();
    // Alice stores the attempt, with what it changes, and her program ends.
    let attempt = pending.changes.to_bytes();
    let (message, authenticator) = (pending.message, pending.group.epoch_authenticator().clone());
    clients[0].restart();
    clients[1].receive(&message).unwrap();
    // She knows the message as her own, and takes the attempt.
    assert_eq!(clients[0].receive(&message).unwrap_err(), Error::OwnMessage);
    let alice = clients[0].member.as_mut().unwrap();
    alice.records.apply(&Changes::from_bytes(&attempt).unwrap());
    clients[0].restart();
    assert_eq!(*clients[0].group().epoch_authenticator(), authenticator);
    let (message, _) = clients[0].send(b"all is well");
    clients[1].receive(&message).unwrap();
    let pending = clients[1].commit(|commit| commit).unwrap();
    let message = pending.message.clone();
    clients[1].merge(pending);
    clients[0].receive(&message).unwrap();
    assert_agreement(&clients[..2]);
}

#[test]
fn late_messages_are_read_with_the_keys_of_their_epoch() {
    let mut clients = group_of(&["alice", "bob", "charlie"]);
    let (in_time, _) = clients[2].send(b"in time");
    let (late, _) = clients[2].send(b"late");
    let (later, _) = clients[2].send(b"later");
    clients[0].receive(&in_time).unwrap();
    let epoch = clients[0].group().epoch();
    let mut kept = clients[0].member().records.clone();
    // Charlie is removed, so that his signature key leaves the tree, and Bob changes his.
    for removal in [true, false] {
        let stranger = clients[1].signer.clone();
        let fresh = suite(SUITE).signature_key_pair(&mut clients[1].rng);
        let pending = clients[1]
            .commit(|commit| match removal {
                true => commit.remove(LeafIndex(2)),
                false => commit.signature_key(fresh.clone()),
            })
            .unwrap();
        if !removal {
            clients[1].signer = fresh;
            assert_ne!(clients[1].signer, stranger);
        }
        let message = pending.message.clone();
        clients[1].merge(pending);
        let Client {
            member: Some(alice),
            rng,
            ..
        } = &mut clients[0]
        else {
            panic!()
        };
        let mut context = context(None, rng);
        let message = MlsMessage::from_bytes(&message.to_bytes()).unwrap();
        let processed = alice
            .group
            .process(&mut alice.keys, &message, &mut context)
            .unwrap();
        let Processed::Commit {
            group,
            keys,
            changes,
            ..
        } = processed
        else {
            panic!()
        };
        kept.apply(&changes);
        alice.records.apply(&changes);
        let old = std::mem::replace(&mut alice.keys, keys);
        alice.group = group;
        // The keys in memory read one of them.
        if removal {
            let MlsMessage::PrivateMessage(late) = &late else {
                panic!()
            };
            let mut old = old;
            let (read, changes) = old.decrypt(late).unwrap();
            assert_eq!((&read.data[..], read.sender), (&b"late"[..], LeafIndex(2)));
            kept.apply(&changes);
        }
    }
    // After a restart the stored keys read the other, and neither of those read before.
    let group = Group::load(&PROVIDER, &kept).unwrap();
    let mut keys = group.load_keys(&PROVIDER, epoch, &kept).unwrap();
    for (message, expected) in [(&in_time, false), (&late, false), (&later, true)] {
        let MlsMessage::PrivateMessage(message) = message else {
            panic!()
        };
        assert_eq!(keys.decrypt(message).is_ok(), expected);
    }
    kept.apply(&keys.deletion());
    assert!(matches!(
        group.load_keys(&PROVIDER, epoch, &kept),
        Err(Error::DamagedRecord(_))
    ));
}

#[test]
fn pending_proposals_survive_a_restart_of_everybody() {
    let mut clients = group_of(&["alice", "bob", "charlie"]);
    let update = clients[1].propose_update(WireFormat::PRIVATE_MESSAGE);
    broadcast(&mut clients, 1, &update.message);
    // Charlie wants to leave; he cannot commit that himself.
    let leave = Proposal::remove(LeafIndex(2));
    let leave = clients[2]
        .propose(leave, WireFormat::PRIVATE_MESSAGE)
        .unwrap();
    broadcast(&mut clients, 2, &leave.message);
    for client in &mut clients {
        client.restart();
        let pending = client.group().pending_proposals();
        assert_eq!(pending.len(), 2);
        assert_eq!(
            pending[0].1.sender,
            Sender::Member(LeafIndex(1)),
            "in the order in which they came"
        );
    }
    assert!(
        clients[2]
            .commit(|commit| commit)
            .unwrap()
            .effects
            .removed
            .is_empty()
    );
    let pending = clients[0].commit(|commit| commit).unwrap();
    assert_eq!(pending.effects.proposals.len(), 2);
    deliver(&mut clients, 0, pending);
    assert!(clients[0].group().pending_proposals().is_empty());
    let records = clients[0].member().records.iter();
    assert!(
        !records
            .into_iter()
            .any(|(key, _)| key.as_slice()[0] == RecordKind::Proposal as u8)
    );
    // Bob works with the key of his own Update.
    let pending = clients[0].commit(|commit| commit).unwrap();
    deliver(&mut clients, 0, pending);
}

#[test]
fn somebody_is_added_without_a_path_and_with_the_tree_outside() {
    let mut clients = group_of(&["alice", "bob"]);
    clients.push(Client::new("charlie"));
    let package = clients[2].key_package();
    let pending = clients[0]
        .commit(|commit| commit.add(package).without_path().tree_in_welcome(false))
        .unwrap();
    assert!(pending.effects.path.is_none());
    let (message, welcome) = (pending.message.clone(), pending.welcome.clone().unwrap());
    let group_info = pending.group_info.as_ref();
    assert!(group_info.unwrap().extensions.is_empty());
    let tree = pending.group.tree_bytes();
    clients[0].merge(pending);
    clients[1].receive(&message).unwrap();
    clients[2].join(&welcome, Some(&tree)).unwrap();
    assert_agreement(&clients);
    // Charlie is unmerged, so he gets path secrets under his leaf's key.
    for committer in [1, 2, 0] {
        let pending = clients[committer].commit(|commit| commit).unwrap();
        deliver(&mut clients, committer, pending);
    }
}

#[test]
fn a_group_changes_its_extensions_and_a_member_its_leaf() {
    let mut clients = group_of(&["alice", "bob"]);
    let mut extensions = Extensions::default();
    extensions.set_data(ExtensionType::APPLICATION_ID, *b"anything");
    let pending = clients[0]
        .commit(|commit| commit.group_context_extensions(extensions.clone()))
        .unwrap();
    deliver(&mut clients, 0, pending);
    assert_eq!(*clients[1].group().extensions(), extensions);

    let mut leaf = clients[1].parameters();
    leaf.extensions
        .set_data(ExtensionType::APPLICATION_ID, *b"bob's");
    let fresh = suite(SUITE).signature_key_pair(&mut clients[1].rng);
    let signer = fresh.clone();
    let pending = clients[1]
        .commit(|commit| commit.own_leaf(leaf.clone()).signature_key(signer))
        .unwrap();
    clients[1].signer = fresh;
    deliver(&mut clients, 1, pending);
    let bob = clients[0].group().member(LeafIndex(1)).unwrap();
    assert_eq!(bob.parameters(), leaf);
    assert_eq!(bob.signature_key, *clients[1].signer.public_key());
    let (message, _) = clients[1].send(b"under the new key");
    clients[0].receive(&message).unwrap();

    // Who is added by the commit that changes a key verifies the GroupInfo under the new one.
    clients.push(Client::new("charlie"));
    let package = clients[2].key_package();
    let fresh = suite(SUITE).signature_key_pair(&mut clients[0].rng);
    let signer = fresh.clone();
    let pending = clients[0]
        .commit(|commit| commit.signature_key(signer).add(package))
        .unwrap();
    clients[0].signer = fresh;
    deliver(&mut clients, 0, pending);
}

#[test]
fn a_psk_is_needed_to_follow_and_to_join() {
    struct Shared;
    impl PskStore for Shared {
        fn psk(&self, _: &PreSharedKeyID) -> Option<Secret> {
            Some(Secret::from(vec![7; 32]))
        }
    }
    let mut clients = group_of(&["alice", "bob"]);
    let mut charlie = Client::new("charlie");
    let package = charlie.key_package();
    let psk = PreSharedKeyID {
        psktype: PskType::External(ExternalPsk {
            psk_id: Bytes::from(*b"psk"),
        }),
        psk_nonce: Bytes::from([1; 32]),
    };
    let builder = clients[0].group().commit().psk(psk).add(package);
    let [alice, bob] = &mut clients[..] else {
        panic!()
    };
    let signer = alice.signer.clone();
    let keys = &mut alice.member.as_mut().unwrap().keys;
    let unknown = ProposalError::UnknownPsk;
    let error = builder
        .clone()
        .build(keys, &signer, &mut context(None, &mut alice.rng));
    assert_eq!(error.unwrap_err(), Error::Proposal(unknown.clone()));
    let mut with_psk = context(None, &mut alice.rng);
    with_psk.psks = &Shared;
    let pending = builder.build(keys, &signer, &mut with_psk).unwrap();

    let bob_member = bob.member.as_mut().unwrap();
    let read = |member: &mut Member, context: &mut Context<'_>| {
        member
            .group
            .process(&mut member.keys, &pending.message, context)
    };
    let error = read(bob_member, &mut context(None, &mut bob.rng)).unwrap_err();
    assert_eq!(error, Error::Proposal(unknown.clone()));
    let mut with_psk = context(None, &mut bob.rng);
    with_psk.psks = &Shared;
    let Processed::Commit { group, .. } = read(bob_member, &mut with_psk).unwrap() else {
        panic!()
    };
    assert_eq!(
        group.epoch_authenticator(),
        pending.group.epoch_authenticator()
    );

    let welcome = pending.welcome.as_ref().unwrap();
    assert_eq!(
        charlie.join(welcome, None).unwrap_err(),
        Error::Join(JoinError::Psk(unknown))
    );
    let bundle = charlie.bundle.take().unwrap();
    let mut with_psk = context(None, &mut charlie.rng);
    with_psk.psks = &Shared;
    let joined = Group::join(&mut with_psk, welcome, &bundle, None).unwrap();
    assert_eq!(
        joined.group.epoch_authenticator(),
        pending.group.epoch_authenticator()
    );
}

#[test]
fn a_group_info_is_signed_by_a_member() {
    let clients = group_of(&["alice", "bob"]);
    let (alice, bob) = (&clients[0], clients[1].group());
    let open = || GroupInfoOptions {
        ratchet_tree: true,
        external_pub: true,
        extensions: Extensions::default(),
    };
    let info = alice.group().group_info(&alice.signer, open()).unwrap();
    info.verify_signature(suite(SUITE), alice.signer.public_key())
        .unwrap();
    assert_eq!(info.group_context, *bob.group_context());
    assert_eq!(
        info.extensions.data(ExtensionType::RATCHET_TREE).unwrap()[..],
        bob.tree_bytes()
    );
    assert!(info.extensions.get::<ExternalPub>().unwrap().is_some());
    assert_eq!(
        bob.group_info(&alice.signer, open()).unwrap_err(),
        Error::WrongSigner,
        "Bob cannot sign as Alice"
    );
}

#[test]
fn what_is_exported_is_bound_to_its_purpose_and_epoch() {
    let mut clients = group_of(&["alice", "bob"]);
    let export = |clients: &[Client], label, context: &[u8]| {
        let secrets = [0, 1].map(|i| clients[i].group().exporter(label, context, 32).unwrap());
        assert_eq!(secrets[0], secrets[1]);
        secrets[0].clone()
    };
    let first = export(&clients, "a", b"x");
    assert_ne!(first, export(&clients, "b", b"x"));
    assert_ne!(first, export(&clients, "a", b"y"));
    const SEVEN: ComponentID = ComponentID(7);
    let safe = [0, 1].map(|i: usize| {
        let keys = &mut clients[i].member.as_mut().unwrap().keys;
        let secret = keys.safe_export(SEVEN).unwrap().0;
        assert_eq!(
            keys.safe_export(SEVEN).unwrap_err(),
            Error::AlreadyExported(SEVEN)
        );
        secret
    });
    assert_eq!(safe[0], safe[1]);
    let pending = clients[1].commit(|commit| commit).unwrap();
    deliver(&mut clients, 1, pending);
    assert_ne!(first, export(&clients, "a", b"x"));
    assert!(
        clients[0]
            .group()
            .exporter("a", b"x", 255 * 32 + 1)
            .is_err()
    );
}

#[test]
fn an_author_judges_its_commit_again_by_the_time_of_its_entry() {
    let mut clients = group_of(&["alice", "bob"]);
    let mut charlie = Client::new("charlie");
    let lifetime = Lifetime {
        not_before: 0,
        not_after: 1_000,
    };
    let package = charlie.key_package_with(charlie.parameters(), lifetime);
    clients[0].now = Some(990);
    let pending = clients[0].commit(|commit| commit.add(package)).unwrap();
    let effects = CommitEffects::from_bytes(&pending.effects.to_bytes()).unwrap();
    assert_eq!(effects, pending.effects);
    let alice = clients[0].group().clone();
    // Ordered in time, it is valid for all; ordered late, for none.
    for (now, valid) in [(1_000, true), (1_001, false)] {
        let [Client { rng, .. }, bob] = &mut clients[..] else {
            panic!()
        };
        let by_author = alice.judge_again(&effects, &mut context(Some(now), rng));
        let member = bob.member.as_mut().unwrap();
        let mut context = context(Some(now), &mut bob.rng);
        let by_other = member
            .group
            .process(&mut member.keys, &pending.message, &mut context);
        assert_eq!(by_author.is_ok(), valid);
        match by_other {
            Ok(_) => {
                assert!(valid);
                // Bob reads it again, at the later time.
                bob.restart();
            }
            Err(error) => assert_eq!(by_author.unwrap_err(), error),
        }
    }
}

#[test]
fn a_merge_leaves_no_proposal_behind() {
    let mut clients = group_of(&["alice", "bob", "charlie"]);
    let pending = clients[0].commit(|commit| commit).unwrap();
    // These come after Alice made her commit and before it is ordered; with hers waits a key.
    let proposed = clients[1].propose_update(WireFormat::PRIVATE_MESSAGE);
    broadcast(&mut clients, 1, &proposed.message);
    let proposed = clients[0].propose_update(WireFormat::PRIVATE_MESSAGE);
    broadcast(&mut clients, 0, &proposed.message);
    let waiting = |client: &Client| {
        let records = client.member().records.iter();
        let kind = RecordKind::Proposal as u8;
        records.filter(|(key, _)| key.as_slice()[0] == kind).count()
    };
    assert_eq!(waiting(&clients[0]), 2);
    deliver(&mut clients, 0, pending);
    for client in &clients {
        assert_eq!(waiting(client), 0, "{}", client.name);
    }
}

#[test]
fn values_without_a_meaning_are_ignored() {
    let mut clients: Vec<_> = ["alice", "bob", "charlie"].map(Client::new).into();
    clients[0].create(Extensions::default());
    let forever = Lifetime {
        not_before: 0,
        not_after: u64::MAX,
    };
    let mut packages = Vec::new();
    for client in &mut clients[1..] {
        let plain = client.parameters();
        let leaf = plain.clone().with_grease(&mut client.rng);
        let capabilities = leaf.capabilities.clone();
        assert!(
            capabilities
                .cipher_suites
                .iter()
                .any(|suite| suite.is_grease())
        );
        assert!(capabilities.proposals.iter().any(|kind| kind.is_grease()));
        assert!(capabilities.credentials.iter().any(|kind| kind.is_grease()));
        assert!(leaf.extensions.types().all(|kind| kind.is_grease()));
        assert_eq!(capabilities.without_grease(), plain.capabilities);
        let extensions = Extensions::default().with_grease(&mut client.rng);
        let (suite, signer) = (suite(SUITE), &client.signer);
        let rng = &mut client.rng;
        let bundle = KeyPackage::create(suite, signer, leaf, forever, extensions, rng).unwrap();
        packages.push(bundle.key_package.clone());
        client.bundle = Some(bundle);
    }
    let extensions = Extensions::default().with_grease(&mut clients[1].rng);
    let pending = clients[0]
        .commit(|commit| {
            let commit = commit.group_info_extensions(extensions.clone());
            packages
                .into_iter()
                .fold(commit, |commit, kp| commit.add(kp))
        })
        .unwrap();
    deliver(&mut clients, 0, pending);
    for committer in [1, 2, 0] {
        let pending = clients[committer].commit(|commit| commit).unwrap();
        deliver(&mut clients, committer, pending);
    }
    // In a group's own extensions such a value is refused as any that is not known.
    let refused = clients[0].commit(|commit| commit.group_context_extensions(extensions));
    assert!(matches!(
        refused.unwrap_err(),
        Error::Proposal(ProposalError::MemberLacks(Capability::Extension(kind))) if kind.is_grease()
    ));
}
