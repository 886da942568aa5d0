//! Proposals and lists of them (RFC 9420, sections 8.4, 12.1, 12.2 and 13.4). What an Add or an Update
//! brings has files of its own.

use folkmoot_mls::code_point::ProtocolVersion;
use folkmoot_mls::codec::{Bytes, Encode};
use folkmoot_mls::context::{CredentialError, PskStore};
use folkmoot_mls::credential::{Credential, CredentialType};
use folkmoot_mls::crypto::Secret;
use folkmoot_mls::extension::{
    ExtensionType, Extensions, ExternalSender, ExternalSenders, RequiredCapabilities,
};
use folkmoot_mls::framing::{AuthenticatedContent, Content, FramedContent};
use folkmoot_mls::group::ProposalError;
use folkmoot_mls::leaf_node::{LeafNodeSource, Lifetime};
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::proposal::{
    ExternalInit, PreSharedKey, Proposal, ProposalOrRef, ProposalType, ReInit,
};
use folkmoot_mls::psk::{ExternalPsk, PreSharedKeyID, PskType, ResumptionPSKUsage, ResumptionPsk};
use folkmoot_mls::tree::{Capability, TreeError};
use folkmoot_mls::tree_math::LeafIndex;

use crate::group_harness::{Client, SUITE};
use crate::insider::{Insider, sign_leaf, unknown_extension};
use crate::{
    ALICE, Around, CHARLIE, MALLORY, goes_on, group, newcomer, process, refuses_commit,
    refuses_commit_around,
};

rules! {
    "12.1.3" "Remove: there is a member at the leaf" => remove_names_a_member;
    "12.1.4" "PreSharedKey: the nonce is as long as the hash" => psk_nonce;
    "12.1.4" "PreSharedKey: usage reinit is for reinitialization" => psk_usage_reinit;
    "12.1.4" "PreSharedKey: usage branch is for branching" => psk_usage_branch;
    "12.4.2" "PreSharedKey: we have the PSK" => psk_is_known;
    "8.6" "PreSharedKey: we have the resumption PSK" => resumption_psk_is_known;
    "12.1.7" "GroupContextExtensions: all members have required extensions" => required_extensions;
    "12.1.7" "GroupContextExtensions: all members have required proposals" => required_proposals;
    "12.1.7" "GroupContextExtensions: all members have required credentials" => required_credentials;
    "12.1.7" "GroupContextExtensions: those who are added count too" => required_of_added;
    "12.1.7" "GroupContextExtensions: those who are removed do not count" => required_of_removed;
    "13.4" "GroupContextExtensions: all members support the extensions" => extensions_of_all;
    "11.1" "required_capabilities is well-formed" => required_capabilities_are_read;
    "12.1.8.1" "external_senders is well-formed" => external_senders_are_read;
    "5.3.1" "new external senders have valid credentials" => external_senders_are_valid;
    "12.2" "no Update by the committer" => update_of_committer;
    "12.2" "no Remove of the committer" => remove_of_committer;
    "12.2" "no two Removes of one leaf" => two_removes;
    "12.2" "no two Updates of one leaf" => two_updates;
    "12.2" "no Update and Remove of one leaf" => update_and_remove;
    "12.2" "no two Adds of the same client, which is one signature key" => two_adds;
    "12.2" "no Add of a member, who is known by the signature key" => add_of_a_member;
    "12.2" "an Add of a member whom a Remove takes out" => add_of_a_removed_member;
    "12.2" "no PSK twice" => psk_twice;
    "8.4" "no more PSKs than their count can say" => too_many_psks;
    "12.2" "all who process the commit support its kinds of proposals" => proposal_types;
    "12.2" "no two GroupContextExtensions" => two_extensions;
    "12.2" "no ReInit with another proposal" => reinit_is_alone;
    "12.2" "no ExternalInit by a member" => external_init;
    "12.4" "a proposal that is referenced is known" => references_are_known;
}

/// Alice refuses a commit of these proposals by value.
fn refused(proposals: Vec<Proposal>, error: ProposalError) {
    refused_around(proposals, error, Around::default());
}

fn refused_around(proposals: Vec<Proposal>, error: ProposalError, around: Around<'_>) {
    let (mut clients, mallory) = group();
    let mut plan = mallory.plan(proposals);
    plan.psks = vec![Secret::from(PSK); 2];
    refuses_commit_around(&mut clients, &mallory, &plan, error, around);
}

