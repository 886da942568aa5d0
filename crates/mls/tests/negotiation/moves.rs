//! Moving a group to a better version or suite, by a ReInit (RFC 9420, section 11.2).

use folkmoot_mls::code_point::ProtocolVersion;
use folkmoot_mls::codec::Bytes;
use folkmoot_mls::error::Error;
use folkmoot_mls::extension::Extensions;
use folkmoot_mls::group::{Group, KeyPackageError, ProposalError, SuccessorError};
use folkmoot_mls::key_package::KeyPackage;
use folkmoot_mls::negotiation::{Choice, NegotiationError};
use folkmoot_mls::proposal::ReInit;
use folkmoot_mls::tree_math::LeafIndex;

use crate::client::*;
use crate::converse;

/// What follows when a group is moved to something better.
fn better(clients: &[Client]) -> Choice {
    let members: Vec<_> = clients[0].group().members().collect();
    let capabilities = members.iter().map(|(_, leaf)| &leaf.capabilities);
    clients[0].preference().best_for(capabilities).unwrap()
}

fn reinit(to: Choice) -> ReInit {
    ReInit {
        group_id: Bytes::from(*b"the next group"),
        version: to.version,
        cipher_suite: to.cipher_suite,
        extensions: Extensions::default(),
    }
}

/// A group of the least that all have, since somebody once was in it who had no more.
fn least(choice: Choice, others: &[(&'static str, Provider)]) -> Vec<Client> {
    let mut alice = Client::new("alice", BOTH);
    alice.create(choice).unwrap();
    let mut clients = vec![alice];
    for (name, provider) in others {
        let mut client = Client::new(name, *provider);
        let bundle = client.offer(choice);
        let packages = std::slice::from_ref(&bundle.key_package);
        let pending = clients[0].commit(packages).unwrap();
        client.join(&pending, &bundle).unwrap();
        let commit = framed(choice.version, &pending.message);
        clients[0].merge(pending);
        for other in &mut clients[1..] {
            other.receive(&commit).unwrap();
        }
        clients.push(client);
    }
    clients
}

/// Alice moves the group to what they choose together, in one call, and all follow.
fn upgrade(mut clients: Vec<Client>, to: Choice) -> Vec<Client> {
    let from = clients[0].group().group_context().version;
    let old_signers: Vec<_> = clients.iter().map(|c| c.signer.clone().unwrap()).collect();
    let bundles: Vec<_> = clients[1..].iter_mut().map(|c| c.offer(to)).collect();
    let packages: Vec<_> = bundles.iter().map(|b| b.key_package.clone()).collect();
    to.check(&clients[0].preference(), &packages).unwrap();

    let alice = &mut clients[0];
    let (group, mut keys) = alice.group.take().unwrap();
    let (new_signer, leaf) = (alice.signer(to.cipher_suite), alice.leaf());
    let upgrade = packages
        .into_iter()
        .fold(group.upgrade(reinit(to)), |upgrade, kp| upgrade.add(kp))
        .build(
            &mut keys,
            &old_signers[0],
            &new_signer,
            leaf,
            &mut alice.context(),
        )
        .unwrap();
    let welcome = upgrade.successor.pending.welcome.clone().unwrap();
    let end = framed(from, &upgrade.reinit.message);
    alice.group = Some((
        upgrade.successor.pending.group,
        upgrade.successor.pending.keys,
    ));
    let old_signers = old_signers.iter().skip(1);
    for ((client, bundle), old_signer) in clients[1..].iter_mut().zip(&bundles).zip(old_signers) {
        client.receive(&end).unwrap();
        let old = client.group().clone();
        assert_eq!(old.reinit(), Some(&reinit(to)));
        // Nothing more is committed in the old group.
        let signer = client.signer.replace(old_signer.clone());
        assert_eq!(client.commit(&[]).map(drop), Err(Error::GroupSuspended));
        client.signer = signer;
        let joined =
            Group::join_successor(&mut client.context(), &welcome, bundle, None, &old).unwrap();
        client.group = Some((joined.group, joined.keys));
    }
    let context = clients[0].group().group_context();
    assert_eq!(
        (context.version, context.cipher_suite),
        (to.version, to.cipher_suite)
    );
    assert_eq!(context.epoch, 1);
    converse(&mut clients);
    clients
}

#[test]
fn a_group_moves_to_the_best_that_all_members_support() {
    // To a stronger suite.
    let clients = least(choice(OLD, X25519), &[("bob", FIRST), ("carol", BOTH)]);
    let best = better(&clients);
    assert_eq!(best, choice(OLD, P256));
    let clients = upgrade(clients, best);
    assert_eq!(better(&clients), best, "there is nothing better");
    // To a newer version and a stronger suite.
    let clients = least(choice(OLD, X25519), &[("bob", BOTH), ("carol", BOTH)]);
    let best = better(&clients);
    assert_eq!(best, choice(NEW, P256));
    upgrade(clients, best);
    // Dave does not have the best suite.
    let without_p256 = Provider {
        suites: &[CHACHA, X25519],
        ..FIRST
    };
    let clients = least(
        choice(OLD, X25519),
        &[("bob", BOTH), ("dave", without_p256)],
    );
    let best = better(&clients);
    assert_eq!(best, choice(OLD, CHACHA));
    upgrade(clients, best);
}

#[test]
fn a_move_that_leads_elsewhere_is_refused() {
    let mut clients = least(choice(OLD, X25519), &[("bob", BOTH), ("carol", BOTH)]);
    let best = better(&clients);
    // Offers for something lesser were handed out.
    let lesser = choice(OLD, CHACHA);
    let offers: Vec<_> = clients[1..]
        .iter_mut()
        .map(|c| c.offer(lesser).key_package)
        .collect();
    let ours = clients[0].preference();
    let error = Err(NegotiationError::Downgrade { best });
    assert_eq!(lesser.check(&ours, &offers), error);
    let error = Err(NegotiationError::OtherKeyPackage(lesser));
    assert_eq!(best.check(&ours, &offers), error);

    let mut build = |to: Choice, offers: &[KeyPackage]| {
        let alice = &mut clients[0];
        let (group, mut keys) = alice.group.take().unwrap();
        let old_signer = alice.signer.clone().unwrap();
        let known = to.cipher_suite == P256 || to.cipher_suite == CHACHA;
        let new_signer = if known {
            alice.signer(to.cipher_suite)
        } else {
            old_signer.clone()
        };
        let leaf = alice.leaf();
        let upgrade = offers
            .iter()
            .cloned()
            .fold(group.upgrade(reinit(to)), |u, kp| u.add(kp));
        let built = upgrade.build(
            &mut keys,
            &old_signer,
            &new_signer,
            leaf,
            &mut alice.context(),
        );
        alice.signer = Some(old_signer);
        alice.group = Some((group, keys));
        built.map(drop)
    };
    // Whoever does not check them is stopped by the new group's first commit.
    let error = ProposalError::from(KeyPackageError::Version);
    assert_eq!(build(best, &offers), Err(error.into()));
    let error = ProposalError::from(KeyPackageError::CipherSuite);
    assert_eq!(build(choice(OLD, P256), &offers), Err(error.into()));
    // Somebody would be left behind.
    let error = SuccessorError::MissingMember(LeafIndex(2));
    assert_eq!(build(lesser, &offers[..1]), Err(error.into()));
    // There is no way back to an older version, nor to one that is unknown.
    let back = choice(ProtocolVersion(0), X25519);
    let error = ProposalError::ReInitVersion(back.version);
    assert_eq!(build(back, &offers), Err(error.into()));
    let unknown = ProtocolVersion(0xf003);
    let refused = build(choice(unknown, X25519), &offers);
    assert_eq!(refused, Err(Error::UnsupportedVersion(unknown)));
    // None of it used anything up: the group goes on.
    for (client, signer) in clients.iter_mut().zip(["alice", "bob", "carol"]) {
        assert_eq!(client.name, signer);
    }
    let pending = clients[0].commit(&[]).unwrap();
    let commit = framed(OLD, &pending.message);
    assert_eq!(clients[1].receive(&commit), Ok(None));
}
