//! Clients with their storage, for the scenarios.
#![allow(dead_code, missing_docs)]

use folkmoot_mls::capabilities::Capabilities;
use folkmoot_mls::code_point::ProtocolVersion;
use folkmoot_mls::codec::{Bytes, Decode, Encode};
use folkmoot_mls::component::{ComponentID, ComponentInput, ComponentLogic, Refused};
use folkmoot_mls::context::{BasicCredentials, Context, NoPsks, OneThread};
use folkmoot_mls::credential::{Credential, CredentialType};
use folkmoot_mls::crypto::{CipherSuite, CryptoProvider, PROVIDER, SignatureKeyPair, Suite};
use folkmoot_mls::error::Error;
use folkmoot_mls::extension::Extensions;
use folkmoot_mls::framing::Sender;
use folkmoot_mls::group::{Group, GroupParameters, PendingCommit, Processed, Proposed};
use folkmoot_mls::key_package::{KeyPackage, KeyPackageBundle};
use folkmoot_mls::leaf_node::{LeafParameters, Lifetime};
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::message_keys::MessageKeys;
use folkmoot_mls::records::{Changes, MemoryRecords};
use folkmoot_mls::welcome::Welcome;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

pub const SUITE: CipherSuite = CipherSuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_ED25519;

pub fn suite(suite: CipherSuite) -> &'static dyn Suite {
    PROVIDER.suite(suite).unwrap()
}

/// One client: its key, and its group if it is in one.
pub struct Client {
    pub name: String,
    pub suite: CipherSuite,
    pub signer: SignatureKeyPair,
    pub rng: ChaCha20Rng,
    pub now: Option<u64>,
    /// Of the group that it creates.
    pub group_id: Bytes,
    /// Its leaf, if it is not the usual one.
    pub leaf: Option<LeafParameters>,
    pub key_package_extensions: Extensions,
    pub bundle: Option<KeyPackageBundle>,
    pub member: Option<Member>,
}

/// A client's part in a group, with what it stored.
pub struct Member {
    pub group: Group,
    pub keys: MessageKeys,
    pub records: MemoryRecords,
}

/// The id of the component that these tests' application has.
pub const COUNTER: ComponentID = ComponentID(0x8001);

/// Counts. Its data is one byte; an update of one byte adds to it, as long as the sum fits. Only
/// members take it out of the group. Ephemeral data is one byte too, and only members send it.
pub struct Counter;

impl ComponentLogic for Counter {
    fn knows(&self, component_id: ComponentID) -> bool {
        component_id == COUNTER
    }

    fn update(
        &self,
        _: ComponentID,
        data: Option<&[u8]>,
        updates: &[ComponentInput<'_>],
    ) -> Result<Bytes, Refused> {
        let mut sum = match data {
            Some([count]) => *count,
            Some(_) => return Err(Refused),
            None => 0,
        };
        for update in updates {
            let [step] = update.data else {
                return Err(Refused);
            };
            sum = sum.checked_add(*step).ok_or(Refused)?;
        }
        Ok(Bytes::from([sum]))
    }

    fn remove(&self, _: ComponentID, by: ComponentInput<'_>) -> Result<(), Refused> {
        matches!(by.sender, Sender::Member(_))
            .then_some(())
            .ok_or(Refused)
    }

    fn ephemeral(&self, _: ComponentID, input: ComponentInput<'_>) -> Result<(), Refused> {
        (matches!(input.sender, Sender::Member(_)) && input.data.len() == 1)
            .then_some(())
            .ok_or(Refused)
    }
}

/// The context of a call.
pub fn context(now: Option<u64>, rng: &mut ChaCha20Rng) -> Context<'_> {
    Context {
        provider: &PROVIDER,
        authentication_service: &BasicCredentials,
        psks: &NoPsks,
        components: &Counter,
        now,
        workers: &OneThread,
        rng,
    }
}

pub fn capabilities() -> Capabilities {
    Capabilities {
        versions: vec![ProtocolVersion::MLS10],
        cipher_suites: PROVIDER.suites().to_vec(),
        extensions: Vec::new(),
        proposals: Vec::new(),
        credentials: vec![CredentialType::BASIC],
    }
}

impl Client {
    pub fn new(name: &str) -> Self {
        Self::with_suite(name, SUITE)
    }

    pub fn with_suite(name: &str, cipher_suite: CipherSuite) -> Self {
        let mut seed = [0; 32];
        seed.iter_mut()
            .zip(name.bytes())
            .for_each(|(seed, byte)| *seed = byte);
        let mut rng = ChaCha20Rng::from_seed(seed);
        let signer = suite(cipher_suite).signature_key_pair(&mut rng);
        let (name, now) = (name.to_string(), None);
        Self {
            name,
            suite: cipher_suite,
            signer,
            rng,
            now,
            group_id: Bytes::from(*b"group"),
            leaf: None,
            key_package_extensions: Extensions::default(),
            bundle: None,
            member: None,
        }
    }

