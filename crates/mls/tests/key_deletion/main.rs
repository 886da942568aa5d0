//! What was used is gone (RFC 9420, section 9.2; sections 7.5, 8 and 12.4.3.1 for what an epoch starts
//! from): an attacker who takes all that a client has stored derives whatever can be derived from it,
//! with all that ever travelled at hand, and does not come to it.
//!
//! Each test asks the same of the state before, where the attacker does succeed. That memory holds no more
//! than storage is for `secrets_in_memory` to say.
#![cfg(any(feature = "aws-lc", feature = "rust-crypto"))]

#[path = "../group_harness/mod.rs"]
mod group_harness;

mod attacker;

use std::collections::BTreeMap;

use attacker::*;
use folkmoot_mls::code_point::{ProtocolVersion, WireFormat};
use folkmoot_mls::codec::{Bytes, Decode, Encode, Reader};
use folkmoot_mls::crypto::{HpkeKeyPair, Secret};
use folkmoot_mls::extension::Extensions;
use folkmoot_mls::framing::Content;
use folkmoot_mls::group::{CommitBuilder, Group, GroupInfoOptions, PendingCommit};
use folkmoot_mls::group_context::GroupContext;
use folkmoot_mls::key_schedule::{EpochSecrets, external_init_secret, member_secret};
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::proposal::{Proposal, ReInit};
use folkmoot_mls::ratchet::RatchetKind;
use folkmoot_mls::records::{MemoryRecords, RecordKey, RecordKind};
use folkmoot_mls::tree_math::LeafIndex;
use group_harness::{Client, SUITE, group_of, suite};

const ALICE: usize = 0;
const BOB: usize = 1;
const CAROL: usize = 2;
const APPLICATION: RatchetKind = RatchetKind::Application;
const HANDSHAKE: RatchetKind = RatchetKind::Handshake;

#[test]
fn after_sending() {
    let mut clients = group_of(&["alice", "bob", "carol"]);
    let (none, epoch) = (Traffic::default(), Epoch::of(&clients[ALICE]));
    let used = both(
        &epoch.message(ALICE, APPLICATION, 0),
        &epoch.above(ALICE, APPLICATION, 0),
    );
    let next = epoch.message(ALICE, APPLICATION, 1);
    let others = both(
        &epoch.message(BOB, APPLICATION, 0),
        &epoch.message(ALICE, HANDSHAKE, 0),
    );
    let before = State::of(&clients[ALICE]);
    all_reached(&before, &none, &both(&both(&used, &next), &others));
    clients[ALICE].send(b"word");
    let after = State::of(&clients[ALICE]);
    none_reached(&after, &none, &used);
    all_reached(&after, &none, &both(&next, &others));
    clients[ALICE].send(b"word");
    let later = State::of(&clients[ALICE]);
    none_reached(&later, &none, &both(&used, &next));
    all_reached(&later, &none, &others);
    // A restart brings nothing back.
    clients[ALICE].restart();
    clients[ALICE].send(b"word");
    let restarted = State::of(&clients[ALICE]);
    none_reached(&restarted, &none, &both(&used, &next));
    all_reached(&restarted, &none, &others);
}

#[test]
fn after_receiving() {
    let mut clients = group_of(&["alice", "bob", "carol"]);
    let (none, epoch) = (Traffic::default(), Epoch::of(&clients[ALICE]));
    let used = both(
        &epoch.message(BOB, APPLICATION, 0),
        &epoch.above(BOB, APPLICATION, 0),
    );
    let others = both(
        &epoch.message(BOB, APPLICATION, 1),
        &both(
            &epoch.message(CAROL, APPLICATION, 0),
            &epoch.message(BOB, HANDSHAKE, 0),
        ),
    );
    let (word, _) = clients[BOB].send(b"word");
    // What does not open uses nothing up.
    let MlsMessage::PrivateMessage(mut spoiled) = word.clone() else {
        panic!("encrypted")
    };
    spoiled.authenticated_data = [1].into();
    let spoiled = MlsMessage::PrivateMessage(spoiled);
    clients[ALICE].receive(&spoiled).unwrap_err();
    all_reached(&State::of(&clients[ALICE]), &none, &both(&used, &others));
    clients[ALICE].receive(&word).unwrap();
    none_reached(&State::of(&clients[ALICE]), &none, &used);
    all_reached(&State::of(&clients[ALICE]), &none, &others);
}

