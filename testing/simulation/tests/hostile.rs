//! A member who has the group's keys, and writes with them what no honest device writes. Nobody follows,
//! and each says why: an invalid commit stops the conversation at its parent, anything else is passed
//! over.

use std::collections::BTreeMap;

use folkmoot_client::logic::Intent;
use folkmoot_client::store::{Store, StoreError, Table};
use folkmoot_client::{BadService, Error, Event, Standing, What, sabotage};
use folkmoot_credential::Judge;
use folkmoot_mls::code_point::{ProtocolVersion, WireFormat};
use folkmoot_mls::codec::{Bytes, Decode, Encode};
use folkmoot_mls::commit::Commit;
use folkmoot_mls::component::{AppDataDictionary, ComponentID, NoComponents};
use folkmoot_mls::context::{Context, NoPsks, OneThread};
use folkmoot_mls::crypto::{PROVIDER, SignatureKeyPair};
use folkmoot_mls::error::{Error as EngineError, InvalidMessage};
use folkmoot_mls::extension::{
    ExtensionContent, ExtensionType, Extensions, ExternalSender, ExternalSenders,
};
use folkmoot_mls::framing::{AuthenticatedContent, Content, FramedContent, Sender};
use folkmoot_mls::group::{CommitBuilder, Group, GroupInfoOptions, PendingCommit, ProposalError};
use folkmoot_mls::key_package::KeyPackage;
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::message_keys::MessageKeys;
use folkmoot_mls::proposal::{ExternalInit, Proposal, ProposalOrRef, ProposalType, ReInit};
use folkmoot_mls::psk::{PreSharedKeyID, ResumptionPSKUsage};
use folkmoot_mls::records::{RecordKey, Records};
use folkmoot_mls::tree_math::LeafIndex;
use folkmoot_mls::welcome::Welcome;
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::delivery::{
    AppendRequest, DropRequest, Lane, PickUpResponse, ReadResponses, TakeRequest,
};
use folkmoot_protocol::ids::{ChainHash, EntryId, LogId, PickupAddress};
use folkmoot_protocol::invitation::{Invitation, SealedWelcome};
use folkmoot_protocol::keys::{PublicKey, SigningKey};
use folkmoot_protocol::log::{Append, CommitDeclaration, Head, SignedHead};
use folkmoot_protocol::proof::{FenceProof, Method};
use folkmoot_protocol::sealed::{open_package, suite};
use folkmoot_protocol::{Refusal, VERSION, fence};
use folkmoot_simulation::{Sim, new, send};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use zeroize::Zeroizing;

const ALICE: usize = 0;
const BOB: usize = 1;
const CHARLIE: usize = 2;

const PROPOSAL: u8 = 2;
const COMMIT: u8 = 3;

/// Why a client refuses a commit that the engine would follow.
const NOT_HERE: &str = "it does what no commit in this group may";

/// Why a client passes a proposal over that the engine would take in.
const NOT_TAKEN: &str = "it proposes what nobody here commits";

/// All that Alice's device has.
struct Hostile {
    log: LogId,
    group: Group,
    keys: MessageKeys,
    signer: SignatureKeyPair,
    fence: SigningKey,
    branch: EntryId,
    tip: EntryId,
    delivery_service: PublicKey,
    now: u64,
    rng: ChaCha20Rng,
}