    pub fn parameters(&self) -> LeafParameters {
        self.leaf.clone().unwrap_or_else(|| LeafParameters {
            credential: Credential::basic(self.name.as_bytes()),
            capabilities: capabilities(),
            extensions: Extensions::default(),
        })
    }

    pub fn create(&mut self, extensions: Extensions) {
        let leaf = self.parameters();
        self.create_with(extensions, leaf);
    }

    pub fn create_with(&mut self, extensions: Extensions, leaf: LeafParameters) {
        let parameters = GroupParameters {
            version: ProtocolVersion::MLS10,
            cipher_suite: self.suite,
            group_id: self.group_id.clone(),
            extensions,
        };
        let created = Group::create(
            &mut context(self.now, &mut self.rng),
            parameters,
            &self.signer,
            leaf,
        )
        .unwrap();
        let mut records = MemoryRecords::default();
        records.apply(&created.changes);
        self.member = Some(Member {
            group: created.group,
            keys: created.keys,
            records,
        });
    }

    pub fn key_package(&mut self) -> KeyPackage {
        self.key_package_with(
            self.parameters(),
            Lifetime {
                not_before: 0,
                not_after: u64::MAX,
            },
        )
    }

    pub fn key_package_with(&mut self, leaf: LeafParameters, lifetime: Lifetime) -> KeyPackage {
        let bundle = KeyPackage::create(
            suite(self.suite),
            &self.signer,
            leaf,
            lifetime,
            self.key_package_extensions.clone(),
            &mut self.rng,
        )
        .unwrap();
        let key_package = bundle.key_package.clone();
        self.bundle = Some(bundle);
        key_package
    }

    pub fn join(&mut self, welcome: &Welcome, tree: Option<&[u8]>) -> Result<(), Error> {
        let welcome = Welcome::from_bytes(&welcome.to_bytes()).unwrap();
        let bundle = self.bundle.clone().unwrap();
        let joined = Group::join(
            &mut context(self.now, &mut self.rng),
            &welcome,
            &bundle,
            tree,
        )?;
        let mut records = MemoryRecords::default();
        records.apply(&joined.changes);
        self.member = Some(Member {
            group: joined.group,
            keys: joined.keys,
            records,
        });
        self.bundle = None;
        Ok(())
    }

    pub fn member(&self) -> &Member {
        self.member.as_ref().unwrap()
    }

    pub fn group(&self) -> &Group {
        &self.member().group
    }

    /// Makes a commit by what `change` says.
    pub fn commit(
        &mut self,
        change: impl FnOnce(folkmoot_mls::group::CommitBuilder) -> folkmoot_mls::group::CommitBuilder,
    ) -> Result<PendingCommit, Error> {
        let member = self.member.as_mut().unwrap();
        let builder = change(member.group.commit());
        let pending = builder.build(
            &mut member.keys,
            &self.signer,
            &mut context(self.now, &mut self.rng),
        )?;
        member.records.apply(&pending.sent);
        Ok(pending)
    }

    /// Merges an own commit.
    pub fn merge(&mut self, pending: PendingCommit) {
        let member = self.member.as_mut().unwrap();
        member.records.apply(&member.group.proposals_deletion());
        member.advance(pending.group, pending.keys, &pending.changes);
    }

    pub fn propose_update(
        &mut self,
        wire_format: folkmoot_mls::code_point::WireFormat,
    ) -> Proposed {
        let member = self.member.as_mut().unwrap();
        let proposed = member
            .group
            .propose_update(
                &mut member.keys,
                &self.signer,
                None,
                b"",
                wire_format,
                &mut context(self.now, &mut self.rng),
            )
            .unwrap();
        member.group = proposed.group.clone();
        member.records.apply(&proposed.changes);
        proposed
    }

    pub fn propose(
        &mut self,
        proposal: folkmoot_mls::proposal::Proposal,
        wire_format: folkmoot_mls::code_point::WireFormat,
    ) -> Result<Proposed, Error> {
        let member = self.member.as_mut().unwrap();
        let proposed = member.group.propose(
            &mut member.keys,
            &self.signer,
            proposal,
            b"",
            wire_format,
            &mut context(self.now, &mut self.rng),
        )?;
        member.group = proposed.group.clone();
        member.records.apply(&proposed.changes);
        Ok(proposed)
    }

    pub fn send(&mut self, data: &[u8]) -> (MlsMessage, Changes) {
        let member = self.member.as_mut().unwrap();
        let (message, changes) = member
            .keys
            .encrypt(&self.signer, b"", data, 0, &mut self.rng)
            .unwrap();
        member.records.apply(&changes);
        (MlsMessage::PrivateMessage(message), changes)
    }