#[test]
fn after_a_proposal() {
    let mut clients = group_of(&["alice", "bob", "carol"]);
    let (none, epoch) = (Traffic::default(), Epoch::of(&clients[ALICE]));
    let used = both(
        &epoch.message(BOB, HANDSHAKE, 0),
        &epoch.above(BOB, HANDSHAKE, 0),
    );
    let others = epoch.message(BOB, APPLICATION, 0);
    let remove = Proposal::remove(LeafIndex(CAROL as u32));
    let proposed = clients[BOB].propose(remove, WireFormat::PRIVATE_MESSAGE);
    for client in [ALICE, BOB] {
        if client == ALICE {
            all_reached(&State::of(&clients[ALICE]), &none, &both(&used, &others));
            let message = &proposed.as_ref().unwrap().message;
            clients[ALICE].receive(message).unwrap();
        }
        let state = State::of(&clients[client]);
        none_reached(&state, &none, &used);
        all_reached(&state, &none, &others);
    }
}

#[test]
fn skipped_keys_stay_until_they_are_used() {
    let mut clients = group_of(&["alice", "bob", "carol"]);
    let (none, epoch) = (Traffic::default(), Epoch::of(&clients[ALICE]));
    let words: Vec<_> = (0..4).map(|_| clients[BOB].send(b"word").0).collect();
    let keys: Vec<_> = (0..4)
        .map(|generation| epoch.message(BOB, APPLICATION, generation))
        .collect();
    let mut waiting = vec![0, 1, 2, 3];
    all_reached(&State::of(&clients[ALICE]), &none, &keys[3]);
    let mut ratchet = epoch.above(BOB, APPLICATION, 2);
    for received in [2, 1, 3, 0] {
        clients[ALICE].receive(&words[received]).unwrap();
        waiting.retain(|generation| *generation != received);
        let state = State::of(&clients[ALICE]);
        for (generation, key) in keys.iter().enumerate() {
            if waiting.contains(&generation) {
                all_reached(&state, &none, key);
            } else {
                none_reached(&state, &none, key);
            }
        }
        // What would lead to skipped keys again, and to those that were used, is gone at once.
        if received == 3 {
            ratchet = epoch.above(BOB, APPLICATION, 3);
        }
        none_reached(&state, &none, &ratchet);
        clients[ALICE].restart();
    }
}

/// A commit by Bob, in clear, and what it starts from, from Bob's state before.
struct Step {
    pending: PendingCommit,
    traffic: Traffic,
    /// The last epoch's init secret.
    init: Named,
    /// The new epoch's secrets that lead to all others.
    start: Named,
}

/// What a group keeps of its epoch's secrets as long as it goes on: `external_secret`, `membership_key`,
/// `init_secret`.
fn epoch_secrets(client: &Client) -> [Secret; 3] {
    let records = client.member().records.iter();
    let of_kind = |(key, _): &(&RecordKey, &[u8])| key.as_slice()[0] == RecordKind::Group as u8;
    let (_, group) = records.filter(of_kind).last().unwrap();
    let mut reader = Reader::new(&group[1..]);
    GroupContext::decode(&mut reader).unwrap();
    let _tag_and_transcript = [(); 2].map(|()| Secret::decode(&mut reader).unwrap());
    u8::decode(&mut reader).unwrap();
    let _waiting_proposals = u32::decode(&mut reader).unwrap();
    let _exporter_resumption_and_authenticator =
        [(); 3].map(|()| Secret::decode(&mut reader).unwrap());
    assert_eq!(u8::decode(&mut reader), Ok(1), "the group goes on");
    let secrets = [(); 3].map(|()| Secret::decode(&mut reader).unwrap());
    assert!(secrets.iter().all(|secret| secret.len() == 32));
    secrets
}

fn init_secret(client: &Client) -> Secret {
    let [_, _, init_secret] = epoch_secrets(client);
    init_secret
}

fn step(clients: &mut [Client], committer: usize, add: Option<&mut Client>) -> Step {
    let package = add.map(Client::key_package);
    step_by(clients, committer, |commit| {
        package
            .into_iter()
            .fold(commit, |commit, kp| commit.add(kp))
    })
}