struct Stolen {
    log: LogId,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Records for Stolen {
    fn get(&self, key: &RecordKey) -> Option<Zeroizing<Vec<u8>>> {
        let key = [self.log.as_ref(), key.as_slice()].concat();
        self.rows.get(&key).cloned().map(Zeroizing::new)
    }
}

fn moot() -> (Sim, Hostile) {
    let mut sim = Sim::new(41, &["alice", "bob", "charlie"]);
    sim.listen();
    sim.ask(ALICE, new("moot", &["bob", "charlie"])).unwrap();
    sim.sync_all();
    let hostile = hostile(&mut sim);
    (sim, hostile)
}

fn hostile(sim: &mut Sim) -> Hostile {
    let conversation = sim.conversation(ALICE, "moot");
    let log = conversation.log;
    let last = sim.heard().iter().rev().find_map(|call| match call {
        Call::Append(request) => Some(Append::from_bytes(&request.append).unwrap()),
        _ => None,
    });
    let last = last.unwrap();
    let store = &mut sim.person(ALICE).store;
    let rows = store.rows(Table::Records).unwrap().into_iter();
    let rows = rows.map(|(key, value)| (key, value.to_vec())).collect();
    let stolen = Stolen { log, rows };
    let group = Group::load(&PROVIDER, &stolen).unwrap();
    let keys = group.load_keys(&PROVIDER, group.epoch(), &stolen).unwrap();
    let key = [log.as_ref(), &group.epoch().to_be_bytes()].concat();
    let fence = store.transaction::<_, StoreError>(|tx| tx.get(Table::Fences, &key));
    let fence: [u8; 32] = fence.unwrap().unwrap().as_slice().try_into().unwrap();
    let signer = store.transaction(|tx| sabotage::signer(tx)).unwrap();
    Hostile {
        log,
        group,
        keys,
        signer,
        fence: SigningKey::from_seed(Zeroizing::new(fence)),
        branch: last.branch,
        tip: last.id(),
        delivery_service: sim.delivery_key(),
        now: sim.now() / 1000,
        rng: ChaCha20Rng::from_seed([41; 32]),
    }
}

fn world(now: u64, rng: &mut ChaCha20Rng) -> Context<'_> {
    Context {
        provider: &PROVIDER,
        authentication_service: &Judge,
        psks: &NoPsks,
        components: &NoComponents,
        now: Some(now),
        workers: &OneThread,
        rng,
    }
}

fn fence_after(pending: &mut PendingCommit) -> PublicKey {
    let (exported, _) = pending.keys.safe_export(fence::COMPONENT).unwrap();
    fence::fence_key(suite(), &exported).public()
}

impl Hostile {
    /// A commit as an honest engine makes it, with the fence key of the epoch that it makes.
    fn built(&mut self, plan: impl Fn(CommitBuilder) -> CommitBuilder) -> (MlsMessage, PublicKey) {
        let mut ctx = world(self.now, &mut self.rng);
        let builder = plan(self.group.commit());
        let mut pending = builder
            .build(&mut self.keys, &self.signer, &mut ctx)
            .unwrap();
        let fence = fence_after(&mut pending);
        (pending.message, fence)
    }

    /// Signed content that no honest engine makes.
    fn signed(&self, content: Content, wire_format: WireFormat) -> AuthenticatedContent {
        let is_commit = matches!(content, Content::Commit(_));
        let content = FramedContent {
            group_id: self.log.0.into(),
            epoch: self.group.epoch(),
            sender: Sender::Member(self.group.own_index()),
            authenticated_data: Bytes::default(),
            content,
        };
        let context = self.group.group_context();
        let mut signed =
            AuthenticatedContent::sign(suite(), &self.signer, wire_format, content, context)
                .unwrap();
        signed.auth.confirmation_tag = is_commit.then(|| [0; 32].into());
        signed
    }

    fn private(&mut self, content: Content) -> MlsMessage {
        let signed = self.signed(content, WireFormat::PRIVATE_MESSAGE);
        let (message, _) = self.keys.protect(&signed, 0, &mut self.rng).unwrap();
        MlsMessage::PrivateMessage(message)
    }

    /// A commit with one proposal, by value.
    fn commit_of(&mut self, proposal: Proposal) -> (MlsMessage, PublicKey) {
        let commit = Commit {
            proposals: vec![ProposalOrRef::Proposal(Box::new(proposal))],
            path: None,
        };
        let message = self.private(Content::Commit(Box::new(commit)));
        (message, self.fence.public())
    }

    /// The group's extensions and one more.
    fn with<T: ExtensionContent>(&self, content: &T) -> Extensions {
        self.group.extensions().clone().with(content)
    }

    /// Alice, as one from outside who may propose.
    fn external_senders(&self) -> ExternalSenders {
        let leaf = self.group.own_leaf();
        ExternalSenders {
            external_senders: vec![ExternalSender {
                signature_key: leaf.signature_key,
                credential: leaf.credential,
            }],
        }
    }