fn taken_around(proposals: Vec<Proposal>, around: Around<'_>) {
    let (mut clients, mallory) = group();
    let mut plan = mallory.plan(proposals);
    plan.psks = vec![Secret::from(PSK); 2];
    let message = mallory.commit(&plan).private(&mut clients[MALLORY]);
    process(&mut clients[ALICE], &message, around).unwrap();
    goes_on(&mut clients);
}

fn remove(leaf: usize) -> Proposal {
    Proposal::remove(LeafIndex(leaf as u32))
}

#[test]
fn lists_that_are_right_are_taken() {
    let add = Proposal::add(newcomer().1);
    let extensions = Proposal::group_context_extensions(Extensions::default());
    let (one, two) = (psk(external(b"one"), 32), psk(external(b"two"), 32));
    taken_around(vec![add, remove(CHARLIE), extensions, one, two], KNOWING);
}

fn remove_names_a_member() {
    for leaf in [3, 4, 9, u32::MAX] {
        let nobody = Proposal::remove(LeafIndex(leaf));
        refused(vec![nobody], ProposalError::NoSuchMember(LeafIndex(leaf)));
    }
}

const PSK: &[u8] = &[0x50; 32];

/// Knows every PSK.
struct Knowing;

impl PskStore for Knowing {
    fn psk(&self, _: &PreSharedKeyID) -> Option<Secret> {
        Some(Secret::from(PSK))
    }
}

const KNOWING: Around<'static> = Around {
    service: &folkmoot_mls::context::BasicCredentials,
    psks: &Knowing,
    now: None,
};

fn psk(psktype: PskType, nonce: usize) -> Proposal {
    let psk = PreSharedKeyID {
        psktype,
        psk_nonce: Bytes::from(vec![7; nonce]),
    };
    Proposal::PreSharedKey(PreSharedKey { psk })
}

fn external(psk_id: &[u8]) -> PskType {
    PskType::External(ExternalPsk {
        psk_id: Bytes::from(psk_id),
    })
}

fn resumption(usage: ResumptionPSKUsage) -> PskType {
    PskType::Resumption(ResumptionPsk {
        usage,
        psk_group_id: Bytes::from(*b"other"),
        psk_epoch: 0,
    })
}

fn psk_nonce() {
    for nonce in [0, 31, 33] {
        let psk = psk(external(b"psk"), nonce);
        refused_around(vec![psk], ProposalError::PskNonce, KNOWING);
    }
    taken_around(vec![psk(external(b"psk"), 32)], KNOWING);
}

fn psk_usage_reinit() {
    let psk = psk(resumption(ResumptionPSKUsage::ReInit), 32);
    refused_around(vec![psk], ProposalError::PskUsage, KNOWING);
}

fn psk_usage_branch() {
    let psk = psk(resumption(ResumptionPSKUsage::Branch), 32);
    refused_around(vec![psk], ProposalError::PskUsage, KNOWING);
}

fn psk_is_known() {
    refused(vec![psk(external(b"psk"), 32)], ProposalError::UnknownPsk);
}

/// Of another group, or of an epoch of this one that Alice was not in.
fn resumption_psk_is_known() {
    let application = |psk_group_id: &[u8], psk_epoch| {
        PskType::Resumption(ResumptionPsk {
            usage: ResumptionPSKUsage::Application,
            psk_group_id: Bytes::from(psk_group_id),
            psk_epoch,
        })
    };
    for (group_id, epoch) in [(&b"other"[..], 1), (b"group", 7)] {
        let error = ProposalError::UnknownResumptionPsk { epoch };
        refused(vec![psk(application(group_id, epoch), 32)], error);
    }
    let (mut clients, mallory) = group();
    let mut plan = mallory.plan(vec![psk(application(b"group", 1), 32)]);
    plan.psks = vec![clients[MALLORY].group().resumption_psk().clone()];
    let message = mallory.commit(&plan).private(&mut clients[MALLORY]);
    clients[ALICE].receive(&message).unwrap();
}

fn psk_twice() {
    let psk = || psk(external(b"psk"), 32);
    refused_around(vec![psk(), psk()], ProposalError::RepeatedPsk, KNOWING);
}

fn too_many_psks() {
    let (mut clients, mallory) = group();
    let psks = (0..=u32::from(u16::MAX)).map(|id| psk(external(&id.to_be_bytes()), 32));
    let mut plan = mallory.plan(Vec::new());
    let by_value = psks.map(|psk| ProposalOrRef::Proposal(Box::new(psk)));
    plan.proposals = by_value.collect();
    let error = ProposalError::TooManyPsks;
    refuses_commit_around(&mut clients, &mallory, &plan, error, KNOWING);
}