fn step_by(
    clients: &mut [Client],
    committer: usize,
    change: impl FnOnce(CommitBuilder) -> CommitBuilder,
) -> Step {
    let before = clients[committer].group().group_context().clone();
    let init = init_secret(&clients[committer]);
    let pending = clients[committer]
        .commit(|commit| change(commit.wire_format(WireFormat::PUBLIC_MESSAGE)))
        .unwrap();
    let mut traffic = Traffic::default();
    traffic.saw_commit(&pending, &before);
    if let Some(welcome) = &pending.welcome {
        traffic.saw_welcome(welcome);
    }
    let init = BTreeMap::from([("init_secret of the last epoch".to_string(), init)]);
    let start = Named::new();
    Step {
        pending,
        traffic,
        init,
        start,
    }
}

impl Step {
    /// The attacker has the state of a member before: opens the path, and derives the new epoch.
    fn learn(&mut self, state: &State) {
        let suite = suite(SUITE);
        let context = self.pending.group.group_context();
        let found = reach(state, &self.traffic);
        let tag = self.pending.group.confirmation_tag();
        let confirmed = &context.confirmed_transcript_hash;
        // The joiner secret is the one that gives the epoch's confirmation key.
        for value in found {
            let joiner = Secret::from(value);
            let member = member_secret(suite, &joiner, &Secret::zero(32));
            let secrets = EpochSecrets::derive(suite, &member, context);
            if *suite.mac(&secrets.confirmation_key, confirmed) == *tag {
                let info = context.to_bytes();
                let epoch = suite.expand_with_label(&member, "epoch", &info, 32);
                self.start.insert("joiner_secret".into(), joiner);
                self.start.insert("member secret".into(), member);
                self.start.insert("epoch_secret".into(), epoch);
                self.start
                    .insert("confirmation_key".into(), secrets.confirmation_key);
            }
        }
        assert_eq!(
            self.start.len(),
            4,
            "the new epoch is derived from the old one"
        );
    }

    fn message(&self) -> MlsMessage {
        self.pending.message.clone()
    }
}

#[test]
fn after_a_commit() {
    let mut clients = group_of(&["alice", "bob", "carol"]);
    let old = Epoch::of(&clients[ALICE]);
    // Of the old epoch, Alice has read one message and not the other.
    let words: Vec<_> = (0..2).map(|_| clients[BOB].send(b"word").0).collect();
    clients[ALICE].receive(&words[0]).unwrap();
    let unread = old.message(BOB, APPLICATION, 1);
    let mut step = step(&mut clients, BOB, None);
    let before = [ALICE, BOB].map(|client| State::of(&clients[client]));
    all_reached(&before[0], &step.traffic, &both(&step.init, &unread));
    all_reached(&before[1], &step.traffic, &step.init);
    step.learn(&before[0]);

    clients[ALICE].receive(&step.message()).unwrap();
    let Step {
        pending,
        traffic,
        init,
        start,
    } = step;
    clients[BOB].merge(pending);
    // The harness gives the old epoch's keys up at once, so unread messages stay unread.
    let gone = both(&both(&init, &start), &unread);
    for client in [ALICE, BOB] {
        let state = State::of(&clients[client]);
        none_reached(&state, &traffic, &gone);
        // What the new epoch needs is there.
        let new = Epoch::of(&clients[client]);
        all_reached(&state, &traffic, &new.message(BOB, APPLICATION, 0));
    }
    // Nor do the new epoch's messages stay readable once read.
    let new = Epoch::of(&clients[ALICE]);
    let (word, _) = clients[BOB].send(b"word");
    clients[ALICE].receive(&word).unwrap();
    let used = both(
        &new.message(BOB, APPLICATION, 0),
        &new.above(BOB, APPLICATION, 0),
    );
    for client in [ALICE, BOB] {
        let state = State::of(&clients[client]);
        none_reached(&state, &traffic, &both(&used, &gone));
    }
}

/// The private keys in a client's tree, by their node.
fn private_keys(client: &Client) -> Named {
    let records = client.member().records.iter();
    let mut named = Named::new();
    for (key, value) in records {
        if key.as_slice()[0] == RecordKind::PrivateKeys as u8 {
            let mut reader = Reader::new(&value[1..]);
            u32::decode(&mut reader).unwrap();
            for (node, pair) in Vec::<(u32, HpkeKeyPair)>::decode(&mut reader).unwrap() {
                named.insert(
                    format!("private key of node {node}"),
                    pair.private_key().clone(),
                );
            }
        }
    }
    named
}