    fn reinit(&self) -> ReInit {
        ReInit {
            group_id: [9; 32].into(),
            version: ProtocolVersion::MLS10,
            cipher_suite: self.group.cipher_suite(),
            extensions: self.group.extensions().clone(),
        }
    }

    fn append(&self, message: &MlsMessage, next_fence_key: Option<PublicKey>, seen: u64) -> Append {
        let commit = next_fence_key.map(|next_fence_key| CommitDeclaration {
            next_fence_key,
            cut: true,
            last_seen: seen,
            commit_interval: None,
            contest: false,
            committers: None,
            shared_part: None,
            pickups: Vec::new(),
            pages: Vec::new(),
        });
        Append {
            version: VERSION,
            log: self.log,
            branch: self.branch,
            parent: self.tip,
            epoch: self.group.epoch(),
            content_type: if commit.is_some() { COMMIT } else { PROPOSAL },
            commit,
            message: message.to_bytes().into(),
        }
    }

    fn fence_signature(&self, append: &Append) -> Vec<u8> {
        let proof = FenceProof {
            version: VERSION,
            delivery_service: self.delivery_service,
            log: append.log,
            branch: append.branch,
            epoch: append.epoch,
            method: Method::Append,
            subject: append.id().0.into(),
        };
        proof.sign(&self.fence).to_vec()
    }

    fn post(&self, sim: &mut Sim, append: &Append) -> Result<(), Refusal> {
        let request = AppendRequest {
            append: append.to_bytes(),
            fence_signature: self.fence_signature(append),
            ..Default::default()
        };
        sim.ask_delivery(Call::Append(request)).map(drop)
    }
}

fn engine(error: impl Into<EngineError>) -> String {
    error.into().to_string()
}

fn no_place(kind: ExtensionType) -> String {
    format!("extension {kind} has no place in this group")
}

/// Why somebody did not follow a commit, and who made it.
fn refused(sim: &mut Sim, who: usize) -> (String, Option<String>) {
    let lines = sim.history(who, "moot").into_iter();
    let mut invalid = lines.filter_map(|line| match line.what {
        What::Invalid(line) => {
            let by = line.by.map(|user| user.name.to_string());
            Some((line.reason.to_string(), by))
        }
        _ => None,
    });
    let found = invalid.next().expect("a commit was not followed");
    assert_eq!(invalid.next(), None);
    found
}

/// Somebody has read the commit: it is kept as evidence, Alice is removed, and the conversation goes on.
fn has_gone_on(sim: &mut Sim, who: usize, at: &Hostile, expected: &str) {
    sim.ask(who, Intent::Sync).unwrap();
    let alice = Some("alice".to_owned());
    assert_eq!(refused(sim, who), (expected.to_owned(), alice));
    let seen = sim.conversation(who, "moot");
    let epoch = at.group.epoch() + 1;
    assert_eq!((seen.standing, seen.epoch), (Standing::Member, epoch));
    assert_eq!(seen.contested, None);
    assert_eq!(sim.members(who, "moot").unwrap().members.len(), 2);
    assert_eq!(sim.count(who, Table::Evidence), 1);
    sim.ask(who, send(at.log, "x")).unwrap();
}

/// Alice commits; nobody follows.
fn nobody_follows(make: impl Fn(&mut Hostile) -> (MlsMessage, PublicKey), expected: &str) {
    let (mut sim, mut alice) = moot();
    let (message, next_fence) = make(&mut alice);
    let seen = sim.conversation(BOB, "moot").sequence;
    let append = alice.append(&message, Some(next_fence), seen);
    alice.post(&mut sim, &append).unwrap();
    for who in [BOB, CHARLIE] {
        has_gone_on(&mut sim, who, &alice, expected);
    }
}

#[test]
fn an_honest_commit_made_by_hand_is_followed() {
    let (mut sim, mut alice) = moot();
    let (message, next_fence) = alice.built(|commit| commit);
    let seen = sim.conversation(BOB, "moot").sequence;
    let append = alice.append(&message, Some(next_fence), seen);
    alice.post(&mut sim, &append).unwrap();
    sim.sync(BOB);
    let seen = sim.conversation(BOB, "moot");
    let epoch = alice.group.epoch() + 1;
    assert_eq!((seen.standing, seen.epoch), (Standing::Member, epoch));
}

