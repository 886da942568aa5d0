//! Laws: all members of a group agree, whatever happens to it; who was removed knows nothing more,
//! who was added nothing from before; what was stored is what was in memory.
#![cfg(any(feature = "aws-lc", feature = "rust-crypto"))]

mod group_harness;

use folkmoot_mls::code_point::WireFormat;
use folkmoot_mls::codec::Encode;
use folkmoot_mls::crypto::{CipherSuite, PROVIDER};
use folkmoot_mls::error::Error;
use folkmoot_mls::extension::{ExtensionType, Extensions};
use folkmoot_mls::group::{Group, IncludeProposals};
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::message_keys::MessageKeys;
use folkmoot_mls::proposal::Proposal;
use folkmoot_mls::records::{Changes, MemoryRecords, RecordKind};
use folkmoot_mls::tree_math::{LeafIndex, NodeIndex};
use group_harness::{Client, Member, Received, assert_agreement, broadcast};
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

/// What happens next. Numbers choose among those who can.
#[derive(Clone, Debug)]
enum Step {
    /// Somebody adds clients and removes members at once, with or without what was proposed.
    Commit {
        by: usize,
        adds: usize,
        removes: Vec<usize>,
        path: bool,
        pending: bool,
        public: bool,
        lost: bool,
    },
    ProposeUpdate {
        by: usize,
        public: bool,
    },
    ProposeRemove {
        by: usize,
        whom: usize,
        public: bool,
    },
    ProposeAdd {
        by: usize,
        public: bool,
    },
    ProposeExtensions {
        by: usize,
        content: u8,
    },
    Send {
        by: usize,
    },
    Restart {
        who: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..64usize;
    let commit = (
        who.clone(),
        0..4usize,
        prop::collection::vec(who.clone(), 0..3),
        any::<[bool; 3]>(),
        prop::bool::weighted(0.2),
    )
        .prop_map(
            |(by, adds, removes, [path, pending, public], lost)| Step::Commit {
                by,
                adds,
                removes,
                path,
                pending,
                public,
                lost,
            },
        );
    prop_oneof![
        4 => commit,
        1 => (who.clone(), any::<bool>()).prop_map(|(by, public)| Step::ProposeUpdate { by, public }),
        1 => (who.clone(), who.clone(), any::<bool>())
            .prop_map(|(by, whom, public)| Step::ProposeRemove { by, whom, public }),
        1 => (who.clone(), any::<bool>()).prop_map(|(by, public)| Step::ProposeAdd { by, public }),
        1 => (who.clone(), any::<u8>())
            .prop_map(|(by, content)| Step::ProposeExtensions { by, content }),
        2 => who.clone().prop_map(|by| Step::Send { by }),
        2 => who.prop_map(|who| Step::Restart { who }),
    ]
}

/// All clients ever, and what former members still hold.
struct World {
    suite: CipherSuite,
    clients: Vec<Client>,
    former: Vec<(Client, Member)>,
    /// Application messages of the current epoch and of all before.
    said: Vec<MlsMessage>,
}

impl World {
    fn new(suite: CipherSuite) -> Self {
        let mut creator = Client::with_suite("client 0", suite);
        creator.create(Extensions::default());
        Self {
            suite,
            clients: vec![creator],
            former: Vec::new(),
            said: Vec::new(),
        }
    }

    fn members(&self) -> Vec<usize> {
        (0..self.clients.len())
            .filter(|index| self.clients[*index].member.is_some())
            .collect()
    }

    fn choose(&self, number: usize) -> usize {
        let members = self.members();
        members[number % members.len()]
    }

