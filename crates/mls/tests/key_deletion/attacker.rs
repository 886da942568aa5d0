//! Somebody who takes all that a client has stored, and saw all that travelled.

use std::collections::{BTreeMap, BTreeSet};

use folkmoot_mls::codec::{Decode, Encode};
use folkmoot_mls::commit::HpkeCiphertext;
use folkmoot_mls::crypto::{HpkeKeyPair, Secret, Suite};
use folkmoot_mls::framing::Content;
use folkmoot_mls::group::PendingCommit;
use folkmoot_mls::group_context::GroupContext;
use folkmoot_mls::key_schedule::{EpochSecrets, joiner_secret, member_secret};
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::ratchet::{Ratchet, RatchetKind};
use folkmoot_mls::records::{RecordKey, RecordKind, Records};
use folkmoot_mls::secret_tree::SecretTree;
use folkmoot_mls::tree::path::UPDATE_PATH_NODE;
use folkmoot_mls::tree_math::LeafIndex;
use folkmoot_mls::welcome::{GroupSecrets, WELCOME, Welcome};

use crate::group_harness::{Client, SUITE, suite};

/// Generations that are looked at.
pub const GENERATIONS: u32 = 5;

/// Levels of a secret tree above its leaves: four leaves, in all groups here.
pub const HEIGHT: u32 = 2;

/// All that a client has stored.
#[derive(Clone)]
pub struct State(pub Vec<Vec<u8>>);

impl State {
    pub fn of(client: &Client) -> Self {
        let records = client
            .member
            .iter()
            .flat_map(|member| member.records.iter());
        let mut all: Vec<_> = records.map(|(_, value)| value.to_vec()).collect();
        all.extend(client.bundle.iter().map(Encode::to_bytes));
        Self(all)
    }

    pub fn contains(&self, bytes: &[u8]) -> bool {
        let mut windows = self.0.iter().flat_map(|value| value.windows(bytes.len()));
        windows.any(|window| window == bytes)
    }

    /// Every `opaque<V>` of 32 bytes, and whatever else looks like one.
    pub fn values(&self) -> BTreeSet<Vec<u8>> {
        let windows = self.0.iter().flat_map(|value| value.windows(33));
        let prefixed = windows.filter(|window| window[0] == 32);
        prefixed.map(|window| window[1..].to_vec()).collect()
    }
}

/// What travelled, as far as it is encrypted to keys of members.
#[derive(Clone, Default)]
pub struct Traffic {
    pub contexts: Vec<GroupContext>,
    pub sealed: Vec<(&'static str, Vec<u8>, HpkeCiphertext)>,
}

impl Traffic {
    pub fn saw_welcome(&mut self, welcome: &Welcome) {
        for part in &welcome.secrets {
            let info = welcome.encrypted_group_info.to_vec();
            let sealed = part.encrypted_group_secrets.clone();
            self.sealed.push((WELCOME, info, sealed));
        }
    }

    /// A commit in clear, from the context before it to the one after.
    pub fn saw_commit(&mut self, pending: &PendingCommit, before: &GroupContext) {
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
            for sealed in node.encrypted_path_secret.to_vec() {
                let info = provisional.to_bytes();
                self.sealed.push((UPDATE_PATH_NODE, info, sealed));
            }
        }
    }
}

/// Derives from values whatever they may be, forward, as the RFC derives.
pub struct Attacker<'a> {
    pub suite: &'static dyn Suite,
    pub contexts: &'a [GroupContext],
    pub found: BTreeSet<Vec<u8>>,
}

impl Attacker<'_> {
    pub fn find(&mut self, secret: &Secret) {
        self.found.insert(secret.to_vec());
    }

    pub fn ratchet(&mut self, secret: &Secret, from: u32) {
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

    pub fn tree(&mut self, secret: &Secret, height: u32) {
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

    pub fn epoch(&mut self, epoch_secret: &Secret) {
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

    pub fn member(&mut self, member: &Secret) {
        self.find(member);
        for context in self.contexts {
            let context = context.to_bytes();
            let epoch = self.suite.expand_with_label(member, "epoch", &context, 32);
            self.epoch(&epoch);
        }
    }

    pub fn joiner(&mut self, joiner: &Secret) {
        self.find(joiner);
        let member = member_secret(self.suite, joiner, &Secret::zero(32));
        self.member(&member);
    }

    /// As a path secret: the ones above, and the keys of the nodes.
    pub fn path(&mut self, secret: &Secret) -> Vec<Secret> {
        let mut above = vec![secret.clone()];
        for _ in 0..=HEIGHT {
            let last = &above[above.len() - 1];
            let node = self.suite.derive_secret(last, "node");
            let next = self.suite.derive_secret(last, "path");
            let key = self.suite.kem_derive_key_pair(&node).private_key().clone();
            self.find(&node);
            self.find(&key);
            self.find(&next);
            above.push(next);
        }
        above
    }

    /// Everything from these values.
    pub fn derive(&mut self, values: &BTreeSet<Vec<u8>>) {
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
pub fn reach(state: &State, traffic: &Traffic) -> BTreeSet<Vec<u8>> {
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
            let pair = HpkeKeyPair::new(private_key, public_key);
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
pub type Named = BTreeMap<String, Secret>;

pub fn all_reached(state: &State, traffic: &Traffic, secrets: &Named) {
    let found = reach(state, traffic);
    for (name, secret) in secrets {
        let reached = state.contains(secret) || found.contains(&secret.to_vec());
        assert!(reached, "{name} should be reached");
    }
}

pub fn none_reached(state: &State, traffic: &Traffic, secrets: &Named) {
    let found = reach(state, traffic);
    for (name, secret) in secrets {
        assert!(!state.contains(secret), "{name} is in the state");
        assert!(!found.contains(&secret.to_vec()), "{name} can be derived");
    }
}

/// An epoch's keys as they were at its start, from what a client stored then.
pub struct Epoch {
    pub tree: SecretTree,
    pub root: Secret,
}

impl Epoch {
    pub fn of(client: &Client) -> Self {
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

    pub fn leaf(&self, leaf: usize) -> Secret {
        self.tree.leaf(suite(SUITE), leaf as u32).unwrap()
    }

    /// The key and nonce of one message.
    pub fn message(&self, sender: usize, kind: RatchetKind, generation: u32) -> Named {
        let (suite, leaf) = (suite(SUITE), self.leaf(sender));
        let ratchet = Ratchet::new(suite, kind, LeafIndex(sender as u32), &leaf);
        let key = ratchet.key(suite, generation).unwrap();
        let name = |part| format!("{part} {generation} of {sender}");
        BTreeMap::from([(name("key"), key.key), (name("nonce"), key.nonce)])
    }

    /// What leads to it: the root, the nodes down to the leaf, the ratchet up to it.
    pub fn above(&self, sender: usize, kind: RatchetKind, generation: u32) -> Named {
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

pub fn both(one: &Named, other: &Named) -> Named {
    one.iter()
        .chain(other)
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}