#[test]
fn a_commit_that_ends_the_group_is_not_followed() {
    let make = |alice: &mut Hostile| {
        let reinit = alice.reinit();
        alice.built(|commit| commit.reinit(reinit.clone()))
    };
    nobody_follows(make, NOT_HERE);
}

#[test]
fn a_commit_that_lets_others_speak_from_outside_is_not_followed() {
    let make = |alice: &mut Hostile| {
        let extensions = alice.with(&alice.external_senders());
        alice.built(|commit| commit.group_context_extensions(extensions.clone()))
    };
    nobody_follows(make, &no_place(ExtensionType::EXTERNAL_SENDERS));
}

#[test]
fn a_commit_that_gives_the_group_data_of_components_is_not_followed() {
    let make = |alice: &mut Hostile| {
        let component = ComponentID(0x8001);
        let dictionary = AppDataDictionary::default().with_data(component, [1]);
        let extensions = alice.with(&dictionary);
        alice.built(|commit| commit.group_context_extensions(extensions.clone()))
    };
    nobody_follows(make, &no_place(ExtensionType::APP_DATA_DICTIONARY));
}

#[test]
fn a_commit_with_a_key_from_elsewhere_is_not_followed() {
    let make = |alice: &mut Hostile| {
        let usage = ResumptionPSKUsage::Application;
        let (log, epoch) = (alice.log.0, alice.group.epoch());
        let psk = PreSharedKeyID::resumption(suite(), usage, log, epoch, &mut alice.rng);
        alice.built(|commit| commit.psk(psk.clone()))
    };
    nobody_follows(make, NOT_HERE);
}

#[test]
fn a_commit_as_one_from_outside_makes_it_is_not_followed() {
    let make = |alice: &mut Hostile| {
        let kem_output = [7; 32].into();
        alice.commit_of(Proposal::ExternalInit(ExternalInit { kem_output }))
    };
    nobody_follows(make, &engine(ProposalError::ExternalInit));
}

#[test]
fn commits_with_proposals_that_our_leaves_do_not_list_are_not_followed() {
    let component = ComponentID(0x8001);
    let update = Proposal::app_data_update(component, [1]);
    let ephemeral = Proposal::app_ephemeral(component, [1]);
    for (proposal, expected) in [
        (
            update,
            ProposalError::UnsupportedProposal(ProposalType::APP_DATA_UPDATE),
        ),
        (
            ephemeral,
            ProposalError::UnsupportedProposal(ProposalType::APP_EPHEMERAL),
        ),
        (Proposal::SelfRemove, ProposalError::SelfRemoveByValue),
    ] {
        nobody_follows(
            |alice| alice.commit_of(proposal.clone()),
            &engine(expected.clone()),
        );
    }
}

/// Alice proposes; everybody says why it is passed over, and goes on.
fn is_passed_over(make: impl Fn(&mut Hostile) -> MlsMessage, expected: &str) {
    let (mut sim, mut alice) = moot();
    let message = make(&mut alice);
    let append = alice.append(&message, None, 0);
    alice.post(&mut sim, &append).unwrap();
    goes_on(&mut sim, &alice, expected);
}

fn goes_on(sim: &mut Sim, alice: &Hostile, expected: &str) {
    sim.ask(BOB, send(alice.log, "hello")).unwrap();
    sim.ask(CHARLIE, send(alice.log, "here")).unwrap();
    sim.sync(BOB);
    for who in [BOB, CHARLIE] {
        let history = sim.history(who, "moot").into_iter();
        let reasons: Vec<_> = history
            .filter_map(|line| match line.what {
                What::Unreadable(line) => Some(line.reason.to_string()),
                _ => None,
            })
            .collect();
        assert_eq!(reasons, [expected]);
        assert_eq!(sim.said(who, "moot"), ["bob: hello", "charlie: here"]);
        assert_eq!(sim.conversation(who, "moot").standing, Standing::Member);
        assert_eq!(sim.count(who, Table::Evidence), 0);
        let members = sim.members(who, "moot").unwrap();
        assert_eq!(members.members.len(), 3);
    }
}