    /// Reads a message as it travels, and stores what follows. `Removed` ends the membership.
    pub fn receive(&mut self, message: &MlsMessage) -> Result<Received, Error> {
        let message = MlsMessage::from_bytes(&message.to_bytes()).unwrap();
        let member = self.member.as_mut().unwrap();
        Ok(
            match member.group.process(
                &mut member.keys,
                &message,
                &mut context(self.now, &mut self.rng),
            )? {
                Processed::Application { data, changes, .. } => {
                    member.records.apply(&changes);
                    Received::Data(data.into_vec())
                }
                Processed::Proposal { group, changes, .. } => {
                    member.group = group;
                    member.records.apply(&changes);
                    Received::Proposal
                }
                Processed::Commit {
                    effects,
                    group,
                    keys,
                    changes,
                    ..
                } => {
                    member.advance(group, keys, &changes);
                    Received::Commit(Box::new(effects))
                }
                Processed::Removed { by, .. } => {
                    self.member = None;
                    Received::Removed(by)
                }
                other => panic!("{other:?}"),
            },
        )
    }

    /// Takes a place in a group that was not joined by a Welcome.
    pub fn enter(&mut self, group: Group, keys: MessageKeys, changes: &Changes) {
        let mut records = MemoryRecords::default();
        records.apply(changes);
        self.member = Some(Member {
            group,
            keys,
            records,
        });
    }

    /// What a message would do, without doing it.
    pub fn peek(&mut self, message: &MlsMessage) -> Result<Received, Error> {
        let member = self.member.as_mut().unwrap();
        let (group, records) = (member.group.clone(), member.records.clone());
        let received = self.receive(message);
        let keys = group.load_keys(&PROVIDER, group.epoch(), &records);
        self.member = Some(Member {
            group,
            keys: keys.unwrap(),
            records,
        });
        received
    }

    /// Forgets all but what was stored, as a restart does.
    pub fn restart(&mut self) {
        let member = self.member.as_mut().unwrap();
        let group = Group::load(&PROVIDER, &member.records).unwrap();
        member.keys = group
            .load_keys(&PROVIDER, group.epoch(), &member.records)
            .unwrap();
        member.group = group;
    }
}

#[derive(Debug)]
pub enum Received {
    Data(Vec<u8>),
    Proposal,
    Commit(Box<folkmoot_mls::group::CommitEffects>),
    Removed(folkmoot_mls::framing::Sender),
}

impl Member {
    fn advance(&mut self, group: Group, keys: MessageKeys, changes: &Changes) {
        self.records.apply(changes);
        self.records.apply(&self.keys.deletion());
        self.group = group;
        self.keys = keys;
    }
}

/// All views of the group have to be the same.
pub fn assert_agreement<'a>(clients: impl IntoIterator<Item = &'a Client>) {
    let mut members = clients.into_iter().filter(|client| client.member.is_some());
    let first = members.next().unwrap();
    for other in members {
        let (a, b) = (first.group(), other.group());
        assert_eq!(
            a.group_context(),
            b.group_context(),
            "{} and {}",
            first.name,
            other.name
        );
        assert_eq!(a.epoch_authenticator(), b.epoch_authenticator());
        assert_eq!(a.confirmation_tag(), b.confirmation_tag());
        assert_eq!(a.tree_bytes(), b.tree_bytes());
        assert_eq!(a.exporter("test", b"", 32), b.exporter("test", b"", 32));
        assert_eq!(a.resumption_psk(), b.resumption_psk());
    }
}

/// Starts a group of clients with these names, the first of whom adds the others at once.
pub fn group_of(names: &[&str]) -> Vec<Client> {
    let mut clients: Vec<_> = names.iter().map(|name| Client::new(name)).collect();
    clients[0].create(Extensions::default());
    let packages: Vec<_> = clients[1..].iter_mut().map(Client::key_package).collect();
    if !packages.is_empty() {
        let pending = clients[0]
            .commit(|commit| {
                packages
                    .into_iter()
                    .fold(commit, |commit, kp| commit.add(kp))
            })
            .unwrap();
        let welcome = pending.welcome.clone().unwrap();
        clients[0].merge(pending);
        for client in &mut clients[1..] {
            client.join(&welcome, None).unwrap();
        }
    }
    assert_agreement(&clients);
    clients
}

/// Everybody but the committer reads its commit, and the committer merges it.
pub fn deliver(clients: &mut [Client], committer: usize, pending: PendingCommit) {
    let message = pending.message.clone();
    let welcome = pending.welcome.clone();
    clients[committer].merge(pending);
    for (index, client) in clients.iter_mut().enumerate() {
        if index == committer {
            continue;
        }
        if client.member.is_some() {
            client.receive(&message).unwrap();
        } else if let Some(welcome) = &welcome
            && client.bundle.is_some()
        {
            client.join(welcome, None).unwrap();
        }
    }
    assert_agreement(&*clients);
}

/// Everybody but the sender reads a message.
pub fn broadcast(clients: &mut [Client], sender: usize, message: &MlsMessage) {
    for (index, client) in clients.iter_mut().enumerate() {
        if index != sender && client.member.is_some() {
            client.receive(message).unwrap();
        }
    }
}