/// Section 7.5: each key pair that a path replaces, and the path secrets.
#[test]
fn after_a_path() {
    let mut clients = group_of(&["alice", "bob", "carol"]);
    let commit_by = |clients: &mut Vec<Client>, committer: usize| {
        let old: Vec<_> = clients.iter().map(private_keys).collect();
        let step = step(clients, committer, None);
        let before: Vec<_> = clients.iter().map(State::of).collect();
        for (index, client) in clients.iter_mut().enumerate() {
            if index != committer {
                client.receive(&step.message()).unwrap();
            }
        }
        let Step {
            pending, traffic, ..
        } = step;
        clients[committer].merge(pending);
        for (index, client) in clients.iter().enumerate() {
            let new = private_keys(client);
            let replaced: Named = old[index]
                .iter()
                .filter(|(name, key)| new.get(*name) != Some(key))
                .map(|(name, key)| (name.clone(), key.clone()))
                .collect();
            // The committer replaces all of its keys, the others what they share with it.
            let kept = old[index].len() - replaced.len();
            assert!(if index == committer {
                kept == 0
            } else {
                kept >= 1
            });
            all_reached(&before[index], &Traffic::default(), &replaced);
            none_reached(&State::of(client), &Traffic::default(), &replaced);
            none_reached(&State::of(client), &traffic, &replaced);
        }
        // Path secrets can be opened again by whoever has the key that they were encrypted to, but none
        // is kept.
        let path_secrets: Named = reach(&before[(committer + 1) % 3], &traffic)
            .into_iter()
            .filter(|value| {
                let secret = Secret::from(value.clone());
                let suite = suite(SUITE);
                let node = suite.derive_secret(&secret, "node");
                let key = suite.kem_derive_key_pair(&node).private_key().clone();
                private_keys(&clients[committer])
                    .values()
                    .any(|own| *own == key)
            })
            .enumerate()
            .map(|(place, value)| (format!("path secret {place}"), Secret::from(value)))
            .collect();
        assert!(!path_secrets.is_empty());
        for client in clients.iter() {
            none_reached(&State::of(client), &Traffic::default(), &path_secrets);
        }
    };
    for committer in [BOB, ALICE, CAROL, BOB] {
        commit_by(&mut clients, committer);
    }
}

/// The key of a node that is blank from now on goes as well.
#[test]
fn after_a_removal() {
    let mut clients = group_of(&["alice", "bob", "carol", "dave"]);
    let pending = clients[3].commit(|commit| commit).unwrap();
    group_harness::deliver(&mut clients, 3, pending);
    let old = private_keys(&clients[CAROL]);
    let names: Vec<_> = old.keys().cloned().collect();
    assert_eq!(
        names,
        [3, 4, 5].map(|node| format!("private key of node {node}"))
    );
    let before = State::of(&clients[CAROL]);
    let none = Traffic::default();
    all_reached(&before, &none, &old);
    let pending = clients[ALICE]
        .commit(|commit| commit.remove(LeafIndex(3)))
        .unwrap();
    clients[CAROL].receive(&pending.message).unwrap();
    let gone: Named = old
        .into_iter()
        .filter(|(name, _)| !name.ends_with('4'))
        .collect();
    none_reached(&State::of(&clients[CAROL]), &none, &gone);
}

#[test]
fn after_joining() {
    let mut clients = group_of(&["alice", "bob", "carol"]);
    let mut dave = Client::new("dave");
    let mut step = step(&mut clients, BOB, Some(&mut dave));
    let bundle = dave.bundle.clone().unwrap();
    let init_key = BTreeMap::from([("init key".to_string(), bundle.init_private_key.clone())]);
    // Before, the Welcome can be opened.
    let before = State::of(&dave);
    all_reached(&before, &step.traffic, &init_key);
    step.learn(&before);
    let Step {
        pending,
        traffic,
        start,
        ..
    } = step;
    dave.join(pending.welcome.as_ref().unwrap(), None).unwrap();
    let gone = both(&init_key, &start);
    none_reached(&State::of(&dave), &traffic, &gone);
    // The leaf's key is the member's from now on.
    let leaf_key = bundle.encryption_private_key;
    let leaf_key = BTreeMap::from([("leaf key".to_string(), leaf_key)]);
    all_reached(&State::of(&dave), &traffic, &leaf_key);
    let epoch = Epoch::of(&dave);
    clients[BOB].merge(pending);
    let (word, _) = clients[BOB].send(b"word");
    dave.receive(&word).unwrap();
    let used = both(
        &epoch.message(BOB, APPLICATION, 0),
        &epoch.above(BOB, APPLICATION, 0),
    );
    none_reached(&State::of(&dave), &traffic, &both(&used, &gone));
}

