//! What was used is gone (RFC 9420, section 9.2; sections 7.5, 8 and 12.4.3.1 for what an epoch starts
//! from): an attacker who takes all that a client has stored derives whatever can be derived from it,
//! with all that ever travelled at hand, and does not come to it.
//!
//! Each test asks the same of the state before, where the attacker does succeed. That memory holds no more
//! than storage is for `secrets_in_memory` to say.
#![cfg(feature = "aws-lc")]

mod group_harness;

use std::collections::{BTreeMap, BTreeSet};

use folkmoot_mls::code_point::WireFormat;
use folkmoot_mls::codec::{Decode, Encode, Reader};
use folkmoot_mls::commit::HpkeCiphertext;
use folkmoot_mls::crypto::{HpkeKeyPair, Secret, Suite};
use folkmoot_mls::framing::Content;
use folkmoot_mls::group::PendingCommit;
use folkmoot_mls::group_context::GroupContext;
use folkmoot_mls::key_schedule::{EpochSecrets, joiner_secret, member_secret};
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::proposal::Proposal;
use folkmoot_mls::ratchet::{Ratchet, RatchetKind};
use folkmoot_mls::records::{RecordKey, RecordKind, Records};
use folkmoot_mls::secret_tree::SecretTree;
use folkmoot_mls::tree::path::UPDATE_PATH_NODE;
use folkmoot_mls::tree_math::LeafIndex;
use folkmoot_mls::welcome::{GroupSecrets, WELCOME, Welcome};
use group_harness::{Client, SUITE, group_of, suite};

const ALICE: usize = 0;
const BOB: usize = 1;
const CAROL: usize = 2;

/// Generations that are looked at.
const GENERATIONS: u32 = 5;

/// Levels of a secret tree above its leaves: four leaves, in all groups here.
const HEIGHT: u32 = 2;

/// All that a client has stored.
#[derive(Clone)]
struct State(Vec<Vec<u8>>);

impl State {
    fn of(client: &Client) -> Self {
        let records = client
            .member
            .iter()
            .flat_map(|member| member.records.iter());
        let mut all: Vec<_> = records.map(|(_, value)| value.to_vec()).collect();
        all.extend(client.bundle.iter().map(Encode::to_bytes));
        Self(all)
    }

    fn contains(&self, bytes: &[u8]) -> bool {
        let mut windows = self.0.iter().flat_map(|value| value.windows(bytes.len()));
        windows.any(|window| window == bytes)
    }

    /// Every `opaque<V>` of 32 bytes, and whatever else looks like one.
    fn values(&self) -> BTreeSet<Vec<u8>> {
        let windows = self.0.iter().flat_map(|value| value.windows(33));
        let prefixed = windows.filter(|window| window[0] == 32);
        prefixed.map(|window| window[1..].to_vec()).collect()
    }
}

/// What travelled, as far as it is encrypted to keys of members.
#[derive(Clone, Default)]
struct Traffic {
    contexts: Vec<GroupContext>,
    sealed: Vec<(&'static str, Vec<u8>, HpkeCiphertext)>,
}

impl Traffic {
    fn saw_welcome(&mut self, welcome: &Welcome) {
        for part in &welcome.secrets {
            let info = welcome.encrypted_group_info.to_vec();
            let sealed = part.encrypted_group_secrets.clone();
            self.sealed.push((WELCOME, info, sealed));
        }
    }

    /// A commit in clear, from the context before it to the one after.
    fn saw_commit(&mut self, pending: &PendingCommit, before: &GroupContext) {
        let after = pending.group.group_context().clone();
        let provisional = GroupContext {
            confirmed_transcript_hash: before.confirmed_transcript_hash.clone(),
            ..after.clone()
        };
        self.contexts.push(after);
        let MlsMessage::PublicMessage(message) = &pending.message else {
            panic!("in clear")
        };
        let Content::Commit(commit) = &message.content.content else {
            panic!("a commit")
        };
        for node in commit.path.iter().flat_map(|path| &path.nodes) {
            for sealed in &node.encrypted_path_secret {
                let info = provisional.to_bytes();
                self.sealed.push((UPDATE_PATH_NODE, info, sealed.clone()));
            }
        }
    }
}

/// Derives from values whatever they may be, forward, as the RFC derives.
struct Attacker<'a> {
    suite: &'static dyn Suite,
    contexts: &'a [GroupContext],
    found: BTreeSet<Vec<u8>>,
}