/// A kind of proposal that RFC 9420 does not define, in a group where nobody lists it.
fn proposal_types() {
    let component = folkmoot_mls::component::ComponentID(0x8001);
    let ephemeral = Proposal::app_ephemeral(component, vec![1]);
    let kind = ephemeral.proposal_type();
    refused(vec![ephemeral], ProposalError::UnsupportedProposal(kind));
}

fn requiring(required: &RequiredCapabilities) -> Proposal {
    Proposal::group_context_extensions(Extensions::default().with(required))
}

fn asking_for_x509() -> RequiredCapabilities {
    RequiredCapabilities {
        credential_types: vec![CredentialType::X509],
        ..RequiredCapabilities::default()
    }
}

fn required_extensions() {
    let kind = ExtensionType(0xf00d);
    let required = RequiredCapabilities {
        extension_types: vec![ExtensionType::APPLICATION_ID, kind],
        ..RequiredCapabilities::default()
    };
    let error = ProposalError::MemberLacks(Capability::Extension(kind));
    refused(vec![requiring(&required)], error);
}

fn required_proposals() {
    let kind = ProposalType(0xf00d);
    let required = RequiredCapabilities {
        proposal_types: vec![ProposalType::ADD, kind],
        ..RequiredCapabilities::default()
    };
    let error = ProposalError::MemberLacks(Capability::Proposal(kind));
    refused(vec![requiring(&required)], error);
}

fn required_credentials() {
    let x509 = Capability::Credential(CredentialType::X509);
    let error = ProposalError::MemberLacks(x509);
    refused(vec![requiring(&asking_for_x509())], error);
}

const ALWAYS: Lifetime = Lifetime {
    not_before: 0,
    not_after: u64::MAX,
};

/// Alice and Mallory support X.509; Charlie does not.
fn group_without_charlie() -> (Vec<Client>, Insider) {
    let mut clients: Vec<_> = ["alice", "mallory", "charlie"].map(Client::new).into();
    let supporting = |client: &Client| {
        let mut parameters = client.parameters();
        let credentials = &mut parameters.capabilities.credentials;
        credentials.push(CredentialType::X509);
        parameters
    };
    let (alice, mallory) = (supporting(&clients[ALICE]), supporting(&clients[MALLORY]));
    clients[ALICE].create_with(Extensions::default(), alice);
    let mallory = clients[MALLORY].key_package_with(mallory, ALWAYS);
    let charlie = clients[CHARLIE].key_package();
    for package in [mallory, charlie] {
        let pending = clients[ALICE].commit(|commit| commit.add(package)).unwrap();
        deliver_to_invited(&mut clients, pending);
    }
    let mallory = Insider::of(&clients[MALLORY]);
    (clients, mallory)
}

/// Alice's commit adds the first who is not in the group yet.
fn deliver_to_invited(clients: &mut [Client], pending: folkmoot_mls::group::PendingCommit) {
    let welcome = pending.welcome.clone().unwrap();
    let (message, place) = (pending.message.clone(), pending.effects.added[0].0 as usize);
    clients[ALICE].merge(pending);
    for client in &mut clients[1..place] {
        client.receive(&message).unwrap();
    }
    clients[place].join(&welcome, None).unwrap();
}

fn required_of_added() {
    let error =
        folkmoot_mls::tree::LeafNodeError::Lacks(Capability::Credential(CredentialType::X509));
    let (mut clients, mallory) = group_without_charlie();
    let add = Proposal::add(newcomer().1);
    let proposals = vec![remove(CHARLIE), requiring(&asking_for_x509()), add];
    let plan = mallory.plan(proposals);
    let error = ProposalError::KeyPackage(error.into());
    refuses_commit(&mut clients, &mallory, &plan, error);
}

fn required_of_removed() {
    let (mut clients, mallory) = group_without_charlie();
    let plan = mallory.plan(vec![requiring(&asking_for_x509())]);
    let x509 = Capability::Credential(CredentialType::X509);
    refuses_commit(
        &mut clients,
        &mallory,
        &plan,
        ProposalError::MemberLacks(x509),
    );
    let (mut clients, mallory) = group_without_charlie();
    let plan = mallory.plan(vec![requiring(&asking_for_x509()), remove(CHARLIE)]);
    let message = mallory.commit(&plan).private(&mut clients[MALLORY]);
    process(&mut clients[ALICE], &message, Around::default()).unwrap();
}