/// Section 8.3: what an external commit starts from instead of the last epoch's init secret.
#[test]
fn after_an_external_commit() {
    let mut clients = group_of(&["alice", "bob", "carol"]);
    let (suite, mut dave) = (suite(SUITE), Client::new("dave"));
    let options = GroupInfoOptions {
        ratchet_tree: true,
        external_pub: true,
        ..GroupInfoOptions::default()
    };
    let signer = &clients[ALICE].signer;
    let info = clients[ALICE].group().group_info(signer, options).unwrap();
    let leaf = dave.parameters();
    let ctx = &mut group_harness::context(None, &mut dave.rng);
    let pending = Group::join_external(info, leaf)
        .build(&dave.signer, ctx)
        .unwrap();
    let (_, proposal) = &pending.effects.proposals[0];
    let Proposal::ExternalInit(init) = proposal else {
        panic!("an ExternalInit")
    };
    let [external_secret, ..] = epoch_secrets(&clients[BOB]);
    let init = external_init_secret(suite, &external_secret, &init.kem_output).unwrap();
    let named = |name: &str, secret| BTreeMap::from([(name.to_string(), secret)]);
    let external_secret = named("external_secret", external_secret);
    let gone = both(&external_secret, &named("external init secret", init));
    let none = Traffic::default();
    for member in [ALICE, BOB] {
        all_reached(&State::of(&clients[member]), &none, &external_secret);
        clients[member].receive(&pending.message).unwrap();
        none_reached(&State::of(&clients[member]), &none, &gone);
    }
    // Who joined never had the one, and does not keep the other.
    let mut stored = MemoryRecords::default();
    stored.apply(&pending.changes);
    let values = stored.iter().map(|(_, value)| value.to_vec());
    none_reached(&State(values.collect()), &none, &gone);
}

#[test]
fn after_an_update() {
    for taken_in in [true, false] {
        let mut clients = group_of(&["alice", "bob", "carol"]);
        let old = private_keys(&clients[CAROL]);
        let update = clients[CAROL].propose_update(WireFormat::PUBLIC_MESSAGE);
        let waiting = State::of(&clients[CAROL]);
        let none = Traffic::default();
        all_reached(&waiting, &none, &old);
        // The key that waits with the proposal.
        let values = waiting.values();
        let MlsMessage::PublicMessage(message) = &update.message else {
            panic!("in clear")
        };
        let Content::Proposal(proposal) = &message.content.content else {
            panic!("a proposal")
        };
        let Proposal::Update(proposal) = &**proposal else {
            panic!("an Update")
        };
        let new_key = values
            .into_iter()
            .map(Secret::from)
            .find(|value| {
                let public = suite(SUITE).kem_public_key(value);
                public.is_ok_and(|public| public == proposal.leaf_node.encryption_key)
            })
            .expect("the new private key is kept");
        let new_key = BTreeMap::from([("key of the Update".to_string(), new_key)]);
        if taken_in {
            clients[BOB].receive(&update.message).unwrap();
        }
        let pending = clients[BOB].commit(|commit| commit).unwrap();
        assert_eq!(pending.effects.updated.len(), usize::from(taken_in));
        clients[CAROL].receive(&pending.message).unwrap();
        let state = State::of(&clients[CAROL]);
        if taken_in {
            // All of the old keys go: those above are blank, or Bob's.
            none_reached(&state, &none, &old);
            all_reached(&state, &none, &new_key);
        } else {
            none_reached(&state, &none, &new_key);
            let leaf = BTreeMap::from([("leaf".to_string(), old["private key of node 4"].clone())]);
            all_reached(&state, &none, &leaf);
        }
    }
}