    fn newcomer(&mut self) -> usize {
        let name = format!("client {}", self.clients.len());
        self.clients.push(Client::with_suite(&name, self.suite));
        self.clients.len() - 1
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Commit {
                by,
                adds,
                removes,
                path,
                pending,
                public,
                lost,
            } => {
                let by = self.choose(*by);
                let packages: Vec<_> = (0..*adds)
                    .map(|_| self.newcomer())
                    .collect::<Vec<_>>()
                    .into_iter()
                    .map(|index| self.clients[index].key_package())
                    .collect();
                let own = self.clients[by].group().own_index();
                let mut removals: Vec<_> = removes
                    .iter()
                    .map(|whom| self.clients[self.choose(*whom)].group().own_index())
                    .filter(|leaf| *leaf != own)
                    .collect();
                removals.sort();
                removals.dedup();
                let pending = self.clients[by]
                    .commit(|mut commit| {
                        for package in packages {
                            commit = commit.add(package);
                        }
                        for leaf in removals {
                            commit = commit.remove(leaf);
                        }
                        if !path {
                            commit = commit.without_path();
                        }
                        if !pending {
                            commit = commit.include_proposals(IncludeProposals::None);
                        }
                        commit
                            .wire_format(wire_format(*public))
                            .padding(*adds * 100)
                    })
                    .unwrap();
                // Another one was ordered first, and this one is dropped.
                if !lost {
                    self.deliver(by, pending);
                }
            }
            Step::ProposeUpdate { by, public } => {
                let by = self.choose(*by);
                let proposed = self.clients[by].propose_update(wire_format(*public));
                broadcast(&mut self.clients, by, &proposed.message);
            }
            Step::ProposeRemove { by, whom, public } => {
                let by = self.choose(*by);
                let whom = self.clients[self.choose(*whom)].group().own_index();
                self.propose(by, Proposal::remove(whom), *public);
            }
            Step::ProposeAdd { by, public } => {
                let by = self.choose(*by);
                let newcomer = self.newcomer();
                let key_package = self.clients[newcomer].key_package();
                self.propose(by, Proposal::add(key_package), *public);
            }
            Step::ProposeExtensions { by, content } => {
                let mut extensions = Extensions::default();
                // A default type, so that nobody has to list it.
                extensions.set_data(ExtensionType::APPLICATION_ID, vec![*content]);
                let by = self.choose(*by);
                self.propose(by, Proposal::group_context_extensions(extensions), false);
            }
            Step::Send { by } => {
                let by = self.choose(*by);
                let (message, changes) = self.clients[by].send(b"a word");
                assert!(size(&changes) < 1024, "{changes:?}");
                broadcast(&mut self.clients, by, &message);
                self.said.push(message);
            }
            Step::Restart { who } => {
                let who = self.choose(*who);
                self.clients[who].restart();
            }
        }
        assert_agreement(&self.clients);
    }

    fn propose(&mut self, by: usize, proposal: Proposal, public: bool) {
        let proposed = self.clients[by]
            .propose(proposal, wire_format(public))
            .unwrap();
        broadcast(&mut self.clients, by, &proposed.message);
    }

    fn deliver(&mut self, by: usize, pending: folkmoot_mls::group::PendingCommit) {
        let message = pending.message.clone();
        let welcome = pending.welcome.clone();
        self.clients[by].merge(pending);
        let epoch = self.clients[by].group().epoch();
        for index in 0..self.clients.len() {
            if index == by {
                continue;
            }
            let client = &mut self.clients[index];
            if client.member.is_some() {
                // What it holds when it reads of its removal, loaded as after a restart.
                let kept = snapshot(client);
                if let Received::Removed(_) = client.receive(&message).unwrap() {
                    let name = client.name.clone();
                    self.former
                        .push((Client::with_suite(&name, self.suite), kept));
                }
            } else if let (Some(welcome), Some(bundle)) = (&welcome, &client.bundle) {
                let reference = bundle
                    .key_package
                    .reference(group_harness::suite(self.suite));
                if welcome
                    .secrets
                    .iter()
                    .any(|part| *part.new_member == *reference)
                {
                    client.join(welcome, None).unwrap();
                    assert_eq!(client.group().epoch(), epoch);
                    for before in &self.said {
                        assert!(
                            client.receive(before).is_err(),
                            "nothing from before is read"
                        );
                    }
                }
            }
        }
        self.former_members_know_nothing(&message);
    }

    /// Nothing that a former member kept opens what came after its removal.
    fn former_members_know_nothing(&mut self, commit: &MlsMessage) {
        let sender = self.choose(0);
        let (word, _) = self.clients[sender].send(b"without them");
        broadcast(&mut self.clients, sender, &word);
        let MlsMessage::PrivateMessage(word) = &word else {
            panic!("it is encrypted")
        };
        let now = self.clients[sender].group().clone();
        for (client, kept) in &mut self.former {
            assert!(kept.keys.decrypt(word).is_err());
            // Also not if the epoch is made to look like its own.
            let mut disguised = word.clone();
            disguised.epoch = kept.group.epoch();
            assert!(kept.keys.decrypt(&disguised).is_err());
            let mut context = group_harness::context(None, &mut client.rng);
            if let Ok(processed) = kept.group.process(&mut kept.keys, commit, &mut context) {
                let removed = matches!(processed, folkmoot_mls::group::Processed::Removed { .. });
                assert!(removed, "a removed member follows no commit");
            }
            // Nothing that it stored holds this epoch's secrets, or the private key of any node that
            // path secrets are encrypted to. Key pairs are stored whole, so their public keys tell.
            for (key, record) in kept.records.iter() {
                for secret in [now.epoch_authenticator(), now.resumption_psk()] {
                    assert!(!contains(record, secret));
                }
                if key.as_slice()[0] == RecordKind::PrivateKeys as u8 {
                    for place in 0..2 << now.tree().depth() {
                        if let Some(node) = now.tree().node(NodeIndex(place)) {
                            assert!(!contains(record, node.encryption_key()));
                        }
                    }
                }
            }
        }
    }
}