fn extensions_of_all() {
    let replace = Proposal::group_context_extensions(unknown_extension());
    let kind = Capability::Extension(ExtensionType(0xf00d));
    refused(vec![replace], ProposalError::MemberLacks(kind));
}

fn malformed(kind: ExtensionType) {
    let mut extensions = Extensions::default();
    extensions.set_data(kind, vec![9]);
    let replace = Proposal::group_context_extensions(extensions);
    refused(vec![replace], ProposalError::MalformedExtension(kind));
}

fn required_capabilities_are_read() {
    malformed(ExtensionType::REQUIRED_CAPABILITIES);
}

fn external_senders_are_read() {
    malformed(ExtensionType::EXTERNAL_SENDERS);
}

fn external_senders_are_valid() {
    let sender = |credential| ExternalSender {
        signature_key: Bytes::from([1; 32]).into(),
        credential,
    };
    let replace = |credential| {
        let senders = ExternalSenders {
            external_senders: vec![sender(credential)],
        };
        Proposal::group_context_extensions(Extensions::default().with(&senders))
    };
    let x509 = Credential::X509 {
        certificates: Vec::new(),
    };
    let error = ProposalError::ExternalSender(CredentialError::UnsupportedType);
    refused(vec![replace(x509)], error);
    taken_around(vec![replace(Credential::basic(*b"bot"))], Around::default());
}

/// An Update of this insider's own leaf.
fn update_of(insider: &Insider, seed: u64) -> Proposal {
    let mut leaf = insider.nodes.leaf(insider.own).unwrap().clone();
    let ikm = [&seed.to_be_bytes()[..], &[7; 24]].concat();
    leaf.encryption_key = insider.suite.kem_derive_key_pair(&ikm).public_key().clone();
    leaf.leaf_node_source = LeafNodeSource::Update;
    let leaf = sign_leaf(insider.suite, &insider.signer, leaf, insider.position());
    Proposal::update(leaf)
}

/// Alice hears of a proposal; what names it.
fn proposed(clients: &mut [Client], by: &Insider, proposal: &Proposal) -> ProposalOrRef {
    let content: FramedContent = by.content(Content::Proposal(Box::new(proposal.clone())));
    let message = by.public(content);
    let signed = AuthenticatedContent {
        wire_format: folkmoot_mls::code_point::WireFormat::PUBLIC_MESSAGE,
        content: message.content.clone(),
        auth: message.auth.clone(),
    };
    let message = MlsMessage::PublicMessage(Box::new(message));
    clients[ALICE].receive(&message).unwrap();
    ProposalOrRef::Reference(signed.proposal_ref(by.suite).into())
}

fn update_of_committer() {
    let (mut clients, mallory) = group();
    let by_value = update_of(&mallory, 1);
    let plan = mallory.plan(vec![by_value]);
    let error = ProposalError::UpdateOfCommitter;
    refuses_commit(&mut clients, &mallory, &plan, error.clone());
    let (mut clients, mallory) = group();
    let update = update_of(&mallory, 1);
    let reference = proposed(&mut clients, &mallory, &update);
    let mut plan = mallory.plan(Vec::new());
    plan.proposals = vec![reference];
    plan.effects = vec![(mallory.own, update)];
    refuses_commit(&mut clients, &mallory, &plan, error);
}

fn remove_of_committer() {
    let (mut clients, mallory) = group();
    let mut plan = mallory.plan(vec![remove(MALLORY)]);
    // What is removed cannot have a path as well, so the tree is left as it is.
    plan.effects.clear();
    refuses_commit(
        &mut clients,
        &mallory,
        &plan,
        ProposalError::RemoveOfCommitter,
    );
}

fn two_removes() {
    let error = ProposalError::SameLeafTwice(LeafIndex(CHARLIE as u32));
    refused(vec![remove(CHARLIE), remove(CHARLIE)], error);
}

fn two_updates() {
    let (mut clients, mallory) = group();
    let charlie = Insider::of(&clients[CHARLIE]);
    let updates = [update_of(&charlie, 1), update_of(&charlie, 2)];
    let mut plan = mallory.plan(Vec::new());
    for update in updates {
        plan.proposals
            .push(proposed(&mut clients, &charlie, &update));
        plan.effects.push((charlie.own, update));
    }
    let error = ProposalError::SameLeafTwice(charlie.own);
    refuses_commit(&mut clients, &mallory, &plan, error);
}