#[test]
fn proposals_that_nobody_commits_are_passed_over() {
    let component = ComponentID(0x8001);
    type Make = Box<dyn Fn(&mut Hostile) -> Proposal>;
    let makes: [Make; 6] = [
        Box::new(|alice| Proposal::reinit(alice.reinit())),
        Box::new(|_| {
            let kem_output = [7; 32].into();
            Proposal::ExternalInit(ExternalInit { kem_output })
        }),
        Box::new(|alice| Proposal::group_context_extensions(alice.with(&alice.external_senders()))),
        Box::new(move |_| Proposal::app_data_update(component, [1])),
        Box::new(move |_| Proposal::app_ephemeral(component, [1])),
        Box::new(|alice| {
            let usage = ResumptionPSKUsage::Application;
            let (log, epoch) = (alice.log.0, alice.group.epoch());
            let psk = PreSharedKeyID::resumption(suite(), usage, log, epoch, &mut alice.rng);
            Proposal::psk(psk)
        }),
    ];
    for make in makes {
        let make = |alice: &mut Hostile| {
            let proposal = make(alice);
            alice.private(Content::Proposal(Box::new(proposal)))
        };
        is_passed_over(make, NOT_TAKEN);
    }
    let self_remove =
        |alice: &mut Hostile| alice.private(Content::Proposal(Box::new(Proposal::SelfRemove)));
    let expected = engine(InvalidMessage::EncryptedSelfRemove);
    is_passed_over(self_remove, &expected);
}

/// A commit in clear by Alice, and one by which she joins from outside.
fn in_clear(alice: &mut Hostile) -> [(MlsMessage, PublicKey); 2] {
    let commit = alice.built(|commit| commit.wire_format(WireFormat::PUBLIC_MESSAGE));
    let options = GroupInfoOptions {
        ratchet_tree: true,
        external_pub: true,
        ..GroupInfoOptions::default()
    };
    let info = alice.group.group_info(&alice.signer, options).unwrap();
    let (leaf, own) = (alice.group.own_leaf().parameters(), alice.group.own_index());
    let mut ctx = world(alice.now, &mut alice.rng);
    let mut external = Group::join_external(info, leaf)
        .resync(own)
        .build(&alice.signer, &mut ctx)
        .unwrap();
    let fence = fence_after(&mut external);
    [commit, (external.message, fence)]
}

/// Puts an entry of Alice's into what Bob reads, which an honest service refuses.
fn smuggle(sim: &mut Sim, alice: &Hostile, append: Append) {
    // What the service has instead is a message of hers.
    sim.ask(ALICE, send(alice.log, "-")).unwrap();
    let (key, chain) = (sim.delivery_secret.clone(), chain_of(sim, BOB, alice.log));
    let signature = alice.fence_signature(&append);
    sim.twist = Some(Box::new(move |who, _, answer| {
        if let (BOB, Ok(Answer::Read(answer))) = (who, answer) {
            instead(answer, &key, chain, &append, &signature);
        }
    }));
}

fn instead(
    answer: &mut ReadResponses,
    key: &SigningKey,
    chain: ChainHash,
    append: &Append,
    signature: &[u8],
) {
    for batch in &mut answer.batches {
        let Some(entry) = batch.entries.first_mut() else {
            continue;
        };
        entry.content = append.to_bytes();
        entry.fence_signature = signature.to_vec();
        let chain = chain.next(append.log, entry.sequence, entry.time, append.id());
        if let Some(receipt) = &mut batch.head {
            let head = Head {
                chain,
                ..Head::from_bytes(&receipt.head).unwrap()
            };
            *receipt = SignedHead::sign(head, key).into();
        }
    }
}

fn chain_of(sim: &mut Sim, who: usize, log: LogId) -> ChainHash {
    let sequence = sim.conversation(who, "moot").sequence;
    let key = [log.as_ref(), &sequence.to_be_bytes()].concat();
    let store = &mut sim.person(who).store;
    let row = store.transaction::<_, StoreError>(|tx| tx.get(Table::Chain, &key));
    ChainHash::from_bytes(&row.unwrap().unwrap()).unwrap()
}