fn snapshot(client: &Client) -> Member {
    let member = client.member();
    let records = member.records.clone();
    let group = Group::load(&PROVIDER, &records).unwrap();
    let keys: MessageKeys = group.load_keys(&PROVIDER, group.epoch(), &records).unwrap();
    Member {
        group,
        keys,
        records,
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

fn size(changes: &folkmoot_mls::records::Changes) -> usize {
    changes.to_bytes().len()
}

fn wire_format(public: bool) -> WireFormat {
    if public {
        WireFormat::PUBLIC_MESSAGE
    } else {
        WireFormat::PRIVATE_MESSAGE
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn members_agree_and_nobody_else_knows(
        suite in 1..=3u16,
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut world = World::new(CipherSuite(suite));
        for step in &steps {
            world.run(step);
        }
    }
}

#[test]
fn damaged_records_are_an_error_and_never_a_panic() {
    let mut clients = group_harness::group_of(&["alice", "bob", "charlie"]);
    let update = clients[1].propose_update(WireFormat::PRIVATE_MESSAGE);
    broadcast(&mut clients, 1, &update.message);
    let pending = clients[2].commit(|commit| commit).unwrap();
    let rng = &mut ChaCha20Rng::seed_from_u64(0);
    let member = clients[0].member();
    let records: Vec<_> = member
        .records
        .iter()
        .map(|(key, value)| (key.clone(), value.to_vec()))
        .collect();
    let load = |records: &MemoryRecords| {
        let group = Group::load(&PROVIDER, records)?;
        let keys = group.load_keys(&PROVIDER, group.epoch(), records)?;
        Ok::<_, Error>((group, keys))
    };
    for (key, value) in &records {
        let with = |value: Option<Vec<u8>>| {
            let mut changes = Changes::default();
            match value {
                Some(value) => changes.put(key.clone(), value),
                None => changes.delete(key.clone()),
            }
            let mut records = member.records.clone();
            records.apply(&changes);
            records
        };
        for cut in 0..value.len() {
            let error = load(&with(Some(value[..cut].to_vec())))
                .map(|_| ())
                .unwrap_err();
            assert!(matches!(error, Error::DamagedRecord(_)), "{key:?}: {error}");
        }
        // A secret-tree node that is missing is taken for one that was used up, until its leaves'
        // ratchets are found missing too.
        assert!(matches!(
            load(&with(None)).map(|_| ()).unwrap_err(),
            Error::DamagedRecord(_)
        ));
        // The tree is tied to the group by its hash: no damage to it goes unnoticed.
        if key.as_slice()[0] == RecordKind::TreeChunk as u8 {
            for bit in 0..8 * value.len() {
                let mut value = value.clone();
                value[bit / 8] ^= 1 << (bit % 8);
                assert!(load(&with(Some(value))).is_err(), "{key:?}, bit {bit}");
            }
        }
        // Fields at the front hold the numbers whose ends have to be met.
        for place in 0..value.len().saturating_sub(4).min(64) {
            let mut value = value.clone();
            value[place..place + 4].fill(0xff);
            if let Ok((group, mut keys)) = load(&with(Some(value))) {
                let mut context = group_harness::context(None, rng);
                let _ = group.process(&mut keys, &pending.message, &mut context);
                let format = WireFormat::PRIVATE_MESSAGE;
                let remove = Proposal::remove(LeafIndex(1));
                let signer = &clients[0].signer;
                let _ = group.propose(&mut keys, signer, remove, b"", format, &mut context);
            }
        }
        for _ in 0..200 {
            let mut value = value.clone();
            let place = rng.next_u32() as usize % value.len();
            value[place] ^= 1 << (rng.next_u32() % 8);
            if let Ok((group, mut keys)) = load(&with(Some(value))) {
                let mut context = group_harness::context(None, rng);
                let _ = group.process(&mut keys, &pending.message, &mut context);
                let commit = group.commit().add(newcomer());
                let _ = commit.build(&mut keys, &clients[0].signer, &mut context);
            }
        }
    }
}

fn newcomer() -> folkmoot_mls::key_package::KeyPackage {
    Client::new("newcomer").key_package()
}