/// Section 12.4.2: nothing is sent any more, so what messages and commits would take is gone with the
/// commit that says so. What leads to the next group, and what members compare and export, is there.
#[test]
fn after_a_reinit() {
    for with_path in [true, false] {
        let mut clients = group_of(&["alice", "bob", "carol"]);
        let pending = clients[CAROL].commit(|commit| commit).unwrap();
        group_harness::deliver(&mut clients, CAROL, pending);
        let old_keys: Vec<_> = clients.iter().map(private_keys).collect();
        let reinit = ReInit {
            group_id: Bytes::from(*b"next"),
            version: ProtocolVersion::MLS10,
            cipher_suite: SUITE,
            extensions: Extensions::default(),
        };
        let mut step = step_by(&mut clients, BOB, |commit| {
            let commit = commit.reinit(reinit);
            if with_path {
                commit
            } else {
                commit.without_path()
            }
        });
        let before = State::of(&clients[ALICE]);
        all_reached(&before, &step.traffic, &both(&step.init, &old_keys[ALICE]));
        step.learn(&before);
        let message = step.message();
        let Step {
            pending,
            traffic,
            init,
            start,
        } = step;
        let secrets = EpochSecrets::from_epoch_secret(suite(SUITE), &start["epoch_secret"]);
        let named = |secrets: &[(&str, &Secret)]| -> Named {
            let secrets = secrets.iter();
            secrets
                .map(|(name, secret)| (format!("{name} after it"), Secret::clone(secret)))
                .collect()
        };
        let mut gone = named(&[
            ("sender_data_secret", &secrets.sender_data_secret),
            ("encryption_secret", &secrets.encryption_secret),
            ("external_secret", &secrets.external_secret),
            ("membership_key", &secrets.membership_key),
            ("init_secret", &secrets.init_secret),
        ]);
        gone.extend(both(&init, &start));
        let there = named(&[
            ("exporter_secret", &secrets.exporter_secret),
            ("resumption_psk", &secrets.resumption_psk),
            ("epoch_authenticator", &secrets.epoch_authenticator),
            (
                "root of the exporter tree",
                &secrets.application_export_secret,
            ),
        ]);
        // With the last epoch's secrets, all of these are derived.
        let mut attacker = Attacker {
            suite: suite(SUITE),
            contexts: &[],
            found: Default::default(),
        };
        attacker.epoch(&start["epoch_secret"]);
        for (name, secret) in &gone {
            let is_start = start.contains_key(name) || init.contains_key(name);
            assert!(
                is_start || attacker.found.contains(&secret.to_vec()),
                "{name}"
            );
        }

        for client in [ALICE, CAROL] {
            clients[client].receive(&message).unwrap();
        }
        clients[BOB].merge(pending);
        for (client, old_keys) in clients.iter_mut().zip(old_keys) {
            for _ in 0..2 {
                let state = State::of(client);
                none_reached(&state, &traffic, &both(&gone, &old_keys));
                all_reached(&state, &traffic, &there);
                assert!(private_keys(client).is_empty());
                client.restart();
            }
        }
    }
}

/// draft-ietf-mls-extensions, section 4.4: a component's secret is exported once.
#[test]
fn after_an_export() {
    let mut clients = group_of(&["alice", "bob"]);
    let member = clients[ALICE].member.as_mut().unwrap();
    let component = folkmoot_mls::component::ComponentID(0x8001);
    let (secret, changes) = member.keys.safe_export(component).unwrap();
    member.records.apply(&changes);
    let state = State::of(&clients[ALICE]);
    // All other components' secrets are below what is left, 16 levels down.
    let suite = suite(SUITE);
    let found = state.values().into_iter().any(|value| {
        (0..=16_u32).any(|levels| {
            let mut node = Secret::from(value.clone());
            for level in (0..levels).rev() {
                let right = component.0 >> level & 1 == 1;
                let side: &[u8] = if right { b"right" } else { b"left" };
                node = suite.expand_with_label(&node, "tree", side, 32);
            }
            node == secret
        })
    });
    assert!(!found && !state.contains(&secret));
    // The same walk finds it in Bob's state, who did not export.
    let found = State::of(&clients[BOB]).values().into_iter().any(|value| {
        let mut node = Secret::from(value);
        for level in (0..16_u32).rev() {
            let right = component.0 >> level & 1 == 1;
            let side: &[u8] = if right { b"right" } else { b"left" };
            node = suite.expand_with_label(&node, "tree", side, 32);
        }
        node == secret
    });
    assert!(found);
}

/// Secrets show nothing of themselves, and are wiped when asked to. That dropping wipes them as well is
/// `Zeroizing`'s to do; safe code cannot look at memory that was given back.
#[test]
fn secrets_are_wiped() {
    use zeroize::Zeroize;
    let mut secret = Secret::from(vec![0xab; 32]);
    assert_eq!(format!("{secret:?}"), "Secret(..)");
    secret.zeroize();
    assert!(secret.is_empty());
    fn wiped_when_dropped(_: &zeroize::Zeroizing<Vec<u8>>) {}
    wiped_when_dropped(&Secret::from(vec![1]).into_zeroizing());
}