impl Attacker<'_> {
    fn find(&mut self, secret: &Secret) {
        self.found.insert(secret.to_vec());
    }

    fn ratchet(&mut self, secret: &Secret, from: u32) {
        let mut secret = secret.clone();
        for generation in from..GENERATIONS {
            self.find(&secret);
            let derive = |label, length| {
                self.suite
                    .derive_tree_secret(&secret, label, generation, length)
            };
            let (key, nonce, next) = (derive("key", 16), derive("nonce", 12), derive("secret", 32));
            self.find(&key);
            self.find(&nonce);
            secret = next;
        }
        self.find(&secret);
    }

    fn tree(&mut self, secret: &Secret, height: u32) {
        self.find(secret);
        let expand =
            |label, context: &[u8]| self.suite.expand_with_label(secret, label, context, 32);
        let (left, right) = (expand("tree", b"left"), expand("tree", b"right"));
        let ratchets = [expand("handshake", b""), expand("application", b"")];
        for ratchet in ratchets {
            self.ratchet(&ratchet, 0);
        }
        if height > 0 {
            self.tree(&left, height - 1);
            self.tree(&right, height - 1);
        }
    }

    fn epoch(&mut self, epoch_secret: &Secret) {
        self.find(epoch_secret);
        let secrets = EpochSecrets::from_epoch_secret(self.suite, epoch_secret);
        for secret in [
            &secrets.sender_data_secret,
            &secrets.exporter_secret,
            &secrets.external_secret,
            &secrets.confirmation_key,
            &secrets.membership_key,
            &secrets.resumption_psk,
            &secrets.epoch_authenticator,
            &secrets.init_secret,
        ] {
            self.find(secret);
        }
        self.tree(&secrets.encryption_secret, HEIGHT);
    }

    fn member(&mut self, member: &Secret) {
        self.find(member);
        for context in self.contexts {
            let context = context.to_bytes();
            let epoch = self.suite.expand_with_label(member, "epoch", &context, 32);
            self.epoch(&epoch);
        }
    }

    fn joiner(&mut self, joiner: &Secret) {
        self.find(joiner);
        let member = member_secret(self.suite, joiner, &Secret::zero(32));
        self.member(&member);
    }

    /// As a path secret: the ones above, and the keys of the nodes.
    fn path(&mut self, secret: &Secret) -> Vec<Secret> {
        let mut above = vec![secret.clone()];
        for _ in 0..=HEIGHT {
            let last = &above[above.len() - 1];
            let node = self.suite.derive_secret(last, "node");
            let next = self.suite.derive_secret(last, "path");
            let key = self.suite.kem_derive_key_pair(&node).private_key;
            self.find(&node);
            self.find(&key);
            self.find(&next);
            above.push(next);
        }
        above
    }

    /// Everything from these values.
    fn derive(&mut self, values: &BTreeSet<Vec<u8>>) {
        let mut commit_secrets = vec![Secret::zero(32)];
        let values: Vec<_> = values.iter().cloned().map(Secret::from).collect();
        for value in &values {
            for generation in 0..GENERATIONS {
                self.ratchet(value, generation);
            }
            for height in 0..=HEIGHT {
                self.tree(value, height);
            }
            self.epoch(value);
            self.member(value);
            self.joiner(value);
            commit_secrets.extend(self.path(value));
        }
        for init in &values {
            for commit in &commit_secrets {
                for context in self.contexts {
                    let joiner = joiner_secret(self.suite, init, commit, context);
                    // The tree below would be worth it only if this is one that was looked for.
                    self.found.insert(joiner.to_vec());
                }
            }
        }
    }
}

/// All that can be found in a state, with what travelled at hand.
fn reach(state: &State, traffic: &Traffic) -> BTreeSet<Vec<u8>> {
    let suite = suite(SUITE);
    let mut values = state.values();
    let mut opened = BTreeSet::new();
    loop {
        let private_keys: Vec<_> = values.iter().cloned().collect();
        for private_key in private_keys {
            let private_key = Secret::from(private_key);
            let Ok(public_key) = suite.kem_public_key(&private_key) else {
                continue;
            };
            let pair = HpkeKeyPair {
                private_key,
                public_key,
            };
            for (label, info, sealed) in &traffic.sealed {
                if let Ok(secret) = suite.decrypt_with_label(&pair, label, info, sealed) {
                    match GroupSecrets::from_bytes(&secret) {
                        Ok(secrets) => {
                            opened.insert(secrets.joiner_secret.to_vec());
                            opened.extend(secrets.path_secret.map(|p| p.path_secret.to_vec()));
                        }
                        Err(_) => drop(opened.insert(secret.to_vec())),
                    }
                }
            }
        }
        // The keys that follow from a path secret may open more.
        let mut attacker = Attacker {
            suite,
            contexts: &[],
            found: BTreeSet::new(),
        };
        for secret in &opened {
            attacker.path(&Secret::from(secret.clone()));
        }
        let before = values.len();
        values.extend(opened.iter().cloned());
        values.extend(attacker.found);
        if values.len() == before || opened.is_empty() {
            break;
        }
    }
    let mut attacker = Attacker {
        suite,
        contexts: &traffic.contexts,
        found: values.clone(),
    };
    attacker.derive(&values);
    attacker.found
}

/// Secrets by their name.
type Named = BTreeMap<String, Secret>;