#[test]
fn commits_in_clear_are_refused_by_the_service_and_not_followed_if_it_is_in_league() {
    let expected = engine(EngineError::UnexpectedWireFormat(
        WireFormat::PUBLIC_MESSAGE,
    ));
    for which in 0..2 {
        let (mut sim, mut alice) = moot();
        let (message, next_fence) = in_clear(&mut alice)[which].clone();
        let seen = sim.conversation(BOB, "moot").sequence;
        let append = alice.append(&message, Some(next_fence), seen);
        let posted = alice.post(&mut sim, &append);
        assert_eq!(posted, Err(Refusal::HeaderMismatch));
        sim.sync(BOB);
        let now = sim.conversation(BOB, "moot");
        assert_eq!((now.standing, now.sequence), (Standing::Member, seen));

        // The service alone can show it. It cannot show that it came first.
        smuggle(&mut sim, &alice, append);
        sim.ask(BOB, Intent::Sync).unwrap();
        assert_eq!(refused(&mut sim, BOB), (expected.clone(), None));
        let fault = Error::BadService(BadService::Contradiction(alice.log));
        let blocked = |event: &Event| {
            *event
                == Event::Blocked {
                    error: fault.clone(),
                }
        };
        assert!(sim.person(BOB).events.iter().any(blocked));
        let now = sim.conversation(BOB, "moot");
        let waits = (Standing::Member, Some(expected.clone()));
        assert_eq!((now.standing, now.contested), waits);
    }
}

#[test]
fn a_proposal_in_clear_is_refused_by_the_service_and_passed_over_if_it_is_in_league() {
    let (mut sim, mut alice) = moot();
    let proposal = Proposal::remove(LeafIndex(1));
    let mut ctx = world(alice.now, &mut alice.rng);
    let in_clear = WireFormat::PUBLIC_MESSAGE;
    let proposed = alice.group.propose(
        &mut alice.keys,
        &alice.signer,
        proposal,
        &[],
        in_clear,
        &mut ctx,
    );
    let message = proposed.unwrap().message;
    let append = alice.append(&message, None, 0);
    let posted = alice.post(&mut sim, &append);
    assert_eq!(posted, Err(Refusal::HeaderMismatch));
    smuggle(&mut sim, &alice, append);
    sim.ask(BOB, Intent::Sync).unwrap();
    let last = sim.history(BOB, "moot").pop().unwrap();
    let expected = engine(EngineError::UnexpectedWireFormat(
        WireFormat::PUBLIC_MESSAGE,
    ));
    let What::Unreadable(line) = last.what else {
        panic!("{last:?}");
    };
    assert_eq!(line.reason.to_string(), expected);
    assert_eq!(sim.conversation(BOB, "moot").standing, Standing::Member);
}

/// A KeyPackage from somebody's shelf, and the ticket to the mailbox.
fn take(sim: &mut Sim, name: &str) -> (KeyPackage, Vec<u8>) {
    let device = sim.look_up(name).devices.remove(0);
    let request = TakeRequest {
        request_id: vec![7; 16],
        lane: Some(Lane {
            version: 1,
            cipher_suite: 1,
        }),
        mailboxes: vec![device.mailbox.to_vec()],
        payment: None,
    };
    let Ok(Answer::Take(mut answer)) = sim.ask_delivery(Call::Take(request)) else {
        panic!("a package is there")
    };
    let taken = answer.taken.remove(0);
    let (shelf, sealed) = (device.shelf_key, taken.package.unwrap().sealed);
    let plain = open_package(shelf.version, &shelf.key, &sealed).unwrap();
    let Ok(MlsMessage::KeyPackage(package)) = MlsMessage::from_bytes(&plain) else {
        panic!("no package");
    };
    (*package, taken.ticket)
}