fn update_and_remove() {
    for update_first in [true, false] {
        let (mut clients, mallory) = group();
        let charlie = Insider::of(&clients[CHARLIE]);
        let update = update_of(&charlie, 1);
        let mut plan = mallory.plan(vec![remove(CHARLIE)]);
        let place = usize::from(!update_first);
        let reference = proposed(&mut clients, &charlie, &update);
        plan.proposals.insert(place, reference);
        plan.effects.insert(place, (charlie.own, update));
        let error = ProposalError::SameLeafTwice(charlie.own);
        refuses_commit(&mut clients, &mallory, &plan, error);
    }
}

fn two_adds() {
    let mut client = Client::new("newcomer");
    let adds = [(); 2].map(|()| Proposal::add(client.key_package()));
    let error = TreeError::DuplicateSignatureKey(LeafIndex(4));
    refused(adds.to_vec(), ProposalError::Tree(error));
    // Or even the same KeyPackage.
    let add = Proposal::add(client.key_package());
    let node = folkmoot_mls::tree_math::NodeIndex(8);
    let error = TreeError::DuplicateEncryptionKey(node);
    refused(vec![add.clone(), add], ProposalError::Tree(error));
}

fn add_of_a_member() {
    let package = group().0[CHARLIE].key_package();
    let error = TreeError::DuplicateSignatureKey(LeafIndex(3));
    refused(vec![Proposal::add(package)], ProposalError::Tree(error));
}

fn add_of_a_removed_member() {
    let package = group().0[CHARLIE].key_package();
    let (mut clients, mallory) = group();
    // The order does not matter.
    let plan = mallory.plan(vec![Proposal::add(package), remove(CHARLIE)]);
    let forged = mallory.commit(&plan);
    assert_eq!(forged.added[0].0, LeafIndex(CHARLIE as u32));
    let message = forged.private(&mut clients[MALLORY]);
    process(&mut clients[ALICE], &message, Around::default()).unwrap();
}

fn two_extensions() {
    let extensions = || Proposal::group_context_extensions(Extensions::default());
    let error = ProposalError::SecondGroupContextExtensions;
    refused(vec![extensions(), extensions()], error);
}

fn reinit_is_alone() {
    let reinit = || {
        Proposal::ReInit(ReInit {
            group_id: Bytes::from(*b"next"),
            version: ProtocolVersion::MLS10,
            cipher_suite: SUITE,
            extensions: Extensions::default(),
        })
    };
    for other in [Proposal::add(newcomer().1), remove(CHARLIE), reinit()] {
        let error = ProposalError::ReInitNotAlone;
        refused(vec![reinit(), other.clone()], error.clone());
        refused(vec![other, reinit()], error);
    }
}

fn external_init() {
    let (mut clients, mallory) = group();
    let secret = &mallory.external_secret;
    let key = folkmoot_mls::key_schedule::external_key_pair(mallory.suite, secret)
        .public_key()
        .clone();
    let mut rng = mallory.rng.clone();
    let (_, kem_output) = mallory.suite.kem_encap(&key, &mut rng).unwrap();
    let kem_output = Bytes::from(kem_output);
    let plan = mallory.plan(vec![Proposal::ExternalInit(ExternalInit { kem_output })]);
    refuses_commit(&mut clients, &mallory, &plan, ProposalError::ExternalInit);
}

fn references_are_known() {
    let (mut clients, mallory) = group();
    let mut plan = mallory.plan(Vec::new());
    plan.proposals = vec![ProposalOrRef::Reference(Bytes::from([1; 32]))];
    let error = ProposalError::UnknownReference;
    refuses_commit(&mut clients, &mallory, &plan, error.clone());
    // A proposal of the last epoch is forgotten.
    let (mut clients, mallory) = group();
    let reference = proposed(&mut clients, &mallory, &remove(CHARLIE));
    assert!(!reference.to_bytes().is_empty());
    goes_on(&mut clients);
    let mallory = Insider::of(&clients[MALLORY]);
    let mut plan = mallory.plan(Vec::new());
    plan.proposals = vec![reference];
    plan.effects = vec![(mallory.own, remove(CHARLIE))];
    refuses_commit(&mut clients, &mallory, &plan, error);
}