fn all_reached(state: &State, traffic: &Traffic, secrets: &Named) {
    let found = reach(state, traffic);
    for (name, secret) in secrets {
        let reached = state.contains(secret) || found.contains(&secret.to_vec());
        assert!(reached, "{name} should be reached");
    }
}

fn none_reached(state: &State, traffic: &Traffic, secrets: &Named) {
    let found = reach(state, traffic);
    for (name, secret) in secrets {
        assert!(!state.contains(secret), "{name} is in the state");
        assert!(!found.contains(&secret.to_vec()), "{name} can be derived");
    }
}

/// An epoch's keys as they were at its start, from what a client stored then.
struct Epoch {
    tree: SecretTree,
    root: Secret,
}

impl Epoch {
    fn of(client: &Client) -> Self {
        let epoch = client.group().epoch();
        let root = RecordKey::new(RecordKind::SecretTreeNode, &(epoch, 1_u32));
        let root = client
            .member()
            .records
            .get(&root)
            .expect("nothing was used");
        let root = Secret::from_bytes(&root[1..]).unwrap();
        let tree = SecretTree::new(root.clone(), HEIGHT);
        Self { tree, root }
    }

    fn leaf(&self, leaf: usize) -> Secret {
        self.tree.leaf(suite(SUITE), leaf as u32).unwrap()
    }

    /// The key and nonce of one message.
    fn message(&self, sender: usize, kind: RatchetKind, generation: u32) -> Named {
        let (suite, leaf) = (suite(SUITE), self.leaf(sender));
        let ratchet = Ratchet::new(suite, kind, LeafIndex(sender as u32), &leaf);
        let key = ratchet.key(suite, generation).unwrap();
        let name = |part| format!("{part} {generation} of {sender}");
        BTreeMap::from([(name("key"), key.key), (name("nonce"), key.nonce)])
    }

    /// What leads to it: the root, the nodes down to the leaf, the ratchet up to it.
    fn above(&self, sender: usize, kind: RatchetKind, generation: u32) -> Named {
        let suite = suite(SUITE);
        let mut named = Named::new();
        let mut node = self.root.clone();
        named.insert("encryption_secret".into(), node.clone());
        for level in (0..HEIGHT).rev() {
            let side: &[u8] = if sender >> level & 1 == 0 {
                b"left"
            } else {
                b"right"
            };
            node = suite.expand_with_label(&node, "tree", side, 32);
            named.insert(format!("node at level {level}"), node.clone());
        }
        let label = match kind {
            RatchetKind::Handshake => "handshake",
            RatchetKind::Application => "application",
        };
        let mut ratchet = suite.expand_with_label(&node, label, b"", 32);
        for step in 0..=generation {
            named.insert(format!("ratchet secret {step}"), ratchet.clone());
            ratchet = suite.derive_tree_secret(&ratchet, "secret", step, 32);
        }
        named
    }
}

fn both(one: &Named, other: &Named) -> Named {
    one.iter()
        .chain(other)
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

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

fn init_secret(client: &Client) -> Secret {
    let records = client.member().records.iter();
    let of_kind = |(key, _): &(&RecordKey, &[u8])| key.as_slice()[0] == RecordKind::Group as u8;
    let (_, group) = records.filter(of_kind).last().unwrap();
    let mut reader = Reader::new(&group[1..]);
    GroupContext::decode(&mut reader).unwrap();
    let secrets: [Secret; 2] = [(); 2].map(|()| Secret::decode(&mut reader).unwrap());
    u8::decode(&mut reader).unwrap();
    Vec::<Secret>::decode(&mut reader).unwrap();
    drop(secrets);
    let secrets: [Secret; 6] = [(); 6].map(|()| Secret::decode(&mut reader).unwrap());
    secrets[5].clone()
}

fn step(clients: &mut [Client], committer: usize, add: Option<&mut Client>) -> Step {
    let before = clients[committer].group().group_context().clone();
    let init = init_secret(&clients[committer]);
    let package = add.map(Client::key_package);
    let added = package.is_some();
    let pending = clients[committer]
        .commit(|commit| {
            let commit = commit.wire_format(WireFormat::PUBLIC_MESSAGE);
            package
                .into_iter()
                .fold(commit, |commit, kp| commit.add(kp))
        })
        .unwrap();
    let mut traffic = Traffic::default();
    traffic.saw_commit(&pending, &before);
    if added {
        traffic.saw_welcome(pending.welcome.as_ref().unwrap());
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
                named.insert(format!("private key of node {node}"), pair.private_key);
            }
        }
    }
    named
}

/// Section 7.5: each key pair that a path replaces, and the path secrets.
#[test]
fn after_a_path() {
    let mut clients = group_of(&["alice", "bob", "carol"]);
    let step_by = |clients: &mut Vec<Client>, committer: usize| {
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
                let key = suite.kem_derive_key_pair(&node).private_key;
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
        step_by(&mut clients, committer);
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