/// Alice invites Bob with the Welcome of a group that follows from the moot, and says where it is.
fn invited(make: impl Fn(&mut Hostile, [KeyPackage; 2]) -> Welcome) {
    let (mut sim, mut alice) = moot();
    let (bobs, ticket) = take(&mut sim, "bob");
    let (charlies, _) = take(&mut sim, "charlie");
    let reference = bobs.reference(suite());
    let welcome = make(&mut alice, [bobs, charlies]);
    let is_bobs = |part: &_| *reference.as_slice() == *new_member(part);
    let place = welcome.secrets.iter().position(is_bobs).unwrap();
    let (shared_key, own_key) = ([1; 32], [2; 32]);
    let mut sealed = SealedWelcome::seal(&welcome, &shared_key, &[own_key; 2], &mut alice.rng);
    let log = LogId([9; 32]);
    let invitation = Invitation {
        version: VERSION,
        log,
        delivery_url: folkmoot_simulation::URL.as_bytes().into(),
        delivery_key: sim.delivery_key(),
        delivery_pin: Bytes::default(),
        address: PickupAddress([3; 32]),
        shared_key,
        own_key,
        inviter: b"alice@moot.example".as_slice().into(),
    };
    let device = sim.look_up("bob").devices.remove(0);
    let key = &device.mailbox_key;
    let envelope = invitation.seal(key.version, &key.key, &mut alice.rng);
    let drop = DropRequest {
        mailbox: device.mailbox.to_vec(),
        ticket,
        envelope: envelope.unwrap(),
    };
    sim.ask_delivery(Call::Drop(drop)).unwrap();
    let head = Head {
        version: VERSION,
        log,
        branch: EntryId([4; 32]),
        sequence: 1,
        chain: ChainHash::START,
        entry_time: sim.now(),
        issued: sim.now(),
    };
    let answer = PickUpResponse {
        commit: vec![5; 32],
        receipt: Some(SignedHead::sign(head, &sim.delivery_secret).into()),
        shared_part: sealed.shared_part,
        own_part: sealed.own_parts.swap_remove(place),
    };
    sim.twist = Some(Box::new(move |who, call, result| {
        if let (BOB, Call::PickUp(_)) = (who, call) {
            *result = Ok(Answer::PickUp(answer.clone()));
        }
    }));
    sim.ask(BOB, Intent::Sync).unwrap();
    let reasons: Vec<_> = sim
        .person(BOB)
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Uninvited { inviter, reason } => Some((inviter.clone(), reason.clone())),
            _ => None,
        })
        .collect();
    let [(inviter, reason)] = &reasons[..] else {
        panic!("{reasons:?}");
    };
    assert_eq!(inviter, "alice@moot.example");
    assert!(
        reason.contains("the group follows from another one"),
        "{reason}"
    );
    assert_eq!(sim.count(BOB, Table::Invitations), 0);
    assert_eq!(sim.count(BOB, Table::Conversations), 1);
    sim.ask(BOB, send(alice.log, "hello")).unwrap();
    assert_eq!(sim.said(BOB, "moot"), ["bob: hello"]);
}

fn new_member(part: &folkmoot_mls::welcome::EncryptedGroupSecrets) -> &[u8] {
    &part.new_member
}

#[test]
fn nobody_joins_a_branch_of_a_group() {
    invited(|alice, packages| {
        let leaf = alice.group.own_leaf().parameters();
        let mut ctx = world(alice.now, &mut alice.rng);
        let extensions = alice.group.extensions().clone();
        let mut branch = alice.group.branch([9; 32]).unwrap().extensions(extensions);
        for package in packages {
            branch = branch.add(package);
        }
        let branch = branch.build(&alice.signer, leaf, &mut ctx).unwrap();
        branch.pending.welcome.unwrap()
    });
}

#[test]
fn nobody_joins_a_group_that_takes_the_place_of_another() {
    invited(|alice, packages| {
        let leaf = alice.group.own_leaf().parameters();
        let mut upgrade = alice.group.upgrade(alice.reinit());
        for package in packages {
            upgrade = upgrade.add(package);
        }
        let mut ctx = world(alice.now, &mut alice.rng);
        let upgrade = upgrade
            .build(
                &mut alice.keys,
                &alice.signer,
                &alice.signer,
                leaf,
                &mut ctx,
            )
            .unwrap();
        upgrade.successor.pending.welcome.unwrap()
    });
}
